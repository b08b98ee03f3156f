//! Rows of lists.

use std::fmt;
use std::net::IpAddr;

use crate::wire::ip_text::ip_text;
use crate::wire::line::{escape_into, push_number};
use crate::wire::ring::DirectorId;

/// Ends every list, also one without rows.
pub fn write_end_of_list(out: &mut Vec<u8>) {
    out.push(b'\n');
}

/// A row of HOST-LIST-REMOVED.
pub fn write_removed_host(ip: IpAddr, out: &mut Vec<u8>) {
    add(out, format_args!("{}\n", ip_text(ip)));
}

/// A row of HOST-LIST, which is in the order of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRow<'a> {
    /// The backend.
    pub ip: IpAddr,
    /// Its weight.
    pub vhosts: u32,
    /// Users on it now.
    pub users: u64,
    /// Its tag, empty for none.
    pub tag: &'a [u8],
    /// It gets no new users.
    pub down: bool,
    /// When that last changed, seconds since 1970; 0: never.
    pub last_updown_change: u64,
}

impl HostRow<'_> {
    /// Appends the row.
    pub fn write(&self, out: &mut Vec<u8>) {
        let ip = ip_text(self.ip);
        add(out, format_args!("{ip}\t{}\t{}\t", self.vhosts, self.users));
        escape_into(self.tag, out);
        let state = if self.down { 'D' } else { 'U' };
        add(
            out,
            format_args!("\t{state}\t{}\n", self.last_updown_change),
        );
    }
}

/// What a connection to a director is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnKind {
    /// It is the left.
    Left,
    /// It is the right.
    Right,
    /// Neither; the other one dialled.
    In,
    /// Neither; we dialled.
    Out,
}

impl fmt::Display for ConnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnKind::Left => "left",
            ConnKind::Right => "right",
            ConnKind::In => "in",
            ConnKind::Out => "out",
        })
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnStatus {
    /// The other one dialled, and has sent so many users.
    Receiving(u64),
    /// We dialled, and have sent so many users.
    Sending(u64),
    /// Its handshake is complete, and so is the ring.
    Synced,
    /// Its handshake is complete.
    Syncing,
}

impl fmt::Display for ConnStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnStatus::Receiving(users) => write!(f, "handshaking - {users} USERs received"),
            ConnStatus::Sending(users) => write!(f, "handshaking - {users} USERs sent"),
            ConnStatus::Synced => f.write_str("synced"),
            ConnStatus::Syncing => f.write_str("syncing"),
        }
    }
}

/// How the ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingStatus {
    /// It was never complete.
    Handshaking,
    /// All directors agree.
    Synced,
    /// They have not for so many seconds.
    Syncing(u64),
}

impl fmt::Display for RingStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingStatus::Handshaking => f.write_str("ring handshaking"),
            RingStatus::Synced => f.write_str("ring synced"),
            RingStatus::Syncing(seconds) => {
                write!(f, "ring syncing - last sync {seconds} secs ago")
            }
        }
    }
}

/// What a connection has seen. Times in seconds since 1970; 0: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// How far it is.
    pub status: ConnStatus,
    /// Last PING to its PONG, milliseconds.
    pub ping_ms: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes that wait to be written.
    pub buffered: u64,
    /// Most bytes that ever waited.
    pub peak: u64,
    /// When something was last read.
    pub last_read: u64,
    /// When something was last written.
    pub last_write: u64,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            self.status,
            self.ping_ms,
            self.bytes_in,
            self.bytes_out,
            self.buffered,
            self.peak,
            self.last_read,
            self.last_write
        )
    }
}

/// A row of DIRECTOR-LIST. Strangers come first, the others in the order of directors; a director has
/// a row for each of its connections, or one.
///
/// `last_failed` is the later of its last failures of both kinds, seconds since 1970; 0: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectorRow {
    /// A connection to a director.
    Connection {
        /// Which.
        director: DirectorId,
        /// What it is to us.
        kind: ConnKind,
        /// See above.
        last_failed: u64,
        /// What the connection has seen.
        traffic: Traffic,
    },
    /// This director.
    Ourselves {
        /// Its name in the ring.
        director: DirectorId,
        /// See above.
        last_failed: u64,
        /// How the ring is.
        ring: RingStatus,
        /// How long the last round of synchronisation took, milliseconds.
        sync_ms: u64,
    },
    /// A director without a connection.
    Unconnected {
        /// Which.
        director: DirectorId,
        /// It was removed.
        removed: bool,
        /// See above.
        last_failed: u64,
    },
    /// Somebody who has not said who it is.
    Stranger(Traffic),
}

impl DirectorRow {
    /// Appends the row.
    pub fn write(&self, out: &mut Vec<u8>) {
        let name = |director: &DirectorId| format!("{}\t{}", ip_text(director.ip), director.port);
        match self {
            DirectorRow::Connection {
                director,
                kind,
                last_failed,
                traffic,
            } => {
                let name = name(director);
                add(
                    out,
                    format_args!("{name}\t{kind}\t{last_failed}\t{traffic}"),
                );
            }
            DirectorRow::Ourselves {
                director,
                last_failed,
                ring,
                sync_ms,
            } => {
                let name = name(director);
                add(
                    out,
                    format_args!("{name}\tself\t{last_failed}\t{ring}\t{sync_ms}"),
                );
            }
            DirectorRow::Unconnected {
                director,
                removed,
                last_failed,
            } => {
                let name = name(director);
                let removed = if *removed { "removed" } else { "" };
                add(out, format_args!("{name}\t{removed}\t{last_failed}\t"));
            }
            DirectorRow::Stranger(traffic) => add(out, format_args!("{traffic}")),
        }
        out.push(b'\n');
    }
}

/// The answer to USER-LOOKUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupRow {
    /// Where the user is, and when it will be forgotten; `None`: it is unknown.
    pub current: Option<(IpAddr, u64)>,
    /// Where the hash ring would send it.
    pub hashed: Option<IpAddr>,
    /// Where the hash ring of the settings would.
    pub initial: Option<IpAddr>,
}

/// What only Homing tells of a user: a name, and a value.
pub type Fact = (String, String);

impl LookupRow {
    /// Appends the row.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_with(&[], out);
    }

    /// Appends the row, with facts in fields of their own, each `name=value`.
    pub fn write_with(&self, facts: &[Fact], out: &mut Vec<u8>) {
        let text = |ip: Option<IpAddr>| ip.map(ip_text).unwrap_or_default();
        let (current, expires) = self.current.unzip();
        let (current, hashed, initial) = (text(current), text(self.hashed), text(self.initial));
        let expires = expires.unwrap_or(0);
        add(
            out,
            format_args!("{current}\t{expires}\t{hashed}\t{initial}"),
        );
        for (name, value) in facts {
            out.push(b'\t');
            escape_into(format!("{name}={value}").as_bytes(), out);
        }
        out.push(b'\n');
    }
}

/// Appends the reply to [`super::Command::Sessions`] and [`super::Command::SessionsLeft`].
pub fn write_count(count: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"OK\t");
    push_number(count, out);
    out.push(b'\n');
}

/// A row of HOMING-DRAIN-LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainRow {
    /// The backend.
    pub ip: IpAddr,
    /// Users a second.
    pub rate: u32,
    /// How it is, a word of docs/protocol/admin.md, drains.
    pub state: String,
    /// Users that have left, or are leaving.
    pub moved: u64,
    /// The backend's weight before; `None`: it had none.
    pub vhosts: Option<u32>,
    /// When it began, seconds since 1970.
    pub begun: u64,
}

impl DrainRow {
    /// Appends the row.
    pub fn write(&self, out: &mut Vec<u8>) {
        let vhosts = self.vhosts.map(|it| it.to_string()).unwrap_or_default();
        let ip = ip_text(self.ip);
        add(out, format_args!("{ip}\t{}\t", self.rate));
        escape_into(self.state.as_bytes(), out);
        let (moved, begun) = (self.moved, self.begun);
        add(out, format_args!("\t{moved}\t{vhosts}\t{begun}\n"));
    }
}

/// A row of HOMING-HEALTH: a check of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRow {
    /// The backend.
    pub ip: IpAddr,
    /// Its tag, empty for none.
    pub tag: String,
    /// Name of the check.
    pub check: String,
    /// `up`, `down` or `unknown`: what the check says here.
    pub state: String,
    /// Since when, seconds since 1970.
    pub since: u64,
    /// Directors that say that the backend has failed.
    pub failed: u32,
    /// Directors that say that it is good.
    pub good: u32,
    /// How many must agree.
    pub quorum: u32,
    /// What was decided about the backend, in one word.
    pub decision: String,
    /// The same in a few words.
    pub reason: String,
    /// Who decides about its state: `auto`, `health` or `hand`.
    pub by: String,
    /// Its weight in the ring.
    pub vhosts: u32,
    /// The weight that it is to have; another one during a slow start.
    pub weight: u32,
    /// Why the last probe failed; empty: it did not.
    pub error: String,
}

impl HealthRow {
    /// Appends the row.
    pub fn write(&self, out: &mut Vec<u8>) {
        let texts = |out: &mut Vec<u8>, texts: &[&str]| {
            for text in texts {
                out.push(b'\t');
                escape_into(text.as_bytes(), out);
            }
        };
        out.extend_from_slice(ip_text(self.ip).as_bytes());
        texts(out, &[&self.tag, &self.check, &self.state]);
        let (since, failed, good, quorum) = (self.since, self.failed, self.good, self.quorum);
        add(out, format_args!("\t{since}\t{failed}\t{good}\t{quorum}"));
        texts(out, &[&self.decision, &self.reason, &self.by]);
        add(out, format_args!("\t{}\t{}", self.vhosts, self.weight));
        texts(out, &[&self.error]);
        out.push(b'\n');
    }
}

/// A row of USER-LIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// User hash.
    pub hash: u32,
    /// When it will be forgotten, seconds since 1970.
    pub expires: u64,
    /// Its backend.
    pub ip: IpAddr,
}

impl UserRow {
    /// Appends the row.
    pub fn write(&self, out: &mut Vec<u8>) {
        let ip = ip_text(self.ip);
        add(out, format_args!("{}\t{}\t{ip}\n", self.hash, self.expires));
    }
}

fn add(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.extend_from_slice(text.to_string().as_bytes());
}
