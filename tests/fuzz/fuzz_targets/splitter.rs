//! However a stream is cut into pieces, the same lines come out of it.

#![no_main]

use homing::wire::line::{Splitter, TooLong, escape_into, fields, number, push_number, unescape};
use libfuzzer_sys::fuzz_target;

/// Small, so that the limit is met often.
const LIMIT: usize = 24;

/// Pieces of the lengths that `cuts` says, then the rest.
fn pieces<'a>(cuts: &'a [u8], mut text: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let cut = cuts.iter().map(|&length| usize::from(length));
    cut.chain([usize::MAX]).map(move |length| {
        let (piece, rest) = text.split_at(length.min(text.len()));
        text = rest;
        piece
    })
}

fn strict<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<(), TooLong>) {
    let mut splitter = Splitter::default();
    let mut lines = Vec::new();
    for part in parts {
        if let Err(error) = splitter.feed(part, LIMIT, |line| lines.push(line.to_vec())) {
            return (lines, Err(error));
        }
        assert!(splitter.unfinished().len() < LIMIT);
    }
    (lines, Ok(()))
}

fn skipping<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, usize, bool) {
    let mut splitter = Splitter::default();
    let mut lines = Vec::new();
    let mut skipped = 0;
    for part in parts {
        skipped += splitter.feed_skipping(part, LIMIT, |line| lines.push(line.to_vec()));
        assert!(splitter.unfinished().len() < LIMIT);
    }
    (lines, skipped, splitter.at_boundary())
}

// Input: how many cuts, the length of each piece, the stream.
fuzz_target!(|data: &[u8]| {
    let Some((&count, rest)) = data.split_first() else {
        return;
    };
    let (cuts, text) = rest.split_at(usize::from(count).min(rest.len()));
    let whole = strict([text].into_iter());
    assert_eq!(strict(pieces(cuts, text)), whole);
    let once = skipping([text].into_iter());
    assert_eq!(skipping(pieces(cuts, text)), once);
    assert_eq!(once.2, text.is_empty() || text.ends_with(b"\n"));
    if whole.1.is_ok() {
        assert_eq!((&whole.0, 0), (&once.0, once.1));
    }

    let mut escaped = Vec::new();
    escape_into(text, &mut escaped);
    assert_eq!(&*unescape(&escaped), text);
    assert_eq!(fields(&escaped).count(), 1);
    assert!(unescape(text).len() <= text.len());
    assert_eq!(fields(text).collect::<Vec<_>>().join(&b'\t'), text);
    if let Some(value) = number(text) {
        let mut digits = Vec::new();
        push_number(u64::from(value), &mut digits);
        assert!(text.ends_with(&digits));
    }
});
