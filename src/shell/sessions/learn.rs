//! Which sessions there are: at the start (docs/protocol/kicks.md, sessions that outlive the director),
//! and for whoever wants to know.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Config;
use super::serve::{dial, fault, names};
use crate::core::Mono;
use crate::shell::clock;
use crate::wire::line::{Splitter, number};
use crate::wire::{anvil, ipc};

/// How long the start may wait for it.
const LIMIT: u64 = Mono::SECOND;
/// Sessions remembered. A proxy has fewer, and more would not be told of within the time.
const SESSIONS_MAX: usize = 1_000_000;

/// A session at a login process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// Its user.
    pub user: User,
    /// The backend.
    pub backend: IpAddr,
}

/// What is known of a session's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// Its hash, which Homing has told the login process.
    Hash(u32),
    /// Its login name, to be hashed.
    Name(Vec<u8>),
}

/// A session as Dovecot lists it.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// The user's hash, if the login process was told it.
    pub hash: Option<u32>,
    /// The login name.
    pub name: &'a [u8],
    /// The backend.
    pub backend: IpAddr,
    /// The session's own number; of Dovecot 2.3 the whole row, which others of the client may share.
    pub id: &'a [u8],
}

type Each<'a> = &'a mut dyn FnMut(Listed<'_>);

/// Asks Dovecot for its sessions; waits a second at most. What cannot be had is not there, and why is
/// logged: the director can do without.
pub fn learn(config: &Config) -> Vec<Learnt> {
    let begun = clock::mono();
    let mut learnt = Vec::new();
    let done = list(config, LIMIT, &mut |session| {
        let user = match session.hash {
            Some(hash) => User::Hash(hash),
            None => User::Name(session.name.to_owned()),
        };
        if learnt.len() < SESSIONS_MAX {
            let backend = session.backend;
            learnt.push(Learnt { user, backend });
        }
    });
    let milliseconds = clock::mono().since(begun) / 1_000_000;
    let count = learnt.len();
    match done {
        Ok(()) => tracing::info!("{count} sessions are there already ({milliseconds} ms)"),
        Err(Unlisted::Off) => tracing::debug!("sessions that are there are not asked for"),
        Err(Unlisted::Nobody(why)) => {
            tracing::debug!("sessions that are there are not known: {why}");
        }
        Err(Unlisted::Cut(why)) => {
            tracing::warn!("{count} sessions are there already, perhaps more: {why}");
        }
    }
    learnt
}

/// Why not all sessions were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// Nobody is to be asked.
    Off,
    /// There is nobody to ask.
    Nobody(String),
    /// The list has begun, but there was no end of it.
    Cut(String),
}

/// Asks Dovecot for its sessions; waits for `limit` nanoseconds at most.
///
/// # Errors
/// Some sessions, or all, are not known; why.
pub fn list(config: &Config, limit: u64, each: Each<'_>) -> Result<(), Unlisted> {
    let until = clock::mono().after(limit);
    let mut faults = Vec::new();
    for name in names(config.service) {
        let path = config.base_dir.join(name);
        let stream = match dial(&path) {
            Ok(fd) => UnixStream::from(fd),
            Err(error) => {
                faults.push(fault(&path, &error));
                continue;
            }
        };
        let done = match *name {
            "ipc" => of_ipc(stream, until, each),
            _ => of_anvil(stream, until, each),
        };
        return done.map_err(|error| Unlisted::Cut(format!("{}: {error}", path.display())));
    }
    Err(match faults.is_empty() {
        true => Unlisted::Off,
        false => Unlisted::Nobody(faults.join("; ")),
    })
}

fn of_ipc(mut stream: UnixStream, until: Mono, each: Each<'_>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut request = Vec::new();
    ipc::Command::List.write(&mut request);
    stream.write_all(&request)?;
    let mut listing = ipc::Listing::default();
    lines(
        stream,
        ipc::MAX_LINE,
        until,
        |line| match ipc::Reply::parse(line) {
            Ok(ipc::Reply::Row(row)) => {
                if let Some(session) = listing.row(row) {
                    each(Listed {
                        hash: None,
                        name: &session.user,
                        backend: session.backend,
                        // Client and service: all that tells sessions apart there.
                        id: row,
                    });
                }
                Ok(false)
            }
            Ok(ipc::Reply::Done(_)) => Ok(true),
            Ok(ipc::Reply::Failed(error)) if ipc::process_has_ended(error) => Ok(true),
            Ok(ipc::Reply::Failed(error)) => Err(String::from_utf8_lossy(error).into_owned()),
            Err(error) => Err(error.to_string()),
        },
    )
}

fn of_anvil(mut stream: UnixStream, until: Mono, each: Each<'_>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut request = anvil::GREETING.to_vec();
    anvil::Command::Dump.write(&mut request);
    stream.write_all(&request)?;
    let (mut greeted, mut dump) = (false, anvil::Dump::default());
    lines(stream, anvil::MAX_LINE, until, |line| {
        if !std::mem::replace(&mut greeted, true) {
            anvil::check_greeting(line).map_err(|error| error.to_string())?;
            return Ok(false);
        }
        match dump.line(line) {
            anvil::Line::Nothing => {}
            anvil::Line::End => return Ok(true),
            anvil::Line::Session(session) => {
                let hash = number(&dump.field(&session, anvil::HASH_FIELD.as_bytes()));
                // Without a hash it is none that a director has placed.
                if let (Some(_), Some(backend)) = (hash, session.backend) {
                    each(Listed {
                        hash,
                        name: &session.user,
                        backend,
                        id: &session.guid,
                    });
                }
            }
        }
        Ok(false)
    })
}

/// Reads lines until `each` says that it was the last one.
fn lines(
    mut stream: UnixStream,
    limit: usize,
    until: Mono,
    mut each: impl FnMut(&[u8]) -> Result<bool, String>,
) -> io::Result<()> {
    let mut splitter = Splitter::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut end: Option<Result<(), String>> = None;
    while end.is_none() {
        let left = until.since(clock::mono());
        if left == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(Duration::from_nanos(left)))?;
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let cut = splitter.feed(&buffer[..count], limit, |line| {
            if end.is_none() {
                end = match each(line) {
                    Ok(false) => None,
                    Ok(true) => Some(Ok(())),
                    Err(error) => Some(Err(error)),
                };
            }
        });
        cut.map_err(io::Error::other)?;
    }
    end.unwrap_or(Ok(())).map_err(io::Error::other)
}
