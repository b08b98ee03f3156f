//! The directors of a ring: who they are, in which order they stand, what this director remembers
//! of each (docs/protocol/ring.md, members).
//!
//! Values and decisions only; connections and timers are those of [`super::ring`].

use std::net::IpAddr;

use thiserror::Error;

use super::Mono;
use crate::wire::ring::DirectorId;

mod member;
mod order;
mod sync;

pub use member::{Member, Parked};
pub use order::Walk;
pub use sync::{OwnRound, OwnSync, SyncVerdict};

/// Most directors of a ring, removed ones included. Every change travels round the whole ring, so
/// real ones have a handful; a peer that names new ones all day must not fill the memory.
pub const MAX_MEMBERS: usize = 1024;

const SECOND: u64 = Mono::SECOND;
/// How long a director that failed is not dialled, and one that sent garbage not accepted.
const BACK_OFF: u64 = 60 * SECOND;
/// A connection that was lost sooner counts as one that failed.
const SHORT_LIVED: u64 = 40 * SECOND;
/// How long a director that reaches nobody after its start keeps trying before it serves alone.
const GRACE: u64 = 20 * SECOND;

/// The sorted list of directors, this one included.
#[derive(Clone, Debug)]
pub struct Members {
    /// By [`DirectorId`]'s order, without duplicates.
    list: Vec<Member>,
    me: DirectorId,
    /// When the process began to look for the others, or else when it first found none.
    first_alone: Option<Mono>,
    /// For the jitter of new members.
    seed: u64,
}

/// [`MAX_MEMBERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no room for another director: {MAX_MEMBERS} are known")]
pub struct TooManyMembers;

/// What the origin of a command says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A new one of a known director: carry it out, forward it with its origin.
    New,
    /// It was here before.
    Duplicate,
    /// Nobody knows its issuer, or it was removed: carry it out, forward it as our own.
    NoOrigin,
}

/// Why the director that says ME is not taken as a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MeRefused {
    /// It says that it is this director.
    #[error("it announces our own address and port")]
    Ourselves,
    /// Its connection comes from another address.
    #[error("it announces another address than it connects from")]
    WrongSource,
    /// It is not in the list.
    #[error("it is not in the list of directors")]
    Unlisted,
    /// It sent garbage less than a minute ago.
    #[error("it sent garbage less than a minute ago")]
    BackOff,
}

/// What to do when no director could be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Try all of them again in a second; their failures are forgotten.
    TryAgain,
    /// This director is alone, and serves.
    Alone,
}

impl Members {
    /// This director, and those of the settings (with or without this one).
    ///
    /// # Errors
    /// [`TooManyMembers`].
    pub fn new(
        me: DirectorId,
        others: impl IntoIterator<Item = DirectorId>,
    ) -> Result<Members, TooManyMembers> {
        let mut members = Members {
            list: vec![Member::new(me)],
            me,
            first_alone: None,
            seed: 0,
        };
        for id in others {
            members.add(id)?;
        }
        Ok(members)
    }

    /// Makes attempts to reach others come at other times than those of other directors; `seed` should
    /// be random.
    pub fn set_jitter(&mut self, seed: u64) {
        self.seed = seed;
        for at in 0..self.list.len() {
            self.list[at].set_jitter(spread(seed, at));
        }
    }

    /// This director.
    pub fn me(&self) -> DirectorId {
        self.me
    }

    /// Our place among those that are not removed, from 0.
    pub fn rank(&self) -> usize {
        let before = self.list.iter().take_while(|member| member.id != self.me);
        before.filter(|member| !member.removed).count()
    }

    /// All, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.list.iter()
    }

    /// What is known of a director.
    pub fn get(&self, id: DirectorId) -> Option<&Member> {
        self.position(id).ok().map(|at| &self.list[at])
    }

    /// The same, to be changed. Its identity stays.
    pub fn get_mut(&mut self, id: DirectorId) -> Option<&mut Member> {
        self.position(id).ok().map(|at| &mut self.list[at])
    }

    /// Adds a director if it is not there. `true`: it was not.
    ///
    /// # Errors
    /// [`TooManyMembers`].
    pub fn add(&mut self, id: DirectorId) -> Result<bool, TooManyMembers> {
        let Err(at) = self.position(id) else {
            return Ok(false);
        };
        if self.list.len() == MAX_MEMBERS {
            return Err(TooManyMembers);
        }
        let mut member = Member::new(id);
        member.set_jitter(spread(self.seed, self.list.len()));
        self.list.insert(at, member);
        self.check_invariants();
        Ok(true)
    }

    /// Marks a director as removed; it is kept until [`Members::purge`]. `true`: it was not marked.
    /// Never this director, whom the others simply leave.
    pub fn remove(&mut self, id: DirectorId) -> bool {
        if id == self.me {
            return false;
        }
        self.get_mut(id)
            .is_some_and(|member| !std::mem::replace(&mut member.removed, true))
    }

    /// Forgets removed directors: when the ring is synced, or 30 s after the removal.
    pub fn purge(&mut self) {
        self.list.retain(|member| !member.removed);
        self.check_invariants();
    }

    /// Whether a connection from this address is to be accepted: a director of the list has it.
    /// One of several at an address may be removed.
    pub fn admits(&self, ip: IpAddr) -> bool {
        self.list
            .iter()
            .any(|member| member.id.ip == ip && !member.removed)
    }

    /// Whether the director that says ME on a connection from `source` may stay.
    ///
    /// # Errors
    /// Why not. Nothing of the director may be changed then, in particular not its counters.
    pub fn check_me(&self, id: DirectorId, source: IpAddr, now: Mono) -> Result<(), MeRefused> {
        if id == self.me {
            return Err(MeRefused::Ourselves);
        }
        if id.ip != source {
            return Err(MeRefused::WrongSource);
        }
        let member = self.get(id).ok_or(MeRefused::Unlisted)?;
        if member.sent_garbage_lately(now) {
            return Err(MeRefused::BackOff);
        }
        Ok(())
    }

    /// Whether every other director has said that it is a Homing director.
    pub fn are_all_homing(&self) -> bool {
        let others = self.list.iter().filter(|member| member.id != self.me);
        others
            .filter(|member| !member.removed)
            .all(|member| member.met && member.homing)
    }

    /// A director has said VERSION: which program it is decides how soon it is dialled again, and what
    /// those are taken for that were not met yet.
    pub fn note_program(&mut self, id: DirectorId, homing: bool) {
        if let Some(member) = self.get_mut(id) {
            member.met = true;
            member.homing = homing;
        }
        let all_homing = self.list.iter().all(|member| member.homing || !member.met);
        for member in self.list.iter_mut().filter(|member| !member.met) {
            member.homing = all_homing;
        }
    }

    /// A director has started again, as far as one can know: its counters begin at 0. To be called
    /// when it says ME to us, when we dial it, and when a DIRECTOR line names it. Nothing happens
    /// for this director, whose own counter is not to be touched by others.
    pub fn restarted(&mut self, id: DirectorId) {
        if id == self.me {
            return;
        }
        if let Some(member) = self.get_mut(id) {
            member.restarted();
        }
    }

    /// What orders of others have done here is gone: their numbers are not known any more.
    pub fn forget_orders(&mut self) {
        let me = self.me;
        for member in self.list.iter_mut().filter(|member| member.id != me) {
            member.last_seq = 0;
        }
    }

    /// The sequence number of our next command. Others drop a number that is not above the last, so
    /// after 4 billion commands they would no longer listen; see docs/protocol/ring.md, origins.
    pub fn next_seq(&mut self) -> u32 {
        let me = self.me;
        match self.get_mut(me) {
            Some(member) => {
                member.last_seq = member.last_seq.wrapping_add(1);
                member.last_seq
            }
            None => unreachable!("this director is in its own list"),
        }
    }

    /// Takes note of a command's origin and says whether it was here before. Our own commands are
    /// duplicates when they come back, except after a restart: then they count as new once, and our
    /// counter goes on from them.
    pub fn take_seq(&mut self, director: DirectorId, seq: u32) -> Seen {
        match self.get_mut(director) {
            None => Seen::NoOrigin,
            Some(member) if member.removed => Seen::NoOrigin,
            Some(member) if seq <= member.last_seq => Seen::Duplicate,
            Some(member) => {
                member.last_seq = seq;
                Seen::New
            }
        }
    }

    /// The process begins to look for the others. From now on it keeps trying for a while before it
    /// serves alone; once that time is over, a ring that is lost is not waited for.
    pub fn begin_grace(&mut self, now: Mono) {
        self.first_alone = Some(now);
    }

    /// No director of the list could be dialled, and there are others: keep trying for a while after
    /// the start of the process, then be alone. The grace is given once.
    pub fn unreachable(&mut self, now: Mono) -> Unreachable {
        if self.list.len() == 1 {
            return Unreachable::Alone;
        }
        let since = *self.first_alone.get_or_insert(now);
        if now.since(since) > GRACE {
            return Unreachable::Alone;
        }
        for member in &mut self.list {
            member.forgive();
        }
        Unreachable::TryAgain
    }

    /// Panics where the list contradicts itself. Debug builds only.
    pub fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert!(self.list.is_sorted_by(|a, b| a.id < b.id), "sorted, unique");
        assert!(self.list.len() <= MAX_MEMBERS);
        assert!(self.get(self.me).is_some_and(|me| !me.removed));
    }

    fn position(&self, id: DirectorId) -> Result<usize, usize> {
        self.list.binary_search_by(|member| member.id.cmp(&id))
    }
}

/// Another number for every member.
fn spread(seed: u64, at: usize) -> u64 {
    let mixed = (seed ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests;
