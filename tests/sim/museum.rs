//! The simulator is worth as much as it finds: bugs are put in, and must be found.

use crate::{Bug, run};

/// Seeds in which a bug must show.
const SEEDS: u64 = 1000;

/// The first seed that fails with the bug, and does not without it.
fn finds(bug: Bug) -> Option<(u64, &'static str)> {
    (0..SEEDS).find_map(|seed| {
        let found = run(seed, Some(bug), false).violation?;
        let without = run(seed, None, false).violation;
        (without.as_ref().map(|it| it.name) != Some(found.name)).then_some((seed, found.name))
    })
}

fn assert_found(bugs: &[Bug]) {
    for bug in bugs {
        let found = finds(*bug);
        println!("{bug:?}: {found:?}");
        assert!(found.is_some(), "{bug:?} is not found within {SEEDS} seeds");
    }
}

/// The canary: if this is not found, nothing is.
#[test]
fn users_that_nobody_is_told_of_are_found() {
    assert_found(&[Bug::UsersUntold]);
}

#[test]
fn bugs_of_the_ring_are_found() {
    assert_found(&[
        Bug::NoUsersForJoiner,
        Bug::NoConflictKick,
        Bug::JoinerWins,
        Bug::NoPings,
        Bug::SyncOnce,
        Bug::NoConnect,
        Bug::DirectorsUntold,
        Bug::KillsUntold,
    ]);
}

#[test]
fn bugs_of_the_driver_are_found() {
    assert_found(&[
        Bug::NoGenerationCheck,
        Bug::NotesForgotten,
        Bug::NoWakes,
        Bug::NoSweep,
    ]);
}
