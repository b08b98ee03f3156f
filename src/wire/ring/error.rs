//! What can be wrong with a line. The peer is at fault in every case: it sent garbage, or it speaks
//! another version than ours.

use thiserror::Error;

/// What an error means for the director at the other end. The connection is closed in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Garbage: a protocol failure is stamped, and the director is left alone for a minute.
    Garbage,
    /// It speaks properly, but not with us. No stamp.
    Incompatible,
}

/// Why a line was refused. Words of the peer are cut short and escaped for the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RingError {
    /// A line without a byte.
    #[error("empty line")]
    Empty,
    /// A line longer than [`super::MAX_LINE`].
    #[error("line longer than {} bytes", super::MAX_LINE)]
    TooLong,
    /// Not a command, or not one for this part of a connection's life.
    #[error("unknown command {0}")]
    Unknown(String),
    /// Anything before VERSION, or before ME.
    #[error("{got} where {expected} was due")]
    NotYet {
        /// What came.
        got: String,
        /// What should have come.
        expected: &'static str,
    },
    /// A second VERSION or ME.
    #[error("{0} for the second time")]
    Again(&'static str),
    /// Something between HOST-HAND-START and HOST-HAND-END.
    #[error("{0} in the block of hosts")]
    InHostBlock(String),
    /// Hosts from the director that was dialled.
    #[error("HOST-HAND-START from the side that was dialled")]
    WrongSide,
    /// Too few fields, or too many where the number is exact.
    #[error("{command} has {got} fields")]
    FieldCount {
        /// The command.
        command: &'static str,
        /// Fields of its own, without those of an origin that were read before.
        got: usize,
    },
    /// A field that is not what it should be.
    #[error("{command}: {field} is {value}")]
    BadField {
        /// The command.
        command: &'static str,
        /// Which field.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// User hash 0, which no user has and on which a Dovecot director aborts.
    #[error("{0}: user hash 0")]
    ZeroHash(&'static str),
    /// [`super::MAX_VHOSTS`].
    #[error("HOST: vhost count {0} is above {max}", max = super::MAX_VHOSTS)]
    TooManyVhosts(u32),
    /// A tag from a director whose tags mean something else.
    #[error("HOST with a tag from a director of minor version {minor}")]
    TaggedHost {
        /// Its minor version.
        minor: u32,
    },
    /// VERSION names another protocol.
    #[error("not the director protocol: {0}")]
    WrongProtocol(String),
    /// VERSION names another major version. The minor one is known then, so a QUIT may be sent.
    #[error("major version {major}, not {}", super::MAJOR)]
    WrongMajor {
        /// Major version of the peer.
        major: u32,
        /// Minor version of the peer.
        minor: u32,
    },
    /// OPTIONS without `consistent-hashing`.
    #[error("OPTIONS without consistent-hashing: director_consistent_hashing is off there")]
    NoConsistentHashing,
}

impl RingError {
    /// Whether the peer is to be left alone for a while.
    pub fn verdict(&self) -> Verdict {
        match self {
            RingError::WrongProtocol(_)
            | RingError::WrongMajor { .. }
            | RingError::NoConsistentHashing => Verdict::Incompatible,
            RingError::Empty
            | RingError::TooLong
            | RingError::Unknown(_)
            | RingError::NotYet { .. }
            | RingError::Again(_)
            | RingError::InHostBlock(_)
            | RingError::WrongSide
            | RingError::FieldCount { .. }
            | RingError::BadField { .. }
            | RingError::ZeroHash(_)
            | RingError::TooManyVhosts(_)
            | RingError::TaggedHost { .. } => Verdict::Garbage,
        }
    }
}

/// A peer's bytes for the log: printable, and not many.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 64;
    let cut = &bytes[..bytes.len().min(MOST)];
    let dots = if cut.len() < bytes.len() { "..." } else { "" };
    format!("\"{}\"{dots}", cut.escape_ascii())
}
