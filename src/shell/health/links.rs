//! Connections between Homing directors (docs/protocol/health.md).
//!
//! Every director dials every other one, and says on the connection that it has made what it knows. So each
//! pair has two connections, and each is for one direction: nobody has to agree which of two is to stay.
//! Who accepts speaks first, so that nobody says anything to what is no health port of a Homing.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use socket2::SockRef;
use zeroize::Zeroizing;

use super::probe::plainly;
use super::serve::{Worker, token};
use super::stream::{Came, Stream};
use crate::core::Mono;
use crate::core::health::told::Told;
use crate::shell::epoll::Interest;
use crate::shell::io::accept;
use crate::shell::ring_io::tls::Tls;
use crate::wire::health::{HealthError, Line, MAX_LINE, MINOR};
use crate::wire::line::Splitter;
use crate::wire::ring::DirectorId;

/// How long a connection may take until the other side has greeted.
const GREETING: u64 = 10 * Mono::SECOND;
/// Whoever says nothing for so long is gone: a beat comes every second.
const SILENCE: u64 = 15 * Mono::SECOND;
/// Pause before a director is dialled again, and as much again at random.
const REDIAL: u64 = Mono::SECOND;
/// Bytes that may wait for a director: everything about 65,000 backends several times.
const MOST_WAITING: usize = 64 << 20;
/// Connections accepted at a time. Each director has one.
const ACCEPTED_MAX: usize = 128;
const ACCEPTS_PER_TURN: usize = 16;

/// A connection that we made.
pub(super) struct Outgoing {
    /// `None`: not now.
    conn: Option<(u64, Stream)>,
    lines: Splitter,
    /// What it was told; `None`: it has not greeted.
    told: Option<Told>,
    /// When something was last read, or the connection begun.
    heard: Mono,
    /// When it is dialled next.
    next: Mono,
    /// The last failure was logged.
    complained: bool,
}

/// A connection that was made to us.
pub(super) struct Incoming {
    stream: Stream,
    peer: IpAddr,
    lines: Splitter,
    /// `None`: it has not greeted.
    from: Option<DirectorId>,
    /// Our greeting was sent.
    greeted: bool,
    heard: Mono,
}

/// All connections.
#[derive(Default)]
pub(super) struct Links {
    pub out: BTreeMap<DirectorId, Outgoing>,
    pub incoming: BTreeMap<u64, Incoming>,
}

impl Worker {
    /// Accepts what waits at a listener.
    pub(super) fn accept_from(&mut self, number: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(&number) else {
                return;
            };
            match accept(listener.as_fd()) {
                Ok(fd) => self.take(fd),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let text = || format!("health: cannot accept other directors: {error}");
                    self.warn(text);
                    return;
                }
            }
        }
    }

    fn take(&mut self, fd: OwnedFd) {
        let address = SockRef::from(&fd).peer_addr().ok();
        let Some(peer) = address.and_then(|it| it.as_socket()) else {
            return;
        };
        let peer = peer.ip().to_canonical();
        // A moment after the start it is not known yet; it will come again.
        let Some(around) = &self.around else {
            return;
        };
        if !around.directors.iter().any(|id| id.ip == peer) {
            let text = || {
                format!("health: connection from {peer} refused: it is none of director_servers")
            };
            return self.warn(text);
        }
        if self.links.incoming.len() >= ACCEPTED_MAX {
            return self
                .warn(|| format!("health: connection from {peer} refused: too many are open"));
        }
        let Ok(mut stream) = Stream::accepted(fd) else {
            return;
        };
        if let Some(certificates) = &self.config.certificates {
            match Tls::server(certificates, peer) {
                Ok(tls) => stream.begin_tls(tls.into_connection()),
                Err(why) => return self.warn(|| format!("health: director {peer}: {why}")),
            }
        }
        let id = self.next_token(token::INCOMING);
        if self
            .epoll
            .add(stream.as_fd(), id, Interest::Readable)
            .is_err()
        {
            return;
        }
        stream.watched = Some(false);
        let incoming = Incoming {
            stream,
            peer,
            lines: Splitter::default(),
            from: None,
            greeted: false,
            heard: self.now,
        };
        self.links.incoming.insert(id, incoming);
        self.incoming_ready(id, false);
    }

    /// Something can be read from, or written to, a director that has dialled us.
    pub(super) fn incoming_ready(&mut self, id: u64, readable: bool) {
        let Some(mut conn) = self.links.incoming.remove(&id) else {
            return;
        };
        match self.serve_incoming(&mut conn, readable) {
            Ok(()) => {
                let watched = self.watch(&mut conn.stream, id);
                if let Some(from) = conn.from {
                    // It has started again, and this process has not seen its old connection end.
                    let old = self
                        .links
                        .incoming
                        .extract_if(.., |_, it| it.from == Some(from));
                    drop(old.collect::<Vec<_>>());
                }
                if watched {
                    self.links.incoming.insert(id, conn);
                }
            }
            Err(why) => {
                let peer = conn.peer;
                if let Some(from) = conn.from {
                    self.health.lost(from);
                }
                if !why.is_empty() {
                    self.warn(|| format!("health: director {peer}: {why}"));
                }
            }
        }
    }

    /// Errors: why the connection ends; empty: it simply has.
    fn serve_incoming(&mut self, conn: &mut Incoming, readable: bool) -> Result<(), String> {
        let mut plain = Zeroizing::new(Vec::new());
        let mut came = Ok(Came::Open);
        if readable {
            came = conn.stream.read(&mut plain);
        }
        if conn.stream.is_ready() && !conn.greeted {
            let Some(me) = self.around.as_ref().map(|around| around.me) else {
                return Err(String::new());
            };
            conn.greeted = true;
            let mut hello = Vec::new();
            Line::Hello { minor: MINOR, me }.write(&mut hello);
            conn.stream.send(&hello);
        }
        if !plain.is_empty() {
            conn.heard = self.now;
        }
        let mut lines = Vec::new();
        let cut = conn
            .lines
            .feed(&plain, MAX_LINE, |line| lines.push(line.to_vec()));
        for line in lines {
            self.incoming_line(conn, &line)?;
        }
        cut.map_err(|error| error.to_string())?;
        let sent = conn.stream.flush();
        match came? {
            Came::Open if sent => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn incoming_line(&mut self, conn: &mut Incoming, line: &[u8]) -> Result<(), String> {
        let wrong = |error: HealthError| error.to_string();
        let Some(from) = conn.from else {
            let (_, me) = Line::parse_hello(line).map_err(wrong)?;
            self.check_identity(me, conn.peer)?;
            conn.from = Some(me);
            let hello = Line::Hello { minor: MINOR, me };
            self.health.heard(me, &hello, self.now);
            return Ok(());
        };
        match Line::parse(line).map_err(wrong)? {
            Some(Line::Hello { .. }) => Err("it greets twice".to_owned()),
            Some(line) => {
                if let Line::Beat(number) = line {
                    let mut heard = Vec::new();
                    Line::Heard(number).write(&mut heard);
                    conn.stream.send(&heard);
                }
                self.health.heard(from, &line, self.now);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_identity(&self, id: DirectorId, peer: IpAddr) -> Result<(), String> {
        let Some(around) = &self.around else {
            return Err(String::new());
        };
        let name = SocketAddr::new(id.ip, id.port);
        if id == around.me {
            return Err(format!("it says that it is {name}, which is this director"));
        }
        if id.ip != peer || !around.directors.contains(&id) {
            return Err(format!(
                "it says that it is {name}, which is none of director_servers"
            ));
        }
        Ok(())
    }

    /// Dials whoever is not connected, and ends what has been silent for too long.
    pub(super) fn tend_links(&mut self) {
        let Some(around) = self.around.clone() else {
            return;
        };
        let now = self.now;
        let stale = |it: &Incoming| {
            let limit = if it.from.is_some() { SILENCE } else { GREETING };
            now.since(it.heard) >= limit
        };
        let gone = |it: &Incoming| {
            it.from
                .is_some_and(|from| !around.directors.contains(&from))
        };
        let old: Vec<Incoming> = self
            .links
            .incoming
            .extract_if(.., |_, it| stale(it) || gone(it))
            .map(|(_, it)| it)
            .collect();
        for conn in old {
            if let Some(from) = conn.from {
                self.health.lost(from);
            }
        }
        let others = around.directors.iter().filter(|id| **id != around.me);
        let wanted: Vec<DirectorId> = match self.config.port {
            Some(_) => others.copied().collect(),
            None => Vec::new(),
        };
        self.links.out.retain(|id, _| wanted.contains(id));
        for id in wanted {
            let out = self.links.out.entry(id).or_insert_with(|| Outgoing {
                conn: None,
                lines: Splitter::default(),
                told: None,
                heard: now,
                next: now,
                complained: false,
            });
            let limit = if out.told.is_some() {
                SILENCE
            } else {
                GREETING
            };
            if out.conn.is_some() && now.since(out.heard) >= limit {
                self.give_up(id, "it does not answer");
            } else if out.conn.is_none() && out.next <= now {
                self.dial(id, around.me.ip);
            }
        }
    }

    fn dial(&mut self, id: DirectorId, own: IpAddr) {
        let to = SocketAddr::new(id.ip, self.config.port.unwrap_or(0));
        let dialled = Stream::dial(Some(own), to).and_then(|stream| {
            stream.expect_acknowledgements()?;
            Ok(stream)
        });
        let number = self.next_token(token::OUTGOING);
        let mut stream = match dialled {
            Ok(stream) => stream,
            Err(error) => return self.give_up(id, &plainly(&error)),
        };
        if self
            .epoll
            .add(stream.as_fd(), number, Interest::Duplex)
            .is_err()
        {
            return self.give_up(id, "it cannot be watched");
        }
        stream.watched = Some(true);
        if let Some(out) = self.links.out.get_mut(&id) {
            out.conn = Some((number, stream));
            out.lines = Splitter::default();
            out.told = None;
            out.heard = self.now;
        }
    }

    fn give_up(&mut self, id: DirectorId, why: &str) {
        let pause = REDIAL + self.random() % REDIAL;
        let Some(out) = self.links.out.get_mut(&id) else {
            return;
        };
        out.conn = None;
        out.told = None;
        out.next = self.now.after(pause);
        if !std::mem::replace(&mut out.complained, true) {
            let name = SocketAddr::new(id.ip, self.config.port.unwrap_or(0));
            self.warn(|| format!("health: director {name} hears nothing of us: {why}"));
        }
    }

    /// Something can be read from, or written to, a director that we have dialled.
    pub(super) fn outgoing_ready(&mut self, number: u64, readable: bool) {
        let found = self.links.out.iter_mut().find_map(|(id, out)| {
            let is_it = out.conn.as_ref().is_some_and(|conn| conn.0 == number);
            is_it.then_some(*id)
        });
        let Some(id) = found else {
            return;
        };
        if let Err(why) = self.serve_outgoing(id, readable) {
            let why = if why.is_empty() {
                "it has closed the connection"
            } else {
                &why
            };
            self.give_up(id, why);
        }
    }

    fn serve_outgoing(&mut self, id: DirectorId, readable: bool) -> Result<(), String> {
        let Some(out) = self.links.out.get_mut(&id) else {
            return Ok(());
        };
        let Some((number, stream)) = &mut out.conn else {
            return Ok(());
        };
        let number = *number;
        if stream.dialling {
            stream.finish_dial().map_err(|error| plainly(&error))?;
            if let Some(certificates) = &self.config.certificates {
                let tls = Tls::client(certificates, id.ip)?;
                stream.begin_tls(tls.into_connection());
            }
        }
        let mut plain = Zeroizing::new(Vec::new());
        let mut came = Came::Open;
        if readable {
            came = match stream.read(&mut plain) {
                Ok(came) => came,
                Err(why) => {
                    stream.flush();
                    return Err(why);
                }
            };
        }
        if !plain.is_empty() {
            out.heard = self.now;
        }
        if out.read_greeting(id, &plain)? {
            if std::mem::take(&mut out.complained) {
                let name = SocketAddr::new(id.ip, id.port);
                tracing::info!("health: director {name} hears of us");
            }
            self.tell(id);
        }
        let Some(Outgoing {
            conn: Some((_, stream)),
            ..
        }) = self.links.out.get_mut(&id)
        else {
            return Ok(());
        };
        if !stream.flush() || came == Came::End {
            return Err(String::new());
        }
        if stream.waiting() > MOST_WAITING {
            return Err("it does not read".to_owned());
        }
        if let Some(interest) = stream.interest() {
            let watched = self.epoll.modify(stream.as_fd(), number, interest);
            watched.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Says to a director what is new.
    fn tell(&mut self, id: DirectorId) {
        let Some(out) = self.links.out.get_mut(&id) else {
            return;
        };
        if let (Some((_, stream)), Some(told)) = (&mut out.conn, &mut out.told) {
            let mut bytes = Vec::new();
            told.say(&self.health, &mut bytes);
            stream.send(&bytes);
        }
    }

    /// Says to everybody what is new.
    pub(super) fn tell_all(&mut self) {
        let connected = self.links.out.iter().filter(|(_, out)| out.told.is_some());
        let connected: Vec<DirectorId> = connected.map(|(id, _)| *id).collect();
        for id in connected {
            self.tell(id);
            if let Err(why) = self.serve_outgoing(id, false) {
                let why = if why.is_empty() {
                    "it has closed the connection"
                } else {
                    &why
                };
                self.give_up(id, why);
            }
        }
    }
}

impl Outgoing {
    /// Takes what a director that we have dialled has said; true: it has greeted just now.
    fn read_greeting(&mut self, id: DirectorId, bytes: &[u8]) -> Result<bool, String> {
        let (told, mut greeted, mut wrong) = (&mut self.told, false, None);
        let cut = self.lines.feed(bytes, MAX_LINE, |line| {
            if told.is_some() || wrong.is_some() {
                // HEARD, which has been heard by now.
                return;
            }
            match Line::parse_hello(line) {
                Ok((_, me)) if me == id => {
                    *told = Some(Told::default());
                    greeted = true;
                }
                Ok((_, me)) => {
                    let me = SocketAddr::new(me.ip, me.port);
                    wrong = Some(format!("it says that it is {me}"));
                }
                Err(error) => wrong = Some(error.to_string()),
            }
        });
        cut.map_err(|error| error.to_string())?;
        wrong.map_or(Ok(greeted), Err)
    }
}
