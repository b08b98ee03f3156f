//! Logins and latencies of the last minutes: what the page draws.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Serialize;

use crate::core::Wall;

/// Seconds from one sample to the next.
pub const STEP: u64 = 2;
/// Samples that are kept: five minutes.
pub const SAMPLES_MAX: usize = 150;

/// Upper ends of the bands of latency in microseconds; one band more has all that is above.
pub const BANDS: [u64; 12] = [
    20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 200_000, 1_000_000,
];

/// Counters at one time, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lookups that got a backend.
    pub answered: u64,
    /// Lookups that got none.
    pub failed: u64,
    /// Answered lookups by the band of their latency.
    pub bands: [u64; BANDS.len() + 1],
}

/// What happened in one step.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Sample {
    /// When it ended, seconds since 1970.
    pub at: u64,
    /// Lookups that got a backend, per second.
    pub logins: f64,
    /// Lookups that got none, per second.
    pub failures: f64,
    /// Answered lookups by the band of their latency.
    pub bands: Vec<u64>,
}

/// The last samples.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    last: Option<(Wall, Totals)>,
}

impl History {
    /// The counters as they are now.
    pub fn add(&mut self, now: Wall, totals: Totals) {
        if let Some((then, before)) = &self.last {
            // A clock that was set back makes a step of one second.
            let seconds = now.0.saturating_sub(then.0).max(1) as f64;
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let bands = totals.bands.iter().zip(before.bands);
            if self.samples.len() == SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back(Sample {
                at: now.0,
                logins: rate(totals.answered, before.answered),
                failures: rate(totals.failed, before.failed),
                bands: bands.map(|(now, then)| now.saturating_sub(then)).collect(),
            });
        }
        self.last = Some((now, totals));
    }

    /// Those that ended later, the oldest first.
    pub fn after(&self, at: u64) -> Vec<Sample> {
        let after = self.samples.iter().filter(|sample| sample.at > at);
        after.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(answered: u64) -> Totals {
        let mut totals = Totals {
            answered,
            ..Totals::default()
        };
        totals.bands[0] = answered;
        totals
    }

    #[test]
    fn samples_are_differences() {
        let mut history = History::default();
        history.add(Wall(10), totals(100));
        assert!(history.after(0).is_empty());
        history.add(Wall(12), totals(150));
        history.add(Wall(12), totals(150));
        let samples = history.after(0);
        assert_eq!(
            (samples[0].at, samples[0].logins, samples[0].bands[0]),
            (12, 25.0, 50)
        );
        assert_eq!((samples[1].logins, samples[1].bands[0]), (0.0, 0));
        history.add(Wall(5), totals(0));
        assert_eq!(history.after(0)[2].logins, 0.0);
        for at in 0..1000 {
            history.add(Wall(100 + at), totals(at));
        }
        assert_eq!(history.after(0).len(), SAMPLES_MAX);
        assert_eq!(history.after(1098).len(), 1);
    }
}
