//! What a process says to the one that takes its place, and that one to it (docs/protocol/takeover.md).
//!
//! Both ends are Homing, of any two versions: the hello never changes, and what follows it is only
//! read by who knows the sender's [`VERSION`]. Nothing here leaves the machine or reaches a disk.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Of everything but the hello; goes up with any change of it.
pub const VERSION: u32 = 1;

/// Length of a [`Head`] in bytes.
pub const HEAD: usize = 8;

/// Largest payload of a frame in bytes. A connection has a few hundred KiB at most as a rule, one whose
/// client reads nothing while very many of its lookups are answered has more.
pub const MAX_PAYLOAD: usize = 64 << 20;

/// Most descriptors of one frame; the kernel takes 253.
pub const MAX_DESCRIPTORS: usize = 250;

const MAGIC: &[u8; 16] = b"HOMING TAKEOVER\n";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First of both sides.
    Hello = 0,
    /// Old: an [`Offer`].
    Offer,
    /// New: it is ready to take everything.
    Willing,
    /// Old: [`Listeners`], with their descriptors.
    Listeners,
    /// Old: a piece of the user table and the backends, in the form of [`crate::core::state`].
    State,
    /// Old: a [`Relay`], with one or two descriptors.
    Relay,
    /// Old: a [`Parked`] lookup of the relay before it.
    Parked,
    /// Old: an [`End`]; nothing more comes.
    End,
    /// New: it has everything, and only waits for the word.
    Taken,
    /// Old: serve logins; I never will again.
    Go,
    /// Old: I have left the director ring.
    Gone,
    /// New: it will not, and why, as text.
    Refused,
}

const KINDS: [Kind; 12] = [
    Kind::Hello,
    Kind::Offer,
    Kind::Willing,
    Kind::Listeners,
    Kind::State,
    Kind::Relay,
    Kind::Parked,
    Kind::End,
    Kind::Taken,
    Kind::Go,
    Kind::Gone,
    Kind::Refused,
];

/// The first bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// How many descriptors come with it.
    pub descriptors: usize,
    /// Bytes that follow.
    pub length: usize,
}

/// Why bytes are not what the other process should have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not of Homing, or damaged.
    #[error("the other process says something that is no takeover")]
    Foreign,
    /// Of another version.
    #[error(
        "the other process hands over in form {0}, and this program knows form {VERSION}: restart \
         the director instead"
    )]
    Version(u32),
    /// A frame's content is not what its kind says.
    #[error("the other process sent a damaged {0:?} frame")]
    Damaged(Kind),
}

impl Head {
    /// As bytes; `None`: it is more than a frame may have.
    pub fn encode(self) -> Option<[u8; HEAD]> {
        if self.length > MAX_PAYLOAD || self.descriptors > MAX_DESCRIPTORS {
            return None;
        }
        let [a, b, c, d] = u32::try_from(self.length).ok()?.to_le_bytes();
        let descriptors = u8::try_from(self.descriptors).ok()?;
        Some([self.kind as u8, descriptors, 0, 0, a, b, c, d])
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`Fault::Foreign`].
    pub fn decode(bytes: [u8; HEAD]) -> Result<Head, Fault> {
        let [kind, descriptors, 0, 0, a, b, c, d] = bytes else {
            return Err(Fault::Foreign);
        };
        let head = Head {
            kind: *KINDS.get(usize::from(kind)).ok_or(Fault::Foreign)?,
            descriptors: usize::from(descriptors),
            length: u32::from_le_bytes([a, b, c, d]) as usize,
        };
        // What is too much for one is none.
        head.encode().map(|_| head).ok_or(Fault::Foreign)
    }
}

/// The payload of a hello.
pub fn hello() -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_le_bytes()].concat()
}

/// Whether the other side's hello is of this version.
///
/// # Errors
/// [`Fault::Foreign`], [`Fault::Version`].
pub fn check_hello(payload: &[u8]) -> Result<(), Fault> {
    let version = payload.strip_prefix(MAGIC).ok_or(Fault::Foreign)?;
    match version
        .first_chunk()
        .map(|bytes| u32::from_le_bytes(*bytes))
    {
        Some(VERSION) => Ok(()),
        Some(version) => Err(Fault::Version(version)),
        None => Err(Fault::Foreign),
    }
}

/// What the new process must know of the listeners before anything stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Listeners that the keeper makes, in its own words and order.
    pub kept: String,
    /// What each of them speaks.
    pub kinds: Vec<String>,
    /// Places of those that somebody else made.
    pub handed: Vec<String>,
}

/// Which descriptors come with this frame: the keeper's socket if there is a keeper, then listeners that
/// it made, then others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    /// The keeper's socket comes first.
    pub keeper: bool,
    /// By their place in [`Offer::kept`].
    pub kept: Vec<u32>,
    /// By their place in [`Offer::handed`].
    pub handed: Vec<u32>,
}

/// A connection. With it come its descriptor and, if [`Relay::dialled`], that of its connection to auth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay<'a> {
    /// What it speaks, and how far an authreply client has said so.
    pub role: u8,
    /// It has a connection to auth.
    pub dialled: bool,
    /// Bytes that the client did not take yet.
    pub to_client: &'a [u8],
    /// Bytes that auth did not take yet.
    pub to_auth: &'a [u8],
    /// What the client has asked.
    pub asked: Unfinished<'a>,
    /// Requests that are not answered, with what they said of their client.
    #[serde(borrow)]
    pub open: Vec<(u32, &'a [u8])>,
    /// What auth has answered, or an authreply client or notifier said.
    pub replies: Unfinished<'a>,
    /// Minor version of auth's protocol; 0 until it has said.
    pub auth_minor: u32,
    /// Requests that auth is yet to be told to forget.
    pub cancels: Vec<u32>,
    /// Requests that it was told to forget, unconfirmed.
    pub cancelled: Vec<u32>,
}

/// A line of which the rest has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished<'a> {
    /// Its bytes so far.
    pub bytes: &'a [u8],
    /// It is too long, and skipped up to its end.
    pub skipping: bool,
}

/// A lookup that waits. Clocks of both processes are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked<'a> {
    /// Auth's line.
    pub line: &'a [u8],
    /// The client's local address; empty: not known or of no use.
    pub local_ip: String,
    /// Its port; 0 likewise.
    pub local_port: u32,
    /// Dovecot's session, for the log.
    pub session: String,
    /// Since when it waits, monotonic nanoseconds.
    pub since: u64,
    /// When it must be answered, likewise.
    pub deadline: u64,
}

/// How many relays and parked lookups there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Connections.
    pub relays: u64,
    /// Lookups that wait.
    pub parked: u64,
}

/// A payload. Grown by hand: lines of auth are in it, and no unwiped piece is to be left behind.
pub fn encode<T: Serialize>(payload: &T) -> Zeroizing<Vec<u8>> {
    let mut room = 4096;
    loop {
        let mut bytes = Zeroizing::new(vec![0; room]);
        match postcard::to_slice(payload, &mut bytes).map(|used| used.len()) {
            Ok(used) => {
                bytes.truncate(used);
                return bytes;
            }
            Err(_) if room <= 2 * MAX_PAYLOAD => room *= 4,
            // Larger than any frame: the head will say so.
            Err(_) => return bytes,
        }
    }
}

/// A payload of this kind.
///
/// # Errors
/// [`Fault::Damaged`]: also when there is something behind it.
pub fn decode<'a, T: Deserialize<'a>>(kind: Kind, bytes: &'a [u8]) -> Result<T, Fault> {
    match postcard::take_from_bytes(bytes) {
        Ok((payload, [])) => Ok(payload),
        _ => Err(Fault::Damaged(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back_and_nothing_else_is_one() {
        for kind in KINDS {
            let head = Head {
                kind,
                descriptors: 2,
                length: 70_000,
            };
            assert_eq!(Head::decode(head.encode().unwrap()), Ok(head));
        }
        let too = |descriptors, length| Head {
            kind: Kind::Relay,
            descriptors,
            length,
        };
        assert_eq!(too(MAX_DESCRIPTORS + 1, 0).encode(), None);
        assert_eq!(too(0, MAX_PAYLOAD + 1).encode(), None);
        let [a, b, c, d] = (MAX_PAYLOAD as u32 + 1).to_le_bytes();
        for bad in [
            [12, 0, 0, 0, 0, 0, 0, 0],
            [5, 0, 1, 0, 0, 0, 0, 0],
            [5, 251, 0, 0, 0, 0, 0, 0],
            [5, 0, 0, 0, a, b, c, d],
        ] {
            assert_eq!(Head::decode(bad), Err(Fault::Foreign));
        }
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(check_hello(&hello()), Ok(()));
        let mut newer = hello();
        newer[16] = 9;
        // Later versions may say more.
        newer.extend(b"and more");
        assert_eq!(check_hello(&newer), Err(Fault::Version(9)));
        assert!(Fault::Version(9).to_string().contains("form 9"));
        assert_eq!(check_hello(b"GET / HTTP/1.0"), Err(Fault::Foreign));
        assert_eq!(check_hello(&hello()[..18]), Err(Fault::Foreign));
    }

    #[test]
    fn a_relay_comes_back_and_is_not_read_from_less() {
        let long = vec![7; 100_000];
        let relay = Relay {
            role: 3,
            dialled: true,
            to_client: &long,
            to_auth: b"AUTH\t1",
            asked: Unfinished {
                bytes: b"AUTH\t2\tPLA",
                skipping: false,
            },
            open: vec![(1, b"session=x"), (2, b"")],
            replies: Unfinished {
                bytes: b"",
                skipping: true,
            },
            auth_minor: 4,
            cancels: vec![1],
            cancelled: vec![2, 3],
        };
        let bytes = encode(&relay);
        assert_eq!(decode(Kind::Relay, &bytes), Ok(relay));
        for cut in [0, 1, 50_000, bytes.len() - 1] {
            let cut = decode::<Relay<'_>>(Kind::Relay, &bytes[..cut]);
            assert_eq!(cut, Err(Fault::Damaged(Kind::Relay)));
        }
        let more = [&bytes[..], b"x"].concat();
        assert!(decode::<Relay<'_>>(Kind::Relay, &more).is_err());
    }
}
