//! The lines and rows that were recorded between Dovecot's own tools and its director.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::wire::line::{Splitter, escape_into};
use crate::wire::ring::DirectorId;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> User<'_> {
    User::Name(text.as_bytes().into())
}

fn weight<'a>(host: &str, tag: Option<&'a str>, vhosts: Option<u32>) -> Weight<'a> {
    Weight {
        ip: ip(host),
        tag: tag.map(|tag| tag.as_bytes().into()),
        vhosts,
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_first_line() {
    assert_eq!(handshake(GREETING.strip_suffix(b"\n").unwrap()), Ok(()));
    assert_eq!(handshake(b"VERSION\tdirector-doveadm\t1\t7"), Ok(()));
    for line in [
        "VERSION\tdirector-doveadm\t2\t0",
        "VERSION\tdirector-doveadm\t1",
        "VERSION\tdirector-doveadm\t1\t",
        "VERSION\tdirector-doveadm\t1\t+1",
        "VERSION\tdirector-doveadm\t1\t0\tx",
        "VERSION\tdirector-x\t1\t0",
        "HOST-LIST",
        "",
    ] {
        let error = handshake(line.as_bytes());
        assert!(matches!(error, Err(AdminError::WrongProtocol(_))), "{line}");
    }
}

#[test]
fn every_command() {
    let v4 = ip("10.0.0.1");
    let nowait = |nowait| Command::UserKick {
        user: b"alice"[..].into(),
        nowait,
    };
    let reset = |host, max| Command::HostResetUsers {
        host,
        max_parallel: NonZeroU32::new(max),
    };
    let look = |user, tag: &'static str| Command::UserLookup {
        user,
        tag: tag.as_bytes().into(),
        why: false,
    };
    let why = |user, tag: &'static str| Command::UserLookup {
        user,
        tag: tag.as_bytes().into(),
        why: true,
    };
    let drain = |rate| Command::DrainBegin {
        ip: v4,
        rate: NonZeroU32::new(rate).unwrap(),
    };
    let add = |port| Command::DirectorAdd { ip: v4, port };
    let cases = [
        ("HOST-LIST", Command::HostList),
        ("USER-LOOKUP\t7\t\twhy", why(User::Hash(7), "")),
        ("USER-LOOKUP\t7\tt\tWHY", look(User::Hash(7), "t")),
        ("HOMING-DRAIN\t10.0.0.1\t20\tx", drain(20)),
        ("HOMING-DRAIN-CANCEL\t10.0.0.1", Command::DrainCancel(v4)),
        ("HOMING-DRAIN-LIST", Command::DrainList),
        ("HOMING-HISTOGRAMS", Command::Histograms(None)),
        ("HOMING-HISTOGRAMS\t1\tx", Command::Histograms(Some(1))),
        ("HOST-LIST\tmore", Command::HostList),
        ("HOST-LIST-REMOVED", Command::HostListRemoved),
        ("DIRECTOR-LIST", Command::DirectorList),
        ("DIRECTOR-ADD\t10.0.0.1", add(None)),
        ("DIRECTOR-ADD\t10.0.0.1\t9091\tx", add(Some(9091))),
        (
            "DIRECTOR-REMOVE\t[::2]\t65535",
            Command::DirectorRemove {
                ip: ip("::2"),
                port: Some(65535),
            },
        ),
        (
            "HOST-SET\t10.0.0.1",
            Command::HostSet(weight("10.0.0.1", None, None)),
        ),
        (
            "HOST-SET\t3\t0",
            Command::HostSet(weight("0.0.0.3", None, Some(0))),
        ),
        (
            "HOST-SET\t10.1@t1\t4294967294",
            Command::HostSet(weight("10.0.0.1", Some("t1"), Some(u32::MAX - 1))),
        ),
        (
            "HOST-SET\t::2@v6@x\t4294967295",
            Command::HostSet(weight("::2", Some("v6@x"), None)),
        ),
        (
            "HOST-SET\t10.0.0.1@a\u{1}tb",
            Command::HostSet(weight("10.0.0.1", Some("a\tb"), None)),
        ),
        (
            "HOST-UPDATE\t10.0.0.1@\t1001",
            Command::HostUpdate(weight("10.0.0.1", None, Some(1001))),
        ),
        ("HOST-UP\t10.0.0.1", Command::HostUp(v4)),
        ("HOST-DOWN\t10.0.0.1\t", Command::HostDown(v4)),
        ("HOST-REMOVE\t10.0.0.1 x", Command::HostRemove(v4)),
        ("HOST-FLUSH\t10.0.0.1", Command::HostFlush(Some(v4))),
        ("HOST-FLUSH", Command::HostFlush(None)),
        ("HOST-FLUSH\t", Command::HostFlush(None)),
        ("HOST-RESET-USERS", reset(None, 0)),
        ("HOST-RESET-USERS\t\t7", reset(None, 7)),
        ("HOST-RESET-USERS\t10.0.0.1", reset(Some(v4), 0)),
        (
            "HOST-RESET-USERS\t10.0.0.1\t4294967295",
            reset(Some(v4), u32::MAX),
        ),
        ("USER-LOOKUP", look(name(""), "")),
        ("USER-LOOKUP\talice\t", look(name("alice"), "")),
        ("USER-LOOKUP\talice\tzz", look(name("alice"), "zz")),
        ("USER-LOOKUP\t0", look(User::Hash(0), "")),
        ("USER-LOOKUP\t4294967295", look(User::Hash(u32::MAX), "")),
        ("USER-LOOKUP\t4294967296", look(name("4294967296"), "")),
        ("USER-LIST", Command::UserList(None)),
        ("USER-LIST\t", Command::UserList(None)),
        ("USER-LIST\t10.0.0.1", Command::UserList(Some(v4))),
        (
            "USER-MOVE\t1669653170\t10.0.0.1",
            Command::UserMove {
                user: User::Hash(1_669_653_170),
                host: v4,
            },
        ),
        ("USER-KICK\talice", nowait(false)),
        ("USER-KICK\talice\twait", nowait(false)),
        ("USER-KICK\talice\tnowait", nowait(true)),
        (
            "USER-KICK-ALT\tfield\ta\u{1}1b\tnowait",
            Command::UserKickAlt {
                field: b"field"[..].into(),
                value: b"a\x01b"[..].into(),
                nowait: true,
            },
        ),
    ];
    for (line, command) in cases {
        assert_eq!(parse(line.as_bytes()), Ok(command), "{line:?}");
    }
}

#[test]
fn what_closes_the_connection() {
    for line in [
        "",
        "\t",
        "host-list",
        "HOST-LIST ",
        "QUIT",
        "DIRECTOR-ADD",
        "DIRECTOR-ADD\tdirector.example",
        "DIRECTOR-ADD\t10.0.0.1\t0",
        "DIRECTOR-ADD\t10.0.0.1\t65536",
        "DIRECTOR-REMOVE\t",
        "HOST-SET",
        "HOST-SET\t@t1",
        "HOST-SET\t10.0.0.1\t",
        "HOST-SET\t10.0.0.1\t-1",
        "HOST-SET\t10.0.0.1\t4294967296",
        "HOST-UPDATE\t10.0.0.1",
        "HOST-UP",
        "HOST-DOWN\t10.0.0.1@t1",
        "HOST-REMOVE\t",
        "HOST-FLUSH\tall",
        "HOST-RESET-USERS\tall",
        "HOST-RESET-USERS\t\t0",
        "HOST-RESET-USERS\t\t",
        "HOST-RESET-USERS\t\tmany",
        "USER-LIST\tx",
        "USER-MOVE",
        "USER-MOVE\talice",
        "USER-MOVE\talice\tbackend.example",
        "USER-KICK",
        "USER-KICK-ALT\tfield",
    ] {
        let error = parse(line.as_bytes()).expect_err(line);
        assert!(!error.to_string().is_empty());
    }
    let error = parse(&[0xff; 1000]).unwrap_err().to_string();
    assert!(error.is_ascii() && error.len() < 300, "{error}");
}

#[test]
fn lines_of_1024_bytes_and_no_more() {
    let mut line = [&b"USER-KICK\t"[..], &[b'a'; 1013], b"\n"].concat();
    assert_eq!(line.len(), MAX_LINE);
    let mut commands = 0;
    let mut count = |line: &[u8]| commands += usize::from(parse(line).is_ok());
    Splitter::default()
        .feed(&line, MAX_LINE, &mut count)
        .unwrap();
    line.insert(20, b'a');
    assert!(
        Splitter::default()
            .feed(&line, MAX_LINE, &mut count)
            .is_err()
    );
    assert_eq!(commands, 1);
}

#[test]
fn what_waits_for_the_ring() {
    let table = [
        ("HOST-LIST", false, false),
        ("HOST-LIST-REMOVED", false, false),
        ("DIRECTOR-LIST", false, false),
        ("DIRECTOR-ADD\t10.0.0.1", true, false),
        ("DIRECTOR-REMOVE\t10.0.0.1", true, true),
        ("HOST-SET\t10.0.0.1", true, true),
        ("HOST-UPDATE\t10.0.0.1\t1", true, true),
        ("HOST-UP\t10.0.0.1", true, true),
        ("HOST-DOWN\t10.0.0.1", true, true),
        ("HOST-REMOVE\t10.0.0.1", true, true),
        ("HOST-FLUSH\t10.0.0.1", true, true),
        ("HOST-FLUSH", true, false),
        ("HOST-RESET-USERS", false, false),
        ("USER-LOOKUP", false, false),
        ("USER-LIST", false, false),
        ("USER-MOVE\t1\t10.0.0.1", false, false),
        ("USER-KICK\ta", false, false),
        ("USER-KICK-ALT\ta\tb", false, false),
    ];
    for (line, sync, after) in table {
        let command = parse(line.as_bytes()).unwrap();
        let got = (command.waits_for_sync(), command.answers_after_sync());
        assert_eq!(got, (sync, after), "{line}");
    }
}

#[test]
fn replies() {
    for (reply, text) in [
        (Reply::Ok, "OK\n"),
        (Reply::NotFound, "NOTFOUND\n"),
        (Reply::TryAgain, "TRYAGAIN\n"),
        (Reply::SyncTimedOut, "Ring sync timed out\n"),
        (Reply::TooManyVhosts, "vhost count too large\n"),
        (Reply::TagCannotChange, "host tag can't be changed\n"),
        (
            Reply::BeingUpdated,
            "host is already being updated - try again later\n",
        ),
    ] {
        assert_eq!(written(|out| reply.write(out)), text);
    }
}

#[test]
fn the_recorded_list_of_backends() {
    let row = |host, vhosts, users, tag: &'static str, down, last_updown_change| HostRow {
        ip: ip(host),
        vhosts,
        users,
        tag: tag.as_bytes(),
        down,
        last_updown_change,
    };
    let rows = [
        row("127.61.0.11", 100, 5, "", false, 0),
        row("127.61.0.13", 70, 0, "", true, 1_795_459_103),
        row("127.61.0.14", 20, 0, "t1", false, 0),
        row("::2", 1, 0, "v6", false, 0),
    ];
    let list = written(|out| {
        for row in rows {
            row.write(out);
        }
        write_end_of_list(out);
    });
    assert_eq!(
        list,
        "127.61.0.11\t100\t5\t\tU\t0\n127.61.0.13\t70\t0\t\tD\t1795459103\n\
         127.61.0.14\t20\t0\tt1\tU\t0\n::2\t1\t0\tv6\tU\t0\n\n"
    );
    let odd = written(|out| row("10.0.0.1", 1, 0, "a\tb", false, 0).write(out));
    assert_eq!(odd, "10.0.0.1\t1\t0\ta\u{1}tb\tU\t0\n");
    let removed = written(|out| write_removed_host(ip("::2"), out));
    assert_eq!(removed, "::2\n");
}

fn director(host: &str, port: u16) -> DirectorId {
    DirectorId { ip: ip(host), port }
}

fn traffic(status: ConnStatus, numbers: [u64; 7]) -> Traffic {
    let [
        ping_ms,
        bytes_in,
        bytes_out,
        buffered,
        peak,
        last_read,
        last_write,
    ] = numbers;
    Traffic {
        status,
        ping_ms,
        bytes_in,
        bytes_out,
        buffered,
        peak,
        last_read,
        last_write,
    }
}

#[test]
fn the_recorded_lists_of_directors() {
    let ourselves = |director, ring| DirectorRow::Ourselves {
        director,
        last_failed: 0,
        ring,
        sync_ms: 0,
    };
    let connection = |port, kind, traffic| DirectorRow::Connection {
        director: director("127.61.0.32", port),
        kind,
        last_failed: 0,
        traffic,
    };
    let lacking = |port, removed, last_failed| DirectorRow::Unconnected {
        director: director("127.61.0.33", port),
        removed,
        last_failed,
    };
    let synced = [0, 130, 424, 0, 146, 1_795_459_335, 1_795_459_335];
    let hangs = [0, 671, 358, 0, 18, 1_795_459_524, 1_795_459_528];
    let received = traffic(ConnStatus::Receiving(0), [0, 0, 53, 0, 0, 0, 1_795_462_004]);
    let sent = traffic(
        ConnStatus::Sending(0),
        [0, 0, 107, 0, 107, 0, 1_795_462_004],
    );
    for (row, text) in [
        (
            ourselves(director("127.0.0.1", 0), RingStatus::Synced),
            "127.0.0.1\t0\tself\t0\tring synced\t0\n",
        ),
        (
            ourselves(director("127.61.0.31", 21090), RingStatus::Syncing(6)),
            "127.61.0.31\t21090\tself\t0\tring syncing - last sync 6 secs ago\t0\n",
        ),
        (
            ourselves(director("127.61.0.31", 21090), RingStatus::Handshaking),
            "127.61.0.31\t21090\tself\t0\tring handshaking\t0\n",
        ),
        (
            connection(21090, ConnKind::Right, traffic(ConnStatus::Synced, synced)),
            "127.61.0.32\t21090\tright\t0\tsynced\t0\t130\t424\t0\t146\t1795459335\t1795459335\n",
        ),
        (
            connection(21090, ConnKind::Left, traffic(ConnStatus::Syncing, hangs)),
            "127.61.0.32\t21090\tleft\t0\tsyncing\t0\t671\t358\t0\t18\t1795459524\t1795459528\n",
        ),
        (
            DirectorRow::Stranger(received),
            "handshaking - 0 USERs received\t0\t0\t53\t0\t0\t0\t1795462004\n",
        ),
        (
            connection(29090, ConnKind::Out, sent),
            "127.61.0.32\t29090\tout\t0\thandshaking - 0 USERs sent\t0\t0\t107\t0\t107\t0\t1795462004\n",
        ),
        (lacking(9999, true, 0), "127.61.0.33\t9999\tremoved\t0\t\n"),
        (
            lacking(21090, false, 1_795_459_125),
            "127.61.0.33\t21090\t\t1795459125\t\n",
        ),
    ] {
        assert_eq!(written(|out| row.write(out)), text);
    }
    assert_eq!(ConnKind::In.to_string(), "in");
}

#[test]
fn the_recorded_lookups_and_users() {
    let row = |current: Option<(&str, u64)>, hashed: Option<&str>, initial: Option<&str>| {
        let row = LookupRow {
            current: current.map(|(host, expires)| (ip(host), expires)),
            hashed: hashed.map(ip),
            initial: initial.map(ip),
        };
        written(|out| row.write(out))
    };
    assert_eq!(
        row(
            Some(("127.61.0.12", 1_795_460_003)),
            Some("127.61.0.17"),
            Some("127.61.0.11")
        ),
        "127.61.0.12\t1795460003\t127.61.0.17\t127.61.0.11\n"
    );
    assert_eq!(
        row(None, Some("127.61.0.12"), Some("127.61.0.12")),
        "\t0\t127.61.0.12\t127.61.0.12\n"
    );
    assert_eq!(row(None, None, None), "\t0\t\t\n");
    let user = UserRow {
        hash: 1_669_653_170,
        expires: 1_795_460_003,
        ip: ip("127.61.0.11"),
    };
    assert_eq!(
        written(|out| user.write(out)),
        "1669653170\t1795460003\t127.61.0.11\n"
    );
}

#[test]
fn a_nul_ends_the_line_and_an_escaped_one_its_argument() {
    let kick = |user: &'static [u8], nowait| {
        let user = user.into();
        Ok(Command::UserKick { user, nowait })
    };
    assert_eq!(parse(b"USER-KICK\tal\0ice\tnowait"), kick(b"al", false));
    assert_eq!(parse(b"USER-KICK\tal\x010ice\tnowait"), kick(b"al", true));
    assert_eq!(parse(b"\0HOST-LIST"), Err(AdminError::Empty));
}

proptest! {
    #[test]
    fn any_bytes_are_a_command_or_an_error(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&line);
        let _ = handshake(&line);
    }

    #[test]
    fn any_arguments_are_a_command_or_an_error(
        word in prop::sample::select(vec![
            "DIRECTOR-ADD", "DIRECTOR-REMOVE", "HOST-SET", "HOST-UPDATE", "HOST-UP", "HOST-FLUSH",
            "HOST-RESET-USERS", "USER-LOOKUP", "USER-LIST", "USER-MOVE", "USER-KICK", "USER-KICK-ALT",
        ]),
        rest in "[0-9a-z@:.\t\u{1}\\[\\]\0]{0,40}",
    ) {
        let line = format!("{word}{rest}");
        if let Err(error) = parse(line.as_bytes()) {
            prop_assert!(error.to_string().is_ascii());
        }
    }

    #[test]
    fn a_name_comes_out_as_it_went_in(bytes in prop::collection::vec(1..=u8::MAX, 0..100)) {
        let mut line = b"USER-KICK\t".to_vec();
        escape_into(&bytes, &mut line);
        let user = bytes.into();
        prop_assert_eq!(parse(&line), Ok(Command::UserKick { user, nowait: false }));
    }
}
