//! Any answer of a flush script: the same result and text however it is cut, and never much of it kept.

#![no_main]

use homing::wire::script::{Answer, KEPT};
use libfuzzer_sys::fuzz_target;

fn read(parts: &[&[u8]]) -> (Option<bool>, Option<bool>, String) {
    let mut answer = Answer::default();
    parts.iter().for_each(|part| answer.push(part));
    (answer.result(false), answer.result(true), answer.text())
}

// Input: where to cut in two bytes, little-endian, and the answer.
fuzz_target!(|data: &[u8]| {
    let Some((cut, text)) = data.split_first_chunk() else {
        return;
    };
    let cut = usize::from(u16::from_le_bytes(*cut)).min(text.len());
    let (plain, dotted, said) = read(&[text]);
    assert_eq!(
        (plain, dotted, said.clone()),
        read(&[&text[..cut], &text[cut..]])
    );
    assert_eq!(
        plain.is_some(),
        text.ends_with(b"+\n") || text.ends_with(b"-\n")
    );
    assert!(dotted.is_none() || dotted == plain);
    // Escapes of one byte are no longer than \u{10ffff}.
    assert!(said.len() <= KEPT * 10 && !said.contains('\n'));
});
