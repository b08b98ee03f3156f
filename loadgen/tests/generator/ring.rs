//! Several directors at once: one service, whichever of them answers.

use crate::scripted::{Answer, director, plan, right};
use loadgen::{Load, Plan, Retry, Target};
use std::time::Duration;

#[test]
fn a_user_must_be_on_the_same_backend_at_every_director() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = director(one.path(), |_, id, user| Answer::Line(right(id, user)));
    let second = director(two.path(), |_, id, user| {
        let mut line = right(id, user);
        if user == "user13" {
            line.push('9');
        }
        Answer::Line(line)
    });
    let both = |one, two| Plan {
        targets: vec![Target::Authreply(one), Target::Authreply(two)],
        connections: 2,
        ..plan(&first)
    };
    let report = loadgen::run(&both(first.clone(), second), |_| {}).unwrap();
    assert!(
        !report.passed() && report.errors.other_backend > 0,
        "{report}"
    );
    assert_eq!(report.users_moved, 1, "{report}");

    let third = tempfile::tempdir().unwrap();
    let agrees = director(third.path(), |_, id, user| Answer::Line(right(id, user)));
    let report = loadgen::run(&both(first.clone(), agrees), |_| {}).unwrap();
    assert!(report.passed(), "{report}");
}

#[test]
fn temporary_failures_are_tried_again_if_the_plan_says_so() {
    let script = |number, id: &str, user: &str| match number {
        500..700 => Answer::Line(format!("FAIL\t{id}\tuser={user}\tcode=temp_fail")),
        1000 => Answer::Close,
        _ => Answer::Line(right(id, user)),
    };
    for load in [Load::Closed, Load::Open { rate: 4000.0 }] {
        let directory = tempfile::tempdir().unwrap();
        let path = director(directory.path(), script);
        let retry = Retry {
            times: 8,
            first: Duration::from_millis(5),
            longest: Duration::from_millis(50),
        };
        let report = loadgen::run(
            &Plan {
                retry,
                load,
                ..plan(&path)
            },
            |_| {},
        )
        .unwrap();
        assert!(report.passed(), "{report}");
        assert_eq!(report.retries.temporary_failure, 200, "{report}");
        assert!((1..=8).contains(&report.retries.disconnected), "{report}");
        assert_eq!(report.lookups, 2000);
    }
}
