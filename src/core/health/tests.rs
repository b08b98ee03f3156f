//! Directors that check the same backends: what they order, alone and together.
//!
//! [`World`] has any number of directors, each a real [`Health`]. Links, rings and what probes see are switches;
//! an order changes the lists of all directors that are in one ring with whoever gave it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;

use super::decide::{FLUSH_AGAIN, TELL, needed, share};
use super::told::Told;
use super::*;
use crate::core::ring::{Level, Order};
use crate::wire::health::STEPS;
use crate::wire::line::Splitter;

mod alone;
mod together;

/// How often everybody looks.
const TICK: u64 = Mono::SECOND / 4;
const RHYTHM: Rhythm = Rhythm {
    interval: Mono::SECOND,
    rise: 2,
    fall: 3,
};
/// Three failed probes, and what follows.
const SOON: u64 = 8;

fn policy() -> Policy {
    Policy {
        checks: vec![Plan {
            name: "imap".to_owned(),
            rhythm: RHYTHM,
            tag: None,
            backends: BTreeSet::new(),
        }],
        quorum: 0,
        floor: 50,
        slow_start: 0,
        act: true,
    }
}

fn director(n: usize) -> DirectorId {
    DirectorId {
        ip: [10, 0, 0, 41 + n as u8].into(),
        port: 9090,
    }
}

fn ip(n: u8) -> IpAddr {
    [10, 1, 0, n].into()
}

struct Node {
    health: Health,
    list: BTreeMap<IpAddr, Backend>,
    /// Backends that its probes cannot reach.
    blind: BTreeSet<IpAddr>,
    told: BTreeMap<usize, Told>,
    news: u64,
    alive: bool,
    /// Directors with another number are in another ring.
    ring: u8,
    /// Directors with another number cannot be reached.
    net: u8,
    /// What it has ordered.
    ordered: Vec<Request>,
    said: Vec<(Level, String)>,
}

struct World {
    nodes: Vec<Node>,
    now: Mono,
    /// A Dovecot director in every ring.
    dovecot: bool,
    random: u64,
}

impl World {
    fn new(directors: usize, backends: u8, policy: &Policy) -> World {
        let list: BTreeMap<IpAddr, Backend> = (1..=backends)
            .map(|n| {
                let backend = Backend {
                    tag: Vec::new(),
                    vhosts: 100,
                    down: false,
                    changed: Wall(0),
                    users: 10,
                };
                (ip(n), backend)
            })
            .collect();
        let node = |_| Node {
            health: Health::new(policy.clone()),
            list: list.clone(),
            blind: BTreeSet::new(),
            told: BTreeMap::new(),
            news: 0,
            alive: true,
            ring: 0,
            net: 0,
            ordered: Vec::new(),
            said: Vec::new(),
        };
        World {
            nodes: (0..directors).map(node).collect(),
            now: Mono(0),
            dovecot: false,
            random: 1,
        }
    }

    fn wall(&self) -> Wall {
        Wall(1_000 + self.now.0 / Mono::SECOND)
    }

    fn view(&self, at: usize) -> View {
        let directors: BTreeSet<DirectorId> = (0..self.nodes.len()).map(director).collect();
        let near = |other: &usize| {
            let node = &self.nodes[*other];
            *other != at && node.alive && node.ring == self.nodes[at].ring
        };
        let count = self.nodes.len();
        let right = (1..count).map(|n| (at + n) % count).find(near);
        let left = (1..count).map(|n| (at + count - n) % count).find(near);
        let mut neighbours: Vec<(DirectorId, bool)> = [left, right]
            .into_iter()
            .flatten()
            .map(|n| (director(n), true))
            .collect();
        let joined = !neighbours.is_empty() || count == 1;
        if self.dovecot {
            neighbours[0] = (director(200), false);
        }
        View {
            me: director(at),
            directors,
            neighbours,
            handshaked: true,
            joined,
            backends: self.nodes[at].list.clone(),
        }
    }

    /// So many seconds pass.
    fn run(&mut self, seconds: u64) {
        self.run_ticks(seconds * Mono::SECOND / TICK);
    }

    fn run_ticks(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.now = self.now.after(TICK);
            for at in 0..self.nodes.len() {
                if self.nodes[at].alive {
                    self.tick(at);
                }
            }
        }
    }

    fn tick(&mut self, at: usize) {
        let (now, wall, view) = (self.now, self.wall(), self.view(at));
        let mut random = self.random;
        let mut next = move || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(7);
            random >> 33
        };
        self.random = self.random.wrapping_add(0x9e37_79b9);
        let node = &mut self.nodes[at];
        let steps = node.health.look(view, &mut next, now, wall);
        for probe in node.health.due(100, &mut next, now) {
            let result = match node.blind.contains(&probe.ip) {
                true => Err("refused".to_owned()),
                false => Ok(()),
            };
            node.health.probed(probe, result, wall);
        }
        for step in steps {
            match step {
                Step::Say(level, text) => self.nodes[at].said.push((level, text)),
                Step::Ask(request) => self.carry_out(at, request),
            }
        }
        let news = self.nodes[at].health.news();
        if now.0.is_multiple_of(Mono::SECOND) || news != self.nodes[at].news {
            self.nodes[at].news = news;
            self.talk(at);
        }
    }

    fn carry_out(&mut self, at: usize, request: Request) {
        let (ring, wall) = (self.nodes[at].ring, self.wall());
        for node in self
            .nodes
            .iter_mut()
            .filter(|it| it.ring == ring && it.alive)
        {
            let (ip, change): (IpAddr, Change) = match &request {
                Request::Order(Order::Down(ip)) => (*ip, state(true, wall)),
                Request::Order(Order::Up(ip)) => (*ip, state(false, wall)),
                Request::Order(Order::UpdateBackend { ip, vhosts, .. }) => {
                    let vhosts = vhosts.unwrap();
                    (*ip, Box::new(move |it| it.vhosts = vhosts))
                }
                Request::ResetUsers { host, max: None } => {
                    (host.unwrap(), Box::new(|it| it.users = 0))
                }
                other => panic!("health orders {other:?}"),
            };
            change(node.list.get_mut(&ip).unwrap());
        }
        self.nodes[at].ordered.push(request);
    }

    /// Everything that a director has to say to the others.
    fn talk(&mut self, from: usize) {
        for to in 0..self.nodes.len() {
            if to == from {
                continue;
            }
            let reaches = self.nodes[to].alive && self.nodes[to].net == self.nodes[from].net;
            if !reaches {
                self.nodes[from].told.remove(&to);
                self.nodes[to].health.lost(director(from));
                continue;
            }
            let mut bytes = Vec::new();
            let node = &mut self.nodes[from];
            node.told
                .entry(to)
                .or_default()
                .say(&node.health, &mut bytes);
            let now = self.now;
            let health = &mut self.nodes[to].health;
            let fed = Splitter::default().feed(&bytes, 1024, |line| {
                let line = Line::parse(line).unwrap().unwrap();
                health.heard(director(from), &line, now);
            });
            fed.unwrap();
        }
    }

    /// The process ends; what it knew is gone.
    fn kill(&mut self, at: usize) {
        self.nodes[at].alive = false;
        for other in &mut self.nodes {
            other.told.remove(&at);
            other.health.lost(director(at));
        }
    }

    /// It starts again, and joins the ring of another one.
    fn start(&mut self, at: usize, beside: usize) {
        let policy = self.nodes[at].health.policy().clone();
        let (list, ring, net) = {
            let other = &self.nodes[beside];
            (other.list.clone(), other.ring, other.net)
        };
        let node = &mut self.nodes[at];
        node.health = Health::new(policy);
        (node.list, node.ring, node.net, node.alive) = (list, ring, net, true);
        node.told.clear();
    }

    /// All directors lose their power. Each begins again with its state on disk: the backends as they were, and marks.
    fn power_cut(&mut self) {
        for node in &mut self.nodes {
            let marks = node.health.all_marks();
            node.health = Health::new(node.health.policy().clone()).recalling(marks);
            node.told.clear();
            node.news = 0;
        }
    }

    fn fail(&mut self, backend: u8) {
        for node in &mut self.nodes {
            node.blind.insert(ip(backend));
        }
    }

    fn mend(&mut self, backend: u8) {
        for node in &mut self.nodes {
            node.blind.remove(&ip(backend));
        }
    }

    fn down(&self, at: usize) -> Vec<u8> {
        let list = self.nodes[at].list.iter();
        let down = list.filter(|(_, it)| it.down);
        down.map(|(ip, _)| match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        })
        .collect()
    }

    fn orders(&self) -> usize {
        self.nodes.iter().map(|node| node.ordered.len()).sum()
    }

    fn decision(&self, at: usize, backend: u8) -> String {
        let rows = self.nodes[at].health.rows(self.now);
        let row = rows.iter().find(|row| row.ip == ip(backend)).unwrap();
        row.decision.to_string()
    }

    fn weight(&self, backend: u8) -> u32 {
        self.nodes[0].list[&ip(backend)].vhosts
    }
}

type Change = Box<dyn Fn(&mut Backend)>;

fn state(down: bool, at: Wall) -> Change {
    Box::new(move |it| {
        if it.down != down {
            (it.down, it.changed) = (down, at);
        }
    })
}

fn slow(seconds: u64) -> Policy {
    Policy {
        slow_start: seconds * Mono::SECOND,
        ..policy()
    }
}
