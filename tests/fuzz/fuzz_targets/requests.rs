//! Any bytes from a client: what is remembered of its requests does not depend on how they are
//! cut, and never holds SASL data.

#![no_main]

use homing::core::lookup::Local;
use homing::shell::relay::tap::Tap;
use homing::wire::auth::{Request, parse_about, parse_request};
use libfuzzer_sys::fuzz_target;

// Input: where to cut in two bytes, little-endian, and the stream.
fuzz_target!(|data: &[u8]| {
    let Some((cut, text)) = data.split_first_chunk() else {
        return;
    };
    let cut = u16::from_le_bytes(*cut);
    if let Request::Begin { id: _, about } = parse_request(text) {
        assert!(!about.windows(6).any(|window| window == b"\tresp="));
        let about = parse_about(about);
        let _ = Local::of(&about);
    }
    let cut = usize::from(cut).min(text.len());
    let (mut whole, mut cut_up) = (Tap::default(), Tap::default());
    whole.feed(text);
    cut_up.feed(&text[..cut]);
    cut_up.feed(&text[cut..]);
    assert_eq!(whole.at_boundary(), cut_up.at_boundary());
    for id in [&b"1"[..], b"2", b"17"] {
        let (a, b) = (whole.take(id), cut_up.take(id));
        let whole = (whole.local(a), whole.session(a));
        assert_eq!(whole, (cut_up.local(b), cut_up.session(b)));
    }
});
