//! Any bytes on the keep-alive FIFO: as many names, however the bytes are cut, and each has a hash.

#![no_main]

use std::sync::LazyLock;

use homing::core::UserHash;
use homing::core::user_hash::Template;
use homing::wire::line::{Splitter, unescape};
use libfuzzer_sys::fuzz_target;

static TEMPLATE: LazyLock<Template> =
    LazyLock::new(|| Template::parse("%Lu", &|_| None).expect("a valid template"));

const LIMIT: usize = 1024;

fn hashes(parts: &[&[u8]]) -> (Vec<UserHash>, usize) {
    let mut splitter = Splitter::default();
    let (mut hashes, mut skipped, mut scratch) = (Vec::new(), 0, Vec::new());
    for part in parts {
        skipped += splitter.feed_skipping(part, LIMIT, |line| {
            hashes.push(TEMPLATE.hash(&unescape(line), &mut scratch));
        });
    }
    (hashes, skipped)
}

// Input: where to cut in two bytes, little-endian, and the stream.
fuzz_target!(|data: &[u8]| {
    let Some((cut, text)) = data.split_first_chunk() else {
        return;
    };
    let cut = u16::from_le_bytes(*cut);
    let cut = usize::from(cut).min(text.len());
    let whole = hashes(&[text]);
    assert_eq!(whole, hashes(&[&text[..cut], &text[cut..]]));
    assert!(whole.0.iter().all(|hash| hash.0 != 0));
});
