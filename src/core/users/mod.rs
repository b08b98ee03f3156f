//! The user table: which backend every active user lives on.
//!
//! It is split into [`Shard`]s by user hash; `shell` puts each behind a lock of its own. Inside a
//! shard everything is a total function of (entry, event, now, snapshot).

mod announce;
mod entry;
mod hear;
mod moving;
mod shard;
mod table;

pub use announce::Announce;
pub use entry::Entry;
pub use hear::{Audience, Heard, Hearing, Outcome, Tell, WeakCopy};
pub use moving::{Ordered, Started};
pub use shard::{Decision, Login, Note, Refreshed, Shard};
pub use table::Table;

use crate::core::{UserHash, Wall};

/// Shards of the user table. Many more than cores, so that two cores rarely want the same lock;
/// at 10 million users a shard holds ten thousand, whose growth is a copy of 200 kB.
pub const SHARDS: usize = 1 << SHARD_BITS;

const SHARD_BITS: u32 = 10;

/// The shard a user belongs to. The hash is one of MD5, so its high bits are spread evenly.
pub fn shard_of(hash: UserHash) -> usize {
    (hash.0 >> (u32::BITS - SHARD_BITS)) as usize
}

/// The times after which a user is forgotten or must be confirmed, all in seconds
/// (docs/protocol/login.md, expiry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    expire: u64,
    near: u64,
}

/// A weak user outlives its expiry by this many seconds, so that a confirmation that is still on
/// its way round the ring finds it.
const WEAK_EXTRA: u64 = 30;

impl Expiry {
    /// From `director_user_expire` in seconds. The near-expiry window is a tenth of it, but at
    /// least 3 s and at most 30 s.
    pub fn new(expire_secs: u32) -> Expiry {
        let expire = u64::from(expire_secs);
        Expiry {
            expire,
            near: (expire / 10).clamp(3, 30),
        }
    }

    /// `director_user_expire` in seconds.
    pub fn seconds(self) -> u64 {
        self.expire
    }

    /// Whether a user refreshed at `stamp` is forgotten at `now`.
    pub fn is_over(self, stamp: Wall, now: Wall) -> bool {
        stamp.0 + self.expire <= now.0
    }

    /// Whether a user refreshed at `stamp` is so near its end that another director, whose clock
    /// runs a little ahead, may have forgotten it.
    pub fn is_near(self, stamp: Wall, now: Wall) -> bool {
        stamp.0 + self.expire.saturating_sub(self.near) < now.0
    }

    /// The earliest time stamp that is not near its end.
    pub(crate) fn nearest(self, now: Wall) -> Wall {
        Wall(now.0.saturating_sub(self.expire.saturating_sub(self.near)))
    }

    /// Whether a user refreshed at `stamp` was here so lately that nobody can have forgotten it.
    pub fn is_recent(self, stamp: Wall, now: Wall) -> bool {
        stamp.0 + self.expire / 2 >= now.0
    }

    fn is_weak_over(self, stamp: Wall, now: Wall) -> bool {
        stamp.0 + self.expire + WEAK_EXTRA <= now.0
    }
}

#[cfg(test)]
mod tests;
