//! A user's entry when the user is moved or its sessions are ended (docs/protocol/ring.md, moves).
//!
//! How long it is moving is decided by [`crate::core::moves::Moves`]; here stands only that it is.
//! A move leaves a weak user weak, as in Dovecot: its confirmation may still be under way with the old
//! backend. Who is weak takes what that says and who is not keeps what it has, so directors that
//! treated the flag differently would send the user to two backends.

use super::shard::is_live;
use super::{Entry, Shard};
use crate::core::snapshot::Snapshot;
use crate::core::{BackendSlot, Refusal, UserKey, Wall};

/// What the beginning of a move has done to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The user was elsewhere: its sessions there must end.
    pub kick: bool,
    /// Where the user was, be it the backend that it moves to; `None`: it was unknown here.
    pub old: Option<BackendSlot>,
    /// The user is new in the table.
    pub created: bool,
    /// How many dead entries were removed, 0 or 1.
    pub removed: u32,
}

/// What an operator's order to move a user comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// It is being moved: try again later.
    Busy,
    /// It is there already, has been refreshed, and is told to the others as USER.
    There(Entry),
    /// Begin a move.
    Move,
}

impl Shard {
    /// What an operator's order to move a user to `backend` comes to. A move that another director
    /// has begun ([`Shard::start_move`]) is not asked.
    pub fn order_move(
        &mut self,
        key: UserKey,
        backend: BackendSlot,
        now: Wall,
        snapshot: &Snapshot,
    ) -> Ordered {
        match self.live(key, now, snapshot) {
            Some(entry) if entry.is_killing() => Ordered::Busy,
            Some(entry) if entry.backend() == backend => {
                entry.set_stamp(now);
                Ordered::There(*entry)
            }
            _ => Ordered::Move,
        }
    }

    /// A move begins: the user lives at `backend` from `now` on, and its lookups wait until
    /// [`Shard::end_move`]. A user that is being moved already is pointed at the newer backend.
    /// `admit` is asked before an unknown user is taken in; `from` is [`Entry::decided_by`].
    ///
    /// An entry whose time is over, or whose backend is gone, counts as unknown, even one that was
    /// being moved.
    ///
    /// # Errors
    /// What `admit` says. The user is unknown then.
    pub fn start_move(
        &mut self,
        key: UserKey,
        backend: BackendSlot,
        now: Wall,
        snapshot: &Snapshot,
        from: u16,
        admit: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<Started, Refusal> {
        if let Some(entry) = self.live(key, now, snapshot) {
            let old = entry.backend();
            if old != backend {
                entry.set_backend(backend);
                entry.set_decided_by(from);
            }
            entry.set_stamp(now);
            entry.set_killing(true);
            self.recount(old, backend);
            return Ok(Started {
                kick: old != backend,
                old: Some(old),
                created: false,
                removed: 0,
            });
        }
        // The dead entry stays if there is no room: whoever finds it next removes and counts it.
        admit()?;
        let removed = u32::from(self.table.get(key).is_some());
        self.remove(key);
        let mut entry = Entry::new(key, backend, now);
        entry.set_decided_by(from);
        entry.set_killing(true);
        self.insert(entry);
        Ok(Started {
            kick: false,
            old: None,
            created: true,
            removed,
        })
    }

    /// The user's sessions are to be ended though no backend can take the user: it stays where it is,
    /// and its lookups wait until [`Shard::end_move`]. Returns where it is; `None`: it is unknown, or
    /// being moved already, and nothing has changed.
    pub fn start_kill(
        &mut self,
        key: UserKey,
        now: Wall,
        snapshot: &Snapshot,
    ) -> Option<BackendSlot> {
        let entry = self
            .live(key, now, snapshot)
            .filter(|entry| !entry.is_killing())?;
        entry.set_killing(true);
        Some(entry.backend())
    }

    /// The move is over: the user's lookups may go on. `false`: there was nothing to end, since the
    /// entry has gone, or is a later one.
    ///
    /// Where users expire sooner than a move may take, the time of this one begins anew: the lookups that
    /// have waited go where it was moved to, here and at all others.
    pub fn end_move(&mut self, key: UserKey, now: Wall, snapshot: &Snapshot) -> bool {
        match self.table.get_mut(key) {
            Some(entry) if entry.is_killing() => {
                entry.set_killing(false);
                if snapshot.expiry.is_near(entry.stamp(), now) {
                    // A second ago: the next login tells the others, who may have forgotten the user.
                    entry.set_stamp(Wall(now.0.saturating_sub(1)));
                }
                true
            }
            _ => false,
        }
    }

    fn live(&mut self, key: UserKey, now: Wall, snapshot: &Snapshot) -> Option<&mut Entry> {
        self.table
            .get_mut(key)
            .filter(|entry| is_live(entry, now, snapshot))
    }
}
