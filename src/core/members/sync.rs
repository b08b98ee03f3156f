//! What a SYNC line means (docs/protocol/ring.md, SYNC lines).

use super::Member;
use crate::wire::ring::Sync;

/// Copies of one SYNC that are passed on; a line whose director has left would go round for ever.
const COPIES: u32 = 4;
/// A SYNC with a lower number is an old one, unless its clock is ahead by this many seconds: then
/// its director has started again and counts from the beginning.
const RESTART_LEAD: u64 = 120;

/// What to do with another director's SYNC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncVerdict {
    /// An old one: drop it.
    Stale,
    /// It was here too often: drop it.
    TooOften,
    /// The backends agree: pass it on, or park it while there is no right.
    Forward,
    /// The backends differ for the first time: drop it, HOST lines will come.
    Differs,
    /// They differ in the same way as before: drop it, and tell everybody all our backends.
    Repair,
}

/// This director's own round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnRound {
    /// Number of our newest SYNC.
    pub seq: u32,
    /// The first number that was sent since our backends or neighbours changed last: what it says is
    /// as good as the newest.
    pub since: u32,
    /// Our hosts hash.
    pub hosts_hash: u32,
    /// There are both a left and a right.
    pub has_neighbours: bool,
}

/// What our own SYNC means when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnSync {
    /// Not our newest, or somebody's invention: ignore it.
    Ignore,
    /// Our backends have changed meanwhile: send it again, with the same number.
    SendAgain,
    /// All directors agree. Carries the lowest minor version of the ring.
    Complete(u32),
}

impl SyncVerdict {
    /// Whether, afterwards, our own SYNC may have to be sent again because the ring was rewired: not
    /// when the line was dropped as old or repeated, or because of its hash.
    pub fn lets_resend(self) -> bool {
        self == SyncVerdict::Forward
    }
}

impl Member {
    /// Takes note of a SYNC of this director, removed or not, and says what to do with it. `now` is
    /// the wall clock in seconds, for lines without a time.
    pub fn receive_sync(&mut self, sync: &Sync, our_hash: u32, now: u64) -> SyncVerdict {
        let time = sync.time.map_or(now, u64::from);
        let older = sync.seq < self.last_sync_seq;
        if older && time < self.last_sync_time + RESTART_LEAD {
            return SyncVerdict::Stale;
        }
        if older || sync.seq > self.last_sync_seq || time > self.last_sync_time {
            self.last_sync_seq = sync.seq;
            self.last_sync_time = time;
            self.last_sync_count = 1;
        } else {
            self.last_sync_count = self.last_sync_count.saturating_add(1);
            if self.last_sync_count > COPIES {
                return SyncVerdict::TooOften;
            }
        }
        self.compare_hosts(sync.hosts_hash, our_hash)
    }

    fn compare_hosts(&mut self, theirs: u32, ours: u32) -> SyncVerdict {
        if theirs == 0 || theirs == ours {
            self.desynced_hosts_hash = 0;
            return SyncVerdict::Forward;
        }
        if theirs == self.desynced_hosts_hash {
            return SyncVerdict::Repair;
        }
        self.desynced_hosts_hash = theirs;
        SyncVerdict::Differs
    }
}

impl OwnRound {
    /// A SYNC that names this director came in. `our_minor` is what we speak.
    pub fn receive(self, sync: &Sync, our_minor: u32) -> OwnSync {
        // Without both neighbours nothing of ours can have gone round.
        let current = (self.since..=self.seq).contains(&sync.seq);
        if !current || !self.has_neighbours {
            return OwnSync::Ignore;
        }
        if sync.hosts_hash != 0 && sync.hosts_hash != self.hosts_hash {
            return OwnSync::SendAgain;
        }
        OwnSync::Complete(sync.minor.min(our_minor))
    }
}
