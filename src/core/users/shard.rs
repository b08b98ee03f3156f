//! One shard of the user table, and what happens to an entry when its user logs in, is kept alive
//! by a session, or grows old.

use super::{Entry, Table};
use crate::core::snapshot::Snapshot;
use crate::core::{BackendSlot, DelayReason, Refusal, UserHash, UserKey, Wall};

/// A part of the user table with the users per backend counted.
#[derive(Debug)]
pub struct Shard {
    pub(super) table: Table,
    /// Users on each backend slot; grows to the highest slot used.
    users: Vec<u32>,
}

/// The answer to a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The user lives here.
    Go(BackendSlot),
    /// The lookup must wait.
    Wait(DelayReason),
    /// A new user, and no room for one: a temporary failure at once.
    Refuse(Refusal),
}

/// What the ring core must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    None,
    /// The user was created or refreshed: tell the ring its stored state.
    Announce,
    /// The user is near its expiry and its backend is not the ring's choice: confirm it.
    Confirm,
    /// The user is unknown, or near its expiry, at a director that is joining: ask another one.
    Ask,
}

/// What a lookup did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// The answer.
    pub decision: Decision,
    /// What the ring core must hear of.
    pub note: Note,
    /// Whether the user is new in the table.
    pub created: bool,
    /// How many expired users this lookup removed, 0 or 1.
    pub removed: u32,
}

/// What a keep-alive line did to one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// No such user, or it had expired.
    Unknown,
    /// Known, with what the ring core must hear of.
    Known(Note),
}

impl Shard {
    /// An empty shard; `seed` as in [`Table::new`].
    pub fn new(seed: u32) -> Shard {
        Shard {
            table: Table::new(seed),
            users: Vec::new(),
        }
    }

    /// Users held, expired ones not yet swept included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no user is held.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes of memory held by the table.
    pub fn memory(&self) -> usize {
        self.table.memory()
    }

    /// Users per backend slot; slots beyond the end have none.
    pub fn users_per_backend(&self) -> &[u32] {
        &self.users
    }

    /// All entries, expired ones not yet swept included.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.table.iter()
    }

    /// Where the search for `key` begins; for fetching it from memory in advance.
    pub fn home(&self, key: UserKey) -> Option<&Entry> {
        self.table.home_of(key)
    }

    /// The entries of users that have not expired.
    pub fn live_entries(&self, now: Wall, snapshot: &Snapshot) -> impl Iterator<Item = &Entry> {
        self.table
            .iter()
            .filter(move |entry| is_live(entry, now, snapshot))
    }

    /// Where `key` lives, without refreshing it.
    pub fn peek(&self, key: UserKey, now: Wall, snapshot: &Snapshot) -> Option<&Entry> {
        self.table
            .get(key)
            .filter(|entry| is_live(entry, now, snapshot))
    }

    /// A login asks where its user lives (docs/protocol/login.md, the lookup). `admit` is asked
    /// before a new user is taken in.
    pub fn login(
        &mut self,
        key: UserKey,
        now: Wall,
        snapshot: &Snapshot,
        admit: impl FnOnce() -> Result<(), Refusal>,
    ) -> Login {
        if !snapshot.handshaked {
            return self.ask(key, now, snapshot);
        }
        match self.table.get_mut(key) {
            Some(entry) if is_live(entry, now, snapshot) => known(entry, now, snapshot),
            Some(_) => {
                self.remove(key);
                Login {
                    removed: 1,
                    ..self.place(key, now, snapshot, admit)
                }
            }
            None => self.place(key, now, snapshot, admit),
        }
    }

    /// A login at a director that is joining. It decides nothing by itself: a user that others have told
    /// of goes where it lives, any other is asked for.
    fn ask(&mut self, key: UserKey, now: Wall, snapshot: &Snapshot) -> Login {
        if !snapshot.asks {
            return Login::wait(DelayReason::NotHandshaked);
        }
        let entry = self.table.get_mut(key);
        let Some(entry) = entry.filter(|entry| is_live(entry, now, snapshot)) else {
            return Login::of(Decision::Wait(DelayReason::NotHandshaked), Note::Ask);
        };
        if entry.is_killing() {
            return Login::wait(DelayReason::Killing);
        }
        if entry.is_weak() {
            return Login::wait(DelayReason::Weak);
        }
        if snapshot.expiry.is_near(entry.stamp(), now) {
            return Login::of(Decision::Wait(DelayReason::NotHandshaked), Note::Ask);
        }
        let note = refresh(entry, now, snapshot);
        Login::of(Decision::Go(entry.backend()), note)
    }

    fn place(
        &mut self,
        key: UserKey,
        now: Wall,
        snapshot: &Snapshot,
        admit: impl FnOnce() -> Result<(), Refusal>,
    ) -> Login {
        if !snapshot.synced {
            return Login::wait(DelayReason::NotSynced);
        }
        let Some(backend) = snapshot.choose(key) else {
            return Login::wait(DelayReason::NoBackend);
        };
        if let Err(refusal) = admit() {
            return Login::of(Decision::Refuse(refusal), Note::None);
        }
        let mut entry = Entry::new(key, backend, now);
        entry.set_queued(snapshot.tell);
        self.insert(entry);
        let note = if snapshot.tell {
            Note::Announce
        } else {
            Note::None
        };
        Login {
            created: true,
            ..Login::of(Decision::Go(backend), note)
        }
    }

    /// A session of the user is alive (docs/protocol/notify.md). Refreshes also a user that is
    /// being moved; never a weak one, whose confirmation a plain refresh would forge.
    pub fn keep_alive(&mut self, key: UserKey, now: Wall, snapshot: &Snapshot) -> Refreshed {
        match self.table.get_mut(key) {
            Some(entry) if is_live(entry, now, snapshot) => {
                if entry.is_weak() {
                    return Refreshed::Known(Note::None);
                }
                Refreshed::Known(refresh(entry, now, snapshot))
            }
            _ => Refreshed::Unknown,
        }
    }

    /// Forgets users whose time is over or whose backend is gone; returns how many.
    pub fn sweep(&mut self, now: Wall, snapshot: &Snapshot) -> usize {
        let before = self.table.len();
        let users = &mut self.users;
        self.table.retain(|entry| {
            let live = is_live(entry, now, snapshot);
            if !live {
                users[usize::from(entry.backend().0)] -= 1;
            }
            live
        });
        before - self.table.len()
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.count(entry.backend());
        self.table.insert(entry);
    }

    pub(super) fn remove(&mut self, key: UserKey) {
        if let Some(entry) = self.table.remove(key) {
            self.users[usize::from(entry.backend().0)] -= 1;
        }
    }

    /// An entry has been pointed from one backend to another.
    pub(super) fn recount(&mut self, before: BackendSlot, after: BackendSlot) {
        if before == after {
            return;
        }
        self.users[usize::from(before.0)] -= 1;
        self.count(after);
    }

    fn count(&mut self, backend: BackendSlot) {
        let slot = usize::from(backend.0);
        if self.users.len() <= slot {
            self.users.resize(slot + 1, 0);
        }
        self.users[slot] += 1;
    }

    /// S4: the counts per backend equal the table; the table is in order; every entry belongs to
    /// shard `index` of [`super::SHARDS`].
    pub fn check_invariants(&self, index: usize) {
        self.table.check_invariants();
        let mut counted = vec![0u32; self.users.len()];
        for entry in self.table.iter() {
            assert_eq!(super::shard_of(UserHash(entry.key().hash.0)), index);
            counted[usize::from(entry.backend().0)] += 1;
        }
        assert_eq!(counted, self.users, "S4: users per backend");
    }
}

impl Login {
    fn of(decision: Decision, note: Note) -> Login {
        Login {
            decision,
            note,
            created: false,
            removed: 0,
        }
    }

    fn wait(reason: DelayReason) -> Login {
        Login::of(Decision::Wait(reason), Note::None)
    }
}

/// A login of a user that the table knows, in the order of docs/protocol/login.md.
fn known(entry: &mut Entry, now: Wall, snapshot: &Snapshot) -> Login {
    if entry.is_killing() {
        return Login::wait(DelayReason::Killing);
    }
    if snapshot.alone && snapshot.synced {
        entry.set_weak(false);
    } else if entry.is_weak() {
        return Login::wait(DelayReason::Weak);
    } else if snapshot.expiry.is_near(entry.stamp(), now) {
        if !snapshot.synced {
            return Login::wait(DelayReason::NotSynced);
        }
        if snapshot.ring_min_version >= 1 && snapshot.choose(entry.key()) != Some(entry.backend()) {
            return Login::of(Decision::Wait(DelayReason::Weak), Note::Confirm);
        }
    }
    let note = refresh(entry, now, snapshot);
    Login::of(Decision::Go(entry.backend()), note)
}

/// Moves the time stamp forward. The ring hears of it once a second at most: other directors
/// count whole seconds too, and a note that still waits will carry the newer stamp.
fn refresh(entry: &mut Entry, now: Wall, snapshot: &Snapshot) -> Note {
    if now <= entry.stamp() {
        return Note::None;
    }
    entry.set_stamp(now);
    if !snapshot.tell || entry.is_queued() {
        return Note::None;
    }
    entry.set_queued(true);
    Note::Announce
}

/// Whether the entry still counts: its backend exists, and its time is not over. A user that is
/// being moved does not expire; a weak one does 30 s late.
pub(super) fn is_live(entry: &Entry, now: Wall, snapshot: &Snapshot) -> bool {
    if !snapshot.has_backend(entry.backend()) {
        return false;
    }
    if entry.is_killing() {
        return true;
    }
    if entry.is_weak() {
        return !snapshot.expiry.is_weak_over(entry.stamp(), now);
    }
    !snapshot.expiry.is_over(entry.stamp(), now)
}
