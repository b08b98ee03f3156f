//! What a director answered.

use crate::names::number;

/// One reply line, as far as the generator cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// `OK` or `PASS`.
    Found {
        id: u32,
        user: Option<&'a [u8]>,
        host: Option<&'a [u8]>,
    },
    /// `FAIL` or `NOTFOUND`.
    Failed { id: u32, temporary: bool },
    /// Nothing that belongs here.
    Malformed,
}

/// Reads a reply line. The first `user=` counts, the last `host=`, and an address (`hostip=`)
/// before a name, as login processes read them.
pub(crate) fn parse(line: &[u8]) -> Reply<'_> {
    let mut fields = Fields { rest: line };
    let kind = fields.next().unwrap_or_default();
    let Some(id) = fields.next().and_then(number) else {
        return Reply::Malformed;
    };
    match kind {
        b"OK" | b"PASS" => found(id, fields),
        b"FAIL" => Reply::Failed {
            id,
            temporary: fields.any(|field| field == b"code=temp_fail"),
        },
        b"NOTFOUND" => Reply::Failed {
            id,
            temporary: false,
        },
        _ => Reply::Malformed,
    }
}

fn found(id: u32, fields: Fields<'_>) -> Reply<'_> {
    let (mut user, mut host, mut address) = (None, None, None);
    for field in fields {
        match field.first() {
            Some(b'u') if user.is_none() => user = field.strip_prefix(b"user="),
            Some(b'h') => {
                if let Some(value) = field.strip_prefix(b"host=") {
                    host = Some(value);
                } else if let Some(value) = field.strip_prefix(b"hostip=") {
                    address = Some(value);
                }
            }
            _ => {}
        }
    }
    // A host name alone, or an address alone, is no destination for a login process.
    let host = host
        .map(|host| address.unwrap_or(host))
        .filter(|host| !host.is_empty());
    Reply::Found { id, user, host }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\t', self.rest).unwrap_or(self.rest.len());
        let field = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(line: &str) -> Option<&str> {
        match parse(line.as_bytes()) {
            Reply::Found { host, .. } => host.map(|host| std::str::from_utf8(host).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn replies_are_read() {
        let line = b"OK\t5\tuser=a\tproxy\tpass=p\tproxy_refresh=450\thost=10.0.0.1";
        let found = Reply::Found {
            id: 5,
            user: Some(b"a"),
            host: Some(b"10.0.0.1"),
        };
        assert_eq!(parse(line), found);
        assert_eq!(
            host("OK\t5\tuser=a\thost=1.1.1.1\thost=vm\thostip=2.2.2.2"),
            Some("2.2.2.2")
        );
        assert_eq!(host("PASS\t5\tuser=a\thostip=2.2.2.2"), None);
        assert_eq!(host("OK\t5\tuser=a\thost="), None);
        let temporary = parse(b"FAIL\t6\tuser=a\tcode=temp_fail");
        assert_eq!(
            temporary,
            Reply::Failed {
                id: 6,
                temporary: true
            }
        );
        assert_eq!(
            parse(b"NOTFOUND\t6"),
            Reply::Failed {
                id: 6,
                temporary: false
            }
        );
        for wrong in ["", "OK", "OK\t", "OK\tx\tuser=a", "ok\t5\tuser=a", "\t\t"] {
            assert_eq!(parse(wrong.as_bytes()), Reply::Malformed, "{wrong:?}");
        }
    }
}
