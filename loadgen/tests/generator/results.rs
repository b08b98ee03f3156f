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

/// Without the feature there is no command to test.
#[cfg(feature = "pictures")]
#[test]
fn results_are_compared_and_drawn_by_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let mut report = report(directory.path());
    let save = |report: &Report, name: &str| {
        std::fs::write(file(name), report.json().unwrap()).unwrap();
    };
    save(&report, "one.json");
    report.plan.pids = vec![5];
    save(&report, "two.json");
    report.plan.in_flight += 1;
    save(&report, "other.json");
    let loadgen = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command
            .args(arguments)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.code(),
            text + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (code, text) = loadgen(&["compare", "one.json", "two.json"]);
    assert!(code == Some(0) && text.contains("latency p99.9"), "{text}");
    let (code, text) = loadgen(&["compare", "one.json", "other.json"]);
    assert!(
        code == Some(2) && text.contains("/plan/in_flight (8 and 9)"),
        "{text}"
    );

    // The same by directories, in the order in which the runs were made.
    report.plan.in_flight -= 1;
    for (directory, began) in [("a", [10.0, 30.0]), ("b", [20.0, 40.0])] {
        std::fs::create_dir(file(directory)).unwrap();
        for (name, began) in ["z", "y"].iter().zip(began) {
            report.began = began;
            save(&report, &format!("{directory}/{name}.json"));
        }
    }
    let (code, text) = loadgen(&["compare", "a", "b"]);
    assert!(
        code == Some(0) && text.starts_with("2 pairs") && !text.contains("did not follow"),
        "{text}"
    );
    std::fs::remove_file(file("b/y.json")).unwrap();
    let (code, text) = loadgen(&["compare", "a", "b"]);
    assert!(
        code == Some(2) && text.contains("2 results in a and 1 in b"),
        "{text}"
    );

    for sheet in ["sheet.svg", "sheet.png"] {
        let (code, text) = loadgen(&["plot", "-o", sheet, "one.json", "two.json"]);
        assert_eq!(code, Some(0), "{text}");
    }
    let svg = std::fs::read_to_string(file("sheet.svg")).unwrap();
    for text in ["one", "two", "99.9 %", "Latency over time"] {
        assert!(svg.contains(text), "{text} is not in the picture");
    }
    // The second run lies on the first: its colour is seen, and so is dark text on white.
    let png = std::fs::File::open(file("sheet.png")).unwrap();
    let mut png = png::Decoder::new(std::io::BufReader::new(png))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; png.output_buffer_size().unwrap()];
    png.next_frame(&mut pixels).unwrap();
    let count = |colour: [u8; 3]| {
        pixels
            .chunks_exact(3)
            .filter(|pixel| **pixel == colour)
            .count()
    };
    assert!(count([220, 50, 32]) > 500 && count([0, 0, 0]) > 1500);
    assert!(count([255, 255, 255]) > 800_000);

    let (code, text) = loadgen(&["plot", "-o", "sheet.gif", "one.json"]);
    assert!(code == Some(2) && text.contains(".svg or .png"), "{text}");
    std::fs::write(file("no.json"), "{}").unwrap();
    let (code, text) = loadgen(&["plot", "-o", "sheet.svg", "no.json"]);
    assert!(code == Some(2) && text.contains("no.json"), "{text}");
}
