//! IP addresses as text, exactly as glibc prints them, and the lenient reading of addresses that
//! operators type (docs/protocol/placement.md, addresses).
//!
//! The text matters: it is what the hash ring hashes, so one different character places users
//! differently from the other directors.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The text that glibc's `inet_ntop` gives for `ip`.
///
/// Same as Rust's `Display` but for IPv6 addresses that begin with exactly six zero groups: glibc
/// writes their last 32 bits as a dotted quad (`::0.1.0.2`, where Rust writes `::1:2`).
pub fn ip_text(ip: IpAddr) -> String {
    if let IpAddr::V6(v6) = ip {
        let groups = v6.segments();
        // A zero seventh group makes the run of zeros longer than six: `::5` has no dotted quad.
        if groups[..6] == [0; 6] && groups[6] != 0 {
            let [.., a, b, c, d] = v6.octets();
            return format!("::{}", Ipv4Addr::new(a, b, c, d));
        }
    }
    ip.to_string()
}

/// Order of backends and directors: IPv4 before IPv6, then the address bytes.
pub fn ip_order(a: IpAddr, b: IpAddr) -> Ordering {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets().cmp(&b.octets()),
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets().cmp(&b.octets()),
        (IpAddr::V4(_), IpAddr::V6(_)) => Ordering::Less,
        (IpAddr::V6(_), IpAddr::V4(_)) => Ordering::Greater,
    }
}

/// Reads an address the way Dovecot's director reads the ones in its settings and commands.
/// `None`: it is no address (host names are not resolved here).
///
/// In this order: a decimal number is an IPv4 address in host order (`3` is 0.0.0.3); four decimal
/// parts, leading zeros and all; anything with a colon is IPv6, with or without `[ ]`; the rest is
/// what the C library's `inet_aton` takes.
pub fn parse_lenient(text: &str) -> Option<IpAddr> {
    // What nearly all are, and what all readers agree on.
    if let Ok(usual) = text.parse::<Ipv4Addr>() {
        return Some(IpAddr::V4(usual));
    }
    if let Some(number) = decimal(text, u32::MAX) {
        return Some(IpAddr::V4(number.into()));
    }
    if let Some(quad) = decimal_quad(text) {
        return Some(IpAddr::V4(quad));
    }
    if text.contains(':') {
        let bare = text
            .strip_prefix('[')
            .map_or(Some(text), |rest| rest.strip_suffix(']'))?;
        return bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    classic_ipv4(text).map(IpAddr::V4)
}

/// Digits only, any number of leading zeros, at most `max`.
fn decimal(text: &str, max: u32) -> Option<u32> {
    number(text, 10).filter(|n| *n <= max)
}

fn decimal_quad(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?, 255)? as u8;
    }
    parts.next().is_none().then(|| octets.into())
}

/// `inet_aton`: one to four parts, each decimal, octal (`0…`) or hexadecimal (`0x…`); the last one
/// fills the remaining bytes; white space ends the address, and what follows it is not looked at.
fn classic_ipv4(text: &str) -> Option<Ipv4Addr> {
    let is_space = |c: char| matches!(c, ' ' | '\t'..='\r');
    let address = text.split(is_space).next()?;
    let mut bits: u32 = 0;
    let mut parts = address.split('.');
    let mut free_bits: u32 = 32;
    while let Some(part) = parts.next() {
        let value = c_number(part)?;
        let is_last = parts.clone().next().is_none();
        if is_last {
            let fits = u64::from(value) < 1 << free_bits;
            return fits.then(|| Ipv4Addr::from(bits | value));
        }
        // Four parts at most: the fourth must be the last.
        if value > 255 || free_bits == 8 {
            return None;
        }
        free_bits -= 8;
        bits |= value << free_bits;
    }
    None
}

/// A number as C writes it: `0x1f`, `017`, `15`.
fn c_number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return number(hex, 16);
    }
    number(text, if text.starts_with('0') { 8 } else { 10 })
}

/// Digits only: Rust's own parser would also take a plus sign.
fn number(text: &str, radix: u32) -> Option<u32> {
    let digits_only = text.chars().all(|c| c.is_digit(radix));
    if digits_only {
        u32::from_str_radix(text, radix).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(ip: &str) -> String {
        ip_text(ip.parse().expect("test address"))
    }

    #[test]
    fn six_zero_groups_print_a_dotted_quad() {
        assert_eq!(text_of("::1:2"), "::0.1.0.2");
        assert_eq!(text_of("::a00:9"), "::10.0.0.9");
        assert_eq!(text_of("::1:0"), "::0.1.0.0");
        assert_eq!(text_of("::1"), "::1");
        assert_eq!(text_of("::ffff"), "::ffff");
        assert_eq!(text_of("::"), "::");
        assert_eq!(text_of("::ffff:10.0.0.9"), "::ffff:10.0.0.9");
        assert_eq!(text_of("2001:db8:0:1:1:1:1:1"), "2001:db8:0:1:1:1:1:1");
    }

    #[test]
    fn order_is_by_family_then_bytes() {
        let sorted = [
            "9.255.255.255",
            "10.0.0.9",
            "10.0.0.10",
            "::",
            "::1",
            "2001:db8::1",
        ];
        for pair in sorted.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|ip| ip.parse().expect("test address"));
            assert_eq!(ip_order(a, b), Ordering::Less, "{a} {b}");
            assert_eq!(ip_order(b, a), Ordering::Greater, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn lenient_reading_takes_back_every_printed_address(ip: IpAddr) {
            prop_assert_eq!(parse_lenient(&ip_text(ip)), Some(ip));
        }

        #[test]
        fn lenient_reading_takes_any_text(text in "[0-9a-fx:.\\[\\] +-]{0,24}") {
            let _ = parse_lenient(&text);
        }
    }
}
