//! The sockets, timers and notes of the director ring.
//!
//! | module | what it does |
//! |---|---|
//! | [`driver`] | the machine and the table that it works on |
//! | `accept` | connections that others make to us |
//! | `conn` | one connection: bytes that wait, dialling |
//! | `log` | what is logged, and how often |
//!
//! Everything that may happen is one epoll instance: listeners, connections, notes of the lookup
//! cores, and one alarm for all times that are waited for. So there is one task, which waits in one
//! place, and no task or timer that would have to be cancelled (glommio leaks those); and
//! [`RingIo::turn`] can be called from a test without any executor.
//!
//! A turn feeds what has happened to the machine, carries out what it wants, and writes each
//! connection once, unless there is very much.

mod accept;
mod conn;
pub mod driver;
mod log;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use accept::LISTENER;
use conn::{Conn, Stage};
pub use driver::{Driver, Machine};
use log::Log;

use super::alarm::Alarm;
use super::clock;
use super::cores::Cores;
use super::epoll::{Epoll, Events, Interest, Ready};
use super::io::Read;
use super::notes::Notes;
use crate::core::ring::{ConnId, FlushResult, Input, Kick, Level, Limits, Now, Output};
use crate::core::{Mono, UserKey};
use crate::wire::ring::DirectorId;

/// Bytes read from a connection at once; one read is one input. What is to be passed on is up to
/// half as long again, and must fit into the smallest `director_output_buffer_size`, 64 KiB.
const READ_SIZE: usize = 32 * 1024;
/// Notes between two writes: some 30 KB, for the same reason.
const NOTES_PER_WRITE: usize = 512;
/// Pause between two looks at the notes while there are some. Whoever logs in is told to the ring
/// by so much later, which is below what two directors need to tell each other anything; and a busy
/// director makes a thousand writes a second instead of one for each login. The first note after a
/// quiet time waits for nothing.
const DRAIN_PAUSE: u64 = 1_000_000;
/// Shards that lost notes and are looked through in one turn. Each may hold ten thousand users, so
/// that all 1024 take some tenths of a second, during which connections are served.
const LOST_PER_TURN: usize = 16;
/// Times that one turn writes what the machine made because something was written: a handshake is
/// written in parts, and must not keep the other connections waiting.
const ROUNDS_PER_TURN: usize = 16;

const ALARM: u64 = 1 << 63;
const NOTES: u64 = ALARM | 1;

/// The ring's machine with its sockets. For one thread.
pub struct RingIo<M> {
    machine: M,
    /// Our address in the ring: others know us by where our connections come from.
    own: IpAddr,
    notes: Arc<Notes>,
    cores: Arc<Cores>,
    epoll: Epoll,
    alarm: Alarm,
    listeners: Vec<Option<OwnedFd>>,
    /// No listener is watched until then.
    accept_again: Option<Mono>,
    conns: BTreeMap<ConnId, Conn>,
    /// Answers to outputs, to be fed next.
    answers: VecDeque<Input<'static>>,
    /// Users whose lookups are to be tried again.
    woken: Vec<UserKey>,
    /// Notes were lost: whoever waits for what they would have begun must ask again.
    lost: bool,
    /// When notes are looked at next; `None`: when their descriptor says so.
    drain_at: Option<Mono>,
    /// A turn had more to do than its share.
    again: bool,
    scratch: Vec<u8>,
    now: Now,
    log: Log,
}

impl<M: Machine> RingIo<M> {
    /// Nobody is connected, and nothing has been said to the machine.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new(machine: M, own: IpAddr, notes: Arc<Notes>, cores: Arc<Cores>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let alarm = Alarm::new()?;
        epoll.add(alarm.as_fd(), ALARM, Interest::Readable)?;
        epoll.add(notes.as_fd(), NOTES, Interest::Readable)?;
        Ok(RingIo {
            machine,
            own,
            notes,
            cores,
            epoll,
            alarm,
            listeners: Vec::new(),
            accept_again: None,
            conns: BTreeMap::new(),
            answers: VecDeque::new(),
            woken: Vec::new(),
            lost: false,
            // Then it falls asleep if there are none.
            drain_at: Some(Mono(0)),
            again: false,
            scratch: vec![0; READ_SIZE],
            now: now(),
            log: Log::default(),
        })
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Does what is to be done, without waiting. To be called when [`RingIo`]'s descriptor is
    /// readable.
    ///
    /// # Errors
    /// None that the kernel gives for these descriptors.
    pub fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let count = self.epoll.wait(events, 0)?;
        self.now = now();
        for at in 0..count {
            self.ready(events.get(at));
        }
        self.drain_notes();
        self.settle();
        Ok(())
    }

    /// Something has happened that no descriptor tells of.
    pub fn feed(&mut self, input: Input<'_>) {
        self.now = now();
        self.handle(input);
        self.settle();
    }

    /// The process ends and no lookup core works any more: says what is left to be said, and
    /// closes everything.
    pub fn leave(&mut self) {
        self.stop_listening();
        self.now = now();
        self.drain_at = Some(self.now.mono);
        self.drain_notes();
        self.settle();
        self.feed(Input::Leave);
        self.conns.clear();
    }

    fn ready(&mut self, ready: Ready) {
        match ready.token {
            ALARM => self.alarm.rang(),
            NOTES => {
                self.notes.woken();
                self.drain_at = Some(self.now.mono);
            }
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
                let text = || format!("cannot connect to a director: {error}");
                self.log.line(Level::Info, "dial", self.now.mono, text);
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
            Read::Bytes(count) => {
                let bytes = &self.scratch[..count];
                self.machine.handle(Input::Received(id, bytes), self.now);
                if count == READ_SIZE {
                    // There is more, perhaps from others too: what this one said goes on first.
                    self.perform();
                    self.write();
                }
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
        if self.drain_at.is_none_or(|at| at > self.now.mono) {
            return;
        }
        let mut count = 0;
        loop {
            let (machine, now) = (&mut self.machine, self.now);
            let each = |key| machine.handle(Input::Note(key), now);
            let taken = self.notes.drain(NOTES_PER_WRITE, each);
            count += taken;
            // Bounded, or it would not end while the cores are faster.
            if taken < NOTES_PER_WRITE || count >= self.notes.capacity() {
                break;
            }
            self.perform();
            self.write();
        }
        let lost = self.notes.take_lost(LOST_PER_TURN);
        for &shard in &lost {
            self.handle(Input::NotesLost(shard));
            self.perform();
            self.write();
        }
        self.lost |= !lost.is_empty();
        let asleep = count == 0 && lost.is_empty() && self.notes.fall_asleep();
        self.drain_at = (!asleep).then(|| self.now.mono.after(DRAIN_PAUSE));
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
        self.tell_cores();
        self.arm();
    }

    fn deadline_has_come(&self) -> bool {
        let deadline = self.machine.next_deadline();
        deadline.is_some_and(|at| at <= self.now.mono)
    }

    fn arm(&mut self) {
        let own = [
            self.machine.next_deadline(),
            self.drain_at,
            self.accept_again,
        ];
        let next = own.into_iter().flatten().min();
        self.alarm.set(if self.again {
            Some(self.now.mono)
        } else {
            next
        });
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
            Output::Kick(kick) => self.kick(kick),
            Output::Flush(flush) => {
                // There is nothing yet that would run the script.
                self.answers
                    .push_back(Input::Flushed(flush.key, FlushResult::Failed));
            }
            // Both were answered at once.
            Output::AbortKick(_) | Output::AbortFlush(_) => {}
            Output::Wake(key) => self.woken.push(key),
            Output::Event(event) => self.log.event(&event, self.now.mono),
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
                let text = || format!("cannot connect from {} to {to}: {error}", self.own);
                self.log.line(Level::Info, "dial", self.now.mono, text);
                self.answers.push_back(Input::DialFailed(id));
            }
        }
    }

    /// No socket to Dovecot's ipc service is open yet, so nobody can be told to end sessions: a move
    /// goes on as if that had been done, after its delay.
    fn kick(&mut self, kick: Kick) {
        let text = || format!("sessions are not ended, there is no kick socket yet: {kick:?}");
        self.log.line(Level::Debug, "kick", self.now.mono, text);
        if let Kick::Moved(key) = kick {
            self.answers.push_back(Input::Kicked(key));
        }
    }

    /// Writes what waits, once to each connection. False: nothing did.
    fn write(&mut self) -> bool {
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

impl RingIo<Driver> {
    /// After a reload.
    pub fn set_limits(&mut self, limits: Limits) {
        self.machine.set_limits(limits);
        // Deadlines may be others now.
        self.now = now();
        self.settle();
    }

    /// One line for the log.
    pub fn summary(&self) -> String {
        self.machine.summary()
    }
}

/// Readable when [`RingIo::turn`] has something to do.
impl<M> AsFd for RingIo<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
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
