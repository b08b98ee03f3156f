//! Commands to lines, in the form that a peer's version understands.

use std::net::IpAddr;

use thiserror::Error;

use super::{
    CONSISTENT_HASHING, Command, DirectorId, HOMING_FIELD, HOMING_USERS, HandUser, HandUsers, Host,
    JOINING_FIELD, Load, MAJOR, MAX_LINE, MINOR_OPTIONS, MINOR_STATE, MINOR_TAGS, MINOR_USER_TIME,
    Order, Origin, PROTOCOL, Sync, TLS_FIELD,
};
use crate::wire::ip_text::ip_text;
use crate::wire::line::{escape_into, push_number};

/// The two versions that the form of a line depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Minor version of the director at the other end; 0 before its VERSION.
    pub peer: u32,
    /// Lowest minor version in the ring.
    pub ring: u32,
}

/// The line would be longer than a director reads. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the line would be longer than {MAX_LINE} bytes")]
pub struct DoesNotFit;

impl Command<'_> {
    /// The lowest minor version of a peer that understands the command at all. Others are not sent
    /// it.
    pub fn min_minor(&self) -> u32 {
        match self {
            Command::DirectorRemove(_) => 2,
            Command::Quit(_) => 3,
            Command::Order(_, Order::UserKick(_) | Order::UserKickHash { .. }) => 4,
            Command::Options => MINOR_OPTIONS,
            Command::Order(_, Order::UserKickAlt { .. }) => 8,
            _ => 0,
        }
    }

    /// The lowest level of Homing's extensions that a peer must have announced; 0: any director.
    pub fn min_homing(&self) -> u32 {
        match self {
            Command::HandUsers(_) | Command::Ask { .. } => 1,
            Command::Users(_) => HOMING_USERS,
            _ => 0,
        }
    }

    /// Appends the line with its LF. The text of a QUIT is shortened where it must be.
    ///
    /// # Errors
    /// Long names of users, hosts or tags may not fit; `out` is then as it was.
    pub fn write(&self, versions: Versions, out: &mut Vec<u8>) -> Result<(), DoesNotFit> {
        let start = out.len();
        self.push(versions, out);
        if out.len() - start > MAX_LINE {
            out.truncate(start);
            return Err(DoesNotFit);
        }
        out.push(b'\n');
        Ok(())
    }

    fn push(&self, versions: Versions, out: &mut Vec<u8>) {
        match self {
            Command::Version {
                minor,
                homing,
                tls,
                joining,
            } => {
                word(b"VERSION", out);
                raw(PROTOCOL, out);
                number(MAJOR.into(), out);
                number((*minor).into(), out);
                if *homing > 0 {
                    raw(HOMING_FIELD, out);
                    push_number((*homing).into(), out);
                }
                if *tls {
                    raw(TLS_FIELD, out);
                }
                if *joining {
                    raw(JOINING_FIELD, out);
                }
            }
            Command::Me { id, time } => {
                named(b"ME", *id, out);
                if let Some(time) = time {
                    number(*time, out);
                }
            }
            Command::Options => {
                word(b"OPTIONS", out);
                raw(CONSISTENT_HASHING, out);
            }
            Command::HostHandStart(flag) => flagged(b"HOST-HAND-START", *flag, out),
            Command::HostHandEnd(flag) => flagged(b"HOST-HAND-END", *flag, out),
            Command::HandHost(host) => {
                word(b"HOST", out);
                push_hand_host(host, versions.peer, out);
            }
            Command::HandUser(user) => push_hand_user(user, versions.peer, out),
            Command::HandUsers(users) => push_users(b"UU", users, out),
            Command::Users(users) => push_users(b"USERS", users, out),
            Command::Done => word(b"DONE", out),
            Command::Ask { hash, tag } => {
                word(b"ASK", out);
                number(hash.get().into(), out);
                escaped(tag, out);
            }
            Command::Ping(load) => push_load(b"PING", *load, out),
            Command::Pong(load) => push_load(b"PONG", *load, out),
            Command::Connect(id) => named(b"CONNECT", *id, out),
            Command::Quit(text) => push_quit(text, out),
            Command::Director(id) => named(b"DIRECTOR", *id, out),
            Command::DirectorRemove(id) => named(b"DIRECTOR-REMOVE", *id, out),
            Command::Sync(sync) => push_sync(sync, versions.peer, out),
            Command::User { hash, host, time } => {
                word(b"USER", out);
                number(hash.get().into(), out);
                address(*host, out);
                if let Some(time) = time.filter(|_| versions.peer >= MINOR_USER_TIME) {
                    number(time.min(u32::MAX.into()), out);
                }
            }
            Command::UserKilled(hash) => {
                word(b"USER-KILLED", out);
                number(hash.get().into(), out);
            }
            Command::Order(origin, order) => order.push(*origin, versions.ring, out),
        }
    }
}

impl Order<'_> {
    /// Whether the line fits with the longest origin that a director may put before it when it
    /// forwards the line. A director that issues an order must ask this first: a line that grows too
    /// long on its way costs two other directors their connection.
    pub fn fits(&self) -> bool {
        let worst = Origin {
            director: DirectorId {
                ip: IpAddr::from([0xffff; 8]),
                port: u16::MAX,
            },
            seq: u32::MAX,
        };
        let mut line = Vec::new();
        self.push(worst, super::MINOR, &mut line);
        line.len() <= MAX_LINE
    }

    fn push(&self, origin: Origin, ring_minor: u32, out: &mut Vec<u8>) {
        let begin = |name: &[u8], out: &mut Vec<u8>| {
            named(name, origin.director, out);
            number(origin.seq.into(), out);
        };
        let user_at = |name: &[u8], hash: &super::Hash, host: &IpAddr, out: &mut Vec<u8>| {
            begin(name, out);
            number(hash.get().into(), out);
            address(*host, out);
        };
        match self {
            Order::UserWeak { hash, host } => user_at(b"USER-WEAK", hash, host, out),
            // A director that knows nothing of tags must not give its users to this host.
            Order::Host(host) if ring_minor < MINOR_TAGS && !host.tag.is_empty() => {
                begin(b"HOST-REMOVE", out);
                address(host.ip, out);
            }
            Order::Host(host) => {
                begin(b"HOST", out);
                push_host(host, ring_minor >= MINOR_STATE, out);
            }
            Order::HostRemove(ip) => {
                begin(b"HOST-REMOVE", out);
                address(*ip, out);
            }
            Order::HostFlush(ip) => {
                begin(b"HOST-FLUSH", out);
                address(*ip, out);
            }
            Order::UserMove { hash, host } => user_at(b"USER-MOVE", hash, host, out),
            Order::UserKick(name) => {
                begin(b"USER-KICK", out);
                escaped(name, out);
            }
            Order::UserKickAlt { field, value } => {
                begin(b"USER-KICK-ALT", out);
                escaped(field, out);
                escaped(value, out);
            }
            Order::UserKickHash { hash, except } => user_at(b"USER-KICK-HASH", hash, except, out),
            Order::UserKilledEverywhere(hash) => {
                begin(b"USER-KILLED-EVERYWHERE", out);
                number(hash.get().into(), out);
            }
        }
    }
}

/// All fields, or only address and weight. The tag of minor version 6 is always empty here, but its
/// field is written: without it the state would be read as the tag.
fn push_host(host: &Host<'_>, whole: bool, out: &mut Vec<u8>) {
    address(host.ip, out);
    number(host.vhosts.into(), out);
    if !whole {
        return;
    }
    escaped(&host.tag, out);
    raw(if host.down { b"D" } else { b"U" }, out);
    push_number(host.changed.min(i64::MAX as u64), out);
    escaped(host.name.as_deref().unwrap_or_default(), out);
}

/// In the block of hosts an old peer is told of tags too, and then decides by itself.
fn push_hand_host(host: &Host<'_>, peer_minor: u32, out: &mut Vec<u8>) {
    push_host(host, peer_minor >= MINOR_STATE, out);
    if peer_minor < MINOR_STATE && !host.tag.is_empty() {
        escaped(&host.tag, out);
    }
}

fn push_users(name: &[u8], users: &HandUsers<'_>, out: &mut Vec<u8>) {
    word(name, out);
    address(users.host, out);
    number(users.since.into(), out);
    raw(users.packed(), out);
}

fn push_hand_user(user: &HandUser, peer_minor: u32, out: &mut Vec<u8>) {
    word(
        if peer_minor >= MINOR_USER_TIME {
            b"U"
        } else {
            b"USER"
        },
        out,
    );
    number(user.hash.get().into(), out);
    address(user.host, out);
    number(user.time.into(), out);
    if user.weak {
        raw(b"w", out);
    }
}

fn push_load(name: &[u8], load: Option<Load>, out: &mut Vec<u8>) {
    word(name, out);
    if let Some(load) = load {
        number(load.time, out);
        number(load.waiting, out);
    }
}

fn push_sync(sync: &Sync, peer_minor: u32, out: &mut Vec<u8>) {
    named(b"SYNC", sync.director, out);
    number(sync.seq.into(), out);
    if sync.minor > 0 && peer_minor > 0 {
        number(sync.minor.into(), out);
        number(sync.time.unwrap_or(0).into(), out);
        number(sync.hosts_hash.into(), out);
    }
}

/// The text as it is, but for bytes that would end the line or that a log would choke on.
fn push_quit(text: &[u8], out: &mut Vec<u8>) {
    word(b"QUIT\t", out);
    let room = MAX_LINE - b"QUIT\t".len();
    let clean = |&byte: &u8| if byte < b' ' { b' ' } else { byte };
    out.extend(text.iter().take(room).map(clean));
}

fn word(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
}

fn named(name: &[u8], id: DirectorId, out: &mut Vec<u8>) {
    word(name, out);
    address(id.ip, out);
    number(id.port.into(), out);
}

fn flagged(name: &[u8], flag: bool, out: &mut Vec<u8>) {
    word(name, out);
    number(flag.into(), out);
}

fn raw(field: &[u8], out: &mut Vec<u8>) {
    out.push(b'\t');
    out.extend_from_slice(field);
}

fn escaped(field: &[u8], out: &mut Vec<u8>) {
    out.push(b'\t');
    escape_into(field, out);
}

fn number(value: u64, out: &mut Vec<u8>) {
    out.push(b'\t');
    push_number(value, out);
}

fn address(ip: IpAddr, out: &mut Vec<u8>) {
    out.push(b'\t');
    match ip {
        // Every USER line has one; no text is made for it.
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                push_number(octet.into(), out);
            }
        }
        IpAddr::V6(_) => out.extend_from_slice(ip_text(ip).as_bytes()),
    }
}
