//! One user's entry: 16 bytes.

use crate::core::{BackendSlot, TagId, UserHash, UserKey, Wall};

/// Entries count seconds from here, so that 32 bits last until 2160.
const STAMP_BASE: u64 = 1_700_000_000;

/// What a user table knows of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 0 marks a free place; no user has that hash.
    hash: u32,
    stamp: u32,
    backend: u16,
    tag: u16,
    flags: u16,
    /// Director that made the assignment; 0: this one.
    decided_by: u16,
}

/// The assignment is being confirmed round the ring; no logins meanwhile.
const WEAK: u16 = 1;
/// A move or kick is under way; no logins and no expiry meanwhile.
const KILLING: u16 = 2;
/// A note about this entry is on its way to the ring core.
const QUEUED: u16 = 4;

impl Entry {
    /// A free place.
    pub const EMPTY: Entry = Entry {
        hash: 0,
        stamp: 0,
        backend: 0,
        tag: 0,
        flags: 0,
        decided_by: 0,
    };

    /// A user just assigned. `stamp` is when; see [`Entry::set_stamp`].
    pub fn new(key: UserKey, backend: BackendSlot, stamp: Wall) -> Entry {
        let mut entry = Entry {
            hash: key.hash.0,
            backend: backend.0,
            tag: key.tag.0,
            ..Entry::EMPTY
        };
        entry.set_stamp(stamp);
        entry
    }

    /// Whether this is a free place.
    pub fn is_empty(&self) -> bool {
        self.hash == 0
    }

    /// The user's identity.
    pub fn key(&self) -> UserKey {
        UserKey {
            tag: TagId(self.tag),
            hash: UserHash(self.hash),
        }
    }

    /// The user's backend.
    pub fn backend(&self) -> BackendSlot {
        BackendSlot(self.backend)
    }

    /// Points the user at another backend.
    pub fn set_backend(&mut self, backend: BackendSlot) {
        self.backend = backend.0;
    }

    /// When the user was last refreshed.
    pub fn stamp(&self) -> Wall {
        Wall(STAMP_BASE + u64::from(self.stamp))
    }

    /// Sets the refresh time; times before November 2023 or after 2159 are clamped.
    pub fn set_stamp(&mut self, stamp: Wall) {
        let since = stamp.0.saturating_sub(STAMP_BASE).min(u64::from(u32::MAX));
        self.stamp = u32::try_from(since).unwrap_or(u32::MAX);
    }

    /// Whether the assignment is being confirmed round the ring.
    pub fn is_weak(&self) -> bool {
        self.flags & WEAK != 0
    }

    /// Marks or unmarks the assignment as being confirmed.
    pub fn set_weak(&mut self, weak: bool) {
        self.set_flag(WEAK, weak);
    }

    /// Whether a move or kick of this user is under way.
    pub fn is_killing(&self) -> bool {
        self.flags & KILLING != 0
    }

    /// Marks or unmarks a move or kick under way.
    pub fn set_killing(&mut self, killing: bool) {
        self.set_flag(KILLING, killing);
    }

    /// Whether a note about this entry waits for the ring core.
    pub fn is_queued(&self) -> bool {
        self.flags & QUEUED != 0
    }

    /// Marks or unmarks a waiting note.
    pub fn set_queued(&mut self, queued: bool) {
        self.set_flag(QUEUED, queued);
    }

    /// Which director made the assignment, by its number in the ring core; 0: this one.
    pub fn decided_by(&self) -> u16 {
        self.decided_by
    }

    /// Remembers which director made the assignment.
    pub fn set_decided_by(&mut self, director: u16) {
        self.decided_by = director;
    }

    fn set_flag(&mut self, flag: u16, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}
