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

fn assert_found(bug: Bug, first: u64) {
    let found = finds(bug, first);
    println!("{bug:?}: {found:?}");
    assert!(found.is_some(), "{bug:?} is not found within {SEEDS} seeds");
}

/// The canary: if this is not found, nothing is.
#[test]
fn users_that_nobody_is_told_of_are_found() {
    assert_found(Bug::UsersUntold, 0);
}

/// A test for each bug, with the seed that is tried first.
macro_rules! found {
    ($($name:ident: $bug:ident $first:literal,)*) => {
        $(
            #[test]
            fn $name() {
                assert_found(Bug::$bug, $first);
            }
        )*
    };
}

found! {
    b2010_joiner_wins: JoinerWins 559,
    b2010_no_pings: NoPings 0,
    b2012_sync_once: SyncOnce 0,
    b2012_no_connect: NoConnect 264,
    b2012_directors_untold: DirectorsUntold 210,
    b2014_no_conflict_kick: NoConflictKick 455,
    b2014_weak_unreturned: WeakUnreturned 53,
    b2015_hash_unsaid: HashUnsaid 9,
    b2016_kills_untold: KillsUntold 7,
    b2017_move_late: MoveLate 57,
    joiner_untold: JoinerUntold 0,
    notes_forgotten: NotesForgotten 10,
    no_wakes: NoWakes 7,
    no_sweep: NoSweep 17,
}
