//! Keep-alive lines, and the sweep.

use super::*;

fn with(mut entry: Entry, change: impl FnOnce(&mut Entry)) -> Entry {
    change(&mut entry);
    entry
}

/// One keep-alive of [`USER`] at [`NOW`], and the entry afterwards.
fn keep(entry: Entry, snapshot: &Snapshot) -> (Refreshed, Entry) {
    let mut shard = shard_with(entry);
    let refreshed = shard.keep_alive(USER, Wall(NOW), snapshot);
    shard.check_invariants(0);
    (refreshed, *shard.entries().next().expect("never removed"))
}

#[test]
fn a_session_refreshes_its_user_and_tells_the_ring_once_a_second() {
    let snapshot = ring();
    for age in [1, 871, 899] {
        let elsewhere = other_backend(&snapshot);
        let entry = with(aged(&snapshot, age), |e| e.set_backend(elsewhere));
        let (refreshed, after) = keep(entry, &snapshot);
        assert_eq!(refreshed, Refreshed::Known(Note::Announce));
        assert_eq!((after.stamp(), after.backend()), (Wall(NOW), elsewhere));
        assert!(after.is_queued());
        assert_eq!(
            keep(after, &snapshot),
            (Refreshed::Known(Note::None), after)
        );
    }
}

#[test]
fn a_refresh_is_told_by_the_note_that_waits_or_to_nobody() {
    let mut snapshot = ring();
    let queued = with(aged(&snapshot, 9), |entry| entry.set_queued(true));
    let (refreshed, after) = keep(queued, &snapshot);
    assert_eq!(refreshed, Refreshed::Known(Note::None));
    assert_eq!(after.stamp(), Wall(NOW));
    snapshot.tell = false;
    let (refreshed, after) = keep(aged(&snapshot, 9), &snapshot);
    assert_eq!(refreshed, Refreshed::Known(Note::None));
    assert!(after.stamp() == Wall(NOW) && !after.is_queued());
}

#[test]
fn an_unknown_or_expired_user_is_not_made_by_a_session() {
    let snapshot = ring();
    let expired = aged(&snapshot, 900);
    assert_eq!(keep(expired, &snapshot), (Refreshed::Unknown, expired));
    let mut shard = Shard::new(5);
    let refreshed = shard.keep_alive(USER, Wall(NOW), &snapshot);
    assert_eq!(refreshed, Refreshed::Unknown);
    assert!(shard.is_empty());
    // The same hash under another tag is another user.
    let mut shard = shard_with(aged(&snapshot, 1));
    let refreshed = shard.keep_alive(key(1, USER.hash.0), Wall(NOW), &snapshot);
    assert_eq!(refreshed, Refreshed::Unknown);
}

#[test]
fn a_user_whose_backend_is_gone_is_unknown() {
    let mut snapshot = ring();
    let entry = aged(&snapshot, 1);
    std::sync::Arc::make_mut(&mut snapshot.backends)[usize::from(entry.backend().0)] = None;
    assert_eq!(keep(entry, &snapshot), (Refreshed::Unknown, entry));
}

#[test]
fn a_weak_user_is_not_confirmed_by_a_session() {
    let snapshot = ring();
    for age in [5, 920] {
        let weak = with(aged(&snapshot, age), |entry| entry.set_weak(true));
        assert_eq!(keep(weak, &snapshot), (Refreshed::Known(Note::None), weak));
    }
}

#[test]
fn a_user_being_moved_is_refreshed() {
    let snapshot = ring();
    let moving = with(aged(&snapshot, 2000), |entry| entry.set_killing(true));
    let (refreshed, after) = keep(moving, &snapshot);
    assert_eq!(refreshed, Refreshed::Known(Note::Announce));
    assert!(after.is_killing() && after.stamp() == Wall(NOW));
}

#[test]
fn sessions_need_neither_sync_nor_handshake() {
    let snapshot = Snapshot {
        handshaked: false,
        synced: false,
        ..ring()
    };
    let (refreshed, _) = keep(aged(&snapshot, 871), &snapshot);
    assert_eq!(refreshed, Refreshed::Known(Note::Announce));
}

#[test]
fn the_sweep_takes_what_is_over_and_nothing_else() {
    let mut snapshot = ring();
    let mut shard = Shard::new(5);
    let user = |hash, slot, age, weak, killing| {
        let mut entry = Entry::new(key(0, hash), BackendSlot(slot), Wall(NOW - age));
        entry.set_weak(weak);
        entry.set_killing(killing);
        entry
    };
    let stays = [
        user(1, 0, 0, false, false),
        user(2, 0, 899, false, false),
        user(3, 1, 929, true, false),
        user(4, 1, 5000, false, true),
        user(5, 1, 5000, true, true),
    ];
    let goes = [
        user(11, 0, 900, false, false),
        user(12, 1, 930, true, false),
        user(13, 2, 0, false, false),
        user(14, 2, 0, true, true),
    ];
    std::sync::Arc::make_mut(&mut snapshot.backends)[2] = None;
    for entry in stays.iter().chain(&goes) {
        shard.insert(*entry);
    }
    assert_eq!(shard.users_per_backend(), [3, 4, 2]);
    assert_eq!(shard.sweep(Wall(NOW), &snapshot), goes.len());
    shard.check_invariants(0);
    let mut left: Vec<_> = shard.entries().map(|entry| entry.key().hash.0).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 2, 3, 4, 5]);
    assert_eq!(shard.users_per_backend(), [2, 3, 0]);
    assert_eq!(shard.sweep(Wall(NOW), &snapshot), 0);
}

#[test]
fn a_sweep_of_everybody_gives_the_memory_back() {
    let snapshot = ring();
    let mut shard = Shard::new(5);
    for hash in 1..5000 {
        shard.insert(Entry::new(key(0, hash), BackendSlot(1), Wall(NOW)));
    }
    assert!(shard.memory() > 5000 * 16);
    assert_eq!(shard.sweep(Wall(NOW + 900), &snapshot), 4999);
    shard.check_invariants(0);
    assert_eq!((shard.len(), shard.memory()), (0, 0));
}
