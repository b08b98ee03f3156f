//! Any text is an address or not; an address comes back from its own text.

#![no_main]

use std::net::IpAddr;

use homing::core::ip_text::{ip_text, parse_lenient};
use libfuzzer_sys::fuzz_target;

// Input: the bytes of an address, and the whole as a text.
fuzz_target!(|data: &[u8]| {
    let text = std::str::from_utf8(data).unwrap_or_default();
    if let Some(ip) = parse_lenient(text) {
        assert_eq!(parse_lenient(&ip_text(ip)), Some(ip));
    }
    if let Some(&v4) = data.first_chunk::<4>() {
        comes_back(IpAddr::from(v4));
    }
    if let Some(&v6) = data.first_chunk::<16>() {
        comes_back(IpAddr::from(v6));
    }
});

fn comes_back(ip: IpAddr) {
    assert_eq!(parse_lenient(&ip_text(ip)), Some(ip));
}
