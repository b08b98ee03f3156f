//! Every kind of row of DIRECTOR-LIST (docs/protocol/admin.md, rows).

use super::scripted::*;
use super::*;
use crate::wire::admin::{ConnKind, ConnStatus, DirectorRow, RingStatus, Traffic};

/// What a connection has seen that is new.
const NEW: Traffic = Traffic {
    status: ConnStatus::Receiving(0),
    ping_ms: 0,
    bytes_in: 0,
    bytes_out: 0,
    buffered: 0,
    peak: 0,
    last_read: 0,
    last_write: 0,
};

fn rows(s: &Scripted) -> Report {
    s.ring.report(s.now())
}

fn ourselves(ring: RingStatus, sync_ms: u64) -> DirectorRow {
    DirectorRow::Ourselves {
        director: d(32),
        last_failed: 0,
        ring,
        sync_ms,
    }
}

fn unconnected(n: u8, removed: bool, last_failed: u64) -> DirectorRow {
    DirectorRow::Unconnected {
        director: d(n),
        removed,
        last_failed,
    }
}

/// The row of a connection, wherever it is.
fn to(s: &Scripted, n: u8) -> (ConnKind, u64, Traffic) {
    let found = rows(s).into_iter().find_map(|row| match row {
        DirectorRow::Connection {
            director,
            kind,
            last_failed,
            traffic,
        } if director == d(n) => Some((kind, last_failed, traffic)),
        _ => None,
    });
    found.expect("a connection")
}

fn stranger(s: &Scripted) -> Traffic {
    match rows(s)[0] {
        DirectorRow::Stranger(traffic) => traffic,
        row => panic!("{row:?}"),
    }
}

fn size(lines: &[String]) -> u64 {
    lines.iter().map(|line| line.len() as u64 + 1).sum()
}

#[test]
fn without_others_there_is_one_row() {
    let s = Scripted::started(&Setup {
        directors: vec![32],
        ..Setup::default()
    });
    assert_eq!(rows(&s), [ourselves(RingStatus::Synced, 0)]);
}

#[test]
fn who_connects_is_a_stranger_and_then_hands_over_its_users() {
    let mut s = Scripted::started(&Setup::default());
    s.pass(3);
    let conn = s.accept(31);
    let said = size(&s.all(conn));
    let new = Traffic {
        bytes_out: said,
        peak: said,
        last_write: s.clock(),
        ..NEW
    };
    assert_eq!(stranger(&s), new);
    assert_eq!(rows(&s).len(), 4, "and all directors");
    s.pass(2);
    let me = s.me(31);
    s.batch(conn, &[VERSION, &me]);
    let read = size(&[VERSION.to_owned(), me]);
    let met = Traffic {
        bytes_in: read,
        last_read: s.clock(),
        ..new
    };
    assert_eq!(to(&s, 31), (ConnKind::In, 0, met));
    let now = s.clock();
    let users: Vec<String> = [5, 6, 7]
        .iter()
        .map(|hash| format!("U\t{hash}\t10.0.0.1\t{now}"))
        .collect();
    let lines: Vec<&str> = users.iter().map(String::as_str).collect();
    s.batch(conn, &lines);
    let (_, _, handing) = to(&s, 31);
    assert_eq!(handing.status, ConnStatus::Receiving(3));
    assert_eq!(handing.bytes_in, read + size(&users));
    assert!(matches!(
        rows(&s)[1],
        DirectorRow::Ourselves {
            ring: RingStatus::Handshaking,
            ..
        }
    ));
}

#[test]
fn a_director_that_is_dialled_is_sent_our_users() {
    let (mut s, left, right) = between();
    s.pass(60);
    for hash in 1..=5 {
        s.login(hash);
    }
    s.lost(right);
    let dialled = to(&s, 33);
    let new = Traffic {
        status: ConnStatus::Sending(0),
        ..NEW
    };
    assert_eq!(dialled, (ConnKind::Out, 0, new));
    s.pass(1);
    let right = s.reached(33);
    let said = size(&s.all(right));
    let (kind, _, sent) = to(&s, 33);
    assert_eq!((kind, sent.bytes_out), (ConnKind::Out, said));
    s.introduce(right, 33);
    let said = said + size(&s.all(right));
    let (_, _, sent) = to(&s, 33);
    assert_eq!(sent.status, ConnStatus::Sending(5));
    assert_eq!(
        (sent.bytes_out, sent.last_write, sent.last_read),
        (said, s.clock(), s.clock())
    );
    s.say(right, "DONE");
    let (kind, _, done) = to(&s, 33);
    assert_eq!((kind, done.status), (ConnKind::Right, ConnStatus::Syncing));
    s.round(left, right);
    let (kind, _, done) = to(&s, 33);
    assert_eq!((kind, done.status), (ConnKind::Right, ConnStatus::Synced));
}

#[test]
fn users_in_dense_lines_are_counted_one_by_one() {
    let mut world = World::new(2, 3);
    world.start(0);
    for hash in 1..=40 {
        world.login(0, hash * 50_000_017);
    }
    world.pass(25);
    for hash in 1..=40 {
        world.login(0, hash * 50_000_017);
    }
    world.held_back = Some((1, &["DONE"]));
    world.start(1);
    world.pass(3);
    assert!(world.lines.iter().any(|line| line.2.starts_with("UU\t")));
    let status = |node: usize| {
        let rows = world.nodes[node].ring.report(world.now());
        let status = rows.into_iter().filter_map(|row| match row {
            DirectorRow::Connection { traffic, .. } => Some(traffic.status),
            _ => None,
        });
        status.collect::<Vec<ConnStatus>>()
    };
    assert!(status(0).contains(&ConnStatus::Sending(40)));
    assert!(status(1).contains(&ConnStatus::Receiving(40)));
}

#[test]
fn a_whole_ring_and_a_change_that_is_on_its_way() {
    let (mut s, left, right) = between();
    let kinds = |s: &Scripted| {
        let kind = |row: &DirectorRow| match row {
            DirectorRow::Connection { kind, traffic, .. } => Some((*kind, traffic.status)),
            _ => None,
        };
        rows(s).iter().map(kind).collect::<Vec<_>>()
    };
    let both = |status| {
        [
            Some((ConnKind::Left, status)),
            None,
            Some((ConnKind::Right, status)),
        ]
    };
    assert_eq!(kinds(&s), both(ConnStatus::Synced));
    assert_eq!(rows(&s)[1], ourselves(RingStatus::Synced, 0));
    s.pass(1);
    s.order(Order::Down(backend(1))).unwrap();
    s.pass_ms(5_250);
    assert_eq!(kinds(&s), both(ConnStatus::Syncing));
    assert_eq!(rows(&s)[1], ourselves(RingStatus::Syncing(5), 0));
    s.round(left, right);
    assert_eq!(rows(&s)[1], ourselves(RingStatus::Synced, 5_250));
}

#[test]
fn a_director_that_is_both_neighbours_has_two_rows_in_the_order_of_their_making() {
    let (s, left, right) = whole(&Setup {
        directors: vec![32, 33],
        ..Setup::default()
    });
    assert!(right < left);
    let kinds: Vec<ConnKind> = rows(&s)
        .iter()
        .filter_map(|row| match row {
            DirectorRow::Connection { kind, .. } => Some(*kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [ConnKind::Right, ConnKind::Left]);
    assert_eq!(rows(&s)[0], ourselves(RingStatus::Synced, 0));
}

#[test]
fn what_a_slow_reader_has_not_read_waits() {
    let (mut s, _, right) = between();
    let (_, _, before) = to(&s, 33);
    let now = s.now();
    s.pass(2);
    let name = "x".repeat(400);
    let kick = Order::KickUser(name.into());
    s.ring.order(&kick, now, &mut s.users).unwrap();
    let mut line = 0;
    for (conn, bytes) in s.ring.unwritten() {
        if conn == right {
            line = bytes.len() as u64;
        }
        bytes.clear();
    }
    assert!(line > 400);
    let unsent = usize::try_from(line).unwrap() - 30;
    s.input(Input::Written(right, unsent));
    let (_, _, slow) = to(&s, 33);
    assert_eq!(slow.bytes_out, before.bytes_out + 30);
    assert_eq!(slow.buffered, unsent as u64);
    assert_eq!(slow.peak, before.peak.max(line));
    assert_eq!(slow.last_write, s.clock());
    // Nothing more goes out for a while.
    s.pass(3);
    s.input(Input::Written(right, unsent));
    assert_eq!(to(&s, 33).2, slow);
    s.input(Input::Written(right, 0));
    let (_, _, done) = to(&s, 33);
    assert_eq!(
        (done.bytes_out, done.buffered, done.last_write),
        (before.bytes_out + line, 0, s.clock())
    );
}

#[test]
fn the_time_from_a_ping_to_its_pong() {
    let (mut s, left, right) = between();
    s.silent(left);
    s.pass(15);
    assert!(s.all(left).iter().any(|line| line.starts_with("PING\t")));
    s.pass_ms(340);
    s.say(left, "PONG\t1\t0");
    assert_eq!(to(&s, 31).2.ping_ms, 340);
    assert_eq!(to(&s, 33).2.ping_ms, 0);
    // A PONG that nobody has asked for says nothing.
    s.pass(1);
    s.say(left, "PONG\t1\t0");
    assert_eq!(to(&s, 31).2.ping_ms, 340);
    assert_ne!(left, right);
}

#[test]
fn who_is_not_connected_failed_lately_or_is_being_removed() {
    let (mut s, left, right) = whole(&Setup {
        us: 33,
        directors: vec![31, 32, 33, 34, 35],
        ..Setup::default()
    });
    let failed = s.clock();
    s.lost(right);
    s.refused(35);
    s.pass(4);
    s.say(left, &naming("DIRECTOR-REMOVE", 31));
    let listed = rows(&s);
    let row = |n: u8| {
        let of = |row: &&DirectorRow| matches!(row, DirectorRow::Unconnected { director, .. } if *director == d(n));
        listed.iter().copied().find(|row| of(&row))
    };
    assert_eq!(row(31), Some(unconnected(31, true, 0)));
    for n in [34, 35] {
        assert_eq!(row(n), Some(unconnected(n, false, failed)));
    }
    let names: Vec<DirectorId> = listed
        .iter()
        .map(|row| match row {
            DirectorRow::Connection { director, .. }
            | DirectorRow::Ourselves { director, .. }
            | DirectorRow::Unconnected { director, .. } => *director,
            DirectorRow::Stranger(_) => panic!("nobody is"),
        })
        .collect();
    // Our left is being dialled as well.
    assert_eq!(names, [31, 32, 32, 33, 34, 35].map(d));
}

#[test]
fn garbage_is_a_failure_too() {
    let (mut s, left, _) = between();
    s.pass(2);
    s.say(left, "HOST\tnonsense");
    let failed = s.clock();
    s.pass(5);
    assert!(s.is_closed(left));
    assert_eq!(rows(&s)[0], unconnected(31, false, failed));
}
