//! Who may connect, and how many.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use ipnet::IpNet;
use nix::sys::socket::{getsockopt, sockopt};
use socket2::SockRef;

use super::conn::Conn;
use super::{AdminIo, IDLE_LIMIT};
use crate::admin::Session;
use crate::core::Mono;
use crate::shell::epoll::Interest;
use crate::shell::io::accept;
use crate::shell::log_limit::left_out;

/// Most connections at once; more wait in the listener's queue. The descriptors are among those that
/// are kept back for other things than logins.
pub(super) const CONNS_MAX: usize = 256;
/// How long a connection may have nothing to do while there are so many.
const IDLE_WHEN_FULL: u64 = 10 * Mono::SECOND;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Pause after the kernel refused a connection for want of memory or descriptors.
const REFUSED_NANOS: u64 = 50_000_000;

/// Listeners are told from connections by this bit of an epoll token.
pub(super) const LISTENER: u64 = 1 << 62;

/// Who may connect over TCP: clients of these networks. Empty on a path, where the mode decides.
#[derive(Clone, Debug, Default)]
pub struct Gate(pub Vec<IpNet>);

impl Gate {
    /// Whether a client with this address may.
    pub fn lets_in(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&ip))
    }
}

pub(super) struct Listener {
    fd: OwnedFd,
    gate: Gate,
}

impl AdminIo {
    pub(super) fn listen(&mut self, number: usize, fd: OwnedFd, gate: Gate) {
        let listener = Listener { fd, gate };
        if self.accepts() {
            self.watch_listener(number, &listener);
        }
        self.listeners.insert(number, listener);
    }

    /// Connections live on.
    pub(super) fn unlisten(&mut self, number: usize) {
        self.listeners.remove(&number);
    }

    fn accepts(&self) -> bool {
        self.accept_again.is_none() && self.conns.len() < CONNS_MAX
    }

    /// How long a connection may have nothing to do.
    pub(super) fn idle_limit(&self) -> u64 {
        match self.conns.len() < CONNS_MAX {
            true => IDLE_LIMIT,
            false => IDLE_WHEN_FULL,
        }
    }

    fn watch_listener(&self, number: usize, listener: &Listener) {
        let token = LISTENER | number as u64;
        if let Err(error) = self
            .epoll
            .add(listener.fd.as_fd(), token, Interest::Readable)
        {
            tracing::error!("cannot accept admin connections: {error}");
        }
    }

    pub(super) fn accept_from(&mut self, at: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.accepts() {
                return;
            }
            let Some(listener) = self.listeners.get(&at) else {
                return;
            };
            match accept(listener.fd.as_fd()) {
                Ok(fd) => self.take(fd, at),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return self.pause_accepting(&error),
                },
            }
        }
    }

    fn take(&mut self, fd: OwnedFd, at: usize) {
        let address = SockRef::from(&fd)
            .peer_addr()
            .ok()
            .and_then(|address| address.as_socket());
        let peer = match address {
            Some(address) => {
                let ip = address.ip().to_canonical();
                let gate = self.listeners.get(&at).map(|listener| &listener.gate);
                if !gate.is_some_and(|gate| gate.lets_in(ip)) {
                    if let Some(more) = self.refused.allow(self.now) {
                        let more = left_out(more);
                        tracing::warn!(
                            "admin connection from {ip} refused: it is in no network of the \
                             listener's allow list{more}"
                        );
                    }
                    return;
                }
                // Replies are short, and each is waited for. Only speed is lost without it.
                let _ = SockRef::from(&fd).set_tcp_nodelay(true);
                std::net::SocketAddr::new(ip, address.port()).to_string()
            }
            None => match getsockopt(&fd, sockopt::PeerCredentials) {
                Ok(peer) => format!("pid {} uid {}", peer.pid(), peer.uid()),
                Err(_) => "on a path".to_owned(),
            },
        };
        self.join(fd, peer);
    }

    /// Serves a connection that is there. Those of this process are few, by its own limits, and are
    /// served however many others there are.
    pub(super) fn join(&mut self, fd: OwnedFd, peer: String) {
        self.last_conn += 1;
        let id = self.last_conn;
        let session = Session::new(self.setup.context.clone());
        let conn = Conn::new(fd, peer, session, self.now);
        self.conns.insert(id, conn);
        self.work(id);
        if !self.accepts() {
            self.stop_watching();
        }
    }

    fn pause_accepting(&mut self, error: &io::Error) {
        if let Some(more) = self.refused.allow(self.now) {
            let more = left_out(more);
            tracing::error!("cannot accept an admin connection: {error}{more}");
        }
        self.stop_watching();
        self.accept_again = Some(self.now.after(REFUSED_NANOS));
    }

    fn stop_watching(&self) {
        for listener in self.listeners.values() {
            // It may not be watched just now, which is what is wanted.
            let _ = self.epoll.remove(listener.fd.as_fd());
        }
    }

    /// Goes on accepting when a pause is over.
    pub(super) fn resume_accepting(&mut self) {
        if self.accept_again.is_some_and(|at| at <= self.now) {
            self.accept_again = None;
            self.watch_listeners();
        }
    }

    /// A connection was closed.
    pub(super) fn room_again(&mut self) {
        if self.conns.len() + 1 == CONNS_MAX && self.accept_again.is_none() {
            self.watch_listeners();
        }
    }

    fn watch_listeners(&mut self) {
        if self.accepts() {
            for (&number, listener) in &self.listeners {
                self.watch_listener(number, listener);
            }
        }
    }
}
