//! What `shell` does around the machine: it hands over one input, then carries out what came of it.

use std::mem;
use std::sync::Arc;

use homing::core::ring::{ConnId, Event as RingEvent, Input, Kick, Output};
use homing::core::users::SHARDS;
use homing::wire::ring::DirectorId;

use crate::bugs::Bug;
use crate::node::Process;
use crate::options::{MS, SECOND};
use crate::trace::say;
use crate::world::{Event, World};

/// Parts of a sweep.
const SWEEP_STEPS: usize = 8;
/// A machine that wants to be called again at once more often than this does not come to an end.
/// Looking through all users is 64 turns, for each drain and each bulk reset.
const MOST_TICKS: u32 = 2000;

impl World {
    pub fn boot(&mut self, n: usize) {
        let me = self.nodes[n].id;
        let mut others: Vec<DirectorId> = self.nodes.iter().map(|node| node.id).collect();
        others.retain(|id| *id != me);
        others.sort();
        others.dedup();
        let node = &mut self.nodes[n];
        node.boot += 1;
        node.booted_at = self.now;
        node.dark = false;
        let clocks = node.clocks(self.now);
        let process = Process::new(&self.options, me, &others, clocks);
        node.process = Some(process);
        say!(self, "[{n}] starts as {me:?}");
        self.adopt_sessions(n);
        let at = self.nodes[n].at(n);
        self.after(SECOND, Event::SweepStep(at));
        self.feed(n, Input::Start);
    }

    pub fn feed(&mut self, n: usize, input: Input<'_>) {
        let clocks = self.nodes[n].clocks(self.now);
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        process.ring.handle(input, clocks, &mut process.table);
        self.settle(n);
    }

    /// Carries out what the machine wants, until it wants nothing.
    pub fn settle(&mut self, n: usize) {
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        for output in process.ring.take_outputs() {
            self.act(n, output);
        }
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        let taken: Vec<(ConnId, Vec<u8>)> = process
            .ring
            .unwritten()
            .map(|(conn, bytes)| (conn, mem::take(bytes)))
            .filter(|(_, bytes)| !bytes.is_empty())
            .collect();
        for (conn, bytes) in taken {
            let process = self.nodes[n].process.as_ref();
            let link = process.and_then(|process| process.links.get(&conn).copied());
            match link {
                Some((id, side)) => {
                    say!(self, "[{n}] {conn:?} writes {}", bytes.escape_ascii());
                    self.send(id, side, bytes);
                }
                None => self.fail(
                    "S7 panic",
                    format!("[{n}] bytes for {conn:?}, which is not there"),
                ),
            }
        }
        self.tell_cores(n);
        self.catch_up(n);
        self.set_timer(n);
        self.inspect(n);
    }

    pub fn act(&mut self, n: usize, output: Output) {
        let at = self.nodes[n].at(n);
        match output {
            Output::Dial(conn, to) => {
                say!(self, "[{n}] dials {to:?} as {conn:?}");
                self.dialled = self.now;
                self.dial(n, conn, to);
            }
            Output::Close(conn, rest) => {
                say!(self, "[{n}] closes {conn:?} with {}", rest.escape_ascii());
                self.close(n, conn, rest);
            }
            Output::Secure(conn) => {
                self.fail("S7 panic", format!("[{n}] TLS for {conn:?}, which is off"));
            }
            Output::Kick(kick) => self.begin_kick(n, kick),
            Output::AbortKick(key) => {
                if let Some(process) = self.nodes[n].process.as_mut() {
                    process.kicks.remove(&key);
                }
            }
            Output::Flush(flush) => self.run_flush(at, &flush),
            Output::AbortFlush(key) => {
                if let Some(process) = self.nodes[n].process.as_mut() {
                    process.flushes.remove(&key);
                }
            }
            Output::Wake(key) => {
                if self.bug == Some(Bug::NoWakes) {
                    return;
                }
                for core in 0..self.options.cores {
                    let late = self.lag();
                    self.after(late, Event::Wake(at, core, key));
                }
            }
            Output::Answer(ticket, answer) => self.replied(n, ticket, &answer),
            Output::Event(event) => {
                say!(self, "[{n}] {event:?}");
                if matches!(event, RingEvent::Ordered(_)) {
                    self.ordered_while_healing();
                }
            }
        }
    }

    fn begin_kick(&mut self, n: usize, kick: Kick) {
        say!(self, "[{n}] {kick:?}");
        self.stats.kicks += 1;
        let serial = self.next_kick;
        self.next_kick += 1;
        if let (Kick::Moved(key), Some(process)) = (&kick, self.nodes[n].process.as_mut()) {
            process.kicks.insert(*key, serial);
        }
        if !self.is_left_out(&kick) {
            self.doom(n, &kick);
        }
        if let Kick::Moved(key) = kick {
            self.doom_moving(Some(key.hash.0));
        }
        let time = self.rng.below(self.options.kick_time + 1);
        let at = self.nodes[n].at(n);
        self.after(time, Event::Kick(at, kick, serial));
    }

    /// A bug: the kick is said to be over, and nothing was done.
    pub fn is_left_out(&self, kick: &Kick) -> bool {
        self.bug == Some(Bug::NoConflictKick) && matches!(kick, Kick::Hash(..))
    }

    /// How long a lookup core takes to begin its next turn.
    pub fn lag(&mut self) -> u64 {
        self.rng.below(self.options.snapshot_lag + 1)
    }

    fn tell_cores(&mut self, n: usize) {
        let at = self.nodes[n].at(n);
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        if let Some(generation) = process.table.stale {
            let now = process.table.snapshot.generation;
            self.fail(
                "S6",
                format!("[{n}] generation {generation} published after {now}"),
            );
            return;
        }
        if let Some(text) = process.table.misfiled.take() {
            return self.fail("S6 slots", format!("[{n}] {text}"));
        }
        if !mem::take(&mut process.table.fresh) {
            return;
        }
        let snapshot = Arc::clone(&process.table.snapshot);
        self.trace.number(snapshot.generation);
        for core in 0..self.options.cores {
            let late = self.lag();
            self.after(late, Event::CoreSees(at, core));
        }
    }

    /// The machine is called when it wants to be, or a little later.
    fn set_timer(&mut self, n: usize) {
        let late = self.rng.below(2 * MS);
        let at = self.nodes[n].at(n);
        let node = &mut self.nodes[n];
        let deadline = match node.process.as_ref().and_then(|p| p.ring.next_deadline()) {
            Some(deadline) => node.simulated(deadline).max(self.now),
            None => return,
        };
        let Some(process) = node.process.as_mut() else {
            return;
        };
        if process
            .tick_at
            .is_some_and(|tick| tick <= deadline + 2 * MS && tick >= self.now)
        {
            return;
        }
        process.tick_at = Some(deadline + late);
        self.at(deadline + late, Event::Tick(at));
    }

    pub fn tick(&mut self, n: usize) {
        let clocks = self.nodes[n].clocks(self.now);
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        process.tick_at = None;
        self.feed(n, Input::Tick);
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        let again = process
            .ring
            .next_deadline()
            .is_some_and(|next| next <= clocks.mono);
        process.ticks = if again { process.ticks + 1 } else { 0 };
        if process.ticks > MOST_TICKS {
            self.fail(
                "S7 busy",
                format!("[{n}] wants to be called again and again"),
            );
        }
    }

    pub fn sweep_step(&mut self, n: usize) {
        let at = self.nodes[n].at(n);
        let wall = self.nodes[n].clocks(self.now).wall;
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        let snapshot = Arc::clone(&process.table.snapshot);
        let step = process.sweep_at;
        process.sweep_at = (step + 1) % SWEEP_STEPS;
        let part = SHARDS / SWEEP_STEPS;
        // Every pass has an order of its own.
        let part_of_pass = (step * 3 + n) % SWEEP_STEPS;
        if self.bug != Some(Bug::NoSweep) {
            for shard in part_of_pass * part..(part_of_pass + 1) * part {
                if !process.table.shards[shard].is_empty() {
                    process
                        .table
                        .touch(shard, |shard| shard.sweep(wall, &snapshot));
                }
            }
        }
        self.after(SECOND + n as u64 * MS, Event::SweepStep(at));
        if step + 1 == SWEEP_STEPS {
            self.check_expiry(n);
            self.feed(n, Input::Swept);
        } else {
            self.inspect(n);
        }
    }
}
