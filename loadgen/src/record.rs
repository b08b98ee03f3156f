//! What is measured: latencies, and the generator's own share of the work.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::Error;

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

/// Counts while the measured phase runs.
pub(crate) struct Recorder {
    pub(crate) latency: Histogram<u64>,
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
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            latency: histogram()?,
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
    }

    pub(crate) fn end(&mut self) {
        self.measuring = false;
    }

    pub(crate) fn reply(&mut self, start: u64, now: u64) {
        self.replies += 1;
        if self.measuring {
            self.measured += 1;
            if start >= self.from {
                self.latency
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
    fn percentiles_of_known_values() {
        let mut recorder = Recorder::new().unwrap();
        recorder.reply(0, 77); // before the measured phase
        recorder.begin(1000);
        recorder.reply(999, 5000); // begun before it
        for micros in 1..=1000 {
            recorder.reply(1000, 1000 + micros * 1000);
        }
        recorder.end();
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
        recorder.reply(0, u64::MAX); // longer than a histogram goes: kept at its end
        assert_eq!(recorder.latency.len(), 1001);
    }
}
