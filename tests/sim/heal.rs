//! The end of every seed: all faults stop, everything is started again, and then the ring must come
//! to an agreement (L1), answer everybody (L2), carry out orders (S3), bring users of two backends
//! back to one (L5), and fall silent (L4).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::net::Link;
use crate::node::{Node, Process, tag_name};
use crate::options::{Fault, MS, SECOND};
use crate::sessions::User;
use crate::trace::say;
use crate::world::{Event, World};
use homing::core::ring::DrainState;
use homing::core::users::shard_of;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Run,
    /// All faults have stopped; the directors find together.
    Healing {
        since: u64,
    },
    /// They agree on the backends.
    Settled {
        since: u64,
        ordered: u64,
    },
    /// Nobody logs in any more; what was begun comes to its end.
    Ebb {
        since: u64,
    },
    /// Nothing but PING and PONG is excused.
    Quiet {
        since: u64,
    },
    Done,
}

/// L1: the longest that all may take to agree on the backends.
const AGREE: u64 = 60 * SECOND;
/// The same with a member that is treated as a Dovecot director: one that could not be reached is left
/// alone for a minute, and a connection that vanished is noticed after 45 s.
const AGREE_MIXED: u64 = 180 * SECOND;
/// Users are told of when a session refreshes them, which is every half of the expiry.
const SPREAD: u64 = 30 * SECOND;
const LOOK: u64 = 500 * MS;
/// Longest from a dial to the end of its handshake.
const HANDSHAKE: u64 = 40 * SECOND;
/// The same for one without obstacles.
const DIAL: u64 = 5 * SECOND;
/// S3: an order that must wait for another one is taken soon. There are up to 24, and each is a round of
/// the ring, which takes seconds where bytes come singly.
const ORDERED: u64 = 240 * SECOND;
/// When, after the orders, a director of a strict ring starts again with the backends of its settings, and
/// when that must have changed nothing.
const LEAVES: u64 = 46 * SECOND;
const IS_BACK: u64 = LEAVES + 90 * SECOND;

impl World {
    pub fn is_healing(&self) -> bool {
        self.phase != Phase::Run
    }

    /// No logins, no sessions.
    pub fn is_quiet_phase(&self) -> bool {
        matches!(self.phase, Phase::Quiet { .. })
    }

    pub fn is_ebbing(&self) -> bool {
        matches!(self.phase, Phase::Ebb { .. } | Phase::Quiet { .. })
    }

    pub fn heal(&mut self) {
        let resumed = self.nodes.iter().map(|node| node.paused_until).max();
        let since = resumed.unwrap_or(0).max(self.now);
        say!(self, "all faults stop");
        self.phase = Phase::Healing { since };
        self.disturbed = since;
        self.blocked.clear();
        self.options.skew = self.options.skew.min(499 * MS);
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            for side in [0, 1] {
                if let Some(link) = self.links.get_mut(&id) {
                    link.pipes[side].stalled_until = 0;
                    self.after(0, Event::Arrive(id, side));
                }
            }
        }
        for n in 0..self.options.directors {
            let skew = self.skew();
            self.nodes[n].skew = skew;
            if self.nodes[n].process.is_none() {
                self.boot(n);
            }
        }
        self.stop(self.options.directors, false);
        if self.options.faults.contains(&Fault::Remove) {
            for added in 0..self.options.directors {
                self.add_director(added);
            }
        }
        self.at(since + LOOK, Event::Look);
    }

    pub fn look(&mut self) {
        self.check_requests();
        match self.phase {
            Phase::Healing { since } if self.is_deceived(since) => {}
            Phase::Healing { since } => self.look_while_healing(since),
            Phase::Settled { since, ordered } => self.look_while_settled(since, ordered),
            Phase::Ebb { since } if self.now > since + 45 * SECOND => {
                self.phase = Phase::Quiet { since: self.now };
            }
            Phase::Quiet { since } if self.now > since + 60 * SECOND => self.phase = Phase::Done,
            Phase::Run | Phase::Ebb { .. } | Phase::Quiet { .. } | Phase::Done => {}
        }
        self.after(LOOK, Event::Look);
    }

    /// With a member that is no Homing a connection that vanished is noticed after 45 s only: until then a
    /// ring may look whole and is not.
    fn is_deceived(&self, since: u64) -> bool {
        let vanished = |link: &Link| link.pipes.iter().all(|pipe| pipe.dead);
        let is_early = self.now < since + 50 * SECOND;
        is_early && self.options.old.is_some() && self.links.values().any(vanished)
    }

    fn look_while_healing(&mut self, since: u64) {
        let took = self.now - since;
        match self.disagreement() {
            None => {
                say!(self, "all agree on the backends");
                self.stats.agreed_backends = Some(took);
                self.phase = Phase::Settled {
                    since: self.now,
                    ordered: self.now,
                };
                self.prepare_orders();
            }
            Some(text) => {
                let most = if self.options.old.is_some() {
                    AGREE_MIXED
                } else {
                    AGREE
                };
                if took > most {
                    self.fail("L1 backends", text);
                }
            }
        }
    }

    /// A request that had to wait has begun a new round: the ring is given its time from then on.
    pub fn ordered_while_healing(&mut self) {
        if let Phase::Healing { since } = &mut self.phase {
            *since = self.now.max(*since);
        }
    }

    fn look_while_settled(&mut self, since: u64, ordered: u64) {
        if !self.to_order.is_empty() || !self.asked.is_empty() {
            self.give_next_order();
            if self.now > since + ORDERED {
                let text = self.disagreement().unwrap_or_default();
                self.fail(
                    "S3 orders",
                    format!("orders are not taken in a whole ring: {text}"),
                );
            }
            // What follows counts from the last order.
            self.phase = Phase::Settled {
                since,
                ordered: self.now,
            };
            return;
        }
        let took = self.now - ordered;
        let reached = |after: u64| took >= after && took < after + LOOK;
        if reached(15 * SECOND)
            && let Some(text) = self.disagreement().or_else(|| self.lost_weight(since))
        {
            return self.fail(
                "S3 orders",
                format!("15 s after orders in a whole ring: {text}"),
            );
        }
        if reached(15 * SECOND) && self.dialled + HANDSHAKE > since {
            // Some may be lost (see there), which a restart would only show.
            self.weights.clear();
        }
        if reached(20 * SECOND) && self.drained.is_none() {
            self.move_somebody();
        }
        if reached(25 * SECOND) && self.drained.is_none() {
            self.drain_something();
        }
        // Who finds its neighbour while a move goes round may miss a line of it, as one whose neighbour had
        // vanished: then only time ends it.
        let is_rewired = self.dialled + DIAL > ordered + 20 * SECOND;
        let ends = if is_rewired { 54 } else { 45 };
        // A flush script may take as long as a move may.
        if reached(ends * SECOND)
            && !self.options.moves_may_hang()
            // A director without room for a user takes no part in its move (see docs/testing.md).
            && self.options.user_limit > self.users.len() as u64
            && let Some(text) = self.somebody_is_killed()
        {
            return self.fail(
                "L3 kill",
                format!("{} s after a move in a whole ring: {text}", ends - 20),
            );
        }
        // One that is alone has nobody who could tell it.
        let restarts = self.options.strict && self.options.directors > 1;
        if restarts && reached(LEAVES) {
            self.leave();
        }
        if restarts
            && reached(IS_BACK)
            && let Some(text) = self.other_weight()
        {
            return self.fail("S3 orders", format!("after a director's restart: {text}"));
        }
        let half = u64::from(self.options.expire_secs) * SECOND / 2;
        // Clocks that were set back keep users that the others have forgotten: there is no bound.
        // A director whose table was full never took in what the others know.
        let is_asked = self.skewed == 0 && self.options.user_limit > self.users.len() as u64;
        let users = self.users_disagree().filter(|_| is_asked);
        if users.is_none() && self.stats.agreed_users.is_none() && took > 20 * SECOND {
            self.stats.agreed_users = Some(took);
        }
        let rest = if restarts { IS_BACK } else { 0 };
        let enough = took > rest + 60 * SECOND && took > rest + half + SPREAD;
        if enough && let Some(text) = users {
            if took > rest + half + 2 * SPREAD + 60 * SECOND {
                self.fail("L1 users", text);
            }
            return;
        }
        if enough && let Some(text) = self.undrained() {
            if took > rest + half + 2 * SPREAD + 60 * SECOND {
                self.fail("L3 drain", text);
            }
            return;
        }
        if enough {
            self.sessions.clear();
            self.phase = Phase::Ebb { since: self.now };
        }
    }

    fn living(&self) -> impl Iterator<Item = (usize, &Node, &Process)> {
        let nodes = self.nodes.iter().enumerate().take(self.options.directors);
        nodes.filter_map(|(n, node)| Some((n, node, node.process.as_ref()?)))
    }

    /// What keeps the ring from being whole; `None`: nothing.
    pub fn disagreement(&self) -> Option<String> {
        let mut ids: Vec<_> = self.living().map(|(_, node, _)| node.id).collect();
        ids.sort();
        let mut first: Option<(usize, String)> = None;
        for (n, node, process) in self.living() {
            let standing = process.ring.standing();
            if !standing.synced || !standing.handshaked {
                return Some(format!("[{n}] is {standing:?}"));
            }
            let own = ids.iter().position(|id| *id == node.id)?;
            let right = ids[(own + 1) % ids.len()];
            let left = ids[(own + ids.len() - 1) % ids.len()];
            let found = (process.ring.left(), process.ring.right());
            if ids.len() > 1 && found != (Some(left), Some(right)) {
                return Some(format!("[{n}] has {found:?} instead of {left:?} {right:?}"));
            }
            let backends = describe(process);
            match &first {
                Some((other, theirs)) if *theirs != backends => {
                    return Some(format!("[{n}] {backends}, [{other}] {theirs}"));
                }
                _ => first = Some((n, backends)),
            }
        }
        None
    }

    /// A backend that has not the weight that it was given last, in a ring that has been whole `since`.
    /// Where directors meet, their blocks of hosts may say what has changed meanwhile.
    fn lost_weight(&self, since: u64) -> Option<String> {
        if self.dialled + HANDSHAKE > since {
            return None;
        }
        self.other_weight()
    }

    fn other_weight(&self) -> Option<String> {
        let (n, _, process) = self.living().next()?;
        self.weights.iter().find_map(|(ip, vhosts)| {
            let backend = process.ring.backends().find(*ip)?;
            (backend.vhosts != *vhosts).then(|| {
                let found = backend.vhosts;
                format!("[{n}] {ip} was given the weight {vhosts} and has {found}")
            })
        })
    }

    /// Whether directors, or sessions, differ about where a user is.
    fn users_disagree(&self) -> Option<String> {
        for (number, user) in self.users.iter().enumerate() {
            let spread = self.spread(number);
            if spread.is_empty() {
                continue;
            }
            // With a full table a director may know less than another.
            let full = self.options.user_limit <= self.users.len() as u64;
            if spread.len() > 1 && !full {
                return Some(format!("L5: user {number} is on {spread:?}"));
            }
            let known: Vec<(usize, Option<IpAddr>)> = self
                .living()
                .map(|(n, node, process)| {
                    (n, where_is(node, process, self.now, user.hash, user.tag))
                })
                .collect();
            let places: BTreeSet<Option<IpAddr>> = known.iter().map(|place| place.1).collect();
            if places.iter().flatten().count() > 1 || (places.len() > 1 && !full) {
                return Some(format!(
                    "user {number} ({}) on {spread:?} is known as {known:?}",
                    user.hash
                ));
            }
        }
        None
    }

    /// A drain that goes on, or one that is over while users are where it was.
    fn undrained(&self) -> Option<String> {
        if self.options.user_limit <= self.users.len() as u64 {
            return None;
        }
        self.living().find_map(|(n, node, process)| {
            let drains = process.ring.drains();
            let backends = process.ring.backends();
            let active = drains.iter().find(|it| {
                let weight = backends.find(it.ip).map_or(0, |backend| backend.vhosts);
                weight == 0 && it.state != DrainState::Done
            });
            if let Some(drain) = active {
                return Some(format!("[{n}] {drain:?}"));
            }
            let left = drains.iter().find(|it| {
                let emptied = backends
                    .find(it.ip)
                    .is_some_and(|backend| backend.vhosts == 0);
                let there = |user: &User| {
                    where_is(node, process, self.now, user.hash, user.tag) == Some(it.ip)
                };
                emptied && self.users.iter().any(there)
            });
            left.map(|drain| format!("[{n}] users are on what was drained: {drain:?}"))
        })
    }

    fn somebody_is_killed(&self) -> Option<String> {
        self.living().find_map(|(n, _, process)| {
            let (key, flags) = process
                .flags
                .iter()
                .find(|(_, flags)| flags.killing.is_some())?;
            Some(format!("[{n}] {key:?} {flags:?}"))
        })
    }
}

fn describe(process: &Process) -> String {
    let backends = process.ring.backends();
    let each = backends.iter().map(|backend| {
        let tag = String::from_utf8_lossy(backends.tag_name(backend.tag)).into_owned();
        format!(
            "{}*{}@{tag}{}",
            backend.ip,
            backend.vhosts,
            if backend.down { " down" } else { "" }
        )
    });
    each.collect::<Vec<_>>().join(", ")
}

fn where_is(node: &Node, process: &Process, now: u64, hash: u32, tag: usize) -> Option<IpAddr> {
    let snapshot = &process.table.snapshot;
    let key = Process::key(snapshot, hash, tag)?;
    debug_assert!(!tag_name(tag).contains('\t'));
    let wall = node.clocks(now).wall;
    let entry = process.table.shards[shard_of(key.hash)].peek(key, wall, snapshot)?;
    Some(snapshot.backend(entry.backend())?.ip)
}
