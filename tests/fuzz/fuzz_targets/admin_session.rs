//! Any bytes in any pieces from a client of the admin socket, and any answers: no panic, bounded memory,
//! one reply for each command, and a client that is sent away hears nothing more.

#![no_main]

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use homing::admin::{Context, Session, Work};
use homing::core::backends::BackendError;
use homing::core::ring::{Answer, OrderError, RequestError};
use homing::core::user_hash::Template;
use homing::wire::admin::{GREETING, Reply};
use libfuzzer_sys::fuzz_target;

/// Far above what may wait to be worked on.
const MOST: usize = 64 * 1024;

static CONTEXT: LazyLock<Context> = LazyLock::new(|| Context {
    ring_port: 9090,
    username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
});

// Input: pieces, each a byte with its length and whether it is answered at once, then the piece. The
// client is a good one at first if the first byte is even.
fuzz_target!(|data: &[u8]| {
    let mut session = Session::new(CONTEXT.clone());
    let mut rest = data;
    if rest.first().is_some_and(|first| first % 2 == 0) {
        session.receive(GREETING);
    }
    let mut replies = lines(session.out()) - 1;
    let mut works = 0;
    while let Some((&head, more)) = rest.split_first() {
        let length = usize::from(head >> 1).min(more.len()).min(session.room());
        let (piece, after) = more.split_at(length);
        session.receive(piece);
        rest = after;
        if head & 1 == 0 {
            works += run(&mut session, head);
        }
        assert!(session.room() <= MOST);
        replies += lines(session.out());
    }
    session.end();
    works += run(&mut session, 0);
    replies += lines(session.out());
    assert!(session.is_over() && !session.is_busy());
    assert_eq!(works, replies, "one reply for each command");
    assert_eq!(session.room(), 0);
    let fault = session.fault().map(ToString::to_string);
    assert!(fault.is_none_or(|text| text.is_ascii() && text.len() < 400));
});

/// Does all that there is to do; returns how much that was.
fn run(session: &mut Session, head: u8) -> usize {
    let mut works = 0;
    while let Some(work) = session.next_work() {
        works += 1;
        assert!(session.is_busy() && session.next_work().is_none());
        assert!(session.command().is_ascii());
        match work {
            Work::Ask(_) => session.answer(&answer(head.wrapping_add(works as u8))),
            Work::Lookup { .. } => session.reply(Reply::TryAgain),
            _ => session.end_list(),
        }
    }
    works
}

fn answer(choice: u8) -> Answer {
    let ip: IpAddr = [10, 0, 0, 1].into();
    let order = match choice % 6 {
        0 => return Answer::Done,
        1 => return Answer::Failed(RequestError::TimedOut),
        2 => return Answer::Failed(RequestError::Busy),
        3 => BackendError::Unknown(ip).into(),
        4 => BackendError::TooManyTags(b"a\nb\r".to_vec()).into(),
        _ => OrderError::TooLong,
    };
    Answer::Failed(RequestError::Order(order))
}

/// Takes the lines out.
fn lines(out: &mut Vec<u8>) -> usize {
    assert!(out.is_empty() || out.ends_with(b"\n"));
    let count = out.iter().filter(|byte| **byte == b'\n').count();
    out.clear();
    count
}
