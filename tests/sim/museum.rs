//! The simulator is worth as much as it finds: bugs are put in, and must be found.

use crate::{Bug, run};

/// Seeds in which a bug must show.
const SEEDS: u64 = 1000;

/// A seed that fails with the bug, and not in the same way without it. The one that found the bug last
/// is tried first: a search takes a minute.
fn finds(bug: Bug, first: u64) -> Option<(u64, &'static str)> {
    (first..SEEDS).chain(0..first).find_map(|seed| {
        let found = run(seed, Some(bug), false).violation?;
        let without = run(seed, None, false).violation;
        (without.as_ref().map(|it| it.name) != Some(found.name)).then_some((seed, found.name))
    })
}

fn assert_found(bugs: &[(Bug, u64)]) {
    for (bug, first) in bugs {
        let found = finds(*bug, *first);
        println!("{bug:?}: {found:?}");
        assert!(found.is_some(), "{bug:?} is not found within {SEEDS} seeds");
    }
}

/// The canary: if this is not found, nothing is.
#[test]
fn users_that_nobody_is_told_of_are_found() {
    assert_found(&[(Bug::UsersUntold, 0)]);
}

#[test]
fn bugs_of_the_ring_are_found() {
    assert_found(&[
        (Bug::JoinerUntold, 0),
        (Bug::NoConflictKick, 449),
        (Bug::JoinerWins, 555),
        (Bug::NoPings, 0),
        (Bug::SyncOnce, 0),
        (Bug::NoConnect, 235),
        (Bug::DirectorsUntold, 173),
        (Bug::KillsUntold, 7),
    ]);
}

#[test]
fn bugs_of_the_driver_are_found() {
    assert_found(&[
        (Bug::NotesForgotten, 10),
        (Bug::NoWakes, 4),
        (Bug::NoSweep, 17),
    ]);
}
