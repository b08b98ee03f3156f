//! What goes wrong, and how it is put right.

use std::net::{IpAddr, Ipv4Addr};

use homing::core::ring::{Input, Order};

use crate::net::{End, Link, Pipe};
use crate::options::{Fault, MS, SECOND};
use crate::trace::say;
use crate::world::{At, Event, World};

/// The end of a fault that lasts.
#[derive(Clone, Debug)]
pub enum Cure {
    Unblock(Vec<(usize, usize)>),
    Restart(usize),
    /// An operator adds a director to the ring.
    Add(usize),
    /// The same at one director, the first, where it was refused.
    AddAt(usize, usize),
    /// A second process of the same identity ends.
    End(At),
}

impl World {
    pub fn fault(&mut self) {
        if self.is_healing() {
            return;
        }
        let fault = self.rng.pick(&self.options.faults.clone());
        self.stats.faults += 1;
        say!(self, "fault: {fault:?}");
        match fault {
            Fault::Cut => self.cut(),
            Fault::HalfOpen => self.half_open(),
            Fault::Silence => self.silence(),
            Fault::Stall => self.stall(),
            Fault::Partition => self.partition(),
            Fault::OneWay => self.one_way(),
            Fault::Crash => self.crash(false),
            Fault::PowerLoss => self.crash(true),
            Fault::Pause => self.pause(),
            Fault::ClockStep => self.step_clock(),
            Fault::Duplicate => self.duplicate(),
            Fault::Intruder => self.intruder(),
            Fault::Leave => self.leave(),
            Fault::Remove => self.remove(),
        }
        let next = self.rng.about(self.options.fault_every) + MS;
        self.after(next, Event::Fault);
    }

    fn disturb(&mut self, duration: u64) {
        self.disturbed = self.disturbed.max(self.now + duration);
    }

    fn some_link(&mut self) -> Option<u64> {
        let ids: Vec<u64> = self.links.keys().copied().collect();
        (!ids.is_empty()).then(|| self.rng.pick(&ids))
    }

    fn some_node(&mut self) -> usize {
        self.rng.index(self.options.directors)
    }

    /// What is under way may or may not arrive before the reset.
    fn cut(&mut self) {
        let Some(id) = self.some_link() else { return };
        self.disturb(0);
        for side in [0, 1] {
            let when = self.latency();
            self.after(when, Event::Ends(id, side));
        }
    }

    fn half_open(&mut self) {
        let Some(id) = self.some_link() else { return };
        self.disturb(90 * SECOND);
        let side = self.rng.index(2);
        if let Some(link) = self.links.get_mut(&id) {
            link.pipes[0].dead = true;
            link.pipes[1].dead = true;
            self.after(0, Event::Ends(id, side));
        }
    }

    fn silence(&mut self) {
        let Some(id) = self.some_link() else { return };
        self.disturb(90 * SECOND);
        if let Some(link) = self.links.get_mut(&id) {
            link.pipes[0].dead = true;
            link.pipes[1].dead = true;
        }
    }

    /// A strict ring may be slow, but not so slow that a director takes another one for dead.
    fn stall(&mut self) {
        let Some(id) = self.some_link() else { return };
        let longest = if self.options.strict {
            3 * SECOND
        } else {
            100 * SECOND
        };
        let time = self.rng.below(longest);
        self.disturb(time);
        let side = self.rng.index(2);
        if let Some(link) = self.links.get_mut(&id) {
            link.pipes[side].stalled_until = self.now + time;
        }
    }

    fn partition(&mut self) {
        let count = self.options.directors;
        let sides: Vec<bool> = (0..count).map(|_| self.rng.percent(50)).collect();
        let pairs: Vec<(usize, usize)> = (0..count)
            .flat_map(|a| (0..count).map(move |b| (a, b)))
            .filter(|&(a, b)| sides[a] != sides[b])
            .collect();
        self.block(pairs);
    }

    fn one_way(&mut self) {
        let (a, b) = (self.some_node(), self.some_node());
        if a != b {
            self.block(vec![(a, b)]);
        }
    }

    fn block(&mut self, pairs: Vec<(usize, usize)>) {
        let time = self.rng.pick(&[5, 40, 150]) * SECOND;
        self.disturb(time);
        self.blocked.extend(pairs.iter().copied());
        self.after(time, Event::Cure(Cure::Unblock(pairs)));
    }

    fn crash(&mut self, dark: bool) {
        let n = self.some_node();
        let time = self.rng.pick(&[SECOND / 2, 5 * SECOND, 60 * SECOND]);
        self.disturb(time);
        self.stop(n, dark);
        self.after(time, Event::Cure(Cure::Restart(n)));
    }

    /// Ends a process and its proxies.
    pub fn stop(&mut self, n: usize, dark: bool) {
        let at = self.nodes[n].at(n);
        if self.halt(n, dark) {
            self.end_sessions_of(at);
        }
    }

    /// Ends a process: its kernel closes its connections, unless that has no power either. `false`: there
    /// is none.
    fn halt(&mut self, n: usize, dark: bool) -> bool {
        let Some(process) = self.nodes[n].process.take() else {
            return false;
        };
        let at = self.nodes[n].at(n);
        self.nodes[n].dark = dark;
        self.nodes[n].paused_until = 0;
        for (id, side) in process.links.values().copied() {
            match self.links.get_mut(&id) {
                Some(link) if dark => {
                    link.ends[side].open = false;
                    link.pipes[side].queue.clear();
                    link.pipes[side].wire.clear();
                }
                _ => self.hang_up(id, side),
            }
        }
        // Connections that were on their way to it.
        let coming: Vec<(u64, usize)> = self
            .links
            .iter()
            .flat_map(|(id, link)| [(*id, 0, link), (*id, 1, link)])
            .filter(|(_, side, link)| link.ends[*side].at == at && link.ends[*side].open)
            .map(|(id, side, _)| (id, side))
            .collect();
        for (id, side) in coming {
            self.hang_up(id, side);
        }
        true
    }

    /// The process ends in good order. In a strict ring that is done one director at a time, and its
    /// proxies and their sessions live on: nothing is excused.
    pub fn leave(&mut self) {
        let n = self.some_node();
        if self.nodes[n].paused_until > self.now || self.options.strict && !self.is_whole() {
            return;
        }
        let time = self.rng.pick(&[SECOND / 2, 5 * SECOND, 60 * SECOND]);
        if !self.options.strict {
            self.disturb(time);
        }
        // As the thread of the ring does it: what lookups have noted is told before.
        self.drain(n);
        self.visit_lost(n);
        let clocks = self.nodes[n].clocks(self.now);
        if let Some(process) = self.nodes[n].process.as_mut() {
            process
                .ring
                .handle(Input::Leave, clocks, &mut process.table);
            for output in process.ring.take_outputs() {
                self.act(n, output);
            }
        }
        if self.options.strict {
            self.halt(n, false);
            self.doom_moving(None);
        } else {
            self.stop(n, false);
        }
        self.after(time, Event::Cure(Cure::Restart(n)));
    }

    /// Every director is there and has nothing to wait for.
    fn is_whole(&self) -> bool {
        let members = &self.nodes[..self.options.directors];
        members.iter().all(|node| {
            let standing = node.process.as_ref().map(|process| process.ring.standing());
            standing.is_some_and(|standing| standing.handshaked && standing.synced)
        })
    }

    fn remove(&mut self) {
        let (n, gone) = (self.some_node(), self.some_node());
        let time = self.rng.pick(&[5, 40, 150]) * SECOND;
        if n != gone && self.give_order(n, Order::RemoveDirector(self.nodes[gone].id)) {
            self.disturb(time);
            self.after(time, Event::Cure(Cure::Add(gone)));
        }
    }

    /// At every director: where nobody is connected to it a DIRECTOR line might not come.
    pub fn add_director(&mut self, added: usize) {
        let order = Order::AddDirector(self.nodes[added].id);
        for n in (0..self.options.directors).filter(|&n| n != added) {
            let resumed = self.nodes[n].paused_until;
            if resumed > self.now {
                self.at(resumed, Event::Cure(Cure::AddAt(n, added)));
            } else {
                self.give_order(n, order.clone());
            }
        }
    }

    fn pause(&mut self) {
        let n = self.some_node();
        let time = self.rng.pick(&[2, 20, 50, 90]) * SECOND;
        self.disturb(time);
        self.nodes[n].paused_until = self.now + time;
    }

    fn step_clock(&mut self) {
        let n = self.some_node();
        self.disturb(0);
        self.nodes[n].skew = self.skew();
    }

    fn duplicate(&mut self) {
        let n = self.options.directors;
        if self.nodes[n].process.is_some() {
            return;
        }
        let time = self.rng.pick(&[5, 60]) * SECOND;
        self.disturb(time);
        self.boot(n);
        let at = self.nodes[n].at(n);
        self.after(time, Event::Cure(Cure::End(at)));
    }

    /// From an address that is no director's, or from one that is, but with bytes that are nothing.
    fn intruder(&mut self) {
        let n = self.some_node();
        let (stranger, garbage) = (self.rng.percent(50), self.garbage());
        if self.nodes[n].paused_until > self.now {
            return;
        }
        let source = if stranger {
            IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7))
        } else {
            self.nodes[(n + 1) % self.options.directors].id.ip
        };
        let at = self.nodes[n].at(n);
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        let conn = process.ring.next_conn();
        let id = self.next_link;
        process.links.insert(conn, (id, 1));
        self.next_link += 1;
        let outside = At {
            node: n,
            boot: u32::MAX,
        };
        let ends = [
            End {
                at: outside,
                conn: None,
                open: true,
            },
            End {
                at,
                conn: Some(conn),
                open: true,
            },
        ];
        // What the director answers goes nowhere.
        let pipes = [
            Pipe::default(),
            Pipe {
                dead: true,
                ..Pipe::default()
            },
        ];
        self.links.insert(id, Link { ends, pipes });
        self.feed(n, Input::Accepted { conn, source });
        self.send(id, 0, garbage);
        let leaves = self.rng.below(20 * SECOND);
        self.after(leaves, Event::Ends(id, 1));
    }

    fn garbage(&mut self) -> Vec<u8> {
        let mut bytes: Vec<u8> = match self.rng.below(4) {
            0 => b"VERSION\tdirector\t1\t9\n".to_vec(),
            1 => b"VERSION\tdirector\t2\t0\n".to_vec(),
            2 => b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            _ => Vec::new(),
        };
        for _ in 0..self.rng.below(2000) {
            bytes.push(self.rng.pick(b"\n\t\x01 019aUSERPINGDONE\xff\0"));
        }
        bytes
    }

    pub fn cure(&mut self, cure: Cure) {
        say!(self, "cure: {cure:?}");
        match cure {
            Cure::Unblock(pairs) => {
                for pair in pairs {
                    self.blocked.remove(&pair);
                }
            }
            // When all faults end, all are added.
            Cure::Add(added) if !self.is_healing() => self.add_director(added),
            Cure::AddAt(n, added) if !self.is_quiet_phase() => {
                self.give_order(n, Order::AddDirector(self.nodes[added].id));
            }
            Cure::Add(_) | Cure::AddAt(..) => {}
            Cure::Restart(n) => {
                if self.nodes[n].process.is_none() {
                    self.boot(n);
                }
            }
            Cure::End(at) => {
                if self.nodes[at.node].boot == at.boot {
                    self.stop(at.node, false);
                }
            }
        }
    }
}
