//! One connection to the director: handshake, requests, replies.

use std::io;
use std::path::{Path, PathBuf};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use crate::lines::{Inbox, Outbox, Reading};
use crate::names::{Names, decimal, encode};
use crate::plan::Target;
use crate::stub_auth::ok_line;
use crate::workload::Login;

/// The connection's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not connected and not about to be.
    Idle,
    /// To be connected when its time has come.
    Waiting,
    /// Connected; the director's side of the handshake is not complete.
    Handshake,
    /// Requests can be sent.
    Ready,
}

/// Which request waits for which reply.
///
/// An id is a slot's number and, above it, how often the slot was used: found without a search,
/// unique for a long time, and a second reply to one request is not mistaken for another's.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    shift: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    id: u32,
    login: Option<Login>,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        let shift = u32::BITS - (count - 1).leading_zeros();
        let slots = (0..count)
            .map(|index| Slot {
                id: index,
                login: None,
            })
            .collect();
        Self {
            slots,
            free: (0..count).rev().collect(),
            shift,
        }
    }

    pub(crate) fn any_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Takes a slot for a login; the caller saw that one is free.
    fn take(&mut self, login: Login) -> Option<u32> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        let next = slot.id.wrapping_add(1 << self.shift);
        let wrapped = next >> self.shift == 0; // 0 is no id
        slot.id = if wrapped {
            index | (1 << self.shift)
        } else {
            next
        };
        slot.login = Some(login);
        Some(slot.id)
    }

    /// Ends the request with this id.
    pub(crate) fn finish(&mut self, id: u32) -> Option<Login> {
        let index = id & ((1 << self.shift) - 1);
        let slot = self
            .slots
            .get_mut(index as usize)
            .filter(|slot| slot.id == id)?;
        let login = slot.login.take()?;
        self.free.push(index);
        Some(login)
    }

    /// Gives up all requests, and hands over the logins they were for.
    pub(crate) fn abandon(&mut self, mut each: impl FnMut(Login)) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(login) = slot.login.take() {
                self.free.push(index as u32);
                each(login);
            }
        }
    }
}

/// What a line that was received is.
pub(crate) enum Received<'a> {
    /// A line of the handshake that is not its end.
    Handshake,
    /// The handshake is complete.
    Ready,
    /// A reply.
    Reply(&'a [u8]),
}

/// One connection.
pub(crate) struct Client {
    pub(crate) state: State,
    pub(crate) slots: Slots,
    /// When a waiting connection is to be tried.
    pub(crate) retry_at: u64,
    /// Which of the plan's targets it goes to.
    pub(crate) target: usize,
    /// The login for which a connection per login is being made.
    pub(crate) login: Option<Login>,
    stream: Option<UnixStream>,
    inbox: Inbox,
    outbox: Outbox,
    waits_to_write: bool,
    protocol: Protocol,
}

/// The kinds of sockets that take lookups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Login,
    Userdb,
    Authreply,
}

/// What the target wants to hear.
#[derive(Clone)]
struct Protocol {
    kind: Kind,
    path: PathBuf,
    /// The part of a request between the id and the user.
    parameters: Vec<u8>,
}

impl Client {
    /// The connection with this number; connections go to the targets in turn.
    pub(crate) fn new(targets: &[Target], in_flight: u32, index: u32) -> Self {
        let number = index as usize % targets.len();
        let target = &targets[number];
        let rport = 20_000 + index % 40_000;
        let parameters = format!(
            "\tPLAIN\tservice=imap\tsecured\tsession=load{index:06}AAAB\tlip=127.0.0.1\
             \trip=127.0.0.1\tlport=143\trport={rport}\tresp="
        );
        Self {
            state: State::Idle,
            slots: Slots::new(in_flight),
            retry_at: 0,
            target: number,
            login: None,
            stream: None,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            waits_to_write: false,
            protocol: Protocol {
                kind: match target {
                    Target::Userdb(_) => Kind::Userdb,
                    Target::Authreply(_) => Kind::Authreply,
                    Target::Login(_) | Target::Mail(_) => Kind::Login,
                },
                path: target.path().unwrap_or(Path::new("")).to_owned(),
                parameters: parameters.into_bytes(),
            },
        }
    }

    /// Connects and sends the client's side of the handshake. The kernel answers at once, also
    /// when the listener's queue is full (`WouldBlock`).
    pub(crate) fn connect(
        &mut self,
        registry: &Registry,
        token: Token,
        cpid: u32,
    ) -> io::Result<()> {
        let mut stream = UnixStream::connect(&self.protocol.path)?;
        registry.register(&mut stream, token, Interest::READABLE)?;
        self.waits_to_write = false;
        self.inbox.clear();
        self.outbox.clear();
        self.protocol.greet(cpid, self.outbox.buffer());
        self.outbox.flush(&mut stream)?;
        self.stream = Some(stream);
        self.state = State::Handshake;
        Ok(())
    }

    /// Puts a request into the buffer. False: no slot is free.
    pub(crate) fn ask(&mut self, login: Login, names: &mut Names, plain: &mut Vec<u8>) -> bool {
        let Some(id) = self.slots.take(login) else {
            return false;
        };
        self.protocol
            .ask(id, login, names, plain, self.outbox.buffer());
        true
    }

    /// Reads and hands over what came. `each` answers whether to go on.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        until_end: bool,
        mut each: impl FnMut(&mut Slots, u64, Received<'_>) -> bool,
    ) -> io::Result<Reading> {
        let Self {
            stream: Some(stream),
            inbox,
            protocol,
            slots,
            state,
            ..
        } = self
        else {
            return Ok(Reading::Drained); // an event of a connection closed since
        };
        inbox.read(stream, scratch, until_end, |now, line| {
            if *state == State::Ready {
                return each(slots, now, Received::Reply(line));
            }
            if protocol.completes_handshake(line) {
                *state = State::Ready;
                return each(slots, now, Received::Ready);
            }
            each(slots, now, Received::Handshake)
        })
    }

    /// Sends what is in the buffer.
    pub(crate) fn flush(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let waits = !self.outbox.flush(stream)?;
        // Writability is asked for only while something waits for it: otherwise every read of the
        // director would wake the poll.
        if waits != self.waits_to_write {
            self.waits_to_write = waits;
            let read = Interest::READABLE;
            let interest = if waits {
                read | Interest::WRITABLE
            } else {
                read
            };
            registry.reregister(stream, token, interest)?;
        }
        Ok(())
    }

    /// Closes the connection; closing takes it out of the poll as well.
    pub(crate) fn close(&mut self, next: State) {
        self.stream = None;
        self.state = next;
    }
}

impl Protocol {
    fn greet(&self, cpid: u32, out: &mut Vec<u8>) {
        match self.kind {
            Kind::Login => {
                out.extend_from_slice(b"VERSION\t1\t2\nCPID\t");
                out.extend_from_slice(decimal(cpid, &mut [0; 10]));
                out.push(b'\n');
            }
            Kind::Userdb => out.extend_from_slice(b"VERSION\t1\t0\n"),
            Kind::Authreply => {
                out.extend_from_slice(b"VERSION\tdirector-authreply-client\t1\t0\n");
            }
        }
    }

    fn completes_handshake(&self, line: &[u8]) -> bool {
        match self.kind {
            Kind::Login => line == b"DONE",
            Kind::Userdb => line.starts_with(b"SPID\t"),
            Kind::Authreply => line.starts_with(b"VERSION\tdirector-authreply-server\t1\t"),
        }
    }

    fn ask(
        &self,
        id: u32,
        login: Login,
        names: &mut Names,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        match self.kind {
            Kind::Login => {
                out.extend_from_slice(b"AUTH\t");
                out.extend_from_slice(decimal(id, &mut [0; 10]));
                out.extend_from_slice(&self.parameters);
                plain.clear();
                plain.push(0);
                plain.extend_from_slice(names.of(login.user));
                plain.push(0);
                names.password(login.user, login.wrong, plain);
                encode(plain, out);
            }
            Kind::Userdb => {
                out.extend_from_slice(b"PASS\t");
                out.extend_from_slice(decimal(id, &mut [0; 10]));
                out.push(b'\t');
                out.extend_from_slice(names.of(login.user));
                out.extend_from_slice(b"\tservice=lmtp\tlip=127.0.0.1\tlport=24\trip=127.0.0.1");
            }
            Kind::Authreply => return ok_line(id, names.of(login.user), out),
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: u32, start: u64) -> Login {
        Login {
            user,
            start,
            tried: 0,
            wrong: false,
        }
    }

    #[test]
    fn ids_are_unique_and_their_requests_are_found() {
        for count in [1, 2, 3, 32, 1 << 16] {
            let mut slots = Slots::new(count);
            let mut ids = std::collections::HashSet::new();
            for round in 0..3 {
                let login = |user| login(user, round);
                let taken: Vec<_> = (0..count).filter_map(|n| slots.take(login(n))).collect();
                assert_eq!(taken.len(), count as usize);
                assert_eq!(slots.take(login(0)), None);
                for (user, id) in taken.iter().enumerate() {
                    assert!(*id != 0 && ids.insert(*id));
                    assert_eq!(slots.finish(*id), Some(login(user as u32)));
                    assert_eq!(slots.finish(*id), None);
                }
            }
            assert_eq!(slots.finish(0), None);
        }
    }

    #[test]
    fn ids_wrap_past_zero() {
        let mut slots = Slots::new(1);
        slots.slots[0].id = u32::MAX;
        assert_eq!(slots.take(login(1, 0)), Some(1));
        let mut lost = Vec::new();
        slots.abandon(|login| lost.push(login));
        assert_eq!(lost, [login(1, 0)]);
        assert!(slots.any_free());
    }
}
