//! Drains: a backend's users leave it, so many a second, until none is left
//! (docs/protocol/admin.md, drains).
//!
//! Nothing but a clock moves a drain on: no input of the ring costs more because one is under way.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::{Deed, Event, OrderError, Ring, Table};
use crate::core::backends::{Backend, BackendError};
use crate::core::moves::Moving;
use crate::core::users::{Entry, SHARDS, shard_of};
use crate::core::{BackendSlot, Mono, UserKey, Wall};

/// Most drains that are remembered, those that are over included. An operator empties a machine or a
/// rack; each holds the users of a shard.
pub const MAX_DRAINS: usize = 16;

/// Most users a second that can be asked for: more than `director_max_parallel_moves` lets through
/// anywhere, and far from what a nanosecond clock cannot tell apart.
pub const MAX_RATE: u32 = 100_000;

/// Shards that are looked through in one turn, as for bulk resets.
const SHARDS_PER_TURN: usize = 16;

/// Users that could have left while the ring was busy elsewhere are made up for, those of so long at
/// most: after a long wait they must not all leave at once.
const CATCH_UP: u64 = Mono::SECOND / 10;

/// When too many users are moving, how soon is looked again whether one has arrived. A move takes
/// `director_user_kick_delay` at least, seconds as a rule.
const ROOM_PAUSE: u64 = Mono::SECOND / 100;

/// How soon is looked again at everything else that must change first.
const PAUSE: u64 = Mono::SECOND;

/// How a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainState {
    /// Users leave at the rate that was asked for.
    Draining,
    /// They leave as others arrive: `director_max_parallel_moves` users are moving.
    Full,
    /// The ring is not synced: nobody leaves.
    Unsynced,
    /// No backend can take the next user: nobody leaves, and no session is ended.
    Nowhere,
    /// No user is left; sessions of the last ones are still being ended.
    Ending,
    /// No user is left.
    Done,
}

/// A drain, for those who look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// The backend.
    pub ip: IpAddr,
    /// Users a second.
    pub rate: NonZeroU32,
    /// How it is.
    pub state: DrainState,
    /// Users that have left, or are leaving.
    pub moved: u64,
    /// The backend's weight before; `None`: it had none then.
    pub vhosts: Option<u32>,
    /// When it began.
    pub begun: Wall,
}

/// One under way, or over.
#[derive(Debug)]
pub(super) struct Drain {
    shown: Draining,
    /// When the next user may leave.
    next: Mono,
    /// Nothing is to be done before.
    look: Option<Mono>,
    /// The next shard to be looked through.
    shard: usize,
    /// Users that were found there.
    found: Vec<UserKey>,
    /// Some were found since the first shard.
    occupied: bool,
}

/// What became of one user.
enum Left {
    /// It is on its way.
    Moves,
    /// It is not there any more, or its move is under way.
    Passed,
    /// No backend can take it.
    Nowhere,
}

impl Ring {
    /// Takes a backend's weight away, and has its users leave; or changes how fast they do.
    pub(super) fn begin_drain(&mut self, ip: IpAddr, rate: NonZeroU32) -> Result<(), OrderError> {
        let rate = rate.min(NonZeroU32::new(MAX_RATE).unwrap_or(rate));
        let backends = self.director.backends();
        let backend = backends.find(ip).ok_or(BackendError::Unknown(ip))?;
        let (vhosts, tag) = (backend.vhosts, backend.tag);
        let usable = |it: &&Backend| !it.down && it.vhosts > 0;
        let mut others = backends.iter().filter(usable);
        if !others.any(|other| other.ip != ip && other.tag == tag) {
            return Err(OrderError::NobodyElse(ip));
        }
        self.end_void_drains();
        let known = self.drains.iter().position(|it| it.shown.ip == ip);
        if let Some(at) = known
            && self.drains[at].shown.state != DrainState::Done
        {
            let drain = &mut self.drains[at];
            drain.shown.rate = rate;
            drain.next = self.now.mono;
            drain.look = Some(self.now.mono);
            self.arm_drains();
            self.say(Event::Ordered(Deed::Drains { ip, rate }));
            return Ok(());
        }
        let mut before = None;
        if let Some(at) = known {
            before = self.drains.remove(at).shown.vhosts;
        } else if self.drains.len() == MAX_DRAINS {
            let over = |it: &Drain| it.shown.state == DrainState::Done;
            let at = self.drains.iter().position(over);
            self.drains.remove(at.ok_or(OrderError::TooManyDrains)?);
        }
        if vhosts > 0 {
            before = Some(vhosts);
            self.set_backend(ip, None, Some(0), false)?;
        }
        self.say(Event::Ordered(Deed::Drains { ip, rate }));
        self.drains.push(Drain {
            shown: Draining {
                ip,
                rate,
                state: DrainState::Draining,
                moved: 0,
                vhosts: before,
                begun: self.now.wall,
            },
            next: self.now.mono,
            look: Some(self.now.mono),
            shard: 0,
            found: Vec::new(),
            occupied: false,
        });
        self.arm_drains();
        Ok(())
    }

    /// Ends a drain, and gives the backend the weight that it had. Users who have left stay away.
    pub(super) fn cancel_drain(&mut self, ip: IpAddr) -> Result<(), OrderError> {
        self.end_void_drains();
        let at = self.drains.iter().position(|it| it.shown.ip == ip);
        let at = at.ok_or(OrderError::NotDraining(ip))?;
        let vhosts = self.drains[at].shown.vhosts;
        if vhosts.is_some() {
            self.set_backend(ip, None, vhosts, false)?;
        }
        // Unless it went with the weight.
        self.drains.retain(|it| it.shown.ip != ip);
        self.say(Event::Ordered(Deed::DrainCancelled { ip, vhosts }));
        Ok(())
    }

    /// All drains, by address.
    pub fn drains(&self) -> Vec<Draining> {
        let mut shown: Vec<Draining> = self.drains.iter().map(|it| it.shown).collect();
        shown.sort_by_key(|it| it.ip);
        shown
    }

    /// Forgets drains whose backend has gone, or gets users again: somebody else wants it so.
    pub(super) fn end_void_drains(&mut self) {
        let backends = self.director.backends();
        let is_void = |drain: &Drain| {
            let backend = backends.find(drain.shown.ip);
            backend.is_none_or(|backend| backend.vhosts > 0)
        };
        let void: Vec<Drain> = self.drains.extract_if(.., |it| is_void(it)).collect();
        for Drain { shown, .. } in void {
            if shown.state != DrainState::Done {
                self.say(Event::DrainEnded(shown.ip, shown.moved));
            }
        }
    }

    fn arm_drains(&mut self) {
        self.timers.drain = self.drains.iter().filter_map(|it| it.look).min();
    }

    /// A turn of every drain that is due.
    pub(super) fn go_on_draining<T: Table>(&mut self, table: &mut T) {
        let now = self.now.mono;
        if self.timers.drain.is_none_or(|at| at > now) {
            return;
        }
        self.end_void_drains();
        if self.drains.is_empty() {
            self.timers.drain = None;
            return;
        }
        let mut shards = SHARDS_PER_TURN;
        for mut drain in std::mem::take(&mut self.drains) {
            if drain.look.is_some_and(|at| at <= now) {
                drain.look = self.drain_some(&mut drain, &mut shards, table);
            }
            self.drains.push(drain);
        }
        // Another one comes first in the next turn.
        self.drains.rotate_left(1);
        self.arm_drains();
    }

    /// Has as many users leave as may. Returns when there is more to do; `None`: it is over.
    fn drain_some<T: Table>(
        &mut self,
        drain: &mut Drain,
        shards: &mut usize,
        table: &mut T,
    ) -> Option<Mono> {
        let now = self.now.mono;
        let again = Some(now.after(PAUSE));
        if !self.standing.synced {
            drain.shown.state = DrainState::Unsynced;
            return again;
        }
        drain.next = drain.next.max(Mono(now.0.saturating_sub(CATCH_UP)));
        loop {
            if let Some(&key) = drain.found.last() {
                if drain.next > now {
                    drain.shown.state = DrainState::Draining;
                    return Some(drain.next);
                }
                if self.moves.moving() >= self.limits.max_parallel_moves {
                    drain.shown.state = DrainState::Full;
                    return Some(now.after(ROOM_PAUSE));
                }
                match self.leave_backend(drain.shown.ip, key, table) {
                    Left::Moves => {
                        drain.shown.moved += 1;
                        let pause = Mono::SECOND / u64::from(drain.shown.rate.get());
                        drain.next = drain.next.after(pause);
                    }
                    Left::Passed => {}
                    Left::Nowhere => {
                        drain.shown.state = DrainState::Nowhere;
                        return again;
                    }
                }
                drain.found.pop();
            } else if drain.shard == SHARDS {
                let is_over = self.is_drained(drain);
                return again.filter(|_| !is_over);
            } else if *shards == 0 {
                return Some(now);
            } else {
                *shards -= 1;
                drain.found = self.users_of(drain.shown.ip, drain.shard, |_, _| true, table);
                drain.occupied |= !drain.found.is_empty();
                drain.shard += 1;
            }
        }
    }

    /// All shards were looked through. `true`: nobody is there any more, nor has sessions there; `false`:
    /// they are to be looked through once more.
    fn is_drained(&mut self, drain: &mut Drain) -> bool {
        let ip = drain.shown.ip;
        let ends = |moving: Moving| moving.ours && moving.old == Some(ip);
        let ending = self.moves.iter().any(ends);
        drain.shard = 0;
        drain.shown.state = match (std::mem::take(&mut drain.occupied), ending) {
            // Somebody has come since, e.g. by a move.
            (true, _) => DrainState::Draining,
            (false, true) => DrainState::Ending,
            (false, false) => DrainState::Done,
        };
        if drain.shown.state != DrainState::Done {
            return false;
        }
        let seconds = self.now.wall.0.saturating_sub(drain.shown.begun.0);
        self.say(Event::DrainOver(ip, drain.shown.moved, seconds));
        true
    }

    fn leave_backend<T: Table>(&mut self, host: IpAddr, key: UserKey, table: &mut T) -> Left {
        if !self.is_still_on(host, key, table) {
            return Left::Passed;
        }
        let snapshot = self.fresh(table);
        let choice = snapshot.choose(key).and_then(|slot| snapshot.backend(slot));
        match choice.map(|backend| backend.ip) {
            Some(ip) if ip != host => {
                let own = self.own_origin();
                self.start_move(key, ip, own, None, table);
                Left::Moves
            }
            _ => Left::Nowhere,
        }
    }

    /// The users of a backend in one shard, those that are wanted.
    pub(super) fn users_of<T: Table>(
        &mut self,
        host: IpAddr,
        shard: usize,
        wanted: impl Fn(&Entry, BackendSlot) -> bool,
        table: &mut T,
    ) -> Vec<UserKey> {
        let snapshot = self.fresh(table);
        let now = self.now.wall;
        let Some(slot) = self.slot_of(host) else {
            return Vec::new();
        };
        table.with(shard, |shard| {
            let living = shard.living(now, &snapshot);
            let found = living.filter(|entry| entry.backend() == slot && wanted(entry, slot));
            found.map(Entry::key).collect()
        })
    }

    /// Whether a user that was found on a backend is there and not moving.
    pub(super) fn is_still_on<T: Table>(
        &mut self,
        host: IpAddr,
        key: UserKey,
        table: &mut T,
    ) -> bool {
        let snapshot = self.fresh(table);
        let now = self.now.wall;
        let slot = self.slot_of(host);
        table.with(shard_of(key.hash), |shard| {
            shard
                .peek(key, now, &snapshot)
                .is_some_and(|entry| Some(entry.backend()) == slot && !entry.is_killing())
        })
    }

    fn slot_of(&self, host: IpAddr) -> Option<BackendSlot> {
        Some(self.director.backends().find(host)?.slot)
    }
}
