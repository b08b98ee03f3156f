//! The sockets, timers and notes of the director ring.
//!
//! | module | what it does |
//! |---|---|
//! | [`driver`] | the machine and the table that it works on |
//! | `accept` | connections that others make to us |
//! | `conn` | one connection: bytes that wait, dialling |
//! | `log` | what is logged, and how often |
//! | `orders` | kicks and flush scripts, which another thread carries out |
//! | `secure` | where TLS stands between sockets and machine |
//! | [`tls`] | TLS itself, without sockets |
//! | [`serve`] | the thread, and what others tell it |
//!
//! Everything that may happen ends the wait in one epoll instance: listeners, connections, notes of
//! the lookup cores, messages of control, and the time of whatever is due next. So there is one
//! task, which waits in one place, and no task or timer that would have to be cancelled (glommio
//! leaks those); and [`RingIo::turn`] can be called from a test without any executor.
//!
//! A turn feeds what has happened to the machine, carries out what it wants, and writes each
//! connection once, unless there is very much. What happens after a quiet time is worked on at once;
//! while there is something to do all the time, turns come at [`TURN_PAUSE`]. After a long turn, as
//! those that hand over millions of users, the CPU is left to the serving core for as long again: its
//! lookups wait for one turn at most.

mod accept;
mod conn;
pub mod driver;
mod log;
mod orders;
mod secure;
pub mod serve;
pub mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use accept::LISTENER;
use conn::{Conn, Stage};
pub use driver::{Driver, Machine};
use log::Log;
use orders::Orders;
pub use secure::Tuning;
use serve::{Message, Replies, Reply};

use super::chronicle::Chronicle;
use super::clock;
use super::cores::Cores;
use super::epoll::{Epoll, Events, Interest, Ready};
use super::health::Desk;
use super::io::Read;
use super::mailbox::Mailbox;
use super::notes::Notes;
use super::sessions::Learnt;
use super::state::Recollection;
use crate::core::ring::{ConnId, Input, Level, Now, Output};
use crate::core::{Mono, UserKey};
use crate::wire::ring::DirectorId;

/// Bytes read from a connection at once; one read is one input.
const READ_SIZE: usize = 32 * 1024;
/// Bytes that the machine may have to pass on before they are written: what is waiting must fit into
/// the smallest `director_output_buffer_size`, 64 KiB. A line may be half as long again as it came.
const TOLD_PER_WRITE: usize = READ_SIZE + READ_SIZE / 2;
/// Bytes that a note becomes, some 30 with an IPv4 address.
const NOTE_SIZE: usize = 64;
/// Notes taken at once.
const NOTES_PER_WRITE: usize = 512;
/// Time from one turn to the next while there is something to do in each. The lines of so long cost
/// one wake-up, one read and one write for each neighbour: without it each login would.
///
/// Whoever logs in is told to the ring by so much later at most, and every director that passes it
/// on adds as much again: less than a login takes, and than a busy director of Dovecot's, whose one
/// thread relays lookups too. Meanwhile another director would place the user by the same hash ring.
/// A lookup waits for the ring only while its user is moved or confirmed, or while this director is
/// joining, and then for more than that (tuning.md).
const TURN_PAUSE: u64 = 5_000_000;
/// Shards that lost notes and are looked through in one turn. Each may hold ten thousand users, so
/// that all 1024 take some tenths of a second, during which connections are served. SYNCs wait for the
/// last of them if a snapshot was published meanwhile.
const LOST_PER_TURN: usize = 16;
/// Times that one turn writes what the machine made because something was written: a handshake is
/// written in parts, and must not keep the other connections waiting.
const ROUNDS_PER_TURN: usize = 16;

const NOTES: u64 = 1 << 63;
const MAIL: u64 = NOTES | 1;

/// The ring's machine with its sockets. For one thread.
pub struct RingIo<M> {
    machine: M,
    /// Our address in the ring: others know us by where our connections come from.
    own: IpAddr,
    notes: Arc<Notes>,
    cores: Arc<Cores>,
    mailbox: Arc<Mailbox<Message>>,
    replies: Arc<Replies>,
    epoll: Epoll,
    /// By the numbers that control gives them.
    listeners: BTreeMap<usize, OwnedFd>,
    /// No listener is watched until then.
    accept_again: Option<Mono>,
    conns: BTreeMap<ConnId, Conn>,
    /// Answers to outputs, to be fed next.
    answers: VecDeque<Input<'static>>,
    /// Users whose lookups are to be tried again.
    woken: Vec<UserKey>,
    /// Notes were lost: whoever waits for what they would have begun must ask again.
    lost: bool,
    /// Notes that were taken.
    noted: Vec<UserKey>,
    /// Notes are looked at in every turn: whoever leaves one needs not wake us.
    awake: bool,
    /// Not before then, since the last turn had something to do.
    next_turn: Option<Mono>,
    /// Bytes and notes that this turn has taken in.
    taken: usize,
    /// Bytes that the machine may have been made to write since the last write.
    told: usize,
    /// A turn had more to do than its share.
    again: bool,
    /// The process ends.
    left: bool,
    scratch: Vec<u8>,
    now: Now,
    log: Log,
    orders: Orders,
    /// Sessions whose users are to be placed before any lookup is.
    learnt: Vec<Learnt>,
    /// Users that were saved; they come behind those.
    saved: Option<Recollection>,
    /// For metrics and the page.
    chronicle: Arc<Chronicle>,
    /// Who hears of states that operators set.
    health: Option<Arc<Desk>>,
}

impl<M: Machine> RingIo<M> {
    /// Nobody is connected, and nothing has been said to the machine.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new(
        machine: M,
        own: IpAddr,
        notes: Arc<Notes>,
        cores: Arc<Cores>,
        mailbox: Arc<Mailbox<Message>>,
        replies: Arc<Replies>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(notes.as_fd(), NOTES, Interest::Readable)?;
        epoll.add(mailbox.as_fd(), MAIL, Interest::Readable)?;
        Ok(RingIo {
            machine,
            own,
            notes,
            cores,
            mailbox,
            replies,
            epoll,
            listeners: BTreeMap::new(),
            accept_again: None,
            conns: BTreeMap::new(),
            answers: VecDeque::new(),
            woken: Vec::new(),
            noted: Vec::new(),
            lost: false,
            // Then it falls asleep if there are no notes.
            awake: true,
            next_turn: None,
            taken: 0,
            told: 0,
            again: false,
            left: false,
            scratch: vec![0; READ_SIZE],
            now: now(),
            log: Log::default(),
            orders: Orders::default(),
            learnt: Vec::new(),
            saved: None,
            chronicle: Arc::default(),
            health: None,
        })
    }

    /// Waits until there is something to do, `longest` milliseconds at most, and does it. False:
    /// there was nothing.
    ///
    /// # Errors
    /// None that the kernel gives for these descriptors.
    pub fn turn(&mut self, events: &mut Events, longest: i32) -> io::Result<bool> {
        let wait = self.wait_ms(longest);
        let count = self.epoll.wait(events, wait)?;
        self.now = now();
        self.taken = 0;
        let due = self.is_due();
        for at in 0..count {
            self.ready(events.get(at));
        }
        self.drain_notes();
        self.settle();
        if self.left {
            self.leave();
        }
        self.plan();
        Ok(count > 0 || due || self.taken > 0)
    }

    /// How long to wait for events: whole milliseconds, so that a time that is waited for has come
    /// afterwards.
    fn wait_ms(&self, longest: i32) -> i32 {
        if self.awake || self.again {
            return 0;
        }
        let times = [self.machine.next_deadline(), self.accept_again];
        let Some(next) = times.into_iter().flatten().min() else {
            return longest;
        };
        let wait = next.since(clock::mono()).div_ceil(1_000_000);
        i32::try_from(wait).map_or(longest, |wait| wait.min(longest))
    }

    /// The next turn comes soon if this one had something to do; else when there is something.
    fn plan(&mut self) {
        let busy = self.taken > 0;
        if busy && !self.awake {
            self.notes.woken();
        }
        self.awake = busy || !self.notes.fall_asleep();
        // Whoever sends much, as in a handshake, is made to wait no longer than such a turn takes, and who
        // has to be sent much likewise.
        let much = self.again
            || self.taken >= READ_SIZE
            || self.conns.values().any(|conn| conn.outbox.len() > 0);
        let began = self.now.mono;
        self.next_turn = match (busy, much) {
            (false, _) => None,
            (true, false) => Some(began.after(TURN_PAUSE)),
            (true, true) => {
                let end = clock::mono();
                Some(end.after(end.since(began).min(TURN_PAUSE)))
            }
        };
    }

    fn ready(&mut self, ready: Ready) {
        match ready.token {
            NOTES => self.notes.woken(),
            MAIL => self.read_mailbox(),
            token if token & LISTENER != 0 => self.accept_from((token & !LISTENER) as usize),
            token => self.conn_ready(ConnId(token), ready),
        }
    }

    fn conn_ready(&mut self, id: ConnId, ready: Ready) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.stage == Stage::Dialling {
            self.dialled(id);
        } else {
            if ready.writable && conn.outbox.len() > 0 {
                conn.flush();
                let unsent = conn.outbox.len();
                self.handle(Input::Written(id, unsent));
            }
            if ready.readable {
                self.read(id);
            }
        }
        self.watch(id);
        self.perform();
    }

    fn dialled(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match conn.finish_dial() {
            Ok(()) => self.handle(Input::Connected(id)),
            Err(error) => {
                let to = conn.dialled;
                self.report_dial(to, &error);
                self.conns.remove(&id);
                self.handle(Input::DialFailed(id));
            }
        }
    }

    fn read(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        match conn.read(&mut self.scratch) {
            Read::Bytes(count) if !conn.link.is_plain() => self.read_through(id, count),
            Read::Bytes(count) => {
                self.make_room(count + count / 2);
                self.taken += count;
                let bytes = &self.scratch[..count];
                self.machine.handle(Input::Received(id, bytes), self.now);
            }
            Read::Empty => {}
            Read::End => {
                self.conns.remove(&id);
                self.handle(Input::Ended(id));
            }
        }
    }

    /// Has epoll tell of room exactly while bytes wait for it.
    fn watch(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let wanted = conn.stage == Stage::Dialling || conn.outbox.len() > 0;
        if wanted == conn.watched_for_room {
            return;
        }
        let interest = if wanted {
            Interest::Duplex
        } else {
            Interest::Readable
        };
        match self.epoll.modify(conn.as_fd(), id.0, interest) {
            Ok(()) => conn.watched_for_room = wanted,
            Err(error) => {
                let text = || format!("cannot watch a connection: {error}");
                self.log.line(Level::Error, "watch", self.now.mono, text);
            }
        }
    }

    fn drain_notes(&mut self) {
        let mut count = 0;
        let all = loop {
            self.make_room(NOTES_PER_WRITE * NOTE_SIZE);
            self.noted.clear();
            let noted = &mut self.noted;
            let taken = self.notes.drain(NOTES_PER_WRITE, |key| noted.push(key));
            if taken > 0 {
                self.machine.handle(Input::Notes(&self.noted), self.now);
            }
            // A small batch is usual, and needs no write of its own.
            self.told -= (NOTES_PER_WRITE - taken) * NOTE_SIZE;
            count += taken;
            // Bounded, or it would not end while the cores are faster.
            let all = taken < NOTES_PER_WRITE;
            if all || count >= self.notes.capacity() {
                break all;
            }
        };
        let lost = self.notes.take_lost(LOST_PER_TURN);
        for &shard in &lost {
            self.handle(Input::NotesLost(shard));
            self.perform();
            self.write();
        }
        if all && lost.len() < LOST_PER_TURN {
            self.machine.caught_up(self.now);
        }
        self.lost |= !lost.is_empty();
        self.taken += count + lost.len();
    }

    /// Writes what waits if the machine could be made to write too much by what it is told next.
    fn make_room(&mut self, bytes: usize) {
        if self.told + bytes > TOLD_PER_WRITE {
            self.perform();
            self.write();
        }
        self.told += bytes;
    }

    fn handle(&mut self, input: Input<'_>) {
        self.machine.handle(input, self.now);
    }

    /// Does what follows from all that was fed.
    fn settle(&mut self) {
        self.resume_accepting();
        if self.deadline_has_come() {
            self.handle(Input::Tick);
        }
        self.again = true;
        for _ in 0..ROUNDS_PER_TURN {
            self.perform();
            if !self.write() {
                self.again = false;
                break;
            }
        }
        // Before lookups that wait for the ring are told that it is there.
        self.learn();
        self.tell_cores();
    }

    /// Places the users of sessions that were there at the start, then those that were saved, as soon as
    /// that can be.
    fn learn(&mut self) {
        if !self.learnt.is_empty() && self.machine.learn(&self.learnt, self.now) {
            self.learnt = Vec::new();
        }
        let recalled = |saved: &Recollection| self.machine.recall(saved, self.now);
        if self.learnt.is_empty() && self.saved.as_ref().is_some_and(recalled) {
            self.saved = None;
        }
    }

    /// Whether something is to be done because of the time.
    fn is_due(&self) -> bool {
        let resume = self.accept_again.is_some_and(|at| at <= self.now.mono);
        self.again || resume || self.deadline_has_come()
    }

    fn deadline_has_come(&self) -> bool {
        let deadline = self.machine.next_deadline();
        deadline.is_some_and(|at| at <= self.now.mono)
    }

    /// Carries out what the machine wants, until it wants nothing more.
    fn perform(&mut self) {
        loop {
            let outputs = self.machine.take_outputs();
            if outputs.is_empty() && self.answers.is_empty() {
                return;
            }
            for output in outputs {
                self.carry_out(output);
            }
            while let Some(answer) = self.answers.pop_front() {
                self.handle(answer);
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial(id, director) => self.dial(id, director),
            Output::Close(id, rest) => {
                if let Some(conn) = self.conns.remove(&id) {
                    conn.close(rest, &mut self.scratch);
                }
            }
            Output::Secure(id) => self.secure(id),
            Output::Kick(kick) => {
                self.chronicle.kicked(&kick, self.now.wall, self.now.mono);
                self.answers.extend(self.orders.kick(kick));
            }
            Output::AbortKick(key) => self.orders.abort_kick(key),
            Output::Flush(flush) => {
                self.chronicle.flushed();
                self.answers.extend(self.orders.flush(flush));
            }
            Output::AbortFlush(key) => self.orders.abort_flush(key),
            Output::Wake(key) => self.woken.push(key),
            Output::Answer(ticket, answer) => {
                self.replies.send((ticket, Reply::Answer(answer)));
            }
            Output::Event(event) => {
                self.chronicle
                    .happened(&event, self.now.wall, self.now.mono);
                self.log.event(&event, self.now.mono);
            }
        }
    }

    fn dial(&mut self, id: ConnId, director: DirectorId) {
        let to = SocketAddr::new(director.ip, director.port);
        let dialled = Conn::dial(self.own, to).and_then(|conn| {
            self.epoll.add(conn.as_fd(), id.0, Interest::Duplex)?;
            Ok(conn)
        });
        match dialled {
            Ok(conn) => {
                self.conns.insert(id, conn);
            }
            Err(error) => {
                self.report_dial(Some(to), &error);
                self.answers.push_back(Input::DialFailed(id));
            }
        }
    }

    /// The machine says that a director cannot be reached, and this why.
    fn report_dial(&mut self, to: Option<SocketAddr>, error: &io::Error) {
        let to = to.map_or_else(String::new, |to| to.to_string());
        let text = || format!("connect({to}) from {} failed: {error}", self.own);
        self.log.line(Level::Info, "dial", self.now.mono, text);
    }

    /// Writes what waits, once to each connection. False: nothing did.
    fn write(&mut self) -> bool {
        self.told = 0;
        let mut written: Vec<(ConnId, usize)> = Vec::new();
        let conns = &mut self.conns;
        self.machine.unwritten(&mut |id, bytes| {
            if bytes.is_empty() {
                return;
            }
            match conns.get_mut(&id) {
                Some(conn) => {
                    conn.send(bytes);
                    written.push((id, conn.outbox.len()));
                }
                // Its end is not known to the machine yet.
                None => bytes.clear(),
            }
        });
        for &(id, unsent) in &written {
            self.watch(id);
            self.handle(Input::Written(id, unsent));
        }
        !written.is_empty()
    }

    /// Tells lookup cores what concerns those that wait.
    fn tell_cores(&mut self) {
        if self.machine.take_published() {
            self.cores.wake_all();
        }
        if !self.woken.is_empty() {
            self.cores.wake_users(std::mem::take(&mut self.woken));
        }
        if std::mem::take(&mut self.lost) {
            self.cores.try_all();
        }
    }
}

fn now() -> Now {
    Now {
        mono: clock::mono(),
        wall: clock::wall(),
    }
}

#[cfg(test)]
mod tests;
