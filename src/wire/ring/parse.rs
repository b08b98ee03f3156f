//! Lines to commands.

use std::borrow::Cow;

use memchr::memchr;

use super::error::shown;
use super::fields::{Fields, split_word, text, time_of, u64_of};
use super::usual;
use super::{
    CONSISTENT_HASHING, Command, Context, HOMING_FIELD, HandUser, HandUsers, Host, JOINING_FIELD,
    Load, MAJOR, MAX_LINE, MAX_VHOSTS, MINOR_USER_TIME, Order, Origin, PROTOCOL, RingError, Role,
    Stage, Sync, TLS_FIELD,
};

/// A line, read as far as it is safe to read it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole command.
    Command(Command<'a>),
    /// The origin of one; the rest is behind [`Received::order`].
    Received(Received<'a>),
}

/// A command with an origin, whose own fields were not looked at: those of a duplicate may be
/// anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Who issued it.
    pub origin: Origin,
    kind: Kind,
    fields: Fields<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    UserWeak,
    Host,
    HostRemove,
    HostFlush,
    UserMove,
    UserKick,
    UserKickAlt,
    UserKickHash,
    UserKilledEverywhere,
}

impl Kind {
    fn of(word: &[u8]) -> Option<(Kind, &'static str)> {
        Some(match word {
            b"USER-WEAK" => (Kind::UserWeak, "USER-WEAK"),
            b"HOST" => (Kind::Host, "HOST"),
            b"HOST-REMOVE" => (Kind::HostRemove, "HOST-REMOVE"),
            b"HOST-FLUSH" => (Kind::HostFlush, "HOST-FLUSH"),
            b"USER-MOVE" => (Kind::UserMove, "USER-MOVE"),
            b"USER-KICK" => (Kind::UserKick, "USER-KICK"),
            b"USER-KICK-ALT" => (Kind::UserKickAlt, "USER-KICK-ALT"),
            b"USER-KICK-HASH" => (Kind::UserKickHash, "USER-KICK-HASH"),
            b"USER-KILLED-EVERYWHERE" => (Kind::UserKilledEverywhere, "USER-KILLED-EVERYWHERE"),
            _ => return None,
        })
    }
}

impl<'a> Received<'a> {
    /// Whether the fields are looked at even in a duplicate: USER-WEAK and USER-KILLED-EVERYWHERE.
    pub fn is_read_when_duplicate(&self) -> bool {
        matches!(self.kind, Kind::UserWeak | Kind::UserKilledEverywhere)
    }

    /// The command's own fields.
    ///
    /// # Errors
    /// `FieldCount`, `BadField`, `ZeroHash`, `TooManyVhosts`.
    pub fn order(&self) -> Result<Order<'a>, RingError> {
        let fields = self.fields;
        Ok(match self.kind {
            Kind::UserWeak => {
                let mut fields = fields.exactly(2)?;
                Order::UserWeak {
                    hash: fields.hash()?,
                    host: fields.ip("host")?,
                }
            }
            Kind::Host => Order::Host(host(fields)?),
            Kind::HostRemove => Order::HostRemove(fields.exactly(1)?.ip("host")?),
            Kind::HostFlush => Order::HostFlush(fields.exactly(1)?.ip("host")?),
            Kind::UserMove => {
                let mut fields = fields.exactly(2)?;
                Order::UserMove {
                    hash: fields.hash()?,
                    host: fields.ip("host")?,
                }
            }
            Kind::UserKick => Order::UserKick(fields.exactly(1)?.string()),
            Kind::UserKickAlt => {
                let mut fields = fields.exactly(2)?;
                Order::UserKickAlt {
                    field: fields.string(),
                    value: fields.string(),
                }
            }
            Kind::UserKickHash => {
                let mut fields = fields.exactly(2)?;
                Order::UserKickHash {
                    hash: fields.hash()?,
                    except: fields.ip("spared host")?,
                }
            }
            Kind::UserKilledEverywhere => Order::UserKilledEverywhere(fields.exactly(1)?.hash()?),
        })
    }
}

/// Reads a line, without its LF and the CR before it. A NUL byte ends the line, as it does in C.
///
/// # Errors
/// See [`RingError`]; the connection is of no further use.
pub fn parse(line: &[u8], context: Context) -> Result<Line<'_>, RingError> {
    if line.len() > MAX_LINE {
        return Err(RingError::TooLong);
    }
    if context.stage == Stage::Established
        && let Some(user) = usual::user(line)
    {
        return Ok(Line::Command(user));
    }
    let line = &line[..memchr(0, line).unwrap_or(line.len())];
    if line.is_empty() {
        return Err(RingError::Empty);
    }
    let (word, rest) = split_word(line);
    let word = &*text(word);
    match context.stage {
        Stage::Version => match word {
            b"VERSION" => version(Fields::new("VERSION", rest)),
            _ => Err(not_yet(word, "VERSION")),
        },
        Stage::Me => match word {
            b"ME" => me(Fields::new("ME", rest)),
            b"VERSION" => Err(RingError::Again("VERSION")),
            _ => Err(not_yet(word, "ME")),
        },
        Stage::Hosts => return host_block(word, rest).map(Line::Command),
        Stage::Handshake => match handshake(word, rest, context).transpose() {
            Some(command) => command,
            None => return ordinary(word, rest),
        },
        Stage::Established => return ordinary(word, rest),
    }
    .map(Line::Command)
}

fn not_yet(word: &[u8], expected: &'static str) -> RingError {
    RingError::NotYet {
        got: shown(word),
        expected,
    }
}

fn host_block<'a>(word: &[u8], rest: Option<&'a [u8]>) -> Result<Command<'a>, RingError> {
    match word {
        b"HOST" => host(Fields::new("HOST", rest)).map(Command::HandHost),
        b"HOST-HAND-END" => {
            let flag = Fields::new("HOST-HAND-END", rest).u32("flag");
            Ok(Command::HostHandEnd(flag.is_ok_and(|flag| flag != 0)))
        }
        b"VERSION" => Err(RingError::Again("VERSION")),
        b"ME" => Err(RingError::Again("ME")),
        _ => Err(RingError::InHostBlock(shown(word))),
    }
}

/// A command that only the handshake has; `None`: it is none.
fn handshake<'a>(
    word: &[u8],
    rest: Option<&'a [u8]>,
    context: Context,
) -> Result<Option<Command<'a>>, RingError> {
    let accepted = context.role == Role::Acceptor;
    match word {
        b"VERSION" => Err(RingError::Again("VERSION")),
        b"ME" => Err(RingError::Again("ME")),
        b"OPTIONS" => options(Fields::new("OPTIONS", rest)).map(Some),
        b"DONE" => Ok(Some(Command::Done)),
        b"HOST-HAND-START" if accepted => {
            let flag = Fields::new("HOST-HAND-START", rest)
                .at_least(1)?
                .u32("flag")?;
            Ok(Some(Command::HostHandStart(flag != 0)))
        }
        b"HOST-HAND-START" => Err(RingError::WrongSide),
        b"U" if accepted => hand_user(Fields::new("U", rest)).map(Some),
        b"UU" if accepted => hand_users(Fields::new("UU", rest))
            .map(Command::HandUsers)
            .map(Some),
        b"USER" if accepted && context.peer_minor < MINOR_USER_TIME => {
            let fields = Fields::new("USER", rest);
            if fields.count() > 2 {
                hand_user(fields).map(Some)
            } else {
                Ok(None)
            }
        }
        _ => Ok(None),
    }
}

fn ordinary<'a>(word: &[u8], rest: Option<&'a [u8]>) -> Result<Line<'a>, RingError> {
    let command = match word {
        b"USER" => user(Fields::new("USER", rest))?,
        b"USERS" => Command::Users(hand_users(Fields::new("USERS", rest))?),
        b"ASK" => {
            let mut fields = Fields::new("ASK", rest).exactly(2)?;
            Command::Ask {
                hash: fields.hash()?,
                tag: fields.string(),
            }
        }
        b"PING" => Command::Ping(load(Fields::new("PING", rest))),
        b"PONG" => Command::Pong(load(Fields::new("PONG", rest))),
        b"SYNC" => Command::Sync(sync(Fields::new("SYNC", rest))?),
        b"CONNECT" => Command::Connect(Fields::new("CONNECT", rest).exactly(2)?.director()?),
        b"QUIT" => Command::Quit(joined(Fields::new("QUIT", rest))),
        b"DIRECTOR" => Command::Director(Fields::new("DIRECTOR", rest).at_least(2)?.director()?),
        b"DIRECTOR-REMOVE" => {
            let mut fields = Fields::new("DIRECTOR-REMOVE", rest).at_least(2)?;
            Command::DirectorRemove(fields.director()?)
        }
        b"USER-KILLED" => Command::UserKilled(Fields::new("USER-KILLED", rest).exactly(1)?.hash()?),
        _ => {
            let Some((kind, name)) = Kind::of(word) else {
                return Err(RingError::Unknown(shown(word)));
            };
            let mut fields = Fields::new(name, rest).at_least(3)?;
            let origin = fields.origin()?;
            return Ok(Line::Received(Received {
                origin,
                kind,
                fields,
            }));
        }
    };
    Ok(Line::Command(command))
}

fn version(fields: Fields<'_>) -> Result<Command<'_>, RingError> {
    let mut fields = fields.at_least(3)?;
    let name = fields.string();
    if *name != *PROTOCOL {
        return Err(RingError::WrongProtocol(shown(&name)));
    }
    let major = fields.u32("major version")?;
    let minor = fields.u32("minor version")?;
    if major != MAJOR {
        return Err(RingError::WrongMajor { major, minor });
    }
    let mut homing = 0;
    let mut tls = false;
    let mut joining = false;
    while let Some(field) = fields.optional() {
        // Whatever else somebody adds is none of our business.
        let level = field
            .strip_prefix(HOMING_FIELD)
            .and_then(crate::wire::line::number);
        homing = level.unwrap_or(homing);
        tls |= *field == *TLS_FIELD;
        joining |= *field == *JOINING_FIELD;
    }
    Ok(Command::Version {
        minor,
        homing,
        tls,
        joining,
    })
}

fn me(fields: Fields<'_>) -> Result<Command<'_>, RingError> {
    let mut fields = fields.at_least(2)?;
    Ok(Command::Me {
        id: fields.director()?,
        time: fields.optional_time()?,
    })
}

fn options(mut fields: Fields<'_>) -> Result<Command<'_>, RingError> {
    while let Some(option) = fields.optional() {
        if *option == *CONSISTENT_HASHING {
            return Ok(Command::Options);
        }
    }
    Err(RingError::NoConsistentHashing)
}

fn host(fields: Fields<'_>) -> Result<Host<'_>, RingError> {
    let mut fields = fields.at_least(2)?;
    let ip = fields.ip("host")?;
    let vhosts = fields.u32("vhost count")?;
    if vhosts > MAX_VHOSTS {
        return Err(RingError::TooManyVhosts(vhosts));
    }
    let tag = fields.string();
    let (down, changed) = match fields.optional() {
        Some(state) => state_of(&state).ok_or_else(|| fields.bad("state", &state))?,
        None => (false, 0),
    };
    let name = fields.optional().filter(|name| !name.is_empty());
    Ok(Host {
        ip,
        vhosts,
        tag,
        down,
        changed,
        name,
    })
}

/// `U` or `D` and a time.
fn state_of(state: &[u8]) -> Option<(bool, u64)> {
    let (letter, time) = state.split_first()?;
    let down = match letter {
        b'U' => false,
        b'D' => true,
        _ => return None,
    };
    Some((down, time_of(time)?))
}

fn hand_user(fields: Fields<'_>) -> Result<Command<'_>, RingError> {
    let mut fields = fields.at_least(3)?;
    Ok(Command::HandUser(HandUser {
        hash: fields.hash()?,
        host: fields.ip("host")?,
        time: fields.u32("time")?,
        weak: *fields.string() == *b"w",
    }))
}

fn hand_users(fields: Fields<'_>) -> Result<HandUsers<'_>, RingError> {
    let mut fields = fields.exactly(3)?;
    let host = fields.ip("host")?;
    let since = fields.u32("time")?;
    let packed = fields.string();
    match HandUsers::read(host, since, packed.clone()) {
        Some(users) => Ok(users),
        None => Err(fields.bad("users", &packed)),
    }
}

fn user(fields: Fields<'_>) -> Result<Command<'_>, RingError> {
    let mut fields = fields.at_least(2)?;
    Ok(Command::User {
        hash: fields.hash()?,
        host: fields.ip("host")?,
        time: fields.optional_time()?,
    })
}

fn sync(fields: Fields<'_>) -> Result<Sync, RingError> {
    let mut fields = fields.at_least(3)?;
    let director = fields.director()?;
    let seq = fields.u32("sequence number")?;
    let minor = fields.u32_or("minor version", 0)?;
    let time = match fields.count() {
        0 => None,
        _ => Some(fields.u32("time")?),
    };
    Ok(Sync {
        director,
        seq,
        minor,
        time,
        hosts_hash: fields.u32_or("hosts hash", 0)?,
    })
}

/// Two numbers, or nothing.
fn load(mut fields: Fields<'_>) -> Option<Load> {
    let (time, waiting) = (fields.optional()?, fields.optional()?);
    Some(Load {
        time: time_of(&time)?,
        waiting: u64_of(&waiting)?,
    })
}

/// All fields with spaces between them.
fn joined(mut fields: Fields<'_>) -> Cow<'_, [u8]> {
    let mut all = fields.string();
    while let Some(field) = fields.optional() {
        let all = all.to_mut();
        all.push(b' ');
        all.extend_from_slice(&field);
    }
    all
}
