//! The vocabulary of the director's decisions, and the decisions.
//!
//! Pure: no socket, clock, random number, thread, lock, async or unsafe code. Time, seeds and
//! events come in as values, effects go out as values, so that production and a simulator run the
//! same code. `LIFECYCLE.md` beside this file tells the life of a login from beginning to end.
//!
//! | module | what it decides |
//! |---|---|
//! | [`user_hash`] | which number a user name has |
//! | [`ip_text`] | how an address is written, and compared |
//! | [`backends`] | the list of backends, its hash, its slots |
//! | [`director`] | what is decided once for all cores |
//! | [`members`] | the directors of a ring, in their order |
//! | [`moves`] | how a user moves to another backend, and everybody waits until it can |
//! | [`names`] | what becomes of backends whose host name has other addresses |
//! | [`health`] | which backends do not work, and what is ordered then |
//! | [`hash_ring`] | which backend a new user gets |
//! | [`admission`] | how many new users are let in |
//! | [`snapshot`] | what every lookup reads: backends, rings, ring state |
//! | [`users`] | the user table: who lives where, since when, in which state |
//! | [`lookup`] | what an auth reply asks for, and how the answer is written |
//! | [`parking`] | lookups that must wait |
//! | [`ring`] | the machine of the director ring |
//! | [`sessions`] | how sessions are ended |
//! | [`state`] | backends and users in bytes, for a start after a power cut |

use std::fmt;

pub mod admission;
pub mod backends;
pub mod director;
pub mod hash_ring;
pub mod health;
pub mod lookup;
pub mod members;
pub mod moves;
pub mod names;
pub mod parking;
pub mod ring;
pub mod sessions;
pub mod snapshot;
pub mod state;
pub mod user_hash;
pub mod users;

pub use crate::wire::ip_text;

/// First 32 bits of MD5 over the expanded `director_username_hash`; never 0
/// (docs/protocol/placement.md, user hash).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserHash(pub u32);

/// Index of a backend in a [`snapshot::Snapshot`] and in user entries. Slots of removed backends
/// are reused only after no user entry names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendSlot(pub u16);

/// Index of a director tag; 0 is the empty tag, i.e. "no tag".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(pub u16);

/// Wall clock, whole seconds since 1970. For user time stamps only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// Monotonic clock, nanoseconds since an arbitrary start. For timeouts only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Nanoseconds of a second.
    pub const SECOND: u64 = 1_000_000_000;

    /// So many nanoseconds later.
    #[must_use]
    pub fn after(self, nanos: u64) -> Mono {
        Mono(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to `self`, 0 when the order is the other way round.
    pub fn since(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A user's identity: the hash under one tag. Names that share a hash share a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey {
    /// Director tag.
    pub tag: TagId,
    /// User hash.
    pub hash: UserHash,
}

/// Why a lookup waits (docs/protocol/login.md, delays). The words are those of Dovecot's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DelayReason {
    /// No ring handshake has finished since this director started.
    NotHandshaked,
    /// The user must be assigned or confirmed, and the ring is not synced.
    NotSynced,
    /// The assignment is being confirmed round the ring.
    Weak,
    /// The user is being moved or its sessions are being ended.
    Killing,
    /// The tag has no usable backend.
    NoBackend,
}

impl DelayReason {
    /// Every reason, in the order of [`DelayReason::index`].
    pub const ALL: [DelayReason; 5] = [
        DelayReason::NotHandshaked,
        DelayReason::NotSynced,
        DelayReason::Weak,
        DelayReason::Killing,
        DelayReason::NoBackend,
    ];

    /// Position in [`DelayReason::ALL`], for counters by reason.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DelayReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DelayReason::NotHandshaked => "ring not handshaked",
            DelayReason::NotSynced => "ring not synced",
            DelayReason::Weak => "weak user",
            DelayReason::Killing => "kill waiting",
            DelayReason::NoBackend => "no hosts",
        })
    }
}

/// Why a new user is refused at once with a temporary failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// `user_table_limit` users are known already.
    TableFull,
    /// More new users per second than `new_user_rate`.
    TooManyNewUsers,
}

impl Refusal {
    /// Every refusal, in the order of [`Refusal::index`].
    pub const ALL: [Refusal; 2] = [Refusal::TableFull, Refusal::TooManyNewUsers];

    /// Position in [`Refusal::ALL`], for counters by cause.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::TableFull => "user table is full (user_table_limit)",
            Refusal::TooManyNewUsers => "too many new users per second (new_user_rate)",
        })
    }
}
