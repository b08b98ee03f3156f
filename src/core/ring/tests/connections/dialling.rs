//! Who is dialled, and who is left alone because it failed (members, dialling).

use super::*;

/// .33 was refused, and .31 is both neighbours.
fn without_33() -> (Scripted, ConnId, ConnId) {
    let mut s = Scripted::started(&Setup::default());
    s.refused(33);
    let right = s.answered(31);
    let left = s.joined(31);
    s.round(left, right);
    s.forget();
    (s, left, right)
}

#[test]
fn the_walk_is_dialled_in_its_order_until_somebody_answers() {
    let mut s = Scripted::started(&five(33));
    s.refused(34);
    s.refused(35);
    s.answered(31);
    assert_eq!(s.right(), Some(d(31)));
    assert!(s.dials.is_empty());
}

#[test]
fn the_removed_and_those_that_failed_are_passed_over() {
    let mut s = Scripted::started(&five(33));
    s.order(Order::RemoveDirector(d(35))).unwrap();
    s.refused(34);
    let right = s.reached(31);
    s.say(right, "GARBAGE");
    assert!(s.unreached(34) && s.garbage(31));
    s.answered(32);
}

#[test]
fn one_that_is_being_dialled_is_not_dialled_twice() {
    let mut s = Scripted::started(&Setup::default());
    let conn = s.dialled(33);
    s.met(31);
    assert!(s.dials.is_empty());
    s.input(Input::Connected(conn));
    s.introduce(conn, 33);
    s.say(conn, "DONE");
    assert_eq!(s.right(), Some(d(33)));
}

#[test]
fn who_refuses_or_does_not_answer_is_left_alone_for_a_minute() {
    let mut s = Scripted::started(&Setup::default());
    s.refused(33);
    assert!(s.unreached(33));
    let other = s.dialled(31);
    s.pass_ms(9_999);
    assert!(!s.unreached(31) && !s.is_closed(other));
    s.pass_ms(1);
    assert!(s.is_closed(other), "10 s without a TCP connection");
}

#[test]
fn a_minute_is_a_minute() {
    for (ms, again) in [(59_999, 35), (60_000, 34)] {
        for garbage in [false, true] {
            let mut s = Scripted::started(&five(33));
            if garbage {
                let conn = s.reached(34);
                s.say(conn, "GARBAGE");
            } else {
                s.refused(34);
            }
            let right = s.answered(35);
            s.pass_ms(ms);
            s.say(right, "QUIT\tShutting down");
            s.dialled(again);
        }
    }
}

#[test]
fn a_connection_that_is_lost_early_is_a_failure() {
    for (seconds, failure) in [(0, true), (39, true), (40, false), (100, false)] {
        let (mut s, left, _) = between();
        s.pass(seconds);
        s.lost(left);
        assert_eq!(s.unreached(31), failure, "after {seconds} s");
    }
    let mut s = Scripted::started(&Setup::default());
    let conn = s.reached(33);
    s.pass(5);
    s.lost(conn);
    assert!(s.unreached(33), "never established");
}

#[test]
fn a_handshake_that_stands_still_is_a_failure() {
    let (mut s, ..) = between();
    let conn = s.met(31);
    s.silent(conn);
    s.pass(40);
    assert!(s.is_closed(conn));
    assert!(s.unreached(31));
}

#[test]
fn a_neighbour_that_says_nothing_fails_unless_it_lived() {
    // PING goes out with the first SYNC; silence of 30 s, or 60 s with other lines but no PONG.
    for (lines, text, failure) in [(false, "Ping", true), (true, "Pong", false)] {
        let mut s = Scripted::started(&Setup::default());
        s.answered(33);
        let left = s.met(31);
        s.silent(left);
        s.say(left, "DONE");
        while !s.is_closed(left) {
            s.pass(1);
            if lines && !s.is_closed(left) {
                s.say(left, "PING\t1\t1");
            }
        }
        let said = s.all(left);
        assert_eq!(*said.last().unwrap(), format!("QUIT\t{text} timeout"));
        assert_eq!(s.unreached(31), failure, "{text}");
    }
}

#[test]
fn what_we_close_is_no_failure_but_for_garbage() {
    let (mut s, left, _) = between();
    s.say(left, "NONSENSE");
    assert!(s.is_closed(left) && s.garbage(31));

    let (mut s, left, _) = between();
    s.say(left, "QUIT\tShutting down");
    assert!(s.is_closed(left) && !s.avoids(31), "QUIT");

    let (mut s, left, _) = between();
    s.joined(31);
    assert!(s.is_closed(left) && !s.avoids(31), "replaced");

    let (mut s, _, right) = between();
    s.say(right, &naming("CONNECT", 31));
    s.pass(2);
    assert!(s.is_closed(right) && !s.avoids(33), "CONNECT refused");
}

#[test]
fn a_full_output_buffer_is_no_failure() {
    let mut setup = Setup::default();
    setup.limits.output_buffer = 300;
    let (mut s, left, _) = whole(&setup);
    let now = s.now();
    s.ring.handle(Input::Written(left, 290), now, &mut s.users);
    assert!(!s.is_closed(left));
    s.say(left, "PING\t1\t0");
    assert!(s.is_closed(left) && !s.avoids(31));
}

#[test]
fn a_handshake_that_is_through_clears_the_failure() {
    let (mut s, left, _) = whole(&five(33));
    // It does not answer, so that nobody is sent away.
    s.silent(left);
    let lost = s.met(31);
    s.lost(lost);
    assert!(s.unreached(31));
    let left = s.met(31);
    assert!(s.unreached(31), "there is a left, so ME does not clear it");
    s.say(left, "DONE");
    assert!(!s.unreached(31));
}

#[test]
fn an_me_clears_the_failure_while_there_is_no_left() {
    let (mut s, left, _) = between();
    s.lost(left);
    assert!(s.unreached(31));
    s.met(31);
    assert!(!s.unreached(31));
}

#[test]
fn a_connect_clears_the_failure_of_whom_it_names() {
    let (mut s, _, right) = without_33();
    assert!(s.unreached(33));
    s.say(right, &naming("CONNECT", 33));
    s.pass(1);
    assert!(!s.unreached(33));
    s.answered(33);
    assert_eq!(s.right(), Some(d(33)));
}

#[test]
fn a_director_line_clears_the_failure_only_after_the_handshake() {
    let (mut s, left, _) = without_33();
    let young = s.met(31);
    s.say(young, &naming("DIRECTOR", 33));
    assert!(s.unreached(33), "the handshake goes on");
    // The old left was replaced by the new connection.
    assert!(s.is_closed(left));
    s.say(young, "DONE");
    s.say(young, &naming("DIRECTOR", 33));
    assert!(!s.unreached(33));
}

#[test]
fn for_20_seconds_after_the_start_all_failures_are_forgotten_each_second() {
    let mut s = Scripted::started(&Setup::default());
    let first = s.reached(33);
    s.say(first, "GARBAGE");
    s.refused(31);
    for second in 1..=20 {
        assert!(!s.avoids(33) && !s.avoids(31), "forgiven after {second} s");
        s.pass(1);
        s.refused(33);
        s.refused(31);
        assert!(!s.synced());
    }
    s.pass(1);
    s.refused(33);
    s.refused(31);
    assert!(s.synced() && s.ring.standing().handshaked, "alone");
}

/// Alone since its grace is over.
fn alone() -> Scripted {
    let mut s = Scripted::started(&Setup::default());
    for _ in 0..30 {
        while let Some((conn, _)) = s.dials.pop_front() {
            s.input(Input::DialFailed(conn));
        }
        s.pass(1);
    }
    assert!(s.synced() && s.right().is_none());
    s.forget();
    s
}

#[test]
fn who_is_alone_tries_the_preferred_right_every_30_seconds() {
    let mut s = alone();
    s.ring.members.note_program(d(33), false);
    s.ring.timers.preferred = None;
    s.ring.arm_preferred();
    s.dials.clear();
    let mut times = Vec::new();
    for second in 0..70 {
        s.pass(1);
        if let Some((conn, to)) = s.dials.pop_front() {
            assert_eq!(to, 33);
            times.push(second);
            s.input(Input::DialFailed(conn));
        }
    }
    assert_eq!(times.len(), 2);
    assert_eq!(times[1] - times[0], 30);
    assert!(s.synced());
}

#[test]
fn a_later_loss_is_accepted_at_once_and_the_left_presumed_dead() {
    let mut s = Scripted::started(&Setup {
        directors: vec![32, 33],
        ..Setup::default()
    });
    let right = s.answered(33);
    let left = s.joined(33);
    s.round(left, right);
    s.pass(30);
    s.lost(right);
    assert!(s.synced() && s.ring.standing().alone, "no second grace");
    assert!(s.is_closed(left) && s.left().is_none());
    assert_eq!(s.ring.standing().min_version, 9);
}

#[test]
fn a_better_right_is_dialled_every_30_seconds_until_it_is_there() {
    let (mut s, left, right) = without_33();
    s.pass(29);
    assert!(s.dials.is_empty());
    s.pass(1);
    s.refused(33);
    assert_eq!(s.right(), Some(d(31)), "the present one stays meanwhile");
    s.pass(30);
    let better = s.answered(33);
    assert_eq!(s.right(), Some(d(33)));
    assert!(s.is_closed(right));
    s.round(left, better);
    s.pass(100);
    assert!(s.dials.is_empty(), "the preferred right is in its place");
}

#[test]
fn a_director_is_dialled_once_a_second_at_most() {
    let (mut s, _, right) = between();
    s.pass(1);
    s.say(right, "QUIT\tShutting down");
    let first = s.answered(33);
    s.say(first, "QUIT\tShutting down");
    assert!(s.dials.is_empty());
    s.pass(1);
    s.answered(33);
}

#[test]
fn who_has_a_right_does_not_go_alone() {
    let (mut s, left, right) = between();
    s.pass(60);
    s.say(right, "QUIT\tShutting down");
    let again = s.answered(33);
    // The next attempt is due in a second.
    s.say(again, "QUIT\tShutting down");
    s.say(left, &naming("CONNECT", 31));
    let right = s.answered(31);
    // Both fail as far as anybody knows, by what they did on other connections.
    s.silent(left);
    let bad = s.met(33);
    s.say(bad, "GARBAGE");
    let young = s.joined(31);
    s.lost(young);
    assert!(s.garbage(33) && s.unreached(31));
    s.pass(1);
    assert!(!s.is_closed(right));
    assert_eq!(s.right(), Some(d(31)));
}
