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
    /// Nothing, but a lookup waits for what has been settled meanwhile: it is to be tried again.
    Settled,
    /// Another director is to be asked.
    Ask,
    /// USER, as it is stored.
    User(Entry),
    /// USER-WEAK: it was marked as weak, and waits for this line to come home.
    Weak(Entry),
}

impl Shard {
    /// A lookup core has noted something about a user: it is new, was refreshed, or needs a
    /// confirmation. What it noted first does not matter, the present state does; all notes up to now
    /// are answered by this.
    pub fn announce(&mut self, key: UserKey, now: Wall, snapshot: &Snapshot) -> Announce {
        // A note that marks nothing is one of a lookup that waits.
        let waits = !self.told(key);
        let nothing = if waits {
            Announce::Settled
        } else {
            Announce::Nothing
        };
        if let Some(entry) = self.confirm(key, now, snapshot) {
            return Announce::Weak(entry);
        }
        let entry = self.table.get_mut(key);
        let Some(entry) = entry.filter(|entry| is_live(entry, now, snapshot)) else {
            return if snapshot.asks {
                Announce::Ask
            } else {
                nothing
            };
        };
        let near = snapshot.asks && snapshot.expiry.is_near(entry.stamp(), now);
        if near && !entry.is_weak() && !entry.is_killing() {
            return Announce::Ask;
        }
        if entry.is_weak() || entry.is_killing() {
            return Announce::Nothing;
        }
        if waits {
            return nothing;
        }
        Announce::User(*entry)
    }

    /// No note about this user waits any more: the next refresh must leave one. Whether one waited.
    pub fn told(&mut self, key: UserKey) -> bool {
        let Some(entry) = self.table.get_mut(key) else {
            return false;
        };
        let queued = entry.is_queued();
        entry.set_queued(false);
        queued
    }

    /// All users whose time is not over.
    pub fn living(&self, now: Wall, snapshot: &Snapshot) -> impl Iterator<Item = &Entry> {
        self.entries()
            .filter(move |entry| is_live(entry, now, snapshot))
    }
}
