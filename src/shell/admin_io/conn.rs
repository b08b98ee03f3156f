//! One connection of a client.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::admin::{Census, Session, UserList, Whose};
use crate::core::Mono;
use crate::shell::io::{Read, receive, write};

/// Bytes read at once.
const READ_SIZE: usize = 4096;

/// A client.
pub(super) struct Conn {
    fd: OwnedFd,
    /// Who it is, for the log.
    pub(super) peer: String,
    pub(super) session: Session,
    /// A list that is being written.
    pub(super) list: Option<UserList>,
    /// Sessions that HOMING-SESSIONS has remembered.
    pub(super) watched_sessions: Option<(Whose, Census)>,
    /// Bytes of the session's output that were written.
    sent: usize,
    /// The client reads nothing any more.
    pub(super) deaf: bool,
    /// What epoll tells of: readable, writable.
    pub(super) watched: (bool, bool),
    /// When something was last read or written.
    pub(super) active: Mono,
}

impl Conn {
    pub(super) fn new(fd: OwnedFd, peer: String, session: Session, now: Mono) -> Conn {
        Conn {
            fd,
            peer,
            session,
            list: None,
            watched_sessions: None,
            sent: 0,
            deaf: false,
            watched: (false, false),
            active: now,
        }
    }

    /// Bytes that the client has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.session.out_len() - self.sent
    }

    /// Reads once, if there is room. True: there was something.
    pub(super) fn read(&mut self, now: Mono) -> bool {
        let room = self.session.room().min(READ_SIZE);
        if room == 0 {
            return false;
        }
        let mut bytes = [0; READ_SIZE];
        match receive(self.fd.as_fd(), &mut bytes[..room]) {
            Read::Bytes(count) => self.session.receive(&bytes[..count]),
            Read::Empty => return false,
            Read::End => self.session.end(),
        }
        self.active = now;
        true
    }

    /// Writes what the client takes. Nothing is written to one that is gone, but its commands count.
    pub(super) fn flush(&mut self, now: Mono) {
        while self.waiting() > 0 && !self.deaf {
            let sent = self.sent;
            match write(self.fd.as_fd(), &self.session.out()[sent..]) {
                None => self.deaf = true,
                Some(0) => return,
                Some(count) => {
                    self.sent += count;
                    self.active = now;
                }
            }
        }
        self.session.out().clear();
        self.sent = 0;
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
