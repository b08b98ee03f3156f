//! Several machines, joined by streams without delay.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::core::director::{Config, Seed};
use crate::core::user_hash::Template;
use crate::core::users::{Decision, Note, SHARDS, shard_of};
use crate::core::{DelayReason, TagId};

mod connections;
mod drains;
mod floods;
mod history;
mod news;
mod reports;
mod requests;
mod rings;
mod scripted;
mod traps;
mod vectors;

/// The time at which every test begins.
const START: u64 = 1_790_000_000;

pub(super) struct Users {
    shards: Vec<Shard>,
    pub(super) published: u64,
    /// Notes are to come that are older than what was published.
    pub(super) behind: bool,
}

impl Table for Users {
    fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        assert!(snapshot.generation > self.published, "S6");
        self.published = snapshot.generation;
    }

    fn is_told(&self) -> bool {
        !self.behind
    }

    fn with<R>(&mut self, shard: usize, action: impl FnOnce(&mut Shard) -> R) -> R {
        action(&mut self.shards[shard])
    }

    fn room(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

pub(super) struct Node {
    pub(super) ring: Ring,
    pub(super) users: Users,
    /// Our connections, and the other end of each: node and connection there.
    ends: BTreeMap<ConnId, (usize, ConnId)>,
    pub(super) up: bool,
    pub(super) events: Vec<Event>,
    pub(super) kicks: Vec<Kick>,
    pub(super) wakes: Vec<UserKey>,
    pub(super) answers: Vec<(Ticket, Answer)>,
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) mono: u64,
    /// Lines that went over each connection, by sender.
    pub(super) lines: Vec<(usize, usize, String)>,
    /// VERSION says nothing of Homing on its way.
    pub(super) plain: bool,
    /// Pairs of nodes whose connection went over to TLS.
    pub(super) secured: Vec<(usize, usize)>,
    /// Lines of these words are not delivered to this node, nor those that it sends.
    pub(super) held_back: Option<(usize, &'static [&'static str])>,
}

pub(super) fn id(node: usize) -> DirectorId {
    DirectorId {
        ip: IpAddr::from([127, 0, 0, node as u8 + 1]),
        port: 9090,
    }
}

fn backend(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn machine(node: usize, nodes: usize, backends: u8, now: Now) -> Ring {
    let config = Config {
        expire_secs: 900,
        username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
        master_user_separator: None,
        hasher: ahash::RandomState::with_seed(1),
    };
    let seed = |n| Seed {
        ip: backend(n),
        name: None,
        tag: "",
        vhosts: 100,
    };
    let director = Director::new(config, (1..=backends).map(seed)).unwrap();
    Ring::new(director, id(node), (0..nodes).map(id), limits(node), now).unwrap()
}

pub(super) fn limits(node: usize) -> Limits {
    Limits {
        ping_idle: 30 * Mono::SECOND,
        ping_max: 60 * Mono::SECOND,
        kick_delay: 2 * Mono::SECOND,
        move_limit: 30 * Mono::SECOND,
        max_parallel_moves: 100,
        max_parallel_kicks: 100,
        output_buffer: 10 << 20,
        flush_script: false,
        tls: Tls::Off,
        jitter: node as u64 * 7_919_000_001,
    }
}

impl World {
    pub(super) fn new(nodes: usize, backends: u8) -> World {
        let mut world = World {
            nodes: Vec::new(),
            mono: 1,
            lines: Vec::new(),
            plain: false,
            secured: Vec::new(),
            held_back: None,
        };
        for node in 0..nodes {
            world.nodes.push(Node {
                ring: machine(node, nodes, backends, world.now()),
                users: Users {
                    shards: (0..SHARDS).map(|_| Shard::new(1)).collect(),
                    published: 1,
                    behind: false,
                },
                ends: BTreeMap::new(),
                up: false,
                events: Vec::new(),
                kicks: Vec::new(),
                wakes: Vec::new(),
                answers: Vec::new(),
            });
        }
        world
    }

    pub(super) fn now(&self) -> Now {
        Now {
            mono: Mono(self.mono),
            wall: Wall(START + self.mono / Mono::SECOND),
        }
    }

    pub(super) fn start(&mut self, node: usize) {
        self.nodes[node].up = true;
        self.input(node, Input::Start);
        self.settle();
    }

    pub(super) fn restart_empty(&mut self, node: usize, backends: u8) {
        let (count, now) = (self.nodes.len(), self.now());
        self.nodes[node].ring = machine(node, count, backends, now);
        self.nodes[node].users = Users {
            shards: (0..SHARDS).map(|_| Shard::new(1)).collect(),
            published: 1,
            behind: false,
        };
        self.start(node);
    }

    /// The process dies; the others notice.
    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].up = false;
        let ends = std::mem::take(&mut self.nodes[node].ends);
        for (other, conn) in ends.into_values() {
            self.nodes[other].ends.remove(&conn);
            self.input(other, Input::Ended(conn));
        }
        self.settle();
    }

    pub(super) fn input(&mut self, node: usize, input: Input<'_>) {
        let now = self.now();
        let Node { ring, users, .. } = &mut self.nodes[node];
        ring.handle(input, now, users);
    }

    pub(super) fn order(&mut self, node: usize, order: Order) -> Result<(), OrderError> {
        let now = self.now();
        let Node { ring, users, .. } = &mut self.nodes[node];
        let done = ring.order(&order, now, users);
        self.settle();
        done
    }

    pub(super) fn request(&mut self, node: usize, ticket: u64, request: &Request) {
        self.input(node, Input::Request(Ticket(ticket), request));
        self.settle();
    }

    /// Carries out everything until nothing more happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let moved = (0..self.nodes.len()).any(|node| self.outputs(node) | self.bytes(node));
            if !moved {
                return;
            }
        }
        panic!("the ring does not become quiet");
    }

    fn outputs(&mut self, node: usize) -> bool {
        let outputs = self.nodes[node].ring.take_outputs();
        let any = !outputs.is_empty();
        for output in outputs {
            match output {
                Output::Dial(conn, to) => self.dial(node, conn, to),
                Output::Close(conn, rest) => self.close(node, conn, &rest),
                Output::Kick(kick) => {
                    self.input(
                        node,
                        match kick {
                            Kick::Moved(key) => Input::Kicked(key),
                            _ => Input::KickOver,
                        },
                    );
                    self.nodes[node].kicks.push(kick);
                }
                Output::Wake(key) => self.nodes[node].wakes.push(key),
                Output::Event(event) => {
                    if std::env::var_os("TRACE").is_some() {
                        eprintln!("{:.3} {node}: {event}", self.mono as f64 / 1e9);
                    }
                    self.nodes[node].events.push(event);
                }
                Output::Answer(ticket, answer) => self.nodes[node].answers.push((ticket, answer)),
                Output::Secure(conn) => self.secure(node, conn),
                Output::AbortKick(_) | Output::AbortFlush(_) | Output::Flush(_) => {}
            }
        }
        any
    }

    fn dial(&mut self, node: usize, conn: ConnId, to: DirectorId) {
        let other = (0..self.nodes.len()).find(|&other| id(other) == to && self.nodes[other].up);
        let Some(other) = other else {
            return self.input(node, Input::DialFailed(conn));
        };
        let far = self.nodes[other].ring.next_conn();
        self.nodes[node].ends.insert(conn, (other, far));
        self.nodes[other].ends.insert(far, (node, conn));
        self.input(node, Input::Connected(conn));
        let source = id(node).ip;
        self.input(other, Input::Accepted { conn: far, source });
    }

    /// What the driver does with certificates and keys is left out: both sides hear that it went well.
    fn secure(&mut self, node: usize, conn: ConnId) {
        if let Some(&(other, far)) = self.nodes[node].ends.get(&conn) {
            self.secured.push((node, other));
            self.nodes[other]
                .ring
                .unwritten()
                .for_each(|(_, bytes)| bytes.clear());
            self.input(other, Input::Secured(far));
            self.input(node, Input::Secured(conn));
        }
    }

    fn close(&mut self, node: usize, conn: ConnId, rest: &[u8]) {
        if let Some((other, far)) = self.nodes[node].ends.remove(&conn) {
            self.nodes[other].ends.remove(&far);
            self.input(other, Input::Received(far, rest));
            self.input(other, Input::Ended(far));
        }
    }

    fn bytes(&mut self, node: usize) -> bool {
        let taken: Vec<(ConnId, Vec<u8>)> = self.nodes[node]
            .ring
            .unwritten()
            .map(|(conn, bytes)| (conn, std::mem::take(bytes)))
            .collect();
        let any = !taken.is_empty();
        for (conn, bytes) in taken {
            self.input(node, Input::Written(conn, 0));
            let Some(&(other, far)) = self.nodes[node].ends.get(&conn) else {
                continue;
            };
            let mut text = String::from_utf8(bytes).unwrap();
            if self.plain {
                text = text.replace("\thoming=2", "");
            }
            if let Some((held, words)) = self.held_back
                && (held == other || held == node)
            {
                let word = |line: &str| {
                    line.trim_end()
                        .split('\t')
                        .next()
                        .unwrap_or_default()
                        .to_owned()
                };
                let keep = |line: &&str| !words.contains(&word(line).as_str());
                text = text.split_inclusive('\n').filter(keep).collect();
            }
            for line in text.lines() {
                if std::env::var_os("TRACE").is_some() {
                    eprintln!("{:.3} {node}->{other} {line}", self.mono as f64 / 1e9);
                }
                self.lines.push((node, other, line.to_owned()));
            }
            let bytes = text.into_bytes();
            self.input(other, Input::Received(far, &bytes));
        }
        any
    }

    /// Lets time pass, with everything that is due in it.
    pub(super) fn pass(&mut self, seconds: u64) {
        let end = self.mono + seconds * Mono::SECOND;
        for _ in 0..100_000 {
            let up = self.nodes.iter().filter(|node| node.up);
            let next = up.filter_map(|node| node.ring.next_deadline()).min();
            match next {
                Some(at) if at.0 <= end => {
                    self.mono = self.mono.max(at.0);
                    for node in 0..self.nodes.len() {
                        let due = self.nodes[node].ring.next_deadline();
                        if self.nodes[node].up && due.is_some_and(|at| at.0 <= self.mono) {
                            self.input(node, Input::Tick);
                        }
                    }
                    self.settle();
                }
                _ => {
                    self.mono = end;
                    return;
                }
            }
        }
        panic!("time does not pass");
    }

    /// A login at a node; what it notes is told.
    pub(super) fn login(&mut self, node: usize, hash: u32) -> Decision {
        let now = self.now();
        let key = key(hash);
        let Node { ring, users, .. } = &mut self.nodes[node];
        let snapshot = Arc::clone(ring.snapshot());
        let login = users.shards[shard_of(key.hash)].login(key, now.wall, &snapshot, || Ok(()));
        if login.note != Note::None {
            self.input(node, Input::Notes(&[key]));
            self.settle();
        }
        login.decision
    }

    /// Where a node thinks that a user lives.
    pub(super) fn home(&self, node: usize, hash: u32) -> Option<IpAddr> {
        let Node { ring, users, .. } = &self.nodes[node];
        let snapshot = ring.snapshot();
        let entry =
            users.shards[shard_of(UserHash(hash))].peek(key(hash), self.now().wall, snapshot)?;
        Some(snapshot.backend(entry.backend())?.ip)
    }

    pub(super) fn assert_whole(&self) {
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.nodes[node].up)
            .collect();
        for (at, &node) in up.iter().enumerate() {
            let ring = &self.nodes[node].ring;
            let right = up[(at + 1) % up.len()];
            let left = up[(at + up.len() - 1) % up.len()];
            let alone = up.len() == 1;
            assert_eq!(ring.right(), (!alone).then(|| id(right)), "right of {node}");
            assert_eq!(ring.left(), (!alone).then(|| id(left)), "left of {node}");
            let standing = ring.standing();
            assert!(
                standing.synced && standing.handshaked,
                "node {node}: {standing:?}"
            );
        }
    }
}

impl Ring {
    /// Carries out an order whether or not it would have to wait.
    pub(super) fn order<T: Table>(
        &mut self,
        order: &Order,
        now: Now,
        table: &mut T,
    ) -> Result<(), OrderError> {
        self.now = now;
        let done = self.carry_out_order(order, table);
        self.settle(table);
        done
    }
}

pub(super) fn key(hash: u32) -> UserKey {
    UserKey {
        tag: TagId(0),
        hash: UserHash(hash),
    }
}

pub(super) fn waits(decision: Decision) -> Option<DelayReason> {
    match decision {
        Decision::Wait(reason) => Some(reason),
        Decision::Go(_) | Decision::Refuse(_) => None,
    }
}
