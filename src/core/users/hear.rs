//! What the other directors say of a user, and what is to be said in return
//! (docs/protocol/ring.md, users).
//!
//! Called by the machine of the ring; without others nobody says anything.

use super::shard::is_live;
use super::{Entry, Shard};
use crate::core::ip_text::ip_order;
use crate::core::members::Seen;
use crate::core::snapshot::Snapshot;
use crate::core::{BackendSlot, Refusal, UserKey, Wall};

/// A line without a time refreshes a user that was refreshed less than this many seconds ago only if
/// a quarter of the expiry is shorter. Such lines would go round for ever otherwise.
const DAMPING: u64 = 15;

/// A USER, `U` or USER-WEAK line. Its backend is known to the snapshot, and the key's tag is that
/// backend's tag; lines about unknown backends are ignored before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The user.
    pub key: UserKey,
    /// Where it lives, says the line.
    pub backend: BackendSlot,
    /// When it was refreshed, says the line. Times of the future count as now.
    pub stamp: Option<Wall>,
    /// The assignment is being confirmed.
    pub weak: bool,
    /// The user was moved a moment ago: a line with another backend may be older than the move.
    pub late: bool,
    /// Who is remembered as having decided, if the line's backend is taken ([`Entry::decided_by`]).
    pub from: u16,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was about a user whose time is over.
    Expired,
    /// A new user, and no room for one.
    Refused(Refusal),
    /// It said nothing new.
    Unchanged,
    /// The user is new, or not as before, or the sender must hear what is known here.
    Changed,
}

/// The effects of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// What became of it.
    pub outcome: Outcome,
    /// The line won against what was known here: everybody must hear the result, its sender too.
    pub forced: bool,
    /// Two directors had decided differently: the user's sessions on all backends but this one end,
    /// here and, by USER-KICK-HASH, everywhere. Goes out before anything else about the user.
    pub kick: Option<BackendSlot>,
    /// Lookups of this user that wait may go on: it is no longer weak, or known at last.
    pub wake: bool,
    /// The user is new in the table.
    pub created: bool,
    /// How many expired users were removed, 0 or 1.
    pub removed: u32,
    /// The user as it is now; what others are told is this, never the line that was heard.
    pub stored: Option<Entry>,
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All but the director that the line came from.
    NotTheSender,
    /// All.
    Everybody,
}

/// What the others are told of a user after a line about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// Nothing.
    Nothing,
    /// USER, as it is stored.
    User(Audience),
    /// USER-WEAK, with the line's origin or, if that is unknown, ours; with the stored backend.
    Weak(Audience),
}

/// Which copy of a USER-WEAK line this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeakCopy {
    /// The first one seen here, or one whose issuer nobody knows.
    First,
    /// Another copy of somebody else's line. It must get back to its issuer, so it goes on too.
    Again,
    /// Our own, which has been everywhere: the assignment is confirmed.
    Returned,
}

impl WeakCopy {
    /// From what the origin says; `ours`: this director issued it.
    pub fn of(seen: Seen, ours: bool) -> WeakCopy {
        match (seen, ours) {
            (Seen::New | Seen::NoOrigin, _) => WeakCopy::First,
            (Seen::Duplicate, false) => WeakCopy::Again,
            (Seen::Duplicate, true) => WeakCopy::Returned,
        }
    }

    /// What [`Heard::weak`] is for this copy.
    pub fn is_weak(self) -> bool {
        self != WeakCopy::Returned
    }
}

impl Hearing {
    fn of(outcome: Outcome) -> Hearing {
        Hearing {
            outcome,
            forced: false,
            kick: None,
            wake: false,
            created: false,
            removed: 0,
            stored: None,
        }
    }

    fn audience(&self) -> Audience {
        // Of a conflict that we have won the sender must hear: in a ring of two nobody else tells it.
        if self.forced || self.kick.is_some() {
            Audience::Everybody
        } else {
            Audience::NotTheSender
        }
    }

    /// What to say after a USER line. After a `U` line nothing is said but after a conflict, whose end
    /// all others must hear.
    pub fn after_user(&self) -> Tell {
        match self.outcome {
            Outcome::Changed => Tell::User(self.audience()),
            Outcome::Expired | Outcome::Refused(_) | Outcome::Unchanged => Tell::Nothing,
        }
    }

    /// What to say after a USER-WEAK line. A copy that went round often enough
    /// ([`crate::core::members::Member::pass_weak`]) is not passed on whatever this says.
    pub fn after_weak(&self, copy: WeakCopy) -> Tell {
        let goes_on = self.outcome == Outcome::Changed || copy != WeakCopy::Returned;
        // Without an entry there was no room for the user: others may have some.
        let is_weak = self.stored.is_none_or(|entry| entry.is_weak());
        let audience = match copy {
            WeakCopy::Returned => Audience::Everybody,
            WeakCopy::First | WeakCopy::Again => self.audience(),
        };
        match (goes_on, is_weak) {
            (false, _) => Tell::Nothing,
            (true, true) => Tell::Weak(audience),
            // Whoever asked hears that the user is not weak here, and need not wait for its line: those
            // whom it asked may all stop it.
            (true, false) => Tell::User(Audience::Everybody),
        }
    }
}

impl Shard {
    /// Another director says something of a user. `admit` is asked before a new one is taken in.
    ///
    /// A `U` line is the same as a USER line here.
    pub fn hear(
        &mut self,
        heard: Heard,
        now: Wall,
        snapshot: &Snapshot,
        admit: impl FnOnce() -> Result<(), Refusal>,
    ) -> Hearing {
        // A clock that runs ahead must not make users immortal.
        let stamp = heard.stamp.unwrap_or(now).min(now);
        if snapshot.expiry.is_over(stamp, now) {
            return Hearing::of(Outcome::Expired);
        }
        match self.table.get_mut(heard.key) {
            Some(entry) if is_live(entry, now, snapshot) => {
                let before = entry.backend();
                let hearing = known(entry, &heard, stamp, now, snapshot);
                let after = entry.backend();
                self.recount(before, after);
                hearing
            }
            Some(_) => {
                self.remove(heard.key);
                let hearing = self.unknown(&heard, stamp, admit);
                Hearing {
                    removed: 1,
                    ..hearing
                }
            }
            None => self.unknown(&heard, stamp, admit),
        }
    }

    fn unknown(
        &mut self,
        heard: &Heard,
        stamp: Wall,
        admit: impl FnOnce() -> Result<(), Refusal>,
    ) -> Hearing {
        if let Err(refusal) = admit() {
            return Hearing::of(Outcome::Refused(refusal));
        }
        let mut entry = Entry::new(heard.key, heard.backend, stamp);
        entry.set_weak(heard.weak);
        entry.set_decided_by(heard.from);
        self.insert(entry);
        Hearing {
            created: true,
            wake: !heard.weak,
            stored: Some(entry),
            ..Hearing::of(Outcome::Changed)
        }
    }

    /// A user as it was saved. It is taken in unless its time is over or it is known already: what others
    /// say, or its sessions, count more. Whoever is connected is to be told of it. True: it was.
    pub fn recall(
        &mut self,
        key: UserKey,
        backend: BackendSlot,
        stamp: Wall,
        now: Wall,
        snapshot: &Snapshot,
        admit: impl FnOnce() -> Result<(), Refusal>,
    ) -> bool {
        // A clock that was set back must not make users immortal.
        let stamp = stamp.min(now);
        if self.table.get(key).is_some() || snapshot.expiry.is_over(stamp, now) || admit().is_err()
        {
            return false;
        }
        let mut entry = Entry::new(key, backend, stamp);
        entry.set_queued(snapshot.tell);
        self.insert(entry);
        true
    }

    /// A lookup asked for a confirmation ([`super::Note::Confirm`]). Marks the user as weak and returns
    /// it, for a USER-WEAK line to everybody; `None`: there is nothing to confirm any more.
    pub fn confirm(&mut self, key: UserKey, now: Wall, snapshot: &Snapshot) -> Option<Entry> {
        let entry = self.table.get_mut(key)?;
        // While the ring is not whole the line could be lost; the lookup waits, and asks again.
        let wanted = snapshot.synced
            && !snapshot.alone
            && is_live(entry, now, snapshot)
            && !entry.is_weak()
            && !entry.is_killing()
            && snapshot.expiry.is_near(entry.stamp(), now)
            && snapshot.choose(key) != Some(entry.backend());
        if !wanted {
            return None;
        }
        entry.set_weak(true);
        Some(*entry)
    }

    /// The confirmation did not come in time: a weak user is as others again. `true`: it was weak.
    pub fn give_up_confirmation(&mut self, key: UserKey) -> bool {
        match self.table.get_mut(key) {
            Some(entry) if entry.is_weak() => {
                entry.set_weak(false);
                true
            }
            _ => false,
        }
    }
}

/// A line about a user that is known here.
fn known(entry: &mut Entry, heard: &Heard, stamp: Wall, now: Wall, snapshot: &Snapshot) -> Hearing {
    let mut hearing = Hearing::of(Outcome::Unchanged);
    let backend = choose(entry, heard, now, snapshot, &mut hearing);
    if backend != entry.backend() {
        entry.set_backend(backend);
        entry.set_decided_by(heard.from);
        hearing.outcome = Outcome::Changed;
    }
    let quarter = snapshot.expiry.seconds() / 4;
    let damped = heard.stamp.is_none() && entry.stamp().0 + quarter.min(DAMPING) >= now.0;
    if stamp > entry.stamp() && !damped {
        entry.set_stamp(stamp);
        hearing.outcome = Outcome::Changed;
    }
    // Its confirmation came from a director whose clock is behind ours: the lookups that wait may go on
    // for this second. They would ask again at once, and get the same answer, for ever.
    if hearing.wake && snapshot.expiry.is_near(entry.stamp(), now) {
        entry.set_stamp(snapshot.expiry.nearest(now));
    }
    hearing.stored = Some(*entry);
    hearing
}

/// The user's backend after the line, with whatever else changes for that reason.
fn choose(
    entry: &mut Entry,
    heard: &Heard,
    now: Wall,
    snapshot: &Snapshot,
    hearing: &mut Hearing,
) -> BackendSlot {
    let ours = entry.backend();
    match (entry.is_weak(), heard.weak) {
        (true, false) => {
            entry.set_weak(false);
            hearing.wake = true;
            hearing.outcome = Outcome::Changed;
            heard.backend
        }
        (true, true) => heard.backend,
        (false, true) => {
            // A user that was here a moment ago needs no confirmation: what is known here counts.
            let recent = snapshot.expiry.is_recent(entry.stamp(), now);
            entry.set_weak(!recent);
            hearing.outcome = Outcome::Changed;
            if recent { ours } else { heard.backend }
        }
        (false, false) if heard.backend == ours => ours,
        (false, false) if snapshot.expiry.is_near(entry.stamp(), now) => heard.backend,
        (false, false) if entry.is_killing() || heard.late => ours,
        (false, false) => {
            let winner = lower(ours, heard.backend, snapshot);
            hearing.outcome = Outcome::Changed;
            hearing.forced = winner != ours;
            hearing.kick = Some(winner);
            winner
        }
    }
}

/// Two directors decided differently: the lower address wins, whoever was first.
fn lower(ours: BackendSlot, theirs: BackendSlot, snapshot: &Snapshot) -> BackendSlot {
    match (snapshot.backend(ours), snapshot.backend(theirs)) {
        (Some(a), Some(b)) if ip_order(b.ip, a.ip).is_lt() => theirs,
        _ => ours,
    }
}
