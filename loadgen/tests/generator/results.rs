//! The files that a run leaves: read back by other programs than the one that wrote them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::scripted::{Answer, director, plan, right};
use loadgen::{Amount, Load, Plan, Report};

/// HdrHistogram's Python port, as `tests/setup.sh` installs it.
const PYTHON: &str = "/var/cache/homing/hdrhistogram/bin/python";
/// It can be elsewhere, for those who are not root.
const PYTHON_SETTING: &str = "LOADGEN_HDRHISTOGRAM_PYTHON";

fn report(directory: &Path) -> Report {
    let path = director(directory, |number, id, user| match number {
        500 => Answer::Late(Duration::from_millis(700), right(id, user)),
        _ => Answer::Line(right(id, user)),
    });
    let plan = Plan {
        load: Load::Open { rate: 500.0 },
        amount: Amount::Time(Duration::from_secs(2)),
        interval: Duration::from_millis(250),
        ..plan(&path)
    };
    loadgen::run(&plan, |_| {}).unwrap()
}

#[test]
fn histograms_are_read_by_another_implementation() {
    let directory = tempfile::tempdir().unwrap();
    let report = report(directory.path());
    assert!(report.passed(), "{report}");
    let (log, distribution) = (
        directory.path().join("a.hlog"),
        directory.path().join("a.hgrm"),
    );
    std::fs::write(&log, report.hlog().unwrap()).unwrap();
    std::fs::write(&distribution, report.hgrm()).unwrap();
    let python = std::env::var(PYTHON_SETTING).unwrap_or_else(|_| PYTHON.to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_back.py");
    let output = Command::new(&python)
        .arg(script)
        .arg(&log)
        .arg(&distribution)
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("{python}: {error}; run tests/setup.sh, or name a Python with the package hdrhistogram in {PYTHON_SETTING}")
    });
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["count"], report.latency.count);
    let near = |value: &serde_json::Value, right: f64| {
        let value = value.as_f64().unwrap();
        assert!(
            (value - right).abs() <= 0.002 * right + 0.01,
            "{value}, expected {right}"
        );
    };
    near(&read["max"], report.latency.max);
    near(&read["last"][0], report.latency.max);
    assert_eq!(read["last"][2], report.latency.count as f64);
    let intervals = read["intervals"].as_array().unwrap();
    assert_eq!(intervals.len(), report.intervals.len());
    assert!(intervals.len() >= 8, "{intervals:?}");
    for (found, own) in intervals.iter().zip(&report.intervals) {
        assert_eq!(found["count"], own.latency.count);
        near(&found["max"], own.latency.max);
        let begin = found["begin"].as_f64().unwrap() - report.began;
        assert!((begin - own.at).abs() < 0.01, "{begin} {}", own.at);
    }
    // The standstill is there.
    assert!(
        report
            .intervals
            .iter()
            .any(|interval| interval.latency.count == 0),
        "{read}"
    );
}

#[test]
fn the_json_has_the_settings_and_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let report = report(directory.path());
    let text = report.json().unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["passed"], true);
    assert_eq!(json["plan"]["targets"][0]["kind"], "authreply");
    assert_eq!(json["plan"]["load"]["open"]["rate"], 500.0);
    assert_eq!(json["plan"]["users"]["known"]["count"], 50);
    for field in ["cpu", "cpus", "memory_mb", "kernel", "governor"] {
        assert!(!json["machine"][field].is_null(), "{field} is missing");
    }
    assert!(json["began"].as_f64().unwrap() > 1.6e9);
    assert!(json["intervals"].as_array().unwrap().len() >= 8);
    // No password is in it.
    assert!(
        !text.contains("password\": \"") && !text.contains("\"pw\""),
        "{text}"
    );
}
