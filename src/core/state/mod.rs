//! A director's state in bytes: backends and users, for a file that outlives a power cut. Nothing in it
//! belongs to one process or one machine's byte order, so that it can as well go from process to process.
//!
//! ```text
//! "HOMSTATE", version u32
//! section*: kind [u8; 4], length u32, payload, CRC-32 of kind, length and payload u32
//! ```
//!
//! All numbers are little-endian. Sections, in this order:
//!
//! | kind | how many | payload |
//! |---|---|---|
//! | `HEAD` | 1 | when u64, seconds since 1970, `director_user_expire` u32, `auth_master_user_separator` u16 (256 + byte; 0: none), `director_username_hash` text |
//! | `BACK` | any | backends: length of the rest u16, weight u32, flags u8 (1 down, 2 a mark follows), time of the last change of up and down u64, family u8 (4 or 6), address, tag text, host name text, the mark if there is one; what follows in that length is for later versions |
//! | `USER` | any | groups: index of the backend among all u16, users u16, then for each user its hash u32 and when it was last refreshed u32, seconds since 1970 |
//! | `LAST` | 1 | backends u32, users u64 |
//!
//! A mark (docs/health.md) is: kind u8 (0 auto, 1 held, 2 falling, 3 down, 4 and more rising at step 0 and more),
//! the operator's weight u32 (2³²−1: not another one), since when u64, version u64, and who has set it: family u8,
//! address, port u16.
//!
//! A text is its length u16 and its bytes. Sections of other kinds are skipped, so that a later version can
//! add some without changing the version's number. A section has at most [`MAX_SECTION`] bytes. There is
//! nothing behind `LAST`: what has none was cut off.

mod decode;
mod encode;

use std::net::IpAddr;

pub use decode::{Decoder, Fault};
pub use encode::{Encoder, Placed};

use super::backends::HostLine;
use super::user_hash::Template;
use super::{UserHash, Wall};
use crate::wire::health::{Kind, MarkLine};

/// What a state begins with.
pub const MAGIC: &[u8; 8] = b"HOMSTATE";

/// The version that is written; others are not read.
pub const VERSION: u32 = 1;

/// Most bytes of a section's payload: what a reader must hold at a time.
pub const MAX_SECTION: usize = 1 << 20;

const HEAD: [u8; 4] = *b"HEAD";
const BACKENDS: [u8; 4] = *b"BACK";
const USERS: [u8; 4] = *b"USER";
const LAST: [u8; 4] = *b"LAST";

const DOWN: u8 = 1;
const MARKED: u8 = 2;
/// Of a mark: the first step of a slow start, and no weight.
const RISING: u8 = 4;
const NO_WEIGHT: u32 = u32::MAX;

/// When a state was made, and with which of the settings that decide what its users mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// When.
    pub created: Wall,
    /// `director_user_expire`, in seconds.
    pub expire_secs: u32,
    /// `director_username_hash`: the text of the [`Template`]. At most 65535 bytes.
    pub username_hash: String,
    /// First byte of `auth_master_user_separator`.
    pub master_user_separator: Option<u8>,
}

/// A backend of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedBackend {
    /// Address.
    pub ip: IpAddr,
    /// Host name it was configured by; without blanks and control characters.
    pub name: Option<String>,
    /// Tag; empty for none.
    pub tag: Vec<u8>,
    /// Its weight.
    pub vhosts: u32,
    /// Out of service.
    pub down: bool,
    /// Who has set its state, and its weight, if health or an operator has; of this backend.
    pub mark: Option<MarkLine>,
    /// When `down` last changed; 0: never.
    pub last_updown_change: Wall,
}

impl SavedBackend {
    /// An operator has said that it is up or down, and nothing else may change that.
    pub fn by_hand(&self) -> bool {
        self.mark.is_some_and(|line| line.mark.kind == Kind::Held)
    }

    /// As other directors would tell of it.
    pub fn as_line(&self) -> HostLine<'_> {
        HostLine {
            ip: self.ip,
            vhosts: self.vhosts,
            tag: &self.tag,
            down: self.down,
            changed: self.last_updown_change,
            name: self.name.as_deref(),
        }
    }
}

/// A user of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SavedUser {
    hash: u32,
    stamp: u32,
}

impl SavedUser {
    /// `stamp`: when it was last refreshed; times after February 2106 are clamped.
    pub fn new(hash: UserHash, stamp: Wall) -> SavedUser {
        SavedUser {
            hash: hash.0,
            stamp: u32::try_from(stamp.0).unwrap_or(u32::MAX),
        }
    }

    /// Its hash; never 0 in a [`Saved`].
    pub fn hash(self) -> UserHash {
        UserHash(self.hash)
    }

    /// When it was last refreshed.
    pub fn stamp(self) -> Wall {
        Wall(u64::from(self.stamp))
    }
}

/// A whole state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// When it was made.
    pub head: Head,
    /// All backends, in no order that means anything.
    pub backends: Vec<SavedBackend>,
    /// The users of each backend, by its place in `backends`.
    pub users: Vec<Vec<SavedUser>>,
}

impl Saved {
    /// How many users there are, expired ones included.
    pub fn user_count(&self) -> u64 {
        self.users.iter().map(|users| users.len() as u64).sum()
    }

    /// How many seconds ago it was made; `None`: in the future, by this clock.
    pub fn age(&self, now: Wall) -> Option<u64> {
        now.0.checked_sub(self.head.created.0)
    }

    /// Why its users mean nothing to a director with these settings; `None`: they are right.
    pub fn misfit(&self, username_hash: &str, separator: Option<u8>) -> Option<String> {
        let head = &self.head;
        let same = |text: &str| {
            let parse = |text| Template::parse(text, &|_| None).ok();
            text == username_hash || parse(text).is_some_and(|it| Some(it) == parse(username_hash))
        };
        if !same(&head.username_hash) {
            return Some(format!(
                "it was made with director_username_hash = {}, which is {username_hash} now",
                head.username_hash
            ));
        }
        if head.master_user_separator != separator {
            return Some("it was made with another auth_master_user_separator".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests;
