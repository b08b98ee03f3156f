//! A result as files: JSON, and the formats of HdrHistogram's own tools.

use std::io;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use super::{Point, Report};
use crate::error::Error;
use crate::hgrm::{NANOS_PER_MICRO, STEPS, percentile_distribution};

/// Latencies are nanoseconds; the log has its maxima in milliseconds.
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
