//! The generator's event loop: one thread drives all connections, and the stub auth server too if
//! the plan has one.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::check::Checker;
use crate::client::{Client, Received, State};
use crate::clock::{self, CpuClock};
use crate::error::Error;
use crate::lines::{READ_SIZE, Reading};
use crate::names::Names;
use crate::plan::{Amount, Connections, Load, Plan, Target, Users};
use crate::process::{self, Process};
use crate::record::Recorder;
use crate::report::Progress;
use crate::stub_auth::Stub;
use crate::tally::Tally;
use crate::workload::{Phase, Workload};

/// How often progress, deadlines and stalls are looked at.
const TICK: u64 = 20_000_000;
/// How often the caller hears of progress.
const PROGRESS_EVERY: u64 = 100_000_000;
/// A full listen queue is tried again after this.
const QUEUE_RETRY: u64 = 1_000_000;
/// A connection that broke is made again after this.
const RECONNECT: u64 = 100_000_000;
/// A target that has never answered gets this long for a handshake.
const HANDSHAKE: u64 = 10_000_000_000;
/// Between two arrivals closer than this the loop spins: a sleep would end too late.
const SPIN: u64 = 2_000_000;

/// Readings at the ends of the measured phase.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) time: u64,
    pub(crate) own_cpu: u64,
    pub(crate) process: Option<process::Reading>,
}

/// What a run left behind.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) process: Option<(Process, process::Reading)>,
    pub(crate) measured: Option<(Mark, Mark)>,
    pub(crate) new_users: u64,
    /// It ended as planned, not by a stall or the time limit.
    pub(crate) complete: bool,
}

pub(crate) struct Engine<'a> {
    plan: &'a Plan,
    poll: Poll,
    stub: Option<Stub>,
    clients: Vec<Client>,
    workload: Workload,
    tally: Tally,
    names: Names,
    plain: Vec<u8>,
    scratch: Vec<u8>,
    /// Connections to be made at a later time.
    waiting: Vec<usize>,
    /// Connections with unsent requests, and where the search for a free one goes on.
    unsent: Vec<usize>,
    next_client: usize,
    /// Everything allowed was in flight when an arrival was due.
    held: bool,
    next_cpid: u32,
    own_cpu: CpuClock,
    process: Option<(Process, process::Reading)>,
    began: u64,
    phase_end: u64,
    begin: Option<Mark>,
    end: Option<Mark>,
    next_tick: u64,
    next_progress: u64,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Result<Self, Error> {
        let process = match plan.pid {
            None => None,
            Some(pid) => {
                let process = Process::new(pid)?;
                let reading = process.at_begin()?;
                Some((process, reading))
            }
        };
        let poll = Poll::new().map_err(Error::kernel("cannot make a poll"))?;
        let stub = match &plan.stub_auth {
            None => None,
            Some(config) => Some(Stub::listen(config, poll.registry())?),
        };
        let first_user = match plan.users {
            Users::Known { .. } => 0,
            Users::New { first } => first,
        };
        let refusals = plan
            .stub_auth
            .as_ref()
            .is_some_and(|stub| stub.fail_share > 0.0);
        let client = |index| Client::new(&plan.target, plan.in_flight, index);
        let now = clock::now();
        Ok(Self {
            plan,
            poll,
            stub,
            clients: (0..plan.connections).map(client).collect(),
            workload: Workload::new(plan),
            tally: Tally {
                checker: Checker::new(&plan.prefix, first_user, plan.expect_host, refusals),
                recorder: Recorder::new()?,
                outstanding: 0,
                alive: now,
                connected: 0,
            },
            names: Names::new(&plan.prefix),
            plain: Vec::new(),
            scratch: vec![0; READ_SIZE],
            waiting: Vec::new(),
            unsent: Vec::new(),
            next_client: 0,
            held: false,
            // Auth refuses a number that another living client has.
            next_cpid: std::process::id().wrapping_mul(1 << 12),
            own_cpu: CpuClock::of_this_thread(),
            process,
            began: now,
            phase_end: u64::MAX,
            begin: None,
            end: None,
            next_tick: 0,
            next_progress: 0,
        })
    }

    pub(crate) fn run(mut self, progress: &mut dyn FnMut(&Progress)) -> Result<Outcome, Error> {
        let mut events = Events::with_capacity(1024);
        self.start(clock::now())?;
        let complete = loop {
            let now = clock::now();
            if now >= self.next_tick || self.phase_is_over() {
                self.next_tick = now + TICK;
                if let Some(complete) = self.tick(now, progress)? {
                    break complete;
                }
            }
            self.arrivals(now)?;
            let timeout = Some(self.timeout(now));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled.map_err(Error::kernel("cannot poll"))?,
            }
            for event in &events {
                self.ready(event)?;
            }
        };
        Ok(Outcome {
            new_users: self.workload.users_begun(),
            measured: self.begin.zip(self.end),
            tally: self.tally,
            process: self.process,
            complete,
        })
    }

    fn start(&mut self, now: u64) -> Result<(), Error> {
        if self.plan.lifetime == Connections::Kept {
            for index in 0..self.clients.len() {
                self.connect(index, now)?;
            }
            return Ok(());
        }
        self.after_connect(now)
    }

    fn ready(&mut self, event: &Event) -> Result<(), Error> {
        let token = event.token();
        if Stub::owns(token) {
            if let Some(stub) = &mut self.stub {
                stub.ready(self.poll.registry(), event);
            }
            return Ok(());
        }
        let Token(index) = token;
        let client = &mut self.clients[index];
        let tally = &mut self.tally;
        let per_login = self.plan.lifetime == Connections::PerLogin;
        let mut last = 0;
        let mut handshaken = false;
        let until_end = event.is_read_closed();
        let reading = client.read(&mut self.scratch, until_end, |slots, now, received| {
            last = now;
            match received {
                Received::Handshake => true,
                Received::Ready => {
                    tally.alive = now;
                    handshaken = true;
                    true
                }
                Received::Reply(line) => !(tally.reply(slots, now, line) && per_login),
            }
        });
        if handshaken {
            tally.connected += 1;
            if let Some(login) = client.login.take() {
                client.ask(login, &mut self.names, &mut self.plain);
            }
        }
        match reading {
            Ok(Reading::Drained) => self.proceed(index, last),
            // With one login per connection the end is ours, once the reply is there.
            Ok(Reading::Ended) if per_login && !self.in_use(index) => {
                self.clients[index].close(State::Idle);
                self.proceed(index, last)
            }
            Ok(Reading::Ended) => self.broken(index, None),
            Err(error) => self.broken(index, Some(error)),
        }
    }

    /// Whether a connection per login still owes a reply.
    fn in_use(&self, index: usize) -> bool {
        let client = &self.clients[index];
        client.login.is_some() || !client.slots.any_free()
    }

    /// Gives a connection its next logins and sends what is to be sent.
    fn proceed(&mut self, index: usize, now: u64) -> Result<(), Error> {
        if self.workload.paced().is_none() {
            match self.clients[index].state {
                State::Ready => {
                    while self.clients[index].slots.any_free() {
                        let Some(login) = self.workload.next(now) else {
                            break;
                        };
                        self.tally.outstanding += 1;
                        self.clients[index].ask(login, &mut self.names, &mut self.plain);
                    }
                }
                State::Idle if self.plan.lifetime == Connections::PerLogin => {
                    if let Some(login) = self.workload.next(now) {
                        self.tally.outstanding += 1;
                        self.clients[index].login = Some(login);
                        return self.connect(index, now);
                    }
                }
                _ => {}
            }
        }
        match self.clients[index].flush(self.poll.registry(), Token(index)) {
            Ok(()) => Ok(()),
            Err(error) => self.broken(index, Some(error)),
        }
    }

    /// Hands out what an open loop has due, one to each connection in turn.
    fn arrivals(&mut self, now: u64) -> Result<(), Error> {
        if self.workload.next_arrival().is_none_or(|due| due > now) {
            return Ok(());
        }
        while let Some(index) = self.free_client() {
            let Some(login) = self.workload.next(now) else {
                break;
            };
            self.tally.outstanding += 1;
            self.tally.recorder.sent(login.start, now, self.held);
            let client = &mut self.clients[index];
            if client.state == State::Idle {
                client.login = Some(login);
                self.connect(index, now)?;
            } else {
                client.ask(login, &mut self.names, &mut self.plain);
                self.unsent.push(index);
            }
        }
        // What is due and still here waits for a reply, not for the generator.
        self.held = self.workload.next_arrival().is_some_and(|due| due <= now);
        while let Some(index) = self.unsent.pop() {
            if let Err(error) = self.clients[index].flush(self.poll.registry(), Token(index)) {
                self.broken(index, Some(error))?;
            }
        }
        Ok(())
    }

    /// The next connection that can take a login.
    fn free_client(&mut self) -> Option<usize> {
        let per_login = self.plan.lifetime == Connections::PerLogin;
        let count = self.clients.len();
        for step in 0..count {
            let index = (self.next_client + step) % count;
            let client = &self.clients[index];
            let free = match client.state {
                State::Ready => !per_login && client.slots.any_free(),
                State::Idle => per_login,
                _ => false,
            };
            if free {
                self.next_client = index + 1;
                return Some(index);
            }
        }
        None
    }

    fn connect(&mut self, index: usize, now: u64) -> Result<(), Error> {
        self.next_cpid = self.next_cpid.wrapping_add(1).max(1);
        let client = &mut self.clients[index];
        let connected = client.connect(self.poll.registry(), Token(index), self.next_cpid);
        let Err(error) = connected else { return Ok(()) };
        let wait = if error.kind() == io::ErrorKind::WouldBlock {
            QUEUE_RETRY // the listen queue is full: no fault, only slow
        } else {
            if self.tally.recorder.replies == 0 {
                let path = self.plan.target.path().clone();
                return Err(Error::Connect {
                    path,
                    source: error,
                });
            }
            self.tally.checker.errors.not_connected += 1;
            self.give_up(index);
            RECONNECT
        };
        self.wait(index, now + wait);
        Ok(())
    }

    fn wait(&mut self, index: usize, until: u64) {
        let client = &mut self.clients[index];
        client.close(State::Waiting);
        client.retry_at = until;
        self.waiting.push(index);
    }

    /// Counts what a connection still owed as lost with it.
    fn give_up(&mut self, index: usize) -> u64 {
        let client = &mut self.clients[index];
        let lost = client.slots.abandon() + u64::from(client.login.take().is_some());
        self.tally.outstanding -= lost;
        lost
    }

    /// The director ended a connection, or spoke nonsense without end.
    fn broken(&mut self, index: usize, error: Option<io::Error>) -> Result<(), Error> {
        if self.tally.recorder.replies == 0 {
            let problem = match error {
                None => "closed the connection before it answered anything".to_owned(),
                Some(error) => format!("broke the connection before it answered anything: {error}"),
            };
            return Err(self.handshake_error(problem));
        }
        if self.clients[index].state == State::Ready {
            self.tally.connected -= 1;
        }
        let lost = self.give_up(index);
        self.tally.checker.errors.disconnected += lost.max(1);
        self.wait(index, clock::now() + RECONNECT);
        Ok(())
    }

    fn handshake_error(&self, problem: String) -> Error {
        let hint = match self.plan.target {
            Target::Login(_) | Target::Userdb(_) => {
                "can the director reach its auth server, and does it speak this protocol here?"
            }
            Target::Authreply(_) => "is this the authreply socket?",
        };
        Error::Handshake {
            path: self.plan.target.path().clone(),
            problem,
            hint,
        }
    }

    /// Makes the connections whose time has come; those without a login become free for one.
    fn retry(&mut self, now: u64) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.waiting);
        for index in waiting {
            let client = &mut self.clients[index];
            if client.retry_at > now {
                self.waiting.push(index);
            } else if self.plan.lifetime == Connections::PerLogin && client.login.is_none() {
                client.close(State::Idle);
                self.proceed(index, now)?;
            } else {
                self.connect(index, now)?;
            }
        }
        Ok(())
    }

    fn timeout(&self, now: u64) -> Duration {
        let tick = if self.waiting.is_empty() {
            TICK
        } else {
            QUEUE_RETRY
        };
        let wait = match self.workload.next_arrival() {
            Some(due) if due <= now && self.held => tick, // a reply will end it
            Some(due) => due.saturating_sub(now).saturating_sub(SPIN).min(tick),
            None => tick,
        };
        Duration::from_nanos(wait)
    }

    fn phase_is_over(&self) -> bool {
        self.workload.exhausted() && self.tally.outstanding == 0
    }

    /// What is looked at now and then. The answer ends the run: whether it went as planned.
    fn tick(
        &mut self,
        now: u64,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Option<bool>, Error> {
        self.retry(now)?;
        let over = self.phase_is_over();
        match self.workload.phase {
            Phase::Connect if self.tally.connected == self.clients.len() => {
                self.after_connect(now)?;
            }
            Phase::Preload if over => self.warm_up(now)?,
            Phase::WarmUp if now >= self.phase_end => self.measure()?,
            Phase::Measure if over || now >= self.phase_end => {
                self.end = Some(self.mark(false)?);
                self.tally.recorder.end();
                self.workload.enter(Phase::Drain, now, 0);
            }
            Phase::Drain if over => return Ok(Some(true)),
            _ => {}
        }
        if now >= self.next_progress {
            self.next_progress = now + PROGRESS_EVERY;
            progress(&self.progress(now));
        }
        if !self.stalled(now)? {
            return Ok(None);
        }
        if self.begin.is_some() && self.end.is_none() {
            self.end = Some(self.mark(false)?);
        }
        self.tally.checker.errors.unanswered += self.tally.outstanding;
        Ok(Some(false))
    }

    /// Whether to wait no longer.
    fn stalled(&self, now: u64) -> Result<bool, Error> {
        let silent = now.saturating_sub(self.tally.alive);
        let limit = nanos(self.plan.reply_timeout);
        let first_limit = HANDSHAKE.min(limit);
        if self.tally.recorder.replies == 0 && silent > first_limit {
            let waited = Duration::from_nanos(first_limit);
            return Err(self.handshake_error(format!("did not answer anything for {waited:?}")));
        }
        let due = self.tally.outstanding > 0 || self.tally.connected < self.clients.len();
        let too_long = now.saturating_sub(self.began) > nanos(self.plan.time_limit);
        Ok((due && silent > limit) || too_long)
    }

    fn after_connect(&mut self, now: u64) -> Result<(), Error> {
        match self.plan.users {
            Users::Known {
                count,
                preload: true,
            } => {
                self.workload.enter(Phase::Preload, now, u64::from(count));
                self.proceed_all(now)
            }
            _ => self.warm_up(now),
        }
    }

    fn warm_up(&mut self, now: u64) -> Result<(), Error> {
        if self.plan.warm_up.is_zero() {
            return self.measure();
        }
        self.phase_end = now + nanos(self.plan.warm_up);
        self.workload.enter(Phase::WarmUp, now, u64::MAX);
        self.proceed_all(now)
    }

    fn measure(&mut self) -> Result<(), Error> {
        let mark = self.mark(true)?;
        let now = mark.time;
        self.begin = Some(mark);
        let budget = match (self.plan.amount, self.plan.load) {
            (Amount::Lookups(count), _) => count,
            // Every arrival that belongs to the time is awaited, however late its reply.
            (Amount::Time(time), Load::Open { rate }) => {
                (time.as_secs_f64() * rate).max(1.0) as u64
            }
            (Amount::Time(time), Load::Closed) => {
                self.phase_end = now + nanos(time);
                u64::MAX
            }
        };
        if budget != u64::MAX {
            self.phase_end = u64::MAX;
        }
        self.tally.recorder.begin(now);
        self.workload.enter(Phase::Measure, now, budget);
        self.proceed_all(now)
    }

    fn proceed_all(&mut self, now: u64) -> Result<(), Error> {
        (0..self.clients.len()).try_for_each(|index| self.proceed(index, now))
    }

    fn mark(&self, begins: bool) -> Result<Mark, Error> {
        let read = |process: &Process| {
            if begins {
                process.at_begin()
            } else {
                process.at_end()
            }
        };
        let own = |clock: CpuClock| {
            clock
                .nanos()
                .map_err(Error::kernel("cannot read a CPU clock"))
        };
        // The wall time of the phase must not contain the reading of a large memory map.
        let before = (clock::now(), own(self.own_cpu)?);
        let process = self
            .process
            .as_ref()
            .map(|(process, _)| read(process))
            .transpose()?;
        let (time, own_cpu) = if begins {
            (clock::now(), own(self.own_cpu)?)
        } else {
            before
        };
        Ok(Mark {
            time,
            own_cpu,
            process,
        })
    }

    fn progress(&self, now: u64) -> Progress {
        let since = |mark: &Mark| now.saturating_sub(mark.time);
        let phase = self.workload.phase;
        let share = |done: u64, all: u64| (done as f64 / all.max(1) as f64).min(1.0);
        let done = match (phase, self.plan.users, self.plan.amount) {
            (Phase::Preload, Users::Known { count, .. }, _) => {
                share(self.tally.recorder.replies, u64::from(count))
            }
            (Phase::Measure, _, Amount::Lookups(count)) => {
                share(self.tally.recorder.measured, count)
            }
            (Phase::Measure, _, Amount::Time(time)) => {
                share(self.begin.as_ref().map_or(0, since), nanos(time))
            }
            (Phase::Drain, ..) => 1.0,
            _ => 0.0,
        };
        let errors = self.tally.checker.errors.total();
        Progress {
            phase,
            done,
            replies: self.tally.recorder.replies,
            errors,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
