//! The machine of the director ring: connections to the left and the right, handshakes, rounds of
//! synchronisation, what is told to the others and what they tell (docs/protocol/ring.md).
//!
//! It belongs to one thread. [`Ring::handle`] takes one [`Input`] and changes everything that
//! follows from it; afterwards the driver takes the [`Output`]s, and writes the bytes that wait in
//! [`Ring::unwritten`]. Users are in a [`Table`] that the driver shares with the lookup cores.
//! A director without others is a ring of one: alone, handshaked and synced from the start.
//!
//! | module | what it is about |
//! |---|---|
//! | `conn` | one connection: buffers, stage, timers |
//! | `neighbours` | who is left and right, CONNECT, dialling, being alone |
//! | `handshake` | what is sent and taken when two directors meet |
//! | `feed` | our users for a director that joins |
//! | `flood` | what a peer may say at most |
//! | `lines` | which line does what |
//! | `rounds` | SYNC |
//! | `hosts` | backends |
//! | `asking` | users that a joining director does not know yet |
//! | `users` | USER, USER-WEAK, notes of the lookup cores |
//! | `moving` | moves and kicks, as far as the ring has to do with them |
//! | `recall` | backends and users of before a power cut |
//! | `reset` | backends are emptied |
//! | `drain` | backends are emptied gradually |
//! | `requests` | what operators ask for, and what they must wait for |
//! | `orders` | what they order |
//! | `report` | what they are told of the ring |
//! | `told` | users that the others are about to be told of |
//! | `timers` | everything that happens because time passes |

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::backends::Backends;
use super::director::Director;
use super::members::{Members, TooManyMembers};
use super::moves::Moves;
use super::snapshot::Snapshot;
pub use super::snapshot::Standing;
use super::users::Shard;
use super::{BackendSlot, Mono, Refusal, UserHash, UserKey, Wall};
use crate::wire::ring::{Command, DirectorId, Origin};

mod asking;
mod conn;
mod drain;
mod event;
mod feed;
mod flood;
mod handshake;
mod hosts;
mod lines;
mod moving;
mod neighbours;
mod orders;
mod recall;
mod report;
mod requests;
mod reset;
mod rounds;
#[cfg(test)]
mod tests;
mod timers;
mod told;
mod users;

pub use drain::{DrainState, Draining, MAX_DRAINS, MAX_RATE};
pub use event::{Deed, Event, Level};
pub use orders::{Order, OrderError};
pub use recall::Recall;
pub use report::{Around, Report, Whereabouts};
pub use requests::{Answer, MAX_REQUESTS, Request, RequestError, Ticket};

use conn::{Conn, Conns};
use drain::Drain;
use recall::Recalled;
use requests::Requests;
use reset::Reset;
use rounds::Round;
use timers::Timers;

/// One TCP connection to another director, for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// The two clocks, read once for each input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For timeouts.
    pub mono: Mono,
    /// For the time stamps of users.
    pub wall: Wall,
}

/// What can happen to the machine.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The process is ready to listen and to dial. The first input, once.
    Start,
    /// Somebody connected to the ring listener. `conn` is from [`Ring::next_conn`].
    Accepted {
        /// Its number from now on.
        conn: ConnId,
        /// Where it comes from.
        source: IpAddr,
    },
    /// A connection of [`Output::Dial`] is there.
    Connected(ConnId),
    /// A connection of [`Output::Dial`] could not be made.
    DialFailed(ConnId),
    /// Bytes from the other end: what one read gave, of any length.
    Received(ConnId, &'a [u8]),
    /// TLS has begun, for [`Output::Secure`] or because the dialler at the other end wanted it, and the
    /// other side's certificate is that of a director at its address.
    Secured(ConnId),
    /// The other end closed, or reading or writing failed. Not told for what [`Output::Close`] ended.
    Ended(ConnId),
    /// Bytes were written; so many that were taken from [`Ring::unwritten`] still wait.
    Written(ConnId, usize),
    /// The time of [`Ring::next_deadline`] has come, or any other time.
    Tick,
    /// Lookup cores have noted something about users ([`super::users::Note`]).
    Notes(&'a [UserKey]),
    /// Notes about users of this shard were lost, since the queue was full.
    NotesLost(usize),
    /// All shards have been swept since the last time that this was said.
    Swept,
    /// The sessions of this user are ended here ([`Kick::Moved`]).
    Kicked(UserKey),
    /// Another [`Output::Kick`] has been carried out, or could not be. Once for each.
    KickOver,
    /// The flush script of a move has ended ([`Output::Flush`]).
    Flushed(UserKey, FlushResult),
    /// An operator asks for something; [`Output::Answer`] will be the answer.
    Request(Ticket, &'a Request),
    /// The process is about to end. The last input; nobody is to be accepted any more.
    Leave,
}

/// How a flush script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushResult {
    /// The user's backend processes are gone: no delay is needed.
    Succeeded,
    /// They may be there still, or the script could not be run.
    Failed,
}

/// Whose sessions end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kick {
    /// Those of a user hash, because it moves. [`Input::Kicked`] is the answer, whatever came of it.
    Moved(UserKey),
    /// Those of a user hash on all backends but this one.
    Hash(UserHash, IpAddr),
    /// Those of a login name.
    User(Vec<u8>),
    /// Those whose passdb field has a value.
    Alt(Vec<u8>, Vec<u8>),
}

/// What a flush script is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flush {
    /// The user.
    pub key: UserKey,
    /// Backend that it left.
    pub old: IpAddr,
    /// Whether that one was down when the move began.
    pub old_down: bool,
    /// Weight that it had then.
    pub old_vhosts: u32,
    /// Backend that it goes to.
    pub new: IpAddr,
    /// Host name of that one, if it has one.
    pub new_name: Option<String>,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to this director, from our own address; [`Input::Connected`] or
    /// [`Input::DialFailed`] is the answer.
    Dial(ConnId, DirectorId),
    /// Begin TLS as its client: see [`crate::wire::ring::START_TLS`]. [`Input::Secured`] or
    /// [`Input::Ended`] is the answer; nothing that comes before it is for the machine.
    Secure(ConnId),
    /// Try once more to write `rest`, without waiting, and close.
    Close(ConnId, Vec<u8>),
    /// End sessions. [`Input::Kicked`] or [`Input::KickOver`] is the answer.
    Kick(Kick),
    /// A kick that is no longer needed; its answer is ignored.
    AbortKick(UserKey),
    /// Run the flush script.
    Flush(Flush),
    /// Its result is no longer waited for.
    AbortFlush(UserKey),
    /// Lookups of this user that wait are to be tried again. After a new snapshot all are anyway.
    Wake(UserKey),
    /// For who asked ([`Input::Request`]).
    Answer(Ticket, Answer),
    /// For the log.
    Event(Event),
}

/// The user table, as the machine sees it.
pub trait Table {
    /// Makes this the snapshot that lookups read from now on.
    fn publish(&mut self, snapshot: &Arc<Snapshot>);

    /// Does something to one shard, which nobody else touches meanwhile.
    fn with<R>(&mut self, shard: usize, action: impl FnOnce(&mut Shard) -> R) -> R;

    /// These users are looked at next: a table that is larger than the caches can begin to fetch them.
    fn fetch(&self, _users: impl Iterator<Item = UserKey> + Clone) {}

    /// Whether the machine has been told of all notes that lookups left before they saw the snapshot that
    /// was published last. Until then no SYNC goes on: it must come behind the users that were placed by
    /// other backends than those that it is about.
    fn is_told(&self) -> bool {
        true
    }

    /// Whether a user that others tell of may be taken in.
    ///
    /// # Errors
    /// There is no room.
    fn room(&self) -> Result<(), Refusal>;
}

/// Whether connections to other directors are encrypted and authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// Where the other side offers it too; Dovecot never does.
    Offered,
    /// Always: others are refused.
    Required,
}

/// What the machine needs of the settings.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `director_ping_idle_timeout`, nanoseconds.
    pub ping_idle: u64,
    /// `director_ping_max_timeout`, nanoseconds.
    pub ping_max: u64,
    /// `director_user_kick_delay`, nanoseconds.
    pub kick_delay: u64,
    /// `move_timeout`, nanoseconds.
    pub move_limit: u64,
    /// `director_max_parallel_moves`: of one bulk reset.
    pub max_parallel_moves: usize,
    /// `director_max_parallel_kicks`: operators' kicks wait while so many are under way, whoever
    /// ordered those.
    pub max_parallel_kicks: usize,
    /// `director_output_buffer_size`, bytes.
    pub output_buffer: usize,
    /// A flush script is configured.
    pub flush_script: bool,
    /// `director_ring_tls_*`.
    pub tls: Tls,
    /// For attempts to reach others, which should come at other times than those of other directors;
    /// at random, and only looked at in [`Ring::new`].
    pub jitter: u64,
}

/// The machine. See the module's page.
#[derive(Debug)]
pub struct Ring {
    director: Director,
    members: Members,
    limits: Limits,
    conns: Conns,
    left: Option<ConnId>,
    right: Option<ConnId>,
    /// `alone` and `tell` are only set when a snapshot is made.
    standing: Standing,
    snapshot: Arc<Snapshot>,
    /// The snapshot no longer shows what is.
    stale: bool,
    round: Round,
    timers: Timers,
    moves: Moves,
    /// Bulk resets under way.
    resets: Vec<Reset>,
    /// Backends that are being drained, or are drained.
    drains: Vec<Drain>,
    requests: Requests,
    /// Users that wait for confirmation, and until when.
    weak: VecDeque<(Mono, UserKey)>,
    /// Slots of removed backends, and how many sweeps are to come before they are free.
    retired: Vec<(BackendSlot, u8)>,
    /// Directors by the number that user entries remember, which begins with 1.
    numbers: Vec<DirectorId>,
    /// Some connection is being sent our users.
    feeding: bool,
    /// Backends have gone, and perhaps users that were moving with them.
    hosts_gone: bool,
    recall: Recall,
    /// Backends that were saved, of which the ring is to be told when it is whole.
    recalled: Option<Recalled>,
    leaving: bool,
    /// What the lines of this input cost their sender, in points.
    spent: u64,
    outputs: Vec<Output>,
    last_conn: u64,
    now: Now,
}

impl Ring {
    /// A director of the settings. `me`: who we are in the list of directors; a director without
    /// others may call itself anything. Nothing is done before [`Input::Start`].
    ///
    /// # Errors
    /// [`TooManyMembers`].
    pub fn new(
        mut director: Director,
        me: DirectorId,
        others: impl IntoIterator<Item = DirectorId>,
        limits: Limits,
        now: Now,
    ) -> Result<Ring, TooManyMembers> {
        let mut members = Members::new(me, others)?;
        members.set_jitter(limits.jitter);
        let is_ring = members.iter().len() > 1;
        let standing = Standing {
            handshaked: !is_ring,
            synced: !is_ring,
            sync_since: (!is_ring).then_some(now.wall),
            ..Standing::alone()
        };
        let snapshot = Arc::new(director.snapshot(standing));
        Ok(Ring {
            director,
            members,
            limits,
            conns: Conns::default(),
            left: None,
            right: None,
            standing,
            snapshot,
            stale: false,
            round: Round::new(now),
            timers: Timers::default(),
            moves: Moves::new(),
            resets: Vec::new(),
            drains: Vec::new(),
            requests: Requests::default(),
            weak: VecDeque::new(),
            retired: Vec::new(),
            numbers: Vec::new(),
            feeding: false,
            hosts_gone: false,
            recall: if is_ring { Recall::NotYet } else { Recall::Now },
            recalled: None,
            leaving: false,
            spent: 0,
            outputs: Vec::new(),
            last_conn: 0,
            now,
        })
    }

    /// Settings that a reload has changed.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// A number for a connection that was accepted.
    pub fn next_conn(&mut self) -> ConnId {
        self.last_conn += 1;
        ConnId(self.last_conn)
    }

    /// Something has happened.
    pub fn handle<T: Table>(&mut self, input: Input<'_>, now: Now, table: &mut T) {
        self.now = now;
        match input {
            Input::Start => self.members.begin_grace(now.mono),
            Input::Accepted { conn, source } => self.accepted(conn, source),
            Input::Connected(conn) => self.connected(conn),
            Input::DialFailed(conn) => self.dial_failed(conn),
            Input::Received(conn, bytes) => self.received(conn, bytes, table),
            Input::Secured(conn) => self.secured(conn),
            Input::Ended(conn) => self.ended(conn),
            Input::Written(conn, unsent) => self.written(conn, unsent),
            Input::Tick => self.tick(table),
            Input::Notes(keys) => self.notes(keys, table),
            Input::NotesLost(shard) => self.notes_lost(shard, table),
            Input::Swept => self.swept(),
            Input::Kicked(key) => self.kicked(key, table),
            Input::KickOver => self.kick_over(),
            Input::Flushed(key, result) => self.flushed(key, result, table),
            Input::Request(ticket, request) => self.requested(ticket, request, table),
            Input::Leave => self.leave(),
        }
        self.settle(table);
    }

    /// What the driver must do, in this order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Bytes to be written, by connection. The driver drains what it takes over.
    pub fn unwritten(&mut self) -> impl Iterator<Item = (ConnId, &mut Vec<u8>)> {
        let conns = self.conns.map.iter_mut();
        conns.filter_map(|(&id, conn)| (!conn.out.is_empty()).then_some((id, &mut conn.out)))
    }

    /// The snapshot last published.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// How the ring is.
    pub fn standing(&self) -> Standing {
        Standing {
            alone: self.right.is_none(),
            tell: self.conns.map.values().any(|conn| conn.connected),
            asks: self.oracle().is_some(),
            ..self.standing
        }
    }

    /// The directors.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The backends.
    pub fn backends(&self) -> &Backends {
        self.director.backends()
    }

    /// Our left.
    pub fn left(&self) -> Option<DirectorId> {
        self.conns.director(self.left?)
    }

    /// Our right.
    pub fn right(&self) -> Option<DirectorId> {
        self.conns.director(self.right?)
    }

    /// The director that [`super::users::Entry::decided_by`] names; `None`: this one.
    pub fn decider(&self, number: u16) -> Option<DirectorId> {
        let at = usize::from(number).checked_sub(1)?;
        self.numbers.get(at).copied()
    }

    /// The end of every input.
    fn settle<T: Table>(&mut self, table: &mut T) {
        if self.leaving {
            return;
        }
        loop {
            self.run_requests(table);
            if std::mem::take(&mut self.hosts_gone) {
                self.forget_moves(table);
            }
            if !self.resets.is_empty() {
                self.go_on_resetting(table);
            }
            self.go_on_draining(table);
            self.insist();
            self.tell_news();
            if self.feeding {
                self.feed(table);
            }
            self.release_syncs(table);
            self.cut_full();
            // A close may leave a place for somebody who waits, and that may close another.
            self.find_neighbours();
            // Who finds that it is alone is synced.
            if !self.has_request_to_run() {
                break;
            }
        }
        self.tell_news();
        self.refresh(table);
        self.check_invariants();
    }

    /// The snapshot of the present state, published if it is new.
    fn fresh<T: Table>(&mut self, table: &mut T) -> Arc<Snapshot> {
        self.refresh(table);
        Arc::clone(&self.snapshot)
    }

    /// Has [`Ring::snapshot`] show the present state.
    fn refresh<T: Table>(&mut self, table: &mut T) {
        if self.stale {
            self.stale = false;
            self.end_void_drains();
            let standing = self.standing();
            let same = Standing::of(&self.snapshot) == standing;
            if !same || self.director.has_changed() {
                self.snapshot = Arc::new(self.director.snapshot(standing));
                table.publish(&self.snapshot);
            }
        }
    }

    fn written(&mut self, id: ConnId, unsent: usize) {
        let now = self.now;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.written(unsent, now);
        }
    }

    /// A neighbour that does not read what it is told would be told old news one day.
    fn cut_full(&mut self) {
        let limit = self.limits.output_buffer;
        for id in self.conns.ids(|conn| conn.waiting() > limit) {
            self.close(id, "Output buffer is full", Level::Error);
        }
    }

    fn send(&mut self, id: ConnId, command: &Command<'_>) {
        let ring = self.standing.min_version;
        self.conns.send(id, command, ring);
    }

    fn broadcast(&mut self, command: &Command<'_>, except: Option<DirectorId>) {
        let ring = self.standing.min_version;
        self.conns.broadcast(command, except, ring);
    }

    fn tell_news(&mut self) {
        let ring = self.standing.min_version;
        self.conns.tell_news(ring);
    }

    /// The origin of our next command.
    fn own_origin(&mut self) -> Origin {
        Origin {
            director: self.members.me(),
            seq: self.members.next_seq(),
        }
    }

    /// The origin of a line, or ours if its issuer is unknown.
    fn or_own(&mut self, origin: Option<Origin>) -> Origin {
        match origin {
            Some(origin) => origin,
            None => self.own_origin(),
        }
    }

    /// The number of a director in user entries; 0, which means us, when there are no more numbers.
    fn number_of(&mut self, director: DirectorId) -> u16 {
        let known = self.numbers.iter().position(|&known| known == director);
        let at = match known {
            Some(at) => at,
            None if self.numbers.len() < usize::from(u16::MAX) => {
                self.numbers.push(director);
                self.numbers.len() - 1
            }
            None => return 0,
        };
        u16::try_from(at + 1).unwrap_or(0)
    }

    fn say(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }

    /// Panics where the machine contradicts itself. Debug builds only.
    pub fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        self.members.check_invariants();
        for (id, accepted) in [(self.left, true), (self.right, false)] {
            if let Some(id) = id {
                let conn = self.conns.get(id);
                assert!(
                    conn.is_some_and(|conn| conn.is_dialler() != accepted
                        && conn.established.is_some()
                        && conn.director.is_some()),
                    "a neighbour is a connection whose handshake is complete"
                );
            }
        }
        assert!(
            self.conns.map.len() <= self.members.iter().len() * 4 + 128,
            "S7"
        );
        assert!(!self.round.frozen && !self.stale);
        assert!(self.conns.told.is_empty(), "nothing is kept back");
        let further = self.round.has_further();
        self.requests
            .check_invariants(self.standing.synced, further);
        assert!(self.drains.len() <= MAX_DRAINS, "S7");
    }
}
