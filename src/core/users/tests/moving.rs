//! Moves, as far as the user's entry has to do with them.

use proptest::prelude::*;

use super::*;
use crate::core::{DelayReason, Refusal};

const HOST_1: BackendSlot = BackendSlot(0);
const HOST_2: BackendSlot = BackendSlot(1);

fn stored(backend: BackendSlot, age: u64) -> Entry {
    let mut entry = Entry::new(USER, backend, Wall(NOW - age));
    entry.set_decided_by(2);
    entry
}

fn with(mut entry: Entry, change: impl FnOnce(&mut Entry)) -> Entry {
    change(&mut entry);
    entry
}

/// A move of [`USER`] to [`HOST_2`] at [`NOW`], issued by director 3, and the entry afterwards.
fn start(before: Option<Entry>, snapshot: &Snapshot) -> (Started, Entry) {
    let mut shard = Shard::new(5);
    if let Some(entry) = before {
        shard.insert(entry);
    }
    let started = shard
        .start_move(USER, HOST_2, Wall(NOW), snapshot, 3, || Ok(()))
        .unwrap();
    shard.check_invariants(0);
    let entry = *shard.peek(USER, Wall(NOW), snapshot).expect("moved");
    assert!(entry.is_killing());
    assert_eq!((entry.backend(), entry.stamp()), (HOST_2, Wall(NOW)));
    assert_eq!(shard.users_per_backend().iter().sum::<u32>(), 1);
    (started, entry)
}

#[test]
fn the_three_ways_in_which_a_move_starts() {
    let snapshot = ring();
    let created = Started {
        kick: false,
        old: None,
        created: true,
        removed: 0,
    };
    let (started, entry) = start(None, &snapshot);
    assert_eq!((started, entry.decided_by()), (created, 3));

    let there = Started {
        old: Some(HOST_2),
        created: false,
        ..created
    };
    let (started, entry) = start(Some(stored(HOST_2, 5)), &snapshot);
    assert_eq!((started, entry.decided_by()), (there, 2));

    let elsewhere = Started {
        kick: true,
        old: Some(HOST_1),
        ..there
    };
    let (started, entry) = start(Some(stored(HOST_1, 5)), &snapshot);
    assert_eq!((started, entry.decided_by()), (elsewhere, 3));

    // A time of the future is over, too.
    let ahead = with(stored(HOST_1, 0), |entry| entry.set_stamp(Wall(NOW + 500)));
    assert_eq!(start(Some(ahead), &snapshot).0, elsewhere);
}

#[test]
fn a_dead_entry_counts_as_unknown() {
    let mut snapshot = ring();
    let created = Started {
        kick: false,
        old: None,
        created: true,
        removed: 1,
    };
    let expired = stored(HOST_1, 900);
    assert_eq!(start(Some(expired), &snapshot).0, created);
    // One that is being moved does not expire, but goes with its backend.
    let killing = with(expired, |entry| entry.set_killing(true));
    assert!(start(Some(killing), &snapshot).0.kick);
    std::sync::Arc::make_mut(&mut snapshot.backends)[usize::from(HOST_1.0)] = None;
    assert_eq!(start(Some(killing), &snapshot).0, created);
}

#[test]
fn no_more_users_are_taken_in_than_there_is_room_for() {
    let snapshot = ring();
    let full = || Err(Refusal::TableFull);
    let mut shard = Shard::new(5);
    let started = shard.start_move(USER, HOST_2, Wall(NOW), &snapshot, 3, full);
    assert_eq!(started, Err(Refusal::TableFull));
    assert!(shard.is_empty());
    // The dead one is still there to be counted by whoever removes it.
    let mut shard = shard_with(stored(HOST_1, 900));
    let started = shard.start_move(USER, HOST_2, Wall(NOW), &snapshot, 3, full);
    assert_eq!(started, Err(Refusal::TableFull));
    assert_eq!(shard.len(), 1);
    assert_eq!(shard.peek(USER, Wall(NOW), &snapshot), None);
    shard.check_invariants(0);
    // A known user needs no room.
    let mut shard = shard_with(stored(HOST_1, 5));
    let started = shard.start_move(USER, HOST_2, Wall(NOW), &snapshot, 3, full);
    assert!(started.is_ok_and(|started| started.kick));
}

#[test]
fn lookups_wait_and_nothing_expires_until_the_move_ends() {
    let snapshot = ring();
    let mut shard = shard_with(stored(HOST_1, 5));
    shard
        .start_move(USER, HOST_2, Wall(NOW), &snapshot, 3, || Ok(()))
        .unwrap();
    let waits = Decision::Wait(DelayReason::Killing);
    for now in [NOW, NOW + 2000] {
        let login = shard.login(USER, Wall(now), &snapshot, || Ok(()));
        assert_eq!(login.decision, waits);
    }
    assert_eq!(shard.sweep(Wall(NOW + 2000), &snapshot), 0);
    // However late, the user goes where it was moved to.
    assert!(shard.end_move(USER, Wall(NOW + 2000), &snapshot));
    assert!(!shard.end_move(USER, Wall(NOW + 2000), &snapshot), "once");
    let login = shard.login(USER, Wall(NOW + 2001), &snapshot, || Ok(()));
    assert_eq!(login.decision, Decision::Go(HOST_2));
    assert_eq!(shard.sweep(Wall(NOW + 4000), &snapshot), 1);
    assert!(!shard.end_move(USER, Wall(NOW + 4000), &snapshot), "gone");
    shard.check_invariants(0);
}

#[test]
fn an_entry_that_came_after_the_move_is_not_touched_by_its_end() {
    let mut snapshot = ring();
    let mut shard = shard_with(stored(HOST_1, 5));
    shard
        .start_move(USER, HOST_2, Wall(NOW), &snapshot, 3, || Ok(()))
        .unwrap();
    std::sync::Arc::make_mut(&mut snapshot.backends)[usize::from(HOST_2.0)] = None;
    assert_eq!(shard.peek(USER, Wall(NOW), &snapshot), None);
    let login = shard.login(USER, Wall(NOW), &snapshot, || Ok(()));
    assert_eq!((login.created, login.removed), (true, 1));
    let before = *shard.table.get(USER).unwrap();
    assert!(!shard.end_move(USER, Wall(NOW), &snapshot));
    assert_eq!(shard.table.get(USER), Some(&before));
    shard.check_invariants(0);
}

#[test]
fn a_second_move_points_the_user_at_the_newer_backend() {
    let snapshot = ring();
    let mut shard = shard_with(stored(HOST_1, 5));
    for (to, old) in [(HOST_2, HOST_1), (HOST_1, HOST_2)] {
        let started = shard
            .start_move(USER, to, Wall(NOW), &snapshot, 3, || Ok(()))
            .unwrap();
        assert_eq!((started.kick, started.old), (true, Some(old)));
    }
    let entry = shard.peek(USER, Wall(NOW), &snapshot).unwrap();
    assert!(entry.is_killing() && entry.backend() == HOST_1);
    shard.check_invariants(0);
}

#[test]
fn an_operator_moves_a_user_that_is_neither_there_nor_moving() {
    let snapshot = ring();
    let mut refreshed = stored(HOST_2, 5);
    refreshed.set_stamp(Wall(NOW));
    let killing = with(stored(HOST_2, 5), |entry| entry.set_killing(true));
    let cases = [
        (None, Ordered::Move),
        (Some(stored(HOST_1, 5)), Ordered::Move),
        (Some(stored(HOST_2, 900)), Ordered::Move),
        (Some(stored(HOST_2, 5)), Ordered::There(refreshed)),
        (Some(killing), Ordered::Busy),
        (
            Some(with(killing, |e| e.set_backend(HOST_1))),
            Ordered::Busy,
        ),
    ];
    for (before, wanted) in cases {
        let mut shard = Shard::new(5);
        if let Some(entry) = before {
            shard.insert(entry);
        }
        let ordered = shard.order_move(USER, HOST_2, Wall(NOW), &snapshot);
        assert_eq!(ordered, wanted, "{before:?}");
        let after = match ordered {
            Ordered::There(entry) => Some(entry),
            Ordered::Busy | Ordered::Move => before,
        };
        assert_eq!(shard.table.get(USER).copied(), after);
    }
}

#[test]
fn a_kill_without_a_move_leaves_the_user_where_it_is() {
    let snapshot = ring();
    let mut shard = shard_with(stored(HOST_1, 5));
    let mut start = |now| shard.start_kill(USER, Wall(now), &snapshot);
    assert_eq!(start(NOW), Some(HOST_1));
    assert_eq!(start(NOW), None, "already");
    let killing = with(stored(HOST_1, 5), |entry| entry.set_killing(true));
    assert_eq!(shard.table.get(USER), Some(&killing));
    assert!(shard.end_move(USER, Wall(NOW), &snapshot));
    let dead = NOW + 900;
    assert_eq!(shard.start_kill(USER, Wall(dead), &snapshot), None);
    assert_eq!(shard.table.get(USER), Some(&stored(HOST_1, 5)));
}

/// A confirmation crosses a move: its origin gets it back with the old backend. Both take what it
/// says, or, once they are no longer weak, both keep what they have.
#[test]
fn a_weak_user_stays_weak_and_all_directors_end_up_with_one_backend() {
    let snapshot = ring();
    let weak = with(stored(HOST_1, 880), |entry| entry.set_weak(true));
    let (_, moved) = start(Some(weak), &snapshot);
    assert!(moved.is_weak());
    let confirmed = Heard {
        key: USER,
        backend: HOST_1,
        stamp: None,
        weak: false,
        late: false,
        from: 0,
    };
    let mut origin = shard_with(moved);
    let mut other = shard_with(moved);
    let said = origin.hear(confirmed, Wall(NOW), &snapshot, || Ok(()));
    assert_eq!(
        said.after_weak(WeakCopy::Returned),
        Tell::User(Audience::Everybody)
    );
    let told = said.stored.unwrap();
    let heard = Heard {
        backend: told.backend(),
        stamp: Some(told.stamp()),
        ..confirmed
    };
    let hearing = other.hear(heard, Wall(NOW), &snapshot, || Ok(()));
    assert_eq!((hearing.kick, said.kick), (None, None));
    for shard in [&origin, &other] {
        let entry = shard.peek(USER, Wall(NOW), &snapshot).unwrap();
        assert_eq!(entry.backend(), HOST_1);
        assert!(entry.is_killing() && !entry.is_weak());
        shard.check_invariants(0);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(u32, u16),
    Order(u32, u16),
    Kill(u32),
    End(u32),
    Login(u32),
    Sweep,
    Lose(u16),
    Return(u16),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let user = 1..4u32;
    let slot = 0..3u16;
    prop_oneof![
        (user.clone(), slot.clone()).prop_map(|(user, slot)| Step::Start(user, slot)),
        (user.clone(), slot.clone()).prop_map(|(user, slot)| Step::Order(user, slot)),
        user.clone().prop_map(Step::Kill),
        user.clone().prop_map(Step::End),
        user.prop_map(Step::Login),
        Just(Step::Sweep),
        slot.clone().prop_map(Step::Lose),
        slot.prop_map(Step::Return),
        (1..1000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn the_counts_are_right_whatever_happens(steps in prop::collection::vec(step(), 0..60)) {
        let whole = ring();
        let mut snapshot = ring();
        let mut shard = Shard::new(5);
        let mut now = NOW;
        let mut users = 0;
        for step in steps {
            let at = Wall(now);
            match step {
                Step::Start(user, slot) if snapshot.has_backend(BackendSlot(slot)) => {
                    let to = BackendSlot(slot);
                    let started = shard.start_move(key(0, user), to, at, &snapshot, 1, || Ok(()));
                    let started = started.unwrap();
                    users += i64::from(started.created) - i64::from(started.removed);
                    prop_assert!(!started.kick || started.old.is_some());
                    prop_assert_eq!(started.created, started.old.is_none());
                    let entry = shard.peek(key(0, user), at, &snapshot).unwrap();
                    prop_assert!(entry.is_killing() && entry.backend() == to);
                }
                Step::Order(user, slot) => {
                    shard.order_move(key(0, user), BackendSlot(slot), at, &snapshot);
                }
                Step::Kill(user) => {
                    shard.start_kill(key(0, user), at, &snapshot);
                }
                Step::End(user) => {
                    shard.end_move(key(0, user), at, &snapshot);
                    let entry = shard.table.get(key(0, user));
                    prop_assert!(entry.is_none_or(|entry| !entry.is_killing()));
                }
                Step::Login(user) => {
                    let login = shard.login(key(0, user), at, &snapshot, || Ok(()));
                    users += i64::from(login.created) - i64::from(login.removed);
                }
                Step::Sweep => users -= shard.sweep(at, &snapshot) as i64,
                Step::Lose(slot) => std::sync::Arc::make_mut(&mut snapshot.backends)[usize::from(slot)] = None,
                Step::Return(slot) => {
                    let slot = usize::from(slot);
                    std::sync::Arc::make_mut(&mut snapshot.backends)[slot].clone_from(&whole.backends[slot]);
                }
                Step::Wait(seconds) => now += seconds,
                Step::Start(..) => {}
            }
            shard.check_invariants(0);
            prop_assert_eq!(shard.len() as i64, users);
        }
    }
}
