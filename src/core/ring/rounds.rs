//! Rounds of synchronisation (docs/protocol/ring.md, SYNC lines).

use std::net::IpAddr;

use super::{ConnId, Event, Now, Ring, Table};
use crate::core::members::{OwnRound, OwnSync, Parked, SyncVerdict};
use crate::core::{Mono, Wall};
use crate::wire::ring::{Command, DirectorId, MINOR, Sync};

/// How long our SYNC may be under way before it is sent again.
const RESEND: u64 = 5 * Mono::SECOND;
/// The same between Homing directors, in the first seconds of a round: in a slow ring more would only be
/// in each other's way.
const RESEND_HOMING: u64 = 2 * Mono::SECOND;

/// So long after a repair another one would say the same, behind lines that are still on their way: slow
/// rings only became slower by it.
const REPAIR_PAUSE: u64 = 5 * Mono::SECOND;
/// The others may be at the round of a change for so long at most.
const OTHERS_ROUNDS: u64 = 10 * Mono::SECOND;
/// As many of our rounds, one after the other, and all rounds that others had begun before are over: the
/// first one may be on its way before them, the second one comes behind.
const FURTHER_ROUNDS: u8 = 2;
/// What waits for further rounds waits no longer, whether one of them was lost or changes of others had
/// them begin anew again and again.
const FURTHER_LIMIT: u64 = 5 * Mono::SECOND;

/// Rounds of a synced ring, for a change that must not cross the one before.
#[derive(Clone, Copy, Debug)]
struct Further {
    /// Number of the SYNC that is under way.
    seq: u32,
    /// How many are to come home, this one included.
    left: u8,
    /// Changes of backends up to this one are then known to be over everywhere.
    upto: u64,
}

/// This director's rounds.
#[derive(Debug)]
pub(super) struct Round {
    /// Number of our newest SYNC.
    pub seq: u32,
    /// The first number that was sent for what is now.
    pub since: u32,
    /// When it began.
    begun: Mono,
    /// How long the last one took that came home, nanoseconds.
    pub took: u64,
    /// A batch of lines is being worked on: their one SYNC comes after the last of them.
    pub frozen: bool,
    /// A SYNC is due after the batch.
    pub pending: bool,
    /// When ours is sent again.
    pub resend_at: Option<Mono>,
    /// When it was sent last.
    sent: Option<Wall>,
    /// Counts DIRECTOR lines that went on: the ring is being rewired.
    pub changes: u64,
    /// `changes` when our SYNC was sent last.
    changes_sent: u64,
    further: Option<Further>,
    /// What waits for such rounds waits no longer than this.
    patience: Option<Mono>,
    /// When a repair last told our backends, and their hash.
    repaired: Option<(Mono, u32)>,
    /// SYNCs of others wait for a right, or for what they must not overtake.
    holds: bool,
    /// Changes of backends up to this one are over everywhere
    /// ([`crate::core::backends::Backends::changes`]).
    over: u64,
}

impl Round {
    /// The first number is the clock's, so that a process that starts again goes on above the numbers
    /// of the one before: who missed that it has started takes lower ones for old news.
    pub(super) fn new(now: Now) -> Round {
        Round {
            seq: short(now.wall),
            since: short(now.wall),
            begun: now.mono,
            took: 0,
            frozen: false,
            pending: false,
            resend_at: None,
            sent: None,
            changes: 0,
            changes_sent: 0,
            further: None,
            patience: None,
            repaired: None,
            holds: false,
            over: 0,
        }
    }

    /// Whether rounds are under way although the ring is synced.
    pub(super) fn has_further(&self) -> bool {
        self.further.is_some()
    }

    pub(super) fn further_until(&self) -> Option<Mono> {
        self.further.and(self.patience)
    }
}

impl Ring {
    /// All directors agree, or there are no others.
    pub(super) fn become_synced(&mut self) {
        self.round.resend_at = None;
        self.set_neighbours_synced(true);
        if !self.standing.synced {
            self.say(Event::Synced(self.now.mono.since(self.round.begun)));
            self.standing.sync_since = Some(self.now.wall);
        }
        self.standing.synced = true;
        self.standing.handshaked = true;
        self.recall_if_nobody_knows_better();
        self.members.purge();
        self.director.mark_backends().all_synced();
        self.arm_preferred();
        self.stale = true;
        self.answer_done();
        if !self.resets.is_empty() {
            self.timers.reset = Some(self.now.mono);
        }
    }

    pub(super) fn become_unsynced(&mut self) {
        if self.standing.synced {
            self.say(Event::NotSynced);
            self.standing.synced = false;
            self.standing.sync_since = Some(self.now.wall);
            self.stale = true;
        }
        self.round.resend_at = Some(self.now.mono.after(self.resend_pause()));
    }

    fn resend_pause(&self) -> u64 {
        let young = self.now.mono.since(self.round.begun) < RESEND;
        if young && self.is_between_homing() {
            RESEND_HOMING
        } else {
            RESEND
        }
    }

    /// Both neighbours are Homing directors.
    fn is_between_homing(&self) -> bool {
        let homing = |id| self.conns.get(id).is_some_and(|conn| conn.homing > 0);
        [self.left, self.right]
            .into_iter()
            .all(|id| id.is_some_and(homing))
    }

    /// What our SYNC is about has changed.
    pub(super) fn next_round(&mut self) {
        self.round.further = None;
        self.round.seq = self.round.seq.wrapping_add(1);
        self.round.since = self.round.seq;
    }

    fn set_neighbours_synced(&mut self, synced: bool) {
        for id in [self.left, self.right].into_iter().flatten() {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.synced = synced;
            }
        }
    }

    /// Whether a change of this backend can cross no other one. Homing directors know by our SYNC what we
    /// have seen; a Dovecot takes everything for crossing until its own round is home.
    pub(super) fn may_change(&self, ip: IpAddr) -> bool {
        let backend = self.director.backends().find(ip);
        let is_over = backend.is_none_or(|backend| backend.changed <= self.round.over);
        let in_ring = self.left.is_some() && self.right.is_some();
        is_over
            || !in_ring
            || self.members.are_all_homing()
            || self.now.mono.since(self.round.begun) >= OTHERS_ROUNDS
            || self
                .round
                .patience
                .is_some_and(|until| until <= self.now.mono)
    }

    /// Has the rounds of all others come to their ends.
    pub(super) fn begin_further_rounds(&mut self) {
        let until = self.now.mono.after(FURTHER_LIMIT);
        self.round.patience.get_or_insert(until);
        if self.round.further.is_none() {
            self.send_further(FURTHER_ROUNDS, self.director.backends().changes());
        }
    }

    fn send_further(&mut self, left: u8, upto: u64) {
        self.round.seq = self.round.seq.wrapping_add(1);
        self.round.further = Some(Further {
            seq: self.round.seq,
            left,
            upto,
        });
        self.send_sync();
        self.round.resend_at = None;
    }

    /// Our SYNC is home, with this number.
    fn further_round_is_over(&mut self, seq: u32) {
        let Some(further) = self.round.further.filter(|further| further.seq == seq) else {
            return;
        };
        if further.left > 1 {
            return self.send_further(further.left - 1, further.upto);
        }
        self.end_further_rounds();
    }

    /// The next one that waits for such rounds has its own time.
    pub(super) fn end_patience(&mut self) {
        self.round.patience = None;
    }

    pub(super) fn end_further_rounds(&mut self) {
        if let Some(further) = self.round.further.take() {
            self.round.over = further.upto;
        }
    }

    /// Both neighbours are there, one of them since now.
    pub(super) fn new_round(&mut self) {
        self.round.repaired = None;
        self.next_round();
        self.round.begun = self.now.mono;
        self.become_unsynced();
        self.send_sync();
    }

    /// A backend or the list of directors has changed.
    pub(super) fn sync_ring(&mut self) {
        self.next_round();
        self.round.begun = self.now.mono;
        if self.left.is_none() && self.right.is_none() {
            return;
        }
        self.become_unsynced();
        if self.round.frozen {
            self.round.pending = true;
            return;
        }
        if self.right.is_none() {
            return;
        }
        self.set_neighbours_synced(false);
        self.send_sync();
    }

    /// The end of a batch.
    pub(super) fn thaw(&mut self) {
        self.round.frozen = false;
        if std::mem::take(&mut self.round.pending) {
            self.sync_ring();
        }
    }

    fn send_sync(&mut self) {
        let Some(right) = self.right else {
            return;
        };
        let now = self.now;
        let sync = Sync {
            director: self.members.me(),
            seq: self.round.seq,
            minor: MINOR,
            time: Some(short(now.wall)),
            hosts_hash: self.director.backends().hosts_hash(),
        };
        self.send(right, &Command::Sync(sync));
        self.round.sent = Some(now.wall);
        self.round.changes_sent = self.round.changes;
        self.round.resend_at = Some(now.mono.after(self.resend_pause()));
        self.ping_neighbours();
    }

    fn ping_neighbours(&mut self) {
        for id in [self.left, self.right].into_iter().flatten() {
            self.ping(id);
        }
    }

    /// Our SYNC has not come home yet, or came home with old news.
    pub(super) fn resend_sync(&mut self) {
        self.round.resend_at = None;
        if self.standing.synced {
            return;
        }
        if self.left.is_some() && self.right.is_some() {
            // Another process of our name may have used higher numbers: ours are old news then.
            if self.is_between_homing() {
                self.round.seq = self.round.seq.max(short(self.now.wall));
            }
            self.send_sync();
        } else {
            self.round.resend_at = Some(self.now.mono.after(self.resend_pause()));
        }
    }

    pub(super) fn sync_received<T: Table>(&mut self, sync: Sync, table: &mut T) {
        // Lookups go by what it is about before it goes on.
        self.refresh(table);
        let hash = self.director.backends().hosts_hash();
        if sync.director == self.members.me() {
            return self.own_sync_received(&sync, hash);
        }
        let now = self.now.wall.0;
        let Some(member) = self.members.get_mut(sync.director) else {
            return;
        };
        let verdict = member.receive_sync(&sync, hash, now);
        if verdict == SyncVerdict::Forward && sync.hosts_hash == hash {
            member.agreed = self.director.backends().changes();
        }
        match verdict {
            SyncVerdict::Forward => {
                let sync = Sync {
                    minor: sync.minor.min(MINOR),
                    time: sync.time.or(Some(short(self.now.wall))),
                    ..sync
                };
                self.forward_sync(sync, table);
            }
            SyncVerdict::Repair => {
                let lately = |(at, told)| told == hash && self.now.mono.since(at) < REPAIR_PAUSE;
                if !self.round.repaired.is_some_and(lately) {
                    self.round.repaired = Some((self.now.mono, hash));
                    self.say(Event::Repair(sync.director));
                    self.tell_all_hosts();
                }
            }
            SyncVerdict::Stale | SyncVerdict::TooOften | SyncVerdict::Differs => {}
        }
        let rewired = self.round.changes != self.round.changes_sent;
        let just_sent = self.round.sent == Some(self.now.wall);
        if verdict.lets_resend() && rewired && !just_sent {
            self.resend_sync();
        }
    }

    fn own_sync_received(&mut self, sync: &Sync, hosts_hash: u32) {
        let own = OwnRound {
            seq: self.round.seq,
            since: self.round.since,
            hosts_hash,
            has_neighbours: self.left.is_some() && self.right.is_some(),
        };
        match own.receive(sync, MINOR) {
            OwnSync::Ignore => {}
            OwnSync::SendAgain => self.resend_sync(),
            OwnSync::Complete(minor) => {
                if self.standing.min_version != minor {
                    self.standing.min_version = minor;
                    self.stale = true;
                }
                if !self.standing.synced || !self.standing.handshaked {
                    self.round.took = self.now.mono.since(self.round.begun);
                    self.become_synced();
                }
                self.further_round_is_over(sync.seq);
            }
        }
    }

    /// The right, if SYNCs of others may go there.
    fn right_for_syncs<T: Table>(&self, table: &T) -> Option<ConnId> {
        let is_fed = |right: &ConnId| self.conns.get(*right).is_some_and(|conn| !conn.again);
        self.right.filter(|_| table.is_told()).filter(is_fed)
    }

    fn forward_sync<T: Table>(&mut self, sync: Sync, table: &T) {
        if let Some(right) = self.right_for_syncs(table) {
            self.send(right, &Command::Sync(sync));
            return self.ping_neighbours();
        }
        self.round.holds = true;
        if let Some(member) = self.members.get_mut(sync.director) {
            member.parked = Some(Parked {
                seq: sync.seq,
                minor: sync.minor,
                time: sync.time.unwrap_or(0),
                hosts_hash: sync.hosts_hash,
            });
        }
    }

    /// What was held back goes on when it may.
    pub(super) fn release_syncs<T: Table>(&mut self, table: &T) {
        if !self.round.holds || self.right_for_syncs(table).is_none() {
            return;
        }
        self.round.holds = false;
        let directors: Vec<DirectorId> = self.members.iter().map(|member| member.id).collect();
        for director in directors {
            let member = self.members.get_mut(director);
            if let Some(parked) = member.and_then(|member| member.parked.take()) {
                let sync = Sync {
                    director,
                    seq: parked.seq,
                    minor: parked.minor,
                    time: Some(parked.time),
                    hosts_hash: parked.hosts_hash,
                };
                self.forward_sync(sync, table);
            }
        }
    }

    /// Asks a neighbour whether it is there, unless it is being asked.
    pub(super) fn ping(&mut self, id: ConnId) {
        let (mono, load) = (self.now.mono, self.load(id));
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.ping.is_none() && conn.introduced() {
            conn.ping = Some(mono);
            self.send(id, &Command::Ping(load));
        }
    }
}

/// The clock as the wire has it.
fn short(wall: Wall) -> u32 {
    u32::try_from(wall.0).unwrap_or(u32::MAX)
}
