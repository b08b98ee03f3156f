//! A director that is wrong once in thousands of replies must not get through.

use std::path::Path;
use std::time::Duration;

use crate::scripted::{Answer, director, plan, right, run};
use loadgen::{Errors, Plan, Report, Users};

/// The request that is answered wrongly.
const WRONG: u64 = 1234;

#[track_caller]
fn failed_with(report: &Report, errors: Errors) {
    assert_eq!(report.errors, errors, "{report}");
    assert!(!report.passed());
    assert!(report.to_string().contains("ERROR"), "{report}");
}

/// The plan for a director that does not answer.
fn impatient(path: &Path) -> Plan {
    Plan {
        reply_timeout: Duration::from_secs(2),
        ..plan(path)
    }
}

#[test]
fn right_replies_pass() {
    let report = run(|_, id, user| Answer::Line(right(id, user)));
    assert!(report.passed(), "{report}");
    assert_eq!((report.lookups, report.latency.count), (2000, 2000));
    assert_eq!((report.users, report.users_moved), (50, 0));
    let users: Vec<_> = report
        .backends
        .iter()
        .map(|backend| backend.users)
        .collect();
    assert_eq!(users, [8, 7, 7, 7, 7, 7, 7]);
    let lookups: u64 = report.backends.iter().map(|backend| backend.lookups).sum();
    assert_eq!(lookups, 2050);
    assert!(
        report
            .to_string()
            .contains("same user, same backend: 50 of 50"),
        "{report}"
    );
}

#[test]
fn another_users_name() {
    let report = run(|number, id, user| {
        let user = if number == WRONG { "user51" } else { user };
        Answer::Line(right(id, user))
    });
    failed_with(
        &report,
        Errors {
            wrong_user: 1,
            ..Errors::default()
        },
    );
}

#[test]
fn another_backend() {
    let report = run(|number, id, user| {
        let mut line = right(id, user);
        if number == WRONG {
            line.push('9');
        }
        Answer::Line(line)
    });
    // There and back.
    failed_with(
        &report,
        Errors {
            other_backend: 2,
            ..Errors::default()
        },
    );
    assert_eq!(report.users_moved, 1);
    assert!(
        report
            .to_string()
            .contains("same user, same backend: 49 of 50"),
        "{report}"
    );
}

#[test]
fn a_missing_host() {
    let report = run(|number, id, user| {
        let line = right(id, user);
        let cut = if number == WRONG {
            line.find("\thost=").unwrap()
        } else {
            line.len()
        };
        Answer::Line(line[..cut].to_owned())
    });
    failed_with(
        &report,
        Errors {
            no_host: 1,
            ..Errors::default()
        },
    );
}

#[test]
fn two_replies_to_one_request() {
    let report = run(|number, id, user| {
        let line = right(id, user);
        Answer::Line(if number == WRONG {
            format!("{line}\n{line}")
        } else {
            line
        })
    });
    failed_with(
        &report,
        Errors {
            unknown_id: 1,
            ..Errors::default()
        },
    );
}

#[test]
fn failures_and_nonsense() {
    let report = run(|number, id, user| {
        let line = right(id, user);
        Answer::Line(match number {
            1000 => format!("FAIL\t{id}\tuser={user}\tcode=temp_fail"),
            1001 => format!("FAIL\t{id}\tuser={user}"),
            1002 => format!("nonsense\n{line}"),
            _ => line,
        })
    });
    let errors = Errors {
        temporary_failure: 1,
        refused: 1,
        malformed: 1,
        ..Errors::default()
    };
    failed_with(&report, errors);
}

#[test]
fn a_reply_that_never_comes() {
    let directory = tempfile::tempdir().unwrap();
    let path = director(directory.path(), |number, id, user| match number {
        WRONG => Answer::Nothing,
        _ => Answer::Line(right(id, user)),
    });
    let report = loadgen::run(&impatient(&path), |_| {}).unwrap();
    assert!(!report.complete);
    failed_with(
        &report,
        Errors {
            unanswered: 1,
            ..Errors::default()
        },
    );
}

#[test]
fn a_connection_closed_midway() {
    let report = run(|number, id, user| match number {
        WRONG => Answer::Close,
        _ => Answer::Line(right(id, user)),
    });
    assert!(!report.passed());
    // At least the request that was not answered; it goes on with a new connection.
    assert!((1..=8).contains(&report.errors.disconnected), "{report}");
    assert!(report.complete, "{report}");
}

#[test]
fn nobody_there_and_nobody_answering() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = loadgen::run(&plan(&missing), |_| {})
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cannot connect") && error.contains("missing"),
        "{error}"
    );

    let path = director(directory.path(), |_, _, _| Answer::Nothing);
    let error = loadgen::run(&impatient(&path), |_| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("did not answer anything for 2s"), "{error}");
    let path = {
        std::fs::remove_file(&path).unwrap();
        director(directory.path(), |_, _, _| Answer::Close)
    };
    let error = loadgen::run(&plan(&path), |_| {}).unwrap_err().to_string();
    assert!(error.contains("before it answered anything"), "{error}");
}

#[test]
fn new_users_are_all_different() {
    let directory = tempfile::tempdir().unwrap();
    let path = director(directory.path(), |_, id, user| {
        Answer::Line(right(id, user))
    });
    let users = Users::New { first: 1_000_000 };
    let report = loadgen::run(
        &Plan {
            users,
            ..plan(&path)
        },
        |_| {},
    )
    .unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.users, 2000);
}
