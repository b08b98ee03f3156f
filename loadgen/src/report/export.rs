//! A result as files: JSON, and the formats of HdrHistogram's own tools.

use std::fmt::Write;
use std::io;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use super::{Point, Report};
use crate::error::Error;

/// Steps of a percentile distribution for each halving of the distance to 100 %.
const STEPS: u32 = 5;
/// Latencies are nanoseconds; both formats are written in microseconds and milliseconds.
const NANOS_PER_MICRO: f64 = 1000.0;
const NANOS_PER_MILLI: f64 = 1e6;

impl Report {
    /// Everything, the plan and the machine included, as JSON; the histogram as percentiles.
    pub fn json(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self)
            .map_err(|error| Error::kernel("cannot write JSON")(io::Error::other(error)))
    }

    /// The distribution of latencies in microseconds, as HdrHistogram's
    /// `outputPercentileDistribution` writes it and its plotter reads it.
    pub fn hgrm(&self) -> String {
        percentile_distribution(&self.histogram)
    }

    /// The interval log, as HdrHistogram's `HistogramLogReader` reads it. Values are nanoseconds,
    /// the maximum of each line milliseconds.
    pub fn hlog(&self) -> Result<Vec<u8>, Error> {
        let failed =
            |error: String| Error::kernel("cannot write an interval log")(io::Error::other(error));
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(self.began.max(0.0));
        let (mut text, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("loadgen: login latencies in nanoseconds")
            .with_start_time(begin)
            .with_base_time(begin)
            .with_max_value_divisor(NANOS_PER_MILLI)
            .begin_log_with(&mut text, &mut serializer)
            .map_err(|error| failed(error.to_string()))?;
        for interval in &self.intervals {
            let histogram: Histogram<u64> = Deserializer::new()
                .deserialize(&mut interval.encoded.as_slice())
                .map_err(|error| failed(error.to_string()))?;
            let at = Duration::from_secs_f64(interval.at);
            let length = Duration::from_secs_f64(interval.seconds);
            log.write_histogram(&histogram, at, length, None)
                .map_err(|error| failed(format!("{error:?}")))?;
        }
        Ok(text)
    }
}

/// The same steps for pictures.
pub(super) fn points(histogram: &Histogram<u64>) -> Vec<Point> {
    let steps = histogram.iter_quantiles(STEPS);
    let point = |micros: u64, quantile| Point {
        quantile,
        micros: micros as f64 / NANOS_PER_MICRO,
    };
    steps
        .map(|step| point(step.value_iterated_to(), step.quantile_iterated_to()))
        .collect()
}

fn percentile_distribution(histogram: &Histogram<u64>) -> String {
    let mut text = String::new();
    let head = ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"];
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:>12} {:>14} {:>10} {:>14}\n",
        head[0], head[1], head[2], head[3]
    );
    let mut count = 0;
    for step in histogram.iter_quantiles(STEPS) {
        count += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / NANOS_PER_MICRO;
        let quantile = step.quantile_iterated_to();
        let _ = write!(text, "{value:>12.3} {quantile:>14.12} {count:>10}");
        let _ = if quantile < 1.0 {
            writeln!(text, " {:>14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text)
        };
    }
    let micros = |nanos: f64| nanos / NANOS_PER_MICRO;
    let (mean, deviation) = (micros(histogram.mean()), micros(histogram.stdev()));
    let _ = writeln!(
        text,
        "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]"
    );
    let (max, total) = (micros(histogram.max() as f64), histogram.len());
    let _ = writeln!(
        text,
        "#[Max     = {max:>12.3}, Total count    = {total:>12}]"
    );
    // Both follow from the bounds and the precision, as in the Java implementation.
    let sub_buckets = 2048;
    let buckets = histogram.buckets();
    let _ = writeln!(
        text,
        "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::histogram;

    #[test]
    fn a_distribution_ends_at_the_maximum_and_counts_all() {
        let mut latencies = histogram().unwrap();
        for micros in 1..=1000 {
            latencies.record(micros * 1000).unwrap();
        }
        let text = percentile_distribution(&latencies);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|word| word.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(rows.len() > 20, "{text}");
        for row in &rows {
            // Of a thousand even steps the value at a percentile is the percentile.
            assert!((row[0] - row[1] * 1000.0).abs() <= 2.0, "{row:?}");
        }
        let last = rows.last().unwrap();
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 1000.0));
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"));
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }
}
