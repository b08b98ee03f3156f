//! Users for a director that we have dialled, slice by slice (docs/protocol/ring.md, connections).

use std::net::IpAddr;

use super::conn::Conn;
use super::{ConnId, Ring, Table};
use crate::core::snapshot::Snapshot;
use crate::core::users::{Entry, SHARDS};
use crate::wire::ring::{Command, HOMING_USERS, HandUser, HandUsers, Hash, MINOR_OPTIONS};

/// Users are written until so many bytes wait; more when they are gone.
const SLICE: usize = 128 * 1024;

impl Ring {
    /// Writes users to every connection that waits for them and has room.
    pub(super) fn feed<T: Table>(&mut self, table: &mut T) {
        let ids = self.conns.ids(|conn| conn.cursor.is_some());
        self.feeding = !ids.is_empty();
        for id in ids {
            self.feed_one(id, table);
        }
    }

    /// A director is done with telling us its users. One to the right that is joining as we are has been
    /// told ours before, and nobody else would tell it these: all are told once more. What it waits for
    /// to be in a complete ring is its own SYNC, which has to pass us, and comes behind them.
    ///
    /// Between Homing directors only; a Dovecot does not say that it is joining.
    pub(super) fn feed_again(&mut self, left: ConnId) {
        let handed = |conn: &Conn| conn.tally.users > 0;
        if self.standing.handshaked || !self.conns.get(left).is_some_and(handed) {
            return;
        }
        for conn in self.conns.map.values_mut() {
            let is_joining = conn.is_dialler() && conn.joining && conn.homing >= HOMING_USERS;
            if is_joining && conn.offered {
                conn.again |= conn.cursor.is_none();
                conn.cursor = Some(0);
                self.feeding = true;
            }
        }
    }

    fn feed_one<T: Table>(&mut self, id: ConnId, table: &mut T) {
        let now = self.now;
        let snapshot = self.fresh(table);
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(conn) = self.conns.get_mut(id)
            && let Some(shard) = conn.cursor
            && conn.waiting() < SLICE
        {
            conn.progress = now.mono;
            if shard == SHARDS {
                conn.cursor = None;
                if std::mem::take(&mut conn.again) {
                    return;
                }
                conn.all_told = Some(now.mono);
                // An older peer cannot say whether it hashes consistently, and is never done.
                if conn.peer_minor >= MINOR_OPTIONS {
                    self.send(id, &Command::Options);
                    self.send(id, &Command::Done);
                }
                return;
            }
            conn.cursor = Some(shard + 1);
            entries.clear();
            // The lock is held for a copy only.
            table.with(shard, |shard| {
                entries.extend(shard.living(now.wall, &snapshot).copied());
            });
            let ring = self.standing.min_version;
            if conn.homing > 0 {
                if conn.again {
                    // Whose place is being confirmed is told of when it is.
                    entries.retain(|entry| !entry.is_weak());
                }
                write_densely(conn, &mut entries, &snapshot, ring);
            } else {
                for entry in &entries {
                    write_one(conn, entry, &snapshot, ring);
                }
            }
        }
    }
}

fn write(conn: &mut Conn, command: &Command<'_>, ring: u32) {
    let written = conn.write(command, ring);
    debug_assert!(written.is_ok(), "lines of users fit");
}

fn write_one(conn: &mut Conn, entry: &Entry, snapshot: &Snapshot, ring: u32) {
    let Some((hash, host, time)) = user_of(entry, snapshot) else {
        return;
    };
    let user = HandUser {
        hash,
        host,
        time,
        weak: entry.is_weak(),
    };
    write(conn, &Command::HandUser(user), ring);
    conn.tally.users += 1;
}

/// Users of one backend and of nearly one time go into one line.
fn write_densely(conn: &mut Conn, entries: &mut [Entry], snapshot: &Snapshot, ring: u32) {
    entries.sort_unstable_by_key(|entry| (entry.backend(), entry.stamp()));
    let mut line: Option<HandUsers<'static>> = None;
    for entry in entries.iter() {
        if entry.is_weak() {
            write_one(conn, entry, snapshot, ring);
            continue;
        }
        let Some((hash, host, time)) = user_of(entry, snapshot) else {
            continue;
        };
        conn.tally.users += 1;
        let fits = line
            .as_mut()
            .is_some_and(|line| line.host == host && line.push(hash, time));
        if !fits {
            let mut next = HandUsers::new(host, time);
            next.push(hash, time);
            if let Some(full) = line.replace(next) {
                write_users(conn, full, ring);
            }
        }
    }
    if let Some(last) = line {
        write_users(conn, last, ring);
    }
}

fn write_users(conn: &mut Conn, users: HandUsers<'static>, ring: u32) {
    let command = if conn.again {
        Command::Users(users)
    } else {
        Command::HandUsers(users)
    };
    write(conn, &command, ring);
}

fn user_of(entry: &Entry, snapshot: &Snapshot) -> Option<(Hash, IpAddr, u32)> {
    let backend = snapshot.backend(entry.backend())?;
    let time = u32::try_from(entry.stamp().0).unwrap_or(u32::MAX);
    Some((Hash::new(entry.key().hash.0)?, backend.ip, time))
}
