//! TCP as a director sees it: bytes in order and never twice, in pieces of any size, late, cut at any
//! byte, stalled for ever, closed for one side only.

use std::collections::VecDeque;

use homing::core::ring::{ConnId, Input};
use homing::wire::ring::DirectorId;

use crate::bugs::Bug;
use crate::options::{MS, SECOND, Split};
use crate::trace::say;
use crate::world::{At, Event, World};

pub type LinkId = u64;

/// How often a kernel asks again for a connection that nobody answers, after 1 s, 2 s, 4 s and so on.
const SYN_RETRIES: u32 = 6;

#[derive(Debug)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// The other side has closed, or its kernel says that nobody is there.
    End,
}

/// One side of a connection.
#[derive(Debug)]
pub struct End {
    pub at: At,
    /// What its machine calls the connection.
    pub conn: Option<ConnId>,
    pub open: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Pipe {
    /// Taken from the machine, not yet sent.
    pub queue: Vec<u8>,
    pub wire: VecDeque<(u64, Piece)>,
    /// Bytes sent and not acknowledged.
    pub unacked: usize,
    pub stalled_until: u64,
    /// When the last piece arrives: nothing overtakes.
    pub last: u64,
    /// Whatever is sent vanishes.
    pub dead: bool,
    pub armed: bool,
}

/// A connection; side 0 has dialled.
#[derive(Debug)]
pub struct Link {
    pub ends: [End; 2],
    pub pipes: [Pipe; 2],
}

impl World {
    /// The process that listens as this director: the one started last.
    pub fn listener(&self, id: DirectorId) -> Option<usize> {
        (0..self.nodes.len())
            .filter(|&n| self.nodes[n].id == id)
            .max_by_key(|&n| (self.nodes[n].process.is_some(), self.nodes[n].booted_at, n))
    }

    pub fn latency(&mut self) -> u64 {
        let (least, most) = self.options.latency;
        if self.rng.percent(2) {
            return most * self.rng.between(1, 8);
        }
        self.rng.between(least, most)
    }

    fn is_separated(&self, a: usize, b: usize) -> bool {
        self.blocked.contains(&(a, b)) || self.blocked.contains(&(b, a))
    }

    pub fn dial(&mut self, n: usize, conn: ConnId, to: DirectorId) {
        if let Some(process) = self.nodes[n].process.as_mut() {
            process.dials.insert(conn);
        }
        self.syn(n, conn, to, 0);
    }

    pub fn syn(&mut self, n: usize, conn: ConnId, to: DirectorId, tries: u32) {
        let process = self.nodes[n].process.as_ref();
        if process.is_none_or(|process| !process.dials.contains(&conn)) {
            return;
        }
        let at = self.nodes[n].at(n);
        let there = self.latency();
        let back = self.latency();
        let Some(target) = self.listener(to) else {
            return self.after(there + back, Event::Failed(at, conn));
        };
        let node = &self.nodes[target];
        if node.dark || self.is_separated(n, target) {
            let next = if tries < SYN_RETRIES {
                Event::Syn(at, conn, to, tries + 1)
            } else {
                Event::Failed(at, conn)
            };
            return self.after(SECOND << tries, next);
        }
        if node.process.is_none() {
            return self.after(there + back, Event::Failed(at, conn));
        }
        let listener = node.at(target);
        let id = self.next_link;
        self.next_link += 1;
        let [mut forth, mut home] = [Pipe::default(), Pipe::default()];
        forth.last = self.now + there + back;
        home.last = self.now + there + back;
        let ends = [(at, Some(conn)), (listener, None)].map(|(at, conn)| End {
            at,
            conn,
            open: true,
        });
        let pipes = [forth, home];
        self.links.insert(id, Link { ends, pipes });
        self.after(there, Event::Accepted(id));
        self.after(there + back, Event::Connected(id));
    }

    pub fn dial_failed(&mut self, n: usize, conn: ConnId) {
        let process = self.nodes[n].process.as_mut();
        if process.is_some_and(|process| process.dials.remove(&conn)) {
            say!(self, "[{n}] dial {conn:?} failed");
            self.feed(n, Input::DialFailed(conn));
        }
    }

    pub fn accepted(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let at = link.ends[1].at;
        let source = self.nodes[link.ends[0].at.node].id.ip;
        let node = &mut self.nodes[at.node];
        if node.boot != at.boot || !link.ends[1].open {
            return;
        }
        let Some(process) = node.process.as_mut() else {
            return;
        };
        let conn = process.ring.next_conn();
        link.ends[1].conn = Some(conn);
        process.links.insert(conn, (id, 1));
        say!(self, "[{}] accepts {conn:?} from {source}", at.node);
        self.feed(at.node, Input::Accepted { conn, source });
    }

    pub fn connected(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let (at, Some(conn)) = (link.ends[0].at, link.ends[0].conn) else {
            return;
        };
        let node = &mut self.nodes[at.node];
        let Some(process) = node.process.as_mut().filter(|_| node.boot == at.boot) else {
            return;
        };
        // The machine may have given the dial up meanwhile.
        if !process.dials.remove(&conn) {
            return self.shut(id, 0, Vec::new());
        }
        process.links.insert(conn, (id, 0));
        say!(self, "[{}] connected {conn:?}", at.node);
        self.feed(at.node, Input::Connected(conn));
    }

    /// Takes bytes over from the machine.
    pub fn send(&mut self, id: LinkId, side: usize, bytes: Vec<u8>) {
        let bytes = match self.bug {
            Some(bug) => self.spoil(bug, id, side, bytes),
            None => bytes,
        };
        let bytes = self.age(id, bytes);
        self.count_lines(id, side, &bytes);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.pipes[side].queue.extend(bytes);
        self.pump(id, side);
        let moment = self.moment();
        self.after(moment, Event::Written(id, side));
    }

    fn spoil(&mut self, bug: Bug, id: LinkId, side: usize, bytes: Vec<u8>) -> Vec<u8> {
        let Some(link) = self.links.get(&id) else {
            return bytes;
        };
        let writer = self.nodes[link.ends[side].at.node].id;
        bug.rewrite(bytes, writer, &mut self.rng)
    }

    /// Towards a member that speaks an older version, and from it, both sides say that version: then
    /// each writes what the other one can read. The ring's version is the lowest in a SYNC.
    fn age(&self, id: LinkId, bytes: Vec<u8>) -> Vec<u8> {
        let (Some((old, minor)), Some(link)) = (self.options.old, self.links.get(&id)) else {
            return bytes;
        };
        let old = self.nodes[old].id;
        if link
            .ends
            .iter()
            .all(|end| self.nodes[end.at.node].id != old)
        {
            return bytes;
        }
        let mut aged = Vec::with_capacity(bytes.len());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
            let text = minor.to_string();
            match fields[0] {
                b"VERSION" => {
                    fields.truncate(3);
                    fields.push(text.as_bytes());
                    aged.extend_from_slice(&fields.join(&b'\t'));
                    aged.push(b'\n');
                }
                b"SYNC" if fields.len() > 6 => {
                    fields[4] = text.as_bytes();
                    aged.extend_from_slice(&fields.join(&b'\t'));
                }
                _ => aged.extend_from_slice(line),
            }
        }
        aged
    }

    /// Sends as much as the window lets through.
    fn pump(&mut self, id: LinkId, side: usize) {
        loop {
            let arrives = self.now + self.latency();
            let Some(link) = self.links.get_mut(&id) else {
                return;
            };
            let pipe = &mut link.pipes[side];
            let room = self.options.window.saturating_sub(pipe.unacked);
            let most = pipe.queue.len().min(room);
            if most == 0 {
                return;
            }
            let size = match self.options.split {
                Split::Whole => most,
                Split::Anywhere => self.rng.between(1, most as u64).try_into().unwrap(),
                Split::Crumbs => most.min(self.rng.pick(&[1, 3, 20, 100])),
            };
            let bytes = pipe.queue.drain(..size).collect();
            pipe.unacked += size;
            pipe.last = pipe.last.max(arrives);
            pipe.wire.push_back((pipe.last, Piece::Bytes(bytes)));
            self.arm(id, side);
        }
    }

    /// One event per direction is enough: that of the first piece.
    fn arm(&mut self, id: LinkId, side: usize) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let pipe = &mut link.pipes[side];
        if pipe.armed {
            return;
        }
        if let Some((when, _)) = pipe.wire.front() {
            let when = (*when).max(pipe.stalled_until);
            pipe.armed = true;
            self.at(when, Event::Arrive(id, side));
        }
    }

    pub fn arrive(&mut self, id: LinkId, from: usize) {
        let retry = self.rng.between(100 * MS, SECOND);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let (sender, receiver) = (link.ends[from].at, link.ends[1 - from].at);
        let pipe = &mut link.pipes[from];
        pipe.armed = false;
        if pipe.dead {
            pipe.wire.clear();
            return;
        }
        // The kernel sends it again and again.
        if self.blocked.contains(&(sender.node, receiver.node)) || self.nodes[receiver.node].dark {
            pipe.stalled_until = self.now + retry;
            return self.arm(id, from);
        }
        let due = pipe.wire.front().is_none_or(|(when, _)| *when <= self.now);
        if pipe.stalled_until > self.now || !due {
            return self.arm(id, from);
        }
        // A piece for a connection that has not been accepted yet waits in the kernel.
        let other = &link.ends[1 - from];
        if other.open && other.conn.is_none() {
            pipe.stalled_until = self.now + MS;
            return self.arm(id, from);
        }
        let Some((_, piece)) = pipe.wire.pop_front() else {
            return;
        };
        match piece {
            Piece::End => self.ends(id, 1 - from),
            Piece::Bytes(bytes) => self.deliver(id, from, &bytes),
        }
        self.arm(id, from);
    }

    fn deliver(&mut self, id: LinkId, from: usize, bytes: &[u8]) {
        let back = self.latency();
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let end = &link.ends[1 - from];
        let (at, conn) = (end.at, end.conn);
        link.pipes[from].unacked = link.pipes[from].unacked.saturating_sub(bytes.len());
        if !end.open {
            // Nobody is there: the answer is a reset.
            return self.after(back, Event::Ends(id, from));
        }
        let Some(conn) = conn else {
            return;
        };
        self.trace.bytes(bytes);
        say!(
            self,
            "[{}] {conn:?} reads {}",
            at.node,
            bytes.escape_ascii()
        );
        self.feed(at.node, Input::Received(conn, bytes));
        self.pump(id, from);
        self.after(0, Event::Written(id, from));
    }

    pub fn written(&mut self, id: LinkId, side: usize) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let end = &link.ends[side];
        if let (true, Some(conn)) = (end.open, end.conn) {
            let waiting = link.pipes[side].queue.len();
            self.feed(end.at.node, Input::Written(conn, waiting));
        }
    }

    /// The machine closes: `rest` is sent as far as there is room.
    pub fn close(&mut self, n: usize, conn: ConnId, rest: Vec<u8>) {
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        process.dials.remove(&conn);
        if let Some((id, side)) = process.links.remove(&conn) {
            self.shut(id, side, rest);
        }
    }

    fn shut(&mut self, id: LinkId, side: usize, rest: Vec<u8>) {
        if let Some(link) = self.links.get_mut(&id) {
            link.pipes[side].queue.extend(rest);
            self.pump(id, side);
            self.hang_up(id, side);
        }
    }

    /// One side is no longer there; the other one will be told.
    pub fn hang_up(&mut self, id: LinkId, side: usize) {
        let arrives = self.now + self.latency();
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.ends[side].open = false;
        let pipe = &mut link.pipes[side];
        pipe.queue.clear();
        pipe.last = pipe.last.max(arrives);
        pipe.wire.push_back((pipe.last, Piece::End));
        self.arm(id, side);
        self.forget_closed(id);
    }

    /// A side learns that the other one is gone.
    pub fn ends(&mut self, id: LinkId, side: usize) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let end = &mut link.ends[side];
        let (at, conn, was_open) = (end.at, end.conn, end.open);
        end.open = false;
        link.pipes[side].queue.clear();
        self.forget_closed(id);
        let Some(conn) = conn.filter(|_| was_open) else {
            return;
        };
        let node = &mut self.nodes[at.node];
        let Some(process) = node.process.as_mut().filter(|_| node.boot == at.boot) else {
            return;
        };
        if process.links.remove(&conn).is_some() {
            say!(self, "[{}] {conn:?} ends", at.node);
            self.feed(at.node, Input::Ended(conn));
        } else if process.dials.remove(&conn) {
            self.feed(at.node, Input::DialFailed(conn));
        }
    }

    fn forget_closed(&mut self, id: LinkId) {
        if self
            .links
            .get(&id)
            .is_some_and(|link| link.ends.iter().all(|end| !end.open))
        {
            self.links.remove(&id);
        }
    }

    /// For L4: what goes over the ring, by lines. The machine hands over whole lines.
    fn count_lines(&mut self, id: LinkId, side: usize, bytes: &[u8]) {
        for line in bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            if line.starts_with(b"PING") || line.starts_with(b"PONG") {
                self.stats.pings += 1;
                continue;
            }
            self.stats.lines += 1;
            self.stats.bytes += line.len() as u64 + 1;
            self.stats.syncs += u64::from(line.starts_with(b"SYNC"));
            if self.is_quiet_phase() {
                let from = self.links.get(&id).map(|link| link.ends[side].at.node);
                let text = line.escape_ascii().to_string();
                self.fail(
                    "L4 quiet",
                    format!("{from:?} says {text} though nothing happens"),
                );
            }
        }
    }
}
