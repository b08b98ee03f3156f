//! One client's bytes, and what comes of them.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::core::UserHash;
use crate::core::backends::BackendError;
use crate::core::ring::{Order, OrderError, Request, RequestError};
use crate::core::user_hash::Template;
use crate::wire::ring::DirectorId;
use std::net::IpAddr;
use std::sync::Arc;

const HELLO: &[u8] = b"VERSION\tdirector-doveadm\t1\t0\n";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A client that has said hello.
fn session() -> Session {
    let mut session = fresh();
    session.receive(HELLO);
    session
}

fn fresh() -> Session {
    let mut session = Session::new(Context {
        ring_port: 9090,
        username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
    });
    assert_eq!(said(&mut session), GREETING);
    session
}

fn said(session: &mut Session) -> Vec<u8> {
    std::mem::take(session.out())
}

/// What one command asks for.
fn work(line: &str) -> Option<Work> {
    let mut session = session();
    session.receive(line.as_bytes());
    session.receive(b"\n");
    session.next_work()
}

fn order(order: Order) -> Option<Work> {
    Some(Work::Ask(Request::Order(order)))
}

fn set(host: &str, tag: Option<&str>, vhosts: Option<u32>) -> Order {
    let (ip, tag) = (ip(host), tag.map(|tag| tag.as_bytes().to_vec()));
    Order::SetBackend { ip, tag, vhosts }
}

fn update(host: &str, tag: Option<&str>, vhosts: Option<u32>) -> Order {
    let (ip, tag) = (ip(host), tag.map(|tag| tag.as_bytes().to_vec()));
    Order::UpdateBackend { ip, tag, vhosts }
}

fn director(host: &str, port: u16) -> DirectorId {
    DirectorId { ip: ip(host), port }
}

#[test]
fn every_question_is_the_one_that_was_meant() {
    let alice = Template::parse("%Lu", &|_| None)
        .unwrap()
        .hash(b"alice", &mut Vec::new());
    let lookup = |hash, tag: &[u8]| {
        let tag = tag.to_vec();
        Some(Work::Lookup {
            hash,
            tag,
            why: false,
        })
    };
    let reset = |host, max| Some(Work::Ask(Request::ResetUsers { host, max }));
    let a = "10.0.0.1";
    for (line, wanted) in [
        ("HOST-LIST", Some(Work::Hosts)),
        ("HOST-LIST-REMOVED", Some(Work::RemovedHosts)),
        ("DIRECTOR-LIST", Some(Work::Directors)),
        ("USER-LIST", Some(Work::Users(None))),
        ("USER-LIST\t10.0.0.1", Some(Work::Users(Some(ip(a))))),
        ("USER-LOOKUP\tAlice", lookup(alice, b"")),
        ("USER-LOOKUP\t0\tt1", lookup(UserHash(0), b"t1")),
        (
            "USER-MOVE\tALICE\t10.0.0.1",
            order(Order::Move(alice, ip(a))),
        ),
        (
            "USER-MOVE\t7\t10.0.0.1",
            order(Order::Move(UserHash(7), ip(a))),
        ),
        ("HOST-RESET-USERS", reset(None, None)),
        ("HOST-RESET-USERS\t10.0.0.1\t3", reset(Some(ip(a)), Some(3))),
    ] {
        assert_eq!(work(line), wanted, "{line}");
    }
    let weight = NonZeroU32::MAX.get() as usize;
    let line = format!("HOST-RESET-USERS\t\t{weight}");
    assert_eq!(work(&line), reset(None, Some(weight)));
}

#[test]
fn every_order_is_the_one_that_was_meant() {
    let a = "10.0.0.1";
    for (line, wanted) in [
        ("HOST-SET\t10.0.0.1", order(set(a, None, None))),
        (
            "HOST-SET\t10.0.0.1@t\t1000",
            order(set(a, Some("t"), Some(1000))),
        ),
        (
            "HOST-SET\t10.0.0.1@t\t1001",
            order(set(a, Some("t"), Some(1001))),
        ),
        (
            "HOST-UPDATE\t10.0.0.1@t\t5",
            order(update(a, Some("t"), Some(5))),
        ),
        (
            "HOST-UPDATE\t10.0.0.1@t\t1001",
            order(update(a, Some("t"), Some(1001))),
        ),
        (
            "HOST-UPDATE\t10.0.0.1\t4294967295",
            order(update(a, None, None)),
        ),
        ("HOST-UP\t10.0.0.1", order(Order::Up(ip(a)))),
        ("HOST-DOWN\t10.0.0.1", order(Order::Down(ip(a)))),
        ("HOST-REMOVE\t10.0.0.1", order(Order::Remove(ip(a)))),
        ("HOST-FLUSH\t10.0.0.1", order(Order::ForgetUsers(ip(a)))),
        ("HOST-FLUSH", Some(Work::Ask(Request::ForgetAll))),
        ("HOST-FLUSH\t", Some(Work::Ask(Request::ForgetAll))),
        (
            "DIRECTOR-ADD\t10.0.0.1",
            order(Order::AddDirector(director(a, 9090))),
        ),
        (
            "DIRECTOR-ADD\t10.0.0.1\t1",
            order(Order::AddDirector(director(a, 1))),
        ),
        (
            "DIRECTOR-REMOVE\t10.0.0.1\t1",
            order(Order::RemoveDirector(director(a, 1))),
        ),
        (
            "DIRECTOR-REMOVE\t10.0.0.1",
            order(Order::RemoveDirectorAt(ip(a))),
        ),
        ("USER-KICK\tal", order(Order::KickUser(b"al".to_vec()))),
        (
            "USER-KICK-ALT\tf\tv\tnowait",
            Some(Work::Ask(Request::KickNoWait(Order::KickAlt(
                b"f".to_vec(),
                b"v".to_vec(),
            )))),
        ),
    ] {
        assert_eq!(work(line), wanted, "{line}");
    }
}

#[test]
fn every_answer_of_the_ring_has_its_line() {
    let host = ip("10.0.0.1");
    let failed = |error| Answer::Failed(RequestError::Order(error));
    let vhosts = u32::MAX;
    for (answer, line) in [
        (Answer::Done, "OK"),
        (
            Answer::Failed(RequestError::TimedOut),
            "Ring sync timed out",
        ),
        (Answer::Failed(RequestError::Busy), "TRYAGAIN"),
        (failed(BackendError::Unknown(host).into()), "NOTFOUND"),
        (failed(OrderError::UnknownDirector), "NOTFOUND"),
        (failed(OrderError::Moving), "TRYAGAIN"),
        (
            failed(OrderError::OtherTag(host)),
            "host tag can't be changed",
        ),
        (
            failed(OrderError::Updating(host)),
            "host is already being updated - try again later",
        ),
        (
            failed(BackendError::TooManyVhosts { ip: host, vhosts }.into()),
            "vhost count too large",
        ),
        (
            failed(OrderError::TooManyVhosts(1001)),
            "vhost count too large",
        ),
        (
            failed(OrderError::TooManyDirectors),
            "no room for another director",
        ),
    ] {
        let mut session = session();
        session.receive(b"HOST-UP\t10.0.0.1\n");
        assert!(session.next_work().is_some());
        session.answer(&answer);
        assert_eq!(said(&mut session), format!("{line}\n").as_bytes());
        assert!(!session.is_busy());
    }
}

#[test]
fn commands_that_come_together_are_done_one_by_one() {
    let mut session = session();
    session.receive(b"HOST-DOWN\t10.0.0.1\nHOST-FLUSH\t10.0.0.1\nHOST-L");
    let a = ip("10.0.0.1");
    assert_eq!(session.next_work(), order(Order::Down(a)));
    assert_eq!(session.next_work(), None, "the first is under way");
    session.receive(b"IST\n");
    session.answer(&Answer::Done);
    assert_eq!(session.next_work(), order(Order::ForgetUsers(a)));
    session.answer(&Answer::Done);
    assert_eq!(session.command(), r"HOST-FLUSH\t10.0.0.1");
    assert_eq!(session.next_work(), Some(Work::Hosts));
    session.out().extend_from_slice(b"row\n");
    session.end_list();
    assert_eq!(said(&mut session), b"OK\nOK\nrow\n\n");
    assert_eq!(session.next_work(), None);
    assert!(!session.is_over());
}

#[test]
fn a_client_that_hangs_up_has_all_but_its_unfinished_line_done() {
    let mut session = session();
    session.receive(b"HOST-DOWN\t10.0.0.1\nHOST-FLUSH\t10.0.0.1\nHOST-FLUSH");
    session.end();
    assert_eq!(session.room(), 0);
    assert!(session.next_work().is_some());
    assert!(!session.is_over(), "the first is under way");
    session.answer(&Answer::Done);
    assert!(session.next_work().is_some());
    session.answer(&Answer::Done);
    assert_eq!(session.next_work(), None, "HOST-FLUSH of all was not said");
    assert!(session.is_over() && session.fault().is_none());
}

#[test]
fn what_is_no_command_ends_the_connection_after_what_was_said_before() {
    for wrong in [
        "HOST-DOWN\t10.0.0.1@t",
        "HOST-PLEASE",
        "",
        "USER-MOVE\t0\t10.0.0.1",
    ] {
        let mut session = session();
        session.receive(format!("HOST-LIST\n{wrong}\nHOST-FLUSH\n").as_bytes());
        assert_eq!(session.next_work(), Some(Work::Hosts), "{wrong}");
        session.end_list();
        assert_eq!(session.next_work(), None, "{wrong}");
        assert!(session.is_over() && session.fault().is_some());
        assert_eq!(said(&mut session), b"\n", "no reply");
        session.receive(b"HOST-LIST\n");
        assert_eq!((session.next_work(), session.room()), (None, 0));
    }
}

#[test]
fn the_first_line_must_be_the_handshake() {
    for (line, right) in [
        ("VERSION\tdirector-doveadm\t1\t7\r\n", true),
        ("VERSION\tdirector-doveadm\t2\t0\n", false),
        ("HOST-LIST\n", false),
    ] {
        let mut session = fresh();
        session.receive(line.as_bytes());
        assert_eq!(session.next_work(), None);
        assert_eq!(session.is_over(), !right, "{line}");
    }
}

#[test]
fn a_line_has_1024_bytes_at_most() {
    for (spaces, right) in [(1023 - 9, true), (1024 - 9, false)] {
        let mut session = session();
        session.receive(b"USER-KICK");
        session.receive(&vec![b'\t'; spaces]);
        assert_eq!(session.next_work(), None);
        let too_long = session.is_over();
        session.receive(b"\n");
        let work = session.next_work();
        // The empty name is none.
        assert!(work.is_some() || session.fault().is_some());
        let fault = session
            .fault()
            .map(|fault| matches!(fault, Fault::TooLong(_)));
        assert_eq!((too_long, fault == Some(true)), (!right, !right));
    }
}

#[test]
fn so_much_is_taken_and_no_more() {
    let mut session = session();
    session.receive(b"HOST-LIST\n");
    assert_eq!(session.next_work(), Some(Work::Hosts));
    while session.room() > 0 {
        let lines = b"HOST-UP\t10.0.0.1\n".repeat(100);
        let most = session.room().min(lines.len());
        session.receive(&lines[..most]);
    }
    assert!(session.input.len() <= INPUT_MAX + HELLO.len() + 10);
    session.end_list();
    let before = session.room();
    assert!(session.next_work().is_some());
    assert!(session.room() > before);
}

proptest! {
    /// However the bytes are cut, the same is done, and one reply comes for each command.
    #[test]
    fn cuts_do_not_matter(
        commands in prop::collection::vec(prop::sample::select(vec![
            "HOST-LIST\n", "HOST-UP\t10.0.0.1\n", "USER-LOOKUP\tx\r\n", "DIRECTOR-REMOVE\t::1\n", "what\n", "x",
        ]), 0..20),
        cuts in prop::collection::vec(1usize..40, 1..20),
    ) {
        let bytes = commands.concat().into_bytes();
        let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut session, mut done) = (session(), Vec::new());
            for piece in pieces {
                session.receive(piece);
                while let Some(work) = session.next_work() {
                    match &work {
                        Work::Ask(_) => session.answer(&Answer::Done),
                        Work::Lookup { .. } => session.reply(Reply::TryAgain),
                        _ => session.end_list(),
                    }
                    done.push(work);
                }
            }
            session.end();
            (done, said(&mut session), session.is_over(), session.fault().is_some())
        };
        let whole = run(&mut [&bytes[..]].into_iter());
        let mut cuts = cuts.iter().cycle();
        let (mut rest, mut pieces) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            pieces.push(piece);
            rest = more;
        }
        prop_assert!(whole.2);
        prop_assert_eq!(whole, run(&mut pieces.into_iter()));
    }
}
