//! The vocabulary of the director's decisions. Pure: time, seeds and events come in as values,
//! effects go out as values.

pub mod backends;
pub mod hash_ring;
pub mod ip_text;
pub mod user_hash;

/// First 32 bits of MD5 over the expanded `director_username_hash`; never 0
/// (docs/protocol/placement.md, user hash).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserHash(pub u32);

/// Index of a backend in a [`snapshot`](self) and in user entries. Slots of removed backends are
/// reused only after no user entry names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendSlot(pub u16);

/// Index of a director tag; 0 is the empty tag, i.e. "no tag".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(pub u16);

/// Wall clock, whole seconds since 1970. For user time stamps only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// Monotonic clock, nanoseconds since an arbitrary start. For timeouts only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);
