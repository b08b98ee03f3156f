//! What happened in the ring, for the log.

use std::fmt;
use std::net::IpAddr;

use crate::core::ip_text::ip_text;
use crate::core::{Mono, UserHash};
use crate::wire::ring::DirectorId;

/// How much an operator should mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only while looking for something.
    Debug,
    /// The course of things.
    Info,
    /// Something that should not be so, and from which the ring recovers.
    Warning,
    /// Something that must be mended.
    Error,
}

/// Something worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A neighbour was found.
    Left(DirectorId),
    /// A neighbour was found.
    Right(DirectorId),
    /// A connection was closed by us.
    Closed {
        /// Who was at the other end; `None`: it never said.
        director: Option<DirectorId>,
        /// Where it came from, or was dialled.
        address: IpAddr,
        /// Why.
        why: String,
        /// Our neighbours did as they should, or it was they who are at fault.
        level: Level,
    },
    /// A connection ended at the other end.
    Lost {
        /// Who was at the other end.
        director: Option<DirectorId>,
        /// Where it came from, or was dialled.
        address: IpAddr,
        /// It was left or right.
        neighbour: bool,
    },
    /// A peer says why it closes.
    Quit(Option<DirectorId>, String),
    /// A director could not be connected to.
    Unreachable(DirectorId),
    /// A connection was refused before a byte was read.
    Refused(IpAddr, &'static str),
    /// All directors agree; nanoseconds since the round began.
    Synced(u64),
    /// They may not.
    NotSynced,
    /// Nobody else can be reached.
    Alone,
    /// Two directors had placed a user differently.
    TwoBackends {
        /// The user.
        hash: UserHash,
        /// Where it was there.
        theirs: IpAddr,
        /// Where it is now.
        winner: IpAddr,
    },
    /// A director's backends are others than ours, twice the same: all are told of again.
    Repair(DirectorId),
    /// A change of the list of directors.
    Member(DirectorId, bool),
    /// A line of a peer could not be followed.
    Ignored(String),
    /// A move took longer than 30 s.
    MoveTimedOut(UserHash, String),
    /// A bulk reset has ended: users moved, backends, nanoseconds.
    ResetOver(u64, usize, u64),
    /// PONG took long, in nanoseconds.
    SlowPong(DirectorId, u64),
    /// A peer's clock is elsewhere, by so many seconds.
    Clock(DirectorId, u64),
}

impl Event {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Event::Left(_)
            | Event::Right(_)
            | Event::Synced(_)
            | Event::NotSynced
            | Event::ResetOver(..)
            | Event::Member(..) => Level::Info,
            Event::Quit(..) => Level::Info,
            Event::Closed { level, .. } => *level,
            Event::Lost { neighbour, .. } => {
                if *neighbour {
                    Level::Warning
                } else {
                    Level::Info
                }
            }
            Event::TwoBackends { .. } | Event::Repair(_) => Level::Error,
            Event::Unreachable(_)
            | Event::Refused(..)
            | Event::Alone
            | Event::Ignored(_)
            | Event::MoveTimedOut(..)
            | Event::SlowPong(..)
            | Event::Clock(..) => Level::Warning,
        }
    }

    /// A word for each kind, so that a flood of one does not hide another.
    pub fn cause(&self) -> &'static str {
        match self {
            Event::Left(_) | Event::Right(_) => "neighbour",
            Event::Closed { .. } => "closed",
            Event::Lost { .. } => "lost",
            Event::Quit(..) => "quit",
            Event::Unreachable(_) => "unreachable",
            Event::Refused(..) => "refused",
            Event::Synced(_) | Event::NotSynced => "sync",
            Event::Alone => "alone",
            Event::TwoBackends { .. } => "two backends",
            Event::Repair(_) => "repair",
            Event::Member(..) => "member",
            Event::Ignored(_) => "ignored",
            Event::MoveTimedOut(..) => "move",
            Event::ResetOver(..) => "reset",
            Event::SlowPong(..) => "pong",
            Event::Clock(..) => "clock",
        }
    }
}

/// `address:port`, with brackets where the address has colons.
fn name(id: DirectorId) -> String {
    let ip = ip_text(id.ip);
    if id.ip.is_ipv6() {
        format!("[{ip}]:{}", id.port)
    } else {
        format!("{ip}:{}", id.port)
    }
}

fn whom(director: Option<DirectorId>, address: IpAddr) -> String {
    director.map_or_else(|| ip_text(address).to_string(), name)
}

fn milliseconds(nanos: u64) -> u64 {
    nanos / (Mono::SECOND / 1000)
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Left(id) => write!(f, "director {} is our left", name(*id)),
            Event::Right(id) => write!(f, "director {} is our right", name(*id)),
            Event::Closed {
                director,
                address,
                why,
                ..
            } => write!(f, "director {}: closed: {why}", whom(*director, *address)),
            Event::Lost {
                director, address, ..
            } => write!(f, "director {}: connection lost", whom(*director, *address)),
            Event::Quit(director, text) => match director {
                Some(id) => write!(f, "director {} quits: {text}", name(*id)),
                None => write!(f, "a director quits before it said who it is: {text}"),
            },
            Event::Unreachable(id) => write!(f, "director {}: cannot connect", name(*id)),
            Event::Refused(ip, why) => write!(f, "connection from {} refused: {why}", ip_text(*ip)),
            Event::Synced(nanos) => write!(f, "ring is synced ({} ms)", milliseconds(*nanos)),
            Event::NotSynced => f.write_str("ring is not synced"),
            Event::Alone => f.write_str("no other director can be reached: serving alone"),
            Event::TwoBackends {
                hash,
                theirs,
                winner,
            } => write!(
                f,
                "user hash {} was placed by two directors on different hosts: one said {}; it is \
                 now on {}",
                hash.0,
                ip_text(*theirs),
                ip_text(*winner)
            ),
            Event::Repair(id) => write!(
                f,
                "director {} has other backends: telling all of ours again",
                name(*id)
            ),
            Event::Member(id, true) => write!(f, "director {} added to the ring", name(*id)),
            Event::Member(id, false) => write!(f, "director {} removed from the ring", name(*id)),
            Event::Ignored(what) => f.write_str(what),
            Event::MoveTimedOut(hash, state) => write!(
                f,
                "move of user hash {} took too long, in state {state}",
                hash.0
            ),
            Event::ResetOver(users, hosts, nanos) => write!(
                f,
                "moved {users} users in {hosts} hosts in {} ms",
                milliseconds(*nanos)
            ),
            Event::SlowPong(id, nanos) => write!(
                f,
                "director {}: PONG took {} ms",
                name(*id),
                milliseconds(*nanos)
            ),
            Event::Clock(id, seconds) => {
                write!(
                    f,
                    "director {}: its clock differs by {seconds} s",
                    name(*id)
                )
            }
        }
    }
}
