//! What `doveadm director`, poolmon and their like say to a director, and what it answers
//! (docs/protocol/admin.md).
//!
//! Lines are cut by [`super::line::Splitter`] with [`MAX_LINE`]. The first one must be a
//! [`handshake`], each other one a command for [`parse`]. There is no reply that says "bad command":
//! after an [`AdminError`] the connection is closed.

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroU32;

mod error;
pub mod histograms;
mod parse;
pub mod read;
mod request;
mod write;

pub use error::AdminError;
pub use parse::{handshake, parse};
pub use write::{
    ConnKind, ConnStatus, DirectorRow, DrainRow, Fact, HostRow, LookupRow, RingStatus, Traffic,
    UserRow, write_count, write_end_of_list, write_removed_host,
};

/// Said before anything is read. poolmon compares it with exactly this.
pub const GREETING: &[u8] = b"VERSION\tdirector-doveadm\t1\t0\n";

/// Most bytes of a line, LF included. A longer one ends the connection.
pub const MAX_LINE: usize = 1024;

/// Most virtual nodes that an operator may give to a backend; above it [`Reply::TooManyVhosts`].
pub const MAX_VHOSTS: u32 = 1000;

/// One command. Fields without their escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The backends: [`HostRow`]s.
    HostList,
    /// Backends of the settings that are not in the list.
    HostListRemoved,
    /// The directors: [`DirectorRow`]s.
    DirectorList,
    /// Another director.
    DirectorAdd {
        /// Its address.
        ip: IpAddr,
        /// Its port; `None`: the same as ours.
        port: Option<u16>,
    },
    /// One director less.
    DirectorRemove {
        /// Its address.
        ip: IpAddr,
        /// Its port; `None`: the first with that address.
        port: Option<u16>,
    },
    /// A new backend, or another weight.
    HostSet(Weight<'a>),
    /// Another weight of a known backend.
    HostUpdate(Weight<'a>),
    /// A backend gets new users again.
    HostUp(IpAddr),
    /// A backend gets no new users.
    HostDown(IpAddr),
    /// A backend goes away.
    HostRemove(IpAddr),
    /// The users of a backend are forgotten; `None`: those of all.
    HostFlush(Option<IpAddr>),
    /// Users are moved to where they belong.
    HostResetUsers {
        /// Those of this backend; `None`: of all.
        host: Option<IpAddr>,
        /// Most users that move at a time; `None`: `director_max_parallel_moves`.
        max_parallel: Option<NonZeroU32>,
    },
    /// Where a user is: a [`LookupRow`].
    UserLookup {
        /// The user.
        user: User<'a>,
        /// Its tag, empty for none.
        tag: Cow<'a, [u8]>,
        /// Homing only: [`Fact`]s follow in the row. Dovecot does not look at the argument.
        why: bool,
    },
    /// Homing only: a backend's users leave it gradually.
    DrainBegin {
        /// The backend.
        ip: IpAddr,
        /// Users a second.
        rate: NonZeroU32,
    },
    /// Homing only: they stay, and the backend gets its weight back.
    DrainCancel(IpAddr),
    /// Homing only: [`DrainRow`]s.
    DrainList,
    /// Homing only: how long lookups took at this serving core, or at all:
    /// [`histograms::HistogramRow`]s.
    Histograms(Option<u32>),
    /// Homing only: how many sessions somebody has. They are remembered.
    Sessions(Whose<'a>),
    /// Homing only: how many of the sessions that were remembered last are still there.
    SessionsLeft,
    /// The users of a backend, or of all: [`UserRow`]s.
    UserList(Option<IpAddr>),
    /// A user moves.
    UserMove {
        /// The user, under the backend's tag.
        user: User<'a>,
        /// Where to.
        host: IpAddr,
    },
    /// A user's sessions end everywhere.
    UserKick {
        /// The login name.
        user: Cow<'a, [u8]>,
        /// Do not wait for other kicks: [`Reply::TryAgain`].
        nowait: bool,
    },
    /// The same for those whose passdb field has a value.
    UserKickAlt {
        /// The field.
        field: Cow<'a, [u8]>,
        /// Its value.
        value: Cow<'a, [u8]>,
        /// Do not wait for other kicks.
        nowait: bool,
    },
}

/// The last argument of a USER-LOOKUP that asks for more than Dovecot tells.
const WHY: &[u8] = b"why";

/// Whose sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Of all with the user's hash.
    User {
        /// The user.
        user: User<'a>,
        /// Sessions at this backend do not count.
        except: Option<IpAddr>,
    },
    /// Of this login name.
    Name(Cow<'a, [u8]>),
    /// At this backend, or all.
    Backend(Option<IpAddr>),
}

/// A backend and its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight<'a> {
    /// Its address.
    pub ip: IpAddr,
    /// Its tag; `None`: not said. Never empty.
    pub tag: Option<Cow<'a, [u8]>>,
    /// Its weight, however large; `None`: the one that it has, or the default.
    pub vhosts: Option<u32>,
}

impl Command<'_> {
    /// Whether it waits for a synced ring before anything else, [`Reply::TooManyVhosts`] included.
    pub fn waits_for_sync(&self) -> bool {
        match self {
            Command::DirectorAdd { .. }
            | Command::DirectorRemove { .. }
            | Command::HostSet(_)
            | Command::HostUpdate(_)
            | Command::HostUp(_)
            | Command::HostDown(_)
            | Command::HostRemove(_)
            | Command::HostFlush(_)
            | Command::DrainBegin { .. }
            | Command::DrainCancel(_) => true,
            Command::HostList
            | Command::HostListRemoved
            | Command::DirectorList
            | Command::HostResetUsers { .. }
            | Command::UserLookup { .. }
            | Command::DrainList
            | Command::Histograms(_)
            | Command::Sessions(_)
            | Command::SessionsLeft
            | Command::UserList(_)
            | Command::UserMove { .. }
            | Command::UserKick { .. }
            | Command::UserKickAlt { .. } => false,
        }
    }

    /// Whether its OK waits until the ring is synced again.
    pub fn answers_after_sync(&self) -> bool {
        self.waits_for_sync()
            && !matches!(self, Command::DirectorAdd { .. } | Command::HostFlush(None))
    }
}

/// Whom an operator means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User<'a> {
    /// A number is a user hash, even 0, which no user has; nobody can be called by one.
    Hash(u32),
    /// A name, to be hashed.
    Name(Cow<'a, [u8]>),
}

/// A reply of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, or begun.
    Ok,
    /// No such backend or director.
    NotFound,
    /// The user is being moved, too many kicks are under way, or the name cannot be hashed.
    TryAgain,
    /// The ring was not synced in 30 s. Says nothing of whether the change was made: not, if the
    /// command still waited to run.
    SyncTimedOut,
    /// [`MAX_VHOSTS`].
    TooManyVhosts,
    /// The backend has another tag.
    TagCannotChange,
    /// The backend has changed since the ring was synced.
    BeingUpdated,
}

impl Reply {
    /// Its text, without LF.
    pub fn text(self) -> &'static str {
        match self {
            Reply::Ok => "OK",
            Reply::NotFound => "NOTFOUND",
            Reply::TryAgain => "TRYAGAIN",
            Reply::SyncTimedOut => "Ring sync timed out",
            Reply::TooManyVhosts => "vhost count too large",
            Reply::TagCannotChange => "host tag can't be changed",
            Reply::BeingUpdated => "host is already being updated - try again later",
        }
    }

    /// Appends the line.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text().as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
