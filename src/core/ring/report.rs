//! What operators are told of the ring: the rows of DIRECTOR-LIST (docs/protocol/admin.md, rows).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::conn::Conn;
use super::{ConnId, Draining, Now, Ring, Table};
use crate::core::members::Member;
use crate::core::moves::Moving;
use crate::core::users::{Entry, shard_of};
use crate::core::{Mono, UserKey, Wall};
use crate::wire::admin::{ConnKind, ConnStatus, DirectorRow, RingStatus, Traffic};
use crate::wire::ring::{DirectorId, Role};

/// What the ring knows of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its entry; `None`: it is unknown.
    pub entry: Option<Entry>,
    /// Who placed it, or moved it last; `None`: this director.
    pub decider: Option<DirectorId>,
    /// Its move, and for how many seconds it has been under way.
    pub moving: Option<(Moving, u64)>,
    /// The drain of its backend.
    pub drain: Option<Draining>,
}

/// Where this director stands, for the health of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Around {
    /// Who we are.
    pub me: DirectorId,
    /// All directors that are not removed, this one included.
    pub directors: BTreeSet<DirectorId>,
    /// Our neighbours, and whether they have said that they are Homing.
    pub neighbours: Vec<(DirectorId, bool)>,
    /// The ring has been complete.
    pub handshaked: bool,
    /// Both neighbours are there, or there are no other directors.
    pub joined: bool,
    /// Host names of backends.
    pub names: BTreeMap<IpAddr, String>,
}

/// The rows, in their order.
pub type Report = Vec<DirectorRow>;

const MILLISECOND: u64 = Mono::SECOND / 1000;

/// What is counted for each connection. Bytes are those of lines: TLS adds its own to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Users that the handshake has told of, here or there.
    pub users: u64,
    /// From the last PING to its PONG, nanoseconds.
    pub ping: u64,
    bytes_in: u64,
    /// Bytes that are written, or wait for it.
    put: u64,
    bytes_out: u64,
    peak: u64,
    last_read: u64,
    last_write: u64,
}

impl Tally {
    pub(super) fn read(&mut self, bytes: usize, now: Wall) {
        self.bytes_in += bytes as u64;
        self.last_read = now.0;
    }

    /// Bytes that the other end was told, or is about to be.
    pub(super) fn told(&self) -> u64 {
        self.put
    }

    /// More is to be written; so much waits now.
    pub(super) fn added(&mut self, bytes: usize, waiting: usize) {
        self.put += bytes as u64;
        self.peak = self.peak.max(waiting as u64);
    }

    /// So much still waits.
    pub(super) fn written(&mut self, waiting: usize, now: Wall) {
        let out = self.put.saturating_sub(waiting as u64);
        if out > self.bytes_out {
            self.bytes_out = out;
            self.last_write = now.0;
        }
    }
}

impl Ring {
    /// Where this director stands.
    pub fn around(&self) -> Around {
        let members = self.members.iter().filter(|member| !member.removed);
        let directors: BTreeSet<DirectorId> = members.map(|member| member.id).collect();
        let neighbours = [self.left, self.right].into_iter().flatten();
        let neighbours = neighbours.filter_map(|id| {
            let conn = self.conns.get(id)?;
            Some((conn.director?, conn.homing > 0))
        });
        let named = self.director.backends().iter();
        let named = named.filter_map(|it| Some((it.ip, it.name.clone()?)));
        Around {
            me: self.members.me(),
            joined: directors.len() == 1 || (self.left.is_some() && self.right.is_some()),
            directors,
            neighbours: neighbours.collect(),
            handshaked: self.standing.handshaked,
            names: named.collect(),
        }
    }

    /// The ring as it is now: whoever has not said who it is, then all directors in their order.
    pub fn report(&self, now: Now) -> Report {
        let mut strangers = Vec::new();
        let mut known: BTreeMap<DirectorId, Vec<(ConnId, &Conn)>> = BTreeMap::new();
        for (&id, conn) in &self.conns.map {
            match conn.director {
                Some(director) => known.entry(director).or_default().push((id, conn)),
                None => strangers.push(DirectorRow::Stranger(traffic(conn))),
            }
        }
        let members = self.members.iter();
        let rows = members.flat_map(|member| {
            let conns = known.remove(&member.id).unwrap_or_default();
            self.rows_of(member, &conns, now)
        });
        strangers.into_iter().chain(rows).collect()
    }

    /// What is known of a user. Changes nothing.
    pub fn whereabouts<T: Table>(&self, key: UserKey, now: Now, table: &mut T) -> Whereabouts {
        let entry = table.with(shard_of(key.hash), |shard| {
            shard.peek(key, now.wall, &self.snapshot).copied()
        });
        let number = entry.map_or(0, |entry| entry.decided_by());
        let moving = self.moves.iter().find(|moving| moving.key == key);
        let ip = entry.and_then(|entry| Some(self.snapshot.backend(entry.backend())?.ip));
        let mut drains = self.drains().into_iter();
        Whereabouts {
            entry,
            decider: self.decider(number),
            moving: moving.map(|it| (it, now.mono.since(it.since) / Mono::SECOND)),
            drain: drains.find(|drain| Some(drain.ip) == ip),
        }
    }

    fn rows_of(&self, member: &Member, conns: &[(ConnId, &Conn)], now: Now) -> Vec<DirectorRow> {
        let director = member.id;
        let failed = member.last_failed();
        let last_failed = failed.map_or(0, |at| wall_of(at, now));
        if director == self.members.me() {
            return vec![DirectorRow::Ourselves {
                director,
                last_failed,
                ring: self.ring_status(now.wall),
                sync_ms: self.round.took / MILLISECOND,
            }];
        }
        if conns.is_empty() {
            return vec![DirectorRow::Unconnected {
                director,
                removed: member.removed,
                last_failed,
            }];
        }
        let row = |&(id, conn): &(ConnId, &Conn)| DirectorRow::Connection {
            director,
            kind: self.kind_of(id, conn),
            last_failed,
            traffic: traffic(conn),
        };
        conns.iter().map(row).collect()
    }

    fn kind_of(&self, id: ConnId, conn: &Conn) -> ConnKind {
        if self.left == Some(id) {
            ConnKind::Left
        } else if self.right == Some(id) {
            ConnKind::Right
        } else if conn.is_dialler() {
            ConnKind::Out
        } else {
            ConnKind::In
        }
    }

    fn ring_status(&self, now: Wall) -> RingStatus {
        if !self.standing.handshaked {
            return RingStatus::Handshaking;
        }
        if self.standing.synced {
            return RingStatus::Synced;
        }
        let since = self.standing.sync_since.unwrap_or(now);
        RingStatus::Syncing(now.0.saturating_sub(since.0))
    }
}

fn traffic(conn: &Conn) -> Traffic {
    let tally = &conn.tally;
    Traffic {
        status: match (conn.established, conn.role) {
            (None, Role::Acceptor) => ConnStatus::Receiving(tally.users),
            (None, Role::Dialler) => ConnStatus::Sending(tally.users),
            (Some(_), _) if conn.synced => ConnStatus::Synced,
            (Some(_), _) => ConnStatus::Syncing,
        },
        ping_ms: tally.ping / MILLISECOND,
        bytes_in: tally.bytes_in,
        bytes_out: tally.bytes_out,
        buffered: conn.waiting() as u64,
        peak: tally.peak,
        last_read: tally.last_read,
        last_write: tally.last_write,
    }
}

/// When something was that the other clock saw.
fn wall_of(at: Mono, now: Now) -> u64 {
    now.wall.0.saturating_sub(now.mono.since(at) / Mono::SECOND)
}
