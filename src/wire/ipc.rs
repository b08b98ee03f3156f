//! The client side of Dovecot 2.3's ipc service, which passes commands on to all login processes
//! (docs/protocol/kicks.md, ipc).

use std::borrow::Cow;
use std::net::IpAddr;

use thiserror::Error;

use super::ip_text::{ip_text, parse_lenient};
use super::line::{escape_into, push_number, unescape};

/// Most bytes of a reply's line, its LF included. A row of `LIST-FULL` has a user name and fields of the
/// passdb, none of which auth lets grow beyond its own limit of 16 KiB for a line.
pub const MAX_LINE: usize = 32 * 1024;

/// What all login processes are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// End sessions whose user has this hash, but not those on the backend `except`.
    KickHash {
        /// The user hash, as the login process computes it.
        hash: u32,
        /// Sessions there stay.
        except: Option<IpAddr>,
    },
    /// End sessions of this login name.
    KickUser(&'a [u8]),
    /// End sessions whose passdb field has this value.
    KickAlt {
        /// Name of the field.
        field: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// Tell of all sessions.
    List,
}

impl Command<'_> {
    /// Appends the line, LF included.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"proxy\t*\t");
        match self {
            Command::KickHash { hash, except } => {
                out.extend_from_slice(b"KICK-DIRECTOR-HASH\t");
                push_number(u64::from(*hash), out);
                if let Some(except) = except {
                    out.push(b'\t');
                    out.extend_from_slice(ip_text(*except).to_string().as_bytes());
                }
            }
            Command::KickUser(name) => {
                out.extend_from_slice(b"KICK\t");
                escape_into(name, out);
            }
            Command::KickAlt { field, value } => {
                out.extend_from_slice(b"KICK-ALT\t");
                escape_into(field, out);
                out.push(b'\t');
                escape_into(value, out);
            }
            Command::List => out.extend_from_slice(b"LIST-FULL"),
        }
        out.push(b'\n');
    }
}

/// A line of ipc's; the last one of a reply is `Done` or `Failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A row of one login process.
    Row(&'a [u8]),
    /// All have done it. What one of them has said: `None` without any.
    Done(Option<u64>),
    /// One has not, or nobody could be asked.
    Failed(&'a [u8]),
}

/// A line that is no reply; ipc, or whatever answers in its place, is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("ipc sent a line that begins with none of : + -")]
pub struct NoReply;

impl Reply<'_> {
    /// Reads a line.
    ///
    /// # Errors
    /// [`NoReply`].
    pub fn parse(line: &[u8]) -> Result<Reply<'_>, NoReply> {
        match line.split_first() {
            Some((b':', row)) => Ok(Reply::Row(row)),
            Some((b'+', data)) => Ok(Reply::Done(
                std::str::from_utf8(data)
                    .ok()
                    .and_then(|it| it.parse().ok()),
            )),
            Some((b'-', error)) => Ok(Reply::Failed(error)),
            _ => Err(NoReply),
        }
    }
}

/// Whether the error of a reply is that a login process ended before it answered, which the error of the
/// read or write that found out may follow (docs/protocol/kicks.md, ipc). Its sessions ended with it.
#[must_use]
pub fn process_has_ended(error: &[u8]) -> bool {
    const GONE: &[u8] = b" server connection: Connection closed";
    error.windows(GONE.len()).any(|part| part == GONE)
}

/// A session of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// Its login name.
    pub user: Cow<'a, [u8]>,
    /// The backend.
    pub backend: IpAddr,
}

/// Reads the rows of [`Command::List`]: each process sends a header of its own before its sessions, and
/// the processes' rows come mixed up.
#[derive(Debug, Default)]
pub struct Listing {
    /// Fields of a row, and which of them is the backend, by the headers so far.
    shapes: Vec<(usize, usize)>,
}

/// Headers differ by the passdb fields that a process has seen; nobody has more sorts of users.
const SHAPES: usize = 64;

impl Listing {
    /// The session of a row; `None`: it is a header, or cannot be understood. A header is a row with
    /// the names of the first field and of the backend's.
    pub fn row<'a>(&mut self, row: &'a [u8]) -> Option<Session<'a>> {
        let fields: Vec<&[u8]> = row.split(|&byte| byte == b'\t').collect();
        if fields.first() == Some(&&b"username"[..])
            && let Some(at) = fields.iter().position(|field| *field == b"dest-ip")
        {
            let shape = (fields.len(), at);
            if !self.shapes.contains(&shape) && self.shapes.len() < SHAPES {
                self.shapes.push(shape);
            }
            return None;
        }
        // All headers of the same length have the backend at the same place: it is the last but one.
        let &(_, at) = self
            .shapes
            .iter()
            .find(|(count, _)| *count == fields.len())?;
        let backend = parse_lenient(std::str::from_utf8(fields[at]).ok()?)?;
        let user = unescape(fields[0]);
        Some(Session { user, backend })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: Command<'_>) -> String {
        let mut out = Vec::new();
        command.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commands() {
        let except = Some("10.0.0.2".parse().unwrap());
        let hash = |except| Command::KickHash {
            hash: 1669653170,
            except,
        };
        let alt = Command::KickAlt {
            field: b"user_x",
            value: b"a\tb",
        };
        for (command, expected) in [
            (hash(None), "proxy\t*\tKICK-DIRECTOR-HASH\t1669653170\n"),
            (
                hash(except),
                "proxy\t*\tKICK-DIRECTOR-HASH\t1669653170\t10.0.0.2\n",
            ),
            (Command::KickUser(b"alice"), "proxy\t*\tKICK\talice\n"),
            (alt, "proxy\t*\tKICK-ALT\tuser_x\ta\x01tb\n"),
            (Command::List, "proxy\t*\tLIST-FULL\n"),
        ] {
            assert_eq!(line(command), expected);
        }
    }

    #[test]
    fn a_name_with_a_line_feed_makes_no_second_line() {
        let text = line(Command::KickUser(b"a\nproxy\t*\tKICK\tb"));
        assert_eq!(text.matches('\n').count(), 1, "{text}");
    }

    #[test]
    fn replies() {
        for (line, expected) in [
            (&b"+2"[..], Ok(Reply::Done(Some(2)))),
            (b"+", Ok(Reply::Done(None))),
            (b"+(null)", Ok(Reply::Done(None))),
            (b"-Unknown command", Ok(Reply::Failed(b"Unknown command"))),
            (b":alice\t", Ok(Reply::Row(b"alice\t"))),
            (b"", Err(NoReply)),
            (b"OK", Err(NoReply)),
        ] {
            assert_eq!(Reply::parse(line), expected);
        }
    }

    #[test]
    fn each_process_sends_its_own_header() {
        let mut listing = Listing::default();
        let mut row = |text: &'static str| {
            let session = listing.row(text.as_bytes())?;
            Some((
                String::from_utf8(session.user.into_owned()).unwrap(),
                session.backend.to_string(),
            ))
        };
        let found = |user: &str, ip: &str| Some((user.to_owned(), ip.to_owned()));
        assert_eq!(row("early\t\timap\t127.0.0.1\t10.0.0.1\t143"), None);
        assert_eq!(
            row("username\tuser_x\tservice\tsrc-ip\tdest-ip\tdest-port"),
            None
        );
        assert_eq!(
            row("alt\txalt\timap\t127.0.0.1\t10.0.0.1\t143"),
            found("alt", "10.0.0.1")
        );
        assert_eq!(row("username\tservice\tsrc-ip\tdest-ip\tdest-port"), None);
        assert_eq!(
            row("ann\timap\t127.0.0.1\t2001:db8::1\t143"),
            found("ann", "2001:db8::1")
        );
        assert_eq!(
            row("a\x01tb\tx\timap\t127.0.0.1\t10.0.0.2\t143"),
            found("a\tb", "10.0.0.2")
        );
        assert_eq!(row("short\timap"), None);
        assert_eq!(row("ann\timap\t127.0.0.1\tmail\t143"), None);
        // A user of this name is one.
        assert_eq!(
            row("username\timap\t127.0.0.1\t10.0.0.3\t143"),
            found("username", "10.0.0.3")
        );
    }
}
