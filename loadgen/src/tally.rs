//! Takes replies: whose they are, whether they are right, how long they took.

use serde::Serialize;

use crate::check::Checker;
use crate::client::Slots;
use crate::plan::Plan;
use crate::record::Recorder;
use crate::reply::{Reply, parse};
use crate::workload::Login;

/// Why a login failed that may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Temporary,
    Disconnected,
    NotConnected,
    TimedOut,
}

/// Logins that were tried again, by what went wrong. They are no errors: clients do this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// A temporary failure was given.
    pub temporary_failure: u64,
    /// The connection broke.
    pub disconnected: u64,
    /// The connection could not be made.
    pub not_connected: u64,
    /// The answer took too long.
    pub timed_out: u64,
}

impl Retries {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.temporary_failure + self.disconnected + self.not_connected + self.timed_out
    }
}

/// Everything that replies change, apart from their connection.
pub(crate) struct Tally {
    pub(crate) checker: Checker,
    pub(crate) recorder: Recorder,
    /// Logins begun and not ended.
    pub(crate) outstanding: u64,
    /// When the target last did what it should.
    pub(crate) alive: u64,
    pub(crate) connected: usize,
    /// Logins to be tried again, for the workload.
    pub(crate) again: Vec<Login>,
    pub(crate) retries: Retries,
    tries: u8,
}

impl Tally {
    pub(crate) fn new(plan: &Plan, recorder: Recorder, now: u64) -> Self {
        Self {
            checker: Checker::new(plan),
            recorder,
            outstanding: 0,
            alive: now,
            connected: 0,
            again: Vec::new(),
            retries: Retries::default(),
            tries: plan.retry.times,
        }
    }

    /// A login begins.
    pub(crate) fn begin(&mut self, now: u64) {
        if self.outstanding == 0 {
            self.alive = now; // while nothing was asked nothing could be answered
        }
        self.outstanding += 1;
    }

    /// A login was answered.
    pub(crate) fn ended(&mut self, login: Login, now: u64) {
        self.alive = now;
        self.outstanding -= 1;
        self.recorder.reply(login.start, now);
    }

    /// Takes a reply. True if it ended a request.
    pub(crate) fn reply(&mut self, slots: &mut Slots, now: u64, line: &[u8]) -> bool {
        self.alive = now;
        let reply = parse(line);
        let (Reply::Found { id, .. } | Reply::Failed { id, .. }) = reply else {
            self.checker.errors.malformed += 1;
            return false;
        };
        let Some(login) = slots.finish(id) else {
            self.checker.errors.unknown_id += 1;
            return false;
        };
        match reply {
            Reply::Failed {
                temporary: true, ..
            } => {
                if !self.failed(login, Failure::Temporary) {
                    self.recorder.reply(login.start, now);
                }
                return true;
            }
            Reply::Failed { .. } if login.wrong => self.checker.wrong_password(true),
            Reply::Failed { .. } => self.checker.failed(false),
            Reply::Found { .. } if login.wrong => self.checker.wrong_password(false),
            Reply::Found { user, host, .. } => self.checker.found(login.user, user, host),
            Reply::Malformed => {}
        }
        self.ended(login, now);
        true
    }

    /// A connection failed that carried no login: as if it had carried one.
    pub(crate) fn idle_failed(&mut self, failure: Failure) {
        let patient = self.tries > 0;
        let (error, retry) = self.counters(failure);
        *if patient { retry } else { error } += 1;
    }

    fn counters(&mut self, failure: Failure) -> (&mut u64, &mut u64) {
        let (errors, retries) = (&mut self.checker.errors, &mut self.retries);
        match failure {
            Failure::Temporary => (
                &mut errors.temporary_failure,
                &mut retries.temporary_failure,
            ),
            Failure::Disconnected => (&mut errors.disconnected, &mut retries.disconnected),
            Failure::NotConnected => (&mut errors.not_connected, &mut retries.not_connected),
            Failure::TimedOut => (&mut errors.timed_out, &mut retries.timed_out),
        }
    }

    /// A login ended without an answer to it, or with a temporary failure. True: it is tried
    /// again. False: it is an error.
    pub(crate) fn failed(&mut self, login: Login, failure: Failure) -> bool {
        self.outstanding -= 1;
        let tries = self.tries;
        let (error, retry) = self.counters(failure);
        let again = login.tried < tries;
        if again {
            *retry += 1;
            self.again.push(login);
        } else {
            *error += 1;
        }
        again
    }
}
