//! What is measured: latencies, altogether and by interval, and the generator's own share of the
//! work.

use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::Serialize;

use crate::error::Error;
use crate::plan::MAX_INTERVALS;
use crate::workload::nanos;

/// Latencies up to ten minutes are told apart, to three digits.
const LONGEST: u64 = 600_000_000_000;

/// Percentiles of a latency, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Half of all were faster.
    pub p50: f64,
    /// 90 of 100 were faster.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// The average.
    pub mean: f64,
    /// How many there are.
    pub count: u64,
}

impl Percentiles {
    /// Of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
            mean: histogram.mean() / 1000.0,
            count: histogram.len(),
        }
    }
}

/// A histogram of nanoseconds.
pub(crate) fn histogram() -> Result<Histogram<u64>, Error> {
    Histogram::new_with_bounds(1, LONGEST, 3)
        .map_err(|error| Error::kernel("cannot make a histogram")(std::io::Error::other(error)))
}

/// Replies of one interval.
#[derive(Clone, Debug, Serialize)]
pub struct Interval {
    /// Seconds since the measured part began.
    pub at: f64,
    /// How long it is, in seconds.
    pub seconds: f64,
    /// Microseconds from (intended) start to the reply, by when the reply came.
    pub latency: Percentiles,
    /// Its histogram in the serialisation of HdrHistogram, version 2.
    #[serde(skip)]
    pub(crate) encoded: Vec<u8>,
}

/// An interval as it is kept while the run goes on: what takes longer is done afterwards.
struct Kept {
    from: u64,
    until: u64,
    encoded: Vec<u8>,
}

/// Counts while the measured phase runs.
pub(crate) struct Recorder {
    /// Of the intervals that have ended.
    pub(crate) latency: Histogram<u64>,
    kept: Vec<Kept>,
    /// Of this interval.
    current: Histogram<u64>,
    current_from: u64,
    current_end: u64,
    interval: u64,
    /// By how much arrivals were sent later than intended although a slot was free.
    pub(crate) late: Histogram<u64>,
    /// Arrivals that had to wait because everything allowed was in flight.
    pub(crate) held_back: u64,
    /// Replies since the beginning of the run, and in the measured phase.
    pub(crate) replies: u64,
    pub(crate) measured: u64,
    /// Requests that began before this are not recorded.
    from: u64,
    measuring: bool,
}

impl Recorder {
    pub(crate) fn new(interval: Duration) -> Result<Self, Error> {
        Ok(Self {
            latency: histogram()?,
            kept: Vec::new(),
            current: histogram()?,
            current_from: 0,
            current_end: u64::MAX,
            interval: nanos(interval).max(1),
            late: histogram()?,
            held_back: 0,
            replies: 0,
            measured: 0,
            from: u64::MAX,
            measuring: false,
        })
    }

    pub(crate) fn begin(&mut self, now: u64) {
        self.from = now;
        self.measuring = true;
        self.current_from = now;
        self.current_end = now.saturating_add(self.interval);
    }

    pub(crate) fn end(&mut self, now: u64) {
        if self.measuring {
            self.close(now);
            self.measuring = false;
            self.current_end = u64::MAX;
        }
    }

    /// Ends intervals whose time is over, empty ones too: a target that stood still shows.
    pub(crate) fn tick(&mut self, now: u64) {
        while self.measuring && now >= self.current_end {
            self.close(self.current_end);
        }
    }

    fn close(&mut self, until: u64) {
        let mut encoded = Vec::new();
        // What cannot be encoded is missing from the interval log only; a histogram that was
        // made by `histogram` can be.
        if V2Serializer::new()
            .serialize(&self.current, &mut encoded)
            .is_err()
        {
            encoded.clear();
        }
        if until > self.current_from && (self.kept.len() as u64) < MAX_INTERVALS {
            self.kept.push(Kept {
                from: self.current_from,
                until,
                encoded,
            });
        }
        // The bounds are the same: adding cannot fail.
        let added = self.latency.add(&self.current);
        debug_assert!(added.is_ok());
        self.current.reset();
        self.current_from = until;
        self.current_end = until.saturating_add(self.interval);
    }

    /// All intervals of the measured part.
    pub(crate) fn intervals(self) -> Vec<Interval> {
        let from = self.from;
        let interval = |kept: Kept| {
            let decoded = Deserializer::new().deserialize(&mut kept.encoded.as_slice());
            Some(Interval {
                at: kept.from.saturating_sub(from) as f64 / 1e9,
                seconds: (kept.until - kept.from) as f64 / 1e9,
                latency: Percentiles::of(&decoded.ok()?),
                encoded: kept.encoded,
            })
        };
        self.kept.into_iter().filter_map(interval).collect()
    }

    pub(crate) fn reply(&mut self, start: u64, now: u64) {
        self.replies += 1;
        if self.measuring {
            self.measured += 1;
            if start >= self.from {
                self.tick(now);
                self.current
                    .saturating_record(now.saturating_sub(start).max(1));
            }
        }
    }

    /// An arrival is being sent; `held` if it had to wait for a slot.
    pub(crate) fn sent(&mut self, start: u64, now: u64, held: bool) {
        if self.measuring {
            if held {
                self.held_back += 1;
            } else {
                self.late
                    .saturating_record(now.saturating_sub(start).max(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_split_the_measured_part_and_show_a_standstill() {
        let mut recorder = Recorder::new(Duration::from_secs(1)).unwrap();
        let second = 1_000_000_000;
        recorder.begin(10 * second);
        recorder.reply(10 * second, 10 * second + 500);
        // Nothing for two whole seconds.
        recorder.reply(10 * second + 1000, 13 * second + 1000);
        recorder.tick(13 * second + 2000);
        recorder.end(13 * second + second / 2);
        assert_eq!(recorder.latency.len(), 2);
        let intervals = recorder.intervals();
        let counts: Vec<_> = intervals.iter().map(|i| i.latency.count).collect();
        assert_eq!(counts, [1, 0, 0, 1]);
        let times: Vec<_> = intervals.iter().map(|i| (i.at, i.seconds)).collect();
        assert_eq!(times, [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (3.0, 0.5)]);
        assert!((0.49..0.51).contains(&intervals[0].latency.max));
    }

    #[test]
    fn percentiles_of_known_values() {
        let mut recorder = Recorder::new(Duration::from_secs(1)).unwrap();
        recorder.reply(0, 77); // before the measured phase
        recorder.begin(1000);
        recorder.reply(999, 5000); // begun before it
        for micros in 1..=1000 {
            recorder.reply(1000, 1000 + micros * 1000);
        }
        recorder.end(2_000_000);
        recorder.reply(1000, 9_000_000_000);
        let latency = Percentiles::of(&recorder.latency);
        let near = |value: f64, right: f64| (value - right).abs() <= right * 0.001;
        assert!(
            near(latency.p50, 500.0) && near(latency.p90, 900.0),
            "{latency:?}"
        );
        assert!(
            near(latency.p99, 990.0) && near(latency.p999, 999.0),
            "{latency:?}"
        );
        assert!(
            near(latency.max, 1000.0) && near(latency.mean, 500.5),
            "{latency:?}"
        );
        assert_eq!(
            (latency.count, recorder.measured, recorder.replies),
            (1000, 1001, 1003)
        );
        recorder.begin(0);
        recorder.reply(0, 500_000_000);
        recorder.end(600_000_000);
        assert_eq!(recorder.latency.len(), 1001);
    }
}
