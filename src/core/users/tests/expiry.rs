use super::*;

const T: u64 = NOW;

/// The age in seconds at which a predicate turns true for good, looked for second by second.
fn turns_true(predicate: impl Fn(Wall, Wall) -> bool) -> u64 {
    let first = (0..2000).find(|age| predicate(Wall(T), Wall(T + age)));
    let first = first.expect("within 2000 s");
    assert!((first..2000).all(|age| predicate(Wall(T), Wall(T + age))));
    first
}

#[test]
fn the_exact_seconds_of_each_predicate() {
    for (expire, over, near, weak_over) in [
        (900, 900, 871, 930),
        (60, 60, 55, 90),
        (10, 10, 8, 40),
        (301, 301, 272, 331),
        (15, 15, 13, 45),
    ] {
        let expiry = Expiry::new(expire);
        assert_eq!(expiry.seconds(), u64::from(expire));
        assert_eq!(turns_true(|s, n| expiry.is_over(s, n)), over, "E={expire}");
        assert_eq!(turns_true(|s, n| expiry.is_near(s, n)), near, "E={expire}");
        let weak = turns_true(|s, n| expiry.is_weak_over(s, n));
        assert_eq!(weak, weak_over, "E={expire}");
    }
}

#[test]
fn a_stamp_in_the_future_is_neither_near_nor_over() {
    let expiry = Expiry::new(900);
    for now in [0, T - 5000, T - 1] {
        assert!(!expiry.is_over(Wall(T), Wall(now)));
        assert!(!expiry.is_near(Wall(T), Wall(now)));
        assert!(!expiry.is_weak_over(Wall(T), Wall(now)));
    }
}

#[test]
fn the_longest_expiry_does_not_overflow() {
    let expiry = Expiry::new(u32::MAX);
    assert!(!expiry.is_over(Wall(T), Wall(T + 1_000_000)));
    let stamp = Entry::new(USER, BackendSlot(0), Wall(u64::MAX)).stamp();
    assert!(expiry.is_over(stamp, Wall(u64::MAX)));
    assert!(expiry.is_weak_over(stamp, Wall(u64::MAX)));
}

/// What a table shows of the one user that it knows.
fn is_seen(entry: Entry, now: u64, snapshot: &Snapshot) -> bool {
    shard_with(entry).peek(USER, Wall(now), snapshot).is_some()
}

#[test]
fn a_plain_user_lives_to_its_last_second() {
    let snapshot = ring();
    assert!(is_seen(aged(&snapshot, 899), NOW, &snapshot));
    assert!(!is_seen(aged(&snapshot, 900), NOW, &snapshot));
}

#[test]
fn a_weak_user_lives_30_seconds_longer() {
    let snapshot = ring();
    let mut entry = aged(&snapshot, 929);
    entry.set_weak(true);
    assert!(is_seen(entry, NOW, &snapshot));
    assert!(!is_seen(entry, NOW + 1, &snapshot));
}

#[test]
fn a_user_being_moved_does_not_expire_but_goes_with_its_backend() {
    let mut snapshot = ring();
    let mut entry = aged(&snapshot, 100_000);
    entry.set_killing(true);
    assert!(is_seen(entry, NOW, &snapshot));
    std::sync::Arc::make_mut(&mut snapshot.backends)[usize::from(entry.backend().0)] = None;
    assert!(!is_seen(entry, NOW, &snapshot));
}

#[test]
fn shards_are_the_ten_highest_bits() {
    assert_eq!(shard_of(UserHash(0)), 0);
    assert_eq!(shard_of(UserHash((1 << 22) - 1)), 0);
    assert_eq!(shard_of(UserHash(1 << 22)), 1);
    assert_eq!(shard_of(UserHash(u32::MAX)), SHARDS - 1);
}
