//! The thread of the admin listeners, and what others tell it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

pub use super::accept::Gate;
pub use super::jobs::{Configured, Count};
use super::{AdminIo, Setup};
use crate::admin::{Census, UserList, Whose};
use crate::core::ring::Ticket;
use crate::shell::clock;
use crate::shell::epoll::Events;
use crate::shell::mailbox::Mailbox;
use crate::shell::rest::{Rest, Resting, rest};
use crate::shell::stats::Counted;

/// Pause after a failure of the kernel.
const FAILED_PAUSE: u64 = 100_000_000;

/// A message to the thread.
pub enum Message {
    /// Accept from this listener, to be called by this number.
    Listen(usize, OwnedFd, Gate),
    /// No longer accept from a listener.
    Unlisten(usize),
    /// Serve this connection of another part of the process; the text says on whose behalf.
    Join(OwnedFd, String),
    /// A list of users, which was expected to have so many.
    Users(Ticket, UserList, usize),
    /// Whose sessions were asked for, and those that are there; or why that is not known.
    Sessions(Ticket, Whose, Result<Census, String>),
    /// What serving cores have counted.
    Counted(Ticket, Box<Counted>),
    /// What was asked for cannot be had.
    Failed(Ticket),
    /// The settings' backends.
    Configured(Option<Vec<IpAddr>>),
    /// Take nothing more for a while.
    Rest(Rest),
    /// The process ends: close everything.
    Leave,
}

/// The thread, as seen by control. It ends when it is told to.
pub struct AdminThread {
    mailbox: Arc<Mailbox<Message>>,
    listeners: Cell<usize>,
    thread: RefCell<Option<JoinHandle<()>>>,
}

impl AdminThread {
    /// Starts it, on whatever CPUs the caller may use.
    ///
    /// # Errors
    /// Out of descriptors or threads.
    pub fn start(setup: Setup) -> io::Result<AdminThread> {
        let mailbox = Arc::new(Mailbox::new()?);
        let admin = AdminIo::new(setup, Arc::clone(&mailbox))?;
        let thread = Builder::new()
            .name("admin".to_owned())
            .spawn(move || serve(admin))?;
        Ok(AdminThread {
            mailbox,
            listeners: Cell::new(0),
            thread: RefCell::new(Some(thread)),
        })
    }

    /// Accepts from a listening socket from now on. Returns what [`AdminThread::unlisten`] needs.
    pub fn listen(&self, fd: OwnedFd, gate: Gate) -> usize {
        let number = self.listeners.replace(self.listeners.get() + 1);
        self.mailbox.send(Message::Listen(number, fd, gate));
        number
    }

    /// No longer accepts from a listener; its connections live on.
    pub fn unlisten(&self, number: usize) {
        self.mailbox.send(Message::Unlisten(number));
    }

    /// Takes no order and answers nothing while the guard is there. `None`: it is busy.
    pub fn rest(&self, limit: Duration) -> Option<Resting> {
        let (message, asked) = rest();
        self.mailbox.send(Message::Rest(message));
        asked.wait(limit)
    }

    /// Where anybody may leave messages for it.
    pub fn mailbox(&self) -> Arc<Mailbox<Message>> {
        Arc::clone(&self.mailbox)
    }

    /// The process ends: everything is closed, and the thread ends. Waits for that.
    pub fn leave(&self) {
        self.mailbox.send(Message::Leave);
        if let Some(Err(_)) = self.thread.borrow_mut().take().map(JoinHandle::join) {
            tracing::error!("the thread of the admin listeners ended with an error");
        }
    }
}

fn serve(mut admin: AdminIo) {
    let mut events = Events::default();
    while !admin.left {
        if let Err(error) = admin.turn(&mut events) {
            tracing::error!("cannot serve the admin listeners: {error}");
            clock::sleep_until(clock::mono().after(FAILED_PAUSE));
        }
    }
}

impl AdminIo {
    pub(super) fn read_mailbox(&mut self) {
        for message in self.mailbox.take() {
            match message {
                Message::Listen(number, fd, gate) => self.listen(number, fd, gate),
                Message::Unlisten(number) => self.unlisten(number),
                Message::Join(fd, peer) => self.join(fd, peer),
                Message::Users(ticket, list, about) => {
                    self.jobs.list_is_made(about, list.len());
                    self.users(ticket, list);
                }
                Message::Sessions(ticket, whose, counted) => {
                    self.jobs.sessions_are_counted();
                    self.sessions(ticket, whose, counted);
                }
                Message::Counted(ticket, counted) => {
                    self.jobs.cores_have_answered();
                    self.histograms(ticket, &counted);
                }
                Message::Failed(ticket) => self.failed(ticket),
                Message::Configured(configured) => {
                    for ticket in self.jobs.settings_are_read() {
                        self.removed_hosts(ticket, configured.as_deref());
                    }
                }
                Message::Rest(rest) => rest.take(),
                Message::Leave => {
                    self.left = true;
                    self.listeners.clear();
                    self.conns.clear();
                }
            }
        }
    }
}
