//! SYNC lines: ours, those of others, and what follows.

use super::*;

/// A SYNC of this director with our hosts hash.
fn sync(s: &Scripted, n: u8, seq: u32, ahead: i64) -> String {
    let hash = s.ring.backends().hosts_hash();
    with_hash(s, (n, seq, ahead), hash)
}

fn with_hash(s: &Scripted, (n, seq, ahead): (u8, u32, i64), hash: u32) -> String {
    let time = s.clock().checked_add_signed(ahead).unwrap();
    naming("SYNC", n) + &format!("\t{seq}\t9\t{time}\t{hash}")
}

fn syncs(s: &mut Scripted, conn: ConnId) -> Vec<String> {
    let mut lines = s.read(conn);
    lines.retain(|line| line.starts_with("SYNC\t"));
    lines
}

#[test]
fn another_directors_sync_goes_to_the_right_wherever_it_comes_from() {
    let (mut s, left, right) = between();
    let line = sync(&s, 31, 7, 0);
    s.say(left, &line);
    assert_eq!(
        (syncs(&mut s, left), syncs(&mut s, right)),
        (vec![], vec![line])
    );
    let line = sync(&s, 33, 7, 0);
    s.say(right, &line);
    assert_eq!(
        (syncs(&mut s, left), syncs(&mut s, right)),
        (vec![], vec![line])
    );
}

#[test]
fn the_lowest_version_goes_on() {
    let (mut s, left, right) = between();
    for (came, goes) in [("12", "9"), ("9", "9"), ("8", "8")] {
        s.pass(1);
        let hash = s.ring.backends().hosts_hash();
        let time = s.clock();
        let of = |minor: &str| naming("SYNC", 31) + &format!("\t8\t{minor}\t{time}\t{hash}");
        s.say(left, &of(came));
        assert_eq!(syncs(&mut s, right), [of(goes)]);
    }
}

#[test]
fn a_sync_of_three_fields_stays_one() {
    let (mut s, left, right) = between();
    let line = naming("SYNC", 31) + "\t7";
    s.say(left, &line);
    assert_eq!(syncs(&mut s, right), [line]);
}

#[test]
fn an_old_round_of_ours_is_ignored() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100"));
    let first = s.own_sync(right).unwrap();
    s.say(left, &from("HOST", 31, 2, "10.0.0.9\t101"));
    let second = s.own_sync(right).unwrap();
    s.say(left, &first);
    assert!(!s.synced());
    s.say(left, &second);
    assert!(s.synced());
}

#[test]
fn our_sync_with_other_hosts_is_sent_again() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100"));
    let first = s.own_sync(right).unwrap();
    let number = first.split('\t').nth(3).unwrap().to_owned();
    let other = naming("SYNC", 32) + &format!("\t{number}\t9\t{}\t12345", s.clock());
    s.say(left, &other);
    assert_eq!(s.own_sync(right), Some(first.clone()));
    assert!(!s.synced());
    let unknown = naming("SYNC", 32) + &format!("\t{number}\t9\t{}\t0", s.clock());
    s.say(left, &unknown);
    assert!(s.synced(), "an unknown hash is no other one");
}

#[test]
fn our_sync_brings_the_version_of_the_ring() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100"));
    let home = s.own_sync(right).unwrap().replace("\t9\t", "\t8\t");
    s.say(left, &home);
    assert_eq!(s.ring.standing().min_version, 8);
    assert!(s.synced());
    // Once more, when it is synced already: nothing.
    s.forget();
    s.say(left, &home);
    assert!(s.events.is_empty() && s.synced());
}

#[test]
fn a_lower_number_is_stale_unless_its_clock_is_far_ahead() {
    let (mut s, left, right) = between();
    let first = sync(&s, 31, 100, 0);
    s.say(left, &first);
    for (ahead, passes) in [(0, false), (119, false), (120, true)] {
        s.forget();
        let line = sync(&s, 31, 5, ahead);
        s.say(left, &line);
        assert_eq!(!syncs(&mut s, right).is_empty(), passes, "{ahead}");
    }
    // It has restarted: that is its number now.
    let next = sync(&s, 31, 6, 120);
    s.say(left, &next);
    assert_eq!(syncs(&mut s, right), [next]);
}

#[test]
fn four_copies_pass_until_the_number_or_the_clock_goes_on() {
    let (mut s, left, right) = between();
    for (seq, ahead) in [(7, 0), (8, 0), (8, 1)] {
        let line = sync(&s, 31, seq, ahead);
        for copy in 1..=6 {
            s.say(left, &line);
            assert_eq!(syncs(&mut s, right).len() == 1, copy <= 4, "copy {copy}");
        }
    }
}

#[test]
fn a_sync_waits_for_a_right_the_newest_of_each_director() {
    let mut s = Scripted::started(&Setup::default());
    let left = s.joined(31);
    let right = s.reached(33);
    s.introduce(right, 33);
    let (old, new) = (sync(&s, 31, 7, 0), sync(&s, 31, 8, 0));
    let other = naming("SYNC", 33) + "\t4";
    for line in [&old, &new, &other] {
        s.say(left, line);
    }
    s.forget();
    s.say(right, "DONE");
    let lines = syncs(&mut s, right);
    assert_eq!(lines[..2], [new, other]);
    assert!(lines[2].starts_with("SYNC\t127.77.0.32\t"), "and ours");
}

/// Who takes the SYNC for a sign that all agree would place the user by the new backends.
#[test]
fn a_sync_does_not_overtake_users_that_were_placed_before() {
    let (mut s, left, right) = between();
    s.users.behind = true;
    for seq in [7, 8] {
        let line = sync(&s, 31, seq, 0);
        s.say(left, &line);
    }
    s.pass_ms(100);
    assert_eq!(syncs(&mut s, right), [""; 0]);
    let newest = sync(&s, 31, 8, 0);
    s.login(7);
    assert_eq!(syncs(&mut s, right), [""; 0], "there may be more of them");
    s.login(8);
    s.users.behind = false;
    s.login(9);
    let lines = s.all(right);
    let at = |text: &str| lines.iter().position(|line| line.starts_with(text));
    assert!(
        at("USER\t9\t") < at(&newest) && at(&newest).is_some(),
        "{lines:?}"
    );
}

#[test]
fn other_hosts_are_waited_for_once_and_then_told_again() {
    let (mut s, left, right) = between();
    s.say(left, &with_hash(&s, (31, 7, 0), 4711));
    assert_eq!((s.read(left), s.read(right)), (vec![], vec![]));
    // Yet another difference is a first one again.
    s.say(left, &with_hash(&s, (31, 7, 1), 4712));
    assert_eq!((s.read(left), s.read(right)), (vec![], vec![]));
    let seq = s.next_seq();
    s.say(left, &with_hash(&s, (31, 7, 2), 4712));
    let host = |at: u32| {
        from(
            "HOST",
            32,
            seq + at,
            &format!("10.0.0.{}\t100\t\tU0\t", at + 1),
        )
    };
    let told: Vec<String> = (0..3).map(host).collect();
    assert_eq!((s.read(left), s.read(right)), (told.clone(), told));
    assert!(s.events.contains(&Event::Repair(d(31))));
    // An agreement forgets the difference.
    s.say(left, &sync(&s, 31, 7, 3));
    s.forget();
    s.say(left, &with_hash(&s, (31, 7, 4), 4712));
    assert_eq!(s.read(left), Vec::<String>::new());
}

#[test]
fn a_removed_directors_sync_counts_as_any() {
    let (mut s, left, right) = whole(&five(33));
    s.say(left, &naming("DIRECTOR-REMOVE", 35));
    s.forget();
    let line = sync(&s, 35, 7, 0);
    s.say(left, &line);
    assert!(s.member(35).removed);
    assert_eq!(syncs(&mut s, right), [line]);
}

#[test]
fn an_unknown_directors_sync_goes_no_further() {
    let (mut s, left, right) = between();
    s.say(left, &sync(&s, 99, 7, 0));
    assert_eq!(syncs(&mut s, right), Vec::<String>::new());
}

/// Not synced, and the ring has been rewired since our SYNC went out.
fn rewired() -> (Scripted, ConnId, ConnId) {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100"));
    s.say(left, &naming("DIRECTOR", 99));
    s.forget();
    (s, left, right)
}

#[test]
fn our_sync_is_sent_again_when_the_ring_was_rewired_once_a_second() {
    let (mut s, left, right) = rewired();
    s.say(left, &sync(&s, 31, 7, 0));
    assert_eq!(
        syncs(&mut s, right).len(),
        1,
        "ours went out in this second"
    );
    s.pass(1);
    s.say(left, &sync(&s, 31, 8, 0));
    assert_eq!(syncs(&mut s, right).len(), 2);
    s.pass(1);
    s.say(left, &sync(&s, 31, 9, 0));
    assert_eq!(syncs(&mut s, right).len(), 1, "no director was added since");
}

#[test]
fn a_sync_that_was_dropped_does_not_bring_ours_again() {
    let (mut s, left, right) = rewired();
    s.pass(1);
    s.say(left, &with_hash(&s, (31, 7, 0), 4711));
    assert_eq!(syncs(&mut s, right), Vec::<String>::new());
}

#[test]
fn one_batch_of_lines_has_one_sync_behind_all_that_it_caused() {
    let (mut s, left, right) = between();
    let hosts: Vec<String> = (1..=5)
        .map(|seq| from("HOST", 31, seq, &format!("10.0.1.{seq}\t100\t\tU0\t")))
        .collect();
    let batch: Vec<&str> = hosts.iter().map(String::as_str).collect();
    s.batch(left, &batch);
    let lines = s.read(right);
    assert_eq!(lines[..5], hosts);
    assert_eq!(lines.len(), 6);
    assert!(lines[5].starts_with("SYNC\t127.77.0.32\t"));
}

#[test]
fn who_has_agreed_changes_a_host_again_although_our_round_is_under_way() {
    let (mut s, left, _) = between();
    let weight = |s: &Scripted| s.ring.backends().find(backend(1)).unwrap().vhosts;
    let host = |n, seq, vhosts| from("HOST", n, seq, &format!("10.0.0.1\t{vhosts}\t\tU0\t"));
    s.say(left, &host(31, 1, 13));
    let agrees = sync(&s, 31, 7, 0);
    s.say(left, &agrees);
    s.say(left, &host(31, 2, 16));
    assert!(!s.synced());
    assert_eq!(weight(&s), 16);
    // It has not seen that we have this one; nor has anybody else.
    s.say(left, &host(31, 3, 19));
    assert_eq!(weight(&s), 16);
    s.say(left, &host(33, 1, 20));
    assert_eq!(weight(&s), 16);
    // Who starts again knows nothing.
    let agrees = sync(&s, 31, 8, 0);
    s.say(left, &agrees);
    s.say(left, &naming("DIRECTOR", 31));
    s.say(left, &host(31, 1, 21));
    assert_eq!(weight(&s), 16);
}
