//! Who becomes left and right, and CONNECT. We are .33 of five: the best right is .34, the best left
//! is .32, and the walk is .34 .35 .31 .32.

use super::*;

/// With this left and right; the ring is synced.
fn with(left: u8, right: u8) -> (Scripted, ConnId, ConnId) {
    let mut s = Scripted::started(&five(33));
    for n in [34, 35, 31] {
        if n == right {
            break;
        }
        s.refused(n);
    }
    let right = s.answered(right);
    let left = s.joined(left);
    s.round(left, right);
    s.forget();
    (s, left, right)
}

fn quit(s: &mut Scripted, conn: ConnId) -> String {
    assert!(s.is_closed(conn));
    s.all(conn).pop().unwrap_or_default()
}

#[test]
fn an_me_of_one_that_sent_garbage_is_refused_for_a_minute() {
    let (mut s, ..) = with(31, 34);
    let bad = s.met(32);
    s.say(bad, "GARBAGE");
    s.forget();
    s.pass_ms(59_999);
    let again = s.met(32);
    assert!(s.is_closed(again));
    s.pass_ms(1);
    let later = s.met(32);
    assert!(!s.is_closed(later));
}

#[test]
fn without_a_left_an_me_makes_us_look_for_a_right() {
    let mut s = Scripted::started(&five(33));
    s.ring.members.note_program(d(34), false);
    for _ in 0..30 {
        while let Some((conn, _)) = s.dials.pop_front() {
            s.input(Input::DialFailed(conn));
        }
        s.pass(1);
    }
    assert!(s.synced() && s.dials.is_empty(), "alone");
    s.met(31);
    s.dialled(31);
}

#[test]
fn a_connection_that_is_about_to_be_closed_is_no_reason_not_to_dial() {
    let mut s = Scripted::started(&five(33));
    s.refused(34);
    let right = s.answered(35);
    s.pass(2);
    s.say(right, &naming("CONNECT", 31));
    assert!(!s.is_closed(right), "it is told to wait for a second");
    s.pass_ms(500);
    s.met(34);
    s.dialled(34);
}

#[test]
fn an_me_of_the_left_replaces_the_left_at_once() {
    let (mut s, left, _) = with(32, 34);
    s.met(32);
    assert_eq!(
        quit(&mut s, left),
        "QUIT\tReplacing with new incoming connection"
    );
    assert!(s.left().is_none() && !s.synced());
}

#[test]
fn an_me_of_a_better_left_sends_the_present_one_there() {
    let (mut s, left, _) = with(31, 34);
    let better = s.met(32);
    assert_eq!(s.told(left), [naming("CONNECT", 32)]);
    assert!(
        !s.is_closed(left) && s.left() == Some(d(31)),
        "nothing else"
    );
    s.say(better, "DONE");
    assert_eq!(s.left(), Some(d(31)), "it waits");
    // What the present left says counts until it goes.
    let user = s.user(5, 1, 0);
    s.say(left, &user);
    assert!(s.known(5).is_some());
    s.say(left, "QUIT\tCONNECT requested");
    assert_eq!(s.left(), Some(d(32)));
}

#[test]
fn an_me_of_a_worse_left_asks_the_present_one_whether_it_is_there() {
    let (mut s, left, _) = with(32, 34);
    s.silent(left);
    let (worse, other) = (s.met(31), s.met(35));
    let pings = s.all(left);
    assert_eq!(pings.len(), 1, "{pings:?}");
    assert!(pings[0].starts_with("PING\t"));
    s.say(worse, "DONE");
    assert_eq!(s.left(), Some(d(32)));
    s.forget();
    s.say(left, "PONG");
    assert_eq!(s.told(worse), [naming("CONNECT", 32)]);
    assert_eq!(s.told(other), [naming("CONNECT", 32)], "before its DONE");
    assert_eq!(s.told(left), Vec::<String>::new());
}

#[test]
fn a_left_that_does_not_answer_gives_way_to_the_best_that_waits() {
    let (mut s, left, _) = with(32, 34);
    s.silent(left);
    let worst = s.joined(35);
    let best = s.joined(31);
    for _ in 0..30 {
        s.say(worst, "PING\t1\t1");
        s.say(best, "PING\t1\t1");
        s.pass(1);
    }
    assert_eq!(quit(&mut s, left), "QUIT\tPing timeout");
    assert_eq!(s.left(), Some(d(31)));
    assert_eq!(s.told(worst).last(), Some(&naming("CONNECT", 31)));
}

#[test]
fn an_me_in_our_own_name_is_refused() {
    let (mut s, ..) = with(32, 34);
    let seq = s.next_seq();
    let conn = s.accept(33);
    let me = s.me(33);
    s.batch(conn, &[VERSION, &me, "DONE"]);
    assert!(s.is_closed(conn));
    assert_eq!(s.next_seq(), seq);
    assert_eq!(s.left(), Some(d(32)));
}

#[test]
fn without_a_left_who_is_done_is_left() {
    let mut s = Scripted::started(&five(33));
    s.joined(35);
    assert_eq!(s.left(), Some(d(35)));
}

#[test]
fn a_left_that_comes_again_before_it_was_left_replaces_itself() {
    let (mut s, left, _) = with(31, 34);
    let first = s.met(32);
    let second = s.met(32);
    assert!(s.is_closed(first), "one connection of a director waits");
    s.say(second, "DONE");
    s.lost(left);
    assert_eq!(s.left(), Some(d(32)));
}

#[test]
fn who_is_done_and_worse_is_sent_to_the_left() {
    let (mut s, left, _) = with(31, 34);
    let worse = s.met(35);
    s.forget();
    // The left has answered, and comes again before the other is done.
    assert!(!s.is_closed(left));
    let late = s.met(35);
    let lines = s.told(late);
    assert_eq!(lines.last(), Some(&naming("CONNECT", 31)));
    assert!(s.is_closed(worse));
}

#[test]
fn who_was_sent_away_is_not_listened_to_but_is_told_everything() {
    let (mut s, left, _) = with(31, 34);
    let worse = s.met(35);
    assert_eq!(s.told(worse).last(), Some(&naming("CONNECT", 31)));
    s.batch(worse, &["DONE", "USER\t5\t10.0.0.1", "NONSENSE"]);
    assert!(!s.is_closed(worse) && s.known(5).is_none());
    let user = s.user(6, 1, 0);
    s.say(left, &user);
    assert_eq!(s.told(worse), [user]);
    // Another one that is worse does not bring it a second CONNECT.
    s.met(34);
    assert_eq!(s.told(worse), Vec::<String>::new());
    s.pass_ms(9_999);
    assert!(!s.is_closed(worse));
    s.pass_ms(1);
    assert!(s.is_closed(worse));
    assert!(!s.avoids(35));
}

#[test]
fn one_that_waits_is_told_everything_and_gets_no_ping_until_the_left_is_gone() {
    let (mut s, left, _) = with(31, 34);
    let waiting = s.joined(32);
    s.forget();
    let user = s.user(6, 1, 0);
    s.say(left, &user);
    assert_eq!(s.all(waiting), [user]);
    let other = s.user(7, 1, 0);
    s.say(waiting, &other);
    assert!(s.known(7).is_some(), "it is listened to");
    s.pass_ms(3_999);
    assert_eq!(s.all(waiting), Vec::<String>::new());
    assert!(
        !s.is_closed(left),
        "it was sent CONNECT, and has 4 s to leave"
    );
    s.pass_ms(1);
    assert!(s.is_closed(left) && !s.is_closed(waiting));
    assert_eq!(s.left(), Some(d(32)));
}

#[test]
fn a_right_gives_way_to_a_strictly_better_one_only() {
    // While the dial to .34 goes on, .31 is dialled for CONNECT's sake and is there first.
    let mut s = Scripted::started(&five(33));
    let slow = s.reached(34);
    s.met(32);
    let other = {
        s.say(slow, VERSION);
        let left = s.joined(31);
        s.say(left, &naming("CONNECT", 35));
        s.answered(35)
    };
    assert_eq!(s.right(), Some(d(35)));
    s.introduce(slow, 34);
    assert!(s.is_closed(slow), "a second VERSION");
    assert!(!s.is_closed(other));
}

#[test]
fn of_two_that_were_dialled_the_better_one_stays() {
    for worse_first in [true, false] {
        let mut s = Scripted::started(&five(33));
        let left = s.joined(31);
        let best = s.reached(34);
        s.say(left, &naming("CONNECT", 35));
        let second = s.reached(35);
        let mut order = [(second, 35), (best, 34)];
        if !worse_first {
            order.reverse();
        }
        for (conn, n) in order {
            s.introduce(conn, n);
            s.say(conn, "DONE");
        }
        assert_eq!(s.right(), Some(d(34)));
        assert!(s.is_closed(second) && !s.is_closed(best));
        assert!(!s.avoids(35));
    }
}

#[test]
fn both_neighbours_begin_a_round_and_pings() {
    let mut s = Scripted::started(&five(33));
    let right = s.answered(34);
    assert_eq!(s.own_sync(right), None);
    let left = s.joined(32);
    let sync = s.own_sync(right).unwrap();
    assert!(!s.synced());
    s.say(left, &sync);
    // Another left, another round.
    s.joined(32);
    let second = s.own_sync(right).unwrap();
    assert_ne!(sync, second);
    assert!(!s.synced());
}

#[test]
fn a_connect_that_leads_to_nothing_better_ends_its_connection_after_a_second() {
    for on_left in [false, true] {
        for to in [35, 34] {
            let (mut s, left, right) = with(32, 34);
            let conn = if on_left { left } else { right };
            s.say(conn, &naming("CONNECT", to));
            s.pass_ms(999);
            assert!(!s.is_closed(conn));
            s.pass_ms(1);
            assert!(s.is_closed(conn), "{to}, {on_left}");
            // A right that went is dialled again.
            assert_eq!(s.dials.iter().any(|dial| dial.1 == 34), !on_left);
        }
    }
}

#[test]
fn a_connect_to_a_removed_director_is_not_followed() {
    let (mut s, _, right) = with(32, 35);
    s.order(Order::RemoveDirector(d(34))).unwrap();
    s.say(right, &naming("CONNECT", 34));
    assert!(s.dials.is_empty());
    s.pass(1);
    assert!(s.is_closed(right));
}

#[test]
fn a_connect_without_a_right_is_followed() {
    let mut s = Scripted::started(&five(33));
    s.pass(1);
    let left = s.joined(32);
    let slow = s.dialled(34);
    s.say(left, &naming("CONNECT", 31));
    s.dialled(31);
    assert!(!s.is_closed(slow) && !s.is_closed(left));
}

#[test]
fn a_connect_from_the_left_closes_the_right_at_once() {
    let (mut s, left, right) = with(32, 35);
    s.pass(2);
    s.say(left, &naming("CONNECT", 34));
    assert!(s.is_closed(right) && !s.is_closed(left));
    s.answered(34);
    assert_eq!(s.right(), Some(d(34)));
}

#[test]
fn a_connect_from_the_right_closes_it_after_what_came_with_it() {
    let (mut s, left, right) = with(32, 35);
    s.pass(2);
    let user = s.user(5, 1, 0);
    s.batch(right, &[&naming("CONNECT", 34), &user]);
    assert_eq!(s.told(left), [user]);
    s.pass_ms(0);
    assert!(s.is_closed(right));
    s.answered(34);
    assert_eq!((s.left(), s.right()), (Some(d(32)), Some(d(34))));
}

#[test]
fn a_connect_may_name_a_director_that_is_new() {
    let (mut s, left, _) = with(32, 35);
    s.pass(1);
    s.say(left, "CONNECT\t127.77.0.33\t17791");
    let new = DirectorId {
        ip: d(33).ip,
        port: 17_791,
    };
    assert!(s.ring.members().get(new).is_some());
    assert!(s.right().is_none());
    let (_, to) = s.dials.pop_front().unwrap();
    assert_eq!(to, 33);
}

#[test]
fn only_the_first_close_counts() {
    let (mut s, _, right) = with(32, 34);
    s.say(right, &naming("CONNECT", 35));
    s.pass_ms(600);
    s.say(right, &naming("CONNECT", 35));
    s.pass_ms(400);
    assert!(s.is_closed(right));
}

#[test]
fn a_connect_for_which_there_is_no_room_ends_its_connection_too() {
    let (mut s, left, _) = with(32, 34);
    for port in 1..=1100 {
        s.say(left, &format!("DIRECTOR\t127.77.0.40\t{port}"));
    }
    s.say(left, "CONNECT\t127.77.0.41\t1");
    s.pass(1);
    assert!(s.is_closed(left), "its sender reads no more");
}
