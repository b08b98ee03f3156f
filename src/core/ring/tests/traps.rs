//! The traps of the protocol (docs/protocol/ring.md, traps): what breaks a Dovecot director, or what
//! it gets wrong. Those that are not here are the table's.

use super::scripted::*;
use super::*;

const NONE: Vec<String> = Vec::new();

/// Whether a line from the left is refused as garbage.
fn garbage(line: &str) -> bool {
    let (mut s, left, _) = between();
    s.say(left, line);
    s.is_closed(left) && s.garbage(31)
}

#[test]
fn t01_no_line_about_hash_0_is_taken() {
    assert!(garbage("USER\t0\t10.0.0.1"));
    assert!(garbage("USER-KILLED\t0"));
    for (command, rest) in [
        ("USER-MOVE", "0\t10.0.0.1"),
        ("USER-WEAK", "0\t10.0.0.1"),
        ("USER-KICK-HASH", "0\t10.0.0.1"),
        ("USER-KILLED-EVERYWHERE", "0"),
    ] {
        assert!(garbage(&from(command, 31, 1, rest)), "{command}");
    }
    let (mut s, ..) = between();
    let conn = s.met(31);
    s.say(conn, "U\t0\t10.0.0.1\t1");
    assert!(s.garbage(31));
}

#[test]
fn t02_our_own_sync_without_both_neighbours_is_ignored() {
    for lose_left in [true, false] {
        let (mut s, left, right) = between();
        s.pass(60);
        let (lost, kept) = if lose_left {
            (left, right)
        } else {
            (right, left)
        };
        s.lost(lost);
        for ahead in 0..3 {
            let seq = s.ring.round.seq.wrapping_add(ahead);
            let line = naming("SYNC", 32) + &format!("\t{seq}\t9\t{}\t0", s.clock());
            s.say(kept, &line);
        }
        assert!(!s.is_closed(kept) && !s.synced());
    }
}

#[test]
fn t03_a_director_that_is_another_one_is_left_alone_for_a_minute() {
    let mut s = Scripted::started(&Setup::default());
    let conn = s.reached(33);
    s.introduce(conn, 31);
    assert!(s.is_closed(conn) && s.unreached(33));
    s.answered(31);
    s.pass(29);
    assert!(s.dials.is_empty());
    // Our own ME is what the settings say.
    let mut s = Scripted::started(&Setup::default());
    let conn = s.reached(33);
    assert_eq!(s.all(conn)[1], s.me(32));
}

#[test]
fn t04_nobody_resets_our_counter() {
    let (mut s, left, right) = between();
    let (seq, round) = (s.next_seq(), s.ring.round.seq);
    let conn = s.accept(31);
    let me = s.me(32);
    s.batch(conn, &[VERSION, &me]);
    assert!(s.is_closed(conn));
    for conn in [left, right] {
        s.say(conn, &naming("DIRECTOR", 32));
        s.say(conn, &naming("DIRECTOR-REMOVE", 32));
    }
    assert_eq!((s.next_seq(), s.ring.round.seq), (seq, round));
}

#[test]
fn t05_a_confirmation_whose_director_has_left_goes_round_four_times() {
    let (mut s, left, right) = between();
    let line = from("USER-WEAK", 31, 9, "500\t10.0.0.1");
    let mut told = 0;
    for _ in 0..20 {
        s.say(left, &line);
        told += s.told(right).len();
        s.say(right, &line);
        told += s.told(left).len();
    }
    assert_eq!(told, 4);
}

#[test]
fn t06_a_time_of_the_future_counts_as_now() {
    let (mut s, left, right) = between();
    let known = s.user(5, 1, 20);
    s.say(left, &known);
    s.forget();
    let (ahead, now) = (s.user(5, 1, -5000), s.user(5, 1, 0));
    s.say(left, &ahead);
    assert_eq!(s.told(right), [now]);
    s.pass(60);
    assert_eq!(s.known(5), None, "it expires like all others");
}

#[test]
fn t07_times_above_32_bits_are_kept_and_written_as_the_highest() {
    let setup = Setup {
        begins: (1 << 32) + 1000,
        ..Setup::default()
    };
    let (mut s, left, right) = whole(&setup);
    assert!(matches!(s.login(7), Decision::Go(_)));
    let line = &s.told(left)[0];
    assert!(line.starts_with("USER\t7\t"), "{line}");
    assert!(line.ends_with("\t4294967295"), "{line}");
    s.pass(20);
    assert_eq!(s.known(7).map(|it| it.1), Some(20));
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100"));
    let sync = s.own_sync(right).unwrap();
    assert_eq!(sync.split('\t').nth(5), Some("4294967295"));
}

#[test]
fn t08_a_handed_user_of_an_unknown_host_is_skipped() {
    let (mut s, ..) = between();
    let conn = s.met(31);
    let lines = [
        format!("U\t5\t10.9.9.9\t{}", s.clock()),
        format!("U\t6\t10.0.0.1\t{}", s.clock()),
    ];
    s.batch(conn, &[&lines[0], &lines[1]]);
    assert!(!s.is_closed(conn));
    assert!(s.known(5).is_none() && s.known(6).is_some());
}

#[test]
fn t09_a_second_version_is_garbage_at_every_point() {
    let mut s = Scripted::started(&Setup::default());
    let conn = s.reached(33);
    s.batch(conn, &[VERSION, VERSION]);
    assert!(s.garbage(33));
    let mut s = Scripted::started(&Setup::default());
    let conn = s.reached(33);
    s.introduce(conn, 33);
    s.say(conn, VERSION);
    assert!(s.garbage(33));
    assert!(garbage(VERSION));
}

#[test]
fn t10_a_host_that_is_down_with_n_looks_like_one_that_is_up_with_n_xor_1() {
    let setup = Setup {
        hosts: vec![1],
        ..Setup::default()
    };
    let (mut s, left, right) = whole(&setup);
    s.say(left, &from("HOST", 31, 1, "10.0.0.1\t0\t\tU0\t"));
    let up = s.ring.backends().hosts_hash();
    s.round(left, right);
    s.say(left, &from("HOST", 31, 2, "10.0.0.1\t1\t\tD5\t"));
    assert_eq!(s.ring.backends().hosts_hash(), up);
    assert_eq!(up, 2_107_117_467);
    s.round(left, right);
}

#[test]
fn t12_a_complete_ring_does_not_take_the_hosts_of_a_joiner() {
    let (mut s, _, right) = between();
    let conn = s.met(31);
    s.forget();
    s.batch(
        conn,
        &[
            "HOST-HAND-START\t0",
            "HOST\t10.0.0.77\t5",
            "HOST-HAND-END\t0",
        ],
    );
    assert!(s.ring.backends().find(backend(77)).is_none());
    assert_eq!(s.told(right), NONE);
    // And a joiner says that it is one.
    let mut s = Scripted::started(&Setup::default());
    let right = s.reached(33);
    s.say(right, VERSION);
    assert!(s.read(right).contains(&"HOST-HAND-START\t0".to_owned()));
}

#[test]
fn t13_the_time_of_a_new_host_that_is_up_is_dropped() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100\t\tU12345\t"));
    let lines = s.all(right);
    assert_eq!(lines[0], from("HOST", 31, 1, "10.0.0.9\t100\t\tU0\t"));
    s.say(left, &lines[1]);
    assert!(s.synced());
    s.say(left, &from("HOST", 31, 2, "10.0.0.9\t100\t\tU99999\t"));
    assert!(s.synced(), "time alone is no change");
}

#[test]
fn t14_no_kick_is_longer_than_a_line() {
    let (mut s, left, right) = between();
    let kick = |length| Order::KickUser(vec![b'\t'; length]);
    assert_eq!(s.order(kick(500)), Err(OrderError::TooLong));
    assert_eq!((s.told(left), s.told(right)), (NONE, NONE));
    s.order(kick(450)).unwrap();
    assert_eq!(s.told(right).len(), 1);
    s.forget();
    // It fits as it comes, and not in our name: it is carried out, and not passed on.
    let name = "x".repeat(998);
    let line = format!("USER-KICK\t1.1.1.1\t1\t1\t{name}");
    assert!(line.len() <= 1023);
    s.say(left, &line);
    assert_eq!(s.kicks.len(), 1);
    assert_eq!(s.told(right), NONE);
    assert!(!s.is_closed(left));
}

#[test]
fn t15_a_weight_above_a_million_is_garbage() {
    let host = |vhosts: u32| from("HOST", 31, 1, &format!("10.0.0.9\t{vhosts}"));
    assert!(garbage(&host(1_000_001)));
    assert!(garbage(&host(u32::MAX)));
    assert!(!garbage(&host(1_000_000)));
}

#[test]
fn t16_an_me_must_be_of_its_own_address_and_listed() {
    for me in ["127.77.0.33\t17790", "127.77.0.31\t17791", "127.99.0.1\t1"] {
        let (mut s, ..) = between();
        let conn = s.accept(31);
        s.batch(conn, &[VERSION, &format!("ME\t{me}")]);
        assert!(s.is_closed(conn), "{me}");
        assert_eq!(s.ring.members().iter().len(), 3);
    }
}

#[test]
fn t17_a_removed_director_does_not_shut_its_sibling_out() {
    let (mut s, ..) = between();
    let sibling = DirectorId {
        ip: d(31).ip,
        port: 17_791,
    };
    s.order(Order::AddDirector(sibling)).unwrap();
    s.order(Order::RemoveDirector(d(31))).unwrap();
    let conn = s.accept(31);
    s.batch(conn, &[VERSION, "ME\t127.77.0.31\t17791", "DONE"]);
    assert!(!s.is_closed(conn));
    assert_eq!(s.left(), Some(sibling));
}

#[test]
fn t18_a_confirmation_from_a_third_connection_goes_to_all_others() {
    let (mut s, left, right) = whole(&Setup {
        us: 1,
        directors: vec![1, 2],
        ..Setup::default()
    });
    s.say(left, &naming("DIRECTOR", 3));
    let third = s.met(3);
    s.forget();
    let line = from("USER-WEAK", 3, 1, "500\t10.0.0.1");
    s.say(third, &line);
    assert_eq!(s.told(left), std::slice::from_ref(&line));
    assert_eq!(s.told(right), [line]);
    assert_eq!(s.told(third), NONE);
}

#[test]
fn t19_who_goes_alone_has_no_neighbour_left() {
    let mut s = Scripted::started(&Setup {
        us: 33,
        directors: vec![31, 32, 33],
        ..Setup::default()
    });
    let right = s.answered(31);
    let left = s.joined(31);
    let waiting = s.joined(32);
    assert_eq!(s.left(), Some(d(31)));
    s.pass(10);
    // Both are lost early, and so are not dialled again for a minute; the grace is over.
    let young = s.met(32);
    s.lost(young);
    s.pass(12);
    s.say(waiting, "PING\t1\t1");
    s.lost(right);
    while let Some((conn, _)) = s.dials.pop_front() {
        s.input(Input::DialFailed(conn));
    }
    assert!(s.synced() && s.left().is_none() && s.right().is_none());
    assert!(s.is_closed(left) && s.is_closed(waiting));
}

#[test]
fn t20_in_a_ring_of_version_6_the_place_of_the_tag_is_empty() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100"));
    let home = s.own_sync(right).unwrap().replace("\t9\t", "\t6\t");
    s.say(left, &home);
    assert_eq!(s.ring.standing().min_version, 6);
    s.order(Order::Down(backend(9))).unwrap();
    let line = &s.told(left)[0];
    let time = s.clock();
    assert!(
        line.ends_with(&format!("\t10.0.0.9\t100\t\tD{time}\t")),
        "{line}"
    );
    // Nor do we say 6 ourselves.
    assert!(VERSION.ends_with("\t9"));
}

#[test]
fn t21_every_difference_is_repaired_by_the_director_that_sees_it() {
    let (mut s, left, right) = between();
    for (n, conn) in [(31, left), (33, right)] {
        for copy in 0..2 {
            s.forget();
            let line = naming("SYNC", n) + &format!("\t7\t9\t{}\t4711", s.clock() + copy);
            s.say(conn, &line);
        }
        assert_eq!(s.told(left).len(), 3, "all hosts, for {n}");
        assert_eq!(s.told(right).len(), 3);
        // The same again would only be behind these lines; later they may have been lost.
        let again = naming("SYNC", n) + &format!("\t8\t9\t{}\t4711", s.clock());
        s.say(conn, &again);
        assert_eq!(s.told(left), NONE);
        s.pass(5);
    }
    // A repair that says nothing new ends here.
    s.say(left, &from("HOST", 31, 1, "10.0.0.1\t100\t\tU0\t"));
    assert_eq!(s.told(right), NONE);
}

#[test]
fn t23_after_a_quit_the_right_is_dialled_at_once_and_by_who_leaves_nobody() {
    let (mut s, _, right) = between();
    s.pass(1);
    s.say(right, "QUIT\tShutting down");
    s.dialled(33);
    let (mut s, ..) = between();
    s.input(Input::Leave);
    s.pass(100);
    assert!(s.dials.is_empty() && s.left().is_none() && s.right().is_none());
}

#[test]
fn t27_who_is_no_longer_weak_is_tried_again_whether_synced_or_not() {
    let (mut s, left, _) = between();
    s.say(left, &from("USER-WEAK", 31, 1, "500\t10.0.0.1"));
    s.say(left, &from("HOST", 31, 2, "10.0.0.9\t100"));
    s.forget();
    assert!(!s.synced());
    let sure = s.user(500, 1, 0);
    s.say(left, &sure);
    assert_eq!(s.wakes, [key(500)]);
}

#[test]
fn t28_the_right_is_asked_from_its_done_on() {
    let mut s = Scripted::started(&Setup::default());
    let right = s.answered(33);
    s.forget();
    for _ in 0..60 {
        s.pass(1);
        assert_eq!(s.all(right).len(), 1, "a PING each second without a left");
    }
    assert!(!s.is_closed(right));
}

#[test]
fn t29_what_is_said_twice_is_done_once() {
    let (mut s, left, right) = between();
    let known = s.user(500, 1, 0);
    s.say(left, &known);
    let twice = |s: &mut Scripted, line: &str| {
        s.forget();
        s.say(left, line);
        let first = s.told(right);
        s.say(left, &naming("DIRECTOR", 31));
        s.forget();
        s.say(left, line);
        (first, s.told(right))
    };
    let host = from("HOST", 31, 1, "10.0.0.9\t7\t\tU0\t");
    assert_eq!(twice(&mut s, &host), (vec![host], vec![]));
    let remove = from("HOST-REMOVE", 31, 2, "10.0.0.9");
    assert_eq!(twice(&mut s, &remove), (vec![remove], vec![]));
    let order = from("USER-MOVE", 31, 3, "500\t10.0.0.2");
    assert_eq!(twice(&mut s, &order), (vec![order.clone()], vec![order]));
    assert_eq!(s.kicks, [], "the first has ended its sessions");
    assert_eq!(s.known(500).map(|it| it.0), Some(backend(2)));
    let kick = from("USER-KICK", 31, 4, "alice");
    assert_eq!(twice(&mut s, &kick), (vec![kick.clone()], vec![kick]));
}
