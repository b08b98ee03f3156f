//! Lines to commands.

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroU32;

use memchr::memchr;

use super::error::shown;
use super::{AdminError, Command, User, WHY, Weight, Whose};
use crate::wire::ip_text::parse_lenient;
use crate::wire::line::unescape;

/// In HOST-SET and HOST-UPDATE this weight is none.
const NOT_GIVEN: u32 = u32::MAX;

/// The client's first line, without LF and CR. Any minor version will do; it is not used.
///
/// # Errors
/// [`AdminError::WrongProtocol`].
pub fn handshake(line: &[u8]) -> Result<(), AdminError> {
    let minor = line.strip_prefix(b"VERSION\tdirector-doveadm\t1\t");
    match minor {
        Some(minor) if number(minor).is_some() => Ok(()),
        _ => Err(AdminError::WrongProtocol(shown(line))),
    }
}

/// A line after the first, without LF and CR. Arguments beyond those of a command are not looked at. A NUL
/// byte ends the line, as it does in C.
///
/// # Errors
/// `Empty`, `Unknown`, `Missing`, `BadArgument`.
pub fn parse(line: &[u8]) -> Result<Command<'_>, AdminError> {
    let line = &line[..memchr(0, line).unwrap_or(line.len())];
    if line.is_empty() {
        return Err(AdminError::Empty);
    }
    let (word, rest) = split(line);
    let args = |command| Args { command, rest };
    Ok(match word {
        b"HOST-LIST" => Command::HostList,
        b"HOST-LIST-REMOVED" => Command::HostListRemoved,
        b"DIRECTOR-LIST" => Command::DirectorList,
        b"DIRECTOR-ADD" => {
            let (ip, port) = args("DIRECTOR-ADD").director()?;
            Command::DirectorAdd { ip, port }
        }
        b"DIRECTOR-REMOVE" => {
            let (ip, port) = args("DIRECTOR-REMOVE").director()?;
            Command::DirectorRemove { ip, port }
        }
        b"HOST-SET" => Command::HostSet(args("HOST-SET").weight(false)?),
        b"HOST-UPDATE" => Command::HostUpdate(args("HOST-UPDATE").weight(true)?),
        b"HOST-UP" => Command::HostUp(args("HOST-UP").host()?),
        b"HOST-DOWN" => Command::HostDown(args("HOST-DOWN").host()?),
        b"HOST-REMOVE" => Command::HostRemove(args("HOST-REMOVE").host()?),
        b"HOST-FLUSH" => Command::HostFlush(args("HOST-FLUSH").host_or_all()?),
        b"HOST-RESET-USERS" => {
            let mut args = args("HOST-RESET-USERS");
            Command::HostResetUsers {
                host: args.host_or_all()?,
                max_parallel: args.max_parallel()?,
            }
        }
        b"USER-LOOKUP" => {
            let mut args = args("USER-LOOKUP");
            Command::UserLookup {
                user: user(args.next().unwrap_or_default()),
                tag: args.next().unwrap_or_default(),
                why: args.next().is_some_and(|value| *value == *WHY),
            }
        }
        b"USER-LIST" => Command::UserList(args("USER-LIST").host_or_all()?),
        b"USER-MOVE" => {
            let mut args = args("USER-MOVE");
            Command::UserMove {
                user: user(args.needed("user")?),
                host: args.host()?,
            }
        }
        b"USER-KICK" => {
            let mut args = args("USER-KICK");
            Command::UserKick {
                user: args.needed("user")?,
                nowait: args.nowait(),
            }
        }
        b"USER-KICK-ALT" => {
            let mut args = args("USER-KICK-ALT");
            Command::UserKickAlt {
                field: args.needed("field")?,
                value: args.needed("value")?,
                nowait: args.nowait(),
            }
        }
        _ => return parse_own(word, rest),
    })
}

/// Commands that only Homing knows.
fn parse_own<'a>(word: &[u8], rest: Option<&'a [u8]>) -> Result<Command<'a>, AdminError> {
    let args = |command| Args { command, rest };
    Ok(match word {
        b"HOMING-DRAIN" => {
            let mut args = args("HOMING-DRAIN");
            Command::DrainBegin {
                ip: args.host()?,
                rate: args.rate()?,
            }
        }
        b"HOMING-DRAIN-CANCEL" => Command::DrainCancel(args("HOMING-DRAIN-CANCEL").host()?),
        b"HOMING-DRAIN-LIST" => Command::DrainList,
        b"HOMING-HISTOGRAMS" => Command::Histograms(args("HOMING-HISTOGRAMS").core()?),
        b"HOMING-SESSIONS" => Command::Sessions(args("HOMING-SESSIONS").whose()?),
        b"HOMING-SESSIONS-LEFT" => Command::SessionsLeft,
        _ => return Err(AdminError::Unknown(shown(word))),
    })
}

/// The arguments that are left of a line.
struct Args<'a> {
    /// For errors.
    command: &'static str,
    /// `None`: no argument; empty: one empty argument.
    rest: Option<&'a [u8]>,
}

impl<'a> Args<'a> {
    /// The next argument without its escapes.
    fn next(&mut self) -> Option<Cow<'a, [u8]>> {
        let (field, rest) = split(self.rest?);
        self.rest = rest;
        Some(text(field))
    }

    fn needed(&mut self, argument: &'static str) -> Result<Cow<'a, [u8]>, AdminError> {
        self.next().ok_or(AdminError::Missing {
            command: self.command,
            argument,
        })
    }

    fn bad(&self, argument: &'static str, value: &[u8]) -> AdminError {
        AdminError::BadArgument {
            command: self.command,
            argument,
            value: shown(value),
        }
    }

    fn host(&mut self) -> Result<IpAddr, AdminError> {
        let value = self.needed("address")?;
        address(&value).ok_or_else(|| self.bad("address", &value))
    }

    /// An address that may be absent or empty.
    fn host_or_all(&mut self) -> Result<Option<IpAddr>, AdminError> {
        match self.next() {
            Some(value) if !value.is_empty() => match address(&value) {
                Some(ip) => Ok(Some(ip)),
                None => Err(self.bad("address", &value)),
            },
            _ => Ok(None),
        }
    }

    fn director(&mut self) -> Result<(IpAddr, Option<u16>), AdminError> {
        let ip = self.host()?;
        let Some(value) = self.next() else {
            return Ok((ip, None));
        };
        let port = number(&value).and_then(|port| u16::try_from(port).ok());
        match port.filter(|port| *port > 0) {
            Some(port) => Ok((ip, Some(port))),
            None => Err(self.bad("port", &value)),
        }
    }

    fn weight(&mut self, is_needed: bool) -> Result<Weight<'a>, AdminError> {
        let host = self.needed("address")?;
        let at = memchr(b'@', &host).unwrap_or(host.len());
        let ip = address(&host[..at]).ok_or_else(|| self.bad("address", &host))?;
        let tag = Some(behind(host, at)).filter(|tag| !tag.is_empty());
        let vhosts = match self.next() {
            Some(value) => Some(number(&value).ok_or_else(|| self.bad("vhost count", &value))?),
            None if is_needed => {
                return Err(AdminError::Missing {
                    command: self.command,
                    argument: "vhost count",
                });
            }
            None => None,
        };
        Ok(Weight {
            ip,
            tag,
            vhosts: vhosts.filter(|vhosts| *vhosts != NOT_GIVEN),
        })
    }

    fn max_parallel(&mut self) -> Result<Option<NonZeroU32>, AdminError> {
        let Some(value) = self.next() else {
            return Ok(None);
        };
        match number(&value).and_then(NonZeroU32::new) {
            Some(max) => Ok(Some(max)),
            None => Err(self.bad("number of parallel moves", &value)),
        }
    }

    fn core(&mut self) -> Result<Option<u32>, AdminError> {
        let Some(value) = self.next() else {
            return Ok(None);
        };
        match number(&value) {
            Some(core) => Ok(Some(core)),
            None => Err(self.bad("number of a core", &value)),
        }
    }

    fn rate(&mut self) -> Result<NonZeroU32, AdminError> {
        let argument = "number of users a second";
        let value = self.needed(argument)?;
        let rate = number(&value).and_then(NonZeroU32::new);
        rate.ok_or_else(|| self.bad(argument, &value))
    }

    fn whose(&mut self) -> Result<Whose<'a>, AdminError> {
        let kind = self.needed("kind")?;
        Ok(match &*kind {
            b"user" => Whose::User {
                user: user(self.needed("user")?),
                except: self.host_or_all()?,
            },
            b"name" => Whose::Name(self.needed("name")?),
            b"backend" => Whose::Backend(self.host_or_all()?),
            _ => return Err(self.bad("kind", &kind)),
        })
    }

    fn nowait(&mut self) -> bool {
        self.next().is_some_and(|value| *value == *b"nowait")
    }
}

/// What is behind the byte at `at`.
fn behind(text: Cow<'_, [u8]>, at: usize) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(at + 1..).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(at + 1..).unwrap_or_default().to_vec()),
    }
}

/// The first field of a line, and those behind it.
fn split(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'\t', line) {
        Some(end) => (&line[..end], Some(&line[end + 1..])),
        None => (line, None),
    }
}

/// An argument's value: without escapes, up to a NUL.
fn text(field: &[u8]) -> Cow<'_, [u8]> {
    match unescape(field) {
        Cow::Borrowed(value) => Cow::Borrowed(value),
        Cow::Owned(mut value) => {
            if let Some(end) = memchr(0, &value) {
                value.truncate(end);
            }
            Cow::Owned(value)
        }
    }
}

fn user(text: Cow<'_, [u8]>) -> User<'_> {
    match number(&text) {
        Some(hash) => User::Hash(hash),
        None => User::Name(text),
    }
}

/// Digits only, any number of leading zeros.
fn number(text: &[u8]) -> Option<u32> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_number)?;
    text.parse().ok()
}

fn address(text: &[u8]) -> Option<IpAddr> {
    parse_lenient(std::str::from_utf8(text).ok()?)
}
