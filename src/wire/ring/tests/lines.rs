//! Lines that real directors sent, and every rule about fields.

use super::*;

fn error(line: &[u8], context: Context) -> RingError {
    whole(line, context).expect_err("must be refused")
}

/// A line that a director of minor version 9 sent: read, and written again, byte by byte.
fn same(line: &[u8], stage: Stage) {
    let command = whole(line, at(stage)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        String::from_utf8_lossy(&written(&command, NOW)),
        String::from_utf8_lossy(line)
    );
}

#[test]
fn a_recorded_handshake() {
    let lines: [(&[u8], Stage); 15] = [
        (b"VERSION\tdirector\t1\t9", Stage::Version),
        (b"ME\t127.77.0.21\t17790\t1795459389", Stage::Me),
        (b"DIRECTOR\t127.77.0.21\t17790", Stage::Handshake),
        (b"DIRECTOR\t127.77.0.22\t17790", Stage::Handshake),
        (b"HOST-HAND-START\t0", Stage::Handshake),
        (b"HOST\t10.0.0.1\t100\t\tU0\t", Stage::Hosts),
        (b"HOST\t10.0.0.2\t100\teast\tU0\t", Stage::Hosts),
        (b"HOST\t2001:db8::5\t100\t\tU0\t", Stage::Hosts),
        (b"HOST-HAND-END\t0", Stage::Hosts),
        (b"U\t1669653170\t10.0.0.3\t1795459380", Stage::Handshake),
        (b"U\t1669653170\t10.0.0.3\t1795459380\tw", Stage::Handshake),
        (b"OPTIONS\tconsistent-hashing", Stage::Handshake),
        (b"DONE", Stage::Handshake),
        (
            b"SYNC\t127.77.0.21\t17790\t3\t9\t1795459389\t2623023173",
            Stage::Established,
        ),
        (b"PING\t1795459389\t49", Stage::Established),
    ];
    let mut stage = Stage::Version;
    for (line, expected) in lines {
        assert_eq!(stage, expected, "{}", line.escape_ascii());
        same(line, stage);
        stage = stage.after(&whole(line, at(stage)).expect("read before"));
    }
    assert_eq!(stage, Stage::Established);
}

#[test]
fn recorded_lines_of_an_established_ring() {
    let lines: [&[u8]; 15] = [
        b"USER\t200\t10.0.0.3\t1795459438",
        b"USER-KICK-HASH\t127.77.0.32\t17790\t1\t200\t10.0.0.2",
        b"USER-WEAK\t127.77.6.1\t17790\t3\t1669653170\t10.0.0.3",
        b"USER-KICK\t127.77.0.31\t17790\t108\tfoo\x01tbar",
        b"HOST\t127.77.0.32\t17790\t12\t10.0.0.10\t7\t\tU0\t",
        b"HOST\t127.77.0.32\t17790\t12\t10.0.0.10\t7\teast\tD1795459438\tmail\x01t1",
        b"HOST-REMOVE\t127.77.0.32\t17790\t13\t10.0.0.10",
        b"HOST-FLUSH\t127.77.0.32\t17790\t14\t::0.1.0.2",
        b"USER-MOVE\t127.77.0.11\t17790\t1\t800\t10.0.0.2",
        b"USER-KILLED\t800",
        b"USER-KILLED-EVERYWHERE\t127.77.0.11\t17790\t2\t800",
        b"USER-KICK-ALT\t127.77.0.11\t17790\t3\tgroup\tsta\x01nff",
        b"CONNECT\t127.77.0.22\t17790",
        b"DIRECTOR-REMOVE\t127.77.0.22\t17790",
        b"QUIT\tShutting down",
    ];
    for line in lines {
        same(line, Stage::Established);
        same(line, Stage::Handshake);
    }
    let kick = whole(lines[3], ESTABLISHED).expect("read before");
    let Command::Order(_, Order::UserKick(name)) = kick else {
        panic!("{kick:?}");
    };
    assert_eq!(*name, *b"foo\tbar");
}

#[test]
fn what_a_connection_takes_depends_on_its_stage() {
    use Stage::{Established, Handshake, Hosts, Me, Version};
    let unknown = |word: &str| RingError::Unknown(format!("\"{word}\""));
    let not_yet = |got: &str, expected| RingError::NotYet {
        got: format!("\"{got}\""),
        expected,
    };
    assert_eq!(error(b"PING", at(Version)), not_yet("PING", "VERSION"));
    assert_eq!(error(b"DONE", at(Me)), not_yet("DONE", "ME"));
    let version = b"VERSION\tdirector\t1\t9";
    for stage in [Me, Hosts, Handshake] {
        assert_eq!(error(version, at(stage)), RingError::Again("VERSION"));
    }
    for stage in [Hosts, Handshake] {
        let me = b"ME\t127.0.0.1\t9090\t1";
        assert_eq!(error(me, at(stage)), RingError::Again("ME"));
    }
    let late = [
        "VERSION\tdirector\t1\t9",
        "ME\t127.0.0.1\t9090",
        "OPTIONS\tconsistent-hashing",
        "U\t1\t10.0.0.1\t5",
        "DONE",
        "HOST-HAND-START\t1",
        "HOST-HAND-END\t1",
    ];
    for line in late {
        let word = line.split('\t').next().unwrap_or_default();
        assert_eq!(error(line.as_bytes(), ESTABLISHED), unknown(word));
    }
    assert_eq!(
        error(b"HOST-HAND-END\t1", at(Handshake)),
        unknown("HOST-HAND-END")
    );
    for line in ["USER\t1\t10.0.0.1\t5", "PING", "SYNC\t1.1.1.1\t1\t1"] {
        assert!(whole(line.as_bytes(), at(Handshake)).is_ok());
        assert!(whole(line.as_bytes(), at(Established)).is_ok());
        let refused = error(line.as_bytes(), at(Hosts));
        assert!(matches!(refused, RingError::InHostBlock(_)));
    }
}

#[test]
fn only_who_dialled_sends_hosts_and_users() {
    let dialled = Context {
        role: Role::Dialler,
        ..at(Stage::Handshake)
    };
    assert_eq!(error(b"HOST-HAND-START\t1", dialled), RingError::WrongSide);
    let unknown = error(b"U\t1\t10.0.0.1\t5", dialled);
    assert!(matches!(unknown, RingError::Unknown(_)));
    assert_eq!(whole(b"DONE", dialled), Ok(Command::Done));
}

#[test]
fn users_of_old_peers_are_told_apart_by_their_fields() {
    let old = Context {
        peer_minor: 8,
        ..at(Stage::Handshake)
    };
    let plain = Command::User {
        hash: hash(7),
        host: [10, 0, 0, 1].into(),
        time: None,
    };
    assert_eq!(whole(b"USER\t7\t10.0.0.1", old), Ok(plain));
    let user = HandUser {
        hash: hash(7),
        host: [10, 0, 0, 1].into(),
        time: 5,
        weak: true,
    };
    let line = b"USER\t7\t10.0.0.1\t5\tw";
    assert_eq!(whole(line, old), Ok(Command::HandUser(user)));
    let versions = Versions { peer: 8, ring: 8 };
    assert_eq!(written(&Command::HandUser(user), versions), line);
    // A peer of today means the time of a plain USER.
    let today = whole(b"USER\t7\t10.0.0.1\t5", at(Stage::Handshake));
    assert!(matches!(today, Ok(Command::User { time: Some(5), .. })));
}

#[test]
fn counts_of_fields() {
    let prefix = "127.77.0.1\t17790\t1";
    let exact = [
        ("CONNECT", vec!["1.1.1.1", "1"], false),
        ("USER-KILLED", vec!["1"], false),
        ("USER-WEAK", vec!["1", "1.1.1.1"], true),
        ("HOST-REMOVE", vec!["1.1.1.1"], true),
        ("HOST-FLUSH", vec!["1.1.1.1"], true),
        ("USER-MOVE", vec!["1", "1.1.1.1"], true),
        ("USER-KICK", vec!["name"], true),
        ("USER-KICK-ALT", vec!["field", "value"], true),
        ("USER-KICK-HASH", vec!["1", "1.1.1.1"], true),
        ("USER-KILLED-EVERYWHERE", vec!["1"], true),
    ];
    let line = |word: &str, fields: &[&str], prefixed: bool| {
        let prefix = prefixed.then_some(prefix).into_iter();
        let all: Vec<_> = [word]
            .into_iter()
            .chain(prefix)
            .chain(fields.iter().copied())
            .collect();
        all.join("\t").into_bytes()
    };
    for (word, fields, prefixed) in exact {
        assert!(whole(&line(word, &fields, prefixed), ESTABLISHED).is_ok());
        let more = [&fields[..], &["x"]].concat();
        for wrong in [&fields[1..], &more] {
            let error = error(&line(word, wrong, prefixed), ESTABLISHED);
            assert!(matches!(error, RingError::FieldCount { .. }), "{error}");
        }
    }
    let at_least = [
        ("DIRECTOR", vec!["1.1.1.1", "1"], false),
        ("DIRECTOR-REMOVE", vec!["1.1.1.1", "1"], false),
        ("SYNC", vec!["1.1.1.1", "1", "1"], false),
        ("USER", vec!["1", "1.1.1.1"], false),
        ("HOST", vec!["1.1.1.1", "1"], true),
    ];
    for (word, fields, prefixed) in at_least {
        let more = [&fields[..], &["1", "2", "3", "4"][..1]].concat();
        assert!(whole(&line(word, &fields, prefixed), ESTABLISHED).is_ok());
        assert!(whole(&line(word, &more, prefixed), ESTABLISHED).is_ok());
        let error = error(&line(word, &fields[1..], prefixed), ESTABLISHED);
        assert!(matches!(error, RingError::FieldCount { .. }), "{error}");
    }
    let short = error(b"HOST\t127.77.0.1\t17790", ESTABLISHED);
    assert!(matches!(short, RingError::FieldCount { got: 2, .. }));
}

#[test]
fn types_of_fields() {
    let user = |line: &str| whole(line.as_bytes(), ESTABLISHED).map(|_| ());
    assert!(user("USER\t0000000000000000000007\t10.0.0.1\t-5").is_ok());
    assert!(user("USER\t4294967295\t[2001:db8::1]\t9223372036854775807").is_ok());
    assert!(user("USER\t1\t0x7f.1\t-9223372036854775808").is_ok());
    for bad in [
        "USER\t4294967296\t10.0.0.1",
        "USER\t+1\t10.0.0.1",
        "USER\t 1\t10.0.0.1",
        "USER\t\t10.0.0.1",
        "USER\t1\thost",
        "USER\t1\t10.0.0.1\t",
        "USER\t1\t10.0.0.1\t-",
        "USER\t1\t10.0.0.1\t9223372036854775808",
        "CONNECT\t10.0.0.1\t0",
        "CONNECT\t10.0.0.1\t65536",
        "SYNC\t10.0.0.1\t1\t1\tx",
        "SYNC\t10.0.0.1\t1\t1\t9\t4294967296",
        "HOST\t1.1.1.1\t1\t1\t10.0.0.1\t1\t\tX5",
        "HOST\t1.1.1.1\t1\t1\t10.0.0.1\t1\t\t",
        "HOST\t1.1.1.1\t1\t1\t10.0.0.1\t1\t\tU",
    ] {
        let error = error(bad.as_bytes(), ESTABLISHED);
        assert!(
            matches!(error, RingError::BadField { .. }),
            "{bad}: {error}"
        );
        assert_eq!(error.verdict(), Verdict::Garbage);
    }
    let seen = whole(b"HOST-REMOVE\t010.0.0.3\t1\t1\t3", ESTABLISHED).expect("lenient");
    let line = written(&seen, NOW);
    assert_eq!(line, b"HOST-REMOVE\t10.0.0.3\t1\t1\t0.0.0.3");
}

/// T1.
#[test]
fn no_user_has_hash_zero() {
    for line in [
        "USER\t0\t10.0.0.1",
        "USER-KILLED\t0",
        "USER-WEAK\t1.1.1.1\t1\t1\t0\t10.0.0.1",
        "USER-MOVE\t1.1.1.1\t1\t1\t0\t10.0.0.1",
        "USER-KICK-HASH\t1.1.1.1\t1\t1\t0\t10.0.0.1",
        "USER-KILLED-EVERYWHERE\t1.1.1.1\t1\t1\t0",
    ] {
        let error = error(line.as_bytes(), ESTABLISHED);
        assert!(matches!(error, RingError::ZeroHash(_)), "{line}: {error}");
    }
    let hand = error(b"U\t0\t10.0.0.1\t1", at(Stage::Handshake));
    assert_eq!(hand, RingError::ZeroHash("U"));
}

#[test]
fn the_origin_of_garbage_is_known() {
    let line = b"HOST\t127.77.0.31\t17790\t4\tgarbage";
    let Ok(Line::Received(received)) = parse(line, ESTABLISHED) else {
        panic!("the prefix is fine");
    };
    let origin = Origin {
        director: director(31),
        seq: 4,
    };
    assert_eq!(received.origin, origin);
    assert!(!received.is_read_when_duplicate());
    assert!(received.order().is_err());
}

/// T15.
#[test]
fn vhosts_are_limited() {
    let most = b"HOST\t1.1.1.1\t1\t1\t10.0.0.1\t1000000";
    assert!(whole(most, ESTABLISHED).is_ok());
    let more = b"HOST\t1.1.1.1\t1\t1\t10.0.0.1\t1000001";
    assert_eq!(
        error(more, ESTABLISHED),
        RingError::TooManyVhosts(1_000_001)
    );
}

#[test]
fn lines_have_a_length() {
    let name = |length: usize| [b"QUIT\t".to_vec(), vec![b'x'; length - 5]].concat();
    assert!(whole(&name(1023), ESTABLISHED).is_ok());
    assert_eq!(error(&name(1024), ESTABLISHED), RingError::TooLong);
    assert_eq!(error(b"", ESTABLISHED), RingError::Empty);
    let quit = Command::Quit(vec![b'\n'; 5000].into());
    assert_eq!(written(&quit, NOW).len(), MAX_LINE);
}

/// T14: 956 plain bytes are the longest name, or 478 that are escaped.
#[test]
fn a_kick_must_fit_whoever_forwards_it() {
    let kick = |length, byte: u8| Order::UserKick(vec![byte; length].into());
    assert!(kick(956, b'x').fits() && !kick(957, b'x').fits());
    assert!(kick(478, b'\t').fits() && !kick(479, b'\t').fits());
    let origin = Origin {
        director: director(1),
        seq: 1,
    };
    let mut out = Vec::new();
    let long = Command::Order(origin, kick(1100, b'x'));
    assert_eq!(long.write(NOW, &mut out), Err(DoesNotFit));
    assert!(out.is_empty());
}

#[test]
fn hosts_in_the_forms_of_old_versions() {
    let origin = Origin {
        director: director(32),
        seq: 5,
    };
    let broadcast = |host: &Host<'static>, ring| {
        let order = Command::Order(origin, Order::Host(host.clone()));
        let line = written(&order, Versions { peer: 9, ring });
        String::from_utf8(line).expect("text")
    };
    let (plain, tagged) = (host(7, b""), host(7, b"east"));
    let prefix = "127.77.0.32\t17790\t5\t10.0.0.2";
    assert_eq!(broadcast(&plain, 9), format!("HOST\t{prefix}\t7\t\tU0\t"));
    assert_eq!(broadcast(&plain, 6), format!("HOST\t{prefix}\t7\t\tU0\t"));
    assert_eq!(broadcast(&plain, 5), format!("HOST\t{prefix}\t7"));
    assert_eq!(
        broadcast(&tagged, 7),
        format!("HOST\t{prefix}\t7\teast\tU0\t")
    );
    assert_eq!(broadcast(&tagged, 6), format!("HOST-REMOVE\t{prefix}"));
    let block = |host: &Host<'static>, peer| {
        let line = written(&Command::HandHost(host.clone()), Versions { peer, ring: 9 });
        String::from_utf8(line).expect("text")
    };
    assert_eq!(block(&plain, 6), "HOST\t10.0.0.2\t7\t\tU0\t");
    assert_eq!(block(&plain, 5), "HOST\t10.0.0.2\t7");
    assert_eq!(block(&tagged, 5), "HOST\t10.0.0.2\t7\teast");
    assert_eq!(tagged.check_tag(7), Ok(()));
    assert_eq!(plain.check_tag(0), Ok(()));
    let refused = tagged.check_tag(6).expect_err("tags meant another thing");
    assert_eq!(refused.verdict(), Verdict::Garbage);
}

#[test]
fn syncs_and_users_for_old_peers() {
    let short = b"SYNC\t127.77.0.21\t17790\t3";
    same(short, Stage::Established);
    let long = b"SYNC\t127.77.0.21\t17790\t3\t9\t1795459389\t2623023173";
    let sync = whole(long, ESTABLISHED).expect("a line");
    let ancient = Versions { peer: 0, ring: 0 };
    assert_eq!(written(&sync, ancient), short);
    let user = whole(b"USER\t7\t10.0.0.1\t5", ESTABLISHED).expect("a line");
    let old = Versions { peer: 8, ring: 8 };
    assert_eq!(written(&user, old), b"USER\t7\t10.0.0.1");
    let late = whole(b"USER\t7\t10.0.0.1\t9000000000", ESTABLISHED).expect("a line");
    assert_eq!(written(&late, NOW), b"USER\t7\t10.0.0.1\t4294967295");
    assert_eq!(sync.min_minor(), 0);
    assert_eq!(Command::Quit((&b""[..]).into()).min_minor(), 3);
    assert_eq!(Command::Options.min_minor(), 5);
    assert_eq!(Command::DirectorRemove(director(1)).min_minor(), 2);
}

#[test]
fn versions_and_options() {
    let version = |line: &'static [u8]| whole(line, at(Stage::Version));
    let newer = version(b"VERSION\tdirector\t1\t12\tmore");
    assert_eq!(
        newer,
        Ok(Command::Version {
            minor: 12,
            homing: 0,
            tls: false,
            joining: false,
        })
    );
    let wrong = version(b"VERSION\tdirector\t2\t0").expect_err("major");
    assert_eq!(wrong, RingError::WrongMajor { major: 2, minor: 0 });
    assert_eq!(wrong.verdict(), Verdict::Incompatible);
    let wrong = version(b"VERSION\tauth\t1\tx").expect_err("name");
    assert_eq!(wrong.verdict(), Verdict::Incompatible);
    let short = version(b"VERSION\tdirector\t1").expect_err("minor");
    assert_eq!(short.verdict(), Verdict::Garbage);
    let options = |line: &'static [u8]| whole(line, at(Stage::Handshake));
    let among = options(b"OPTIONS\tfoo\tconsistent-hashing\tbar");
    assert_eq!(among, Ok(Command::Options));
    let without = options(b"OPTIONS\tfoo").expect_err("option");
    assert_eq!(without.verdict(), Verdict::Incompatible);
}

#[test]
fn what_pings_and_quits_say_may_be_anything() {
    for line in ["PING", "PING\t5", "PING\tx\t5", "PING\t5\t-5"] {
        assert_eq!(whole(line.as_bytes(), ESTABLISHED), Ok(Command::Ping(None)));
    }
    let quit = whole(b"QUIT\tone\ttwo\t", ESTABLISHED);
    assert_eq!(quit, Ok(Command::Quit(b"one two ".as_slice().into())));
    let bare = whole(b"QUIT", ESTABLISHED);
    assert_eq!(bare, Ok(Command::Quit(b"".as_slice().into())));
}

#[test]
fn a_nul_ends_a_field_or_the_line() {
    let cut = whole(b"USER-KICK\t1.1.1.1\t1\t1\tname\x010more", ESTABLISHED).expect("a line");
    assert_eq!(written(&cut, NOW), b"USER-KICK\t1.1.1.1\t1\t1\tname");
    let raw = whole(b"USER-KICK\t1.1.1.1\t1\t1\tname\0\tmore", ESTABLISHED);
    assert_eq!(raw, Ok(cut));
}
