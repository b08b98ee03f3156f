//! What a run of many seeds has to say.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::options::SECOND;

pub struct Report {
    outcomes: Vec<Outcome>,
    took: Duration,
}

impl Report {
    /// Measures how long `work` takes.
    pub fn of(work: impl FnOnce() -> Vec<Outcome>) -> Report {
        #[expect(
            clippy::disallowed_methods,
            reason = "how fast the simulator is, not what it does"
        )]
        let begun = Instant::now();
        let outcomes = work();
        Report {
            took: begun.elapsed(),
            outcomes,
        }
    }

    pub fn is_clean(&self) -> bool {
        self.outcomes
            .iter()
            .all(|outcome| outcome.violation.is_none())
    }

    /// Every invariant that was broken, and how to see it again.
    pub fn failures(&self) -> String {
        let mut by_name: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
        for outcome in &self.outcomes {
            if let Some(violation) = &outcome.violation {
                let seeds = by_name.entry(violation.name).or_default();
                seeds.push((outcome.seed, &violation.text));
            }
        }
        let mut text = String::new();
        for (name, seeds) in by_name {
            text += &format!("\n{name}: {} seeds\n", seeds.len());
            for (seed, what) in seeds.iter().take(8) {
                text += &format!("  HOMING_SIM_SEED={seed}: {what}\n");
            }
        }
        text
    }

    fn total(&self, of: impl Fn(&Outcome) -> u64) -> u64 {
        self.outcomes.iter().map(of).sum()
    }

    /// L1 for rings of Homing directors: 99 % within 10 s, all within 60 s. Two more may take longer: of a
    /// few hundred seeds a percent is a matter of chance, and of fewer it is none.
    pub fn heals_in_time(&self) -> bool {
        let mut times: Vec<u64> = self.outcomes.iter().filter_map(healing).collect();
        times.sort_unstable();
        let slow = times.iter().filter(|time| **time > 10 * SECOND).count();
        let longest = times.last().copied().unwrap_or_default();
        longest <= 60 * SECOND && (times.len() < 200 || slow * 100 <= times.len() + 200)
    }

    /// The seeds that took longest to agree, to look at.
    fn slowest(&self) -> String {
        let mut times: Vec<(u64, u64)> = self
            .outcomes
            .iter()
            .filter_map(|outcome| Some((healing(outcome)?, outcome.seed)))
            .filter(|(time, _)| *time > 8 * SECOND)
            .collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let seeds = times.iter().take(8);
        let seeds: Vec<String> = seeds
            .map(|(time, seed)| format!("{seed}: {} s", time / SECOND))
            .collect();
        seeds.join(", ")
    }

    /// Median, 99 % and greatest, in seconds.
    fn spread(&self, of: impl Fn(&Outcome) -> Option<u64>) -> String {
        let mut times: Vec<u64> = self.outcomes.iter().filter_map(of).collect();
        times.sort_unstable();
        let at = |percent: usize| {
            times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
        };
        match (at(50), at(99), times.last()) {
            (Some(median), Some(most), Some(all)) => {
                let seconds = |time: &u64| *time as f64 / SECOND as f64;
                format!(
                    "{:.1} / {:.1} / {:.1} s",
                    seconds(median),
                    seconds(most),
                    seconds(all)
                )
            }
            _ => "none".to_owned(),
        }
    }
}

/// From the end of the last fault until a ring of several Homing directors agreed.
fn healing(outcome: &Outcome) -> Option<u64> {
    let ring = outcome.directors > 1 && !outcome.mixed;
    outcome.stats.agreed_backends.filter(|_| ring)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.total(|outcome| outcome.stats.events);
        let years = self.total(|outcome| outcome.stats.simulated / SECOND) as f64 / 31_557_600.0;
        let took = self.took.as_secs_f64();
        let strict = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.strict)
            .count();
        writeln!(f, "seeds         {} ({strict} strict)", self.outcomes.len())?;
        writeln!(
            f,
            "events        {events}, {:.0} a second",
            events as f64 / took
        )?;
        writeln!(f, "ring-years    {years:.4}")?;
        for (name, of) in [
            (
                "faults",
                (|o: &Outcome| o.stats.faults) as fn(&Outcome) -> u64,
            ),
            ("orders", |o| o.stats.orders),
            ("logins", |o| o.stats.logins),
            ("answered", |o| o.stats.answered),
            ("timed out", |o| o.stats.timed_out),
            ("refused", |o| o.stats.refused),
            ("notes lost", |o| o.stats.notes_lost),
            ("kicks", |o| o.stats.kicks),
            ("doubles", |o| o.stats.doubles),
            ("ring lines", |o| o.stats.lines),
            ("pings", |o| o.stats.pings),
        ] {
            writeln!(f, "{name:<13} {}", self.total(of))?;
        }
        let mixed = |o: &Outcome| o.stats.agreed_backends.filter(|_| o.mixed);
        let users = |o: &Outcome| o.stats.agreed_users.filter(|_| o.directors > 1);
        writeln!(
            f,
            "L1 backends   {} (median / 99 % / most)",
            self.spread(healing)
        )?;
        writeln!(f, "above 8 s     {}", self.slowest())?;
        writeln!(f, "L1 mixed      {}", self.spread(mixed))?;
        write!(f, "L1 users      {}", self.spread(users))
    }
}
