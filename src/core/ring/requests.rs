//! What operators ask for, and when they are answered (docs/protocol/admin.md, waiting).
//!
//! A request waits here until it may run, or, once it has run, until the ring is synced again. Whoever
//! asks may leave meanwhile: what was asked for is done all the same.

use std::collections::VecDeque;
use std::net::IpAddr;

use thiserror::Error;

use super::{Deed, Event, Kick, Order, OrderError, Output, Ring, Table};
use crate::core::users::SHARDS;
use crate::core::{BackendSlot, Mono};

/// How long a synced ring is waited for: before a request runs, and once more after it.
const SYNC_LIMIT: u64 = 30 * Mono::SECOND;

/// Most requests that wait, or are not answered yet. Each is a line of an operator's or a health check's
/// connection, of which there are a few; whoever opens thousands must not fill the memory.
pub const MAX_REQUESTS: usize = 1024;

/// A request, as its asker calls it: unique among those that are not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What can be asked for. Each is answered once, unless the process ends before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// An order. A kick runs when fewer than [`super::Limits::max_parallel_kicks`] are under way; a move
    /// at once; all others when the ring is synced.
    Order(Order),
    /// The users of a backend, or of all, are moved to where they belong. Answered when all were looked
    /// at; some may be moving still.
    ResetUsers {
        /// The backend; `None`: all.
        host: Option<IpAddr>,
        /// Most users that move at a time, those of others included; `None`:
        /// [`super::Limits::max_parallel_moves`].
        max: Option<usize>,
    },
    /// The users of all backends are forgotten. Ends no sessions.
    ForgetAll,
    /// A kick that does not wait for others; any other order as [`Request::Order`] has it.
    KickNoWait(Order),
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was carried out.
    Done,
    /// Not, or one does not know.
    Failed(RequestError),
}

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// It was not carried out, and nothing was changed.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The ring was not synced in time. Either it was not carried out, or it was and others may not have
    /// heard of it yet.
    #[error("the ring was not synced within {} s", SYNC_LIMIT / Mono::SECOND)]
    TimedOut,
    /// Too much is under way. Nothing was changed.
    #[error("too many kicks or requests are under way: try again later")]
    Busy,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Sync,
    Kicks,
}

impl Request {
    fn is_kick(&self) -> bool {
        matches!(self, Request::Order(order) | Request::KickNoWait(order) if order.is_kick())
    }

    /// Whether it runs in a synced ring only.
    fn needs_sync(&self) -> bool {
        match self {
            Request::Order(order) | Request::KickNoWait(order) => {
                !order.is_kick() && !matches!(order, Order::Move(..))
            }
            Request::ForgetAll => true,
            Request::ResetUsers { .. } => false,
        }
    }

    fn changes_backend(&self) -> Option<IpAddr> {
        match self {
            Request::Order(order) | Request::KickNoWait(order) => order.changes_backend(),
            Request::ForgetAll | Request::ResetUsers { .. } => None,
        }
    }

    /// Whether its answer waits until the others agree to what it has changed.
    fn needs_sync_after(&self) -> bool {
        let is_add = matches!(
            self,
            Request::Order(Order::AddDirector(_)) | Request::KickNoWait(Order::AddDirector(_))
        );
        self.needs_sync() && !is_add && *self != Request::ForgetAll
    }
}

/// Requests that are not answered, but for bulk resets.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// They wait for a synced ring, and until when, in order of arrival.
    waiting: VecDeque<(Mono, Ticket, Request)>,
    /// They were carried out since the ring was synced last, and how long their answers may wait.
    done: VecDeque<(Mono, Ticket)>,
    /// They wait for other kicks, in order of arrival.
    kicks: VecDeque<(Ticket, Request)>,
    /// Kicks that the driver is at.
    kicking: usize,
}

impl Requests {
    fn len(&self) -> usize {
        self.waiting.len() + self.done.len() + self.kicks.len()
    }

    /// When one of them has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let waiting = self.waiting.front().map(|first| first.0);
        let done = self.done.front().map(|first| first.0);
        [waiting, done].into_iter().flatten().min()
    }

    /// For [`Ring::check_invariants`].
    pub(super) fn check_invariants(&self, synced: bool, has_further_rounds: bool) {
        assert!(self.len() <= MAX_REQUESTS, "S7");
        let idle = self.waiting.is_empty() || has_further_rounds;
        assert!(
            !synced || (idle && self.done.is_empty()),
            "in a synced ring nobody waits until it is synced"
        );
    }
}

impl Ring {
    /// Somebody asks for something.
    pub(super) fn requested<T: Table>(&mut self, ticket: Ticket, request: &Request, table: &mut T) {
        if self.requests.waiting.is_empty() {
            self.end_patience();
        }
        let full = self.requests.len() >= MAX_REQUESTS;
        match self.waits_for(request) {
            Some(Wait::Kicks) if matches!(request, Request::KickNoWait(_)) => {
                self.answer(ticket, Err(RequestError::Busy));
            }
            // One that runs now may have to wait for its answer.
            wait if full && (wait.is_some() || request.needs_sync()) => {
                self.answer(ticket, Err(RequestError::Busy));
            }
            Some(Wait::Kicks) => self.requests.kicks.push_back((ticket, request.clone())),
            Some(Wait::Sync) => {
                let until = self.now.mono.after(SYNC_LIMIT);
                let waiting = &mut self.requests.waiting;
                waiting.push_back((until, ticket, request.clone()));
            }
            None => self.run(ticket, request, table),
        }
    }

    /// What keeps a request from running now. Nobody passes those that wait already.
    fn waits_for(&self, request: &Request) -> Option<Wait> {
        let requests = &self.requests;
        if request.is_kick() {
            let free = requests.kicks.is_empty() && self.may_kick();
            return (!free).then_some(Wait::Kicks);
        }
        let free = requests.waiting.is_empty() && self.may_run_synced(request);
        let now = !request.needs_sync() || free;
        (!now).then_some(Wait::Sync)
    }

    /// Whether the ring is so that a request may run that needs a synced one.
    fn may_run_synced(&self, request: &Request) -> bool {
        let may_change = |ip| self.may_change(ip);
        self.standing.synced && request.changes_backend().is_none_or(may_change)
    }

    fn may_kick(&self) -> bool {
        self.requests.kicking < self.limits.max_parallel_kicks
    }

    fn run<T: Table>(&mut self, ticket: Ticket, request: &Request, table: &mut T) {
        let done = match request {
            Request::Order(order) | Request::KickNoWait(order) => {
                let done = self.carry_out_order(order, table);
                done.map_err(RequestError::Order)
            }
            Request::ForgetAll => {
                self.forget_all(table);
                Ok(())
            }
            Request::ResetUsers { host, max } => {
                let max = max.unwrap_or(self.limits.max_parallel_moves);
                match self.begin_reset(ticket, *host, max) {
                    // It is answered when it is over.
                    Ok(()) => return,
                    Err(error) => Err(error),
                }
            }
        };
        if done.is_ok() && request.needs_sync_after() && !self.standing.synced {
            let until = self.now.mono.after(SYNC_LIMIT);
            return self.requests.done.push_back((until, ticket));
        }
        self.answer(ticket, done);
    }

    pub(super) fn answer(&mut self, ticket: Ticket, done: Result<(), RequestError>) {
        let answer = match done {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(error),
        };
        self.outputs.push(Output::Answer(ticket, answer));
    }

    /// The ring is synced: all agree to what was changed before. What waits to run does so at the end of
    /// the input.
    pub(super) fn answer_done(&mut self) {
        for (_, ticket) in std::mem::take(&mut self.requests.done) {
            self.answer(ticket, Ok(()));
        }
    }

    /// Whether something could run that could not before.
    pub(super) fn has_request_to_run(&self) -> bool {
        let first = self.requests.waiting.front();
        let waiting = first.is_some_and(|(_, _, first)| self.may_run_synced(first));
        waiting || (self.may_kick() && !self.requests.kicks.is_empty())
    }

    /// Runs what may run by now. Each change makes the next one wait for another round.
    pub(super) fn run_requests<T: Table>(&mut self, table: &mut T) {
        while let Some((_, _, first)) = self.requests.waiting.front()
            && self.may_run_synced(first)
            && let Some((_, ticket, request)) = self.requests.waiting.pop_front()
        {
            self.end_patience();
            self.run(ticket, &request, table);
        }
        if self.standing.synced && !self.requests.waiting.is_empty() {
            self.begin_further_rounds();
        }
        while self.may_kick()
            && let Some((ticket, request)) = self.requests.kicks.pop_front()
        {
            self.run(ticket, &request, table);
        }
    }

    /// Answers what has waited too long.
    pub(super) fn give_up_requests(&mut self) {
        let now = self.now.mono;
        let over = |&(until, _, _): &(Mono, Ticket, Request)| until <= now;
        while self.requests.waiting.front().is_some_and(over)
            && let Some((_, ticket, _)) = self.requests.waiting.pop_front()
        {
            self.answer(ticket, Err(RequestError::TimedOut));
        }
        while self.requests.done.front().is_some_and(|it| it.0 <= now)
            && let Some((_, ticket)) = self.requests.done.pop_front()
        {
            self.answer(ticket, Err(RequestError::TimedOut));
        }
    }

    /// Has the driver end sessions. Whoever wants that, it is one of those under way.
    pub(super) fn begin_kick(&mut self, kick: Kick) {
        self.requests.kicking += 1;
        self.outputs.push(Output::Kick(kick));
    }

    /// The driver is done with one of those.
    pub(super) fn kick_over(&mut self) {
        self.requests.kicking = self.requests.kicking.saturating_sub(1);
    }

    /// HOST-FLUSH of every backend, with one SYNC behind them.
    fn forget_all<T: Table>(&mut self, table: &mut T) {
        let backends: Vec<(IpAddr, BackendSlot)> = self
            .director
            .backends()
            .iter()
            .map(|backend| (backend.ip, backend.slot))
            .collect();
        let count = |counts: &[u32]| {
            let users = |&(_, slot): &(IpAddr, BackendSlot)| counts.get(usize::from(slot.0));
            let users = backends.iter().filter_map(users);
            users.copied().map(u64::from).sum::<u64>()
        };
        let users = (0..SHARDS)
            .map(|shard| table.with(shard, |shard| count(shard.users_per_backend())))
            .sum();
        self.say(Event::Ordered(Deed::AllForgotten(users)));
        self.round.frozen = true;
        for (ip, _) in backends {
            let own = self.own_origin();
            self.drop_host(ip, false, own, None);
        }
        self.thaw();
    }
}
