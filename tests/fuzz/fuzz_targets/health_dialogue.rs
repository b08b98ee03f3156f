//! Any words of a backend to a probe, in any pieces: no panic, nothing after the end, and the password leaves only
//! where the protocol asks for it.

#![no_main]

use std::sync::Arc;

use homing::core::health::dialogue::{Act, Dialogue, Login, Mechanism, Protocol};
use libfuzzer_sys::fuzz_target;

// Input: a byte that chooses, and pieces that end with a byte 255.
fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let protocol = [
        Protocol::Tcp,
        Protocol::Imap,
        Protocol::Pop3,
        Protocol::Lmtp,
    ][usize::from(choice & 3)];
    let mechanism = if choice & 4 == 0 {
        Mechanism::Plain
    } else {
        Mechanism::Login
    };
    let may_login = matches!(protocol, Protocol::Imap | Protocol::Pop3) && choice & 8 != 0;
    let login = may_login.then(|| {
        Arc::new(Login {
            user: "u\"\\".to_owned(),
            password: b"p\"\\".to_vec().into(),
            mechanism,
        })
    });
    let mut dialogue = Dialogue::new(protocol, choice & 16 != 0, login);
    let mut acts = dialogue.connected();
    for piece in rest.split(|byte| *byte == 255) {
        let done = acts.iter().any(|act| matches!(act, Act::Done(_)));
        match dialogue.receive(piece) {
            Ok(more) => {
                assert!(!done || more.is_empty());
                let secure = more.contains(&Act::StartTls);
                acts.extend(more);
                if secure {
                    acts.extend(dialogue.secured());
                }
            }
            Err(why) => {
                assert!(!why.contains('\n') && why.len() < 1000);
                break;
            }
        }
    }
    let sends = |act: &&Act| matches!(act, Act::Send(_));
    assert!(acts.iter().filter(sends).count() < 8, "a dialogue is short");
});
