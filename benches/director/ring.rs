//! What a login costs the machines of a ring of three, without sockets: notes, lines, tables.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use homing::core::ring::{ConnId, Input, Limits, Now, Output, Ring, Tls};
use homing::core::{Mono, Wall};
use homing::shell::directory::Directory;
use homing::shell::ring_io::{Driver, Machine};
use homing::wire::ring::DirectorId;

use crate::cpu_time::CpuTime;
use crate::world;

/// Users of a benchmark of the whole ring (benches/ring.py).
const USERS: u32 = 100_000;
/// Logins between two turns of the ring's thread, at 40,000 a second.
const TURN: u32 = 80;
const STRIDE: u32 = 61_193;
const LIMITS: Limits = Limits {
    ping_idle: 30 * Mono::SECOND,
    ping_max: 60 * Mono::SECOND,
    kick_delay: 2 * Mono::SECOND,
    move_limit: 30 * Mono::SECOND,
    max_parallel_moves: 100,
    max_parallel_kicks: 100,
    output_buffer: 10 << 20,
    flush_script: false,
    tls: Tls::Off,
    jitter: 0,
};

struct Node {
    driver: Driver,
    directory: Arc<Directory>,
    /// The other end of each connection.
    ends: HashMap<ConnId, (usize, ConnId)>,
}

struct Three {
    nodes: Vec<Node>,
    now: Now,
    next: u32,
}

fn id(node: usize) -> DirectorId {
    DirectorId {
        ip: IpAddr::from([127, 0, 0, node as u8 + 1]),
        port: 9090,
    }
}

impl Three {
    fn new() -> Three {
        let now = Now {
            mono: Mono(Mono::SECOND),
            wall: Wall(1_795_459_438),
        };
        let node = |number| {
            let others = (0..3).map(id);
            let ring = Ring::new(world::director(20), id(number), others, LIMITS, now);
            let directory = Arc::new(world::directory(20));
            let ring = ring.expect("few directors");
            Node {
                driver: Driver::new(ring, Arc::clone(&directory), None),
                directory,
                ends: HashMap::new(),
            }
        };
        let mut three = Three {
            nodes: (0..3).map(node).collect(),
            now,
            next: 0,
        };
        for node in 0..3 {
            three.input(node, Input::Start);
        }
        for _ in 0..100 {
            three.now.mono = three.now.mono.after(Mono::SECOND / 5);
            (0..3).for_each(|node| three.input(node, Input::Tick));
            three.settle();
        }
        for node in &three.nodes {
            let standing = node.driver.ring().standing();
            assert!(standing.synced && standing.tell, "the ring came together");
        }
        (0..USERS / TURN).for_each(|_| three.turn());
        assert!(
            three
                .nodes
                .iter()
                .all(|node| node.directory.users() > u64::from(USERS / 2))
        );
        three
    }

    fn input(&mut self, node: usize, input: Input<'_>) {
        self.nodes[node].driver.handle(input, self.now);
    }

    /// Logins at the first one, and all that follows from them.
    fn turn(&mut self) {
        // Each user comes again after some seconds, so that every login is told.
        self.now.mono = self.now.mono.after(2_000_000);
        self.now.wall = Wall(1_795_459_438 + self.now.mono.0 / Mono::SECOND);
        let Node { directory, .. } = &self.nodes[0];
        let snapshot = directory.snapshot();
        for _ in 0..TURN {
            self.next = (self.next + STRIDE) % USERS;
            let user = world::user(self.next);
            let login = directory.login(user, self.now.wall, self.now.mono, &snapshot);
            assert!(login.is_some_and(|login| login.removed == 0));
        }
        let notes = Arc::clone(directory.notes());
        let mut keys = Vec::new();
        notes.drain(usize::MAX, |key| keys.push(key));
        self.input(0, Input::Notes(&keys));
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let mut any = false;
            for node in 0..3 {
                any |= self.outputs(node) | self.bytes(node);
            }
            if !any {
                return;
            }
        }
    }

    fn outputs(&mut self, node: usize) -> bool {
        let outputs = self.nodes[node].driver.take_outputs();
        let any = !outputs.is_empty();
        for output in outputs {
            match output {
                Output::Dial(conn, to) => {
                    let other = (0..3).find(|&other| id(other) == to).expect("one of us");
                    let far = self.nodes[other].driver.next_conn();
                    self.nodes[node].ends.insert(conn, (other, far));
                    self.nodes[other].ends.insert(far, (node, conn));
                    self.input(node, Input::Connected(conn));
                    let source = id(node).ip;
                    self.input(other, Input::Accepted { conn: far, source });
                }
                Output::Close(conn, _) => {
                    if let Some((other, far)) = self.nodes[node].ends.remove(&conn) {
                        self.nodes[other].ends.remove(&far);
                        self.input(other, Input::Ended(far));
                    }
                }
                _ => {}
            }
        }
        any
    }

    fn bytes(&mut self, node: usize) -> bool {
        let mut taken: Vec<(ConnId, Vec<u8>)> = Vec::new();
        let take = &mut |conn, bytes: &mut Vec<u8>| taken.push((conn, std::mem::take(bytes)));
        self.nodes[node].driver.unwritten(take);
        let any = !taken.is_empty();
        for (conn, bytes) in taken {
            self.input(node, Input::Written(conn, 0));
            if let Some(&(other, far)) = self.nodes[node].ends.get(&conn) {
                self.input(other, Input::Received(far, &bytes));
            }
        }
        any
    }
}

pub fn bench(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("ring");
    let mut three = Three::new();
    group.throughput(Throughput::Elements(u64::from(TURN)));
    group.bench_function("eighty_logins_in_a_ring_of_three", |b| {
        b.iter(|| three.turn())
    });
    group.finish();
}
