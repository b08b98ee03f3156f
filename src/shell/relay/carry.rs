//! Connections from one process to the next (docs/protocol/takeover.md): shown as they are, and taken up.
//!
//! Showing changes nothing, so that whoever has shown its connections in vain serves them on.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use zeroize::Zeroizing;

use super::conn::{Conn, Greeting, Role, Side, Upstream};
use super::lookups::{LogAbout, MINOR_WITH_USER_FIELDS, Waiting};
use super::{ConnId, Relay, interest};
use crate::core::ip_text::{ip_text, parse_lenient};
use crate::core::lookup::{Local, Socket, question, write_failure};
use crate::core::parking::Parked;
use crate::core::{DelayReason, Mono};
use crate::shell::epoll::Interest;
use crate::shell::io::Backlog;
use crate::shell::takeover::channel::{Channel, ChannelError, Frame};
use crate::wire::auth::{Reply, parse_reply};
use crate::wire::takeover::{self as wire, End, Fault, Kind, Unfinished};

/// By the number that stands for it. Only ever added to.
const ROLES: [Role; 6] = [
    Role::Relay(Socket::Login),
    Role::Relay(Socket::Userdb),
    Role::Authreply(Greeting::Awaited),
    Role::Authreply(Greeting::Accepted),
    Role::Authreply(Greeting::Refused),
    Role::Notify,
];

/// A connection on its way into this process, with its lookups that wait. Known to be whole.
#[derive(Debug)]
pub struct Carried {
    role: Role,
    relay: Zeroizing<Vec<u8>>,
    client: OwnedFd,
    auth: Option<OwnedFd>,
    parked: Vec<Zeroizing<Vec<u8>>>,
}

impl Carried {
    /// From the frame of a relay.
    ///
    /// # Errors
    /// The other process did not send what this one knows.
    pub fn new(mut frame: Frame) -> Result<Carried, Fault> {
        let damaged = Fault::Damaged(Kind::Relay);
        let shown: wire::Relay<'_> = wire::decode(Kind::Relay, &frame.payload)?;
        let role = *ROLES.get(usize::from(shown.role)).ok_or(damaged)?;
        let dialled = shown.dialled;
        let client = frame.descriptors.pop_front().ok_or(damaged)?;
        let auth = frame.descriptors.pop_front();
        if auth.is_some() != dialled || !frame.descriptors.is_empty() {
            return Err(damaged);
        }
        Ok(Carried {
            role,
            relay: frame.payload,
            client,
            auth,
            parked: Vec::new(),
        })
    }

    /// One of its lookups that wait, in order of arrival.
    ///
    /// # Errors
    /// As [`Carried::new`].
    pub fn park(&mut self, frame: Frame) -> Result<(), Fault> {
        wire::decode::<wire::Parked<'_>>(Kind::Parked, &frame.payload)?;
        self.parked.push(frame.payload);
        Ok(())
    }

    /// Whether it reads keep-alives from this very FIFO.
    pub fn is_fifo(&self, fifo: &OwnedFd) -> bool {
        let stat = |fd: &OwnedFd| nix::sys::stat::fstat(fd);
        self.role == Role::Notify
            && matches!((stat(&self.client), stat(fifo)),
                (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }
}

impl Relay {
    /// Shows all connections to the process that is to take them over.
    ///
    /// # Errors
    /// It does not listen any more.
    pub fn show(&self, channel: &mut Channel) -> Result<End, ChannelError> {
        let mut end = End::default();
        for (_, conn) in &self.conns {
            self.show_conn(conn, channel)?;
            end.relays += 1;
            for &place in &conn.parked {
                if let Some(parked) = self.cx.parking.get(place) {
                    channel.send(Kind::Parked, &wire::encode(&shown(parked)), &[])?;
                    end.parked += 1;
                }
            }
        }
        Ok(end)
    }

    fn show_conn(&self, conn: &Conn, channel: &mut Channel) -> Result<(), ChannelError> {
        let role = ROLES.iter().position(|&role| role == conn.role);
        let auth = match &conn.upstream {
            Upstream::Open(side) => Some(side),
            // Dialled when the client's bytes, which nobody has read, are seen there.
            Upstream::None | Upstream::Dialling { .. } => None,
        };
        let relay = wire::Relay {
            role: role
                .and_then(|role| u8::try_from(role).ok())
                .unwrap_or(u8::MAX),
            dialled: auth.is_some(),
            to_client: conn.client.backlog.waiting(),
            to_auth: auth.map(|auth| auth.backlog.waiting()).unwrap_or_default(),
            asked: conn.tap.unfinished(),
            open: conn.tap.open().collect(),
            replies: Unfinished {
                bytes: conn.replies.unfinished(),
                skipping: conn.replies.is_skipping(),
            },
            auth_minor: conn.auth_minor,
            cancels: conn.cancels.clone(),
            cancelled: conn.cancelled.iter().copied().collect(),
        };
        let mut descriptors = vec![conn.client.fd()];
        descriptors.extend(auth.map(Side::fd));
        channel.send(Kind::Relay, &wire::encode(&relay), &descriptors)
    }

    /// Serves a connection from where the other process has left it.
    pub fn take_up(&mut self, carried: Carried) {
        let Ok(shown) = wire::decode::<wire::Relay<'_>>(Kind::Relay, &carried.relay) else {
            unreachable!("looked at when it came");
        };
        let Some(id) = self.next_id() else {
            return;
        };
        let mut conn = Conn::new(id.serial, carried.role, carried.client);
        conn.client.backlog = Backlog::of(shown.to_client);
        if let Some(fd) = carried.auth {
            let mut auth = Side::new(fd);
            auth.backlog = Backlog::of(shown.to_auth);
            conn.upstream = Upstream::Open(auth);
        }
        conn.tap.resume(shown.asked, &shown.open);
        conn.replies
            .resume(shown.replies.bytes, shown.replies.skipping);
        conn.auth_minor = shown.auth_minor;
        conn.cancels = shown.cancels;
        conn.cancelled = VecDeque::from(shown.cancelled);
        self.conns.insert(conn);
        if let Err(error) = self.watch(id) {
            tracing::error!("cannot watch a connection, closing it: {error}");
            return self.close(id);
        }
        for parked in &carried.parked {
            self.park_again(id, parked);
        }
        // What could be sent at once is; what there is to read, epoll tells.
        self.pump(id);
    }

    fn watch(&mut self, id: ConnId) -> std::io::Result<()> {
        let Some(conn) = self.conns.get(id.key as usize) else {
            return Ok(());
        };
        let epoll = &self.cx.epoll;
        epoll.add(conn.client.fd(), id.token(false), interest(conn.role))?;
        match &conn.upstream {
            Upstream::Open(auth) => epoll.add(auth.fd().as_fd(), id.token(true), Interest::Stream),
            Upstream::None | Upstream::Dialling { .. } => Ok(()),
        }
    }

    /// A lookup waits on, and is tried here before anything else. What it asks for is read from its line
    /// again: tags and settings may have other numbers here.
    fn park_again(&mut self, id: ConnId, payload: &[u8]) {
        let Ok(shown) = wire::decode::<wire::Parked<'_>>(Kind::Parked, payload) else {
            unreachable!("looked at when it came");
        };
        let Relay { conns, cx, .. } = self;
        let Some(conn) = conns.get_mut(id.key as usize) else {
            return;
        };
        let socket = conn.socket();
        let local = || Local {
            ip: parse_lenient(&shown.local_ip),
            port: Some(shown.local_port).filter(|&port| port > 0),
        };
        let question = match parse_reply(shown.line, socket == Socket::Userdb) {
            Reply::Found(found) => question(&found, socket, local, &cx.snapshot, &mut cx.names),
            _ => None,
        };
        let Some(question) = question else {
            // It did ask, by the rules of the program that parked it.
            let mut out = Vec::new();
            write_failure(shown.line, &mut out);
            conn.client.send(&out);
            return;
        };
        let waiting = Waiting {
            id,
            socket,
            line: Zeroizing::new(shown.line.to_vec()),
            add_hash: socket == Socket::Login && conn.auth_minor >= MINOR_WITH_USER_FIELDS,
            about: LogAbout::with_session(shown.line, socket, shown.session),
            question,
        };
        let parked = Parked {
            // The first try says what is true here.
            reason: DelayReason::NotHandshaked,
            since: Mono(shown.since),
            deadline: Mono(shown.deadline),
            key: waiting.question.key(&cx.snapshot),
            bytes: waiting.line.len(),
            lookup: waiting,
        };
        match cx.parking.park(parked) {
            Ok(place) => {
                conn.parked.push_back(place);
                cx.said_waits = true;
                cx.waits.set(true);
                cx.parking.wake_one(place);
            }
            Err(full) => {
                let mut out = Vec::new();
                write_failure(&full.lookup.line, &mut out);
                conn.client.send(&out);
            }
        }
    }
}

fn shown(parked: &Parked<Waiting>) -> wire::Parked<'_> {
    let lookup = &parked.lookup;
    let local = lookup.question.local();
    wire::Parked {
        line: &lookup.line,
        local_ip: local.ip.map(ip_text).unwrap_or_default(),
        local_port: local.port.unwrap_or(0),
        session: lookup.about.session.clone(),
        since: parked.since.0,
        deadline: parked.deadline.0,
    }
}
