//! The auth client protocol (login, authreply) and the auth master protocol (userdb): the lines a
//! director looks at. Everything else is relayed unread (docs/protocol/login.md).

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::{memchr, memmem};

use super::line::{fields, number, tab, unescape};

/// Longest line of auth, LF included.
pub const MAX_LINE: usize = 16384;

/// A line from auth, as far as a director cares.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `OK` (login, authreply) or `PASS` (userdb).
    Found(Found<'a>),
    /// A final reply other than [`Reply::Found`]: `FAIL` or `NOTFOUND`. Holds the id.
    Final(&'a [u8]),
    /// `VERSION` with its minor number.
    Version(u32),
    /// `CANCELLED`, with the id.
    Cancelled(&'a [u8]),
    /// Anything else.
    Other,
}

/// The fields of a positive reply that decide about a lookup. Values are unescaped.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found<'a> {
    /// Request id, as written.
    pub id: &'a [u8],
    /// `proxy`, with or without a value: `proxy=n` counts too.
    pub proxy: bool,
    /// `host=` is there, even empty: the backend is decided already.
    pub host: bool,
    /// First `user=`.
    pub user: Option<Cow<'a, [u8]>>,
    /// Last `destuser=`; wins over `user=`.
    pub destuser: Option<Cow<'a, [u8]>>,
    /// Last `director_tag=`.
    pub tag: Cow<'a, [u8]>,
    /// `director_proxy_maybe`, with or without a value.
    pub proxy_maybe: bool,
    /// `pass=` is there.
    pub pass: bool,
    /// Last `lip=`.
    pub lip: Option<Cow<'a, [u8]>>,
    /// Last `lport=`.
    pub lport: Option<Cow<'a, [u8]>>,
    /// Last `port=`.
    pub port: Option<Cow<'a, [u8]>>,
}

impl Found<'_> {
    /// The name whose hash decides: `destuser=` if there is one, else `user=`.
    pub fn name(&self) -> Option<&[u8]> {
        self.destuser.as_deref().or(self.user.as_deref())
    }
}

/// Reads a line from auth on a login or authreply connection (`userdb` false) or on a userdb
/// connection (`userdb` true).
pub fn parse_reply(line: &[u8], userdb: bool) -> Reply<'_> {
    let (word, rest) = match tab(line) {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => return Reply::Other,
    };
    match word {
        b"OK" if !userdb => Reply::Found(parse_found(rest)),
        b"PASS" if userdb => Reply::Found(parse_found(rest)),
        b"FAIL" | b"NOTFOUND" => Reply::Final(first_field(rest)),
        b"CANCELLED" if !userdb => Reply::Cancelled(first_field(rest)),
        b"VERSION" => {
            let minor = fields(rest).nth(1).and_then(number);
            minor.map_or(Reply::Other, Reply::Version)
        }
        _ => Reply::Other,
    }
}

fn first_field(rest: &[u8]) -> &[u8] {
    &rest[..tab(rest).unwrap_or(rest.len())]
}

fn parse_found(rest: &[u8]) -> Found<'_> {
    let id = first_field(rest);
    let mut found = Found {
        id,
        ..Found::default()
    };
    if id.len() == rest.len() {
        return found;
    }
    let rest = &rest[id.len() + 1..];
    let escaped = memchr(1, rest).is_some();
    for raw in fields(rest) {
        // Not unescaped: the copy would be one more place to wipe, and the value is not needed.
        if raw.starts_with(b"pass=") {
            found.pass = true;
            continue;
        }
        let field = if escaped {
            unescape(raw)
        } else {
            Cow::Borrowed(raw)
        };
        take_field(&mut found, field);
    }
    found
}

fn take_field<'a>(found: &mut Found<'a>, field: Cow<'a, [u8]>) {
    // Most fields of a reply are none of these; the first byte tells so at once.
    match field.first() {
        Some(b'p') => {
            if is_flag(&field, b"proxy") {
                found.proxy = true;
            } else if field.starts_with(b"port=") {
                found.port = Some(value(field, 5));
            }
        }
        Some(b'u') if field.starts_with(b"user=") && found.user.is_none() => {
            found.user = Some(value(field, 5));
        }
        Some(b'h') if field.starts_with(b"host=") => found.host = true,
        Some(b'l') => {
            if field.starts_with(b"lip=") {
                found.lip = Some(value(field, 4));
            } else if field.starts_with(b"lport=") {
                found.lport = Some(value(field, 6));
            }
        }
        Some(b'd') => {
            if field.starts_with(b"destuser=") {
                found.destuser = Some(value(field, 9));
            } else if field.starts_with(b"director_tag=") {
                found.tag = value(field, 13);
            } else if is_flag(&field, b"director_proxy_maybe") {
                found.proxy_maybe = true;
            }
        }
        _ => {}
    }
}

fn is_flag(field: &[u8], name: &[u8]) -> bool {
    field
        .strip_prefix(name)
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'=')))
}

fn value(field: Cow<'_, [u8]>, from: usize) -> Cow<'_, [u8]> {
    match field {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[from..]),
        Cow::Owned(mut bytes) => {
            bytes.drain(..from);
            Cow::Owned(bytes)
        }
    }
}

/// A line from a client, as far as a director cares.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `AUTH` or `PASS`: a request begins. `about` holds its fields up to, and never including,
    /// the `resp=` with the password.
    Begin {
        /// Request id.
        id: u32,
        /// The fields, still escaped.
        about: &'a [u8],
    },
    /// `CANCEL`, with the id.
    Cancel(u32),
    /// Anything else.
    Other,
}

/// Reads a line from a client. Never looks at SASL data.
pub fn parse_request(line: &[u8]) -> Request<'_> {
    let (word, rest) = match tab(line) {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => return Request::Other,
    };
    let Some(id) = number(first_field(rest)) else {
        return Request::Other;
    };
    match word {
        b"AUTH" | b"PASS" => Request::Begin {
            id,
            about: before_resp(rest),
        },
        b"CANCEL" => Request::Cancel(id),
        _ => Request::Other,
    }
}

/// Made once: finding with a prepared needle takes a quarter of the time.
static RESP: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\tresp="));

fn before_resp(rest: &[u8]) -> &[u8] {
    &rest[..RESP.find(rest).unwrap_or(rest.len())]
}

/// What a request said about the client's connection; from [`Request::Begin`]'s `about`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// Dovecot's session id.
    pub session: &'a [u8],
    /// Address the client connected to; empty when not said.
    pub lip: &'a [u8],
    /// Port the client connected to.
    pub lport: Option<u32>,
}

/// Picks the fields of [`About`] out of a request's text.
pub fn parse_about(about: &[u8]) -> About<'_> {
    let mut found = About::default();
    // The id, and the mechanism or user name: the latter is the client's choice, `lip=…` included.
    for field in fields(about).skip(2) {
        if let Some(session) = field.strip_prefix(b"session=") {
            found.session = session;
        } else if let Some(lip) = field.strip_prefix(b"lip=") {
            found.lip = lip;
        } else if let Some(lport) = field.strip_prefix(b"lport=") {
            found.lport = number(lport);
        }
    }
    found
}

#[cfg(test)]
mod tests;
