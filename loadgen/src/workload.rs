//! Who logs in next, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::plan::{Load, Plan, Popularity, Retry, Users};
use crate::rng::Rng;
use crate::zipf::Zipf;

/// The parts of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// All connections are being made.
    Connect,
    /// Every known user logs in once.
    Preload,
    /// As measured, but not measured.
    WarmUp,
    /// What counts.
    Measure,
    /// Nothing is asked any more; the last replies are awaited.
    Drain,
}

/// A login to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Login {
    pub(crate) user: u32,
    /// From when its latency counts, however often it is tried.
    pub(crate) start: u64,
    /// How often it was tried before.
    pub(crate) tried: u8,
    /// With a wrong password.
    pub(crate) wrong: bool,
}

/// When logins come that do not follow a reply.
enum Pace {
    Closed,
    Rate(f64),
    /// From, to, and how long the way is in nanoseconds.
    Ramp(f64, f64, f64),
    /// The moments, ascending, in nanoseconds from the beginning.
    Storm(Vec<u64>),
}

/// Hands out logins.
pub(crate) struct Workload {
    pub(crate) phase: Phase,
    users: Users,
    pace: Pace,
    zipf: Option<Zipf>,
    new_share: f64,
    wrong_share: f64,
    retry: Retry,
    rng: Rng,
    /// Next user of the preload, of the storm, or next new user.
    next_user: u32,
    /// New users handed out.
    begun: u64,
    arrivals_from: u64,
    arrivals: u64,
    /// Logins that may still be handed out in this phase.
    budget: u64,
    /// Logins that failed and come again, by their time.
    again: BinaryHeap<Reverse<(u64, Login)>>,
}

impl Workload {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let (count, next_user) = match plan.users {
            Users::Known { count, .. } => (count, 0),
            Users::New { first } => (1, first),
        };
        let pace = match plan.load {
            Load::Closed => Pace::Closed,
            Load::Open { rate } => Pace::Rate(rate),
            Load::Ramp { from, to } => Pace::Ramp(from, to, nanos(measured_time(plan)) as f64),
            Load::Storm { within } => {
                let within = nanos(within) as f64;
                let mut moments: Vec<_> =
                    (0..count).map(|_| (rng.share() * within) as u64).collect();
                moments.sort_unstable();
                Pace::Storm(moments)
            }
        };
        let zipf = match plan.popularity {
            Popularity::Uniform => None,
            Popularity::Zipf { exponent } => Some(Zipf::new(count, exponent)),
        };
        Self {
            phase: Phase::Connect,
            users: plan.users,
            pace,
            zipf,
            new_share: plan.new_share,
            wrong_share: plan.wrong_share,
            retry: plan.retry,
            rng,
            next_user,
            begun: 0,
            arrivals_from: 0,
            arrivals: 0,
            budget: 0,
            again: BinaryHeap::new(),
        }
    }

    /// Begins a phase with so many logins at most.
    pub(crate) fn enter(&mut self, phase: Phase, now: u64, budget: u64) {
        self.phase = phase;
        self.budget = budget;
        self.arrivals_from = now;
        self.arrivals = 0;
        if let (Phase::Preload | Phase::Measure, Users::Known { count, .. }) = (phase, self.users) {
            self.next_user = match (phase, &self.pace) {
                (Phase::Preload, _) | (_, Pace::Storm(_)) => 0,
                _ => self.next_user.max(count), // new users follow the known ones
            };
        }
    }

    /// New users handed out.
    pub(crate) fn users_begun(&self) -> u64 {
        self.begun
    }

    /// How many logins the measured part has, if that is known.
    pub(crate) fn planned(&self, time: Duration) -> Option<u64> {
        let time = time.as_secs_f64();
        match &self.pace {
            Pace::Closed => None,
            // Every arrival that belongs to the time is awaited, however late its reply.
            Pace::Rate(rate) => Some((time * rate).max(1.0) as u64),
            Pace::Ramp(from, to, _) => Some((time * (from + to) / 2.0).max(1.0) as u64),
            Pace::Storm(moments) => Some(moments.len() as u64),
        }
    }

    /// Nothing more will be handed out in this phase.
    pub(crate) fn exhausted(&self) -> bool {
        self.budget == 0 && self.again.is_empty()
    }

    /// When the next login is due, if that is known.
    pub(crate) fn next_arrival(&self) -> Option<u64> {
        let again = self.again.peek().map(|Reverse((due, _))| *due);
        match (self.next_first(), again) {
            (Some(first), Some(again)) => Some(first.min(again)),
            (first, again) => first.or(again),
        }
    }

    /// When the next login is due that was not tried before.
    fn next_first(&self) -> Option<u64> {
        if !self.paced() || self.budget == 0 {
            return None;
        }
        let number = self.arrivals as f64;
        let after = match &self.pace {
            Pace::Closed => return None,
            Pace::Rate(rate) => (number * 1e9 / rate) as u64,
            Pace::Ramp(from, to, time) if self.phase == Phase::Measure => {
                // The time at which the area below the ramp is the number.
                let (from, slope) = (from / 1e9, (to - from) / 1e9 / time);
                let root = (from * from + 2.0 * slope * number).max(0.0).sqrt();
                (2.0 * number / (from + root)) as u64
            }
            Pace::Ramp(from, ..) => (number * 1e9 / from) as u64,
            Pace::Storm(moments) => moments.get(self.arrivals as usize).copied()?,
        };
        Some(self.arrivals_from + after)
    }

    /// Whether logins come at their own times now.
    pub(crate) fn paced(&self) -> bool {
        match self.pace {
            Pace::Closed => false,
            Pace::Rate(_) | Pace::Ramp(..) => {
                matches!(self.phase, Phase::WarmUp | Phase::Measure)
            }
            Pace::Storm(_) => self.phase == Phase::Measure,
        }
    }

    /// The next login, if one is due.
    pub(crate) fn next(&mut self, now: u64) -> Option<Login> {
        if let Some(Reverse((due, _))) = self.again.peek()
            && *due <= now
        {
            return self.again.pop().map(|Reverse((_, login))| login);
        }
        if self.budget == 0 {
            return None;
        }
        let start = match self.next_first() {
            Some(due) if due > now => return None,
            Some(due) => due,
            None => now,
        };
        self.budget -= 1;
        self.arrivals += 1;
        let wrong = self.phase != Phase::Preload
            && self.wrong_share > 0.0
            && self.rng.share() < self.wrong_share;
        Some(Login {
            user: self.user(),
            start,
            tried: 0,
            wrong,
        })
    }

    /// Puts a failed login back: it comes again after a while.
    pub(crate) fn try_again(&mut self, mut login: Login, now: u64) {
        let doubled = self.retry.first.saturating_mul(1 << login.tried.min(30));
        let wait = nanos(doubled.min(self.retry.longest)) as f64;
        let due = now + (wait * (0.5 + self.rng.share())) as u64;
        login.tried += 1;
        self.again.push(Reverse((due, login)));
    }

    fn user(&mut self) -> u32 {
        let in_order = self.phase == Phase::Preload || matches!(self.pace, Pace::Storm(_));
        match self.users {
            Users::Known { .. } if in_order => self.following(),
            Users::Known { count, .. } => {
                if self.phase == Phase::Measure
                    && self.new_share > 0.0
                    && self.rng.share() < self.new_share
                {
                    self.begun += 1;
                    return self.following();
                }
                match &self.zipf {
                    None => self.rng.below(count),
                    Some(zipf) => zipf.draw(&mut self.rng),
                }
            }
            Users::New { .. } => {
                self.begun += 1;
                self.following()
            }
        }
    }

    fn following(&mut self) -> u32 {
        let user = self.next_user;
        self.next_user = user.wrapping_add(1);
        user
    }
}

fn measured_time(plan: &Plan) -> Duration {
    match plan.amount {
        crate::plan::Amount::Time(time) => time,
        crate::plan::Amount::Lookups(_) => Duration::from_secs(1), // the plan was checked
    }
}

/// A time in nanoseconds.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
