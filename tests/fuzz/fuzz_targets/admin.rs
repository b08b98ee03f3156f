//! Any bytes on the admin socket: no panic, errors fit for the log, and arguments too many change
//! nothing.

#![no_main]

use homing::wire::admin::{Command, MAX_LINE, handshake, parse};
use homing::wire::line::Splitter;
use libfuzzer_sys::fuzz_target;

/// The last arguments that commands look at are their third ones.
const MORE: &[u8] = b"\tmore";

fuzz_target!(|data: &[u8]| {
    let mut is_first = true;
    let _ = Splitter::default().feed(data, MAX_LINE, |line| {
        if std::mem::take(&mut is_first) {
            let _ = handshake(line);
            return;
        }
        match parse(line) {
            Ok(command) => check(line, &command),
            Err(error) => {
                let text = error.to_string();
                assert!(text.is_ascii() && text.len() < 400);
            }
        }
    });
});

fn check(line: &[u8], command: &Command<'_>) {
    assert!(command.waits_for_sync() >= command.answers_after_sync());
    if line.iter().filter(|byte| **byte == b'\t').count() >= 3 {
        let longer = [line, MORE].concat();
        assert_eq!(parse(&longer).as_ref(), Ok(command));
    }
}
