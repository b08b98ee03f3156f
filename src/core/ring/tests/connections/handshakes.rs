//! Who is accepted, and what a connection takes at which point of its handshake.

use super::*;

/// Lines that belong to no handshake, with whom they need: nobody.
const ORDINARY: [&str; 6] = [
    "PING\t1\t2",
    "PONG",
    "USER\t5\t10.0.0.1",
    "DIRECTOR\t127.77.0.31\t17790",
    "SYNC\t127.99.0.1\t17790\t1",
    "HOST\t127.77.0.31\t17790\t1\t10.0.0.1\t100\t\tU0\t",
];

#[test]
fn only_addresses_of_the_list_are_accepted() {
    let mut s = Scripted::started(&Setup::default());
    let stranger = s.accept(99);
    assert!(s.is_closed(stranger));
    assert_eq!(s.all(stranger), Vec::<String>::new(), "not a byte");
    let listed = s.accept(31);
    let lines = s.all(listed);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], "VERSION\tdirector\t1\t9\thoming=2\tjoining");
    assert_eq!(lines[1], s.me(32));
}

#[test]
fn the_address_of_a_removed_director_is_refused() {
    let (mut s, ..) = between();
    s.order(Order::RemoveDirector(d(31))).unwrap();
    let conn = s.accept(31);
    assert!(s.is_closed(conn) && s.all(conn).is_empty());
}

#[test]
fn before_version_nothing_else_is_taken() {
    for line in ["ME\t127.77.0.31\t17790", "PING\t1\t1", "DONE", ""] {
        let (mut s, ..) = between();
        let conn = s.accept(31);
        s.forget();
        s.say(conn, line);
        assert!(s.is_closed(conn), "{line}");
        assert_eq!(s.all(conn), Vec::<String>::new(), "no QUIT before VERSION");
        assert!(!s.avoids(31), "nobody knows who it is");
    }
    // Who was dialled is known.
    let mut s = Scripted::started(&Setup::default());
    let conn = s.reached(33);
    s.say(conn, "PING\t1\t1");
    assert!(s.garbage(33));
}

#[test]
fn between_version_and_me_nothing_else_is_taken() {
    for line in ["PING\t1\t1", "DONE", OPTIONS, VERSION] {
        let (mut s, ..) = between();
        let conn = s.accept(31);
        s.batch(conn, &[VERSION, line]);
        assert!(s.is_closed(conn), "{line}");
        assert!(said_quit(&s.all(conn)));
    }
}

#[test]
fn in_the_block_of_hosts_there_are_only_hosts() {
    for line in ORDINARY
        .into_iter()
        .chain([OPTIONS, "DONE", VERSION, "ME\t127.77.0.31\t17790"])
    {
        let (mut s, ..) = between();
        let conn = s.met(31);
        s.batch(conn, &["HOST-HAND-START\t1", "HOST\t10.0.0.1\t100"]);
        assert!(!s.is_closed(conn));
        // There a HOST line has no origin: this one names a host 127.77.0.31.
        let is_host = line.starts_with("HOST\t");
        s.say(conn, if is_host { "USER\t5\t10.0.0.1" } else { line });
        assert!(s.is_closed(conn) && s.garbage(31), "{line}");
    }
}

#[test]
fn between_me_and_done_everything_ordinary_is_taken_on_both_sides() {
    let mut s = Scripted::started(&Setup::default());
    let right = s.reached(33);
    s.introduce(right, 33);
    let left = s.met(31);
    for conn in [left, right] {
        for line in ORDINARY {
            s.say(conn, line);
            assert!(!s.is_closed(conn), "{line}");
        }
    }
    s.say(left, "HOST-HAND-START\t0");
    s.say(left, "HOST-HAND-END\t0");
    let user = format!("U\t9\t10.0.0.1\t{}", s.clock());
    s.batch(left, &[&user, OPTIONS, "DONE"]);
    s.batch(right, &[OPTIONS, "DONE"]);
    assert_eq!((s.left(), s.right()), (Some(d(31)), Some(d(33))));
    assert!(s.known(9).is_some());
}

#[test]
fn hosts_and_users_come_from_the_dialler_only() {
    for line in ["HOST-HAND-START\t0", "U\t9\t10.0.0.1\t1"] {
        let mut s = Scripted::started(&Setup::default());
        let right = s.reached(33);
        s.introduce(right, 33);
        s.say(right, line);
        assert!(s.is_closed(right) && s.garbage(33), "{line}");
    }
}

#[test]
fn after_done_handshake_lines_are_unknown_commands() {
    for line in [
        VERSION,
        "ME\t127.77.0.31\t17790",
        OPTIONS,
        "U\t9\t10.0.0.1\t1",
        "DONE",
        "HOST-HAND-START\t0",
        "HOST-HAND-END\t0",
    ] {
        let (mut s, left, _) = between();
        s.say(left, line);
        assert!(s.is_closed(left) && s.garbage(31), "{line}");
    }
}

#[test]
fn done_right_after_me_is_a_handshake() {
    let (mut s, left, _) = between();
    s.lost(left);
    let conn = s.met(31);
    s.forget();
    s.say(conn, "DONE");
    assert_eq!(s.read(conn), ["DONE"]);
    assert_eq!(s.left(), Some(d(31)));
}

#[test]
fn done_is_answered_and_the_others_hear_of_the_director() {
    let (mut s, left, right) = between();
    s.lost(left);
    s.forget();
    let conn = s.met(31);
    s.forget();
    s.say(conn, "DONE");
    assert_eq!(s.told(conn), ["DONE"]);
    assert_eq!(s.told(right), [naming("DIRECTOR", 31)]);
}

#[test]
fn what_everybody_is_told_also_goes_to_those_that_have_said_nothing() {
    let (mut s, left, right) = between();
    let silent = s.accept(31);
    s.forget();
    let user = s.user(5, 1, 0);
    s.say(left, &user);
    assert_eq!(s.told(right), std::slice::from_ref(&user));
    assert_eq!(s.told(silent), ["USER\t5\t10.0.0.1"], "of no version yet");
}

#[test]
fn a_version_is_checked() {
    let wrong = |line: &str| {
        let (mut s, ..) = between();
        let conn = s.accept(31);
        s.forget();
        s.say(conn, line);
        assert!(!s.avoids(31));
        s.is_closed(conn).then(|| s.all(conn))
    };
    assert_eq!(wrong("VERSION\tauth\t1\t9"), Some(vec![]), "no QUIT");
    assert!(wrong("VERSION\tdirector\t2\t9").is_some());
    assert_eq!(wrong("VERSION\tdirector\t1\t9\tmore\tand more"), None);
    assert_eq!(wrong("VERSION\tdirector\t1\t6"), None);
}

#[test]
fn a_version_before_tags_is_refused_where_there_are_tags() {
    for (vhosts, refused) in [(100, true), (0, false)] {
        let (mut s, ..) = between();
        let order = Order::SetBackend {
            ip: backend(9),
            tag: Some(b"east".to_vec()),
            vhosts: Some(vhosts),
        };
        s.order(order).unwrap();
        let conn = s.accept(31);
        s.say(conn, "VERSION\tdirector\t1\t6");
        assert_eq!(s.is_closed(conn), refused, "{vhosts} vhosts");
        assert!(!s.avoids(31));
    }
}

#[test]
fn a_version_without_options_gets_no_done() {
    let mut s = Scripted::started(&Setup::default());
    let right = s.reached(33);
    s.forget();
    let me = s.me(33);
    s.batch(right, &["VERSION\tdirector\t1\t4", &me]);
    let lines = s.read(right);
    assert_eq!(lines.last().unwrap(), "HOST-HAND-END\t0");
    assert!(lines.contains(&"HOST\t10.0.0.1\t100".to_owned()));
}

#[test]
fn options_need_their_word() {
    for (line, taken) in [
        ("OPTIONS", false),
        ("OPTIONS\tother", false),
        ("OPTIONS\tother\tconsistent-hashing\tmore", true),
    ] {
        let (mut s, ..) = between();
        let conn = s.met(31);
        s.say(conn, line);
        assert_eq!(!s.is_closed(conn), taken, "{line}");
        assert!(!s.avoids(31), "no failure");
    }
}

#[test]
fn an_me_must_be_right() {
    let me = |line: &str| {
        let (mut s, ..) = between();
        let conn = s.accept(31);
        s.batch(conn, &[VERSION, line]);
        assert!(!s.avoids(31), "who it is was not said");
        s.is_closed(conn)
    };
    assert!(me("ME\t127.77.0.31\t0"), "port 0");
    assert!(me("ME\tnowhere\t17790"));
    assert!(me("ME\t127.77.0.31\t17790\tnow"));
    assert!(me("ME\t127.77.0.33\t17790"), "not its address");
    assert!(me("ME\t127.77.0.31\t1"), "not in the list");
    assert!(!me("ME\t127.77.0.31\t17790"), "without a time");
}

#[test]
fn a_clock_that_differs_is_worth_a_warning() {
    for (apart, warned) in [(0, false), (1, false), (2, true)] {
        let (mut s, ..) = between();
        let conn = s.accept(31);
        s.forget();
        let me = format!("ME\t127.77.0.31\t17790\t{}", s.clock() - apart);
        s.batch(conn, &[VERSION, &me]);
        let clocks = s.events.iter().filter(|it| matches!(it, Event::Clock(..)));
        assert_eq!(clocks.count() == 1, warned);
        assert!(!s.is_closed(conn));
    }
}

#[test]
fn a_second_me_is_garbage() {
    let (mut s, ..) = between();
    let conn = s.met(31);
    let me = s.me(31);
    s.say(conn, &me);
    assert!(s.is_closed(conn) && s.garbage(31));
}

#[test]
fn lines_have_1023_bytes_at_most_and_one_at_least() {
    let filler = |length: usize| format!("QUIT\t{}", "x".repeat(length - 5));
    for (line, taken) in [
        (filler(1023), true),
        (filler(1024), false),
        (String::new(), false),
    ] {
        let (mut s, left, _) = between();
        s.say(left, &line);
        assert!(s.is_closed(left));
        assert_eq!(!s.garbage(31), taken);
    }
}

#[test]
fn users_are_written_in_slices_and_end_with_done() {
    let mut s = Scripted::started(&Setup::default());
    let left = s.joined(31);
    for hash in 1..=20_000 {
        let line = s.user(hash * 200_003, 1, 0);
        s.say(left, &line);
    }
    let right = s.reached(33);
    s.forget();
    s.say(right, VERSION);
    let lines = s.read(right);
    let users = lines.iter().filter(|line| line.starts_with("U\t"));
    assert_eq!(users.count(), 20_000);
    assert_eq!(lines[lines.len() - 2..], [OPTIONS, "DONE"]);
}

#[test]
fn a_block_that_crosses_a_change_is_answered_with_what_came_of_it() {
    let (mut s, left, right) = between();
    s.say(left, &from("HOST", 31, 1, "10.0.0.1\t70\t\tU0\t"));
    let third = s.met(31);
    s.forget();
    let seq = s.next_seq();
    s.batch(
        third,
        &[
            "HOST-HAND-START\t1",
            "HOST\t10.0.0.1\t90\t\tU0\t",
            "HOST-HAND-END\t1",
        ],
    );
    let ours = from("HOST", 32, seq, "10.0.0.1\t70\t\tU0\t");
    assert_eq!(
        s.told(third),
        std::slice::from_ref(&ours),
        "its sender must hear it too"
    );
    assert_eq!(s.told(right), [ours]);
}

#[test]
fn what_a_block_changes_is_told_in_our_name() {
    let (mut s, _, right) = between();
    let third = s.met(31);
    s.forget();
    let seq = s.next_seq();
    s.batch(
        third,
        &[
            "HOST-HAND-START\t1",
            "HOST\t10.0.0.1\t90",
            "HOST-HAND-END\t1",
        ],
    );
    let ours = from("HOST", 32, seq, "10.0.0.1\t90\t\tU0\t");
    assert_eq!(s.told(third), Vec::<String>::new());
    assert_eq!(s.told(right), [ours]);
}
