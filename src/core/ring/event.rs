//! What happened in the ring, for the log.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use crate::core::ip_text::ip_text;
use crate::core::{Mono, UserHash, Wall};
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
    /// An operator's order was carried out.
    Ordered(Deed),
    /// A line of a peer could not be followed.
    Ignored(String),
    /// The ring has come together without anybody who knows better: it is told of so many backends as they
    /// were saved.
    Recalled(usize),
    /// A move took longer than 30 s.
    MoveTimedOut(UserHash, String),
    /// A bulk reset has ended: users moved, backends, nanoseconds.
    ResetOver(u64, usize, u64),
    /// A drain is over, no user is left: users moved, seconds.
    DrainOver(IpAddr, u64, u64),
    /// A drain has ended early, since its backend has gone or has a weight again: users moved.
    DrainEnded(IpAddr, u64),
    /// PONG took long, in nanoseconds.
    SlowPong(DirectorId, u64),
    /// A peer's clock is elsewhere, by so many seconds.
    Clock(DirectorId, u64),
}

/// What an operator has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A director is added to the ring.
    Added(DirectorId),
    /// A director is removed from the ring.
    Removed(DirectorId),
    /// A backend has another weight, or the same once more.
    Vhosts {
        /// The backend.
        ip: IpAddr,
        /// Its weight before, or what a new one would have had.
        from: u32,
        /// Its weight now.
        to: u32,
    },
    /// A backend is put into service, or taken out.
    UpDown {
        /// The backend.
        ip: IpAddr,
        /// It is down now.
        down: bool,
        /// Its weight.
        vhosts: u32,
        /// When that changed before; 0: never.
        since: Wall,
    },
    /// A backend is being drained, or at another rate: users a second.
    Drains {
        /// The backend.
        ip: IpAddr,
        /// Users a second.
        rate: NonZeroU32,
    },
    /// A drain was ended by an operator.
    DrainCancelled {
        /// The backend.
        ip: IpAddr,
        /// The weight that it has again; `None`: it stays without.
        vhosts: Option<u32>,
    },
    /// The users of all backends are forgotten; so many.
    AllForgotten(u64),
}

impl Deed {
    fn level(self) -> Level {
        match self {
            Deed::Added(_)
            | Deed::Removed(_)
            | Deed::Vhosts { .. }
            | Deed::UpDown { .. }
            | Deed::Drains { .. }
            | Deed::DrainCancelled { .. } => Level::Info,
            Deed::AllForgotten(_) => Level::Warning,
        }
    }

    fn cause(self) -> &'static str {
        match self {
            Deed::Added(_) | Deed::Removed(_) => "directors",
            Deed::Vhosts { .. } => "vhosts",
            Deed::UpDown { .. } => "updown",
            Deed::Drains { .. } | Deed::DrainCancelled { .. } => "drain",
            Deed::AllForgotten(_) => "forgotten",
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Deed::Added(id) => write!(f, "an operator adds director {} to the ring", name(id)),
            Deed::Removed(id) => {
                write!(f, "an operator removes director {} from the ring", name(id))
            }
            Deed::Vhosts { ip, from, to } => write!(
                f,
                "an operator changes the vhost count of backend {} from {from} to {to}",
                ip_text(ip)
            ),
            Deed::UpDown {
                ip,
                down,
                vhosts,
                since,
            } => write!(
                f,
                "an operator takes backend {} {} (vhost count {vhosts}, last changed at {})",
                ip_text(ip),
                if down { "down" } else { "up" },
                since.0
            ),
            Deed::Drains { ip, rate } => write!(
                f,
                "an operator drains backend {}: {rate} users a second",
                ip_text(ip)
            ),
            Deed::DrainCancelled { ip, vhosts } => write!(
                f,
                "an operator ends the drain of backend {} (vhost count {})",
                ip_text(ip),
                vhosts.unwrap_or(0)
            ),
            Deed::AllForgotten(users) => write!(
                f,
                "an operator had all {users} users of all backends forgotten: the same users may now \
                 get sessions on two backends"
            ),
        }
    }
}

impl Event {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Event::Left(_)
            | Event::Right(_)
            | Event::Synced(_)
            | Event::NotSynced
            | Event::Recalled(_)
            | Event::ResetOver(..)
            | Event::DrainOver(..)
            | Event::Member(..) => Level::Info,
            Event::Quit(..) => Level::Info,
            Event::Ordered(deed) => deed.level(),
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
            | Event::DrainEnded(..)
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
            Event::Recalled(_) => "recalled",
            Event::TwoBackends { .. } => "two backends",
            Event::Repair(_) => "repair",
            Event::Member(..) => "member",
            Event::Ordered(deed) => deed.cause(),
            Event::Ignored(_) => "ignored",
            Event::MoveTimedOut(..) => "move",
            Event::ResetOver(..) => "reset",
            Event::DrainOver(..) | Event::DrainEnded(..) => "drain",
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

/// How a drain ended; `seconds`: nobody is left, after so long.
fn drained(ip: IpAddr, users: u64, seconds: Option<u64>) -> String {
    let ip = ip_text(ip);
    match seconds {
        Some(seconds) => format!("backend {ip} is drained: {users} users moved in {seconds} s"),
        None => format!(
            "the drain of backend {ip} ends early, since it was removed or has a vhost count again; \
             {users} users were moved"
        ),
    }
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
            Event::Recalled(count) => write!(
                f,
                "{count} backends are not as they were saved: the ring is told what they were"
            ),
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
            Event::Ordered(deed) => deed.fmt(f),
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
            Event::DrainOver(ip, users, took) => f.write_str(&drained(*ip, *users, Some(*took))),
            Event::DrainEnded(ip, users) => f.write_str(&drained(*ip, *users, None)),
            Event::SlowPong(id, nanos) => write!(
                f,
                "director {}: PONG took {} ms",
                name(*id),
                milliseconds(*nanos)
            ),
            Event::Clock(id, by) => {
                write!(f, "director {}: its clock differs by {by} s", name(*id))
            }
        }
    }
}
