//! Who logs in next, and when.

use crate::plan::{Load, Plan, Users};
use crate::rng::Rng;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: u32,
    /// From when its latency counts.
    pub(crate) start: u64,
}

/// Hands out logins.
pub(crate) struct Workload {
    pub(crate) phase: Phase,
    users: Users,
    rate: Option<f64>,
    rng: Rng,
    /// Next user of the preload, or next new user.
    next_user: u32,
    arrivals_from: u64,
    arrivals: u64,
    /// Logins that may still be handed out in this phase.
    budget: u64,
}

impl Workload {
    pub(crate) fn new(plan: &Plan) -> Self {
        let (next_user, rate) = match (plan.users, plan.load) {
            (Users::New { first }, Load::Closed) => (first, None),
            (Users::New { first }, Load::Open { rate }) => (first, Some(rate)),
            (Users::Known { .. }, Load::Closed) => (0, None),
            (Users::Known { .. }, Load::Open { rate }) => (0, Some(rate)),
        };
        Self {
            phase: Phase::Connect,
            users: plan.users,
            rate,
            rng: Rng::new(plan.seed),
            next_user,
            arrivals_from: 0,
            arrivals: 0,
            budget: 0,
        }
    }

    /// Begins a phase with so many logins at most.
    pub(crate) fn enter(&mut self, phase: Phase, now: u64, budget: u64) {
        self.phase = phase;
        self.budget = budget;
        self.arrivals_from = now;
        self.arrivals = 0;
    }

    /// Users preloaded so far, or new users handed out.
    pub(crate) fn users_begun(&self) -> u64 {
        match self.users {
            Users::Known { .. } => u64::from(self.next_user),
            Users::New { first } => u64::from(self.next_user - first),
        }
    }

    /// Nothing more will be handed out in this phase.
    pub(crate) fn exhausted(&self) -> bool {
        self.budget == 0
    }

    /// When the next login is due, if that is known.
    pub(crate) fn next_arrival(&self) -> Option<u64> {
        let rate = self.paced().filter(|_| self.budget > 0)?;
        Some(self.arrivals_from + (self.arrivals as f64 * 1e9 / rate) as u64)
    }

    /// Whether logins come at their own times now.
    pub(crate) fn paced(&self) -> Option<f64> {
        self.rate
            .filter(|_| matches!(self.phase, Phase::WarmUp | Phase::Measure))
    }

    /// The next login, if one is due.
    pub(crate) fn next(&mut self, now: u64) -> Option<Login> {
        if self.budget == 0 {
            return None;
        }
        let start = match self.next_arrival() {
            Some(due) if due > now => return None,
            Some(due) => due,
            None => now,
        };
        self.budget -= 1;
        self.arrivals += 1;
        Some(Login {
            user: self.user(),
            start,
        })
    }

    fn user(&mut self) -> u32 {
        match self.users {
            Users::Known { count, .. } if self.phase != Phase::Preload => self.rng.below(count),
            _ => {
                let user = self.next_user;
                self.next_user = user.wrapping_add(1);
                user
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Target;

    #[test]
    fn arrivals_keep_their_intended_time() {
        let load = Load::Open { rate: 1000.0 };
        let plan = Plan {
            load,
            ..Plan::new(Target::Login("/a".into()))
        };
        let mut workload = Workload::new(&plan);
        workload.enter(Phase::Measure, 5_000_000, 3);
        let start = |login: Option<Login>| login.map(|login| login.start);
        assert_eq!(start(workload.next(5_000_000)), Some(5_000_000));
        assert_eq!(workload.next(5_999_999), None);
        // Asked late: the start is still the intended one.
        assert_eq!(start(workload.next(9_000_000)), Some(6_000_000));
        assert_eq!(workload.next_arrival(), Some(7_000_000));
        assert_eq!(start(workload.next(9_000_000)), Some(7_000_000));
        assert_eq!(workload.next(9_000_000), None);
        assert!(workload.exhausted());
    }

    #[test]
    fn preload_and_new_users_come_in_order_and_known_ones_at_random() {
        let plan = Plan::new(Target::Login("/a".into()));
        let mut workload = Workload::new(&plan);
        workload.enter(Phase::Preload, 0, 3);
        let users = |workload: &mut Workload| -> Vec<u32> {
            std::iter::from_fn(|| workload.next(0))
                .map(|login| login.user)
                .collect()
        };
        assert_eq!(users(&mut workload), [0, 1, 2]);
        workload.enter(Phase::Measure, 0, 1000);
        let known = users(&mut workload);
        assert!(known.iter().all(|user| *user < 100_000));
        assert!(known.windows(2).any(|pair| pair[0] > pair[1]));
        let new = Plan {
            users: Users::New { first: 7 },
            ..plan
        };
        let mut workload = Workload::new(&new);
        workload.enter(Phase::Measure, 0, 3);
        assert_eq!(users(&mut workload), [7, 8, 9]);
        assert_eq!(workload.users_begun(), 3);
    }
}
