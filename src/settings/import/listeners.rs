//! The listeners of Dovecot's director service: what they become, and what must change in Dovecot
//! so that its processes find them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::conf::Section;
use super::{Import, NoteKind, expand};
use crate::settings::ListenerKind;
use crate::settings::address::parse_address;
use crate::settings::classify::{Transport, classify};
use crate::settings::listener::{DEFAULT_MODE, kind_name};

/// A listener of the new settings file.
pub(super) struct Found {
    pub(super) kind: ListenerKind,
    /// What it was in Dovecot, e.g. `unix_listener login/director`.
    pub(super) was: String,
    /// Its name in Dovecot.
    name: String,
    pub(super) at: At,
}

/// Where it is.
pub(super) enum At {
    Path {
        path: String,
        fifo: Option<bool>,
        mode: u32,
        owner: Option<String>,
        group: Option<String>,
    },
    Tcp {
        address: String,
        /// Needs a list of networks.
        allow: bool,
    },
}

/// All listeners that exist in Dovecot. FIFOs come first, so that the one login processes write to
/// gets the plain name.
pub(super) fn import(import: &mut Import<'_>) -> Vec<Found> {
    let empty = Section::default();
    let service = import
        .root
        .of_kind("service")
        .find(|s| s.name == "director")
        .unwrap_or(&empty);
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for (kind, transport) in [
        ("fifo_listener", Transport::Fifo),
        ("unix_listener", Transport::Unix),
    ] {
        for section in service.of_kind(kind) {
            on_path(import, section, transport, &mut names, &mut found);
        }
    }
    if !service
        .of_kind("unix_listener")
        .any(|s| s.name.eq_ignore_ascii_case("director-admin"))
    {
        // Built in; the only one that exists without being asked for.
        let section = Section {
            kind: "unix_listener".to_owned(),
            name: "director-admin".to_owned(),
            ..Section::default()
        };
        on_path(import, &section, Transport::Unix, &mut names, &mut found);
    }
    for section in service.of_kind("inet_listener") {
        on_tcp(import, section, &mut found);
    }
    changes(import, &found);
    found
}

fn on_path(
    import: &mut Import<'_>,
    section: &Section,
    transport: Transport,
    names: &mut BTreeSet<String>,
    found: &mut Vec<Found>,
) {
    let was = format!("{} {}", section.kind, section.name);
    let off_by_default = ["login/director", "login/proxy-notify"].contains(&section.name.as_str());
    let mode = match section.get("mode") {
        Some(text) => parse_mode(text),
        None if off_by_default => Some(0),
        None => Some(DEFAULT_MODE),
    };
    let Some(mode) = mode.filter(|m| *m <= 0o777) else {
        let mode = section.get("mode").unwrap_or_default();
        return import.note(
            NoteKind::Dropped,
            format!("{was}: its mode {mode} is not understood"),
        );
    };
    if mode == 0 {
        return; // does not exist
    }
    let kind = classify(&section.name, transport);
    if kind == ListenerKind::Ring {
        let text = format!("{was}: other directors cannot reach it, by its name it is for them");
        return import.note(NoteKind::Dropped, text);
    }
    let base = section.name.rsplit('/').next().unwrap_or_default();
    let plain = if kind == ListenerKind::Login {
        "auth"
    } else {
        kind_name(kind)
    };
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    let file = [plain.to_owned(), base.to_owned()]
        .into_iter()
        .chain(numbered);
    let file = file
        .into_iter()
        .find(|f| names.insert(f.clone()))
        .unwrap_or_default();
    let name_of = |key: &str| {
        let name = section.get(key).map(|v| expand(v, import.root));
        name.filter(|n| !n.is_empty())
    };
    let at = At::Path {
        path: format!("{}/login/director/{file}", import.base_dir),
        fifo: (kind == ListenerKind::Notify && transport == Transport::Unix).then_some(false),
        mode,
        owner: name_of("user"),
        group: name_of("group"),
    };
    found.push(Found {
        kind,
        was,
        name: section.name.clone(),
        at,
    });
}

/// Octal with a leading 0, else decimal, as Dovecot reads it.
fn parse_mode(text: &str) -> Option<u32> {
    match text.strip_prefix('0') {
        Some("") => Some(0),
        Some(octal) => u32::from_str_radix(octal, 8).ok(),
        None => text.parse().ok(),
    }
}

fn on_tcp(import: &mut Import<'_>, section: &Section, found: &mut Vec<Found>) {
    let was = format!("inet_listener {}", section.name)
        .trim_end()
        .to_owned();
    let port = section.get("port").unwrap_or("0").to_owned();
    if port == "0" {
        return; // does not exist
    }
    let kind = classify(&section.name, Transport::Tcp);
    for key in ["ssl", "haproxy"] {
        if section.get(key) == Some("yes") {
            import.note(
                NoteKind::Dropped,
                format!("{was}: {key} = yes: not for this listener"),
            );
        }
    }
    let own = section.get("address").filter(|a| !a.is_empty());
    let addresses = expand(
        own.or(import.root.get("listen")).unwrap_or("*, ::"),
        import.root,
    );
    let family = if kind == ListenerKind::Ring {
        Some(ring_family(import.root))
    } else {
        None
    };
    for item in addresses.split([' ', ',']).filter(|i| !i.is_empty()) {
        let ip = if item == "*" {
            Some(IpAddr::from([0, 0, 0, 0]))
        } else {
            parse_address(item)
        };
        let Some(ip) = ip else {
            let text = format!("{was}: its address {item} is a name: write an address");
            import.note(NoteKind::Dropped, text);
            continue;
        };
        if family.is_some_and(|v6| v6 != ip.is_ipv6()) {
            let text =
                format!("{was} on {item}: all directors of the ring are of the other family");
            import.note(NoteKind::Dropped, text);
            continue;
        }
        let address = match ip {
            _ if item == "*" => format!("*:{port}"),
            IpAddr::V4(ip) => format!("{ip}:{port}"),
            IpAddr::V6(ip) => format!("[{ip}]:{port}"),
        };
        let allow = kind == ListenerKind::Admin;
        if allow {
            let text = format!(
                "{was}: administrators over TCP need a list of networks; it is this machine only \
                 until you change it"
            );
            import.note(NoteKind::Notice, text);
        }
        let at = At::Tcp { address, allow };
        found.push(Found {
            kind,
            was: was.clone(),
            name: section.name.clone(),
            at,
        });
    }
}

/// True when the ring's directors have IPv6 addresses.
fn ring_family(root: &Section) -> bool {
    let servers = expand(root.get("director_servers").unwrap_or_default(), root);
    servers.split(' ').any(|s| s.matches(':').count() > 1)
}

/// Notes about what to change in Dovecot.
fn changes(import: &mut Import<'_>, found: &[Found]) {
    let file = |found: &Found| match &found.at {
        At::Path { path, .. } => path.rsplit('/').next().unwrap_or_default().to_owned(),
        At::Tcp { .. } => String::new(),
    };
    let on_path = |f: &&Found| matches!(f.at, At::Path { .. });
    for login in found
        .iter()
        .filter(on_path)
        .filter(|f| f.kind == ListenerKind::Login)
    {
        let name = login.name.strip_prefix("login/").unwrap_or(&login.name);
        for service in import.root.of_kind("service") {
            let executable = service.get("executable").unwrap_or_default();
            if let Some(program) = executable.strip_suffix(&format!(" {name}")) {
                let text = format!(
                    "service {}: executable = {program} director/{}",
                    service.name,
                    file(login)
                );
                import.note(NoteKind::Change, text);
            }
        }
    }
    let first = |kind| found.iter().filter(on_path).find(|f| f.kind == kind);
    let fifo = |f: &&Found| matches!(f.at, At::Path { fifo: None, .. });
    if let Some(notify) = first(ListenerKind::Notify).filter(fifo) {
        let text = format!("login_proxy_notify_path = director/{}", file(notify));
        import.note(NoteKind::Change, text);
    }
    for userdb in found
        .iter()
        .filter(on_path)
        .filter(|f| f.kind == ListenerKind::Userdb)
    {
        for protocol in import.root.of_kind("protocol") {
            let path = protocol.get("auth_socket_path").unwrap_or_default();
            let relative = path.strip_prefix(&import.base_dir).unwrap_or(path);
            if relative.trim_start_matches('/') == userdb.name {
                let text = format!(
                    "protocol {}: auth_socket_path = login/director/{}",
                    protocol.name,
                    file(userdb)
                );
                import.note(NoteKind::Change, text);
            }
        }
    }
    if let Some(At::Path { path, .. }) = first(ListenerKind::Admin).map(|f| &f.at) {
        let text = format!("the admin socket has moved: doveadm director … -a {path}");
        import.note(NoteKind::Notice, text);
    }
    switch_off(import, found);
}

fn switch_off(import: &mut Import<'_>, found: &[Found]) {
    let mut text = String::from(
        "switch the old director off, or two directors run. Make sure that no old socket \
         login/director is left where the directory login/director must be:\nservice director {",
    );
    let on_path = found.iter().filter(|f| matches!(f.at, At::Path { .. }));
    for was in on_path.map(|f| &f.was) {
        text.push_str(&format!("\n  {was} {{\n    mode = 0\n  }}"));
    }
    let tcp: BTreeSet<_> = found
        .iter()
        .filter(|f| matches!(f.at, At::Tcp { .. }))
        .map(|f| &f.was)
        .collect();
    for was in tcp {
        text.push_str(&format!("\n  {was} {{\n    port = 0\n  }}"));
    }
    text.push_str("\n}");
    import.note(NoteKind::Change, text);
}
