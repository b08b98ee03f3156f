//! A stub of Dovecot's auth server: any user, any password, always proxied. With it behind the
//! director only the director is measured.
//!
//! It runs in a thread of its own ([`StubAuth::spawn`]) or inside the generator's
//! ([`Plan::stub_auth`](crate::Plan::stub_auth)).

mod protocol;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mio::event::Event;
use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use serde::Serialize;

use crate::error::Error;
use crate::lines::{Inbox, Outbox, READ_SIZE, Reading};
pub(crate) use protocol::ok_line;
use protocol::{Answers, Dialogue, Protocol};

/// Tokens from here on are the stub's, below they are the generator's.
const FIRST_TOKEN: usize = 1 << 32;
const LISTENERS: usize = 2;
/// Connections of one stub; others wait in the backlog.
const MAX_CONNECTIONS: usize = 1 << 17;

/// What a stub auth server is to do.
#[derive(Clone, Debug, Serialize)]
pub struct StubConfig {
    /// Where to listen with the auth client protocol (Dovecot: `auth-login`).
    pub login: Option<PathBuf>,
    /// Where to listen with the auth master protocol (Dovecot: `auth-userdb`).
    pub userdb: Option<PathBuf>,
    /// Minor version of the auth client protocol: 2 in Dovecot 2.3, 3 and 4 in 2.4.
    pub minor: u32,
    /// More fields for successful replies, such as `director_tag=a`, already escaped.
    pub fields: Vec<String>,
    /// Director tags: every user has one of these, always the same. None: no user has any.
    pub tags: Vec<String>,
    /// Share of logins that fail, 0 to 1.
    pub fail_share: f64,
}

impl Default for StubConfig {
    fn default() -> Self {
        Self {
            login: None,
            userdb: None,
            minor: 2,
            fields: Vec::new(),
            tags: Vec::new(),
            fail_share: 0.0,
        }
    }
}

struct Connection {
    stream: UnixStream,
    protocol: Protocol,
    dialogue: Dialogue,
    inbox: Inbox,
    outbox: Outbox,
    waits_to_write: bool,
}

/// The stub as a part of somebody's event loop.
pub(crate) struct Stub {
    answers: Answers,
    listeners: Vec<(UnixListener, Protocol, PathBuf)>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Somebody could not be accepted: try again when a connection ends.
    starved: bool,
    scratch: Vec<u8>,
}

impl Stub {
    /// Listens; nothing is accepted before events are passed to [`Stub::ready`].
    pub(crate) fn listen(config: &StubConfig, registry: &Registry) -> Result<Self, Error> {
        check(config)?;
        let wanted = [
            (&config.login, Protocol::Client),
            (&config.userdb, Protocol::Master),
        ];
        let mut listeners = Vec::new();
        for (path, protocol) in wanted {
            let Some(path) = path else { continue };
            let mut listener = bind(path)?;
            let token = Token(FIRST_TOKEN + listeners.len());
            registry
                .register(&mut listener, token, Interest::READABLE)
                .map_err(Error::kernel("cannot watch the stub auth server's socket"))?;
            listeners.push((listener, protocol, path.clone()));
        }
        Ok(Self {
            answers: Answers::new(config),
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            starved: false,
            scratch: vec![0; READ_SIZE],
        })
    }

    /// Whether an event is for the stub.
    pub(crate) fn owns(token: Token) -> bool {
        token.0 >= FIRST_TOKEN
    }

    /// Handles one event. A connection in trouble is closed: it is the director's business to
    /// notice, and the generator counts what that costs.
    pub(crate) fn ready(&mut self, registry: &Registry, event: &Event) {
        let index = event.token().0 - FIRST_TOKEN;
        if index < LISTENERS {
            self.accept(registry, index);
            return;
        }
        let index = index - LISTENERS;
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        let served = connection.serve(&mut self.answers, &mut self.scratch, event.is_read_closed());
        let wanted = matches!(served, Ok(true));
        if wanted && connection.watch(registry, event.token()).is_ok() {
            return;
        }
        self.connections[index] = None; // closing takes it out of the poll as well
        self.free.push(index);
        if std::mem::take(&mut self.starved) {
            (0..self.listeners.len()).for_each(|listener| self.accept(registry, listener));
        }
    }

    fn accept(&mut self, registry: &Registry, listener: usize) {
        while let Some((listener, protocol, _)) = self.listeners.get(listener) {
            if self.connections.len() - self.free.len() >= MAX_CONNECTIONS {
                self.starved = true;
                return;
            }
            match listener.accept() {
                Ok((stream, _)) => {
                    let protocol = *protocol;
                    self.add(registry, stream, protocol);
                }
                Err(error) => {
                    self.starved |= error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    fn add(&mut self, registry: &Registry, stream: UnixStream, protocol: Protocol) {
        let mut connection = Connection {
            stream,
            protocol,
            dialogue: Dialogue::default(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            waits_to_write: false,
        };
        let out = connection.outbox.buffer();
        self.answers.greet(protocol, &mut connection.dialogue, out);
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let token = Token(FIRST_TOKEN + LISTENERS + index);
        let registered = registry.register(&mut connection.stream, token, Interest::READABLE);
        let greeted = connection.outbox.flush(&mut connection.stream);
        if registered.is_ok() && greeted.is_ok() && connection.watch(registry, token).is_ok() {
            self.connections[index] = Some(connection);
        } else {
            self.free.push(index);
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        for (_, _, path) in &self.listeners {
            // Somebody else may have removed it; there is nobody to tell.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Connection {
    fn serve(
        &mut self,
        answers: &mut Answers,
        scratch: &mut [u8],
        until_end: bool,
    ) -> io::Result<bool> {
        let Self {
            stream,
            protocol,
            dialogue,
            inbox,
            outbox,
            ..
        } = self;
        let reading = inbox.read(stream, scratch, until_end, |_, line| {
            answers.answer(*protocol, dialogue, line, outbox.buffer())
        })?;
        self.outbox.flush(&mut self.stream)?;
        Ok(reading == Reading::Drained)
    }

    /// Asks for writability only while something waits for it: otherwise every read of the peer
    /// would wake the poll.
    fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let waits = !self.outbox.buffer().is_empty();
        if waits != self.waits_to_write {
            self.waits_to_write = waits;
            let read = Interest::READABLE;
            let interest = if waits {
                read | Interest::WRITABLE
            } else {
                read
            };
            registry.reregister(&mut self.stream, token, interest)?;
        }
        Ok(())
    }
}

fn check(config: &StubConfig) -> Result<(), Error> {
    let wrong = |setting, problem, right| {
        Err(Error::Plan {
            setting,
            problem,
            right,
        })
    };
    if config.login.is_none() && config.userdb.is_none() {
        let problem = "the stub auth server has no socket".to_owned();
        return wrong("stub auth server", problem, "give a login or a userdb path");
    }
    if !(2..=4).contains(&config.minor) {
        let problem = format!("auth client protocol 1.{}", config.minor);
        return wrong("--auth-minor", problem, "2, 3 or 4");
    }
    if !(0.0..=1.0).contains(&config.fail_share) {
        return wrong("--fail-share", config.fail_share.to_string(), "from 0 to 1");
    }
    if config
        .tags
        .iter()
        .any(|tag| tag.is_empty() || !tag.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        let problem = config.tags.join(",");
        let right = "names of printable ASCII without spaces, with commas between";
        return wrong("--tags", problem, right);
    }
    match config
        .fields
        .iter()
        .find(|field| field.is_empty() || field.contains(['\t', '\n', '\r']))
    {
        None => Ok(()),
        Some(field) => wrong(
            "--auth-field",
            format!("{field:?}"),
            "one key=value, escaped",
        ),
    }
}

/// Listens at `path`; a socket left behind by a dead server is replaced, a living one is not.
fn bind(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source: io::Error| {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another auth server answers there; stop it or listen elsewhere"
            }
            io::ErrorKind::InvalidInput => "a socket's path has at most 107 bytes",
            io::ErrorKind::NotFound => "its directory must exist",
            _ => "the directory must be writable, and the path free",
        };
        Error::Listen {
            path: path.to_owned(),
            source,
            hint,
        }
    };
    let dead = |path| {
        let answer = std::os::unix::net::UnixStream::connect(path);
        answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if dead(path) {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
    // The director usually runs as another user.
    std::fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(UnixListener::from_std(listener))
}

/// A stub auth server in a thread of its own. It ends when this is dropped.
pub struct StubAuth {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl StubAuth {
    /// Listens and serves.
    pub fn spawn(config: &StubConfig) -> Result<Self, Error> {
        const WAKER: Token = Token(0);
        let failed = "cannot start the stub auth server's thread";
        let mut poll = Poll::new().map_err(Error::kernel(failed))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(Error::kernel(failed))?;
        let mut stub = Stub::listen(config, poll.registry())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || {
            let mut events = Events::with_capacity(1024);
            while !stopped.load(Ordering::Acquire) {
                match poll.poll(&mut events, None) {
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                    _ => {}
                }
                for event in events.iter().filter(|event| Stub::owns(event.token())) {
                    stub.ready(poll.registry(), event);
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("stub-auth".to_owned())
            .spawn(serve)
            .map_err(Error::kernel(failed))?;
        Ok(Self {
            stop,
            waker,
            thread: Some(thread),
        })
    }
}

impl Drop for StubAuth {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic there was already printed.
            let _ = thread.join();
        }
    }
}
