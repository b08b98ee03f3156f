//! What one core counts, and its latency histograms. A core writes its own without any lock; the
//! control core asks for a copy and merges on demand.

use hdrhistogram::Histogram;

use crate::core::lookup::Socket;
use crate::core::{DelayReason, Refusal};

/// Longest latency recorded, in nanoseconds; longer ones count as this. A minute is more than any
/// lookup's deadline.
const LONGEST_NANOS: u64 = 60_000_000_000;

/// Counters and histograms of one core, or the sum of several.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Lookups answered with a backend, by [`Socket`].
    pub answered: [u64; 3],
    /// Lookups answered with a temporary failure at their deadline, by [`DelayReason`].
    pub timed_out: [u64; 5],
    /// New users refused, by [`Refusal`].
    pub refused: [u64; 2],
    /// Lookups that failed because of the passdb's answer.
    pub misconfigured: u64,
    /// Users created.
    pub created: u64,
    /// Keep-alive lines read.
    pub keep_alives: u64,
    /// Keep-alive lines that were over-long and skipped.
    pub keep_alives_skipped: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections given to another core because that had fewer.
    pub handed_over: u64,
    /// Connections to auth that could not be made.
    pub dial_failures: u64,
    /// Connections to auth that auth ended.
    pub auth_lost: u64,
    /// Open connections.
    pub connections: u64,
    /// Lookups waiting.
    pub parked: u64,
    /// From reading auth's reply to having written the answer, for lookups that did not wait, by
    /// [`Socket`], in nanoseconds.
    pub latency: [Histogram<u64>; 3],
    /// How long waiting lookups waited, by [`DelayReason`], in nanoseconds.
    pub delay: [Histogram<u64>; 5],
}

/// What several cores have counted, each as of when it answered.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// In the order of cores. One that did not answer in time is missing.
    pub by_core: Vec<(usize, Stats)>,
    /// All of them together.
    pub sum: Stats,
}

impl Counted {
    /// From the answers of different cores, in any order.
    pub fn new(mut by_core: Vec<(usize, Stats)>) -> Counted {
        by_core.sort_by_key(|&(core, _)| core);
        let mut sum = Stats::default();
        by_core.iter().for_each(|(_, stats)| sum.merge(stats));
        Counted { by_core, sum }
    }
}

/// An empty histogram of nanoseconds, with the bounds and the precision of those in [`Stats`].
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NANOS, 2).expect("constant bounds are valid")
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            answered: [0; 3],
            timed_out: [0; 5],
            refused: [0; 2],
            misconfigured: 0,
            created: 0,
            keep_alives: 0,
            keep_alives_skipped: 0,
            accepted: 0,
            handed_over: 0,
            dial_failures: 0,
            auth_lost: 0,
            connections: 0,
            parked: 0,
            latency: std::array::from_fn(|_| histogram()),
            delay: std::array::from_fn(|_| histogram()),
        }
    }
}

impl Stats {
    /// `count` lookups were answered `nanos` after auth's reply was read.
    pub fn answered_at_once(&mut self, socket: Socket, nanos: u64, count: u64) {
        if count > 0 {
            self.latency[socket.index()].saturating_record_n(nanos, count);
        }
    }

    /// A lookup waited `nanos` for `reason`.
    pub fn waited(&mut self, reason: DelayReason, nanos: u64) {
        self.delay[reason.index()].saturating_record(nanos);
    }

    /// Adds another core's.
    fn merge(&mut self, other: &Stats) {
        add(&mut self.answered, &other.answered);
        add(&mut self.timed_out, &other.timed_out);
        add(&mut self.refused, &other.refused);
        self.misconfigured += other.misconfigured;
        self.created += other.created;
        self.keep_alives += other.keep_alives;
        self.keep_alives_skipped += other.keep_alives_skipped;
        self.accepted += other.accepted;
        self.handed_over += other.handed_over;
        self.dial_failures += other.dial_failures;
        self.auth_lost += other.auth_lost;
        self.connections += other.connections;
        self.parked += other.parked;
        for (mine, theirs) in self.latency.iter_mut().zip(&other.latency) {
            *mine += theirs;
        }
        for (mine, theirs) in self.delay.iter_mut().zip(&other.delay) {
            *mine += theirs;
        }
    }

    /// One line for the log.
    pub fn summary(&self) -> String {
        let answered: u64 = self.answered.iter().sum();
        let timed_out: u64 = self.timed_out.iter().sum();
        let refused: u64 = self.refused.iter().sum();
        let mut all = self.latency[0].clone();
        for socket in &Socket::ALL[1..] {
            all += &self.latency[socket.index()];
        }
        let [p50, p99] = [0.5, 0.99].map(|at| all.value_at_quantile(at) / 1000);
        format!(
            "lookups={answered} timed_out={timed_out} refused={refused} misconfigured={} \
             parked={} connections={} accepted={} handed_over={} keep_alives={} \
             keep_alives_skipped={} dial_failures={} auth_lost={} p50_us={p50} p99_us={p99}",
            self.misconfigured,
            self.parked,
            self.connections,
            self.accepted,
            self.handed_over,
            self.keep_alives,
            self.keep_alives_skipped,
            self.dial_failures,
            self.auth_lost,
        )
    }

    /// What tells whether the cores share the work evenly, for the log.
    pub fn of_core(&self) -> String {
        format!(
            "connections={} accepted={} handed_over={} lookups={} parked={}",
            self.connections,
            self.accepted,
            self.handed_over,
            self.answered.iter().sum::<u64>(),
            self.parked,
        )
    }

    /// Refusals by cause, for the log.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().zip(self.refused)
    }

    /// Timeouts by reason, for the log.
    pub fn timeouts(&self) -> impl Iterator<Item = (DelayReason, u64)> {
        DelayReason::ALL.into_iter().zip(self.timed_out)
    }
}

fn add(mine: &mut [u64], theirs: &[u64]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine += theirs;
    }
}
