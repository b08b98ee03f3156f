//! How long lookups took, as the director tells it, and HdrHistogram's Python port reads it.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::rig::{Peer, Site};
use crate::{Stand, USERS};

/// As `tests/setup.sh` installs it; elsewhere for those who are not root.
const PYTHON: &str = "/var/cache/homing/hdrhistogram/bin/python";
const PYTHON_SETTING: &str = "LOADGEN_HDRHISTOGRAM_PYTHON";

/// The histograms of a list that are called so, one for each core that is told by itself.
fn named<'a>(all: &'a Value, name: &str) -> Vec<&'a Value> {
    let all = all.as_array().expect("a list").iter();
    all.filter(|it| it["name"] == name).collect()
}

fn count(all: &Value, name: &str) -> u64 {
    let counts = named(all, name).into_iter().map(|it| &it["count"]);
    counts.map(|it| it.as_u64().expect("a number")).sum()
}

#[test]
fn lookups_are_counted_by_socket_by_what_they_waited_for_and_by_core() {
    let stand = Stand::of(Site::new().arg("--cores=3"), "2 s");
    let all = stand.json(&["histogram"]);
    let kinds: Vec<&str> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["kind"].as_str().expect("text"))
        .collect();
    assert_eq!(kinds, [vec!["socket"; 3], vec!["delay"; 5]].concat());
    assert_eq!(count(&all, "login"), USERS as u64);
    assert_eq!(count(&all, "userdb"), 0);
    // One that has to wait: nobody can take it for a while.
    for last in 1..=4 {
        stand.ok(&["down", &format!("10.2.0.{last}")]);
    }
    let mut client = Peer::login(&stand.0.login());
    let wait = Duration::from_millis(300);
    client.request(2, "user=late|proxy");
    client.expect_silence(wait);
    stand.ok(&["up", "10.2.0.1"]);
    assert!(client.line().contains("host=10.2.0.1"));
    let delays = stand.json(&["histogram", "no hosts", "weak user"]);
    assert_eq!(count(&delays, "no hosts"), 1);
    let longest = delays[1]["max"].as_u64().expect("a number");
    assert!(u128::from(longest) >= wait.as_nanos(), "{delays}");
    assert_eq!(
        count(&stand.json(&["histogram", "login"]), "login"),
        USERS as u64
    );
    // By core: whichever served them, together they are all.
    let by_core = stand.json(&["histogram", "--by-core"]);
    assert_eq!(named(&by_core, "login").len(), 3);
    assert_eq!(count(&by_core, "login"), USERS as u64);
    assert_eq!(count(&by_core, "no hosts"), 1);
    let second = stand.json(&["histogram", "login", "--core", "1"]);
    assert_eq!(second[0]["counts"], named(&by_core, "login")[1]["counts"]);
    let said = stand.failed(&["histogram", "--core", "3"], 64);
    assert!(said.contains("3 cores serve"), "{said}");
    let said = stand.failed(&["histogram", "imap"], 64);
    assert!(said.contains("login, userdb, authreply"), "{said}");
    let text = stand.ok(&["histogram"]);
    assert!(
        text.starts_with("core  kind    name") && text.contains("ring not synced"),
        "{text}"
    );
    // Nobody logs in during this second.
    let quiet = stand.json(&["histogram", "--seconds", "1"]);
    assert_eq!(count(&quiet, "login"), 0);
    stand.0.stop();
}

#[test]
fn a_distribution_is_what_another_implementation_makes_of_the_counts() {
    let stand = Stand::new();
    let dir = tempfile::tempdir().expect("a directory");
    let [json, hgrm] = ["a.json", "a.hgrm"].map(|name| dir.path().join(name));
    std::fs::write(&json, stand.ok(&["histogram", "--json", "sockets"])).expect("a file");
    std::fs::write(&hgrm, stand.ok(&["histogram", "--hgrm"])).expect("a file");
    let python = std::env::var(PYTHON_SETTING).unwrap_or_else(|_| PYTHON.to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/native/read_back.py");
    let output = Command::new(&python)
        .arg(script)
        .args([json, hgrm])
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "{python}: {error}; run tests/setup.sh, or name a Python with the package hdrhistogram in \
             {PYTHON_SETTING}"
        )
    });
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), format!("{USERS} lookups"));
    stand.0.stop();
}
