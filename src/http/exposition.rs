//! The two text formats of metrics: OpenMetrics 1.0, and Prometheus' own of before (0.0.4).
//!
//! They differ in the names of counters, in units and in the end mark. The crate for it, prometheus-client, writes
//! only the former, and keeps metrics where ours are values that are asked for.

use std::fmt::Write;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus 0.0.4.
    Prometheus,
}

impl Format {
    /// What a client's Accept header asks for.
    pub fn of(accept: &str) -> Format {
        match accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Values of a label, in the order of its names.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A text that is being written.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
    /// The family that samples belong to.
    name: &'static str,
    kind: Kind,
}

impl Exposition {
    /// An empty one.
    pub fn new(format: Format) -> Exposition {
        Exposition {
            format,
            text: String::with_capacity(64 * 1024),
            name: "",
            kind: Kind::Gauge,
        }
    }

    /// Begins a family. `name` is without `_total`, and ends in its unit if it has one.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        (self.name, self.kind) = (name, kind);
        let shown = match (self.format, kind) {
            (Format::Prometheus, Kind::Counter) => format!("{name}_total"),
            _ => name.to_owned(),
        };
        let _ = writeln!(self.text, "# HELP {shown} {help}");
        let _ = writeln!(self.text, "# TYPE {shown} {}", kind.name());
        let unit = ["seconds", "bytes"]
            .into_iter()
            .find(|unit| name.ends_with(&format!("_{unit}")));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            let _ = writeln!(self.text, "# UNIT {shown} {unit}");
        }
    }

    /// A counter's or gauge's value.
    pub fn sample(&mut self, labels: Labels<'_>, value: f64) {
        let ending = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.line(ending, labels, None, value);
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &'static str, value: f64) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    /// A histogram's values. `below`: how many are at most each bound, in ascending order.
    pub fn histogram(&mut self, labels: Labels<'_>, below: &[(f64, u64)], count: u64, sum: f64) {
        for &(bound, below) in below {
            let bound = number(bound);
            self.line("_bucket", labels, Some(("le", &bound)), below as f64);
        }
        self.line("_bucket", labels, Some(("le", "+Inf")), count as f64);
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count as f64);
    }

    fn line(&mut self, ending: &str, labels: Labels<'_>, last: Option<(&str, &str)>, value: f64) {
        let _ = write!(self.text, "{}{ending}", self.name);
        let mut before = '{';
        for &(name, value) in labels.iter().chain(&last) {
            let _ = write!(self.text, "{before}{name}=\"");
            escape(value, &mut self.text);
            self.text.push('"');
            before = ',';
        }
        let close = if before == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{close} {}", number(value));
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// OpenMetrics wants bounds with a point; everywhere it is allowed.
fn number(value: f64) -> String {
    match value {
        value if value.is_infinite() && value > 0.0 => "+Inf".to_owned(),
        value if value.is_finite() && value.fract() == 0.0 && value.abs() < 1e15 => {
            format!("{value:.1}")
        }
        value => format!("{value}"),
    }
}

fn escape(value: &str, text: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(format: Format) -> String {
        let mut text = Exposition::new(format);
        text.family("a_lookups", Kind::Counter, "Lookups.");
        text.sample(&[("tag", "x\"\\\n"), ("socket", "login")], 3.0);
        text.family("a_latency_seconds", Kind::Histogram, "Latency.");
        text.histogram(&[("core", "0")], &[(0.001, 1), (1.0, 2)], 4, 2.5);
        text.single("a_synced", Kind::Gauge, "Synced.", 1.0);
        text.finish()
    }

    #[test]
    fn both_formats_are_as_their_definitions_say() {
        let open = "# HELP a_lookups Lookups.\n# TYPE a_lookups counter\n\
            a_lookups_total{tag=\"x\\\"\\\\\\n\",socket=\"login\"} 3.0\n\
            # HELP a_latency_seconds Latency.\n# TYPE a_latency_seconds histogram\n\
            # UNIT a_latency_seconds seconds\n\
            a_latency_seconds_bucket{core=\"0\",le=\"0.001\"} 1.0\n\
            a_latency_seconds_bucket{core=\"0\",le=\"1.0\"} 2.0\n\
            a_latency_seconds_bucket{core=\"0\",le=\"+Inf\"} 4.0\n\
            a_latency_seconds_sum{core=\"0\"} 2.5\na_latency_seconds_count{core=\"0\"} 4.0\n\
            # HELP a_synced Synced.\n# TYPE a_synced gauge\na_synced 1.0\n# EOF\n";
        assert_eq!(written(Format::OpenMetrics), open);
        let old = open
            .replace("# HELP a_lookups ", "# HELP a_lookups_total ")
            .replace("# TYPE a_lookups ", "# TYPE a_lookups_total ")
            .replace("# UNIT a_latency_seconds seconds\n", "")
            .replace("# EOF\n", "");
        assert_eq!(written(Format::Prometheus), old);
    }

    #[test]
    fn prometheus_is_given_what_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        assert_eq!(Format::of(prometheus), Format::OpenMetrics);
        assert_eq!(Format::of("*/*"), Format::Prometheus);
    }

    proptest! {
        #[test]
        fn any_label_stays_on_its_line(value in any::<String>()) {
            let mut text = Exposition::new(Format::OpenMetrics);
            text.family("a", Kind::Gauge, "A.");
            text.sample(&[("l", &value)], 1.0);
            let text = text.finish();
            prop_assert_eq!(text.matches('\n').count(), 4);
            let sample = text.lines().nth(2).expect("a sample");
            let whole = sample.starts_with("a{l=\"") && sample.ends_with("\"} 1.0");
            prop_assert!(whole, "{}", sample);
        }
    }
}
