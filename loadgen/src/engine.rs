//! The generator's event loop: one thread drives all connections, and the stub auth server too if
//! the plan has one.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll};

use crate::clock::{self, CpuClock};
use crate::error::Error;
use crate::lines::READ_SIZE;
use crate::lookups::Lookups;
use crate::mail::Sessions;
use crate::names::Names;
use crate::plan::{Amount, Connections, Load, Plan, Users};
use crate::process::{self, Processes};
use crate::record::Recorder;
use crate::report::Progress;
use crate::stub_auth::Stub;
use crate::tally::Tally;
use crate::workload::{Phase, Workload, nanos};

/// How often progress, deadlines and stalls are looked at.
const TICK: u64 = 20_000_000;
/// How often the caller hears of progress.
const PROGRESS_EVERY: u64 = 100_000_000;
/// A full listen queue is tried again after this.
pub(crate) const QUEUE_RETRY: u64 = 1_000_000;
/// A connection that broke is made again after this.
pub(crate) const RECONNECT: u64 = 100_000_000;
/// A target that has never answered gets this long for a handshake.
const HANDSHAKE: u64 = 10_000_000_000;
/// Where to look when a director's socket does not finish its handshake.
pub(crate) const HANDSHAKE_HINT: &str =
    "can the director reach its auth server, and does it speak this protocol here?";
/// Between two arrivals closer than this the loop spins: a sleep would end too late.
const SPIN: u64 = 2_000_000;

/// Readings at the ends of the measured phase.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) time: u64,
    pub(crate) own_cpu: u64,
    pub(crate) own_waits: u64,
    pub(crate) process: Option<process::Reading>,
}

/// What a run left behind.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) process: Option<(Processes, process::Reading)>,
    pub(crate) measured: Option<(Mark, Mark)>,
    pub(crate) new_users: u64,
    /// It ended as planned, not by a stall or the time limit.
    pub(crate) complete: bool,
}

/// What the loop and its connections share.
pub(crate) struct Shared<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) poll: Poll,
    pub(crate) stub: Option<Stub>,
    pub(crate) workload: Workload,
    pub(crate) tally: Tally,
    pub(crate) names: Names,
    /// Room for a request's parts, and for what is read.
    pub(crate) plain: Vec<u8>,
    pub(crate) scratch: Vec<u8>,
    /// Everything allowed was in flight when an arrival was due.
    pub(crate) held: bool,
}

impl Shared<'_> {
    /// Logins that failed go back to the workload.
    pub(crate) fn put_back(&mut self, now: u64) {
        while let Some(login) = self.tally.again.pop() {
            self.workload.try_again(login, now);
        }
    }
}

/// The connections of a run: lookups or mail sessions.
pub(crate) trait Fleet {
    /// Before anything is asked: makes the connections that are kept.
    fn start(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error>;
    /// Something happened on a connection.
    fn ready(&mut self, shared: &mut Shared<'_>, event: &Event) -> Result<(), Error>;
    /// Hands out the logins that are due, one to each connection in turn.
    fn arrivals(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error>;
    /// Gives logins to whoever is free: a phase begins.
    fn proceed_all(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error>;
    /// Does what was put off to a time that has come.
    fn tick(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error>;
    /// Whether something was put off to a time soon.
    fn due_soon(&self) -> bool;
    /// Whether connections are still to be closed in order.
    fn busy(&self) -> bool {
        false
    }
    /// Nothing came from a target at all.
    fn handshake_error(&self, shared: &Shared<'_>, problem: String) -> Error;
}

pub(crate) struct Engine<'a> {
    shared: Shared<'a>,
    fleet: Box<dyn Fleet>,
    own_cpu: CpuClock,
    process: Option<(Processes, process::Reading)>,
    began: u64,
    phase_end: u64,
    begin: Option<Mark>,
    end: Option<Mark>,
    next_tick: u64,
    next_progress: u64,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Result<Self, Error> {
        let process = match Processes::new(&plan.pids)? {
            None => None,
            Some(processes) => {
                let reading = processes.at_begin()?;
                Some((processes, reading))
            }
        };
        let poll = Poll::new().map_err(Error::kernel("cannot make a poll"))?;
        let stub = match &plan.stub_auth {
            None => None,
            Some(config) => Some(Stub::listen(config, poll.registry())?),
        };
        let now = clock::now();
        let fleet: Box<dyn Fleet> = if plan.is_mail() {
            Box::new(Sessions::new(plan)?)
        } else {
            Box::new(Lookups::new(plan))
        };
        Ok(Self {
            shared: Shared {
                plan,
                poll,
                stub,
                workload: Workload::new(plan),
                tally: Tally::new(plan, Recorder::new(plan.interval)?, now),
                names: Names::new(plan),
                plain: Vec::new(),
                scratch: vec![0; READ_SIZE],
                held: false,
            },
            fleet,
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
            self.fleet.arrivals(&mut self.shared, now)?;
            let timeout = Some(self.timeout(now));
            match self.shared.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled.map_err(Error::kernel("cannot poll"))?,
            }
            for event in &events {
                self.ready(event)?;
            }
        };
        Ok(Outcome {
            new_users: self.shared.workload.users_begun(),
            measured: self.begin.zip(self.end),
            tally: self.shared.tally,
            process: self.process,
            complete,
        })
    }

    fn start(&mut self, now: u64) -> Result<(), Error> {
        self.fleet.start(&mut self.shared, now)?;
        match self.shared.plan.lifetime {
            Connections::Kept => Ok(()),
            Connections::PerLogin => self.after_connect(now),
        }
    }

    fn ready(&mut self, event: &Event) -> Result<(), Error> {
        if Stub::owns(event.token()) {
            if let Some(stub) = &mut self.shared.stub {
                stub.ready(self.shared.poll.registry(), event);
            }
            return Ok(());
        }
        self.fleet.ready(&mut self.shared, event)
    }

    fn proceed_all(&mut self, now: u64) -> Result<(), Error> {
        self.fleet.proceed_all(&mut self.shared, now)
    }

    fn timeout(&self, now: u64) -> Duration {
        let tick = if self.fleet.due_soon() {
            QUEUE_RETRY
        } else {
            TICK
        };
        let wait = match self.shared.workload.next_arrival() {
            Some(due) if due <= now && self.shared.held => tick, // a reply will end it
            Some(due) => due.saturating_sub(now).saturating_sub(SPIN).min(tick),
            None => tick,
        };
        Duration::from_nanos(wait)
    }

    fn all_connected(&self) -> bool {
        self.shared.tally.connected >= self.shared.plan.connections as usize
    }

    fn phase_is_over(&self) -> bool {
        self.shared.workload.exhausted() && self.shared.tally.outstanding == 0
    }

    /// What is looked at now and then. The answer ends the run: whether it went as planned.
    fn tick(
        &mut self,
        now: u64,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Option<bool>, Error> {
        self.fleet.tick(&mut self.shared, now)?;
        let over = self.phase_is_over();
        match self.shared.workload.phase {
            Phase::Connect if self.all_connected() => {
                self.after_connect(now)?;
            }
            Phase::Preload if over => self.warm_up(now)?,
            Phase::WarmUp if now >= self.phase_end => self.measure()?,
            Phase::Measure if over || now >= self.phase_end => {
                self.end = Some(self.mark(false)?);
                self.shared.tally.recorder.end(now);
                self.shared.workload.enter(Phase::Drain, now, 0);
            }
            Phase::Drain if over && !self.fleet.busy() => return Ok(Some(true)),
            _ => {}
        }
        self.shared.tally.recorder.tick(now);
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
        self.shared.tally.recorder.end(now);
        self.shared.tally.checker.errors.unanswered += self.shared.tally.outstanding;
        Ok(Some(false))
    }

    /// Whether to wait no longer.
    fn stalled(&self, now: u64) -> Result<bool, Error> {
        let silent = now.saturating_sub(self.shared.tally.alive);
        let limit = nanos(self.shared.plan.reply_timeout);
        let first_limit = HANDSHAKE.min(limit);
        if self.shared.tally.recorder.replies == 0 && silent > first_limit {
            let waited = Duration::from_nanos(first_limit);
            return Err(self.fleet.handshake_error(
                &self.shared,
                format!("did not answer anything for {waited:?}"),
            ));
        }
        let due = self.shared.tally.outstanding > 0 || !self.all_connected();
        let too_long = now.saturating_sub(self.began) > nanos(self.shared.plan.time_limit);
        Ok((due && silent > limit) || too_long)
    }

    fn after_connect(&mut self, now: u64) -> Result<(), Error> {
        match self.shared.plan.users {
            Users::Known {
                count,
                preload: true,
            } => {
                self.shared
                    .workload
                    .enter(Phase::Preload, now, u64::from(count));
                self.proceed_all(now)
            }
            _ => self.warm_up(now),
        }
    }

    fn warm_up(&mut self, now: u64) -> Result<(), Error> {
        let storm = matches!(self.shared.plan.load, Load::Storm { .. });
        if self.shared.plan.warm_up.is_zero() || storm {
            return self.measure();
        }
        self.phase_end = now + nanos(self.shared.plan.warm_up);
        self.shared.workload.enter(Phase::WarmUp, now, u64::MAX);
        self.proceed_all(now)
    }

    fn measure(&mut self) -> Result<(), Error> {
        let mark = self.mark(true)?;
        let now = mark.time;
        self.begin = Some(mark);
        let storm = matches!(self.shared.plan.load, Load::Storm { .. });
        let budget = match self.shared.plan.amount {
            Amount::Lookups(count) if !storm => Some(count),
            Amount::Lookups(_) => self.shared.workload.planned(Duration::ZERO),
            Amount::Time(time) => self.shared.workload.planned(time),
        };
        self.phase_end = match (budget, self.shared.plan.amount) {
            (None, Amount::Time(time)) => now + nanos(time),
            _ => u64::MAX,
        };
        let budget = budget.unwrap_or(u64::MAX);
        self.shared.tally.recorder.begin(now);
        self.shared.workload.enter(Phase::Measure, now, budget);
        self.proceed_all(now)
    }

    fn mark(&self, begins: bool) -> Result<Mark, Error> {
        let read = |process: &Processes| {
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
            own_waits: clock::waited_for_cpu().unwrap_or(0),
            process,
        })
    }

    fn progress(&self, now: u64) -> Progress {
        let since = |mark: &Mark| now.saturating_sub(mark.time);
        let phase = self.shared.workload.phase;
        let share = |done: u64, all: u64| (done as f64 / all.max(1) as f64).min(1.0);
        let done = match (phase, self.shared.plan.users, self.shared.plan.amount) {
            (Phase::Preload, Users::Known { count, .. }, _) => {
                share(self.shared.tally.recorder.replies, u64::from(count))
            }
            (Phase::Measure, _, amount) => match (self.shared.plan.load, amount) {
                (Load::Storm { within }, _) => {
                    share(self.begin.as_ref().map_or(0, since), nanos(within))
                }
                (_, Amount::Lookups(count)) => share(self.shared.tally.recorder.measured, count),
                (_, Amount::Time(time)) => share(self.begin.as_ref().map_or(0, since), nanos(time)),
            },
            (Phase::Drain, ..) => 1.0,
            _ => 0.0,
        };
        let errors = self.shared.tally.checker.errors.total();
        Progress {
            phase,
            done,
            replies: self.shared.tally.recorder.replies,
            errors,
        }
    }
}
