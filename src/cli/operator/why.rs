//! Why a user is where it is.

use std::net::IpAddr;

use serde::Serialize;

use super::args::WhyArgs;
use super::client::Client;
use super::failure::{Failure, Outcome};
use super::output::{self, lossy};
use super::place::Source;
use super::plan::Rings;
use super::{Done, hosts, users};
use crate::core::ip_text::ip_text;
use crate::wire::admin::read::Host;
use crate::wire::admin::{LookupRow, User};

/// Everything about a user under one tag. In JSON under these names; times are seconds since 1970.
#[derive(Debug, Serialize)]
struct Why {
    user: String,
    hash: u32,
    tag: String,
    current: Option<String>,
    current_state: Option<&'static str>,
    current_vhosts: Option<u32>,
    expires: Option<u64>,
    last_refresh: Option<u64>,
    hashed: Option<String>,
    initial_config: Option<String>,
    reason: &'static str,
    /// What only a Homing tells; empty from Dovecot.
    extra: Vec<(String, String)>,
}

/// Tells it.
pub(super) fn run(args: &WhyArgs) -> Done {
    let source = Source::new(&args.common);
    let template = source.template(&args.hash)?;
    let hash = template.hash(args.user.as_bytes(), &mut Vec::new()).0;
    // Only the settings of this director say how long its users stay.
    let stay = source
        .settings()?
        .map(|it| u64::from(it.director_user_expire));
    let mut client = Client::connect(source.place()?)?;
    let hosts = client.hosts()?;
    let tags = match &args.tag {
        Some(tag) => vec![tag.as_bytes().to_vec()],
        None => users::tags(&hosts),
    };
    let rings = Rings::new(&hosts).map_err(Failure::temporary)?;
    let mut found = Vec::new();
    for tag in &tags {
        let user = User::Hash(hash);
        let (row, mut extra) = users::explained(&mut client, user, tag, true)?;
        // Homing knows when; of Dovecot's users it can be computed.
        let refreshed = extra.iter().find(|(name, _)| name == "refreshed");
        let refreshed = refreshed.and_then(|(_, time)| time.parse().ok());
        extra.retain(|(name, _)| name != "refreshed" && name != "hash");
        found.push(Why {
            user: args.user.clone(),
            hash,
            tag: lossy(tag),
            expires: row.current.map(|it| it.1),
            last_refresh: refreshed.or(row
                .current
                .zip(stay)
                .and_then(|(it, stay)| it.1.checked_sub(stay))),
            reason: reason(&row, rings.place(tag, hash), &hosts),
            extra,
            ..of_backend(&row, &hosts)
        });
    }
    // A user that is nowhere is told about under all tags; one that is somewhere, only there.
    if args.tag.is_none() && found.iter().any(|why| why.current.is_some()) {
        found.retain(|why| why.current.is_some());
    }
    match args.common.json {
        true => output::json(&found)?,
        false => {
            let text: Vec<_> = found.iter().map(text).collect();
            output::print(&text.join("\n"))?;
        }
    }
    Ok(Outcome::default())
}

/// The fields that follow from the backends.
fn of_backend(row: &LookupRow, all: &[Host]) -> Why {
    let current = row.current.map(|it| it.0);
    let host = all.iter().find(|host| Some(host.ip) == current);
    Why {
        user: String::new(),
        hash: 0,
        tag: String::new(),
        current: current.map(ip_text),
        current_state: host.map(|host| hosts::state(host.down)),
        current_vhosts: host.map(|host| host.vhosts),
        expires: None,
        last_refresh: None,
        hashed: row.hashed.map(ip_text),
        initial_config: row.initial.map(ip_text),
        reason: "",
        extra: Vec::new(),
    }
}

/// A sentence. `computed`: the hash ring's choice by our own arithmetic, which must be the director's.
fn reason(row: &LookupRow, computed: Option<IpAddr>, hosts: &[Host]) -> &'static str {
    let current = row.current.map(|it| it.0);
    let host = current.and_then(|ip| hosts.iter().find(|host| host.ip == ip));
    if computed != row.hashed {
        return "the hash ring of the backend list gives another backend than the director says: \
                the list has just changed, or the director places users in another way";
    }
    match (current, row.hashed) {
        (None, None) => {
            "unknown, and no backend of the tag is usable: a login would wait, then fail"
        }
        (None, Some(_)) => "unknown: the next login goes where the hash ring says",
        (Some(current), Some(hashed)) if current == hashed => {
            "where the hash ring says; stays as long as it is refreshed"
        }
        (Some(_), _) if host.is_some_and(|host| host.down) => {
            "its backend is down, which keeps the users that it has: it stays until it expires, is \
             moved, or the backend is flushed"
        }
        (Some(_), None) => "stays although no backend of the tag is usable, until it expires",
        (Some(_), Some(_)) => {
            "elsewhere than the hash ring says: it was placed by an earlier backend list or moved by an \
             administrator, and stays until it expires or its backend is flushed"
        }
    }
}

/// Lines of name and value for people.
fn text(why: &Why) -> String {
    let state = why.current_state.unwrap_or("no longer in the list");
    let vhosts = why.current_vhosts.map(|it| format!(", {it} vhosts"));
    let current = match &why.current {
        Some(ip) => format!("{ip} ({state}{})", vhosts.unwrap_or_default()),
        None => "nowhere".to_owned(),
    };
    let place = |ip: &Option<String>| ip.clone().unwrap_or_else(|| "nowhere".to_owned());
    let mut pairs = vec![
        ("user", why.user.clone()),
        ("hash", why.hash.to_string()),
        (
            "tag",
            if why.tag.is_empty() {
                "none".to_owned()
            } else {
                why.tag.clone()
            },
        ),
        ("current", current),
    ];
    pairs.extend(
        why.last_refresh
            .map(|it| ("last refresh", output::time(it))),
    );
    pairs.extend(why.expires.map(|it| ("expires", output::time(it))));
    pairs.push(("hash ring", place(&why.hashed)));
    pairs.push(("initial config", place(&why.initial_config)));
    let extra = why
        .extra
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    pairs.extend(extra);
    pairs.push(("why", why.reason.to_owned()));
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): (&str, String)| {
        let name = output::safe(&format!("{name}:"));
        format!("{name:<0$} {1}\n", width + 1, output::safe(&value))
    };
    pairs.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn row(current: Option<u8>, hashed: Option<u8>) -> LookupRow {
        LookupRow {
            current: current.map(|last| (ip(last), 9)),
            hashed: hashed.map(ip),
            initial: None,
        }
    }

    fn host(last: u8, down: bool) -> Host {
        Host {
            ip: ip(last),
            vhosts: 100,
            users: 1,
            tag: Vec::new(),
            down,
            last_updown_change: 0,
        }
    }

    #[test]
    fn every_case_has_its_sentence() {
        let hosts = [host(1, false), host(2, true)];
        for (current, hashed, sentence) in [
            (None, None, "no backend of the tag is usable"),
            (None, Some(1), "the next login goes where"),
            (Some(1), Some(1), "where the hash ring says"),
            (Some(2), Some(1), "its backend is down"),
            (Some(1), None, "although no backend"),
            (Some(1), Some(2), "elsewhere than the hash ring says"),
        ] {
            let said = reason(&row(current, hashed), hashed.map(ip), &hosts);
            assert!(said.contains(sentence), "{said}");
        }
        let other = reason(&row(Some(1), Some(1)), Some(ip(3)), &hosts);
        assert!(other.contains("another backend than the director says"));
    }

    #[test]
    fn lines_have_what_is_known() {
        let hosts = [host(1, true)];
        let mut why = Why {
            user: "alice".to_owned(),
            hash: 7,
            reason: "so",
            ..of_backend(&row(Some(1), None), &hosts)
        };
        assert_eq!(
            text(&why),
            "user:           alice\n\
             hash:           7\n\
             tag:            none\n\
             current:        10.0.0.1 (down, 100 vhosts)\n\
             hash ring:      nowhere\n\
             initial config: nowhere\n\
             why:            so\n"
        );
        why.extra = vec![("state".to_owned(), "mo\u{1b}ves".to_owned())];
        assert!(text(&why).contains("state:          mo\u{fffd}ves\n"));
    }
}
