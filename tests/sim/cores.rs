//! Lookup cores: they read snapshots that may be a little old, decide under the lock of one shard,
//! leave notes for the control core, and let lookups wait.

use std::sync::Arc;

use homing::core::parking::{Parked, Place};
use homing::core::ring::{Input, Table};
use homing::core::snapshot::Snapshot;
use homing::core::users::{Decision, Note, Refreshed, shard_of};
use homing::core::{DelayReason, Mono, Refusal, UserHash, UserKey};

use crate::bugs::Bug;
use crate::node::{Process, Waiting};
use crate::options::SECOND;
use crate::trace::say;
use crate::world::{Event, World};

/// `lookup_timeout`.
pub const LOOKUP_TIMEOUT: u64 = 25 * SECOND;

impl World {
    /// A login asks one core of one director.
    pub fn login(&mut self, n: usize, core: usize, user: usize) {
        self.stats.logins += 1;
        let mono = self.nodes[n].clocks(self.now).mono;
        match self.decide(n, core, user) {
            (key, Decision::Wait(reason), _) => self.park(n, core, user, key, reason, mono),
            (_, decision, snapshot) => self.answer(n, user, decision, &snapshot),
        }
    }

    fn park(
        &mut self,
        n: usize,
        core: usize,
        user: usize,
        key: Option<UserKey>,
        reason: DelayReason,
        since: Mono,
    ) {
        let deadline = Mono(since.0 + LOOKUP_TIMEOUT);
        let parked = Parked {
            reason,
            since,
            deadline,
            key,
            bytes: 0,
            lookup: Waiting { user },
        };
        let at = self.nodes[n].at(n);
        say!(self, "[{n}.{core}] user {user} waits: {reason}");
        if let Some(process) = self.nodes[n].process.as_mut() {
            let _ = process.cores[core].parking.park(parked);
            self.after(LOOKUP_TIMEOUT, Event::Deadline(at, core));
        }
    }

    /// As `Directory::login` does it: a new user is only created with the newest snapshot.
    fn decide(
        &mut self,
        n: usize,
        core: usize,
        user: usize,
    ) -> (Option<UserKey>, Decision, Arc<Snapshot>) {
        let wall = self.nodes[n].clocks(self.now).wall;
        let (hash, tag) = (self.users[user].hash, self.users[user].tag);
        let Some(process) = self.nodes[n].process.as_mut() else {
            unreachable!("a login at a process that is not there");
        };
        let (key, note, decision, snapshot) = loop {
            let snapshot = Arc::clone(&process.cores[core].snapshot);
            let Some(key) = Process::key(&snapshot, hash, tag) else {
                return (None, Decision::Wait(DelayReason::NoBackend), snapshot);
            };
            let current = process.table.snapshot.generation;
            let room = process.table.room();
            let mut stale = false;
            let login = process.table.touch(shard_of(key.hash), |shard| {
                shard.login(key, wall, &snapshot, || {
                    stale = current != snapshot.generation;
                    if stale { Err(Refusal::TableFull) } else { room }
                })
            });
            if stale {
                process.cores[core].snapshot = Arc::clone(&process.table.snapshot);
                continue;
            }
            break (key, login.note, login.decision, snapshot);
        };
        if note != Note::None {
            self.post(n, key);
        }
        self.inspect(n);
        (Some(key), decision, snapshot)
    }

    fn answer(&mut self, n: usize, user: usize, decision: Decision, snapshot: &Snapshot) {
        match decision {
            Decision::Go(slot) => {
                self.stats.answered += 1;
                match snapshot.backend(slot) {
                    Some(backend) => self.open_session(n, user, backend.ip),
                    None => self.fail(
                        "S6",
                        format!("[{n}] user {user} sent to {slot:?}, which is nobody's"),
                    ),
                }
            }
            Decision::Refuse(_) => self.stats.refused += 1,
            Decision::Wait(_) => unreachable!("it waits"),
        }
    }

    /// A note for the control core; when the queue is full, the shard is remembered instead.
    fn post(&mut self, n: usize, key: UserKey) {
        let at = self.nodes[n].at(n);
        let (capacity, delay) = (self.options.note_capacity, self.options.note_delay);
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        if process.notes.len() < capacity {
            process.notes.push_back(key);
            if !std::mem::replace(&mut process.draining, true) {
                let late = self.rng.below(delay + 1);
                self.after(late, Event::Drain(at));
            }
            return;
        }
        self.stats.notes_lost += 1;
        if self.bug == Some(Bug::NotesForgotten) {
            return;
        }
        let is_first = process.lost.is_empty();
        process.lost.insert(shard_of(key.hash));
        if is_first {
            let late = self.rng.below(SECOND);
            self.after(late, Event::Visit(at));
        }
    }

    pub fn drain(&mut self, n: usize) {
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        process.draining = false;
        let keys = Vec::from(std::mem::take(&mut process.notes));
        if !keys.is_empty() {
            self.feed(n, Input::Notes(&keys));
        }
    }

    pub fn visit_lost(&mut self, n: usize) {
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        for shard in process.lost.clone() {
            if let Some(process) = self.nodes[n].process.as_mut() {
                process.lost.remove(&shard);
            }
            self.feed(n, Input::NotesLost(shard));
        }
        // What lookups wait for may have been in a note that is lost.
        for core in 0..self.options.cores {
            self.try_waiting(n, core, None);
        }
    }

    pub fn core_sees(&mut self, n: usize, core: usize) {
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        let snapshot = Arc::clone(&process.table.snapshot);
        let own = &mut process.cores[core];
        let generation = snapshot.generation;
        if generation < own.snapshot.generation {
            let text = format!(
                "[{n}.{core}] {generation} after {}",
                own.snapshot.generation
            );
            return self.fail("S6", text);
        }
        own.snapshot = snapshot;
        if own.tried != generation {
            own.tried = generation;
            self.try_waiting(n, core, None);
        }
    }

    pub fn wake(&mut self, n: usize, core: usize, key: UserKey) {
        self.try_waiting(n, core, Some(key));
    }

    /// Tries lookups that wait, in order of arrival: all, or those of one user.
    fn try_waiting(&mut self, n: usize, core: usize, only: Option<UserKey>) {
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        let parking = &mut process.cores[core].parking;
        match only {
            Some(key) => parking.wake(key),
            None => parking.wake_all(),
        }
        let mut woken: Vec<(Place, usize)> = Vec::new();
        while let Some((place, parked)) = parking.next_woken() {
            woken.push((place, parked.lookup.user));
        }
        for (place, user) in woken {
            let (key, decision, snapshot) = self.decide(n, core, user);
            let Some(process) = self.nodes[n].process.as_mut() else {
                return;
            };
            let parking = &mut process.cores[core].parking;
            match decision {
                Decision::Wait(reason) => parking.waits_on(place, reason, key),
                _ => {
                    parking.remove(place);
                    self.answer(n, user, decision, &snapshot);
                }
            }
        }
    }

    pub fn deadline(&mut self, n: usize, core: usize) {
        let mono = self.nodes[n].clocks(self.now).mono;
        loop {
            let Some(process) = self.nodes[n].process.as_mut() else {
                return;
            };
            let Some((_, parked)) = process.cores[core].parking.pop_expired(mono) else {
                return;
            };
            self.stats.timed_out += 1;
            let (user, reason) = (parked.lookup.user, parked.reason);
            say!(self, "[{n}.{core}] user {user} waited too long: {reason}");
            self.timed_out(n, user, reason, parked.since);
        }
    }

    /// A session's proxy says that it is alive.
    pub fn refresh(&mut self, n: usize, user: usize) {
        let wall = self.nodes[n].clocks(self.now).wall;
        let core = self.rng.index(self.options.cores);
        let hash = UserHash(self.users[user].hash);
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        let snapshot = Arc::clone(&process.cores[core].snapshot);
        let mut notes = Vec::new();
        for tag in 0..u16::try_from(snapshot.tag_count()).unwrap() {
            let key = UserKey {
                tag: homing::core::TagId(tag),
                hash,
            };
            let seen = process.table.touch(shard_of(hash), |shard| {
                shard.keep_alive(key, wall, &snapshot)
            });
            // S5: who was refreshed is there.
            let weak =
                |entry: &homing::core::users::Entry| entry.is_weak() || entry.stamp() >= wall;
            let shard = &process.table.shards[shard_of(hash)];
            let is_there = shard.peek(key, wall, &snapshot).is_some_and(weak);
            if matches!(seen, Refreshed::Known(_)) && !is_there {
                let text = format!("[{n}] {key:?} was refreshed and is not there");
                return self.fail("S5 expiry", text);
            }
            if let Refreshed::Known(Note::Announce | Note::Confirm) = seen {
                notes.push(key);
            }
        }
        for key in notes {
            self.post(n, key);
        }
        self.inspect(n);
    }
}
