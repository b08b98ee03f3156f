//! The rows of the decision table, in its order (docs/protocol/login.md, the lookup).

use proptest::prelude::*;

use super::*;
use crate::core::{DelayReason, Refusal};

fn admit() -> Result<(), Refusal> {
    Ok(())
}

fn never() -> Result<(), Refusal> {
    panic!("only a new user that can be placed is asked about")
}

/// One login of [`USER`] at [`NOW`], and the entry afterwards.
fn log_in(entry: Option<Entry>, snapshot: &Snapshot) -> (Login, Option<Entry>) {
    let mut shard = entry.map_or_else(|| Shard::new(5), shard_with);
    let login = shard.login(USER, Wall(NOW), snapshot, admit);
    shard.check_invariants(0);
    (login, shard.entries().next().copied())
}

fn plain(decision: Decision, note: Note) -> Login {
    Login {
        decision,
        note,
        created: false,
        removed: 0,
    }
}

fn waits(entry: Entry, snapshot: &Snapshot, reason: DelayReason, note: Note) {
    let (login, after) = log_in(Some(entry), snapshot);
    assert_eq!(login, plain(Decision::Wait(reason), note));
    assert_eq!(after, Some(entry), "a user that waits stays as it is");
}

/// The user is answered with its own backend, refreshed, and announced once.
fn goes(entry: Entry, snapshot: &Snapshot) -> Entry {
    let (login, after) = log_in(Some(entry), snapshot);
    let after = after.expect("still known");
    let refreshed = after.stamp() > entry.stamp();
    let note = if refreshed && snapshot.tell && !entry.is_queued() {
        Note::Announce
    } else {
        Note::None
    };
    assert_eq!(login, plain(Decision::Go(entry.backend()), note));
    assert_eq!(after.stamp(), entry.stamp().max(Wall(NOW)));
    assert_eq!(after.backend(), entry.backend());
    after
}

fn with(mut entry: Entry, change: impl FnOnce(&mut Entry)) -> Entry {
    change(&mut entry);
    entry
}

#[test]
fn nobody_gets_in_before_the_first_handshake() {
    let mut snapshot = ring();
    snapshot.handshaked = false;
    let none = Note::None;
    waits(
        aged(&snapshot, 5),
        &snapshot,
        DelayReason::NotHandshaked,
        none,
    );
    let (login, after) = log_in(None, &snapshot);
    assert_eq!(
        login,
        plain(Decision::Wait(DelayReason::NotHandshaked), none)
    );
    assert_eq!(after, None);
    let (login, after) = log_in(Some(aged(&snapshot, 900)), &snapshot);
    assert_eq!(login.removed, 0);
    assert!(after.is_some(), "not even an expired user is touched");
}

#[test]
fn a_user_being_moved_waits_in_every_state() {
    for alone in [false, true] {
        for synced in [false, true] {
            for weak in [false, true] {
                let snapshot = Snapshot {
                    alone,
                    synced,
                    ..ring()
                };
                let entry = with(aged(&snapshot, 5000), |entry| {
                    entry.set_killing(true);
                    entry.set_weak(weak);
                });
                waits(entry, &snapshot, DelayReason::Killing, Note::None);
            }
        }
    }
}

#[test]
fn alone_and_synced_clears_weak_and_asks_nobody() {
    let snapshot = Snapshot {
        alone: true,
        tell: false,
        ..ring()
    };
    let entry = with(aged(&snapshot, 895), |entry| {
        entry.set_weak(true);
        entry.set_backend(other_backend(&snapshot));
    });
    let after = goes(entry, &snapshot);
    assert!(!after.is_weak() && !after.is_queued());
    assert_eq!(after.backend(), other_backend(&snapshot));
}

#[test]
fn alone_but_not_synced_leaves_weak_alone() {
    let snapshot = Snapshot {
        alone: true,
        tell: false,
        synced: false,
        ..ring()
    };
    let entry = with(aged(&snapshot, 5), |entry| entry.set_weak(true));
    waits(entry, &snapshot, DelayReason::Weak, Note::None);
}

#[test]
fn a_weak_user_waits_until_30_seconds_after_its_expiry() {
    let snapshot = ring();
    for age in [0, 870, 900, 929] {
        let entry = with(aged(&snapshot, age), |entry| entry.set_weak(true));
        waits(entry, &snapshot, DelayReason::Weak, Note::None);
    }
    let stuck = with(aged(&snapshot, 930), |entry| entry.set_weak(true));
    let (login, after) = log_in(Some(stuck), &snapshot);
    assert!(login.created && login.removed == 1);
    assert!(!after.unwrap().is_weak());
}

#[test]
fn a_fresh_user_is_served_while_the_ring_is_not_synced() {
    for synced in [true, false] {
        let snapshot = Snapshot { synced, ..ring() };
        for age in [1, 870] {
            let elsewhere = other_backend(&snapshot);
            goes(aged(&snapshot, age), &snapshot);
            goes(
                with(aged(&snapshot, age), |e| e.set_backend(elsewhere)),
                &snapshot,
            );
        }
    }
}

#[test]
fn a_user_near_expiry_waits_for_sync() {
    let snapshot = Snapshot {
        synced: false,
        ..ring()
    };
    let entry = aged(&snapshot, 871);
    waits(entry, &snapshot, DelayReason::NotSynced, Note::None);
}

#[test]
fn near_expiry_the_rings_own_choice_needs_no_confirmation() {
    let snapshot = ring();
    goes(aged(&snapshot, 871), &snapshot);
    goes(aged(&snapshot, 899), &snapshot);
}

#[test]
fn near_expiry_another_backend_must_be_confirmed() {
    let mut snapshot = ring();
    let elsewhere = other_backend(&snapshot);
    let entry = with(aged(&snapshot, 871), |entry| entry.set_backend(elsewhere));
    waits(entry, &snapshot, DelayReason::Weak, Note::Confirm);
    // The same when the ring has no choice at all.
    let on_choice = aged(&snapshot, 871);
    std::sync::Arc::make_mut(&mut snapshot.rings)[0] = Default::default();
    waits(on_choice, &snapshot, DelayReason::Weak, Note::Confirm);
    // Directors that are too old cannot be asked.
    snapshot.ring_min_version = 0;
    goes(entry, &snapshot);
    snapshot.ring_min_version = 1;
    waits(entry, &snapshot, DelayReason::Weak, Note::Confirm);
}

#[test]
fn a_new_user_waits_for_sync_and_then_for_a_backend() {
    let mut snapshot = ring();
    let nobody = |tag| {
        let mut shard = Shard::new(5);
        move |snapshot: &Snapshot| {
            let key = UserKey {
                tag: TagId(tag),
                ..USER
            };
            let login = shard.login(key, Wall(NOW), snapshot, never);
            assert!(shard.is_empty() && login.note == Note::None && !login.created);
            login.decision
        }
    };
    // The tag without backends, and one that the snapshot has never heard of.
    for tag in [2, 9] {
        let waits = nobody(tag)(&snapshot);
        assert_eq!(waits, Decision::Wait(DelayReason::NoBackend));
    }
    snapshot.synced = false;
    for tag in [0, 2, 9] {
        let waits = nobody(tag)(&snapshot);
        assert_eq!(waits, Decision::Wait(DelayReason::NotSynced));
    }
}

#[test]
fn a_new_user_gets_the_rings_choice_of_its_tag() {
    let snapshot = ring();
    let (login, after) = log_in(None, &snapshot);
    let chosen = snapshot.choose(USER).unwrap();
    assert_eq!(
        (login.decision, login.created),
        (Decision::Go(chosen), true)
    );
    assert_eq!((login.note, login.removed), (Note::Announce, 0));
    let after = after.unwrap();
    assert_eq!((after.backend(), after.stamp()), (chosen, Wall(NOW)));
    assert!(after.is_queued() && !after.is_weak() && !after.is_killing());
    assert_eq!((after.key(), after.decided_by()), (USER, 0));

    let mut shard = Shard::new(5);
    let tagged = key(1, USER.hash.0);
    let login = shard.login(tagged, Wall(NOW), &snapshot, admit);
    assert_eq!(login.decision, Decision::Go(BackendSlot(3)));
    assert!(shard.peek(USER, Wall(NOW), &snapshot).is_none());
    assert_eq!(shard.users_per_backend(), [0, 0, 0, 1]);
}

#[test]
fn alone_nobody_is_told_of_a_new_user() {
    let snapshot = Snapshot {
        alone: true,
        tell: false,
        ..ring()
    };
    let (login, after) = log_in(None, &snapshot);
    assert!(login.created && login.note == Note::None);
    assert!(!after.unwrap().is_queued());
}

#[test]
fn a_refused_user_is_not_created() {
    let snapshot = ring();
    for refusal in Refusal::ALL {
        let mut shard = Shard::new(5);
        let login = shard.login(USER, Wall(NOW), &snapshot, || Err(refusal));
        assert_eq!(login, plain(Decision::Refuse(refusal), Note::None));
        assert!(shard.is_empty());
        // One whose time was over is gone all the same, and counted as gone.
        let mut shard = shard_with(aged(&snapshot, 900));
        let login = shard.login(USER, Wall(NOW), &snapshot, || Err(refusal));
        assert_eq!(login.decision, Decision::Refuse(refusal));
        assert_eq!((login.removed, login.created, shard.len()), (1, false, 0));
        // A known user is never asked about.
        let mut shard = shard_with(aged(&snapshot, 899));
        shard.login(USER, Wall(NOW), &snapshot, never);
    }
}

#[test]
fn an_expired_user_is_placed_anew() {
    let snapshot = ring();
    let elsewhere = other_backend(&snapshot);
    let entry = with(aged(&snapshot, 900), |entry| {
        entry.set_backend(elsewhere);
        entry.set_decided_by(4);
    });
    let (login, after) = log_in(Some(entry), &snapshot);
    assert_eq!(login.decision, Decision::Go(snapshot.choose(USER).unwrap()));
    assert!(login.created && login.removed == 1 && login.note == Note::Announce);
    assert_eq!(after.unwrap().decided_by(), 0);
}

#[test]
fn a_user_whose_backend_is_gone_is_placed_anew() {
    let mut snapshot = ring();
    let elsewhere = other_backend(&snapshot);
    let entry = with(aged(&snapshot, 1), |entry| {
        entry.set_backend(elsewhere);
        entry.set_killing(true);
    });
    std::sync::Arc::make_mut(&mut snapshot.backends)[usize::from(elsewhere.0)] = None;
    let (login, _) = log_in(Some(entry), &snapshot);
    assert!(login.created && login.removed == 1);
    // A slot beyond the list is a backend that is gone, too.
    let entry = with(aged(&snapshot, 1), |e| e.set_backend(BackendSlot(999)));
    assert!(log_in(Some(entry), &snapshot).0.created);
}

#[test]
fn the_ring_hears_of_a_user_once_a_second_and_not_while_a_note_waits() {
    let snapshot = ring();
    let mut shard = shard_with(aged(&snapshot, 10));
    let mut note = |now| shard.login(USER, Wall(now), &snapshot, never).note;
    assert_eq!(note(NOW), Note::Announce);
    assert_eq!(note(NOW), Note::None, "the same second");
    assert_eq!(note(NOW + 1), Note::None, "the waiting note will say it");
    assert_eq!(note(NOW - 3), Note::None, "the clock went back");
    let entry = *shard.entries().next().unwrap();
    assert_eq!(entry.stamp(), Wall(NOW + 1), "stamps never go back");
    // The ring core takes the note.
    let mut shard = shard_with(with(entry, |entry| entry.set_queued(false)));
    let mut note = |now| shard.login(USER, Wall(now), &snapshot, never).note;
    assert_eq!(note(NOW + 1), Note::None, "told for this second");
    assert_eq!(note(NOW + 2), Note::Announce);
}

#[test]
fn a_clock_that_goes_back_loses_nobody() {
    let snapshot = ring();
    let mut shard = shard_with(aged(&snapshot, 0));
    for now in [NOW - 10_000, 0] {
        let login = shard.login(USER, Wall(now), &snapshot, never);
        assert!(matches!(login.decision, Decision::Go(_)));
        assert_eq!(shard.sweep(Wall(now), &snapshot), 0);
    }
    assert_eq!(shard.entries().next().unwrap().stamp(), Wall(NOW));
}

proptest! {
    /// S4 and the accounting of `created` and `removed`, whatever happens in whatever order.
    #[test]
    fn counts_follow_every_login_and_sweep(
        steps in prop::collection::vec((0..4u16, 1..40u32, 0..8u8, 0..400u64), 1..200),
    ) {
        let mut snapshot = ring();
        let mut shard = Shard::new(5);
        let (mut users, mut now) = (0i64, NOW);
        for (tag, hash, what, seconds) in steps {
            now += seconds;
            match what {
                0 => users -= shard.sweep(Wall(now), &snapshot) as i64,
                1 => snapshot.synced = !snapshot.synced,
                2 => {
                    let slot = seconds as usize % 4;
                    let ip = IpAddr::from([10, 9, 9, 9]);
                    std::sync::Arc::make_mut(&mut snapshot.backends)[slot] = match snapshot.backends[slot] {
                        Some(_) => None,
                        None => Some(BackendView { ip, name: None, suffix: Box::default(), shown: Default::default() }),
                    };
                    // The ring never chooses a backend that is not there.
                    let there = |slot: usize| snapshot.backends[slot].is_some();
                    let nodes = |slots: std::ops::Range<usize>| {
                        slots.filter(|&slot| there(slot)).map(|slot| {
                            (IpAddr::from([10, 0, 0, slot as u8]), 10, BackendSlot(slot as u16))
                        })
                    };
                    let rings = [0..3, 3..4, 0..0].map(|slots| {
                        crate::core::hash_ring::HashRing::build(nodes(slots))
                    });
                    snapshot.rings = rings.into();
                }
                3 => {
                    shard.keep_alive(key(tag, hash), Wall(now), &snapshot);
                }
                _ => {
                    let login = shard.login(key(tag, hash), Wall(now), &snapshot, admit);
                    users += i64::from(login.created) - i64::from(login.removed);
                    if let Decision::Go(slot) = login.decision {
                        prop_assert!(snapshot.has_backend(slot));
                    }
                }
            }
            shard.check_invariants(0);
            prop_assert_eq!(shard.len() as i64, users);
        }
    }
}
