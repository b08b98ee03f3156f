//! From a command to what is to be done, and from what came of it to a reply.

use std::net::IpAddr;
use std::sync::Arc;

use super::Whose;
use crate::core::UserHash;
use crate::core::backends::BackendError;
use crate::core::ring::{Answer, Order, OrderError, Request, RequestError};
use crate::core::user_hash::Template;
use crate::wire::admin::{Command, Reply, User, Weight};
use crate::wire::ring::DirectorId;

/// What commands are understood by; the same for the life of the process.
#[derive(Clone, Debug)]
pub struct Context {
    /// The port of a director that is added without one: ours.
    pub ring_port: u16,
    /// `director_username_hash`.
    pub username_hash: Arc<Template>,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// To be asked of the ring; [`super::Session::answer`] is next.
    Ask(Request),
    /// HOST-LIST.
    Hosts,
    /// HOST-LIST-REMOVED.
    RemovedHosts,
    /// DIRECTOR-LIST.
    Directors,
    /// USER-LOOKUP.
    Lookup {
        /// The user; 0, which nobody has, is possible.
        hash: UserHash,
        /// Its tag, empty for none.
        tag: Vec<u8>,
        /// What the ring knows of it is wanted too.
        why: bool,
    },
    /// HOMING-DRAIN-LIST.
    Drains,
    /// HOMING-HISTOGRAMS, of one serving core or of all.
    Histograms(Option<usize>),
    /// HOMING-SESSIONS.
    Sessions(Whose),
    /// HOMING-SESSIONS-LEFT.
    SessionsLeft,
    /// USER-LIST, of one backend or of all.
    Users(Option<IpAddr>),
}

impl Work {
    /// `None`: nothing can be done. The only such command is the move of user hash 0, which no director
    /// can tell another of.
    pub fn of(command: Command<'_>, context: &Context) -> Option<Work> {
        let director = |ip, port: Option<u16>| DirectorId {
            ip,
            port: port.unwrap_or(context.ring_port),
        };
        let order = match command {
            Command::HostList => return Some(Work::Hosts),
            Command::HostListRemoved => return Some(Work::RemovedHosts),
            Command::DirectorList => return Some(Work::Directors),
            Command::UserList(host) => return Some(Work::Users(host)),
            Command::DrainList => return Some(Work::Drains),
            Command::Histograms(core) => {
                return Some(Work::Histograms(core.map(|core| core as usize)));
            }
            Command::Sessions(whose) => {
                let whose = Whose::of(whose, |user| hash(user, context));
                return Some(Work::Sessions(whose));
            }
            Command::SessionsLeft => return Some(Work::SessionsLeft),
            Command::UserLookup { user, tag, why } => {
                let hash = hash(&user, context);
                let tag = tag.into_owned();
                return Some(Work::Lookup { hash, tag, why });
            }
            Command::HostFlush(None) => return Some(Work::Ask(Request::ForgetAll)),
            Command::HostResetUsers { host, max_parallel } => {
                let max = max_parallel.map(|max| max.get() as usize);
                return Some(Work::Ask(Request::ResetUsers { host, max }));
            }
            Command::DirectorAdd { ip, port } => Order::AddDirector(director(ip, port)),
            Command::DirectorRemove { ip, port: None } => Order::RemoveDirectorAt(ip),
            Command::DirectorRemove { ip, port } => Order::RemoveDirector(director(ip, port)),
            Command::HostSet(Weight { ip, tag, vhosts }) => {
                let tag = tag.map(|tag| tag.into_owned());
                Order::SetBackend { ip, tag, vhosts }
            }
            Command::HostUpdate(Weight { ip, tag, vhosts }) => {
                let tag = tag.map(|tag| tag.into_owned());
                Order::UpdateBackend { ip, tag, vhosts }
            }
            Command::HostUp(ip) => Order::Up(ip),
            Command::HostDown(ip) => Order::Down(ip),
            Command::HostRemove(ip) => Order::Remove(ip),
            Command::HostFlush(Some(ip)) => Order::ForgetUsers(ip),
            Command::DrainBegin { ip, rate } => Order::Drain(ip, rate),
            Command::DrainCancel(ip) => Order::CancelDrain(ip),
            Command::UserMove { user, host } => match hash(&user, context) {
                UserHash(0) => return None,
                hash => Order::Move(hash, host),
            },
            Command::UserKick { user, nowait } => {
                return Some(kick(Order::KickUser(user.into_owned()), nowait));
            }
            Command::UserKickAlt {
                field,
                value,
                nowait,
            } => {
                let order = Order::KickAlt(field.into_owned(), value.into_owned());
                return Some(kick(order, nowait));
            }
        };
        Some(Work::Ask(Request::Order(order)))
    }
}

fn hash(user: &User<'_>, context: &Context) -> UserHash {
    match user {
        User::Hash(hash) => UserHash(*hash),
        User::Name(name) => context.username_hash.hash(name, &mut Vec::new()),
    }
}

fn kick(order: Order, nowait: bool) -> Work {
    Work::Ask(match nowait {
        false => Request::Order(order),
        true => Request::KickNoWait(order),
    })
}

/// Appends the reply to an answer of the ring. What Dovecot has no reply for is told in our words, which
/// doveadm shows as they are.
pub(super) fn write_answer(answer: &Answer, out: &mut Vec<u8>) {
    let error = match answer {
        Answer::Done => return Reply::Ok.write(out),
        Answer::Failed(error) => error,
    };
    let reply = match error {
        RequestError::TimedOut => Reply::SyncTimedOut,
        RequestError::Busy => Reply::TryAgain,
        RequestError::Order(error) => match error {
            OrderError::Backend(BackendError::Unknown(_))
            | OrderError::UnknownDirector
            | OrderError::NotDraining(_) => Reply::NotFound,
            OrderError::TooManyVhosts(_)
            | OrderError::Backend(
                BackendError::TooManyVhosts { .. } | BackendError::TooManyPoints { .. },
            ) => Reply::TooManyVhosts,
            OrderError::Updating(_) => Reply::BeingUpdated,
            OrderError::OtherTag(_) => Reply::TagCannotChange,
            OrderError::Moving | OrderError::TooManyDrains => Reply::TryAgain,
            other => {
                // A client's words are in some of them.
                let line = other.to_string().replace(['\r', '\n'], " ");
                out.extend_from_slice(line.as_bytes());
                return out.push(b'\n');
            }
        },
    };
    reply.write(out);
}
