//! The sockets of the admin listeners.
//!
//! | module | what it does |
//! |---|---|
//! | `accept` | who may connect, and how many |
//! | `conn` | one connection: bytes in and out |
//! | `jobs` | what takes long: lists of users, names that must be looked up |
//! | `histograms` | how long lookups took |
//! | `sessions` | how many sessions somebody has |
//! | [`serve`] | the thread, and what others tell it |
//!
//! One thread has an epoll instance, from which everything comes: listeners, connections, and messages
//! of the ring's thread, of control and of jobs. It shares the snapshot and the user table with lookup
//! cores, and waits for nobody.

mod accept;
mod conn;
mod histograms;
mod jobs;
pub mod serve;
mod sessions;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

pub use sessions::counter;

use accept::{LISTENER, Listener};
use conn::Conn;
use jobs::Jobs;
use serve::Message;

use super::clock;
use super::cores::Cores;
use super::directory::Directory;
use super::epoll::{Epoll, Events, Interest, Ready};
use super::log_limit::{LogLimit, left_out};
use super::mailbox::Mailbox;
use super::ring_io::{self, serve::Replies};
use crate::admin::{Context, UserList, Work, rows};
use crate::core::ring::{Answer, Ticket, Whereabouts};
use crate::core::snapshot::Snapshot;
use crate::core::{Mono, UserHash};
use crate::wire::admin::Fact;

/// Commands of one connection that are begun in a turn, before others have theirs.
const COMMANDS_PER_TURN: usize = 64;
/// Bytes that may wait for a client before its next command is begun, or more rows are made.
const OUTPUT_HIGH: usize = 64 * 1024;
/// Rows of users that are made at once, some 40 bytes each.
const ROWS_PER_STEP: usize = 1024;
/// How long a connection may have nothing to do: scripts may keep one for a check every few minutes.
const IDLE_LIMIT: u64 = 3600 * Mono::SECOND;
/// How long a client may leave bytes unread: doveadm's output may be looked at page by page.
const STALLED_LIMIT: u64 = 600 * Mono::SECOND;
/// How often limits of time are looked at.
const LOOK_PAUSE: u64 = 5 * Mono::SECOND;

const MAIL: u64 = 1 << 63;
const REPLIES: u64 = MAIL | 1;

/// What the thread needs.
pub struct Setup {
    /// The snapshot and the user table.
    pub directory: Arc<Directory>,
    /// The first snapshot, with the backends of the settings.
    pub initial: Arc<Snapshot>,
    /// Reads the settings' backends again; called on a thread of its own.
    pub configured: jobs::Configured,
    /// Counts sessions.
    pub count: jobs::Count,
    /// The serving cores, which tell how long lookups took.
    pub cores: Arc<Cores>,
    /// How commands are understood.
    pub context: Context,
    /// Of the ring's thread, which carries requests out.
    pub ring: Arc<Mailbox<ring_io::serve::Message>>,
    /// Where that replies to.
    pub replies: Arc<Replies>,
}

/// All connections. For one thread.
pub struct AdminIo {
    setup: Setup,
    mailbox: Arc<Mailbox<Message>>,
    epoll: Epoll,
    listeners: BTreeMap<usize, Listener>,
    /// No listener is watched until then, or while there are too many connections.
    accept_again: Option<Mono>,
    conns: BTreeMap<u64, Conn>,
    last_conn: u64,
    /// Connections by what they wait for.
    tickets: BTreeMap<Ticket, u64>,
    last_ticket: u64,
    /// Connections that have more to do than a turn's share.
    again: VecDeque<u64>,
    jobs: Jobs,
    left: bool,
    looked: Mono,
    now: Mono,
    refused: LogLimit,
    faults: LogLimit,
    changes: LogLimit,
}

impl AdminIo {
    /// Nobody is connected.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new(setup: Setup, mailbox: Arc<Mailbox<Message>>) -> io::Result<AdminIo> {
        let epoll = Epoll::new()?;
        epoll.add(mailbox.as_fd(), MAIL, Interest::Readable)?;
        epoll.add(setup.replies.as_fd(), REPLIES, Interest::Readable)?;
        let jobs = Jobs::new(
            Arc::clone(&setup.directory),
            Arc::clone(&setup.configured),
            Arc::clone(&setup.count),
            Arc::clone(&setup.cores),
            Arc::clone(&mailbox),
        );
        let now = clock::mono();
        Ok(AdminIo {
            setup,
            mailbox,
            epoll,
            listeners: BTreeMap::new(),
            accept_again: None,
            conns: BTreeMap::new(),
            last_conn: 0,
            tickets: BTreeMap::new(),
            last_ticket: 0,
            again: VecDeque::new(),
            jobs,
            left: false,
            looked: now,
            now,
            refused: LogLimit::default(),
            faults: LogLimit::default(),
            changes: LogLimit::default(),
        })
    }

    /// Waits until there is something to do, and does it.
    ///
    /// # Errors
    /// None that the kernel gives for these descriptors.
    pub fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let count = self.epoll.wait(events, self.wait_ms())?;
        self.now = clock::mono();
        for at in 0..count {
            self.ready(events.get(at));
        }
        for id in std::mem::take(&mut self.again) {
            self.work(id);
        }
        self.look_at_times();
        self.resume_accepting();
        Ok(())
    }

    fn wait_ms(&self) -> i32 {
        if !self.again.is_empty() {
            return 0;
        }
        let looked = (!self.conns.is_empty()).then(|| self.looked.after(LOOK_PAUSE));
        let Some(next) = [looked, self.accept_again].into_iter().flatten().min() else {
            return -1;
        };
        let wait = next.since(clock::mono()).div_ceil(1_000_000);
        i32::try_from(wait).unwrap_or(i32::MAX)
    }

    fn ready(&mut self, ready: Ready) {
        match ready.token {
            MAIL => self.read_mailbox(),
            REPLIES => self.read_replies(),
            token if token & LISTENER != 0 => self.accept_from((token & !LISTENER) as usize),
            id => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    if ready.writable {
                        conn.flush(self.now);
                    }
                    if ready.readable {
                        conn.read(self.now);
                    }
                    self.work(id);
                }
            }
        }
    }

    /// Carries out what a connection wants, as far as nothing must be waited for.
    fn work(&mut self, id: u64) {
        for _ in 0..COMMANDS_PER_TURN {
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            conn.flush(self.now);
            if conn.waiting() >= OUTPUT_HIGH {
                return self.watch(id);
            }
            if conn.list.is_some() {
                self.write_list(id);
                continue;
            }
            let Some(work) = conn.session.next_work() else {
                return self.rest(id);
            };
            self.begin(id, work);
        }
        self.again.push_back(id);
        self.watch(id);
    }

    /// There is nothing to do: the connection waits, or is over.
    fn rest(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.flush(self.now);
        // What waited in the socket for want of room.
        if conn.read(self.now) {
            self.again.push_back(id);
        }
        if !conn.session.is_over() || conn.waiting() > 0 {
            return self.watch(id);
        }
        if let Some(fault) = conn.session.fault()
            && let Some(more) = self.faults.allow(self.now)
        {
            let (peer, more) = (&conn.peer, left_out(more));
            tracing::error!("admin client {peer}: {fault}, closing the connection{more}");
        }
        self.close(id);
    }

    fn begin(&mut self, id: u64, work: Work) {
        match work {
            Work::Ask(request) => {
                self.log_request(id);
                let ticket = self.ticket(id);
                let message = ring_io::serve::Message::Request(ticket, request);
                self.setup.ring.send(message);
            }
            Work::Directors => {
                let ticket = self.ticket(id);
                let message = ring_io::serve::Message::Report(ticket);
                self.setup.ring.send(message);
            }
            Work::Drains => {
                let ticket = self.ticket(id);
                self.setup
                    .ring
                    .send(ring_io::serve::Message::Drains(ticket));
            }
            Work::Hosts => {
                let snapshot = self.setup.directory.snapshot();
                let users = self
                    .setup
                    .directory
                    .users_per_backend(clock::wall(), &snapshot);
                self.list(id, |out| rows::write_hosts(&snapshot, &users, out));
            }
            Work::Lookup {
                hash,
                tag,
                why: false,
            } => self.look_up(id, hash, &tag, &[]),
            Work::Lookup { hash, tag, .. } => {
                let ticket = self.ticket(id);
                let message = ring_io::serve::Message::Why(ticket, hash, tag);
                self.setup.ring.send(message);
            }
            Work::RemovedHosts => {
                let ticket = self.ticket(id);
                self.jobs.read_settings(ticket);
            }
            Work::Histograms(core) => {
                let ticket = self.ticket(id);
                self.jobs.ask_cores(ticket, core);
            }
            Work::Sessions(whose) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.watched_sessions = None;
                }
                self.count(id, whose);
            }
            Work::SessionsLeft => self.count_left(id),
            Work::Users(host) => {
                let ticket = self.ticket(id);
                self.jobs.list_users(ticket, host);
            }
        }
    }

    fn ticket(&mut self, id: u64) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.tickets.insert(ticket, id);
        ticket
    }

    /// An operator will want to know who did it.
    fn log_request(&mut self, id: u64) {
        let (Some(conn), Some(more)) = (self.conns.get(&id), self.changes.allow(self.now)) else {
            return;
        };
        let (peer, more) = (&conn.peer, left_out(more));
        tracing::info!("admin client {peer}: {}{more}", conn.session.command());
    }

    fn look_up(&mut self, id: u64, hash: UserHash, tag: &[u8], facts: &[Fact]) {
        let directory = &self.setup.directory;
        let snapshot = directory.snapshot();
        let peek = |key| directory.peek(key, clock::wall(), &snapshot);
        if let Some(conn) = self.conns.get_mut(&id) {
            let out = conn.session.out();
            let initial = &self.setup.initial;
            rows::write_lookup((hash, tag), &snapshot, initial, peek, facts, out);
            conn.session.end_row();
        }
    }

    /// A list that is short enough to be written at once.
    fn list(&mut self, id: u64, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(conn) = self.conns.get_mut(&id) {
            write(conn.session.out());
            conn.session.end_list();
        }
    }

    /// The next rows of a list of users.
    fn write_list(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let Some(list) = &mut conn.list else {
            return;
        };
        // A client that is gone reads none of them.
        if !conn.deaf && list.write(ROWS_PER_STEP, conn.session.out()) {
            return;
        }
        conn.session.end_list();
        let list = conn.list.take();
        self.jobs.list_is_over(list.map_or(0, |list| list.len()));
    }

    /// The connection that a ticket belongs to, if it is still there.
    fn redeem(&mut self, ticket: Ticket) -> Option<u64> {
        let id = self.tickets.remove(&ticket)?;
        self.conns.contains_key(&id).then_some(id)
    }

    fn read_replies(&mut self) {
        for (ticket, reply) in self.setup.replies.take() {
            match reply {
                ring_io::serve::Reply::Answer(answer) => self.answered(ticket, &answer),
                ring_io::serve::Reply::Report(report) => {
                    self.list_for(ticket, |out| report.iter().for_each(|row| row.write(out)));
                }
                ring_io::serve::Reply::Why(hash, tag, known) => {
                    self.explain(ticket, hash, &tag, known.as_ref());
                }
                ring_io::serve::Reply::Drains(drains) => {
                    self.list_for(ticket, |out| rows::write_drains(&drains, out));
                }
            }
        }
    }

    fn explain(&mut self, ticket: Ticket, hash: UserHash, tag: &[u8], known: Option<&Whereabouts>) {
        if let Some(id) = self.redeem(ticket) {
            let facts = rows::facts(hash, known);
            self.look_up(id, hash, tag, &facts);
            self.work(id);
        }
    }

    fn answered(&mut self, ticket: Ticket, answer: &Answer) {
        if let Some(id) = self.redeem(ticket)
            && let Some(conn) = self.conns.get_mut(&id)
        {
            conn.session.answer(answer);
            self.work(id);
        }
    }

    /// The list that a ticket waits for.
    fn list_for(&mut self, ticket: Ticket, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(id) = self.redeem(ticket) else {
            return;
        };
        self.list(id, write);
        self.work(id);
    }

    fn removed_hosts(&mut self, ticket: Ticket, configured: Option<&[std::net::IpAddr]>) {
        let Some(id) = self.redeem(ticket) else {
            return;
        };
        let snapshot = self.setup.directory.snapshot();
        let initial = Arc::clone(&self.setup.initial);
        self.list(id, |out| match configured {
            Some(list) => rows::write_removed_hosts(list, &snapshot, out),
            // The settings are wrong now, which was logged: those of the start.
            None => {
                let list: Vec<_> = initial.backends.iter().flatten().map(|it| it.ip).collect();
                rows::write_removed_hosts(&list, &snapshot, out);
            }
        });
        self.work(id);
    }

    /// What was asked for cannot be had: closed, as for anything that has no reply.
    fn failed(&mut self, ticket: Ticket) {
        if let Some(id) = self.redeem(ticket) {
            self.close(id);
        }
    }

    fn users(&mut self, ticket: Ticket, list: UserList) {
        let Some(id) = self.redeem(ticket) else {
            return self.jobs.list_is_over(list.len());
        };
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.list = Some(list);
        }
        self.work(id);
    }

    /// Has epoll tell of what a connection waits for. What it does not is not watched at all, since a
    /// client that is gone would be told of for ever.
    fn watch(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let (read, write) = (conn.session.room() > 0, conn.waiting() > 0);
        let wanted = match (read, write) {
            (true, true) => Some(Interest::Duplex),
            (true, false) => Some(Interest::Readable),
            (false, true) => Some(Interest::Writable),
            (false, false) => None,
        };
        if conn.watched == (read, write) {
            return;
        }
        let was = conn.watched != (false, false);
        conn.watched = (read, write);
        let fd = conn.as_fd();
        let done = match wanted {
            Some(interest) if was => self.epoll.modify(fd, id, interest),
            Some(interest) => self.epoll.add(fd, id, interest),
            None => self.epoll.remove(fd),
        };
        if let Err(error) = done {
            tracing::error!("cannot watch an admin connection, closing it: {error}");
            self.close(id);
        }
    }

    fn close(&mut self, id: u64) {
        let Some(conn) = self.conns.remove(&id) else {
            return;
        };
        if let Some(list) = conn.list {
            self.jobs.list_is_over(list.len());
        }
        self.room_again();
    }

    /// Closes those that have done nothing for too long.
    fn look_at_times(&mut self) {
        if self.now.since(self.looked) < LOOK_PAUSE {
            return;
        }
        self.looked = self.now;
        let idle_limit = self.idle_limit();
        let late = |conn: &Conn| {
            let since = self.now.since(conn.active);
            match (conn.waiting() > 0, conn.session.is_busy()) {
                (true, _) => since >= STALLED_LIMIT,
                (false, true) => false,
                (false, false) => since >= idle_limit,
            }
        };
        let late = self.conns.iter().filter(|(_, conn)| late(conn));
        let late: Vec<u64> = late.map(|(&id, _)| id).collect();
        for id in late {
            if let Some(conn) = self.conns.get(&id)
                && let Some(more) = self.faults.allow(self.now)
            {
                let (peer, more) = (&conn.peer, left_out(more));
                tracing::info!(
                    "admin client {peer}: it did nothing for {} s, closing the connection{more}",
                    self.now.since(conn.active) / Mono::SECOND
                );
            }
            self.close(id);
        }
    }
}

#[cfg(test)]
mod tests;
