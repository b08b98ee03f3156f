//! The line that a ring is full of, read in one pass.

use std::net::{IpAddr, Ipv4Addr};

use super::{Command, Hash};

/// Digits of a time that surely is a signed 64-bit number.
const TIME_DIGITS: usize = 18;

/// USER with a hash, an IPv4 address of four decimal parts and a time, and nothing else. Whatever is
/// written differently, right or wrong, is `None`, for [`super::parse`] to look at.
pub(super) fn user(line: &[u8]) -> Option<Command<'static>> {
    let rest = line.strip_prefix(b"USER\t")?;
    let (hash, rest) = digits(rest, 10)?;
    let mut rest = rest.strip_prefix(b"\t")?;
    let mut octets = [0; 4];
    for (at, octet) in octets.iter_mut().enumerate() {
        if at > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let (value, behind) = digits(rest, 3)?;
        *octet = u8::try_from(value).ok()?;
        rest = behind;
    }
    let (time, rest) = digits(rest.strip_prefix(b"\t")?, TIME_DIGITS)?;
    if !rest.is_empty() {
        return None;
    }
    Some(Command::User {
        hash: Hash::new(u32::try_from(hash).ok()?)?,
        host: IpAddr::V4(Ipv4Addr::from(octets)),
        time: Some(time),
    })
}

/// One to `most` digits, and what follows them.
fn digits(text: &[u8], most: usize) -> Option<(u64, &[u8])> {
    let mut value = 0;
    let mut count = 0;
    while let Some(digit) = text.get(count).map(|byte| byte.wrapping_sub(b'0'))
        && digit < 10
    {
        if count == most {
            return None;
        }
        value = value * 10 + u64::from(digit);
        count += 1;
    }
    (count > 0).then(|| (value, &text[count..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Context, Line, Role, Stage, parse};
    use super::*;

    /// What the other reader says: it is asked in a stage that this one is not for.
    fn thoroughly(line: &[u8]) -> Option<Command<'_>> {
        let context = Context {
            stage: Stage::Handshake,
            role: Role::Acceptor,
            peer_minor: 9,
        };
        match parse(line, context).ok()? {
            Line::Command(command) => Some(command),
            Line::Received(_) => None,
        }
    }

    #[test]
    fn a_usual_line() {
        let line = b"USER\t1669653170\t10.0.0.10\t1795460772";
        assert!(user(line).is_some());
        assert_eq!(user(line), thoroughly(line));
    }

    #[test]
    fn what_is_not_usual() {
        for line in [
            "USER\t0\t10.0.0.1\t1",
            "USER\t4294967296\t10.0.0.1\t1",
            "USER\t1\t10.0.0.256\t1",
            "USER\t1\t10.0.0\t1",
            "USER\t1\t10.0.0.1",
            "USER\t1\t10.0.0.1\t",
            "USER\t1\t10.0.0.1\t-1",
            "USER\t1\t10.0.0.1\t1\t",
            "USER\t1\t10.0.0.1\t9999999999999999999",
            "USER\t1\t::1\t1",
            "USERS\t1\t10.0.0.1\t1",
        ] {
            assert_eq!(user(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn both_readers_agree(
            line in "USER\t[0-9]{1,11}\t[0-9]{1,4}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\t[0-9]{0,20}[\t\0 x]?"
        ) {
            if let Some(read) = user(line.as_bytes()) {
                prop_assert_eq!(Some(read), thoroughly(line.as_bytes()));
            }
        }
    }
}
