//! What is ordered because of the health of backends.
//!
//! One director decides: of those whose votes count here, the lowest by address that has its place in the
//! ring. It says what it is about to do in a mark, gives the others time to hear of it, and orders it then, so
//! that whoever must go on in its place knows what is health's own and what an operator's. Everything is seen in
//! the list of backends, and asked for again when it does not show: whether an order was lost, timed out or its
//! director died makes no difference.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::votes::Tally;
use super::{Backend, Health, Kind, Mark, Step, Verdict, View};
use crate::core::Mono;
use crate::core::ip_text::ip_text;
use crate::core::ring::{Level, Order, Request};
use crate::wire::health::STEPS;
use crate::wire::ring::DirectorId;

/// The others have heard of a mark before anything is ordered that it is about: it is told at once, and this is many
/// network delays.
pub(super) const TELL: u64 = Mono::SECOND / 2;
/// An order is given again if the list does not show it after this: it has waited for a synced ring for up to
/// 30 s before it ran.
pub(super) const AGAIN: u64 = 35 * Mono::SECOND;
/// Users that are still on a backend so long after they were ordered to leave are ordered once more.
pub(super) const FLUSH_AGAIN: u64 = 60 * Mono::SECOND;

/// Why nothing is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// `health_act` is off.
    OnlyReports,
    /// The ring was not complete yet.
    NotJoined,
    /// A director of the ring is no Homing, or has no vote.
    Mixed(DirectorId),
    /// So many directors' votes count here, and so many are needed.
    NoQuorum(u32, u32),
    /// Another director decides.
    Other(DirectorId),
}

/// What was decided about a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is to be done: it is in service.
    #[default]
    InService,
    /// It should be taken down, but for this.
    Kept(Obstacle),
    /// It should be taken down, but too few of its tag would be left.
    Floor {
        /// Backends of the tag that are in service.
        serving: u32,
        /// So many must be.
        needed: u32,
    },
    /// It is being taken down.
    Falling,
    /// Health has taken it down.
    Down,
    /// It comes back: so many of a hundred of its weight.
    Rising(u32),
    /// An operator has set its state, and has not released it.
    Held,
    /// It was taken down, and not by health.
    DownByHand,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |id: &DirectorId| SocketAddr::new(id.ip, id.port);
        match self {
            Obstacle::OnlyReports => f.write_str("health_act is off"),
            Obstacle::NotJoined => f.write_str("the ring is not complete yet"),
            Obstacle::Mixed(id) => write!(f, "director {} has no vote", name(id)),
            Obstacle::NoQuorum(have, need) => {
                write!(f, "only {have} directors are heard, {need} must agree")
            }
            Obstacle::Other(id) => write!(f, "director {} decides", name(id)),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::InService => f.write_str("in service"),
            Decision::Kept(why) => write!(f, "should be down: {why}"),
            Decision::Floor { serving, needed } => write!(
                f,
                "should be down: {serving} serve, {needed} must (health_floor)"
            ),
            Decision::Falling => f.write_str("being taken down"),
            Decision::Down => f.write_str("down by health"),
            Decision::Rising(percent) => write!(f, "slow start at {percent} %"),
            Decision::Held => f.write_str("held by hand"),
            Decision::DownByHand => f.write_str("down by hand"),
        }
    }
}

impl Decision {
    /// In one word, for metrics and scripts.
    pub fn word(&self) -> &'static str {
        match self {
            Decision::InService => "in-service",
            Decision::Kept(_) => "kept",
            Decision::Floor { .. } => "floor",
            Decision::Falling => "falling",
            Decision::Down => "down",
            Decision::Rising(_) => "rising",
            Decision::Held => "held",
            Decision::DownByHand => "down-by-hand",
        }
    }
}

/// The weight at a step of the slow start. Whoever has one gets users from the first step on.
pub(super) fn share(weight: u32, step: u8) -> u32 {
    if weight == 0 || step >= STEPS - 1 {
        return weight;
    }
    let part = u64::from(weight) * u64::from(step + 1) / u64::from(STEPS);
    u32::try_from(part).unwrap_or(weight).max(1)
}

/// So many backends of a tag must be in service, of `total`. Never none.
pub(super) fn needed(total: u32, floor: u32) -> u32 {
    let needed = (u64::from(total) * u64::from(floor.min(100))).div_ceil(100);
    u32::try_from(needed).unwrap_or(total).max(1)
}

impl Health {
    /// How many directors must agree.
    pub(super) fn quorum(&self, view: &View) -> u32 {
        let all = u32::try_from(view.directors.len().max(1)).unwrap_or(u32::MAX);
        match self.policy.quorum {
            0 => all / 2 + 1,
            quorum => quorum.min(all),
        }
    }

    /// What all directors say of a backend whose votes count here, this one included.
    pub(super) fn tally(&self, ip: IpAddr, now: Mono) -> Tally {
        let mut tally = self.votes.tally(ip, now);
        tally.add(self.verdict(ip).0);
        tally
    }

    /// What a quorum says of a backend; unknown: there is none.
    fn consensus(&self, ip: IpAddr, view: &View, now: Mono) -> Verdict {
        let (tally, quorum) = (self.tally(ip, now), self.quorum(view));
        match tally {
            _ if tally.failed >= quorum => Verdict::Failed,
            _ if tally.good >= quorum => Verdict::Good,
            _ => Verdict::Unknown,
        }
    }

    /// Why this director orders nothing.
    fn find_obstacle(&self, view: &View, now: Mono) -> Option<Obstacle> {
        if !self.policy.act {
            return Some(Obstacle::OnlyReports);
        }
        if !view.handshaked || self.recalled.is_waiting() {
            return Some(Obstacle::NotJoined);
        }
        let neighbours = view.neighbours.iter().copied();
        let mut neighbours = neighbours.chain(self.votes.neighbours(now));
        // Whoever stands in the ring without a vote has a neighbour who has one, or nobody votes.
        let strange = neighbours.find(|(id, homing)| {
            let votes = *id == view.me || self.votes.has_voted(*id);
            !homing || !votes
        });
        if let Some((id, _)) = strange {
            return Some(Obstacle::Mixed(id));
        }
        let quorum = self.quorum(view);
        let mut voters: Vec<(bool, DirectorId)> = self
            .votes
            .voters(now)
            .map(|(id, joined)| (!joined, id))
            .collect();
        voters.push((!view.joined, view.me));
        let have = u32::try_from(voters.len()).unwrap_or(u32::MAX);
        if have < quorum {
            return Some(Obstacle::NoQuorum(have, quorum));
        }
        match voters.into_iter().min() {
            Some((_, first)) if first != view.me => Some(Obstacle::Other(first)),
            _ => None,
        }
    }

    /// Decides about every backend.
    pub(super) fn decide(&mut self, view: &View, now: Mono) {
        self.obstacle = self.find_obstacle(view, now);
        // The one that failed first is the first to be taken down, where not all may be.
        let checked: std::collections::BTreeSet<IpAddr> =
            self.watches.keys().map(|probe| probe.ip).collect();
        let mut all: Vec<IpAddr> = checked
            .into_iter()
            .chain(self.marks.iter().map(|line| line.ip))
            .filter(|ip| view.backends.contains_key(ip))
            .collect();
        all.sort_by_key(|&ip| (self.verdict(ip).1, ip));
        all.dedup();
        let before = std::mem::take(&mut self.decisions);
        for ip in all {
            let decision = self.decide_one(ip, view, now);
            if before.get(&ip).map(Decision::word) != Some(decision.word()) {
                self.tell_decision(ip, &decision);
            }
            self.decisions.insert(ip, decision);
        }
    }

    fn tell_decision(&mut self, ip: IpAddr, decision: &Decision) {
        let level = match decision {
            Decision::Floor { .. } | Decision::Kept(_) | Decision::Falling => Level::Warning,
            Decision::Down | Decision::Rising(_) | Decision::Held => Level::Info,
            Decision::InService | Decision::DownByHand => Level::Debug,
        };
        let text = format!("health: backend {}: {decision}", ip_text(ip));
        self.steps.push(Step::Say(level, text));
    }

    fn decide_one(&mut self, ip: IpAddr, view: &View, now: Mono) -> Decision {
        let Some(backend) = view.backends.get(&ip) else {
            return Decision::InService;
        };
        let mark = self.marks.get(ip);
        let consensus = self.consensus(ip, view, now);
        let obstacle = self.obstacle.clone();
        let mine = obstacle.is_none();
        match (mark.kind, backend.down) {
            (Kind::Held, _) => {
                if mine {
                    self.give_weight_back(ip, backend, mark, now);
                }
                Decision::Held
            }
            (Kind::Auto, true) if is_old_news(backend, mark) => match mine {
                true => self.begin(ip, Kind::Down, now),
                false => Decision::Down,
            },
            (Kind::Auto, true) => Decision::DownByHand,
            (Kind::Auto, false) => match obstacle {
                Some(Obstacle::Other(_)) | None if consensus != Verdict::Failed => {
                    Decision::InService
                }
                Some(_) if !self.looks_bad(ip, consensus) => Decision::InService,
                Some(why) => Decision::Kept(why),
                None => match self.floor(ip, view) {
                    Some(kept) => kept,
                    None => self.begin(ip, Kind::Falling, now),
                },
            },
            (Kind::Falling, false) => self.fall(ip, consensus, mine, now),
            (Kind::Falling, true) if mine => {
                let mark = Mark {
                    kind: Kind::Down,
                    at: backend.changed.0,
                    ..mark
                };
                self.set_whole_mark(ip, mark, now);
                Decision::Down
            }
            (Kind::Falling, true) => Decision::Down,
            (Kind::Down, true) => {
                if mine {
                    self.keep_down(ip, backend, mark, consensus, now);
                }
                Decision::Down
            }
            (Kind::Down, false) if mine && is_old_news(backend, mark) => {
                self.begin(ip, Kind::Falling, now)
            }
            (Kind::Down, false) if mine && self.has_settled(ip, now) => {
                let text = format!(
                    "health: backend {} was taken up by somebody: it is left alone until it is released",
                    ip_text(ip)
                );
                self.steps.push(Step::Say(Level::Info, text));
                self.begin(ip, Kind::Held, now)
            }
            (Kind::Down, false) => Decision::Down,
            (Kind::Rising(step), _) => {
                let weight = mark.weight.unwrap_or(backend.vhosts);
                if mine {
                    self.rise(ip, backend, Ramp { weight, step }, consensus, view, now);
                }
                Decision::Rising(percent(step))
            }
        }
    }

    /// Whether a backend should be taken down as far as is known here, where a quorum cannot be had.
    fn looks_bad(&self, ip: IpAddr, consensus: Verdict) -> bool {
        consensus == Verdict::Failed || self.verdict(ip).0 == Verdict::Failed
    }

    /// Sets a mark; what it is about is ordered when the others know it.
    fn begin(&mut self, ip: IpAddr, kind: Kind, now: Mono) -> Decision {
        self.set_mark(ip, kind, now);
        match kind {
            Kind::Auto => Decision::InService,
            Kind::Held => Decision::Held,
            Kind::Falling => Decision::Falling,
            Kind::Down => Decision::Down,
            Kind::Rising(step) => Decision::Rising(percent(step)),
        }
    }

    /// The others have heard of the mark.
    fn has_settled(&self, ip: IpAddr, now: Mono) -> bool {
        self.marks.age(ip, now) >= TELL
    }

    /// Asks for something, unless it was asked for lately or the others may not know yet why.
    fn ask(&mut self, ip: IpAddr, order: Order, now: Mono) {
        let known = self.asked.get(&ip);
        let lately = known.is_some_and(|(it, at)| *it == order && now.since(*at) < AGAIN);
        if !lately && self.has_settled(ip, now) {
            self.asked.insert(ip, (order.clone(), now));
            self.steps.push(Step::Ask(Request::Order(order)));
        }
    }

    /// It is about to be taken down, and is still up.
    fn fall(&mut self, ip: IpAddr, consensus: Verdict, mine: bool, now: Mono) -> Decision {
        if !mine {
            return Decision::Falling;
        }
        if consensus != Verdict::Failed && !self.asked.contains_key(&ip) {
            let weight = self.marks.get(ip).weight;
            let kind = match weight {
                Some(_) => Kind::Rising(0),
                None => Kind::Auto,
            };
            return self.begin(ip, kind, now);
        }
        self.ask(ip, Order::Down(ip), now);
        Decision::Falling
    }

    /// It is down. Users that it still has leave, and it comes back when it is good.
    fn keep_down(
        &mut self,
        ip: IpAddr,
        backend: &Backend,
        mark: Mark,
        consensus: Verdict,
        now: Mono,
    ) {
        if consensus == Verdict::Good {
            let weight = mark.weight.unwrap_or(backend.vhosts);
            let slowly = self.policy.slow_start > 0 && weight > 1;
            let step = if slowly { 0 } else { STEPS - 1 };
            let mark = Mark {
                kind: Kind::Rising(step),
                weight: (slowly || mark.weight.is_some()).then_some(weight),
                ..mark
            };
            return self.set_whole_mark(ip, mark, now);
        }
        let lately = self
            .flushed
            .get(&ip)
            .is_some_and(|at| now.since(*at) < FLUSH_AGAIN);
        if backend.users > 0 && !lately {
            self.flushed.insert(ip, now);
            let flush = Request::ResetUsers {
                host: Some(ip),
                max: None,
            };
            self.steps.push(Step::Ask(flush));
        }
        self.give_weight_back(ip, backend, mark, now);
    }

    /// A slow start that was broken off leaves the weight of one of its steps behind.
    fn give_weight_back(&mut self, ip: IpAddr, backend: &Backend, mark: Mark, now: Mono) {
        match mark.weight {
            None => {}
            Some(weight) if weight == backend.vhosts => {
                let mark = Mark {
                    weight: None,
                    ..mark
                };
                self.set_whole_mark(ip, mark, now);
            }
            Some(weight) => self.ask(ip, update(ip, weight), now),
        }
    }

    /// It comes back.
    fn rise(
        &mut self,
        ip: IpAddr,
        backend: &Backend,
        ramp: Ramp,
        consensus: Verdict,
        view: &View,
        now: Mono,
    ) {
        if consensus == Verdict::Failed {
            // One that is still down takes nobody's place.
            if backend.down {
                self.begin(ip, Kind::Down, now);
            } else if self.floor(ip, view).is_none() {
                self.flushed.remove(&ip);
                self.begin(ip, Kind::Falling, now);
            }
            return;
        }
        let wanted = share(ramp.weight, ramp.step);
        let is_ours = backend.vhosts == ramp.weight
            || ramp.step > 0 && backend.vhosts == share(ramp.weight, ramp.step - 1);
        if backend.vhosts == wanted {
            if backend.down {
                self.ask(ip, Order::Up(ip), now);
            } else {
                self.climb(ip, backend, ramp, now);
            }
        } else if is_ours {
            self.ask(ip, update(ip, wanted), now);
        } else if backend.vhosts > 0 {
            let text = format!(
                "health: backend {} was given weight {} during its slow start, which is over",
                ip_text(ip),
                backend.vhosts
            );
            self.steps.push(Step::Say(Level::Info, text));
            let kind = match backend.down {
                true => Kind::Rising(STEPS - 1),
                false => Kind::Auto,
            };
            let mark = Mark {
                kind,
                weight: None,
                at: backend.changed.0,
            };
            self.set_whole_mark(ip, mark, now);
        }
        // Without any weight it is being drained: the slow start goes on when it has one again.
    }

    /// It is up, with the weight of its step.
    fn climb(&mut self, ip: IpAddr, backend: &Backend, ramp: Ramp, now: Mono) {
        if ramp.step >= STEPS - 1 {
            let mark = Mark {
                at: backend.changed.0,
                ..Mark::AUTO
            };
            return self.set_whole_mark(ip, mark, now);
        }
        let pause = self.policy.slow_start / u64::from(STEPS - 1);
        if self.marks.age(ip, now) < pause {
            return;
        }
        let mark = Mark {
            kind: Kind::Rising(ramp.step + 1),
            weight: Some(ramp.weight),
            ..self.marks.get(ip)
        };
        self.set_whole_mark(ip, mark, now);
    }

    /// Why a backend must stay in service, if it must: too few of its tag would be left. Counted are those
    /// that no operator has taken out.
    fn floor(&self, ip: IpAddr, view: &View) -> Option<Decision> {
        let backend = view.backends.get(&ip)?;
        let (mut serving, mut by_health) = (0u32, 0u32);
        for (&other, it) in view.backends.iter().filter(|(_, it)| it.tag == backend.tag) {
            let mark = self.marks.get(other);
            let is_falling = mark.kind == Kind::Falling;
            if !it.down && it.vhosts > 0 && !is_falling {
                serving += 1;
            } else if is_falling || it.down && mark.is_down_by_health() {
                by_health += 1;
            }
        }
        let needed = needed(serving + by_health, self.policy.floor);
        let left = serving - u32::from(!backend.down && backend.vhosts > 0);
        (left < needed).then_some(Decision::Floor { serving, needed })
    }
}

/// How far a slow start is.
#[derive(Clone, Copy)]
struct Ramp {
    /// What the backend gets in the end.
    weight: u32,
    step: u8,
}

/// Whether a backend is up or down as it was before health changed that. A director that was away may bring such
/// news, and the ring may take it: whoever really changes a state gives it a later time.
fn is_old_news(backend: &Backend, mark: Mark) -> bool {
    mark.at > 0 && backend.changed.0 <= mark.at
}

fn percent(step: u8) -> u32 {
    (u32::from(step) + 1) * 100 / u32::from(STEPS)
}

fn update(ip: IpAddr, vhosts: u32) -> Order {
    Order::UpdateBackend {
        ip,
        tag: None,
        vhosts: Some(vhosts),
    }
}
