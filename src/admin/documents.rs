//! What is told of backends, users and directors in JSON: by the command line with `--json`, and over
//! HTTP. Times are seconds since 1970; what is not known is null.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::plan::{self, Rings};
use crate::core::ip_text::ip_text;
use crate::wire::admin::read::{Host, Peer};
use crate::wire::admin::{DrainRow, Fact, LookupRow, UserRow};

mod health;

pub use health::{BackendHealth, Health};

/// `up` or `down`.
pub fn state(down: bool) -> &'static str {
    if down { "down" } else { "up" }
}

fn stamp(seconds: u64) -> Option<u64> {
    (seconds > 0).then_some(seconds)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The tags that there are, in the order of the first backends that have them; at least one.
pub fn tags(hosts: &[Host]) -> Vec<Vec<u8>> {
    let mut tags: Vec<Vec<u8>> = Vec::new();
    for host in hosts {
        if !tags.contains(&host.tag) {
            tags.push(host.tag.clone());
        }
    }
    if tags.is_empty() {
        tags.push(Vec::new());
    }
    tags
}

/// A backend.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Backend {
    /// Its address.
    pub address: String,
    /// Its tag, empty for none.
    pub tag: String,
    /// Its weight.
    pub vhosts: u32,
    /// `up` or `down`.
    pub state: &'static str,
    /// When that last changed.
    pub state_changed: Option<u64>,
    /// Users on it now.
    pub users: u64,
    /// The host name that it was configured by; missing where there is none, and over the admin protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What checks say of it; missing where none concerns it, and over the admin protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<BackendHealth>,
}

impl Backend {
    /// From a row of HOST-LIST, which tells neither name nor health.
    pub fn of(host: &Host) -> Backend {
        Backend {
            address: ip_text(host.ip),
            tag: lossy(&host.tag),
            vhosts: host.vhosts,
            state: state(host.down),
            state_changed: stamp(host.last_updown_change),
            users: host.users,
            name: None,
            health: None,
        }
    }
}

/// Where a user is and would go under one tag.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Place {
    /// The login name, as it was asked for.
    pub user: String,
    /// The tag, empty for none.
    pub tag: String,
    /// Where it is.
    pub current: Option<String>,
    /// Until when, unless it is refreshed.
    pub expires: Option<u64>,
    /// Where the hash ring would send it.
    pub hashed: Option<String>,
    /// Where the hash ring of the settings would send it.
    pub initial_config: Option<String>,
}

impl Place {
    /// From the answer to a USER-LOOKUP.
    pub fn of(user: &str, tag: String, row: &LookupRow) -> Place {
        Place {
            user: user.to_owned(),
            tag,
            current: row.current.map(|it| ip_text(it.0)),
            expires: row.current.and_then(|it| stamp(it.1)),
            hashed: row.hashed.map(ip_text),
            initial_config: row.initial.map(ip_text),
        }
    }
}

/// A user of the map.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Mapped {
    /// The login name, where it is known.
    pub user: Option<String>,
    /// Its hash.
    pub hash: u32,
    /// Where it is.
    pub backend: String,
    /// Until when, unless it is refreshed.
    pub expires: u64,
}

impl Mapped {
    /// From a row of USER-LIST.
    pub fn of(user: Option<String>, row: &UserRow) -> Mapped {
        Mapped {
            user,
            hash: row.hash,
            backend: ip_text(row.ip),
            expires: row.expires,
        }
    }
}

/// A connection of the ring, or a director without one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Director {
    /// Its address; null: it has not said who it is.
    pub address: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// `self`, `left`, `right`, `in`, `out`, `removed`, or empty: no connection.
    #[serde(rename = "type")]
    pub kind: String,
    /// The later of its last failures.
    pub last_failed: Option<u64>,
    /// How far the connection or the ring is.
    pub status: String,
    /// Last PING to its PONG, or the last round of synchronisation, in milliseconds.
    pub ping_ms: Option<u64>,
    /// Bytes read.
    pub bytes_in: Option<u64>,
    /// Bytes written.
    pub bytes_out: Option<u64>,
    /// Bytes that wait to be written.
    pub buffered: Option<u64>,
    /// Most bytes that ever waited.
    pub buffered_peak: Option<u64>,
    /// When something was last read.
    pub last_read: Option<u64>,
    /// When something was last written.
    pub last_write: Option<u64>,
}

impl Director {
    /// From a row of DIRECTOR-LIST.
    pub fn of(peer: &Peer) -> Director {
        Director {
            address: peer.director.map(|director| ip_text(director.ip)),
            port: peer.director.map(|director| director.port),
            kind: peer.kind.clone(),
            last_failed: peer.last_failed.and_then(stamp),
            status: peer.status.clone(),
            ping_ms: peer.ping_ms,
            bytes_in: peer.bytes_in,
            bytes_out: peer.bytes_out,
            buffered: peer.buffered,
            buffered_peak: peer.peak,
            last_read: peer.last_read.and_then(stamp),
            last_write: peer.last_write.and_then(stamp),
        }
    }
}

/// A drain.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Drain {
    /// The backend.
    pub address: String,
    /// `draining`, `full`, `unsynced`, `nowhere`, `ending` or `done`.
    pub state: String,
    /// Users a second.
    pub rate: u32,
    /// Users that have left so far.
    pub users_moved: u64,
    /// Users that are still there.
    pub users_left: Option<u64>,
    /// The weight that it had before.
    pub vhosts_before: Option<u32>,
    /// When it was begun.
    pub begun: u64,
}

impl Drain {
    /// From a row of HOMING-DRAIN-LIST.
    pub fn of(row: &DrainRow, hosts: &[Host]) -> Drain {
        Drain {
            address: ip_text(row.ip),
            state: row.state.clone(),
            rate: row.rate,
            users_moved: row.moved,
            users_left: hosts.iter().find(|it| it.ip == row.ip).map(|it| it.users),
            vhosts_before: row.vhosts,
            begun: row.begun,
        }
    }
}

/// What a change of backends would move.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Plan {
    /// `add`, `update`, `up`, `down` or `remove`.
    pub change: &'static str,
    /// The backends that it is about.
    pub addresses: Vec<String>,
    /// The weight that they would get.
    pub vhosts: Option<u32>,
    /// Users that are known now.
    pub active_users: u64,
    /// Each backend before and after.
    pub backends: Vec<PlannedBackend>,
    /// Where new users would go instead.
    pub new_users: Vec<Flow>,
    /// What a flush of all backends would move after the change.
    pub flush: Vec<Flow>,
    /// How many users it would move without the change.
    pub flush_without_change: u64,
    /// Users that would be forgotten at once.
    pub forgotten: Vec<Flow>,
}

/// A backend before and after a change.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PlannedBackend {
    /// Its address.
    pub address: String,
    /// Its tag, empty for none.
    pub tag: String,
    /// Users on it now.
    pub users: u64,
    /// Users on it after the change and a flush of all backends.
    pub users_after_flush: u64,
    /// Its share of new users.
    pub share: f64,
    /// The same after the change.
    pub share_after: f64,
}

/// Users that go from one backend to another.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Flow {
    /// Null: nowhere.
    pub from: Option<String>,
    /// Null: nowhere.
    pub to: Option<String>,
    /// Their tag, empty for none.
    pub tag: String,
    /// How many of those that are known now.
    pub users: u64,
    /// Of the hash space; only where it is about new users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

fn flows(flows: &[plan::Flow], with_share: bool) -> Vec<Flow> {
    let flow = |flow: &plan::Flow| Flow {
        from: flow.from.map(ip_text),
        to: flow.to.map(ip_text),
        tag: lossy(&flow.tag),
        users: flow.users,
        share: with_share.then_some(flow.share),
    };
    flows.iter().map(flow).collect()
}

impl Plan {
    /// Of a change that is called `change`.
    pub fn of(
        change: &'static str,
        addresses: Vec<String>,
        vhosts: Option<u32>,
        plan: &plan::Plan,
    ) -> Plan {
        let load = |load: &plan::Load| PlannedBackend {
            address: ip_text(load.ip),
            tag: lossy(&load.tag),
            users: load.users,
            users_after_flush: load.flushed,
            share: load.share,
            share_after: load.share_after,
        };
        Plan {
            change,
            addresses,
            vhosts,
            active_users: plan.active,
            backends: plan.loads.iter().map(load).collect(),
            new_users: flows(&plan.placement, true),
            flush: flows(&plan.flush, false),
            flush_without_change: plan.flush_today,
            forgotten: flows(&plan.forgotten, false),
        }
    }
}

/// Why a user is where it is, under one tag.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Why {
    /// The login name, as it was asked for.
    pub user: String,
    /// Its hash.
    pub hash: u32,
    /// The tag, empty for none.
    pub tag: String,
    /// Where it is.
    pub current: Option<String>,
    /// That backend's state, `up` or `down`; null: it is no longer in the list.
    pub current_state: Option<&'static str>,
    /// That backend's weight.
    pub current_vhosts: Option<u32>,
    /// Until when, unless it is refreshed.
    pub expires: Option<u64>,
    /// Its last sign of life.
    pub last_refresh: Option<u64>,
    /// Where the hash ring would send it.
    pub hashed: Option<String>,
    /// Where the hash ring of the settings would send it.
    pub initial_config: Option<String>,
    /// A sentence.
    pub reason: &'static str,
    /// Pairs of name and value that only a Homing tells; empty from Dovecot.
    pub extra: Vec<(String, String)>,
}

/// Whom a question is about.
#[derive(Clone, Copy, Debug)]
pub struct Whom<'a> {
    /// The login name.
    pub user: &'a str,
    /// Its hash.
    pub hash: u32,
    /// The tag, empty for none.
    pub tag: &'a [u8],
}

impl Why {
    /// From the answer to a USER-LOOKUP that asks why, and the backends. `stay`: for how long the
    /// director keeps its users, in seconds, if that is known.
    pub fn of(
        whom: Whom<'_>,
        row: &LookupRow,
        mut facts: Vec<Fact>,
        hosts: &[Host],
        rings: &Rings<'_>,
        stay: Option<u64>,
    ) -> Why {
        // Homing knows when; of Dovecot's users it can be computed.
        let refreshed = facts.iter().find(|(name, _)| name == "refreshed");
        let refreshed = refreshed.and_then(|(_, time)| time.parse().ok());
        facts.retain(|(name, _)| name != "refreshed" && name != "hash");
        let computed = || {
            let (expires, stay) = (row.current?.1, stay?);
            expires.checked_sub(stay)
        };
        let host = host_of(row, hosts);
        Why {
            user: whom.user.to_owned(),
            hash: whom.hash,
            tag: lossy(whom.tag),
            current: row.current.map(|it| ip_text(it.0)),
            current_state: host.map(|host| state(host.down)),
            current_vhosts: host.map(|host| host.vhosts),
            expires: row.current.map(|it| it.1),
            last_refresh: refreshed.or_else(computed),
            hashed: row.hashed.map(ip_text),
            initial_config: row.initial.map(ip_text),
            reason: reason(row, rings.place(whom.tag, whom.hash), hosts),
            extra: facts,
        }
    }
}

fn host_of<'a>(row: &LookupRow, hosts: &'a [Host]) -> Option<&'a Host> {
    let current = row.current?.0;
    hosts.iter().find(|host| host.ip == current)
}

/// A sentence. `computed`: the hash ring's choice by our own arithmetic, which must be the director's.
fn reason(row: &LookupRow, computed: Option<IpAddr>, hosts: &[Host]) -> &'static str {
    let current = row.current.map(|it| it.0);
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
        (Some(_), _) if host_of(row, hosts).is_some_and(|host| host.down) => {
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
    fn what_is_known_of_a_users_backend_is_told() {
        let hosts = [host(1, false), host(2, true)];
        let rings = Rings::new(&hosts).expect("small");
        let whom = Whom {
            user: "alice",
            hash: 7,
            tag: b"",
        };
        let facts = vec![
            ("hash".to_owned(), "7".to_owned()),
            ("state".to_owned(), "normal".to_owned()),
        ];
        let why = Why::of(whom, &row(Some(2), Some(1)), facts, &hosts, &rings, Some(5));
        assert_eq!(
            (why.current_state, why.current_vhosts),
            (Some("down"), Some(100))
        );
        assert_eq!((why.expires, why.last_refresh), (Some(9), Some(4)));
        assert_eq!(why.extra, [("state".to_owned(), "normal".to_owned())]);
    }
}
