//! The simulated world: directors, the network between them, users who log in, operators, faults.
//!
//! One queue of events in the order of their times; each event is handled to its end before the next.
//! Everything that is left to chance comes from the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use homing::core::UserKey;
use homing::core::ring::{ConnId, Flush, FlushResult, Kick, Order, Ticket};
use homing::wire::ring::DirectorId;

use crate::bugs::Bug;
use crate::faults::Cure;
use crate::heal::Phase;
use crate::net::{Link, LinkId};
use crate::node::Node;
use crate::options::{MS, Options, SECOND};
use crate::orders::Asked;
use crate::rng::Rng;
use crate::sessions::{Session, User};
use crate::trace::Trace;

/// No seed has so much to do, unless it does the same again and again.
const MOST_EVENTS: u64 = 4_000_000;

/// A process, for as long as it lives: events for one that has died are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub node: usize,
    pub boot: u32,
}

#[derive(Debug)]
pub enum Event {
    Boot(usize),
    Tick(At),
    /// The control core takes the notes out of their queue.
    Drain(At),
    /// It visits the shards whose notes were lost.
    Visit(At),
    SweepStep(At),
    /// A lookup core begins a turn with the newest snapshot.
    CoreSees(At, usize),
    /// A lookup core hears that a user's lookups may go on.
    Wake(At, usize, UserKey),
    /// Some lookup's deadline has come.
    Deadline(At, usize),
    /// The proxies end sessions.
    Kick(At, Kick, u64),
    Flushed(At, UserKey, FlushResult, u64),
    /// The kernel asks again for a connection that nobody answered; how often it has.
    Syn(At, ConnId, DirectorId, u32),
    Accepted(LinkId),
    Connected(LinkId),
    Failed(At, ConnId),
    /// The first piece on the way from this side comes in at the other.
    Arrive(LinkId, usize),
    Written(LinkId, usize),
    /// This side learns that its connection is gone.
    Ends(LinkId, usize),
    Login,
    Return(usize),
    KeepAlive(u64),
    SessionEnds(u64),
    Fault,
    Cure(Cure),
    Order,
    Heal,
    Look,
}

struct Queued(u64, u64, Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What must never be, and was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name.
    pub name: &'static str,
    pub text: String,
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub events: u64,
    pub simulated: u64,
    pub faults: u64,
    pub orders: u64,
    pub logins: u64,
    pub answered: u64,
    pub timed_out: u64,
    pub refused: u64,
    pub notes_lost: u64,
    pub kicks: u64,
    pub doubles: u64,
    /// From the end of the last fault until all agreed on the backends, and on the users.
    pub agreed_backends: Option<u64>,
    pub agreed_users: Option<u64>,
    /// Lines on the ring, PING and PONG apart.
    pub lines: u64,
    pub bytes: u64,
    pub syncs: u64,
    pub pings: u64,
}

pub struct World {
    pub options: Options,
    pub bug: Option<Bug>,
    pub rng: Rng,
    /// For what came to be simulated later.
    pub more: Rng,
    pub now: u64,
    pub nodes: Vec<Node>,
    pub links: BTreeMap<LinkId, Link>,
    pub next_link: LinkId,
    /// From, to: nothing gets through.
    pub blocked: BTreeSet<(usize, usize)>,
    pub users: Vec<User>,
    pub sessions: BTreeMap<u64, Session>,
    pub next_session: u64,
    /// Addresses of backends whose users were forgotten by an operator's order, and when.
    pub forced: BTreeMap<IpAddr, u64>,
    /// Users, by hash, whose sessions are excused, and until when.
    pub forced_users: BTreeMap<u32, u64>,
    /// Where users were last ordered to move, and when.
    pub moved: BTreeMap<u32, (IpAddr, u64)>,
    /// Orders that are given one after the other when the ring is whole again.
    pub to_order: VecDeque<Order>,
    /// The backend that was drained in the end: once, since it may be waited for, and the time then counts anew.
    pub drained: Option<IpAddr>,
    /// When a director was dialled last.
    pub dialled: u64,
    /// Weights that operators gave last, as far as they were told that it is done.
    pub weights: BTreeMap<IpAddr, u32>,
    /// Requests that were not answered yet.
    pub asked: BTreeMap<Ticket, Asked>,
    pub next_ticket: u64,
    /// The last one that failed.
    pub refused: Option<Ticket>,
    /// The ring was disturbed until then, as far as is known now.
    pub disturbed: u64,
    /// Furthest that a wall clock ever was off, if it was too much.
    pub skewed: u64,
    pub phase: Phase,
    pub trace: Trace,
    pub violation: Option<Violation>,
    pub stats: Stats,
    pub next_kick: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, print: bool) -> World {
        let mut rng = Rng::new(seed);
        let mut more = Rng::new(!seed);
        let mut options = Options::draw(&mut rng);
        options.draw_more(&mut more);
        World::of(options, (rng, more), bug, print)
    }

    /// A world of one's own.
    pub fn of(options: Options, (rng, more): (Rng, Rng), bug: Option<Bug>, print: bool) -> World {
        let mut world = World {
            bug,
            now: 0,
            nodes: Vec::new(),
            links: BTreeMap::new(),
            next_link: 0,
            blocked: BTreeSet::new(),
            users: Vec::new(),
            sessions: BTreeMap::new(),
            next_session: 0,
            forced: BTreeMap::new(),
            forced_users: BTreeMap::new(),
            moved: BTreeMap::new(),
            to_order: VecDeque::new(),
            drained: None,
            dialled: 0,
            weights: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_ticket: 0,
            refused: None,
            disturbed: 0,
            skewed: if options.skew > SECOND {
                options.skew
            } else {
                0
            },
            phase: Phase::Run,
            trace: Trace::new(print),
            violation: None,
            stats: Stats::default(),
            next_kick: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            options,
            rng,
            more,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        if self.trace.is_printed() {
            println!("{:#?}", self.options);
        }
        let ids: Vec<DirectorId> = (0..self.options.directors)
            .map(|n| self.director_id(n))
            .collect();
        for (n, id) in ids.iter().enumerate() {
            self.add_node(*id);
            let when = self.rng.below(3 * SECOND);
            self.at(when, Event::Boot(n));
        }
        // Where a second process of some identity is started.
        let twin = self.rng.index(ids.len());
        self.add_node(ids[twin]);
        self.invent_users();
        self.at(SECOND, Event::Login);
        if !self.options.faults.is_empty() {
            let first = self.rng.between(SECOND, self.options.fault_every + SECOND);
            self.at(first, Event::Fault);
        }
        if self.options.order_every > 0 {
            self.at(20 * SECOND, Event::Order);
        }
        self.at(self.options.run, Event::Heal);
    }

    fn director_id(&self, n: usize) -> DirectorId {
        let n = u8::try_from(n).unwrap();
        let (last, port) = if self.options.shared_ip {
            (1, 9090 + u16::from(n))
        } else {
            (n + 1, 9090)
        };
        DirectorId {
            ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)),
            port,
        }
    }

    fn add_node(&mut self, id: DirectorId) {
        let skew = self.skew();
        self.nodes.push(Node::new(id, skew));
    }

    pub fn skew(&mut self) -> i64 {
        let furthest = self.options.skew;
        let skew = self.rng.between(0, 2 * furthest);
        skew.cast_signed() - furthest.cast_signed()
    }

    pub fn at(&mut self, when: u64, event: Event) {
        self.queued += 1;
        self.queue
            .push(Reverse(Queued(when.max(self.now), self.queued, event)));
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Remembers the first violation; nothing after it counts.
    pub fn fail(&mut self, name: &'static str, text: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { name, text });
        }
    }

    /// Nothing separates the directors, for so long that they must have found together.
    pub fn is_calm(&self) -> bool {
        if self.options.strict {
            return true;
        }
        // Users near their end are confirmed, so that clocks may be this far apart, and no more.
        let near = u64::from(self.options.expire_secs / 10).clamp(3, 30) * SECOND;
        if 2 * self.skewed >= near {
            return false;
        }
        // A director whose table is full does not take in what it is told.
        if self.options.user_limit <= self.users.len() as u64 {
            return false;
        }
        // A clock that was set back keeps users for as much longer.
        self.now >= self.disturbed + 120 * SECOND + 2 * self.skewed
    }

    /// Until the end, or the first violation.
    pub fn run(&mut self) {
        while self.violation.is_none() && self.phase != Phase::Done && !self.queue.is_empty() {
            self.step();
        }
        self.stats.simulated = self.now;
    }

    fn step(&mut self) {
        let Some(Reverse(Queued(when, _, event))) = self.queue.pop() else {
            return;
        };
        self.now = when;
        if let Some(node) = self.actor(&event)
            && self.nodes[node].paused_until > when
        {
            let resumes = self.nodes[node].paused_until;
            return self.at(resumes, event);
        }
        self.stats.events += 1;
        if self.stats.events > MOST_EVENTS {
            self.fail(
                "L4 storm",
                format!("{MOST_EVENTS} events in {} s", when / SECOND),
            );
        }
        self.trace.number(when);
        self.dispatch(event);
    }

    /// Until a time, or the first violation.
    pub fn run_until(&mut self, end: u64) {
        while self.violation.is_none() && self.queue.peek().is_some_and(|next| next.0.0 <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    fn is_current(&self, at: At) -> bool {
        let node = &self.nodes[at.node];
        node.boot == at.boot && node.process.is_some()
    }

    /// Which process does something at this event. It waits while that one stands still.
    fn actor(&self, event: &Event) -> Option<usize> {
        let link = |id: &LinkId, side: usize| Some(self.links.get(id)?.ends[side].at.node);
        if let Some(at) = process_of(event) {
            return Some(at.node);
        }
        match event {
            Event::Accepted(id) => link(id, 1),
            Event::Connected(id) => link(id, 0),
            Event::Arrive(id, from) => link(id, 1 - from),
            Event::Written(id, side) | Event::Ends(id, side) => link(id, *side),
            Event::KeepAlive(id) => self.sessions.get(id).map(|session| session.at.node),
            _ => None,
        }
    }

    fn dispatch(&mut self, event: Event) {
        if process_of(&event).is_some_and(|at| !self.is_current(at)) {
            return;
        }
        match event {
            Event::Boot(n) => self.boot(n),
            Event::Tick(at) => self.tick(at.node),
            Event::Drain(at) => self.drain(at.node),
            Event::Visit(at) => self.visit_lost(at.node),
            Event::SweepStep(at) => self.sweep_step(at.node),
            Event::CoreSees(at, core) => self.core_sees(at.node, core),
            Event::Wake(at, core, key) => self.wake(at.node, core, key),
            Event::Deadline(at, core) => self.deadline(at.node, core),
            Event::Kick(at, kick, serial) => self.carry_out_kick(at.node, &kick, serial),
            Event::Flushed(at, key, result, serial) => self.flushed(at.node, key, result, serial),
            Event::Syn(at, conn, to, tries) => self.syn(at.node, conn, to, tries),
            Event::Accepted(id) => self.accepted(id),
            Event::Connected(id) => self.connected(id),
            Event::Failed(at, conn) => self.dial_failed(at.node, conn),
            Event::Arrive(id, from) => self.arrive(id, from),
            Event::Written(id, side) => self.written(id, side),
            Event::Ends(id, side) => self.ends(id, side),
            Event::Login => self.somebody_logs_in(),
            Event::Return(user) => self.user_logs_in(user),
            Event::KeepAlive(id) => self.keep_alive(id),
            Event::SessionEnds(id) => self.session_ends(id),
            Event::Fault => self.fault(),
            Event::Cure(cure) => self.cure(cure),
            Event::Order => self.order(),
            Event::Heal => self.heal(),
            Event::Look => self.look(),
        }
    }

    /// A time that a process or a machine needs for a step.
    pub fn moment(&mut self) -> u64 {
        self.rng.below(MS)
    }

    /// A flush script runs; it takes anything from no time to longer than a move may.
    pub fn run_flush(&mut self, at: At, flush: &Flush) {
        let serial = self.next_kick;
        self.next_kick += 1;
        if let Some(process) = self.nodes[at.node].process.as_mut() {
            process.flushes.insert(flush.key, serial);
        }
        let time = self.rng.pick(&[0, 100 * MS, 3 * SECOND, 60 * SECOND]);
        let result = if self.rng.percent(70) {
            FlushResult::Succeeded
        } else {
            FlushResult::Failed
        };
        if self.options.scripts_hang && self.more.percent(30) {
            return;
        }
        self.after(time, Event::Flushed(at, flush.key, result, serial));
    }
}

/// The process that an event belongs to; of no other one.
fn process_of(event: &Event) -> Option<At> {
    match event {
        Event::Tick(at)
        | Event::Drain(at)
        | Event::Visit(at)
        | Event::SweepStep(at)
        | Event::CoreSees(at, _)
        | Event::Wake(at, _, _)
        | Event::Deadline(at, _)
        | Event::Kick(at, _, _)
        | Event::Flushed(at, _, _, _)
        | Event::Syn(at, ..)
        | Event::Failed(at, _) => Some(*at),
        _ => None,
    }
}
