//! The rows of lists, from what all cores share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::core::ip_text::{ip_order, ip_text};
use crate::core::ring::{DrainState, Draining, Whereabouts};
use crate::core::snapshot::{BackendView, Snapshot};
use crate::core::users::Entry;
use crate::core::{BackendSlot, UserHash, UserKey};
use crate::wire::admin::{
    DrainRow, Fact, HealthRow, HostRow, LookupRow, UserRow, write_removed_host,
};

/// HOST-LIST. `users`: how many are on each slot.
pub fn write_hosts(snapshot: &Snapshot, users: &[u64], out: &mut Vec<u8>) {
    let mut names: Vec<&[u8]> = vec![b""; snapshot.tag_count()];
    for (name, tag) in snapshot.tags.iter() {
        if let Some(place) = names.get_mut(usize::from(tag.0)) {
            *place = name;
        }
    }
    let mut backends: Vec<(usize, &BackendView)> = snapshot
        .backends
        .iter()
        .enumerate()
        .filter_map(|(slot, backend)| Some((slot, backend.as_ref()?)))
        .collect();
    backends.sort_by(|(_, one), (_, other)| ip_order(one.ip, other.ip));
    for (slot, backend) in backends {
        let shown = backend.shown;
        let row = HostRow {
            ip: backend.ip,
            vhosts: shown.vhosts,
            users: users.get(slot).copied().unwrap_or(0),
            tag: names.get(usize::from(shown.tag.0)).unwrap_or(&&b""[..]),
            down: shown.down,
            last_updown_change: shown.last_updown_change.0,
        };
        row.write(out);
    }
}

/// HOST-LIST-REMOVED: those of the settings, in their order, that are no backends now.
pub fn write_removed_hosts(configured: &[IpAddr], snapshot: &Snapshot, out: &mut Vec<u8>) {
    let known = |ip: &IpAddr| snapshot.backends.iter().flatten().any(|it| it.ip == *ip);
    for &ip in configured.iter().filter(|ip| !known(ip)) {
        write_removed_host(ip, out);
    }
}

/// HOMING-HEALTH.
pub fn write_health(rows: &[crate::core::health::Row], out: &mut Vec<u8>) {
    for row in rows {
        HealthRow {
            ip: row.ip,
            tag: String::from_utf8_lossy(&row.tag).into_owned(),
            check: row.check.clone(),
            state: row.state.word().to_owned(),
            since: row.since.0,
            failed: row.tally.failed,
            good: row.tally.good,
            quorum: row.quorum,
            decision: row.decision.word().to_owned(),
            reason: row.decision.to_string(),
            by: row.set_by().to_owned(),
            vhosts: row.vhosts,
            weight: row.mark.weight.unwrap_or(row.vhosts),
            error: row.error.clone().unwrap_or_default(),
        }
        .write(out);
    }
}

/// A word of docs/protocol/admin.md, drains.
fn word(state: DrainState) -> &'static str {
    match state {
        DrainState::Draining => "draining",
        DrainState::Full => "full",
        DrainState::Unsynced => "unsynced",
        DrainState::Nowhere => "nowhere",
        DrainState::Ending => "ending",
        DrainState::Done => "done",
    }
}

/// What a USER-LOOKUP is told that asks why (docs/protocol/admin.md, questions to homing only).
pub fn facts(hash: UserHash, known: Option<&Whereabouts>) -> Vec<Fact> {
    let nothing = Whereabouts::default();
    let known = known.unwrap_or(&nothing);
    let mut facts = vec![("hash", hash.0.to_string())];
    let state = match (known.entry, &known.moving) {
        (None, _) => "unknown",
        (Some(entry), _) if !entry.is_killing() && entry.is_weak() => "weak",
        (Some(entry), _) if !entry.is_killing() => "normal",
        // Nobody can take it: its sessions end, and it is forgotten.
        (Some(_), Some((moving, _))) if moving.old == Some(moving.new) => "ending",
        (Some(_), _) => "moving",
    };
    facts.push(("state", state.to_owned()));
    if let Some((moving, seconds)) = &known.moving {
        let from = moving.old.map_or_else(String::new, ip_text);
        facts.push(("move", moving.state.to_string()));
        facts.push(("moving seconds", seconds.to_string()));
        facts.push(("moves from", from));
        facts.push(("moves to", ip_text(moving.new)));
        let by = if moving.ours {
            "this director"
        } else {
            "another director"
        };
        facts.push(("moved by", by.to_owned()));
    }
    if let Some(entry) = known.entry {
        facts.push(("refreshed", entry.stamp().0.to_string()));
        let decider = match known.decider {
            Some(id) => SocketAddr::new(id.ip, id.port).to_string(),
            None => "this director".to_owned(),
        };
        facts.push(("decided by", decider));
    }
    if let Some(drain) = &known.drain {
        facts.push(("drain", word(drain.state).to_owned()));
    }
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    facts.into_iter().map(owned).collect()
}

/// HOMING-DRAIN-LIST.
pub fn write_drains(drains: &[Draining], out: &mut Vec<u8>) {
    for drain in drains {
        let row = DrainRow {
            ip: drain.ip,
            rate: drain.rate.get(),
            state: word(drain.state).to_owned(),
            moved: drain.moved,
            vhosts: drain.vhosts,
            begun: drain.begun.0,
        };
        row.write(out);
    }
}

/// USER-LOOKUP. `initial`: the snapshot of the settings as they were at the start. `peek` looks into the
/// user table.
pub fn write_lookup(
    (hash, tag): (UserHash, &[u8]),
    snapshot: &Snapshot,
    initial: &Snapshot,
    peek: impl FnOnce(UserKey) -> Option<Entry>,
    facts: &[Fact],
    out: &mut Vec<u8>,
) {
    let chosen = |snapshot: &Snapshot| {
        let tag = snapshot.tag(tag)?;
        let slot = snapshot.choose(UserKey { tag, hash })?;
        Some(snapshot.backend(slot)?.ip)
    };
    let entry = snapshot
        .tag(tag)
        .and_then(|tag| peek(UserKey { tag, hash }));
    let current = entry.and_then(|entry| {
        let backend = snapshot.backend(entry.backend())?;
        Some((backend.ip, expires(&entry, snapshot)))
    });
    let row = LookupRow {
        current,
        hashed: chosen(snapshot),
        initial: chosen(initial),
    };
    row.write_with(facts, out);
}

fn expires(entry: &Entry, snapshot: &Snapshot) -> u64 {
    entry.stamp().0 + snapshot.expiry.seconds()
}

/// USER-LIST: a copy of the entries, 16 bytes for each user, which is written as the client reads.
///
/// Tags come in the order in which they were first seen, and in each the users whose last refresh is the
/// longest ago come first, those of the same second by their hash.
#[derive(Debug)]
pub struct UserList {
    snapshot: Arc<Snapshot>,
    /// Only users on this slot.
    only: Filter,
    users: Vec<Entry>,
    written: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    All,
    On(BackendSlot),
    /// There is no such backend.
    Nobody,
}

impl UserList {
    /// An empty one, for the users of a backend or all. `about`: how many users there are.
    pub fn new(snapshot: Arc<Snapshot>, host: Option<IpAddr>, about: usize) -> UserList {
        let find = |ip: IpAddr| {
            let mut backends = snapshot.backends.iter();
            let at = backends.position(|it| it.as_ref().is_some_and(|it| it.ip == ip))?;
            u16::try_from(at).ok().map(BackendSlot)
        };
        let only = match host {
            None => Filter::All,
            Some(ip) => find(ip).map_or(Filter::Nobody, Filter::On),
        };
        let about = if only == Filter::All { about } else { 0 };
        UserList {
            snapshot,
            only,
            users: Vec::with_capacity(about),
            written: 0,
        }
    }

    /// The snapshot by which users are found.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Whether nobody can be in it.
    pub fn is_vain(&self) -> bool {
        self.only == Filter::Nobody
    }

    /// Users that belong into the list, or not.
    pub fn add(&mut self, entries: &[Entry]) {
        match self.only {
            Filter::All => self.users.extend_from_slice(entries),
            Filter::On(slot) => {
                let on = entries.iter().filter(|entry| entry.backend() == slot);
                self.users.extend(on);
            }
            Filter::Nobody => {}
        }
    }

    /// All users were added.
    pub fn sort(&mut self) {
        self.users
            .sort_unstable_by_key(|entry| (entry.key().tag, entry.stamp(), entry.key().hash));
    }

    /// How many users it holds in memory.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Appends the next rows, at most `most`. False: there are no more.
    pub fn write(&mut self, most: usize, out: &mut Vec<u8>) -> bool {
        let end = self.users.len().min(self.written + most);
        for entry in &self.users[self.written..end] {
            let Some(backend) = self.snapshot.backend(entry.backend()) else {
                continue;
            };
            let row = UserRow {
                hash: entry.key().hash.0,
                expires: expires(entry, &self.snapshot),
                ip: backend.ip,
            };
            row.write(out);
        }
        self.written = end;
        end < self.users.len()
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
