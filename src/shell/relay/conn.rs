//! The state of one client connection, as a value: descriptors, unfinished lines, unsent bytes.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::tap::Tap;
use crate::core::Mono;
use crate::core::lookup::Socket;
use crate::core::parking::Place;
use crate::shell::io::{Backlog, Read, receive};
use crate::wire::auth::MAX_LINE;
use crate::wire::line::Splitter;

/// When more than this waits to be sent in one direction, nothing more is read from the other
/// side. Four of the largest lines; a healthy peer never lets that much wait.
const BACKLOG_HIGH: usize = 4 * MAX_LINE;

/// What a client connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Relayed to auth: login processes, lmtp, doveadm.
    Relay(Socket),
    /// Auth replies come from the client itself.
    Authreply(Greeting),
    /// Keep-alive lines; nothing is ever answered.
    Notify,
}

/// How far an authreply client has said which protocol it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Its first line has not come.
    Awaited,
    /// It speaks ours.
    Accepted,
    /// It speaks another.
    Refused,
}

/// One descriptor with what is known of its readiness.
#[derive(Debug)]
pub struct Side {
    fd: OwnedFd,
    /// Bytes the peer did not take yet.
    pub backlog: Backlog,
    /// Something may be there to read.
    pub readable: bool,
    /// The peer has finished: read until the end.
    pub hung_up: bool,
    /// Whether the kernel was asked to tell when more can be written.
    pub watches_out: bool,
}

impl Side {
    /// Wraps a connected descriptor.
    pub fn new(fd: OwnedFd) -> Side {
        Side {
            fd,
            backlog: Backlog::default(),
            readable: false,
            hung_up: false,
            watches_out: false,
        }
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Notes what a read told: a short read of a stream has emptied it.
    pub fn was_read(&mut self, short: bool) {
        if short && !self.hung_up {
            self.readable = false;
        }
    }

    /// Reads what is there, and notes whether that was all.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Read {
        let read = receive(self.fd.as_fd(), buffer);
        match read {
            Read::End => {}
            Read::Empty => self.was_read(true),
            Read::Bytes(count) => self.was_read(count < buffer.len()),
        }
        read
    }

    /// Whether so much waits for this peer that nothing more should be read for it.
    pub fn is_slow(&self) -> bool {
        self.backlog.len() >= BACKLOG_HIGH
    }

    /// Sends behind what waits already. False: the peer is gone.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.backlog.send(self.fd.as_fd(), bytes)
    }

    /// Sends what waits. False: the peer is gone.
    pub fn flush(&mut self) -> bool {
        self.backlog.flush(self.fd.as_fd())
    }
}

/// The way to auth.
#[derive(Debug)]
pub enum Upstream {
    /// Not dialled yet: the client has said nothing.
    None,
    /// Auth's backlog was full; tried since then.
    Dialling {
        /// First try.
        since: Mono,
        /// Next try; until then nothing that the client does brings it forward.
        next: Mono,
    },
    /// Connected.
    Open(Side),
}

/// One client connection.
#[derive(Debug)]
pub struct Conn {
    /// Tells a connection from an earlier one in the same place of the slab.
    pub serial: u32,
    /// What it speaks.
    pub role: Role,
    /// The client.
    pub client: Side,
    /// Auth.
    pub upstream: Upstream,
    /// What the client asked.
    pub tap: Tap,
    /// Lines from auth, or from the client of an authreply connection.
    pub replies: Splitter,
    /// Minor version of auth's protocol; 0 until it has said.
    pub auth_minor: u32,
    /// Requests that auth must be told to forget, at the next line boundary.
    pub cancels: Vec<u32>,
    /// Requests that auth was told to forget; its confirmation is not for the client.
    pub cancelled: VecDeque<u32>,
    /// Lookups of this connection that wait, in order of arrival.
    pub parked: VecDeque<Place>,
    /// Whether it is on the list of those with more to do.
    pub queued: bool,
}

impl Conn {
    /// A new connection.
    pub fn new(serial: u32, role: Role, client: OwnedFd) -> Conn {
        Conn {
            serial,
            role,
            client: Side::new(client),
            upstream: Upstream::None,
            tap: Tap::default(),
            replies: Splitter::default(),
            auth_minor: 0,
            cancels: Vec::new(),
            cancelled: VecDeque::new(),
            parked: VecDeque::new(),
            queued: false,
        }
    }

    /// Notes that a lookup of this connection waits no longer. A connection may have very many, and
    /// the oldest is mostly the first to go.
    pub fn unpark(&mut self, place: Place) {
        if let Ok(at) = self.parked.binary_search(&place) {
            self.parked.remove(at);
        }
    }

    /// The socket type that lookups of this connection count for.
    pub fn socket(&self) -> Socket {
        match self.role {
            Role::Relay(socket) => socket,
            Role::Authreply(_) | Role::Notify => Socket::Authreply,
        }
    }
}
