//! Coordinated omission: what a stalled target delays must be seen in full.

use std::time::Duration;

use crate::scripted::{Answer, director, plan, right};
use loadgen::{Bottleneck, Load, Plan};

const STALL: Duration = Duration::from_secs(1);

#[test]
fn a_stall_of_a_second_shows_in_the_percentiles() {
    let directory = tempfile::tempdir().unwrap();
    let path = director(directory.path(), |number, id, user| match number {
        1000 => Answer::Late(STALL, right(id, user)),
        _ => Answer::Line(right(id, user)),
    });
    // Two seconds of arrivals. With eight in flight the generator itself can send only eight of
    // the thousand that the stall delays: the others must be counted from when they should have
    // been sent.
    let load = Load::Open { rate: 1000.0 };
    let report = loadgen::run(
        &Plan {
            load,
            ..plan(&path)
        },
        |_| {},
    )
    .unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.latency.count, 2000);
    assert!(report.generator.held_back >= 500, "{report}");
    let second = STALL.as_secs_f64() * 1e6;
    assert!(report.latency.max >= second * 0.98, "{report}");
    // Half of all arrivals fall into the stall; their waits go down evenly from a second to none.
    assert!(report.latency.p90 >= second * 0.6, "{report}");
    assert!(report.latency.p99 >= second * 0.9, "{report}");

    // A closed loop of the same target hides it: only the eight in flight saw the stall. Twice as many on a machine
    // that stands still as well.
    std::fs::remove_file(&path).unwrap();
    let path = director(directory.path(), |number, id, user| match number {
        1000 => Answer::Late(STALL, right(id, user)),
        _ => Answer::Line(right(id, user)),
    });
    let report = loadgen::run(&plan(&path), |_| {}).unwrap();
    let slow = report
        .histogram
        .iter_recorded()
        .filter(|step| step.value_iterated_to() > 900_000_000);
    assert!(
        (1..=16).contains(&slow.map(|step| step.count_at_value()).sum::<u64>()),
        "{report}"
    );
}

#[test]
fn a_generator_that_cannot_keep_up_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = director(directory.path(), |_, id, user| {
        Answer::Line(right(id, user))
    });
    let load = Load::Open { rate: 1000.0 };
    // Who watches the progress takes the generator's time.
    let report = loadgen::run(
        &Plan {
            load,
            in_flight: 1000,
            ..plan(&path)
        },
        |_| std::thread::sleep(Duration::from_millis(60)),
    )
    .unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(
        report.generator.bottleneck,
        Bottleneck::Generator,
        "{report}"
    );
    assert!(
        report.to_string().contains("GENERATOR was the bottleneck"),
        "{report}"
    );
    // And what it was late counts in the latency: nothing is made to look better.
    assert!(report.latency.p90 > 10_000.0, "{report}");
}
