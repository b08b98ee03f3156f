//! The `[[listener]]` tables.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::document::nearest;
use super::network::Network;
use super::problem::Problems;
use super::servers::split_host_port;
use super::table::LISTENER_KEYS;
use super::{Listener, ListenerKind, Place, address, kinds};

/// Longest path of a unix socket in bytes, without the final NUL (`sun_path`).
pub const MAX_SOCKET_PATH: usize = 107;
/// Most listeners, more than anyone has. It bounds the keeper's messages and descriptors.
pub const MAX_LISTENERS: usize = 64;
/// Permission bits without `mode`.
pub const DEFAULT_MODE: u32 = 0o600;

/// A listener, and the byte offsets of its path or address, its owner and its group.
pub(crate) struct Listed {
    pub(crate) listener: Listener,
    pub(crate) at: usize,
    owner_at: Option<usize>,
    group_at: Option<usize>,
}

/// The keys of one table as they were written.
#[derive(Default)]
struct Raw {
    kind: Option<ListenerKind>,
    path: Option<(PathBuf, usize)>,
    address: Option<(SocketAddr, usize)>,
    mode: Option<(u32, usize)>,
    owner: Option<(String, usize)>,
    group: Option<(String, usize)>,
    fifo: Option<(bool, usize)>,
    allow: Option<(Vec<IpNet>, usize)>,
    faulty: bool,
}

/// All tables of the key `listener`. What is wrong inside one leaves it out.
pub(crate) fn read(value: &DeValue<'_>, at: usize, problems: &mut Problems<'_>) -> Vec<Listed> {
    let DeValue::Array(tables) = value else {
        problems.error(
            Some(at),
            "listener",
            "It is not an array of tables",
            "[[listener]]",
        );
        return Vec::new();
    };
    let mut listed = Vec::new();
    for table in tables.iter() {
        let at = table.span().start;
        match table.get_ref() {
            DeValue::Table(table) => listed.extend(read_table(table, at, problems)),
            _ => problems.error(Some(at), "listener", "It is not a table", "[[listener]]"),
        }
    }
    if listed.len() > MAX_LISTENERS {
        let accepted = format!("at most {MAX_LISTENERS}");
        problems.error(Some(at), "listener", "Too many listeners", accepted);
    }
    listed
}

fn read_table(table: &DeTable<'_>, at: usize, problems: &mut Problems<'_>) -> Option<Listed> {
    let before = problems.errors.len();
    let mut raw = Raw::default();
    for (key, value) in table {
        let name: &str = key.get_ref();
        let Some(known) = LISTENER_KEYS.iter().find(|k| k.name == name) else {
            let hint = nearest(name, LISTENER_KEYS.iter().map(|k| k.name));
            let what = format!("Unknown setting: {name}");
            problems.error(
                Some(key.span().start),
                &format!("listener.{name}"),
                what,
                hint,
            );
            continue;
        };
        let place = value.span();
        if let Err(what) = read_key(known.name, value.get_ref(), &place, &mut raw) {
            raw.faulty = true;
            let key = format!("listener.{name}");
            problems.error(Some(place.start), &key, what, known.accepts);
        }
    }
    let listed = assemble(raw, at, problems);
    listed.filter(|_| problems.errors.len() == before)
}

fn read_key(
    name: &str,
    value: &DeValue<'_>,
    span: &Range<usize>,
    raw: &mut Raw,
) -> Result<(), String> {
    let at = span.start;
    match name {
        "type" => raw.kind = Some(kind(string(value)?)?),
        "path" => raw.path = Some((path(string(value)?)?, at)),
        "address" => raw.address = Some((tcp_address(string(value)?)?, at)),
        "mode" => raw.mode = Some((mode(value)?, at)),
        "owner" => raw.owner = Some((name_or_number(value)?, at)),
        "group" => raw.group = Some((name_or_number(value)?, at)),
        "fifo" => raw.fifo = Some((value.as_bool().ok_or("It is neither true nor false")?, at)),
        "allow" => raw.allow = Some((networks(value)?, at)),
        _ => unreachable!("every key of the table is read"),
    }
    Ok(())
}

fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value
        .as_str()
        .ok_or_else(|| "It is not a string".to_owned())
}

fn kind(text: &str) -> Result<ListenerKind, String> {
    Ok(match text {
        "login" => ListenerKind::Login,
        "userdb" => ListenerKind::Userdb,
        "authreply" => ListenerKind::Authreply,
        "notify" => ListenerKind::Notify,
        "ring" => ListenerKind::Ring,
        "admin" => ListenerKind::Admin,
        "http" => ListenerKind::Http,
        _ => return Err(format!("Unknown type '{text}'")),
    })
}

/// The name of a type in a settings file.
pub fn kind_name(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Login => "login",
        ListenerKind::Userdb => "userdb",
        ListenerKind::Authreply => "authreply",
        ListenerKind::Notify => "notify",
        ListenerKind::Ring => "ring",
        ListenerKind::Admin => "admin",
        ListenerKind::Http => "http",
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!("The path '{text}' is not absolute"));
    }
    if text.contains('\0') || path.components().any(|c| c == Component::ParentDir) {
        return Err(format!("The path {text:?} contains '..' or a NUL"));
    }
    if text.ends_with('/') {
        return Err(format!("The path '{text}' is a directory"));
    }
    // Without `//` and `/./`, so that equal places are equal paths.
    let path: PathBuf = path.components().collect();
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(format!(
            "The path has {length} bytes, a socket's path can have {MAX_SOCKET_PATH}"
        ));
    }
    Ok(path)
}

fn tcp_address(text: &str) -> Result<SocketAddr, String> {
    let invalid = || format!("Invalid address '{text}'");
    let (host, port) = split_host_port(text).ok_or_else(invalid)?;
    let port = port.ok_or_else(|| format!("The address '{text}' has no port"))?;
    let port = kinds::port(port)?;
    let ip = match host {
        "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        host => address::parse_address(host).filter(|_| address::is_plain(host)),
    };
    ip.map(|ip| SocketAddr::new(ip, port)).ok_or_else(invalid)
}

fn mode(value: &DeValue<'_>) -> Result<u32, String> {
    if let DeValue::Integer(number) = value {
        return Err(format!(
            "The number {number} has no quotes: write it as an octal string"
        ));
    }
    let text = string(value)?;
    match u32::from_str_radix(text, 8) {
        Ok(0) => Err("Mode 0 means that the listener does not exist: remove the table".to_owned()),
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err(format!("Invalid mode '{text}'")),
    }
}

fn name_or_number(value: &DeValue<'_>) -> Result<String, String> {
    let text = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        other => string(other)?.to_owned(),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(good) {
        true => Ok(text),
        false => Err(format!("Invalid name {text:?}")),
    }
}

fn networks(value: &DeValue<'_>) -> Result<Vec<IpNet>, String> {
    let array = value.as_array().ok_or("It is not an array")?;
    array
        .iter()
        .map(|v| network(string(v.get_ref())?))
        .collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip.into());
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("Invalid network '{text}'"))?;
    match net.trunc() == net {
        true => Ok(net),
        false => Err(format!(
            "The network '{text}' has bits behind its prefix: {}?",
            net.trunc()
        )),
    }
}

/// Puts a table's keys together; `None` and an error when they do not fit.
fn assemble(raw: Raw, at: usize, problems: &mut Problems<'_>) -> Option<Listed> {
    if raw.faulty {
        return None;
    }
    let Some(kind) = raw.kind else {
        problems.error(
            Some(at),
            "listener.type",
            "It is missing",
            LISTENER_KEYS[0].accepts,
        );
        return None;
    };
    match (raw.path.clone(), raw.address) {
        (Some((path, at)), None) => on_path(kind, path, at, raw, problems),
        (None, Some((address, at))) => on_tcp(kind, address, at, raw, problems),
        (Some(_), Some((_, at))) => {
            let what = "It has a path and an address";
            problems.error(Some(at), "listener.address", what, "one of them");
            None
        }
        (None, None) => {
            let what = "It has neither a path nor an address";
            problems.error(Some(at), "listener", what, "one of them");
            None
        }
    }
}

fn on_path(
    kind: ListenerKind,
    path: PathBuf,
    at: usize,
    raw: Raw,
    problems: &mut Problems<'_>,
) -> Option<Listed> {
    if kind == ListenerKind::Ring {
        let what = "A ring listener needs an address: neighbours are known by theirs";
        problems.error(Some(at), "listener.path", what, "address = \"IP:PORT\"");
        return None;
    }
    if let Some((_, at)) = raw.allow {
        let what = "A path has no list of networks: mode, owner and group say who may connect";
        problems.error(Some(at), "listener.allow", what, "nothing");
    }
    if let Some((_, at)) = raw.fifo.filter(|_| kind != ListenerKind::Notify) {
        let what = format!("A listener of type {} can't be a FIFO", kind_name(kind));
        problems.error(
            Some(at),
            "listener.fifo",
            what,
            "only with type = \"notify\"",
        );
    }
    let fifo = kind == ListenerKind::Notify && raw.fifo.is_none_or(|(fifo, _)| fifo);
    let place = if fifo {
        Place::Fifo(path)
    } else {
        Place::Unix(path)
    };
    let [owner_at, group_at] = [&raw.owner, &raw.group].map(|it| it.as_ref().map(|(_, at)| *at));
    let listener = Listener {
        kind,
        place,
        mode: raw.mode.map_or(DEFAULT_MODE, |(mode, _)| mode),
        owner: raw.owner.map(|(name, _)| name),
        group: raw.group.map(|(name, _)| name),
        allow: Vec::new(),
    };
    Some(Listed {
        listener,
        at,
        owner_at,
        group_at,
    })
}

fn on_tcp(
    kind: ListenerKind,
    address: SocketAddr,
    at: usize,
    raw: Raw,
    problems: &mut Problems<'_>,
) -> Option<Listed> {
    let only_paths = [
        ("mode", raw.mode.map(|(_, at)| at)),
        ("owner", raw.owner.map(|(_, at)| at)),
        ("group", raw.group.map(|(_, at)| at)),
        ("fifo", raw.fifo.map(|(_, at)| at)),
    ];
    for (name, at) in only_paths {
        if at.is_some() {
            let key = format!("listener.{name}");
            problems.error(
                at,
                &key,
                "A listener with an address has none",
                "only with a path",
            );
        }
    }
    let (allow, allow_at) = raw
        .allow
        .map_or((Vec::new(), None), |(list, at)| (list, Some(at)));
    let must = matches!(kind, ListenerKind::Admin | ListenerKind::Http);
    if must && allow.is_empty() {
        let what = format!(
            "A listener of type {} on TCP needs a list of networks",
            kind_name(kind)
        );
        problems.error(
            allow_at.or(Some(at)),
            "listener.allow",
            what,
            LISTENER_KEYS[7].accepts,
        );
    }
    if kind == ListenerKind::Ring && allow_at.is_some() {
        let what = "A ring listener accepts the directors of director_servers";
        problems.error(allow_at, "listener.allow", what, "nothing");
    }
    let place = Place::Tcp(address);
    let listener = Listener {
        kind,
        place,
        mode: 0,
        owner: None,
        group: None,
        allow,
    };
    Some(Listed {
        listener,
        at,
        owner_at: None,
        group_at: None,
    })
}

/// Checks that concern several listeners, or a listener and other settings.
pub(crate) fn check_together(
    listed: &[Listed],
    base_dir: &Path,
    auth: &[&Path],
    network: &dyn Network,
    problems: &mut Problems<'_>,
) {
    for (n, one) in listed.iter().enumerate() {
        if let Some(earlier) = listed[..n].iter().find(|e| collide(e, one)) {
            let what = format!(
                "Two listeners at one place: {} and {}",
                place_text(&earlier.listener.place),
                place_text(&one.listener.place)
            );
            problems.error(
                Some(one.at),
                "listener",
                what,
                "a place of its own for each listener",
            );
        }
        if let Place::Unix(path) | Place::Fifo(path) = &one.listener.place {
            check_path(path, one.at, base_dir, auth, problems);
        }
        let (owner, group) = (&one.listener.owner, &one.listener.group);
        check_user(
            "listener.owner",
            owner.as_deref(),
            one.owner_at,
            network,
            problems,
        );
        check_group(
            "listener.group",
            group.as_deref(),
            one.group_at,
            network,
            problems,
        );
    }
}

/// A name that nobody has is found before anything listens. A number needs no name.
pub(crate) fn check_user(
    key: &str,
    name: Option<&str>,
    at: Option<usize>,
    network: &dyn Network,
    problems: &mut Problems<'_>,
) {
    let Some(name) = name.filter(|name| name.parse::<u32>().is_err()) else {
        return;
    };
    if !network.has_user(name) {
        problems.error(
            at,
            key,
            format!("There is no user '{name}'"),
            "a user of this machine",
        );
    }
}

/// As [`check_user`].
pub(crate) fn check_group(
    key: &str,
    name: Option<&str>,
    at: Option<usize>,
    network: &dyn Network,
    problems: &mut Problems<'_>,
) {
    let Some(name) = name.filter(|name| name.parse::<u32>().is_err()) else {
        return;
    };
    if !network.has_group(name) {
        problems.error(
            at,
            key,
            format!("There is no group '{name}'"),
            "a group of this machine",
        );
    }
}

fn check_path(
    path: &Path,
    at: usize,
    base_dir: &Path,
    auth: &[&Path],
    problems: &mut Problems<'_>,
) {
    if auth.contains(&path) {
        let what = "This is the socket of Dovecot's auth that is dialled for each client";
        problems.error(Some(at), "listener.path", what, "another path");
    }
    let mut run_dirs = auth.iter().filter_map(|a| a.parent()).chain([base_dir]);
    if run_dirs.any(|dir| path.parent() == Some(&dir.join("login"))) {
        let what = "Dovecot's master tries every socket directly in its login directory when it \
                    starts, and refuses to start when one answers";
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let better = base_dir.join("login/director").join(&*name);
        problems.error(
            Some(at),
            "listener.path",
            what,
            format!("e.g. {}", better.display()),
        );
    }
}

fn collide(a: &Listed, b: &Listed) -> bool {
    match (&a.listener.place, &b.listener.place) {
        (Place::Tcp(a), Place::Tcp(b)) => {
            a.port() == b.port()
                && a.is_ipv4() == b.is_ipv4()
                && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
        }
        (Place::Unix(a) | Place::Fifo(a), Place::Unix(b) | Place::Fifo(b)) => a == b,
        _ => false,
    }
}

/// A place as it is written in a settings file.
pub fn place_text(place: &Place) -> String {
    match place {
        Place::Unix(path) | Place::Fifo(path) => path.display().to_string(),
        Place::Tcp(address) => address.to_string(),
    }
}
