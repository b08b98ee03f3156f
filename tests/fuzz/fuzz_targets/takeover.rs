//! Any bytes from a process that is taken over, or to it: no panic, and what is read is written as the same.

#![no_main]

use homing::wire::takeover::{
    End, HEAD, Head, Kind, Listeners, Offer, Parked, Relay, check_hello, decode, encode,
};
use libfuzzer_sys::fuzz_target;

/// What is read is read again from what is written of it.
macro_rules! same {
    ($payload:ty, $kind:expr, $bytes:expr) => {
        if let Ok(payload) = decode::<$payload>($kind, $bytes) {
            let again = encode(&payload);
            // A number may have been written with more bytes than it needs.
            assert!(again.len() <= $bytes.len());
            assert_eq!(decode::<$payload>($kind, &again), Ok(payload));
        }
    };
}

// Input: what it is in one byte, and the bytes.
fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 7 {
        0 => same!(Relay<'_>, Kind::Relay, bytes),
        1 => same!(Parked<'_>, Kind::Parked, bytes),
        2 => same!(Offer, Kind::Offer, bytes),
        3 => same!(Listeners, Kind::Listeners, bytes),
        4 => same!(End, Kind::End, bytes),
        5 => head(bytes),
        _ => drop(check_hello(bytes)),
    }
});

fn head(bytes: &[u8]) {
    if let Some((head, _)) = bytes.split_first_chunk::<HEAD>()
        && let Ok(read) = Head::decode(*head)
    {
        assert_eq!(read.encode(), Some(*head));
    }
}
