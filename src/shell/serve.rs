//! The loop of one serving core: waits for its sockets, and lets the relay do the work.
//!
//! It runs as the one task of a glommio executor that is pinned to the core, and waits in
//! `epoll_wait` itself: parking through the executor's ring costs seven system calls more per
//! wake-up (tuning.md, parking). Whatever else needs tasks, timers or files runs on the control
//! executor, which never waits here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use crossbeam::channel::Sender;
use nix::poll::{PollFd, PollFlags, poll};

use super::clock;
use super::coalesce::Coalescing;
use super::cores::{Cores, Message};
use super::epoll::{Events, Interest};
use super::io::accept;
use super::log_limit::{LogLimit, left_out};
use super::relay::conn::Role;
use super::relay::{OWN_TOKENS, Relay};
use crate::core::Mono;

/// Longest wait without events; keeps the clocks of an idle core honest.
const IDLE_MS: i32 = 1000;
/// Longest wait for a message while frozen.
const FROZEN_MS: u16 = 1000;
/// Wait while nothing can be accepted, because a limit was reached.
const FULL_MS: i32 = 20;
/// Pause after the kernel refused a connection for want of memory or descriptors: it would refuse
/// the next one too, and asking at once would take all of the CPU.
const REFUSED_NANOS: u64 = 50_000_000;
/// Connections accepted from one listener in one turn; the other cores take their share.
const ACCEPTS_PER_TURN: usize = 16;

const WAKE_TOKEN: u64 = OWN_TOKENS;

struct Listener {
    fd: Arc<OwnedFd>,
    role: Role,
}

struct Server {
    core: usize,
    cores: Arc<Cores>,
    relay: Relay,
    listeners: Vec<Option<Listener>>,
    /// Listeners are not watched until then, because a limit was reached.
    full: Option<Mono>,
    full_log: LogLimit,
    coalescing: Coalescing,
    /// Nothing is read or accepted, since another process may be about to do it.
    frozen: bool,
    /// Who waits for that: told between two turns, when all that was begun is done.
    freezing: Option<Sender<usize>>,
    stop: bool,
}

/// Serves until told to stop.
pub async fn serve(core: usize, cores: Arc<Cores>, relay: Relay) -> io::Result<()> {
    relay.epoll().add(
        cores.mailbox_of(core).as_fd(),
        WAKE_TOKEN,
        Interest::Readable,
    )?;
    let mut server = Server {
        core,
        cores,
        relay,
        listeners: Vec::new(),
        full: None,
        full_log: LogLimit::default(),
        coalescing: Coalescing::new(clock::mono()),
        frozen: false,
        freezing: None,
        stop: false,
    };
    let mut events = Events::default();
    while !server.stop {
        if let Some(sender) = server.freezing.take() {
            server.freeze(&sender);
        }
        if server.frozen {
            server.wait_frozen();
            continue;
        }
        server.pause();
        server.turn(&mut events)?;
        glommio::yield_if_needed().await;
    }
    server.relay.close_all();
    server.cores.set_connections(core, 0);
    Ok(())
}

impl Server {
    /// Waits for messages, and for nothing else: what epoll would tell of connections it tells later.
    fn wait_frozen(&mut self) {
        let mailbox = self.cores.mailbox_of(self.core);
        let mut fds = [PollFd::new(mailbox.as_fd(), PollFlags::POLLIN)];
        // An error is nothing to wait for longer.
        let _ = poll(&mut fds, FROZEN_MS);
        self.read_mailbox();
    }

    fn freeze(&mut self, sender: &Sender<usize>) {
        self.frozen = true;
        (0..self.listeners.len()).for_each(|at| self.unwatch(at));
        // A full or closed channel means that nobody waits for the answer any more.
        let _ = sender.try_send(self.core);
    }

    fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            self.watch_listeners();
        }
    }

    /// Lets lookups gather, where that is worth it.
    fn pause(&mut self) {
        let began = self.relay.now();
        let longest = self.relay.batch_delay();
        let answered = self.relay.answered();
        let pause = self.coalescing.pause(began, answered, longest);
        if pause > 0 {
            clock::sleep_until(began.after(pause));
        }
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let longest = if self.full.is_some() {
            FULL_MS
        } else {
            IDLE_MS
        };
        let wait = self.relay.wait_ms(longest);
        let count = self.relay.epoll().wait(events, wait)?;
        self.relay.begin_turn();
        for at in 0..count {
            let ready = events.get(at);
            if at + 1 < count {
                self.relay.expect(events.get(at + 1).token);
            }
            match ready.token {
                WAKE_TOKEN => self.read_mailbox(),
                token if token & OWN_TOKENS != 0 => {
                    let at = (token - OWN_TOKENS - 1) as usize;
                    self.accept_from(at);
                }
                _ => self.relay.ready(ready),
            }
        }
        self.relay.end_turn();
        self.cores
            .set_connections(self.core, self.relay.connections());
        if let Some(until) = self.full
            && self.relay.now() >= until
            && self.cores.has_room()
        {
            self.watch_listeners();
        }
        Ok(())
    }

    fn read_mailbox(&mut self) {
        for message in self.cores.mailbox_of(self.core).take() {
            match message {
                Message::Listen(fd, role) => self.listen(fd, role),
                Message::Unlisten(fd) => self.unlisten(&fd),
                Message::Adopt(fd, role) => {
                    self.relay.adopt(role, fd);
                    self.cores.has_arrived(self.core, self.relay.connections());
                }
                Message::Woken(users) => self.relay.wake(&users),
                Message::TryAll => self.relay.wake_all(),
                Message::Report(sender) => {
                    // A full or closed channel means that nobody waits for the answer any more.
                    let _ = sender.try_send((self.core, self.relay.stats().clone()));
                }
                Message::Alive(sender) => {
                    // Likewise.
                    let _ = sender.try_send(self.core);
                }
                Message::Freeze(sender) => self.freezing = Some(sender),
                Message::Thaw => self.thaw(),
                Message::Show(channel, sender) => {
                    // Likewise.
                    let _ = sender.try_send(self.relay.show(&mut channel.lock()));
                }
                Message::TakeUp(carried) => {
                    self.relay.take_up(*carried);
                    self.cores
                        .set_connections(self.core, self.relay.connections());
                }
                Message::Stop => self.stop = true,
            }
        }
    }

    fn listen(&mut self, fd: Arc<OwnedFd>, role: Role) {
        self.listeners.push(Some(Listener { fd, role }));
        if self.full.is_none() && !self.frozen {
            self.watch(self.listeners.len() - 1);
        }
    }

    fn unlisten(&mut self, fd: &OwnedFd) {
        for at in 0..self.listeners.len() {
            let same = |it: &Listener| it.fd.as_raw_fd() == fd.as_raw_fd();
            if self.listeners[at].as_ref().is_some_and(same) {
                self.unwatch(at);
                self.listeners[at] = None;
            }
        }
    }

    fn watch(&self, at: usize) {
        let Some(listener) = &self.listeners[at] else {
            return;
        };
        let token = OWN_TOKENS + 1 + at as u64;
        let added = self
            .relay
            .epoll()
            .add(listener.fd.as_fd(), token, Interest::Listener);
        if let Err(error) = added {
            tracing::error!("cannot watch a listener: {error}");
        }
    }

    fn unwatch(&self, at: usize) {
        if let Some(listener) = &self.listeners[at] {
            // It may not be watched just now, which is what is wanted.
            let _ = self.relay.epoll().remove(listener.fd.as_fd());
        }
    }

    fn watch_listeners(&mut self) {
        self.full = None;
        (0..self.listeners.len()).for_each(|at| self.watch(at));
    }

    fn stop_accepting(&mut self, why: &str, pause_nanos: u64) {
        (0..self.listeners.len()).for_each(|at| self.unwatch(at));
        let now = self.relay.now();
        self.full = Some(Mono(now.0 + pause_nanos));
        if let Some(more) = self.full_log.allow(now) {
            tracing::warn!(
                "{why}; new connections wait in the backlog{}",
                left_out(more)
            );
        }
    }

    fn accept_from(&mut self, at: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(Some(listener)) = self.listeners.get(at) else {
                return;
            };
            if !self.cores.has_room() {
                return self.stop_accepting("client_limit reached", 0);
            }
            let role = listener.role;
            match accept(listener.fd.as_fd()) {
                Ok(fd) => self.take(fd, role),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let why = format!("cannot accept a connection: {error}");
                    return self.stop_accepting(&why, REFUSED_NANOS);
                }
            }
        }
    }

    fn take(&mut self, fd: OwnedFd, role: Role) {
        self.relay.stats().accepted += 1;
        let to = self.cores.place(self.core, self.relay.connections());
        if to == self.core {
            self.relay.adopt(role, fd);
            self.cores
                .set_connections(self.core, self.relay.connections());
        } else {
            self.relay.stats().handed_over += 1;
            self.cores.send(to, Message::Adopt(fd, role));
        }
    }
}
