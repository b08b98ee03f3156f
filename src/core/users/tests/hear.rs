//! What is heard of a user: the recorded lines (expiry 60 s), every row of the rules.

use proptest::prelude::*;

use super::*;
use crate::core::Refusal;
use crate::core::members::Seen;

/// As [`ring`], with the expiry of the recorded lines.
fn world() -> Snapshot {
    Snapshot {
        expiry: Expiry::new(60),
        ..ring()
    }
}

const HOST_1: BackendSlot = BackendSlot(0);
const HOST_2: BackendSlot = BackendSlot(1);
const HOST_3: BackendSlot = BackendSlot(2);

fn user(backend: BackendSlot, stamp: u64) -> Heard {
    Heard {
        key: USER,
        backend,
        stamp: Some(Wall(stamp)),
        weak: false,
        late: false,
        from: 3,
    }
}

fn weak(backend: BackendSlot) -> Heard {
    Heard {
        stamp: None,
        weak: true,
        ..user(backend, 0)
    }
}

fn stored(backend: BackendSlot, age: u64) -> Entry {
    Entry::new(USER, backend, Wall(NOW - age))
}

fn with(mut entry: Entry, change: impl FnOnce(&mut Entry)) -> Entry {
    change(&mut entry);
    entry
}

fn hear_at(shard: &mut Shard, heard: Heard, now: u64) -> Hearing {
    let hearing = shard.hear(heard, Wall(now), &world(), || Ok(()));
    shard.check_invariants(0);
    assert_eq!(
        hearing.stored.as_ref(),
        shard.table.get(USER),
        "{hearing:?}"
    );
    hearing
}

/// One line at [`NOW`] on what was stored before, which must still be live or absent.
fn hear(before: Option<Entry>, heard: Heard) -> Hearing {
    let mut shard = before.map_or_else(|| Shard::new(5), shard_with);
    hear_at(&mut shard, heard, NOW)
}

fn is(entry: Option<Entry>, backend: BackendSlot, stamp: u64, weak: bool) {
    let entry = entry.expect("a user");
    assert_eq!(
        (entry.backend(), entry.stamp(), entry.is_weak()),
        (backend, Wall(stamp), weak)
    );
}

#[test]
fn recorded_a_new_user_and_its_refreshes() {
    let mut shard = Shard::new(5);
    let first = hear_at(&mut shard, user(HOST_2, NOW), NOW);
    assert_eq!(first.after_user(), Tell::User(Audience::NotTheSender));
    assert!(first.created);
    let older = hear_at(&mut shard, user(HOST_2, NOW - 1), NOW + 1);
    assert_eq!(older.after_user(), Tell::Nothing);
    let same = hear_at(&mut shard, user(HOST_2, NOW), NOW + 1);
    assert_eq!(same.after_user(), Tell::Nothing);
    let newer = hear_at(&mut shard, user(HOST_2, NOW + 1), NOW + 1);
    assert_eq!(newer.after_user(), Tell::User(Audience::NotTheSender));
    is(newer.stored, HOST_2, NOW + 1, false);
}

#[test]
fn recorded_times_of_the_future_and_of_long_ago() {
    is(
        hear(None, user(HOST_2, NOW + 500)).stored,
        HOST_2,
        NOW,
        false,
    );
    let over = hear(None, user(HOST_2, NOW - 60));
    assert_eq!(over, Hearing::of_expired());
    assert_eq!(over.after_user(), Tell::Nothing);
    let last = hear(None, user(HOST_2, NOW - 59));
    assert_eq!(last.after_user(), Tell::User(Audience::NotTheSender));
    is(last.stored, HOST_2, NOW - 59, false);
}

impl Hearing {
    fn of_expired() -> Hearing {
        Hearing {
            outcome: Outcome::Expired,
            forced: false,
            kick: None,
            wake: false,
            created: false,
            removed: 0,
            stored: None,
        }
    }
}

/// T6.
#[test]
fn a_known_user_is_not_moved_into_the_future() {
    let ahead = hear(Some(stored(HOST_2, 5)), user(HOST_2, NOW + 500));
    assert_eq!(ahead.after_user(), Tell::User(Audience::NotTheSender));
    is(ahead.stored, HOST_2, NOW, false);
    let again = hear(Some(stored(HOST_2, 0)), user(HOST_2, u64::MAX));
    assert_eq!(again.after_user(), Tell::Nothing);
}

#[test]
fn recorded_lines_without_a_time_are_damped() {
    let timeless = Heard {
        stamp: None,
        ..user(HOST_1, 0)
    };
    is(hear(None, timeless).stored, HOST_1, NOW, false);
    for (age, told) in [(0, false), (15, false), (16, true)] {
        let hearing = hear(Some(stored(HOST_1, age)), timeless);
        assert_eq!(hearing.after_user() != Tell::Nothing, told, "age {age}");
        is(
            hearing.stored,
            HOST_1,
            if told { NOW } else { NOW - age },
            false,
        );
    }
}

#[test]
fn recorded_near_its_end_a_user_takes_the_new_backend() {
    let near = hear(Some(stored(HOST_1, 55)), user(HOST_3, NOW));
    assert_eq!(near.after_user(), Tell::User(Audience::NotTheSender));
    assert_eq!((near.kick, near.forced), (None, false));
    is(near.stored, HOST_3, NOW, false);
    assert_eq!(near.stored.map(|entry| entry.decided_by()), Some(3));
    // One second earlier it is a conflict.
    assert!(
        hear(Some(stored(HOST_1, 54)), user(HOST_3, NOW))
            .kick
            .is_some()
    );
}

#[test]
fn recorded_conflicts_end_on_the_lower_address() {
    let mut shard = shard_with(stored(HOST_2, 1));
    let keeps = hear_at(&mut shard, user(HOST_3, NOW), NOW);
    assert_eq!((keeps.kick, keeps.forced), (Some(HOST_2), false));
    // Dovecot does not tell the sender.
    assert_eq!(keeps.after_user(), Tell::User(Audience::Everybody));
    is(keeps.stored, HOST_2, NOW, false);
    let takes = hear_at(&mut shard, user(HOST_1, NOW + 1), NOW + 1);
    assert_eq!((takes.kick, takes.forced), (Some(HOST_1), true));
    assert_eq!(takes.after_user(), Tell::User(Audience::Everybody));
    is(takes.stored, HOST_1, NOW + 1, false);
    // Times play no part: an older line wins or loses by its address alone.
    let older = hear(Some(stored(HOST_2, 1)), user(HOST_1, NOW - 20));
    assert_eq!((older.kick, older.forced), (Some(HOST_1), true));
    is(older.stored, HOST_1, NOW - 1, false);
}

#[test]
fn addresses_are_compared_as_bytes() {
    let mut backends = Backends::new();
    let ips: [IpAddr; 2] = [[10, 0, 0, 10].into(), [10, 0, 0, 9].into()];
    let view = |ip| {
        Some(BackendView {
            ip,
            name: None,
            suffix: Box::default(),
            shown: Default::default(),
        })
    };
    backends.intern_tag(b"").unwrap();
    let snapshot = Snapshot {
        backends: ips.map(view).into(),
        ..world()
    };
    let mut shard = shard_with(stored(BackendSlot(0), 1));
    let hearing = shard.hear(user(BackendSlot(1), NOW), Wall(NOW), &snapshot, || Ok(()));
    assert_eq!(hearing.kick, Some(BackendSlot(1)), "10.0.0.9 < 10.0.0.10");
}

#[test]
fn a_user_that_is_being_moved_keeps_its_backend() {
    let moving = with(stored(HOST_3, 1), |entry| entry.set_killing(true));
    let hearing = hear(Some(moving), user(HOST_1, NOW));
    assert_eq!((hearing.kick, hearing.forced), (None, false));
    is(hearing.stored, HOST_3, NOW, false);
    assert!(hearing.stored.is_some_and(|entry| entry.is_killing()));
    let older = hear(Some(moving), user(HOST_1, NOW - 5));
    assert_eq!(older.outcome, Outcome::Unchanged);
}

#[test]
fn recorded_weak_lines() {
    let mut shard = Shard::new(5);
    let first = hear_at(&mut shard, weak(HOST_1), NOW);
    let onwards = Tell::Weak(Audience::NotTheSender);
    assert_eq!(first.after_weak(WeakCopy::First), onwards);
    let again = hear_at(&mut shard, weak(HOST_1), NOW);
    assert_eq!(again.outcome, Outcome::Unchanged);
    assert_eq!(again.after_weak(WeakCopy::Again), onwards);
    let moved = hear_at(&mut shard, weak(HOST_2), NOW);
    assert_eq!(moved.after_weak(WeakCopy::First), onwards);
    is(moved.stored, HOST_2, NOW, true);
    let strong = hear_at(&mut shard, user(HOST_3, NOW), NOW);
    assert_eq!(strong.after_user(), Tell::User(Audience::NotTheSender));
    assert!(strong.wake && strong.kick.is_none());
    is(strong.stored, HOST_3, NOW, false);
    // A user that was refreshed lately is not made weak: the sender hears where it lives.
    let fresh = hear_at(&mut shard, weak(HOST_1), NOW + 2);
    // Dovecot tells the others only, and the sender may wait in vain.
    let told = Tell::User(Audience::Everybody);
    assert_eq!(fresh.after_weak(WeakCopy::First), told);
    is(fresh.stored, HOST_3, NOW, false);
}

#[test]
fn recorded_an_old_user_is_made_weak() {
    for (age, made_weak) in [(30, false), (31, true), (35, true), (59, true)] {
        let hearing = hear(Some(stored(HOST_2, age)), weak(HOST_1));
        let tell = hearing.after_weak(WeakCopy::First);
        if made_weak {
            assert_eq!(tell, Tell::Weak(Audience::NotTheSender), "age {age}");
            is(hearing.stored, HOST_1, NOW, true);
        } else {
            assert_eq!(tell, Tell::User(Audience::Everybody), "age {age}");
            is(hearing.stored, HOST_2, NOW, false);
        }
    }
}

#[test]
fn our_own_weak_line_comes_back() {
    let returned = WeakCopy::of(Seen::Duplicate, true);
    assert_eq!(returned, WeakCopy::Returned);
    let line = Heard {
        weak: returned.is_weak(),
        ..weak(HOST_2)
    };
    let waits = with(stored(HOST_2, 56), |entry| entry.set_weak(true));
    let confirmed = hear(Some(waits), line);
    assert!(confirmed.wake);
    assert_eq!(
        confirmed.after_weak(returned),
        Tell::User(Audience::Everybody)
    );
    is(confirmed.stored, HOST_2, NOW, false);
    // Even when nothing but the weakness goes.
    let now = with(stored(HOST_2, 0), |entry| entry.set_weak(true));
    let told = hear(Some(now), line).after_weak(returned);
    assert_eq!(told, Tell::User(Audience::Everybody));
    // The second copy says nothing any more.
    let second = hear(confirmed.stored, line);
    assert_eq!(second.after_weak(returned), Tell::Nothing);
}

#[test]
fn which_copy_a_weak_line_is() {
    assert_eq!(WeakCopy::of(Seen::New, false), WeakCopy::First);
    assert_eq!(WeakCopy::of(Seen::New, true), WeakCopy::First);
    assert_eq!(WeakCopy::of(Seen::NoOrigin, false), WeakCopy::First);
    assert_eq!(WeakCopy::of(Seen::Duplicate, false), WeakCopy::Again);
}

#[test]
fn a_user_whose_time_is_over_is_created_anew() {
    let over = hear(Some(stored(HOST_3, 60)), user(HOST_1, NOW));
    assert!(over.created && over.removed == 1 && over.kick.is_none());
    is(over.stored, HOST_1, NOW, false);
    // A weak one lives 30 s longer.
    let old_weak = |age| with(stored(HOST_3, age), |entry| entry.set_weak(true));
    assert!(hear(Some(old_weak(89)), user(HOST_1, NOW)).wake);
    assert!(hear(Some(old_weak(90)), user(HOST_1, NOW)).created);
    // One whose backend is gone does not count either.
    let gone = hear(Some(stored(BackendSlot(9), 1)), user(HOST_3, NOW));
    assert!(gone.created && gone.kick.is_none());
    // One that is being moved does not expire.
    let moving = with(stored(HOST_3, 500), |entry| entry.set_killing(true));
    assert!(!hear(Some(moving), user(HOST_3, NOW)).created);
}

#[test]
fn a_full_table_takes_nobody_in_and_lets_weak_lines_pass() {
    let full = || Err(Refusal::TableFull);
    let mut shard = Shard::new(5);
    let hearing = shard.hear(user(HOST_1, NOW), Wall(NOW), &world(), full);
    assert_eq!(hearing.outcome, Outcome::Refused(Refusal::TableFull));
    assert_eq!(hearing.after_user(), Tell::Nothing);
    assert_eq!(
        hearing.after_weak(WeakCopy::First),
        Tell::Weak(Audience::NotTheSender)
    );
    assert!(shard.is_empty());
}

#[test]
fn a_handshake_takes_the_larger_time() {
    let line = |stamp| user(HOST_1, stamp);
    is(
        hear(Some(stored(HOST_1, 9)), line(NOW - 5)).stored,
        HOST_1,
        NOW - 5,
        false,
    );
    is(
        hear(Some(stored(HOST_1, 3)), line(NOW - 5)).stored,
        HOST_1,
        NOW - 3,
        false,
    );
    is(
        hear(Some(stored(HOST_1, 3)), line(NOW + 9)).stored,
        HOST_1,
        NOW,
        false,
    );
}

#[test]
fn a_confirmation_is_begun_once_and_given_up() {
    let world = world();
    let choice = world.choose(USER).unwrap();
    let elsewhere = other_backend(&world);
    let mut shard = shard_with(stored(elsewhere, 55));
    let entry = shard
        .confirm(USER, Wall(NOW), &world)
        .expect("near its end");
    is(Some(entry), elsewhere, NOW - 55, true);
    assert_eq!(shard.confirm(USER, Wall(NOW), &world), None);
    assert!(shard.give_up_confirmation(USER));
    assert!(!shard.give_up_confirmation(USER));
    for (synced, alone) in [(false, false), (true, true)] {
        let unfit = Snapshot {
            synced,
            alone,
            ..self::world()
        };
        assert_eq!(shard.confirm(USER, Wall(NOW), &unfit), None);
    }
    for unfit in [
        stored(elsewhere, 54),
        stored(elsewhere, 60),
        stored(choice, 55),
        with(stored(elsewhere, 55), |entry| entry.set_killing(true)),
    ] {
        let mut shard = shard_with(unfit);
        assert_eq!(shard.confirm(USER, Wall(NOW), &world), None, "{unfit:?}");
    }
}

fn a_line() -> impl Strategy<Value = Heard> {
    let stamp = prop::option::of((NOW - 70..NOW + 70).prop_map(Wall));
    (0u16..3, stamp, any::<bool>()).prop_map(|(slot, stamp, weak)| Heard {
        backend: BackendSlot(slot),
        stamp,
        weak,
        ..user(HOST_1, 0)
    })
}

fn an_entry() -> impl Strategy<Value = Option<Entry>> {
    let flags = (any::<bool>(), any::<bool>());
    prop::option::of((0u16..3, 0u64..100, flags)).prop_map(|entry| {
        entry.map(|(slot, age, (weak, killing))| {
            with(stored(BackendSlot(slot), age), |entry| {
                entry.set_weak(weak);
                entry.set_killing(killing);
            })
        })
    })
}

proptest! {
    #[test]
    fn what_is_heard_never_harms(before in an_entry(), lines in prop::collection::vec(a_line(), 1..8)) {
        let world = world();
        let mut shard = before.map_or_else(|| Shard::new(5), shard_with);
        for line in lines {
            let before = shard.table.get(USER).copied();
            let over = line.stamp.is_some_and(|stamp| stamp.0 + 60 <= NOW);
            let hearing = shard.hear(line, Wall(NOW), &world, || Ok(()));
            shard.check_invariants(0);
            let after = shard.table.get(USER).copied();
            if over {
                prop_assert_eq!(hearing.outcome, Outcome::Expired);
                prop_assert_eq!(before, after);
                continue;
            }
            prop_assert_eq!(hearing.stored, after);
            let after = after.expect("a user");
            prop_assert!(after.stamp() <= Wall(NOW));
            if let Some(before) = before.filter(|_| !hearing.created) {
                prop_assert!(after.stamp() >= before.stamp());
                prop_assert_eq!(after.is_killing(), before.is_killing());
                prop_assert!(after == before || hearing.outcome == Outcome::Changed);
                prop_assert!(hearing.kick.is_none_or(|kick| kick == after.backend()));
                prop_assert!(!hearing.forced || after.backend() == line.backend);
            }
            // The same line again is no news, unless it asks for our opinion.
            let again = shard.hear(line, Wall(NOW), &world, || Ok(()));
            let answers = line.weak && !after.is_weak();
            let disagrees = line.backend != after.backend() && !after.is_killing();
            prop_assert!(again.outcome == Outcome::Unchanged || answers || disagrees);
        }
    }

    /// Two directors that decided differently agree once each has heard the other.
    #[test]
    fn a_conflict_is_decided_the_same_on_both_sides(a in 0u16..3, b in 0u16..3, ages in (0u64..54, 0u64..54)) {
        let one = stored(BackendSlot(a), ages.0);
        let other = stored(BackendSlot(b), ages.1);
        let heard = |entry: Entry| user(entry.backend(), entry.stamp().0);
        let mine = hear(Some(one), heard(other));
        let theirs = hear(Some(other), heard(one));
        prop_assert_eq!(
            mine.stored.map(|entry| (entry.backend(), entry.stamp())),
            theirs.stored.map(|entry| (entry.backend(), entry.stamp()))
        );
        prop_assert_eq!(mine.kick, theirs.kick);
        prop_assert_eq!(mine.kick.is_some(), a != b);
    }
}
