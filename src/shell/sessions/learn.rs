//! Sessions that are there when the director starts (docs/protocol/kicks.md, sessions that outlive the
//! director).

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

/// Asks Dovecot for its sessions; waits a second at most. What cannot be had is not there, and why is
/// logged: the director can do without.
pub fn learn(config: &Config) -> Vec<Learnt> {
    let begun = clock::mono();
    let until = begun.after(LIMIT);
    for name in names(config.service) {
        let path = config.base_dir.join(name);
        let stream = match dial(&path) {
            Ok(fd) => UnixStream::from(fd),
            Err(error) => {
                tracing::debug!(
                    "sessions that are there are not known: {}",
                    fault(&path, &error)
                );
                continue;
            }
        };
        let mut learnt = Vec::new();
        let done = match *name {
            "ipc" => of_ipc(stream, until, &mut learnt),
            _ => of_anvil(stream, until, &mut learnt),
        };
        let milliseconds = clock::mono().since(begun) / 1_000_000;
        let count = learnt.len();
        match done {
            Ok(()) => tracing::info!("{count} sessions are there already ({milliseconds} ms)"),
            Err(error) => tracing::warn!(
                "{count} sessions are there already, perhaps more: {}: {error}",
                path.display()
            ),
        }
        return learnt;
    }
    Vec::new()
}

fn of_ipc(mut stream: UnixStream, until: Mono, learnt: &mut Vec<Learnt>) -> io::Result<()> {
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
                    note(
                        learnt,
                        User::Name(session.user.into_owned()),
                        session.backend,
                    );
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

fn of_anvil(mut stream: UnixStream, until: Mono, learnt: &mut Vec<Learnt>) -> io::Result<()> {
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
                if let (Some(hash), Some(backend)) = (hash, session.backend) {
                    note(learnt, User::Hash(hash), backend);
                }
            }
        }
        Ok(false)
    })
}

fn note(learnt: &mut Vec<Learnt>, user: User, backend: IpAddr) {
    if learnt.len() < SESSIONS_MAX {
        learnt.push(Learnt { user, backend });
    }
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
