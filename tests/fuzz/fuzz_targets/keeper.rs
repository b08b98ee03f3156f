//! Any bytes between the main process and the keeper: no panic, and what either understands it would be
//! told the same way again.

#![no_main]

use std::fs::File;

use homing::shell::keeper::messages::{
    DONE, decode_event, decode_listeners, encode_listeners, encode_made, encode_problem,
};
use homing::shell::keeper::{KeeperEvent, LISTENER_LIMIT};
use homing::shell::sockets::BindError;
use libfuzzer_sys::fuzz_target;

// Input: whether a descriptor comes along in one byte, and the packet.
fuzz_target!(|data: &[u8]| {
    let Some((&with_fd, packet)) = data.split_first() else {
        return;
    };
    to_keeper(packet);
    from_keeper(packet, with_fd & 1 == 1);
});

fn to_keeper(packet: &[u8]) {
    let Ok(text) = std::str::from_utf8(packet) else {
        return;
    };
    let Ok(listeners) = decode_listeners(text) else {
        return;
    };
    match encode_listeners(&listeners) {
        Ok(again) => {
            let twice = decode_listeners(&again).expect("we read what we write");
            assert_eq!(twice, listeners);
        }
        Err(_) => assert!(listeners.len() > LISTENER_LIMIT),
    }
}

fn from_keeper(packet: &[u8], with_fd: bool) {
    let fd = with_fd.then(|| File::open("/dev/null").expect("it is always there").into());
    let text = String::from_utf8_lossy(packet);
    match decode_event(&text, fd) {
        Ok(KeeperEvent::Made { index, .. }) => {
            assert!(index < LISTENER_LIMIT && with_fd);
            let fd = File::open("/dev/null").expect("it is always there").into();
            let again = decode_event(&encode_made(index), Some(fd));
            let same = |event| matches!(event, KeeperEvent::Made { index: at, .. } if at == index);
            assert!(again.is_ok_and(same));
        }
        Ok(KeeperEvent::Problem { index, class, text }) => {
            assert!(index < LISTENER_LIMIT);
            let sentence = text;
            let error = BindError { class, sentence };
            match decode_event(&encode_problem(index, &error), None) {
                Ok(KeeperEvent::Problem {
                    index: at,
                    class,
                    text: sentence,
                }) => {
                    assert_eq!(at, index);
                    assert_eq!(error, BindError { class, sentence });
                }
                other => panic!("{error:?} became {other:?}"),
            }
        }
        Ok(KeeperEvent::FirstRoundDone) => assert!(text.starts_with(DONE)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
