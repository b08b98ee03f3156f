//! What went wrong in Dovecot's rings over the years, and does not here: those lessons of
//! docs/protocol/ring.md, lessons; the others are named in that table.

use super::scripted::*;
use super::*;
use crate::core::moves::State;

const NONE: Vec<String> = Vec::new();

fn moved(seq: u32, hash: u32, host: u8) -> String {
    from("USER-MOVE", 31, seq, &format!("{hash}\t10.0.0.{host}"))
}

#[test]
fn expired_users_are_neither_handed_over_nor_taken() {
    let mut s = Scripted::started(&Setup::default());
    let left = s.met(31);
    let now = s.clock();
    s.batch(
        left,
        &[
            &format!("U\t5\t10.0.0.1\t{}", now - 60),
            &format!("U\t6\t10.0.0.1\t{}", now - 50),
            &format!("U\t7\t10.0.0.1\t{now}"),
        ],
    );
    assert!(s.known(5).is_none() && s.known(6).is_some());
    s.pass(9);
    s.say(left, "PING\t1\t1");
    let right = s.reached(33);
    s.pass(1);
    s.forget();
    s.say(right, VERSION);
    let mut lines = s.read(right);
    lines.retain(|line| line.starts_with("U\t"));
    assert_eq!(lines, [format!("U\t7\t10.0.0.1\t{now}")]);
}

#[test]
fn a_director_that_restarts_takes_the_hosts_of_the_ring() {
    let mut s = Scripted::started(&Setup::default());
    let left = s.met(31);
    let right = s.reached(33);
    s.introduce(right, 33);
    s.forget();
    s.batch(
        left,
        &[
            "HOST-HAND-START\t1",
            "HOST\t10.0.0.2\t30\t\tD77\t",
            "HOST\t10.0.0.9\t100\teast\tU0\tname.example",
            "HOST-HAND-END\t1",
        ],
    );
    let list: Vec<(IpAddr, u32, bool)> = s
        .ring
        .backends()
        .iter()
        .map(|it| (it.ip, it.vhosts, it.down))
        .collect();
    assert_eq!(list, [(backend(2), 30, true), (backend(9), 100, false)]);
    // That its own hosts are gone is told to nobody.
    let told = s.told(right);
    assert!(
        told.iter().all(|line| line.starts_with("HOST\t")),
        "{told:?}"
    );
}

/// An order that came over the right before the ring's hosts did went away with our own; its copy from
/// the left is carried out.
#[test]
fn an_order_that_is_gone_with_our_hosts_is_followed_when_it_comes_again() {
    let mut s = Scripted::started(&Setup::default());
    let left = s.met(31);
    let right = s.reached(33);
    s.introduce(right, 33);
    let order = from("USER-MOVE", 33, 9, "77\t10.0.0.2");
    s.say(right, &order);
    assert_eq!(s.known(77).map(|it| it.0), Some(backend(2)));
    let user = s.user(77, 1, 0).replace("USER", "U");
    let hosts = ["HOST\t10.0.0.1\t100", "HOST\t10.0.0.2\t100"];
    s.batch(
        left,
        &[
            "HOST-HAND-START\t1",
            hosts[0],
            hosts[1],
            "HOST-HAND-END\t1",
            &user,
        ],
    );
    assert_eq!(s.known(77).map(|it| it.0), Some(backend(1)));
    s.say(left, &order);
    assert_eq!(s.known(77).map(|it| it.0), Some(backend(2)));
}

/// Two directors join side by side, and the right one has heard all that we knew before we were told of
/// the users ourselves. It is in a complete ring when its SYNC is home, which comes from us.
#[test]
fn who_joins_to_our_right_is_told_of_the_users_that_we_are_told_of_later() {
    let hosts = [
        "HOST-HAND-START\t1",
        "HOST\t10.0.0.1\t100",
        "HOST-HAND-END\t1",
    ];
    for (joining, told) in [("\tjoining", 1), ("", 0)] {
        let mut s = Scripted::started(&Setup::default());
        let right = s.reached(33);
        let (version, me) = (format!("{VERSION}\thoming=2{joining}"), s.me(33));
        s.batch(right, &[&version, &me, "DONE"]);
        assert!(s.all(right).contains(&"DONE".to_owned()));
        let left = s.met(31);
        s.batch(left, &hosts);
        let user = s.user(77, 1, 0).replace("USER", "U");
        s.batch(left, &[&user, OPTIONS, "DONE"]);
        let sync = naming("SYNC", 33);
        let hash = s.ring.backends().hosts_hash();
        let time = s.clock();
        s.say(left, &format!("{sync}\t7\t9\t{time}\t{hash}"));
        let lines = s.all(right);
        let at = |text: &str| lines.iter().position(|line| line.starts_with(text));
        let users = lines.iter().filter(|line| line.starts_with("USERS\t"));
        assert_eq!(users.count(), told, "{lines:?}");
        assert!(
            at("USERS\t") < at(&sync) && at(&sync).is_some(),
            "{lines:?}"
        );
        assert!(!lines.contains(&"DONE".to_owned()), "that was said");
    }
}

#[test]
fn between_slices_of_users_others_are_listened_to() {
    let mut s = Scripted::started(&Setup::default());
    let left = s.joined(31);
    for hash in 1..=10_000 {
        let line = s.user(hash * 400_009, 1, 0);
        s.say(left, &line);
    }
    let right = s.reached(33);
    let (now, me) = (s.now(), s.me(33));
    let greeting = format!("{VERSION}\n{me}\n");
    let input = Input::Received(right, greeting.as_bytes());
    s.ring.handle(input, now, &mut s.users);
    let slice: usize = s.ring.unwritten().map(|(_, bytes)| bytes.len()).sum();
    assert!(slice < 200_000, "{slice} bytes of 350000");
    let line = format!("USER\t77\t10.0.0.1\t{}\n", now.wall.0);
    let input = Input::Received(right, line.as_bytes());
    s.ring.handle(input, now, &mut s.users);
    assert!(s.known(77).is_some());
}

#[test]
fn a_director_that_restarts_counts_from_the_beginning_again() {
    let (mut s, left, _) = between();
    s.say(left, &from("USER-KICK", 31, 1000, "a"));
    s.say(left, &from("USER-KICK", 31, 1, "b"));
    assert_eq!(s.kicks.len(), 1);
    let left = s.joined(31);
    s.say(left, &from("USER-KICK", 31, 1, "b"));
    assert_eq!(s.kicks.len(), 2, "its ME");
    s.say(left, &from("USER-KICK", 33, 1000, "c"));
    let right = s.ring.right.unwrap();
    s.pass(60);
    s.lost(right);
    s.say(left, &from("USER-KICK", 33, 1, "d"));
    assert_eq!(s.kicks.len(), 4, "it is dialled");
}

#[test]
fn within_a_batch_the_ring_is_not_synced_either() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.8\t100"));
    let old = s.own_sync(right).unwrap();
    s.batch(left, &[&from("HOST", 31, 2, "10.0.0.9\t100"), &old]);
    assert!(!s.synced(), "the SYNC of before says nothing");
}

#[test]
fn a_confirmation_that_never_comes_is_given_up_after_30_seconds() {
    let (mut s, left, right) = between();
    // A host that the hash ring would not choose.
    let hash = 1_669_653_170;
    let near = s.user(hash, 3, 56);
    s.say(left, &near);
    assert_eq!(waits(s.login(hash)), Some(DelayReason::Weak));
    s.forget();
    s.pass_ms(29_999);
    assert_eq!(s.wakes, []);
    s.pass_ms(1);
    assert_eq!(s.wakes, [key(hash)]);
    assert!(!s.is_closed(right));
    // It is over now, and the login places it anew.
    assert!(matches!(s.login(hash), Decision::Go(_)));
}

#[test]
fn handed_users_bring_later_times_and_keep_later_ones() {
    let (mut s, left, _) = between();
    for (hash, ago) in [(5, 30), (6, 10)] {
        let line = s.user(hash, 1, ago);
        s.say(left, &line);
    }
    let conn = s.met(31);
    let at = s.clock() - 20;
    let lines = [5, 6].map(|hash| format!("U\t{hash}\t10.0.0.1\t{at}"));
    s.batch(conn, &[&lines[0], &lines[1]]);
    assert_eq!(s.known(5).map(|it| it.1), Some(20));
    assert_eq!(s.known(6).map(|it| it.1), Some(10));
}

#[test]
fn a_late_user_line_does_not_undo_a_move() {
    let (mut s, left, _) = between();
    let old = s.user(500, 1, 10);
    s.say(left, &old);
    s.say(left, &moved(1, 500, 2));
    s.pass(1);
    let late = s.user(500, 1, 0);
    s.say(left, &late);
    assert_eq!(s.known(500).map(|it| it.0), Some(backend(2)));
    assert!(
        !s.kicks.iter().any(|kick| matches!(kick, Kick::Hash(..))),
        "no conflict"
    );
}

#[test]
fn the_hosts_hash_does_not_depend_on_the_order_in_which_hosts_came() {
    let hash = |order: [u8; 3]| {
        let (mut s, left, _) = between();
        for (seq, host) in order.into_iter().enumerate() {
            let line = format!("10.0.0.{host}\t100");
            s.say(left, &from("HOST", 31, seq as u32 + 1, &line));
        }
        s.ring.backends().hosts_hash()
    };
    assert_eq!(hash([9, 10, 100]), hash([100, 9, 10]));
}

#[test]
fn another_tag_is_another_hosts_hash() {
    let (mut s, left, right) = between();
    let before = s.ring.backends().hosts_hash();
    s.say(left, &from("HOST", 31, 1, "10.0.0.1\t100\teast\tU0\t"));
    assert_ne!(s.ring.backends().hosts_hash(), before);
    s.forget();
    let old = naming("SYNC", 31) + &format!("\t7\t9\t{}\t{before}", s.clock());
    s.say(left, &old);
    assert_eq!(s.read(right), NONE);
}

#[test]
fn who_is_alone_may_change_a_host_twice() {
    let mut s = Scripted::started(&Setup {
        directors: vec![32],
        ..Setup::default()
    });
    for vhosts in [10, 20, 30] {
        let order = Order::SetBackend {
            ip: backend(1),
            tag: None,
            vhosts: Some(vhosts),
        };
        assert_eq!(s.order(order), Ok(()));
        assert!(s.synced());
    }
}

#[test]
fn a_host_whose_change_is_on_its_way_is_not_changed_again() {
    let (mut s, left, right) = between();
    s.order(Order::Down(backend(1))).unwrap();
    let again = s.order(Order::Up(backend(1)));
    assert_eq!(again, Err(OrderError::Updating(backend(1))));
    s.round(left, right);
    s.order(Order::Up(backend(1))).unwrap();
}

#[test]
fn an_empty_host_name_is_none() {
    let (mut s, left, _) = between();
    s.batch(
        left,
        &[
            &from("HOST", 31, 1, "10.0.0.8\t100\t\tU0\t"),
            &from("HOST", 31, 2, "10.0.0.9\t100\t\tU0\tname.example"),
        ],
    );
    let name = |n| s.ring.backends().find(backend(n)).unwrap().name.clone();
    assert_eq!(name(8), None);
    assert_eq!(name(9).as_deref(), Some("name.example"));
}

#[test]
fn two_confirmations_of_one_user_both_go_on() {
    let (mut s, left, right) = between();
    let first = from("USER-WEAK", 31, 1, "500\t10.0.0.1");
    let second = from("USER-WEAK", 33, 1, "500\t10.0.0.1");
    s.say(left, &first);
    assert_eq!(s.told(right), [first]);
    s.say(right, &second);
    assert_eq!(s.told(left), [second], "though the user is weak already");
}

#[test]
fn the_answer_to_a_kick_belongs_to_its_move() {
    let (mut s, left, right) = between();
    let old = s.user(500, 1, 0);
    s.say(left, &old);
    s.say(left, &moved(1, 500, 2));
    assert_eq!(s.kicks, [Kick::Moved(key(500))]);
    s.pass(30);
    assert_eq!(s.move_state(500), None);
    assert_eq!(s.aborted, 1, "nobody is to answer it any more");
    s.forget();
    s.input(Input::Kicked(key(500)));
    assert_eq!(s.move_state(500), None);
    assert_eq!(s.told(right), NONE);
}

#[test]
fn an_older_change_of_state_does_not_win_over_a_newer_one() {
    let (mut s, left, right) = between();
    let now = s.clock();
    let down = format!("10.0.0.1\t100\t\tD{now}\t");
    s.say(left, &from("HOST", 31, 1, &down));
    s.forget();
    let up = format!("10.0.0.1\t100\t\tU{}\t", now - 100);
    s.say(right, &from("HOST", 33, 1, &up));
    assert!(s.ring.backends().find(backend(1)).unwrap().down);
    assert!(s.told(right)[0].ends_with(&down), "and its sender hears so");
}

#[test]
fn the_time_of_a_change_never_goes_back() {
    let (mut s, left, right) = between();
    let now = s.clock();
    let line = |seq, state: char, time| {
        from(
            "HOST",
            31,
            seq,
            &format!("10.0.0.1\t100\t\t{state}{time}\t"),
        )
    };
    s.say(left, &line(1, 'D', now));
    s.round(left, right);
    s.say(left, &line(2, 'U', now - 500));
    let host = s.ring.backends().find(backend(1)).unwrap();
    assert!(!host.down);
    assert_eq!(host.last_updown_change, Wall(now));
    assert_eq!(s.told(right), [line(2, 'U', now)]);
}

#[test]
fn a_user_that_is_moved_again_before_the_first_move_has_ended_does_not_hang() {
    let (mut s, left, right) = between();
    s.say(left, &moved(1, 500, 2));
    s.say(left, "USER-KILLED\t500");
    s.say(left, &from("USER-KILLED-EVERYWHERE", 31, 2, "500"));
    assert_eq!(s.move_state(500), Some(State::Delay));
    s.forget();
    // Another director has begun anew, and waits for us.
    let seq = s.next_seq();
    s.say(left, "USER-KILLED\t500");
    let ours = from("USER-KILLED-EVERYWHERE", 32, seq, "500");
    assert_eq!(
        (s.told(left), s.told(right)),
        (vec![ours.clone()], vec![ours])
    );
}

/// With a flush script, and a user that lives at 10.0.0.1.
fn with_script() -> (Scripted, ConnId, ConnId) {
    let mut setup = Setup::default();
    setup.limits.flush_script = true;
    let (mut s, left, right) = whole(&setup);
    let user = s.user(500, 1, 0);
    s.say(left, &user);
    s.forget();
    (s, left, right)
}

#[test]
fn only_who_began_a_move_runs_the_flush_script() {
    let (mut s, left, _) = with_script();
    s.say(left, &moved(1, 500, 2));
    s.input(Input::Kicked(key(500)));
    s.say(left, "USER-KILLED\t500");
    s.say(left, &from("USER-KILLED-EVERYWHERE", 31, 2, "500"));
    assert_eq!(s.move_state(500), Some(State::Delay));
    assert_eq!(s.flushes, []);

    let (mut s, left, _) = with_script();
    s.order(Order::Move(UserHash(500), backend(2))).unwrap();
    s.input(Input::Kicked(key(500)));
    s.say(left, "USER-KILLED\t500");
    assert_eq!(s.flushes.len(), 1);
    assert_eq!(
        (s.flushes[0].old, s.flushes[0].new),
        (backend(1), backend(2))
    );
}

#[test]
fn a_script_that_takes_longer_than_30_seconds_is_not_waited_for() {
    let (mut s, left, _) = with_script();
    s.order(Order::Move(UserHash(500), backend(2))).unwrap();
    s.input(Input::Kicked(key(500)));
    s.pass(10);
    s.say(left, "USER-KILLED\t500");
    assert_eq!(s.move_state(500), Some(State::Flushing));
    s.pass_ms(19_999);
    assert_eq!(s.move_state(500), Some(State::Flushing));
    s.pass_ms(1);
    assert_eq!((s.move_state(500), s.aborted), (None, 1));
    s.input(Input::Flushed(key(500), FlushResult::Succeeded));
    assert!(matches!(s.login(500), Decision::Go(_)));
}

#[test]
fn user_move_is_out_before_user_killed() {
    let (mut s, left, right) = between();
    // Nothing is to be ended here, so that both are said at once.
    s.order(Order::Move(UserHash(600), backend(2))).unwrap();
    let words: Vec<String> = s
        .told(right)
        .iter()
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect();
    assert_eq!(words, ["USER-MOVE", "USER-KILLED"]);
    assert_eq!(s.told(left).len(), 1);
}

#[test]
fn a_user_that_is_there_already_takes_part_in_its_move() {
    let (mut s, left, right) = between();
    let user = s.user(500, 2, 0);
    s.say(left, &user);
    s.forget();
    let line = moved(1, 500, 2);
    s.say(left, &line);
    assert_eq!(s.kicks, [], "there is nothing to end");
    assert_eq!(s.told(right), [line]);
    s.say(left, "USER-KILLED\t500");
    assert_eq!(s.told(right), ["USER-KILLED\t500"]);
}

#[test]
fn one_hash_under_two_tags_is_two_users() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.9\t100\teast\tU0\t"));
    s.forget();
    let (plain, tagged) = (s.user(500, 1, 0), s.user(500, 9, 0));
    s.batch(left, &[&plain, &tagged]);
    assert_eq!(s.told(right), [plain, tagged], "no conflict");
    assert_eq!(s.kicks, []);
    assert_eq!(s.known(500).map(|it| it.0), Some(backend(1)));
}

#[test]
fn a_right_that_does_not_read_is_closed_and_dialled_again() {
    let (mut s, left, right) = between();
    s.pass(60);
    let now = s.now();
    let full = Input::Written(right, 11 << 20);
    s.ring.handle(full, now, &mut s.users);
    s.say(left, "PING\t1\t1");
    assert!(s.is_closed(right) && s.is_closed(right) && !s.avoids(33));
    s.dialled(33);
}

#[test]
fn a_host_that_gets_another_tag_loses_its_users() {
    let (mut s, left, right) = between();
    let user = s.user(500, 1, 0);
    s.say(left, &user);
    s.say(left, &moved(1, 500, 1));
    s.forget();
    let line = from("HOST", 31, 2, "10.0.0.1\t100\teast\tU0\t");
    s.say(left, &line);
    assert_eq!(s.told(right), [line]);
    assert!(s.known(500).is_none());
    assert_eq!(s.move_state(500), None, "and its moves");
    // The same again is no change, however often it comes.
    for seq in 3..6 {
        s.say(left, &from("HOST", 31, seq, "10.0.0.1\t100\teast\tU0\t"));
    }
    assert_eq!(s.told(right), NONE);
}
