//! HdrHistogram's percentile distribution, `.hgrm`.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Steps of a percentile distribution for each halving of the distance to 100 %.
pub(crate) const STEPS: u32 = 5;
pub(crate) const NANOS_PER_MICRO: f64 = 1000.0;

/// A distribution of nanoseconds, in microseconds: as HdrHistogram's `outputPercentileDistribution` writes
/// it and its plotter reads it.
pub fn percentile_distribution(histogram: &Histogram<u64>) -> String {
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
    let sub_buckets = (2 * 10_u64.pow(histogram.sigfig().into())).next_power_of_two();
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
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
    }
}
