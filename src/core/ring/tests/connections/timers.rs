//! PING and PONG, what time does to a connection, and how connections end.

use super::*;

fn pings(lines: &[String]) -> usize {
    let pings = lines.iter().filter(|line| line.starts_with("PING\t"));
    pings.count()
}

#[test]
fn a_ping_is_answered_from_me_on_whatever_it_says() {
    let (mut s, left, right) = between();
    let shaking = s.met(31);
    let _ = left;
    s.forget();
    for conn in [shaking, right] {
        for line in ["PING", "PING\t1", "PING\tx\ty", "PING\t1\t2\t3"] {
            s.say(conn, line);
            let pong = format!("PONG\t{}\t0", s.clock());
            assert_eq!(s.all(conn), [pong], "{line}");
        }
    }
}

#[test]
fn a_pong_that_nobody_waits_for_is_ignored() {
    let (mut s, left, _) = between();
    for line in ["PONG", "PONG\t1\t2", "PONG\tx\ty"] {
        s.say(left, line);
    }
    assert!(!s.is_closed(left) && s.all(left).is_empty());
}

#[test]
fn neighbours_are_asked_after_15_seconds_of_silence() {
    let (mut s, left, right) = between();
    s.pass_ms(14_999);
    assert_eq!(pings(&s.all(left)) + pings(&s.all(right)), 0);
    s.pass_ms(1);
    assert_eq!(s.all(left), [format!("PING\t{}\t0", s.clock())]);
    assert_eq!(pings(&s.all(right)), 1);
    // What comes in puts it off.
    s.pass(10);
    s.say(left, "PING\t1\t1");
    s.forget();
    s.pass_ms(14_999);
    assert_eq!(pings(&s.all(left)), 0);
    assert_eq!(pings(&s.all(right)), 1);
}

#[test]
fn neighbours_are_asked_every_second_while_a_round_is_under_way() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100"));
    assert_eq!((pings(&s.all(left)), pings(&s.all(right))), (1, 1));
    s.pass(3);
    assert_eq!((pings(&s.all(left)), pings(&s.all(right))), (3, 3));
}

#[test]
fn one_ping_is_under_way_at_a_time() {
    let (mut s, left, right) = between();
    s.silent(left);
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100"));
    s.say(left, &from("HOST", 31, 2, "10.0.0.9\t99"));
    assert_eq!((pings(&s.all(left)), pings(&s.all(right))), (1, 2));
    s.say(left, "PONG");
    s.say(left, &from("HOST", 31, 3, "10.0.0.9\t98"));
    assert_eq!(pings(&s.all(left)), 1);
}

#[test]
fn a_ping_goes_with_every_sync_that_is_sent_or_forwarded() {
    let (mut s, left, right) = between();
    let hash = s.ring.backends().hosts_hash();
    let sync = naming("SYNC", 31) + &format!("\t7\t9\t{}\t{hash}", s.clock());
    s.say(left, &sync);
    let lines = s.all(right);
    assert_eq!(lines[0], sync);
    assert_eq!(pings(&lines), 1);
    assert_eq!(pings(&s.all(left)), 1);
}

#[test]
fn silence_of_30_seconds_after_a_ping_ends_a_connection() {
    let (mut s, left, _) = between();
    s.silent(left);
    s.pass_ms(44_999);
    assert!(!s.is_closed(left));
    s.pass_ms(1);
    assert!(s.is_closed(left));
}

#[test]
fn no_pong_for_60_seconds_ends_a_connection_that_talks() {
    let (mut s, left, _) = between();
    s.silent(left);
    s.pass(15);
    for _ in 0..59 {
        s.pass(1);
        s.say(left, "PING\t1\t1");
    }
    s.pass_ms(999);
    assert!(!s.is_closed(left));
    s.pass_ms(1);
    assert!(s.is_closed(left));
    assert!(s.all(left).contains(&"QUIT\tPong timeout".to_owned()));
}

#[test]
fn a_slow_pong_is_worth_a_line_in_the_log() {
    for (ms, slow) in [(5_000, 0), (5_001, 1)] {
        let (mut s, left, _) = between();
        s.silent(left);
        s.pass_ms(15_000 + ms);
        s.say(left, "PONG");
        let events = s.events.iter();
        let said = events.filter(|event| matches!(event, Event::SlowPong(..)));
        assert_eq!(said.count(), slow);
    }
}

#[test]
fn an_me_must_come_within_10_seconds_of_the_last_byte() {
    let (mut s, ..) = between();
    let conn = s.accept(31);
    s.pass_ms(9_999);
    s.say(conn, VERSION);
    s.pass_ms(9_999);
    assert!(!s.is_closed(conn));
    s.pass_ms(1);
    assert!(s.is_closed(conn));

    let mut s = Scripted::started(&Setup::default());
    let conn = s.reached(33);
    s.pass_ms(9_999);
    assert!(!s.is_closed(conn));
    s.pass_ms(1);
    assert!(s.is_closed(conn) && s.unreached(33));
    s.dialled(31);
}

#[test]
fn who_dialled_us_must_be_done_within_40_seconds_of_the_last_byte() {
    let (mut s, ..) = between();
    let conn = s.met(31);
    s.pass_ms(39_999);
    s.say(conn, "PING\t1\t1");
    s.pass_ms(39_999);
    assert!(!s.is_closed(conn));
    s.pass_ms(1);
    assert!(s.is_closed(conn));
    assert!(s.all(conn).contains(&"QUIT\tHandshake timeout".to_owned()));
}

#[test]
fn whom_we_dialled_must_be_done_within_30_seconds_of_the_last_byte() {
    let mut s = Scripted::started(&Setup::default());
    let conn = s.reached(33);
    s.introduce(conn, 33);
    s.pass_ms(29_999);
    s.say(conn, "PING\t1\t1");
    s.pass_ms(29_999);
    assert!(!s.is_closed(conn));
    s.pass_ms(1);
    assert!(s.is_closed(conn));
    assert!(s.all(conn).contains(&"QUIT\tHandshake timeout".to_owned()));
    s.dialled(31);
}

#[test]
fn users_that_are_still_being_written_are_progress() {
    let mut s = Scripted::started(&Setup::default());
    let left = s.joined(31);
    for hash in 1..=10_000 {
        let line = s.user(hash * 400_009, 1, 0);
        s.say(left, &line);
    }
    let conn = s.reached(33);
    let now = s.now();
    let me = s.me(33);
    let greeting = format!("{VERSION}\n{me}\n");
    // The socket takes nothing for a while.
    let greeting = Input::Received(conn, greeting.as_bytes());
    s.ring.handle(greeting, now, &mut s.users);
    let taken: usize = s
        .ring
        .unwritten()
        .map(|(_, bytes)| std::mem::take(bytes).len())
        .sum();
    assert!(
        (128 * 1024..400_000).contains(&taken),
        "{taken} bytes: not all users"
    );
    let now = s.now();
    s.ring
        .handle(Input::Written(conn, taken), now, &mut s.users);
    s.pass(20);
    let before = s.now();
    s.ring.handle(Input::Written(conn, 0), before, &mut s.users);
    s.pass(20);
    assert!(!s.is_closed(conn), "20 s since something went out");
    s.pass(60);
    assert!(s.is_closed(conn), "all are out");
}

#[test]
fn our_sync_is_sent_again_every_5_seconds_with_the_same_number() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100"));
    let field = |line: &str, n: usize| line.split('\t').nth(n).unwrap().to_owned();
    let first = s.own_sync(right).unwrap();
    for _ in 0..3 {
        s.pass_ms(4_999);
        assert_eq!(s.own_sync(right), None);
        s.pass_ms(1);
        let again = s.own_sync(right).unwrap();
        assert_eq!(field(&again, 3), field(&first, 3));
        assert_eq!(field(&again, 5), s.clock().to_string());
    }
    let last = naming("SYNC", 32) + &format!("\t{}\t9", field(&first, 3));
    s.say(left, &last);
    assert!(s.synced());
    s.pass(20);
    assert_eq!(s.own_sync(right), None);
}

#[test]
fn without_a_left_our_sync_is_not_sent() {
    let (mut s, left, right) = between();
    s.lost(left);
    s.forget();
    s.pass(20);
    assert_eq!(s.own_sync(right), None);
    assert!(!s.synced());
}

#[test]
fn without_a_right_one_is_looked_for() {
    let (mut s, _, right) = between();
    s.pass(60);
    s.lost(right);
    assert!(!s.synced() && s.left().is_some());
    s.refused(33);
    s.dialled(31);
}

#[test]
fn a_quit_says_why_to_those_that_know_it() {
    let reason = |version: &str| {
        let (mut s, ..) = between();
        let conn = s.accept(31);
        let me = s.me(31);
        s.batch(conn, &[version, &me]);
        s.say(conn, "NONSENSE\twith\tfields");
        assert!(s.is_closed(conn));
        s.all(conn)
            .into_iter()
            .find(|line| line.starts_with("QUIT"))
    };
    assert_eq!(
        reason(VERSION),
        Some("QUIT\tInvalid input: unknown command \"NONSENSE\"".to_owned())
    );
    assert!(reason("VERSION\tdirector\t1\t3").is_some());
    assert_eq!(reason("VERSION\tdirector\t1\t2"), None);
}

#[test]
fn a_quit_is_logged_with_spaces_for_tabs() {
    let (mut s, left, _) = between();
    s.say(left, "QUIT\tsome\treason");
    let said = Event::Quit(Some(d(31)), "some reason".to_owned());
    assert!(s.events.contains(&said));
}

#[test]
fn a_lost_neighbour_makes_the_ring_unsynced_until_another_is_there() {
    let (mut s, left, right) = between();
    s.pass(60);
    s.lost(left);
    assert!(!s.synced());
    let left = s.joined(31);
    s.round(left, right);
}

#[test]
fn who_leaves_says_so_to_all() {
    let (mut s, left, right) = between();
    s.input(Input::Leave);
    for conn in [left, right] {
        assert_eq!(s.all(conn), ["QUIT\tShutting down"]);
    }
    assert!(s.dials.is_empty());
}

/// A dialled director that says it is Homing, and is done; it answers no PING.
fn homing_right(s: &mut Scripted, conn: ConnId) {
    let me = s.me(33);
    s.batch(conn, &["VERSION\tdirector\t1\t9\thoming=1", &me, "DONE"]);
}

#[test]
fn a_homing_right_that_is_silent_is_dialled_once_more() {
    let mut s = Scripted::started(&Setup::default());
    let right = s.reached(33);
    homing_right(&mut s, right);
    assert!(s.right().is_some());
    // Not synced: PING after 1 s; the probe 4 s later.
    s.pass_ms(4_999);
    assert!(s.dials.is_empty());
    s.pass_ms(1);
    let again = s.reached(33);
    assert!(
        !s.is_closed(right) && s.right() == Some(d(33)),
        "not given up"
    );
    homing_right(&mut s, again);
    assert!(s.is_closed(right) && s.right() == Some(d(33)));
}

#[test]
fn a_right_that_speaks_before_the_probe_is_through_stays() {
    let mut s = Scripted::started(&Setup::default());
    let right = s.reached(33);
    homing_right(&mut s, right);
    s.pass(5);
    s.say(right, "PONG");
    let again = s.reached(33);
    assert!(s.is_closed(again) && !s.is_closed(right) && s.right() == Some(d(33)));
}

#[test]
fn one_that_takes_many_users_in_is_left_to_it() {
    let mut s = Scripted::started(&Setup::default());
    let slow = s.reached(33);
    let me = s.me(33);
    s.batch(slow, &["VERSION\tdirector\t1\t9\thoming=1", &me]);
    let conn = s.ring.conns.get_mut(slow).unwrap();
    conn.tally.added(1 << 20, 1 << 20);
    // Megabytes are under way; its kernel takes some now and then.
    for _ in 0..4 {
        s.pass(15);
        for unsent in [2 << 20, 1 << 20] {
            s.input(Input::Written(slow, unsent));
        }
    }
    assert!(s.dials.is_empty() && !s.is_closed(slow));
    // Twenty seconds without any are given for its answer to PING.
    s.pass_ms(19_999);
    assert!(s.dials.is_empty());
    s.pass_ms(1);
    s.reached(33);
    assert!(!s.is_closed(slow), "it may still be there");
}
