//! Connections that other directors make to us.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use socket2::SockRef;

use super::conn::{Conn, prepare};
use super::tls::Link;
use super::{Machine, RingIo};
use crate::core::ring::{Input, Level};
use crate::shell::epoll::Interest;
use crate::shell::io::accept;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;
/// Most connections at once that came to our listener. A director has one left; a few more are new
/// ones whose directors did not say yet who they are, and old ones that are about to end. Whoever
/// is in the list could open more, and each would hold buffers until its handshake times out.
pub(super) const ACCEPTED_MAX: usize = 64;
/// Pause after the kernel refused a connection for want of memory or descriptors: it would refuse
/// the next one too, and asking at once would take all of the CPU.
const REFUSED_NANOS: u64 = 50_000_000;

/// Listeners are told from connections by this bit of an epoll token.
pub(super) const LISTENER: u64 = 1 << 62;

impl<M: Machine> RingIo<M> {
    /// Accepts from a listening socket from now on.
    pub(super) fn listen(&mut self, number: usize, fd: OwnedFd) {
        if self.accept_again.is_none() {
            self.watch_listener(number, &fd);
        }
        self.listeners.insert(number, fd);
    }

    /// No longer accepts from a listener; its connections live on.
    pub(super) fn unlisten(&mut self, number: usize) {
        // Closed: it was never given to anybody else, so that nobody connects in vain.
        self.listeners.remove(&number);
    }

    /// No longer accepts from any listener.
    pub(super) fn stop_listening(&mut self) {
        self.listeners.clear();
    }

    fn watch_listener(&mut self, number: usize, fd: &OwnedFd) {
        let token = LISTENER | number as u64;
        if let Err(error) = self.epoll.add(fd.as_fd(), token, Interest::Readable) {
            let text = || format!("cannot accept from other directors: {error}");
            self.log.line(Level::Error, "watch", self.now.mono, text);
        }
    }

    /// Accepts what waits at a listener.
    pub(super) fn accept_from(&mut self, at: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(&at) else {
                return;
            };
            match accept(listener.as_fd()) {
                Ok(fd) => self.take(fd),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return self.pause_accepting(&error),
                },
            }
        }
    }

    fn take(&mut self, fd: OwnedFd) {
        // It may have gone already, or be no TCP socket: then nobody can say who it is.
        let Some(source) = peer(&fd) else {
            return;
        };
        let all = self.conns.values();
        let accepted = all.filter(|conn| conn.dialled.is_none()).count();
        if accepted >= ACCEPTED_MAX {
            let text = || format!("connection from {source} refused: too many are open");
            self.log.line(Level::Warning, "flood", self.now.mono, text);
            return;
        }
        let id = self.machine.next_conn();
        let watched = prepare(&fd.as_fd())
            .and_then(|()| self.epoll.add(fd.as_fd(), id.0, Interest::Readable));
        if let Err(error) = watched {
            let text = || format!("cannot watch a connection from {source}, closing it: {error}");
            self.log.line(Level::Error, "watch", self.now.mono, text);
            return;
        }
        let link = Link::accepted(self.machine.certificates().as_ref(), source);
        self.conns.insert(id, Conn::accepted(fd, source, link));
        self.handle(Input::Accepted { conn: id, source });
        self.perform();
    }

    pub(super) fn pause_accepting(&mut self, error: &io::Error) {
        let text = || format!("cannot accept a connection of another director: {error}");
        self.log.line(Level::Error, "accept", self.now.mono, text);
        for listener in self.listeners.values() {
            // It may not be watched just now, which is what is wanted.
            let _ = self.epoll.remove(listener.as_fd());
        }
        self.accept_again = Some(self.now.mono.after(REFUSED_NANOS));
    }

    /// Goes on accepting when a pause is over.
    pub(super) fn resume_accepting(&mut self) {
        if self.accept_again.is_none_or(|at| at > self.now.mono) {
            return;
        }
        self.accept_again = None;
        let listeners = std::mem::take(&mut self.listeners);
        for (&number, listener) in &listeners {
            self.watch_listener(number, listener);
        }
        self.listeners = listeners;
    }
}

/// The address at the other end. A listener that was handed over may take both families, and shows
/// IPv4 addresses inside IPv6 ones then.
fn peer(fd: &OwnedFd) -> Option<std::net::IpAddr> {
    let address = SockRef::from(fd).peer_addr().ok()?.as_socket()?;
    Some(address.ip().to_canonical())
}
