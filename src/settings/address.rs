//! IP addresses as Dovecot reads them: a plain number is an IPv4 address, `10.1` is 10.0.0.1, IPv6
//! stands with or without brackets (docs/protocol/configuration.md, addresses).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Reads an address; `None` when the text is none (then it may be a host name).
pub fn parse_address(text: &str) -> Option<IpAddr> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u32>().ok().map(|n| Ipv4Addr::from(n).into());
    }
    if text.contains(':') {
        let inner = text
            .strip_prefix('[')
            .map_or(Some(text), |t| t.strip_suffix(']'))?;
        return inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Some(ip.into());
    }
    old_ipv4(text).map(|n| Ipv4Addr::from(n).into())
}

/// True when the address is written the way it is usually written, so that no reader is surprised.
pub fn is_plain(text: &str) -> bool {
    text.contains(':') || text.parse::<Ipv4Addr>().is_ok()
}

/// One to four parts, each decimal, octal (`0…`) or hexadecimal (`0x…`); the last part fills all
/// remaining bytes.
fn old_ipv4(text: &str) -> Option<u32> {
    let parts: Vec<u64> = text.split('.').map(old_number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|&p| p > 255) {
        return None;
    }
    let room = 32 - 8 * first.len() as u32;
    if *last >= 1u64 << room {
        return None;
    }
    let high = first.iter().fold(0u64, |n, p| n << 8 | p);
    u32::try_from(high << room | last).ok()
}

fn old_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_dovecot_reads() {
        let cases = [
            ("3", "0.0.0.3"),
            ("1234", "0.0.4.210"),
            ("10.1", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("010.0.0.1", "8.0.0.1"),
            ("::2", "::2"),
            ("[::2]", "::2"),
            ("2001:db8::a", "2001:db8::a"),
        ];
        for (text, want) in cases {
            assert_eq!(parse_address(text), Some(want.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "a",
            "10.0.0.256",
            "1.2.3.4.5",
            "4294967296",
            "[::1",
            "::1]",
            "1..2",
            "10.+1",
            "0x",
        ] {
            assert_eq!(parse_address(text), None, "{text}");
        }
        assert!(!is_plain("10.1") && is_plain("10.0.0.1") && is_plain("[::1]"));
    }
}
