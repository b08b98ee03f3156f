//! Any bytes as a director's state: no panic, one answer however they are cut into pieces, and what is
//! read is written so that the same is read again. Checksums are put right, so that what is behind them
//! is reached.

#![no_main]

use homing::core::state::{Decoder, Encoder, Fault, Placed, Saved};
use libfuzzer_sys::fuzz_target;

const MAX_USERS: u64 = 1000;

fuzz_target!(|data: &[u8]| {
    look(data);
    look(&mended(data));
});

fn look(bytes: &[u8]) {
    let whole = decode(bytes, usize::MAX);
    let pieces = decode(bytes, 7);
    match &whole {
        Ok(saved) => {
            assert_eq!(pieces.as_ref(), Ok(saved));
            assert!(saved.user_count() <= MAX_USERS);
            assert_eq!(saved.users.len(), saved.backends.len());
            let again = decode(&encode(saved), 4096).expect("we read what we write");
            assert_eq!(
                (&again.head, &again.backends),
                (&saved.head, &saved.backends)
            );
            let sorted = |saved: &Saved| {
                let mut users = saved.users.clone();
                users.iter_mut().for_each(|its| its.sort_unstable());
                users
            };
            assert_eq!(sorted(&again), sorted(saved));
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(pieces.is_err());
        }
    }
}

fn decode(bytes: &[u8], piece: usize) -> Result<Saved, Fault> {
    let mut decoder = Decoder::new(MAX_USERS);
    for piece in bytes.chunks(piece) {
        decoder.feed(piece)?;
    }
    decoder.finish()
}

fn encode(saved: &Saved) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::begin(&saved.head, &mut out);
    encoder.backends(&saved.backends, &mut out);
    for (backend, users) in saved.users.iter().enumerate() {
        let backend = u16::try_from(backend).expect("there are never so many");
        let mut placed: Vec<Placed> = users.iter().map(|&user| Placed { backend, user }).collect();
        encoder.users(&mut placed, &mut out);
    }
    encoder.end(&mut out);
    out
}

/// The same with the right checksum behind every section.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut at = 12;
    while let Some(length) = bytes.get(at + 4..at + 8) {
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let end = at + 8 + length;
        let Some(section) = bytes.get(at..end) else {
            break;
        };
        let crc = crc32fast::hash(section).to_le_bytes();
        let Some(place) = bytes.get_mut(end..end + 4) else {
            break;
        };
        place.copy_from_slice(&crc);
        at = end + 4;
    }
    bytes
}
