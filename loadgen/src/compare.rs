//! Two targets compared by pairs of runs: ratios with a confidence interval, and no comparison at
//! all of what was not measured alike.

use std::fmt;

use serde_json::Value;

use crate::error::Error;
use crate::saved::Saved;

/// Pairs of one comparison; an interval gets hardly narrower with more.
const MAX_PAIRS: usize = 1000;
/// Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// What is compared: its name, and where it stands in a result.
const MEASURES: [(&str, &str); 9] = [
    ("logins per second", "/per_second"),
    ("latency mean", "/latency/mean"),
    ("latency p50", "/latency/p50"),
    ("latency p90", "/latency/p90"),
    ("latency p99", "/latency/p99"),
    ("latency p99.9", "/latency/p999"),
    ("latency max", "/latency/max"),
    ("target CPU a login", "/target/cpu_us_per_lookup"),
    ("target memory", "/target/rss_end"),
];

/// What of a plan may differ: where the target is, not how it is driven. Of new users only the
/// first number may: a director that is driven again needs another.
const MAY_DIFFER: [&str; 9] = [
    "/plan/targets/*/address",
    "/plan/stub_auth/login",
    "/plan/stub_auth/userdb",
    "/plan/pids",
    "/plan/pids/*",
    "/plan/users/new/first",
    "/plan/session/tls_ca",
    "/plan/session/tls_name",
    // Auth's fields belong to the target's version.
    "/plan/stub_auth/minor",
];
/// Each pair may have its own seed.
const SEED: &str = "/plan/seed";

/// One measure compared.
#[derive(Clone, Debug)]
pub struct Ratio {
    /// What was compared.
    pub name: &'static str,
    /// Geometric mean of the first of each pair, in the unit of the result.
    pub first: f64,
    /// Geometric mean of the second of each pair.
    pub second: f64,
    /// Geometric mean of second by first.
    pub ratio: f64,
    /// Its 95 % confidence interval; `None` for a single pair.
    pub interval: Option<(f64, f64)>,
}

/// A comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// How many pairs.
    pub pairs: usize,
    /// All measures that every run has.
    pub ratios: Vec<Ratio>,
    /// What makes the result less than it seems.
    pub warnings: Vec<String>,
}

/// Compares results in the order A, B, A, B.
pub fn compare(runs: &[Saved]) -> Result<Comparison, Error> {
    let wrong = |problem: String, right| Error::Plan {
        setting: "compare",
        problem,
        right,
    };
    if runs.len() < 2 || runs.len() % 2 == 1 || runs.len() / 2 > MAX_PAIRS {
        let problem = format!("{} results", runs.len());
        return Err(wrong(problem, "pairs: A.json B.json, and more of them"));
    }
    if let Some(run) = runs.iter().find(|run| run.json["passed"] != true) {
        let problem = format!("{}: its checks failed", run.name);
        return Err(wrong(
            problem,
            "runs that passed: wrong replies have no speed",
        ));
    }
    let reference = &runs[0];
    for (at, run) in runs.iter().enumerate().skip(1) {
        let mut found = Vec::new();
        for part in ["plan", "machine"] {
            let path = format!("/{part}");
            differences(&path, &reference.json[part], &run.json[part], &mut found);
        }
        let same_seed = |a: &Saved, b: &Saved| a.json.pointer(SEED) == b.json.pointer(SEED);
        if at % 2 == 1 && !same_seed(&runs[at - 1], run) {
            found.push(format!("{SEED} within a pair"));
        }
        if !found.is_empty() {
            let (one, other) = (&reference.name, &run.name);
            let problem = format!("{one} and {other} differ in {}", found.join("; "));
            return Err(wrong(
                problem,
                "runs with the same settings on the same machine",
            ));
        }
    }
    let pairs: Vec<_> = runs.chunks_exact(2).collect();
    Ok(Comparison {
        pairs: pairs.len(),
        ratios: MEASURES
            .iter()
            .filter_map(|(name, path)| ratio(name, path, &pairs))
            .collect(),
        warnings: warnings(runs),
    })
}

/// Where two values differ that must not.
fn differences(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    if MAY_DIFFER.contains(&path) || path == SEED || one == other {
        return;
    }
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a
                .keys()
                .chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names {
                let value = |of: &serde_json::Map<String, Value>| of.get(name).cloned();
                let (a, b) = (value(a).unwrap_or_default(), value(b).unwrap_or_default());
                differences(&format!("{path}/{name}"), &a, &b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (a, b) in a.iter().zip(b) {
                differences(&format!("{path}/*"), a, b, found);
            }
        }
        _ => found.push(format!("{path} ({one} and {other})")),
    }
}

fn ratio(name: &'static str, path: &str, pairs: &[&[Saved]]) -> Option<Ratio> {
    let value = |run: &Saved| {
        run.json
            .pointer(path)?
            .as_f64()
            .filter(|value| *value > 0.0)
    };
    let logs: Option<Vec<_>> = pairs
        .iter()
        .map(|pair| Some((value(&pair[0])?.ln(), value(&pair[1])?.ln())))
        .collect();
    let logs = logs?;
    let count = logs.len() as f64;
    let mean = |get: fn(&(f64, f64)) -> f64| logs.iter().map(get).sum::<f64>() / count;
    let centre = mean(|(a, b)| b - a);
    let squares: f64 = logs.iter().map(|(a, b)| (b - a - centre).powi(2)).sum();
    // Ratios are compared as logarithms: twice as fast and half as fast are equally far from 1.
    let interval = (logs.len() > 1).then(|| {
        let half = t(logs.len() - 1) * (squares / (count - 1.0) / count).sqrt();
        ((centre - half).exp(), (centre + half).exp())
    });
    Some(Ratio {
        name,
        first: mean(|(a, _)| *a).exp(),
        second: mean(|(_, b)| *b).exp(),
        ratio: centre.exp(),
        interval,
    })
}

fn t(freedom: usize) -> f64 {
    // Beyond the table a little too much.
    T.get(freedom - 1)
        .copied()
        .unwrap_or(1.96 + 2.5 / freedom as f64)
}

fn warnings(runs: &[Saved]) -> Vec<String> {
    let mut warnings = Vec::new();
    let bottleneck = |run: &&Saved| run.json["generator"]["bottleneck"] != "no";
    let slow: Vec<_> = runs
        .iter()
        .filter(bottleneck)
        .map(|run| run.name.as_str())
        .collect();
    if !slow.is_empty() {
        let names = slow.join(", ");
        warnings.push(format!(
            "the generator or a busy machine was or may have been the bottleneck in {names}: rates and \
             latencies say little about the targets"
        ));
    }
    let began = |run: &Saved| run.json["began"].as_f64().unwrap_or(0.0);
    let mut order: Vec<_> = (0..runs.len()).collect();
    order.sort_by(|a, b| began(&runs[*a]).total_cmp(&began(&runs[*b])));
    if order.chunks_exact(2).any(|pair| pair[0] / 2 != pair[1] / 2) {
        warnings.push(
            "the runs of a pair did not follow each other: what else changed with time is in the \
             ratios"
                .to_owned(),
        );
    }
    if runs.len() == 2 {
        warnings.push("one pair has no confidence interval: measure more, alternating".to_owned());
    }
    warnings
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = if self.pairs == 1 { "pair" } else { "pairs" };
        writeln!(
            f,
            "{} {pairs}; geometric means; 95 % confidence interval (t)\n",
            self.pairs
        )?;
        let head = ["", "A", "B", "B / A"];
        writeln!(
            f,
            "{:<19} {:>14} {:>14} {:>8}",
            head[0], head[1], head[2], head[3]
        )?;
        for Ratio {
            name,
            first,
            second,
            ratio,
            interval,
        } in &self.ratios
        {
            write!(f, "{name:<19} {first:>14.2} {second:>14.2} {ratio:>8.3}")?;
            match interval {
                None => writeln!(f)?,
                Some((low, high)) => {
                    let shown = if *low > 1.0 || *high < 1.0 {
                        ""
                    } else {
                        "  no difference shown"
                    };
                    writeln!(f, "  {low:.3} to {high:.3}{shown}")?;
                }
            }
        }
        self.warnings
            .iter()
            .try_for_each(|warning| writeln!(f, "\nWARNING {warning}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(name: &str, began: f64, per_second: f64, change: &[(&str, Value)]) -> Saved {
        let mut json = json!({
            "passed": true, "began": began, "per_second": per_second,
            "plan": {"targets": [{"kind": "login", "address": name}], "load": {"open": {"rate": 5}},
                     "seed": 1, "pids": [1], "users": {"new": {"first": 7}}},
            "machine": {"cpu": "x", "cpus": 2},
            "generator": {"bottleneck": "no"},
            "latency": {"p50": 100.0, "count": 5, "p99": 1.0, "max": 1.0},
            "distribution": [], "intervals": [],
        });
        for (path, value) in change {
            *json.pointer_mut(path).unwrap() = value.clone();
        }
        Saved::parse(name.to_owned(), &json.to_string()).unwrap()
    }

    #[test]
    fn ratios_and_their_interval() {
        // Ratios 2, 4 and 8: their logarithms are ln 4 and ln 2 to either side.
        let runs: Vec<_> = [(10.0, 20.0), (10.0, 40.0), (10.0, 80.0)]
            .iter()
            .enumerate()
            .flat_map(|(n, (a, b))| {
                let at = n as f64 * 10.0;
                [
                    run("a", at, *a, &[]),
                    run("b", at + 5.0, *b, &[("/plan/pids", json!([2, 3]))]),
                ]
            })
            .collect();
        let found = compare(&runs).unwrap();
        let rate = &found.ratios[0];
        assert!((rate.ratio - 4.0).abs() < 1e-9 && (rate.first - 10.0).abs() < 1e-9);
        // t(2) * ln 2 / sqrt(3)
        let half = 4.303 * 2f64.ln() / 3f64.sqrt();
        let (low, high) = rate.interval.unwrap();
        assert!((low.ln() - (4f64.ln() - half)).abs() < 1e-9);
        assert!((high.ln() - (4f64.ln() + half)).abs() < 1e-9);
        assert!(found.warnings.is_empty(), "{found}");
        let text = found.to_string();
        assert!(
            text.contains("no difference shown") && !text.contains("target CPU"),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_alike_is_not_compared() {
        let refused = |path: &str, value: Value| {
            let runs = [
                run("a", 0.0, 1.0, &[]),
                run("b", 5.0, 1.0, &[(path, value)]),
            ];
            compare(&runs)
                .map(|found| found.to_string())
                .map_err(|error| error.to_string())
        };
        for (path, value) in [
            ("/plan/load/open/rate", json!(6)),
            ("/plan/load", json!("closed")),
            ("/plan/targets/0/kind", json!("authreply")),
            ("/plan/seed", json!(2)),
            ("/machine/cpus", json!(4)),
        ] {
            let error = refused(path, value).unwrap_err();
            let shown = path.replace("/0/", "/*/");
            assert!(error.contains(&shown), "{error}");
        }
        let error = refused("/passed", json!(false)).unwrap_err();
        assert!(error.contains("checks failed"), "{error}");
        assert!(refused("/plan/users/new/first", json!(99)).is_ok());
        let warned = refused("/generator/bottleneck", json!("generator")).unwrap();
        assert!(warned.contains("WARNING the generator"), "{warned}");
        assert!(compare(&[run("a", 0.0, 1.0, &[])]).is_err());
    }

    #[test]
    fn pairs_that_did_not_alternate_are_said() {
        let at = |began| run("x", began, 1.0, &[]);
        let first_all_a = [at(0.0), at(20.0), at(10.0), at(30.0)];
        assert!(
            compare(&first_all_a)
                .unwrap()
                .to_string()
                .contains("did not follow")
        );
        let alternating = [at(0.0), at(10.0), at(30.0), at(20.0)];
        assert!(compare(&alternating).unwrap().warnings.is_empty());
    }
}
