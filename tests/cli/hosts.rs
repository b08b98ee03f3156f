//! status, add, update, up, down, remove, flush.

use std::process::Command;

use serde_json::json;

use crate::e2e::dovecot::HOMING;
use crate::e2e::{DirectorKind, for_both};
use crate::stand::Stand;

for_both!(
    backends_are_shown_and_changed_as_doveadm_does,
    super::backends_are_shown_and_changed_as_doveadm_does
);
for_both!(
    a_name_stands_for_all_of_its_addresses,
    super::a_name_stands_for_all_of_its_addresses
);
for_both!(
    refusals_have_the_exit_codes_of_doveadm,
    super::refusals_have_the_exit_codes_of_doveadm
);
for_both!(a_flush_says_what_it_did, super::a_flush_says_what_it_did);
for_both!(
    no_line_wraps_on_a_terminal,
    super::no_line_wraps_on_a_terminal
);

fn backends_are_shown_and_changed_as_doveadm_does(kind: DirectorKind) {
    let stand = Stand::new(kind);
    let [first, tagged, fresh] = [11, 13, 14].map(|number| stand.backend(number));
    let table = stand.homing(&["status"]).ok();
    let lines: Vec<Vec<_>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        [
            "address", "tag", "vhosts", "state", "state", "changed", "users"
        ]
    );
    assert_eq!(lines[1], [first.as_str(), "-", "100", "up", "never", "0"]);
    assert_eq!(lines[3], [tagged.as_str(), "t1", "100", "up", "never", "0"]);
    assert_eq!(lines.len(), 4);

    // Silent, unless -v.
    let said = stand.homing(&["add", "-t", "t2", &fresh, "20"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    said.ok();
    let said = stand.homing(&["update", &fresh, "30", "-v"]);
    assert_eq!(said.err, format!("{fresh}: updated\n"));
    said.ok();
    assert_eq!(
        stand.json(&["down", &fresh]),
        json!([{"address": fresh, "reply": "OK"}])
    );
    let hosts = stand.json(&["status"]);
    let host = &hosts[3];
    assert!(host["state_changed"].is_u64(), "{host}");
    for (key, value) in [
        ("address", json!(fresh)),
        ("tag", json!("t2")),
        ("vhosts", json!(30)),
        ("state", json!("down")),
        ("users", json!(0)),
    ] {
        assert_eq!(host[key], value, "{key}");
    }
    let (said, _) = stand.doveadm(&["status"]);
    let row = said
        .lines()
        .find(|line| line.starts_with(&fresh))
        .expect(&said);
    let words: Vec<_> = row.split_whitespace().take(4).collect();
    assert_eq!(words, [fresh.as_str(), "t2", "30", "down"]);

    stand.homing(&["up", &fresh]).ok();
    assert_eq!(stand.json(&["status"])[3]["state"], "up");
    stand.homing(&["add", &fresh]).ok();
    assert_eq!(stand.json(&["status"])[3]["vhosts"], 30);
    stand.homing(&["remove", &fresh]).ok();
    assert_eq!(stand.json(&["status"]).as_array().map(Vec::len), Some(3));
}

fn a_name_stands_for_all_of_its_addresses(kind: DirectorKind) {
    let stand = Stand::new(kind);
    // What localhost is depends on the machine; at least 127.0.0.1.
    let replies = stand.json(&["add", "localhost", "5"]);
    let replies = replies.as_array().expect("a list");
    let added: Vec<_> = replies.iter().map(|it| it["address"].clone()).collect();
    assert!(added.contains(&json!("127.0.0.1")), "{added:?}");
    let hosts = stand.json(&["status"]);
    let hosts = hosts.as_array().expect("a list");
    assert!(
        added
            .iter()
            .all(|ip| hosts.iter().any(|it| it["address"] == *ip))
    );
    stand.homing(&["remove", "localhost"]).ok();
    assert_eq!(stand.json(&["status"]).as_array().map(Vec::len), Some(3));
}

fn refusals_have_the_exit_codes_of_doveadm(kind: DirectorKind) {
    let stand = Stand::new(kind);
    let [first, tagged, unknown] = [11, 13, 99].map(|number| stand.backend(number));
    for (words, status, says) in [
        (vec!["update", &unknown, "5"], 75, "doesn't exist"),
        (vec!["up", &unknown], 68, "doesn't exist"),
        (vec!["down", &unknown], 68, "doesn't exist"),
        (vec!["remove", &unknown], 68, "doesn't exist"),
        (vec!["flush", &unknown], 68, "doesn't exist"),
        (
            vec!["add", &first, "1001"],
            75,
            "vhost count too large: at most 1000",
        ),
        (
            vec!["add", "-t", "other", &tagged],
            75,
            "host tag can't be changed",
        ),
        (vec!["move", "alice", &unknown], 68, "doesn't exist"),
        (vec!["add", "12"], 64, "Invalid host"),
        (vec!["ring", "add", "notanip"], 64, ""),
        (vec!["add", "no-such-host.invalid"], 75, ""),
        (vec!["update", &first], 64, ""),
        (vec!["add", &first, "4294967296"], 64, ""),
    ] {
        let own = stand.homing(&words).failed(status);
        assert!(own.to_lowercase().contains(&says.to_lowercase()), "{own}");
        // doveadm's -t must come before the arguments, and so it does here.
        let (said, theirs) = stand.doveadm(&words);
        assert_eq!(theirs, Some(status), "{words:?}: {said}");
    }
    // Where there are several, the others are done all the same.
    assert_eq!(stand.json(&["status"]).as_array().map(Vec::len), Some(3));
}

fn a_flush_says_what_it_did(kind: DirectorKind) {
    let stand = Stand::new(kind);
    stand.log_in();
    let [first, second] = [11, 12].map(|number| stand.backend(number));
    let before = stand.json(&["status"]);
    let users = |at: usize| before[at]["users"].as_u64().expect("a number");
    assert!(users(0) > 0 && users(1) > 0, "{before}");
    stand.homing(&["down", &first]).ok();
    let said = stand.homing(&["flush", &first]).ok();
    let words: Vec<_> = said
        .lines()
        .nth(1)
        .expect(&said)
        .split_whitespace()
        .collect();
    assert_eq!(words, [first.as_str(), &users(0).to_string(), "0"]);
    assert_eq!(stand.json(&["status"])[1]["users"], users(0) + users(1));

    let said = stand.json(&["flush", "-F", &second]);
    assert_eq!(
        said,
        json!([{
            "address": second, "reply": "OK",
            "users_before": users(0) + users(1), "users_after": 0,
            "sessions_ended": null, "sessions_survived": null,
        }])
    );
    let said = stand.json(&["flush", "--max-parallel", "7", "all"]);
    assert_eq!(said.as_array().map(Vec::len), Some(3));
    stand.homing(&["flush", "-F", "all"]).ok();
    assert_eq!(stand.users(), []);
}

fn no_line_wraps_on_a_terminal(kind: DirectorKind) {
    let stand = Stand::new(kind);
    let tag = "a-very-long-tag-that-would-make-the-line-wrap";
    stand.homing(&["add", "-t", tag, &stand.backend(14)]).ok();
    let elsewhere = stand.homing(&["status"]).ok();
    assert!(elsewhere.contains(tag));
    let command = format!(
        "stty rows 24 cols 70; {HOMING} status -a {}",
        stand.socket().display()
    );
    let terminal = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .output();
    let terminal = String::from_utf8(terminal.expect("script of bsdutils").stdout).expect("text");
    let lines: Vec<_> = terminal.lines().collect();
    assert_eq!(lines.len(), 5, "{terminal}");
    assert!(
        lines
            .iter()
            .all(|line| line.trim_end().chars().count() <= 70),
        "{terminal}"
    );
    assert!(lines[4].contains('…'), "{terminal}");
}
