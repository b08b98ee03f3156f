//! The client side of Dovecot 2.4's anvil, which knows all sessions, and of the admin socket that each
//! of its login processes has (docs/protocol/kicks.md, anvil).

use std::borrow::Cow;
use std::net::IpAddr;

use thiserror::Error;

use super::ip_text::{ip_text, parse_lenient};
use super::line::{escape_into, number, unescape};

/// Most bytes of a line that anvil sends, its LF included. What a login process can say of a session
/// fits into a line of auth's, 16 KiB.
pub const MAX_LINE: usize = 32 * 1024;
/// The field by which sessions are found: what Homing gives each login process of 2.4
/// (docs/protocol/login.md, the appended fields).
pub const HASH_FIELD: &str = "user_director_hash";
/// What a client says first, without waiting. The empty line says that it takes no commands itself.
pub const GREETING: &[u8] = b"VERSION\tanvil-client\t2\t0\n\n";
/// What is said first at a login process's admin socket.
pub const ADMIN_GREETING: &[u8] = b"VERSION\tmaster-admin-client\t1\t0\n";
/// Most bytes of a line that anvil reads, its LF included; a longer one ends the connection.
pub const MAX_COMMAND: usize = 1024;

/// Anvil's own greeting is not that of Dovecot 2.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it does not speak the protocol of Dovecot 2.4's anvil")]
pub struct OtherProtocol;

/// Checks the first line that anvil sends.
///
/// # Errors
/// [`OtherProtocol`].
pub fn check_greeting(line: &[u8]) -> Result<(), OtherProtocol> {
    check_version(line, b"VERSION\tanvil-server\t2\t")
}

/// Checks the first line that a login process sends.
///
/// # Errors
/// [`OtherProtocol`].
pub fn check_admin_greeting(line: &[u8]) -> Result<(), OtherProtocol> {
    check_version(line, b"VERSION\tmaster-admin-server\t1\t")
}

fn check_version(line: &[u8], expected: &[u8]) -> Result<(), OtherProtocol> {
    let minor = line.strip_prefix(expected).ok_or(OtherProtocol)?;
    number(minor).map(drop).ok_or(OtherProtocol)
}

/// What anvil is asked to do. One at a time: it answers as soon as it can, and so not always in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// End sessions of this login name.
    KickUser(&'a [u8]),
    /// End sessions with this value of a passdb field, but not those on the backend `except`.
    KickAlt {
        /// Name of the field.
        field: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// Sessions there stay.
        except: Option<IpAddr>,
    },
    /// Tell of all sessions.
    Dump,
}

impl Command<'_> {
    /// Appends the line, LF included.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Command::KickUser(name) => {
                out.extend_from_slice(b"KICK-USER\t");
                escape_into(name, out);
            }
            Command::KickAlt {
                field,
                value,
                except,
            } => {
                out.extend_from_slice(b"KICK-ALT-USER\t");
                escape_into(field, out);
                out.push(b'\t');
                escape_into(value, out);
                if let Some(except) = except {
                    out.push(b'\t');
                    out.extend_from_slice(ip_text(*except).to_string().as_bytes());
                }
            }
            Command::Dump => out.extend_from_slice(b"CONNECT-DUMP"),
        }
        out.push(b'\n');
    }
}

/// Appends what ends one session at its login process's admin socket, greeting included.
pub fn write_admin_kick(user: &[u8], guid: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(ADMIN_GREETING);
    out.extend_from_slice(b"KICK-USER\t");
    escape_into(user, out);
    out.push(b'\t');
    escape_into(guid, out);
    out.push(b'\n');
}

/// The answer of a login process: how many sessions it has ended, or its error.
pub fn parse_admin_reply(line: &[u8]) -> Result<u32, &[u8]> {
    let count = line.strip_prefix(b"+").and_then(number);
    count.ok_or(line.strip_prefix(b"-").unwrap_or(line))
}

/// A session of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// Process that has it.
    pub pid: u32,
    /// Login name.
    pub user: Cow<'a, [u8]>,
    /// Service, e.g. `imap-login`.
    pub service: Cow<'a, [u8]>,
    /// Its own number, 32 hexadecimal digits.
    pub guid: Cow<'a, [u8]>,
    /// The backend; `None`: it is not proxied.
    pub backend: Option<IpAddr>,
    others: Vec<&'a [u8]>,
}

/// Reads the answer to [`Command::Dump`].
#[derive(Debug, Default)]
pub struct Dump {
    fields: Option<Vec<Vec<u8>>>,
}

/// A line of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Names of passdb fields, or a session that cannot be understood.
    Nothing,
    /// A session.
    Session(Session<'a>),
    /// That was all.
    End,
}

/// Fields that every row has: pid, user, service, client's address, guid, backend.
const COMMON: usize = 6;

impl Dump {
    /// Reads one line.
    pub fn line<'a>(&mut self, line: &'a [u8]) -> Line<'a> {
        let mut fields = line.split(|&byte| byte == b'\t');
        if self.fields.is_none() {
            let fields = fields.map(|name| unescape(name).into_owned());
            self.fields = Some(fields.collect());
            return Line::Nothing;
        }
        if line.is_empty() {
            return Line::End;
        }
        let mut common = [&b""[..]; COMMON];
        for place in &mut common {
            let Some(field) = fields.next() else {
                return Line::Nothing;
            };
            *place = field;
        }
        let [pid, user, service, _, guid, backend] = common;
        let Some(pid) = number(pid) else {
            return Line::Nothing;
        };
        Line::Session(Session {
            pid,
            user: unescape(user),
            service: unescape(service),
            guid: unescape(guid),
            backend: std::str::from_utf8(backend).ok().and_then(parse_lenient),
            others: fields.collect(),
        })
    }

    /// The value of a session's passdb field; empty where it has none.
    pub fn field<'a>(&self, session: &Session<'a>, name: &[u8]) -> Cow<'a, [u8]> {
        let at = self
            .fields
            .as_ref()
            .and_then(|names| names.iter().position(|it| it == name));
        let value = at.and_then(|at| session.others.get(at).copied());
        unescape(value.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let mut out = Vec::new();
        let except = Some("2001:db8::1".parse().unwrap());
        for command in [
            Command::KickUser(b"a\tb"),
            Command::KickAlt {
                field: b"user_x",
                value: b"y",
                except: None,
            },
            Command::KickAlt {
                field: HASH_FIELD.as_bytes(),
                value: b"7",
                except,
            },
            Command::Dump,
        ] {
            command.write(&mut out);
        }
        write_admin_kick(b"ann", b"0123", &mut out);
        let expected = "KICK-USER\ta\x01tb\nKICK-ALT-USER\tuser_x\ty\n\
            KICK-ALT-USER\tuser_director_hash\t7\t2001:db8::1\nCONNECT-DUMP\n\
            VERSION\tmaster-admin-client\t1\t0\nKICK-USER\tann\t0123\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn greetings() {
        assert_eq!(check_greeting(b"VERSION\tanvil-server\t2\t0"), Ok(()));
        assert_eq!(check_greeting(b"VERSION\tanvil-server\t2\t7"), Ok(()));
        for other in [
            &b"VERSION\tanvil-server\t3\t0"[..],
            b"VERSION\tanvil\t2\t0",
            b"0",
            b"",
        ] {
            assert_eq!(check_greeting(other), Err(OtherProtocol));
        }
        assert_eq!(
            check_admin_greeting(b"VERSION\tmaster-admin-server\t1\t0"),
            Ok(())
        );
        assert_eq!(parse_admin_reply(b"+1"), Ok(1));
        assert_eq!(
            parse_admin_reply(b"-Unknown command"),
            Err(&b"Unknown command"[..])
        );
        assert_eq!(parse_admin_reply(b"+x"), Err(&b"+x"[..]));
    }

    #[test]
    fn a_dump_as_recorded() {
        let text = "user_director_hash\n\
            21\tuser1\timap-login\t127.0.0.1\t8fca2a158b00056b1500000083ecc375\t127.0.155.2\t12345\n\
            22\tlocal\timap\t127.0.0.1\t8fca2a158b00056b1500000083ecc376\t\t\n\
            no row\n\n";
        let mut dump = Dump::default();
        let mut lines = text.lines().map(str::as_bytes);
        assert_eq!(dump.line(lines.next().unwrap()), Line::Nothing);
        let Line::Session(proxied) = dump.line(lines.next().unwrap()) else {
            panic!("a session");
        };
        assert_eq!(
            (proxied.pid, &*proxied.user, &*proxied.service),
            (21, &b"user1"[..], &b"imap-login"[..])
        );
        assert_eq!(proxied.backend, Some("127.0.155.2".parse().unwrap()));
        assert_eq!(&*dump.field(&proxied, HASH_FIELD.as_bytes()), b"12345");
        assert_eq!(&*dump.field(&proxied, b"user_x"), b"");
        let Line::Session(local) = dump.line(lines.next().unwrap()) else {
            panic!("a session");
        };
        assert_eq!(
            (local.backend, &*dump.field(&local, HASH_FIELD.as_bytes())),
            (None, &b""[..])
        );
        assert_eq!(dump.line(lines.next().unwrap()), Line::Nothing);
        assert_eq!(dump.line(lines.next().unwrap()), Line::End);
    }

    #[test]
    fn a_dump_without_passdb_fields_begins_with_an_empty_line() {
        let mut dump = Dump::default();
        assert_eq!(dump.line(b""), Line::Nothing);
        assert_eq!(dump.line(b""), Line::End);
    }
}
