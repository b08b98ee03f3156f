//! What a reload would change, and whether it can.

use std::collections::BTreeMap;
use std::fmt;

use super::listener::{kind_name, place_text};
use super::table::{Reload, TABLE};
use super::{HealthCheck, Listener, MailServer, Settings};

/// One difference between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting; `listener` for a `[[listener]]` table.
    pub key: &'static str,
    /// Whether the change takes effect at once.
    pub reload: Reload,
    /// The difference, in one line for people.
    pub text: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.reload {
            Reload::Live => "changed",
            Reload::Restart => "needs a restart",
            Reload::RingDecides => "not changed in a running director",
        };
        write!(f, "{}: {}: {effect}", self.key, self.text)
    }
}

/// All differences: settings in the table's order, one line for each backend that differs, then
/// listeners.
pub fn diff(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes = Vec::new();
    for spec in TABLE {
        if spec.reload == Reload::RingDecides {
            let lines = mail_servers(&old.director_mail_servers, &new.director_mail_servers);
            let change = |text| Change {
                key: spec.name,
                reload: spec.reload,
                text,
            };
            changes.extend(lines.into_iter().map(change));
            continue;
        }
        let (before, after) = ((spec.show)(old), (spec.show)(new));
        if before != after {
            let text = format!("{} -> {}", quoted(&before), quoted(&after));
            changes.push(Change {
                key: spec.name,
                reload: spec.reload,
                text,
            });
        }
    }
    let change = |text| Change {
        key: "health_check",
        reload: Reload::Live,
        text,
    };
    let checks = health_checks(&old.health_checks, &new.health_checks);
    changes.extend(checks.into_iter().map(change));
    let change = |text| Change {
        key: "listener",
        reload: Reload::Restart,
        text,
    };
    changes.extend(
        listeners(&old.listeners, &new.listeners)
            .into_iter()
            .map(change),
    );
    changes
}

fn quoted(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}

/// A backend as it is written in a settings file, by its address.
pub fn mail_server(server: &MailServer) -> String {
    match server.tag.as_str() {
        "" => server.ip.to_string(),
        tag => format!("{}@{tag}", server.ip),
    }
}

fn named(server: &MailServer) -> String {
    match &server.name {
        Some(name) => format!("{} ({name})", mail_server(server)),
        None => mail_server(server),
    }
}

/// Backends are told apart by address and tag; a change of the tag alone is shown as such.
fn mail_servers(old: &[MailServer], new: &[MailServer]) -> Vec<String> {
    let key = |s: &MailServer| (s.ip, s.tag.clone());
    let before: BTreeMap<_, _> = old.iter().map(|s| (key(s), s)).collect();
    let after: BTreeMap<_, _> = new.iter().map(|s| (key(s), s)).collect();
    let mut gone: Vec<_> = before
        .iter()
        .filter(|(k, _)| !after.contains_key(*k))
        .collect();
    let mut lines = Vec::new();
    for (k, server) in &after {
        let Some(was) = before.get(k) else {
            let moved = gone.iter().position(|((ip, _), _)| *ip == server.ip);
            lines.push(match moved {
                Some(at) => format!(
                    "would change {} to {}",
                    named(gone.remove(at).1),
                    named(server)
                ),
                None => format!("would add {}", named(server)),
            });
            continue;
        };
        if was != server {
            lines.push(format!("would change {} to {}", named(was), named(server)));
        }
    }
    lines.extend(
        gone.into_iter()
            .map(|(_, server)| format!("would remove {}", named(server))),
    );
    lines
}

fn health_checks(old: &[HealthCheck], new: &[HealthCheck]) -> Vec<String> {
    let find = |name: &str, list: &[HealthCheck]| list.iter().find(|it| it.name == name).cloned();
    let mut lines = Vec::new();
    for check in new {
        let name = &check.name;
        match find(name, old) {
            None => lines.push(format!("new {name}")),
            Some(was) if was != *check => lines.push(format!("other {name}")),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|check| find(&check.name, new).is_none());
    lines.extend(gone.map(|check| format!("gone {}", check.name)));
    lines
}

fn listeners(old: &[Listener], new: &[Listener]) -> Vec<String> {
    let show = |l: &Listener| format!("{} {}", kind_name(l.kind), place_text(&l.place));
    let same_place =
        |l: &Listener, list: &[Listener]| list.iter().find(|o| o.place == l.place).cloned();
    let mut lines = Vec::new();
    for l in new {
        match same_place(l, old) {
            None => lines.push(format!("new {}", show(l))),
            Some(was) if was != *l => lines.push(format!("other type or permissions: {}", show(l))),
            Some(_) => {}
        }
    }
    for l in old.iter().filter(|l| same_place(l, new).is_none()) {
        lines.push(format!("gone {}", show(l)));
    }
    lines
}
