//! The director ring's wire format, protocol 1.9 (docs/protocol/ring.md).
//!
//! A line is read in two steps where it carries an origin: [`parse`] gives the [`Origin`] first, and
//! [`Received::order`] reads the rest, because a duplicate is dropped before its fields are looked
//! at. [`Command::write`] is the other direction; it never makes a line that a director would
//! refuse. The machine that speaks it is [`crate::core::ring`].

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::ip_text::ip_order;

mod dense;
mod error;
mod fields;
mod parse;
mod stage;
mod usual;
mod write;

pub use dense::{HandUsers, MAX_AGE};
pub use error::{RingError, Verdict};
pub use parse::{Line, Received, parse};
pub use stage::{Context, Role, Stage};
pub use write::{DoesNotFit, Versions};

/// Name in VERSION lines.
pub const PROTOCOL: &[u8] = b"director";
/// Major version of the protocol.
pub const MAJOR: u32 = 1;
/// Minor version that this codec speaks.
pub const MINOR: u32 = 9;
/// Longest line without its LF. With it, 1024 bytes are the input buffer of a Dovecot director.
pub const MAX_LINE: usize = 1023;
/// Most virtual nodes of a backend that a HOST line may ask for. Dovecot takes any number and builds
/// its hash ring at once; its administrators can set 1000.
pub const MAX_VHOSTS: u32 = 1_000_000;
/// Extensions of Homing that this codec knows.
pub const HOMING: u32 = 2;
/// Level from which on [`Command::Users`] is understood.
pub const HOMING_USERS: u32 = 2;
/// What a dialler writes in place of VERSION when the other side has offered TLS. It is answered with
/// the same line, behind whatever was written before; from then on both sides begin anew, inside TLS.
pub const START_TLS: &[u8] = b"STARTTLS\n";
/// What OPTIONS must contain.
const CONSISTENT_HASHING: &[u8] = b"consistent-hashing";
/// What the field of VERSION begins with that tells a Homing director.
const HOMING_FIELD: &[u8] = b"homing=";
/// The field of VERSION that offers TLS.
const TLS_FIELD: &[u8] = b"tls";
/// The field of VERSION by which a director says that it was not in a complete ring yet.
const JOINING_FIELD: &[u8] = b"joining";

/// First minor version with OPTIONS: a director below it cannot join.
pub const MINOR_OPTIONS: u32 = 5;
/// First minor version whose HOST lines have the state.
pub const MINOR_STATE: u32 = 6;
/// First minor version with tags as they are now.
pub const MINOR_TAGS: u32 = 7;
/// First minor version with `U`, and with a time in USER.
pub const MINOR_USER_TIME: u32 = 9;

/// A director: two of them may share an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectorId {
    /// Address.
    pub ip: IpAddr,
    /// Port of its ring listener.
    pub port: u16,
}

impl Ord for DirectorId {
    /// IPv4 before IPv6, then address bytes, then the port.
    fn cmp(&self, other: &Self) -> Ordering {
        ip_order(self.ip, other.ip).then(self.port.cmp(&other.port))
    }
}

impl PartialOrd for DirectorId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Who issued a command that travels round the ring, and which of its commands it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Issuer.
    pub director: DirectorId,
    /// Counts the issuer's commands, from 1.
    pub seq: u32,
}

/// A user hash on the wire. 0 would abort a Dovecot director that reads it.
pub type Hash = NonZeroU32;

/// One line of the ring protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// First line of both sides; name and major version are checked by the codec.
    Version {
        /// Minor version of the sender.
        minor: u32,
        /// Extensions of Homing that the sender knows, by number; 0: it is another program. Those
        /// ignore the field.
        homing: u32,
        /// The sender takes [`START_TLS`] as the first line of this connection.
        tls: bool,
        /// The sender has not been in a complete ring yet.
        joining: bool,
    },
    /// Second line of both sides.
    Me {
        /// Who the sender is.
        id: DirectorId,
        /// The sender's clock.
        time: Option<u64>,
    },
    /// Handshake: the sender hashes consistently.
    Options,
    /// Begins the block of hosts; whether the sender's ring was complete at least once.
    HostHandStart(bool),
    /// Ends the block of hosts.
    HostHandEnd(bool),
    /// A host in the block.
    HandHost(Host<'a>),
    /// `U`, or USER of old peers: a user that the sender knows.
    HandUser(HandUser),
    /// `UU`: users that the sender knows, in the form of Homing directors.
    HandUsers(HandUsers<'a>),
    /// The handshake is over on the sender's side.
    Done,
    /// `ASK`, from a Homing director that has not been told of all users yet: log this one in for me,
    /// under this tag. USER is the answer.
    Ask {
        /// User hash.
        hash: Hash,
        /// Director tag; empty for none.
        tag: Cow<'a, [u8]>,
    },
    /// Are you there?
    Ping(Option<Load>),
    /// Yes.
    Pong(Option<Load>),
    /// Go and connect to this director.
    Connect(DirectorId),
    /// The sender closes, and why. Never parsed, only logged.
    Quit(Cow<'a, [u8]>),
    /// There is such a director.
    Director(DirectorId),
    /// This director is to be forgotten.
    DirectorRemove(DirectorId),
    /// A round of synchronisation.
    Sync(Sync),
    /// A user was created or refreshed. The sender may not know its time.
    User {
        /// User hash.
        hash: Hash,
        /// Backend.
        host: IpAddr,
        /// When the user was refreshed.
        time: Option<u64>,
    },
    /// `USERS`: several [`Command::User`] in the form of Homing directors.
    Users(HandUsers<'a>),
    /// The sender has ended the sessions of this user.
    UserKilled(Hash),
    /// A command that carries its origin.
    Order(Origin, Order<'a>),
}

/// What follows an [`Origin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order<'a> {
    /// Is this user's assignment still right?
    UserWeak {
        /// User hash.
        hash: Hash,
        /// Its backend.
        host: IpAddr,
    },
    /// A backend is new or changed.
    Host(Host<'a>),
    /// A backend is gone.
    HostRemove(IpAddr),
    /// Forget a backend's users.
    HostFlush(IpAddr),
    /// Move a user.
    UserMove {
        /// User hash.
        hash: Hash,
        /// Where to.
        host: IpAddr,
    },
    /// End the sessions of this user name.
    UserKick(Cow<'a, [u8]>),
    /// End the sessions whose passdb field has this value.
    UserKickAlt {
        /// Name of the field.
        field: Cow<'a, [u8]>,
        /// Its value.
        value: Cow<'a, [u8]>,
    },
    /// End the sessions of this user hash, but for those on one backend.
    UserKickHash {
        /// User hash.
        hash: Hash,
        /// Backend that is spared.
        except: IpAddr,
    },
    /// All directors have ended the sessions of this user.
    UserKilledEverywhere(Hash),
}

/// A backend in a HOST line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// Its identity.
    pub ip: IpAddr,
    /// Weight, at most [`MAX_VHOSTS`].
    pub vhosts: u32,
    /// Tag; empty for none.
    pub tag: Cow<'a, [u8]>,
    /// Out of service.
    pub down: bool,
    /// When that last changed; 0: never.
    pub changed: u64,
    /// Host name; an empty one is none.
    pub name: Option<Cow<'a, [u8]>>,
}

impl Host<'_> {
    /// Peers before [`MINOR_TAGS`] meant another thing by a tag.
    ///
    /// # Errors
    /// `TaggedHost`. Not to be asked for hosts of a block that is ignored.
    pub fn check_tag(&self, peer_minor: u32) -> Result<(), RingError> {
        if !self.tag.is_empty() && peer_minor < MINOR_TAGS {
            return Err(RingError::TaggedHost { minor: peer_minor });
        }
        Ok(())
    }
}

/// A user in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandUser {
    /// User hash.
    pub hash: Hash,
    /// Backend.
    pub host: IpAddr,
    /// When the user was refreshed.
    pub time: u32,
    /// Its assignment is being confirmed.
    pub weak: bool,
}

/// What PING and PONG say of their sender; only for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its clock.
    pub time: u64,
    /// Bytes that wait in its output buffer for us.
    pub waiting: u64,
}

/// A SYNC line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The director whose round it is.
    pub director: DirectorId,
    /// Counts its rounds; another counter than [`Origin::seq`].
    pub seq: u32,
    /// Lowest minor version met so far. 0: a line of three fields, and to be forwarded as one.
    pub minor: u32,
    /// When this copy was sent by its director. `None` in lines without it: take the present time,
    /// also before it is forwarded.
    pub time: Option<u32>,
    /// The director's hosts hash; 0: unknown.
    pub hosts_hash: u32,
}

#[cfg(test)]
mod tests;
