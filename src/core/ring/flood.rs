//! A peer that says far more than a director can have to say is cut off (docs/protocol/ring.md, floods).
//!
//! Everything that it says costs it points, most of all what everybody must be told and least what they
//! know already. Points come back with time.

use super::event::Level;
use super::{ConnId, Ring};
use crate::core::Mono;
use crate::core::members::Seen;
use crate::core::users::{Hearing, Outcome};
use crate::wire::ring::{Command, DirectorId, HandUsers, Order, Origin};

/// Points that come back in a second. They pay for 200,000 lines without news, which cost the ring's thread
/// some hundredths of a core; one of Dovecot's directors, busy with nothing else, reads and writes fewer.
const PER_SECOND: u64 = 1_000_000;
/// Points that there are at most: ten seconds in which a peer says all of that may have been saved up in
/// the buffers of a connection that stood still.
const MOST: u64 = 10 * PER_SECOND;

/// A line that says nothing new, and goes no further.
const IDLE_LINE: u64 = 5;
/// A user in USERS of whom nothing new is said.
const IDLE_USER: u64 = 1;
/// ASK, which a joining director says for each login that it has.
const QUESTION: u64 = 1;
/// An order about a backend that its own director sends. 10,000 a second go on all the time, and 100,000 at once:
/// more than all backends that a ring can have, taken down together.
const HOST_ORDER: u64 = 100;
/// An order about a user, likewise. A move is two of them, so that 25,000 users a second may leave a backend; and
/// all users may be near their end when they come, if they come every quarter of an hour.
const USER_ORDER: u64 = 20;
/// USER-KICK-HASH: one for each of all users, when two parts of a ring meet.
const KICK_HASH: u64 = 1;
/// What is passed on costs so many times less, so that the director at which a flood begins is cut off, and not
/// those behind it.
const RELAYED: u64 = 4;
/// Most users that one handshake may tell of: there is no table that holds more, and the handshake of one
/// that begins again and again would never end.
pub(super) const MOST_HANDED: u64 = 1 << 27;

/// What one connection has spent.
#[derive(Debug)]
pub(super) struct Meter {
    spent: u64,
    at: Mono,
}

impl Meter {
    pub(super) fn new(now: Mono) -> Meter {
        Meter { spent: 0, at: now }
    }

    #[cfg(test)]
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    /// False: that is too much.
    fn spend(&mut self, points: u64, now: Mono) -> bool {
        let back = u128::from(now.since(self.at)) * u128::from(PER_SECOND);
        let back = u64::try_from(back / u128::from(Mono::SECOND)).unwrap_or(u64::MAX);
        // Shorter times than that of one point add up.
        if back > 0 {
            self.spent = self.spent.saturating_sub(back);
            self.at = now;
        }
        self.spent += points;
        self.spent <= MOST
    }
}

impl Ring {
    /// A line was read that is neither about users nor an order.
    pub(super) fn count_line(&mut self, command: &Command<'_>) {
        self.spent += match command {
            // They are counted where they are taken in.
            Command::User { .. } | Command::Users(_) => 0,
            Command::HandUser(_) | Command::HandUsers(_) => 0,
            Command::Ask { .. } => QUESTION,
            _ => IDLE_LINE,
        };
    }

    /// USER.
    pub(super) fn count_user(&mut self, hearing: Option<&Hearing>) {
        if !hearing.is_some_and(is_news) {
            self.spent += IDLE_LINE;
        }
    }

    /// One of USERS.
    pub(super) fn count_one_of_users(&mut self, hearing: &Hearing) {
        if !is_news(hearing) {
            self.spent += IDLE_USER;
        }
    }

    /// USERS with a host that nobody knows here.
    pub(super) fn count_lost_users(&mut self, users: &HandUsers<'_>) {
        self.spent += users.len() as u64 * IDLE_USER;
    }

    /// An order that was here before.
    pub(super) fn count_duplicate(&mut self) {
        self.spent += IDLE_LINE;
    }

    /// An order, before it is followed.
    pub(super) fn count_order(
        &mut self,
        id: ConnId,
        seen: Seen,
        origin: Origin,
        order: &Order<'_>,
    ) {
        let price = match order {
            Order::Host(host) if self.is_known_as(host) => IDLE_LINE,
            Order::Host(_) | Order::HostRemove(_) | Order::HostFlush(_) => HOST_ORDER,
            Order::UserWeak { .. }
            | Order::UserMove { .. }
            | Order::UserKick(_)
            | Order::UserKickAlt { .. }
            | Order::UserKilledEverywhere(_) => USER_ORDER,
            Order::UserKickHash { .. } => KICK_HASH,
        };
        // What nobody has issued becomes an order of ours, so its sender answers for it.
        let relayed = seen == Seen::New && self.conns.director(id) != Some(origin.director);
        self.spent += match (seen, relayed) {
            (Seen::Duplicate, _) => IDLE_LINE,
            (_, true) => price.div_ceil(RELAYED),
            (_, false) => price,
        };
    }

    /// The end of what one read gave: its sender pays for it.
    pub(super) fn settle_account(&mut self, id: ConnId) {
        let (points, now) = (std::mem::take(&mut self.spent), self.now.mono);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let handed = !conn.is_dialler() && conn.tally.users > MOST_HANDED;
        if conn.meter.spend(points, now) && !handed {
            return;
        }
        let director: Option<DirectorId> = conn.director;
        if let Some(member) = director.and_then(|id| self.members.get_mut(id)) {
            member.protocol_failed(now);
        }
        self.close(id, "Flood: no director has so much to say", Level::Error);
    }
}

fn is_news(hearing: &Hearing) -> bool {
    hearing.outcome == Outcome::Changed
}
