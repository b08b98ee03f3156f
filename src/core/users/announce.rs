//! What the ring is told of a user that a lookup core has noted.

use super::shard::is_live;
use super::{Entry, Shard};
use crate::core::snapshot::Snapshot;
use crate::core::{UserKey, Wall};

/// What to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// Nothing: it has expired meanwhile, or others are deciding about it.
    Nothing,
    /// Another director is to be asked.
    Ask,
    /// USER, as it is stored.
    User(Entry),
    /// USER-WEAK: it was marked as weak, and waits for this line to come home.
    Weak(Entry),
}

/// What to tell of a user that is not there.
fn unknown(snapshot: &Snapshot) -> Announce {
    if snapshot.asks {
        Announce::Ask
    } else {
        Announce::Nothing
    }
}

impl Shard {
    /// A lookup core has noted something about a user: it is new, was refreshed, or needs a
    /// confirmation. What it noted first does not matter, the present state does; all notes up to now
    /// are answered by this.
    pub fn announce(&mut self, key: UserKey, now: Wall, snapshot: &Snapshot) -> Announce {
        self.told(key);
        if let Some(entry) = self.confirm(key, now, snapshot) {
            return Announce::Weak(entry);
        }
        let Some(entry) = self.table.get_mut(key) else {
            return unknown(snapshot);
        };
        let near = snapshot.asks && snapshot.expiry.is_near(entry.stamp(), now);
        if near && !entry.is_weak() && !entry.is_killing() {
            return Announce::Ask;
        }
        if entry.is_weak() || entry.is_killing() || !is_live(entry, now, snapshot) {
            return Announce::Nothing;
        }
        Announce::User(*entry)
    }

    /// No note about this user waits any more: the next refresh must leave one.
    pub fn told(&mut self, key: UserKey) {
        if let Some(entry) = self.table.get_mut(key) {
            entry.set_queued(false);
        }
    }

    /// All users whose time is not over.
    pub fn living(&self, now: Wall, snapshot: &Snapshot) -> impl Iterator<Item = &Entry> {
        self.entries()
            .filter(move |entry| is_live(entry, now, snapshot))
    }
}
