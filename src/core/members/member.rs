//! What is remembered of one director.

use std::collections::VecDeque;

use super::{BACK_OFF, SECOND, SHORT_LIVED};
use crate::core::Mono;
use crate::wire::ring::DirectorId;

/// Pause before a Homing director that could not be reached is dialled again; it doubles with every
/// attempt up to the second value.
const HOMING_BACK_OFF: u64 = SECOND;
const HOMING_BACK_OFF_MAX: u64 = 4 * SECOND;
/// So much is added to the pause, different for every pair of directors: those that lost the same one do
/// not all come at the same moment.
const JITTER: u64 = SECOND;
/// Pause before the best right is dialled again while another one has its place.
const PREFERRED_PAUSE: u64 = 30 * SECOND;

/// Most copies of one USER-WEAK that are passed on. A healthy ring shows every director two, one
/// from each side; a line whose issuer has left would otherwise go round for ever.
const WEAK_COPIES: u8 = 4;

/// USER-WEAK lines of one director whose copies are counted; those are all that it can have under
/// way at one time, unless thousands of users come near their end in one second.
const WEAK_LINES: usize = 4096;

/// Most DIRECTOR lines about one director that are passed on in [`NAMED_PERIOD`]: two copies of each
/// come, one from each side. Only the director that is named stops them; while it has no connection
/// they would go round for ever, and where there are more than two connections, multiply.
/// Sixty-four: a ring of ten that comes together, with a member that is started again at once, was
/// seen to need more than eight; who misses the line takes what the member says for old news for up to
/// two minutes.
const NAMED_LINES: u8 = 64;
const NAMED_PERIOD: u64 = 10 * SECOND;

/// One director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub id: DirectorId,
    /// Highest sequence number taken from it; of this director, the last one given out.
    pub last_seq: u32,
    /// Round of its last SYNC.
    pub last_sync_seq: u32,
    /// Its clock in that SYNC.
    pub last_sync_time: u64,
    /// How many copies of that SYNC came.
    pub last_sync_count: u32,
    /// The hosts hash of its last SYNC that was not ours; 0: they agreed.
    pub desynced_hosts_hash: u32,
    /// [`crate::core::backends::Backends::changes`] when a SYNC of it last had our hosts hash.
    pub agreed: u64,
    /// Its newest SYNC that could not be forwarded, as there is no right.
    pub parked: Option<Parked>,
    /// It is being removed from the ring.
    pub removed: bool,
    /// When it was dialled last.
    pub last_dialled: Option<Mono>,
    /// It is a Homing director, as far as we know: it was one when it said VERSION last. One that has
    /// not said it to us is taken for one while all that have are.
    pub homing: bool,
    /// It has said VERSION to us.
    pub(super) met: bool,
    /// When it could not be reached.
    network_failure: Option<Mono>,
    /// How often in a row.
    failures: u32,
    /// Spreads attempts of several directors in time.
    jitter: u64,
    /// When it sent garbage.
    protocol_failure: Option<Mono>,
    /// Copies of its USER-WEAK lines that were passed on, in order of their numbers.
    weak: VecDeque<(u32, u8)>,
    /// Since when DIRECTOR lines that name it are counted, and how many were passed on.
    named: Option<(Mono, u8)>,
}

/// A SYNC that waits for a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Round.
    pub seq: u32,
    /// Lowest minor version so far, ours included.
    pub minor: u32,
    /// Its director's clock.
    pub time: u32,
    /// Its director's hosts hash.
    pub hosts_hash: u32,
}

impl Member {
    /// A director of whom nothing is known.
    pub fn new(id: DirectorId) -> Member {
        Member {
            id,
            last_seq: 0,
            last_sync_seq: 0,
            last_sync_time: 0,
            last_sync_count: 0,
            desynced_hosts_hash: 0,
            agreed: 0,
            parked: None,
            removed: false,
            last_dialled: None,
            homing: true,
            met: false,
            network_failure: None,
            failures: 0,
            jitter: 0,
            protocol_failure: None,
            weak: VecDeque::new(),
            named: None,
        }
    }

    pub(super) fn restarted(&mut self) {
        self.last_seq = 0;
        self.last_sync_seq = 0;
        self.last_sync_time = 0;
        self.last_sync_count = 0;
        self.agreed = 0;
        self.weak.clear();
    }

    /// It could not be connected to.
    pub fn network_failed(&mut self, now: Mono) {
        self.network_failure = Some(now);
        self.failures = self.failures.saturating_add(1);
    }

    /// What is different from director to director, at random.
    pub(super) fn set_jitter(&mut self, seed: u64) {
        self.jitter = seed % JITTER;
    }

    /// How long it is left alone after it could not be reached. A Dovecot director does the same to
    /// us, and counts on it; one of ours is soon tried again, since nothing is lost by that.
    fn back_off(&self) -> u64 {
        if !self.homing {
            return BACK_OFF;
        }
        let doubled = HOMING_BACK_OFF << self.failures.saturating_sub(1).min(8);
        doubled.min(HOMING_BACK_OFF_MAX) + self.jitter
    }

    /// When it is dialled again although there is another right.
    pub fn try_again_at(&self, now: Mono) -> Mono {
        if self.homing {
            now.after(self.back_off())
        } else {
            now.after(PREFERRED_PAUSE)
        }
    }

    /// When it last could not be reached, or sent garbage, as far as that still counts.
    pub fn last_failed(&self) -> Option<Mono> {
        self.network_failure.max(self.protocol_failure)
    }

    /// When it may be dialled again, if it may not be now.
    pub(super) fn dialled_from(&self) -> Option<Mono> {
        let network = self.network_failure.map(|at| at.after(self.back_off()));
        let protocol = self.protocol_failure.map(|at| at.after(BACK_OFF));
        network.max(protocol)
    }

    /// It sent garbage.
    pub fn protocol_failed(&mut self, now: Mono) {
        self.protocol_failure = Some(now);
    }

    /// A connection to it ended by itself: by EOF, a read error, or a timeout. That is a failure if
    /// it was established for less than 40 s, or never.
    pub fn connection_lost(&mut self, established: Option<Mono>, now: Mono) {
        if established.is_none_or(|since| now.since(since) < SHORT_LIVED) {
            self.network_failed(now);
        }
    }

    /// It is there: forgets that it could not be reached.
    pub fn reached(&mut self) {
        self.network_failure = None;
        self.failures = 0;
    }

    /// It is being dialled: one cannot know yet.
    pub fn dialled(&mut self, now: Mono) {
        self.network_failure = None;
        self.last_dialled = Some(now);
    }

    pub(super) fn forgive(&mut self) {
        self.network_failure = None;
        self.protocol_failure = None;
    }

    /// Whether it sent garbage less than a minute ago.
    pub fn sent_garbage_lately(&self, now: Mono) -> bool {
        is_recent(self.protocol_failure, now)
    }

    /// Whether it may be dialled.
    pub fn may_be_dialled(&self, now: Mono) -> bool {
        !self.removed && self.dialled_from().is_none_or(|from| from <= now)
    }

    /// Whether a DIRECTOR line that names it may be passed on.
    pub fn pass_name(&mut self, now: Mono) -> bool {
        let (since, lines) = self
            .named
            .filter(|(since, _)| now.since(*since) < NAMED_PERIOD)
            .unwrap_or((now, 0));
        self.named = Some((since, lines.saturating_add(1)));
        lines < NAMED_LINES
    }

    /// Whether a USER-WEAK line of this director may be passed on once more.
    pub fn pass_weak(&mut self, seq: u32) -> bool {
        match self.weak.binary_search_by_key(&seq, |line| line.0) {
            Ok(at) => {
                let copies = &mut self.weak[at].1;
                *copies = copies.saturating_add(1);
                *copies <= WEAK_COPIES
            }
            // Older than all that are counted, and there are too many to count.
            Err(0) if self.weak.len() == WEAK_LINES => false,
            Err(at) => {
                self.weak.insert(at, (seq, 1));
                if self.weak.len() > WEAK_LINES {
                    self.weak.pop_front();
                }
                true
            }
        }
    }
}

fn is_recent(stamp: Option<Mono>, now: Mono) -> bool {
    stamp.is_some_and(|stamp| now.since(stamp) < BACK_OFF)
}
