//! Any bytes as a ring connection: no panic, no line longer than allowed, and what is written is
//! read again as the same.

#![no_main]

use homing::wire::ring::{Command, Context, Line, MAX_LINE, MINOR, Role, Stage, Versions, parse};
use libfuzzer_sys::fuzz_target;

const WRITE: Versions = Versions {
    peer: MINOR,
    ring: MINOR,
};

fn whole<'a>(line: &'a [u8], context: Context) -> Option<Command<'a>> {
    match parse(line, context) {
        Ok(Line::Command(command)) => Some(command),
        Ok(Line::Received(received)) => {
            let order = received.order();
            order
                .ok()
                .map(|order| Command::Order(received.origin, order))
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let _ = error.verdict();
            None
        }
    }
}

// Input: role and minor version of the peer in one byte, then the lines of one connection.
fuzz_target!(|data: &[u8]| {
    let Some((&first, text)) = data.split_first() else {
        return;
    };
    let role = if first & 128 == 0 {
        Role::Acceptor
    } else {
        Role::Dialler
    };
    let mut context = Context {
        stage: Stage::Version,
        role,
        peer_minor: u32::from(first & 15),
    };
    for line in text.split(|&byte| byte == b'\n') {
        let Some(command) = whole(line, context) else {
            continue;
        };
        check(&command, context);
        context.stage = context.stage.after(&command);
    }
});

fn check(command: &Command<'_>, context: Context) {
    let mut out = Vec::new();
    for minor in 0..=MINOR {
        let versions = Versions {
            peer: minor,
            ring: minor,
        };
        out.clear();
        let wrote = command.write(versions, &mut out);
        assert!(out.len() <= MAX_LINE + 1);
        assert_eq!(wrote.is_ok(), out.ends_with(b"\n"));
    }
    if out.pop().is_none() {
        return;
    }
    // As if it came from a director of our own version.
    let context = Context {
        role: Role::Acceptor,
        peer_minor: MINOR,
        ..context
    };
    let again = whole(&out, context).expect("we read what we write");
    let mut twice = Vec::new();
    again.write(WRITE, &mut twice).expect("it did fit");
    twice.pop();
    assert_eq!(out, twice);
}
