//! What a peer may say at most, and how slowly (docs/protocol/ring.md, floods).

use super::scripted::*;
use super::*;
use crate::core::ring::flood::MOST_HANDED;

/// Why a connection was closed, as the log has it.
fn why(s: &Scripted) -> Vec<String> {
    let closed = s.events.iter().filter_map(|event| match event {
        Event::Closed { why, level, .. } if *level == Level::Error => Some(why.clone()),
        _ => None,
    });
    closed.collect()
}

fn is_cut(s: &Scripted, conn: ConnId) -> bool {
    let is_flood = why(s).iter().any(|why| why.starts_with("Flood: "));
    assert_eq!(s.is_closed(conn), is_flood, "{:?}", why(s));
    is_flood
}

/// Lines by the thousand in one read, as often as it takes to have said so many.
fn flood(s: &mut Scripted, conn: ConnId, lines: usize, line: &str) {
    const READ: usize = 4000;
    let mut left = lines;
    while left > 0 && !s.is_closed(conn) {
        let now = left.min(READ);
        s.input(Input::Received(conn, line.repeat(now).as_bytes()));
        left -= now;
        s.forget_written();
    }
}

#[test]
fn two_million_lines_without_news_in_ten_seconds_are_too_many() {
    let (mut s, left, right) = between();
    flood(&mut s, left, 1_990_000, "PONG\n");
    assert!(!is_cut(&s, left));
    // Two hundred thousand come back in each second.
    s.pass(2);
    flood(&mut s, left, 390_000, "PONG\n");
    assert!(!is_cut(&s, left));
    flood(&mut s, left, 30_000, "PONG\n");
    assert!(is_cut(&s, left) && s.garbage(31));
    assert!(!s.is_closed(right) && !s.garbage(33), "the other stays");
    // For a minute it is not listened to.
    let again = s.accept(31);
    s.introduce(again, 31);
    assert!(s.is_closed(again));
    s.pass(61);
    let again = s.joined(31);
    assert!(!s.is_closed(again) && s.left() == Some(d(31)));
}

/// Points that lines cost, one read for all of them.
fn price(s: &mut Scripted, conn: ConnId, lines: &[&str]) -> u64 {
    let spent = |s: &Scripted| s.ring.conns.get(conn).expect("it is open").meter.spent();
    let before = spent(s);
    s.batch(conn, lines);
    spent(s) - before
}

#[test]
fn what_changes_nothing_costs_five_points_and_news_of_users_nothing() {
    let (mut s, left, _) = between();
    let user = s.user(111, 2, 0);
    assert_eq!(price(&mut s, left, &[&user]), 0);
    let older = s.user(111, 2, 1);
    let expired = s.user(112, 2, 1000);
    let lost = s.user(113, 77, 0);
    s.say(left, &from("HOST", 33, 1, "10.0.0.1\t7"));
    let duplicate = from("HOST", 33, 1, "10.0.0.1\t8");
    let same = from("HOST", 31, 1, "10.0.0.1\t7");
    let killed = from("USER-KILLED-EVERYWHERE", 33, 1, "111");
    let sync = naming("SYNC", 99) + "\t1\t9\t1790000000\t1";
    let own_sync = naming("SYNC", 31) + "\t1\t9\t1790000000\t1";
    let named = naming("DIRECTOR", 31);
    for line in [
        &*user,
        &*older,
        &*expired,
        &*lost,
        &*duplicate,
        &*same,
        &*killed,
        &*sync,
        &*own_sync,
        &*named,
        "PING",
        "PONG",
        "USER-KILLED\t111",
    ] {
        assert_eq!(price(&mut s, left, &[line]), 5, "{line}");
    }
}

#[test]
fn an_order_costs_its_director_more_and_who_passes_it_on_a_quarter() {
    for (origin, part) in [(31, 1), (33, 4), (99, 1)] {
        let (mut s, left, _) = between();
        // A PONG would cost something too.
        s.silent(left);
        for (at, (order, rest, points)) in [
            ("HOST", "10.0.0.1\t7", 100),
            ("HOST-FLUSH", "10.0.0.1", 100),
            ("HOST-FLUSH", "10.0.0.77", 100),
            ("USER-MOVE", "111\t10.0.0.2", 20),
            ("USER-MOVE", "111\t10.0.0.77", 20),
            ("USER-KICK", "ann", 20),
            ("USER-KICK-ALT", "user\tann", 20),
            ("USER-KILLED-EVERYWHERE", "111", 20),
            ("USER-WEAK", "112\t10.0.0.2", 20),
            ("USER-KICK-HASH", "111\t10.0.0.1", 1),
            ("HOST-REMOVE", "10.0.0.3", 100),
        ]
        .into_iter()
        .enumerate()
        {
            let line = from(order, origin, at as u32 + 1, rest);
            let wanted = u64::div_ceil(points, part);
            assert_eq!(price(&mut s, left, &[&line]), wanted, "{line}");
        }
    }
}

#[test]
fn users_that_come_together_cost_a_point_each_where_they_are_no_news() {
    let mut s = Scripted::started(&Setup::default());
    let conn = s.accept(31);
    let me = s.me(31);
    let version = "VERSION\tdirector\t1\t9\thoming=2";
    s.batch(conn, &[version, &me, OPTIONS, "DONE"]);
    let users = format!("USERS\t10.0.0.1\t{START}\t\"!!!!!!#!!!!!!$!!!!!!");
    assert_eq!(price(&mut s, conn, &[&users]), 0);
    assert_eq!(price(&mut s, conn, &[&users]), 3);
    let lost = users.replace("10.0.0.1", "10.0.0.77");
    assert_eq!(price(&mut s, conn, &[&lost]), 3);
    assert_eq!(price(&mut s, conn, &["ASK\t7\t"]), 1);
}

#[test]
fn a_handshake_that_tells_of_more_users_than_there_can_be_is_over() {
    let (mut s, _, _) = between();
    let waits = s.met(31);
    s.ring.conns.get_mut(waits).unwrap().tally.users = MOST_HANDED - 1;
    let user = |n: u32| format!("U\t{n}\t10.0.0.1\t{}", START);
    s.say(waits, &user(1));
    assert!(!s.is_closed(waits));
    s.say(waits, &user(2));
    assert!(s.is_closed(waits) && s.garbage(31));
}

#[test]
fn a_byte_now_and_then_is_no_introduction() {
    let mut s = Scripted::started(&Setup::default());
    let slow = s.accept(31);
    for _ in 0..6 {
        s.pass(9);
        s.input(Input::Received(slow, b"V"));
    }
    assert!(!s.is_closed(slow));
    s.pass(5);
    assert!(!s.is_closed(slow));
    s.pass(2);
    assert!(s.is_closed(slow));
}

#[test]
fn who_is_dialled_must_be_done_a_minute_after_the_last_user() {
    let mut s = Scripted::started(&Setup::default());
    let slow = s.reached(33);
    s.introduce(slow, 33);
    for _ in 0..5 {
        s.pass(11);
        s.say(slow, "PING");
    }
    assert!(!s.is_closed(slow), "it may take long to take them in");
    s.pass(6);
    assert!(s.is_closed(slow) && s.avoids(33));
    assert_eq!(s.dialled(31), ConnId(slow.0 + 1), "somebody else is asked");
}
