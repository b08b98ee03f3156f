//! How a user moves: from USER-MOVE to its first login at the new backend
//! (docs/protocol/ring.md, moves).
//!
//! A move goes round the ring. Every director ends the user's sessions and tells its right so when
//! its left has said the same; when that is home again everybody knows, waits a moment, and lets
//! the user in. [`Moves`] has a record for each user that is on this way here, from
//! [`Moves::begin`] to [`Effect::Ended`], and nothing else: where the user lives, and that its
//! lookups wait, stands in the user's entry ([`super::users::Shard::start_move`]).
//!
//! What the caller does:
//!
//! * An entry is marked as killing before [`Moves::begin`], and unmarked at [`Effect::Ended`]. So
//!   there are no more records than users, which `user_table_limit` bounds; no other limit is needed.
//! * USER-MOVE is written before the effects of [`Moves::begin`] are carried out: a director that
//!   hears USER-KILLED first takes no notice of it.
//! * When entries go away with their backend, [`Moves::forget`] is called for those that moved.
//! * A kick or script that was aborted is not answered any more: the user may be moved again
//!   meanwhile, and nothing but its key is said here.
//!
//! When the connection to the right is lost, nothing is told here: a line that was to come is gone, and
//! a new right, which never heard of the move, would not send it. Only [`Context::limit`] ends such a
//! move, as it does in Dovecot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::{Mono, TagId, UserHash, UserKey};

/// How long a move may take, from its beginning to the end of its flush script. A director that has
/// missed USER-MOVE never passes USER-KILLED on, and a line may be lost with its connection; nothing
/// but time ends the move then, and the user's lookups wait so long. This is what Dovecot has, and the
/// default of `move_timeout`: with less than others a user would be let in while those still end its
/// sessions, with more it would wait here alone. The delay that follows has a time of its own.
pub const MOVE_LIMIT: u64 = 30_000_000_000;

/// How far a move is. The words of [`fmt::Display`] are those of Dovecot's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Sessions here are being ended.
    Killing,
    /// The same; the left's have ended already.
    Notified,
    /// Sessions here have ended; the left's have not.
    WaitLeft,
    /// The right has been told; somebody's sessions have not ended.
    WaitAll,
    /// All sessions have ended; the flush script runs.
    Flushing,
    /// The same; backends are given some time to finish.
    Delay,
}

impl State {
    /// Every state, in the order in which a move may come to them.
    pub const ALL: [State; 6] = [
        State::Killing,
        State::Notified,
        State::WaitLeft,
        State::WaitAll,
        State::Flushing,
        State::Delay,
    ];

    /// Whether an answer to [`Effect::Kick`] is to come.
    fn has_kick(self) -> bool {
        matches!(self, State::Killing | State::Notified)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Killing => "killing",
            State::Notified => "notify-received",
            State::WaitLeft => "waiting-for-notify",
            State::WaitAll => "waiting-for-everyone",
            State::Flushing => "flushing",
            State::Delay => "delay",
        })
    }
}

/// The backend that a user had when its move began, as it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Old {
    /// Its address.
    pub ip: IpAddr,
    /// Whether it was down.
    pub down: bool,
    /// Its weight.
    pub vhosts: u32,
}

/// A move that begins here.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// The user, under the tag of its new backend.
    pub key: UserKey,
    /// This director issued it; `false`: another one did.
    pub ours: bool,
    /// The backend that the user had, be it the new one; `None`: it was unknown here.
    pub old: Option<Old>,
    /// The backend that it has now.
    pub new: IpAddr,
    /// It may have sessions elsewhere: they are to be ended. `false`: there is nothing to end, but
    /// the user waits for the others all the same.
    pub kick: bool,
    /// The others know nothing of it, so they are not waited for: sessions are ended and the user goes
    /// nowhere.
    pub alone: bool,
}

/// What a move wants done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End the user's sessions here; [`Moves::kicked`] is the answer, whatever came of it.
    Kick(UserKey),
    /// The kick is not waited for any more, and must not be answered.
    AbortKick(UserKey),
    /// USER-KILLED to the right.
    Killed(UserHash),
    /// USER-KILLED-EVERYWHERE of our own to everybody.
    KilledEverywhere(UserHash),
    /// The USER-KILLED-EVERYWHERE that is being heard goes on as it came, except to its sender.
    ForwardKilledEverywhere,
    /// Run the flush script; [`Moves::flushed`] is the answer.
    Flush {
        /// The user.
        key: UserKey,
        /// Backend that it left.
        old: Old,
        /// Backend that it has now.
        new: IpAddr,
    },
    /// The script is not waited for any more, and must not be answered.
    AbortFlush(UserKey),
    /// The move is over. The user's entry, if it is still there, is no longer killing, and its
    /// lookups go on.
    Ended {
        /// The user.
        key: UserKey,
        /// It has taken longer than [`Context::limit`], and this is how far it was.
        timed_out: Option<State>,
    },
}

/// What a decision needs besides the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Now.
    pub now: Mono,
    /// There is a connection to the right.
    pub has_right: bool,
    /// `director_user_kick_delay`, nanoseconds. With 0 a move ends at the next tick.
    pub kick_delay: u64,
    /// `move_timeout`, nanoseconds: what a move that begins may take.
    pub limit: u64,
    /// A flush script is configured.
    pub flush_script: bool,
}

/// A move, for those who look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moving {
    /// The user.
    pub key: UserKey,
    /// How far it is.
    pub state: State,
    /// This director issued it.
    pub ours: bool,
    /// When it began.
    pub since: Mono,
    /// The backend that the user had then, be it the new one; `None`: it was unknown.
    pub old: Option<IpAddr>,
    /// The backend that it has now.
    pub new: IpAddr,
}

/// All moves under way.
#[derive(Debug, Default)]
pub struct Moves {
    records: BTreeMap<Place, Record>,
    /// [`Record::deadline`] of every record.
    deadlines: BTreeSet<(Mono, Place)>,
    /// Moves that a flush script has ended, and until when what others still say of the user's old
    /// backend is not listened to.
    settled: BTreeMap<Place, Mono>,
}

/// The key of a record. The hash comes first, for lines name no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: UserHash,
    tag: TagId,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    state: State,
    ours: bool,
    /// As in [`Begin`], unless a move of others has joined.
    alone: bool,
    since: Mono,
    /// When time alone ends the move.
    deadline: Mono,
    old: Option<Old>,
    new: IpAddr,
}

impl Place {
    fn of(key: UserKey) -> Place {
        Place {
            hash: key.hash,
            tag: key.tag,
        }
    }

    fn key(self) -> UserKey {
        UserKey {
            tag: self.tag,
            hash: self.hash,
        }
    }

    /// The places of a hash under all tags.
    fn all_tags(hash: UserHash) -> std::ops::RangeInclusive<Place> {
        let under = |tag| Place {
            hash,
            tag: TagId(tag),
        };
        under(0)..=under(u16::MAX)
    }
}

fn after(now: Mono, time: u64) -> Mono {
    Mono(now.0.saturating_add(time))
}

impl Moves {
    /// No move.
    pub fn new() -> Moves {
        Moves::default()
    }

    /// A move begins. `false`: this user is moving already; that move goes on, as its issuer's and with
    /// the old backend of its beginning, to the new backend of this one.
    pub fn begin(&mut self, begin: Begin, context: &Context, out: &mut Vec<Effect>) -> bool {
        let place = Place::of(begin.key);
        if let Some(record) = self.records.get_mut(&place) {
            record.new = begin.new;
            record.alone &= begin.alone;
            return false;
        }
        let deadline = after(context.now, context.limit);
        let record = Record {
            state: State::Killing,
            ours: begin.ours,
            alone: begin.alone,
            since: context.now,
            deadline,
            old: begin.old,
            new: begin.new,
        };
        self.records.insert(place, record);
        self.deadlines.insert((deadline, place));
        if begin.kick {
            out.push(Effect::Kick(begin.key));
        } else {
            self.kicked(begin.key, context, out);
        }
        true
    }

    /// The user's sessions here have ended, or could not be ended: the same to the others, who would
    /// wait in vain. Ignored if that is not waited for.
    pub fn kicked(&mut self, key: UserKey, context: &Context, out: &mut Vec<Effect>) {
        let place = Place::of(key);
        let Some(record) = self.records.get_mut(&place) else {
            return;
        };
        match record.state {
            State::Killing | State::Notified if !context.has_right || record.alone => {
                record.finish(place, &mut self.deadlines, context, out);
            }
            State::Killing if !record.ours => record.state = State::WaitLeft,
            State::Killing | State::Notified => {
                record.state = State::WaitAll;
                out.push(Effect::Killed(key.hash));
            }
            State::WaitLeft | State::WaitAll | State::Flushing | State::Delay => {}
        }
    }

    /// USER-KILLED was heard. The line names no tag, so it counts for the hash under every one; what
    /// it leads to is said once for the same reason.
    pub fn killed(&mut self, hash: UserHash, context: &Context, out: &mut Vec<Effect>) {
        let mut to_right = false;
        let mut to_everybody = false;
        for (&place, record) in self.records.range_mut(Place::all_tags(hash)) {
            match record.state {
                State::Killing => record.state = State::Notified,
                State::Notified => {}
                State::WaitLeft if context.has_right => {
                    record.state = State::WaitAll;
                    to_right = true;
                }
                State::WaitLeft => record.finish(place, &mut self.deadlines, context, out),
                State::WaitAll => {
                    record.finish(place, &mut self.deadlines, context, out);
                    to_everybody = true;
                }
                // Its sender has begun the same move again, and would wait in vain.
                State::Flushing | State::Delay => to_everybody = true,
            }
        }
        if to_right {
            out.push(Effect::Killed(hash));
        }
        if to_everybody {
            out.push(Effect::KilledEverywhere(hash));
        }
    }

    /// USER-KILLED-EVERYWHERE was heard, for the first time. Counts for the hash under every tag.
    pub fn killed_everywhere(&mut self, hash: UserHash, context: &Context, out: &mut Vec<Effect>) {
        let mut goes_on = false;
        for (&place, record) in self.records.range_mut(Place::all_tags(hash)) {
            if record.state == State::WaitAll {
                record.finish(place, &mut self.deadlines, context, out);
                goes_on = true;
            }
        }
        if goes_on {
            out.push(Effect::ForwardKilledEverywhere);
        }
    }

    /// The flush script has ended. One that succeeded has seen to it that no process of the user is
    /// left, so nothing more is waited for. Ignored if none runs.
    pub fn flushed(
        &mut self,
        key: UserKey,
        succeeded: bool,
        context: &Context,
        out: &mut Vec<Effect>,
    ) {
        let place = Place::of(key);
        let Some(record) = self.records.get_mut(&place) else {
            return;
        };
        if record.state != State::Flushing {
            return;
        }
        // Nothing is left to abort, whether the delay follows or the end.
        record.delay(place, &mut self.deadlines, context);
        if succeeded {
            // The delay would have covered lines that were written before USER-MOVE was read.
            let until = after(context.now, context.kick_delay);
            self.settled.insert(place, until);
            self.end(place, None, out);
        }
    }

    /// Whether a move of this user has ended so lately that a USER line with another backend may have
    /// been written before its writer heard of the move.
    pub fn has_settled(&self, key: UserKey, now: Mono) -> bool {
        let until = self.settled.get(&Place::of(key));
        until.is_some_and(|until| *until > now)
    }

    /// The user's entry is gone, with its backend or its tag: so is the move.
    pub fn forget(&mut self, key: UserKey, out: &mut Vec<Effect>) {
        self.end(Place::of(key), None, out);
    }

    /// Time has passed: ends what is over.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.settled.retain(|_, until| *until > now);
        while let Some(&(deadline, place)) = self.deadlines.first()
            && deadline <= now
        {
            let timed_out = self
                .records
                .get(&place)
                .map(|record| record.state)
                .filter(|state| *state != State::Delay);
            // The deadline goes even if it were nobody's: this loop must end.
            self.deadlines.remove(&(deadline, place));
            self.end(place, timed_out, out);
        }
    }

    /// When [`Moves::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// How many users are moving.
    pub fn moving(&self) -> usize {
        self.records.len()
    }

    /// How far a user's move is; `None`: it is not moving.
    pub fn state(&self, key: UserKey) -> Option<State> {
        self.records.get(&Place::of(key)).map(|record| record.state)
    }

    /// All moves, by hash and tag.
    pub fn iter(&self) -> impl Iterator<Item = Moving> {
        self.records.iter().map(|(place, record)| Moving {
            key: place.key(),
            state: record.state,
            ours: record.ours,
            since: record.since,
            old: record.old.map(|old| old.ip),
            new: record.new,
        })
    }

    fn end(&mut self, place: Place, timed_out: Option<State>, out: &mut Vec<Effect>) {
        let Some(record) = self.records.remove(&place) else {
            return;
        };
        self.deadlines.remove(&(record.deadline, place));
        let key = place.key();
        if record.state.has_kick() {
            out.push(Effect::AbortKick(key));
        } else if record.state == State::Flushing {
            out.push(Effect::AbortFlush(key));
        }
        out.push(Effect::Ended { key, timed_out });
    }

    /// Every record has its one deadline, no later than its state allows, and only a move of our own
    /// with an old backend has a script.
    pub fn check_invariants(&self) {
        assert_eq!(self.deadlines.len(), self.records.len(), "deadlines");
        for (&place, record) in &self.records {
            assert!(
                self.deadlines.contains(&(record.deadline, place)),
                "L3: no deadline for {place:?}"
            );
            if record.state != State::Delay {
                assert!(record.deadline >= record.since, "L3");
            }
            match record.state {
                State::Flushing => assert!(record.ours && record.old.is_some(), "flush"),
                State::WaitLeft => assert!(!record.ours, "who began waits for no left"),
                State::Killing | State::Notified | State::WaitAll | State::Delay => {}
            }
        }
    }
}

impl Record {
    /// All sessions have ended, as far as one can know: the flush script, or the delay.
    fn finish(
        &mut self,
        place: Place,
        deadlines: &mut BTreeSet<(Mono, Place)>,
        context: &Context,
        out: &mut Vec<Effect>,
    ) {
        match self.old {
            Some(old) if context.flush_script && self.ours => {
                self.state = State::Flushing;
                out.push(Effect::Flush {
                    key: place.key(),
                    old,
                    new: self.new,
                });
            }
            _ => self.delay(place, deadlines, context),
        }
    }

    fn delay(&mut self, place: Place, deadlines: &mut BTreeSet<(Mono, Place)>, context: &Context) {
        self.state = State::Delay;
        deadlines.remove(&(self.deadline, place));
        self.deadline = after(context.now, context.kick_delay);
        deadlines.insert((self.deadline, place));
    }
}

#[cfg(test)]
mod tests;
