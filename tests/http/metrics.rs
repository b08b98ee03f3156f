//! Metrics, the alert rules and the dashboard, in the eyes of Prometheus' own promtool.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::client::Request;
use crate::e2e::{PATIENCE, wait_until};
use crate::stage::{READ, Stage};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs promtool; all that it said. It must be content.
#[track_caller]
fn promtool(words: &[&str], input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's package prometheus: tests/setup.sh installs it");
    let mut stdin = child.stdin.take().expect("piped");
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("its output");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        output.status.success(),
        "promtool {words:?}: {said}\n{input}"
    );
    said
}

fn scrape(stage: &Stage, accept: &str) -> crate::client::Answer {
    let request = Request::new("GET", "/metrics").token(READ);
    request
        .header("Accept", accept)
        .send(&stage.tcp())
        .expect(200)
}

/// The names of all families of a text.
fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|line| Some(line.split(' ').next()?.to_owned()))
        .collect()
}

#[test]
fn prometheus_reads_both_formats() {
    let stage = Stage::start();
    stage.log_in(300);
    let old = scrape(&stage, "text/plain");
    assert!(
        old.head.contains("text/plain; version=0.0.4"),
        "{}",
        old.head
    );
    assert_eq!(promtool(&["check", "metrics"], &old.body), "");
    let open = scrape(
        &stage,
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    );
    assert!(
        open.head
            .contains("application/openmetrics-text; version=1.0.0"),
        "{}",
        open.head
    );
    assert!(open.body.ends_with("# EOF\n"));
    // promtool has no check of this format; what there is of it that the other has not is told by the
    // unit tests of the two writers.
    let without = |name: &String| name.trim_end_matches("_total").to_owned();
    let names: BTreeSet<_> = families(&old.body).iter().map(without).collect();
    assert_eq!(names, families(&open.body));
    for line in [
        "homing_lookups_answered_total{socket=\"login\"} 300.0\n",
        "homing_lookup_latency_seconds_count{socket=\"login\"} 300.0\n",
        "homing_users 300.0\n",
        "homing_users_created_total 300.0\n",
        "homing_backend_up{backend=\"127.61.0.14\",tag=\"t1\"} 1.0\n",
        "homing_ring_synced 1.0\n",
        "homing_core_cpu_seconds_total{core=\"0\"} ",
        "process_resident_memory_bytes ",
    ] {
        assert!(old.body.contains(line), "{line} is not in\n{}", old.body);
    }
    let of_backends: f64 = old
        .body
        .lines()
        .filter(|line| line.starts_with("homing_backend_users{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert_eq!(of_backends, 300.0);
    wait_until("a count of answers", PATIENCE, || {
        let text = scrape(&stage, "text/plain").body;
        text.contains("homing_http_answers_total{status=\"2xx\"} ")
    });
}

#[test]
fn each_alert_fires_on_its_trouble_and_on_no_other() {
    let rules = repository("dist/prometheus/homing-alerts.yml");
    let said = promtool(&["check", "rules", rules.to_str().expect("a path")], "");
    assert!(said.contains("SUCCESS"), "{said}");
    let tests = repository("tests/http/alerts.yml");
    let tested = fs::read_to_string(&tests).expect("the tests of the rules");
    let text = fs::read_to_string(&rules).expect("the rules");
    let alerts: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    for alert in alerts {
        let fires = format!("{{alertname=\"{alert}\"}}");
        assert!(tested.contains(&fires), "{alert} fires in no test");
    }
    promtool(&["test", "rules", tests.to_str().expect("a path")], "");
}

#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let stage = Stage::start();
    let families = families(&scrape(&stage, "text/plain").body);
    let dashboard =
        fs::read_to_string(repository("dist/grafana/homing.json")).expect("a dashboard");
    let document: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    assert!(document["panels"].as_array().expect("panels").len() > 15);
    let alerts =
        fs::read_to_string(repository("dist/prometheus/homing-alerts.yml")).expect("rules");
    let mut asked = 0;
    for text in [dashboard, alerts] {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        for name in text.split(word) {
            let is_metric = name.starts_with("homing_") || name.starts_with("process_");
            if !is_metric {
                continue;
            }
            let known = families.contains(name)
                || ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|ending| families.contains(name.trim_end_matches(ending)));
            assert!(known, "{name} is no metric");
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
}
