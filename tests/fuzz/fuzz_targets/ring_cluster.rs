//! Three machines of the ring, joined by streams that are slow, cut and blocked, with logins, orders and
//! restarts meanwhile: no panic, and when all is well again for two minutes the ring is whole and of
//! one mind.

#![no_main]

use homing::core::ring::{ConnId, FlushResult, Input, Kick, Now, Order, Output, Request, Tls};
use homing::core::users::Decision;
use homing::core::{Mono, TagId, UserKey, Wall};
use homing::wire::ring::{DirectorId, Role};
use homing_fuzz::{Machine, Script, backend, director, user};
use libfuzzer_sys::fuzz_target;

const START: u64 = 1_790_000_000;
const NODES: usize = 3;
const BACKENDS: usize = 3;
const USERS: usize = 8;
/// A longer script only repeats itself.
const MOST_STEPS: usize = 300;
/// How long faults may take to heal.
const HEALING: u64 = 120;

/// One direction of a connection.
#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    /// Nothing follows.
    ended: bool,
}

/// A connection, or what is left of it.
#[derive(Debug)]
struct Link {
    nodes: [usize; 2],
    conns: [ConnId; 2],
    /// What is on its way to each end.
    towards: [Stream; 2],
    /// Whether each end still has its connection.
    open: [bool; 2],
}

struct World {
    mono: u64,
    nodes: [Option<Machine>; NODES],
    links: Vec<Link>,
    dialling: Vec<(usize, ConnId, DirectorId)>,
    answers: Vec<(usize, Answer)>,
    /// Between a node and the next one nothing is delivered.
    blocked: [bool; NODES],
    tls: [Tls; NODES],
    trace: bool,
}

/// What the rest of a director owes its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Kicked(UserKey),
    KickOver,
    Flushed(UserKey),
}

// Input: who has TLS in one byte, then one step after the other, a byte for what happens and one or two for its particulars.
fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let tls = match script.below(4) {
        0 | 1 => [Tls::Off; NODES],
        2 => [Tls::Offered; NODES],
        _ => [Tls::Off, Tls::Offered, Tls::Offered],
    };
    let mut world = World {
        mono: 1,
        nodes: [None, None, None],
        links: Vec::new(),
        dialling: Vec::new(),
        answers: Vec::new(),
        blocked: [false; NODES],
        tls,
        trace: std::env::var_os("TRACE").is_some(),
    };
    for node in 0..NODES {
        world.start(node);
    }
    world.pass(5 * Mono::SECOND);
    for _ in 0..MOST_STEPS {
        let Some(step) = script.byte() else {
            break;
        };
        world.step(step, &mut script);
        world.outputs();
    }
    world.heal();
    world.assert_whole();
    world.assert_of_one_mind();
});

impl World {
    fn now(&self) -> Now {
        Now {
            mono: Mono(self.mono),
            wall: Wall(START + self.mono / Mono::SECOND),
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step % 16 {
            0..=2 => {
                let (node, hash) = (script.below(NODES), user(script.below(USERS)));
                self.login(node, hash);
            }
            3 | 4 => self.order(script),
            5 => self.kill(script.below(NODES)),
            6 => self.start(script.below(NODES)),
            7 => self.leave(script.below(NODES)),
            8 => self.pass(Mono::SECOND * script.below(64) as u64),
            9 => self.pass(Mono::SECOND / 100 * script.below(256) as u64),
            10 => {
                self.mono += Mono::SECOND / 10 * script.below(256) as u64;
                self.tick();
            }
            11 | 12 => {
                let at = script.below(self.links.len().max(1));
                let (end, most) = (script.below(2), script.below(256) * 8);
                self.deliver(at, end, most);
            }
            13 => self.settle(),
            14 => {
                let at = script.below(self.links.len().max(1));
                self.cut(at);
            }
            _ => {
                let (pair, blocked) = (script.below(NODES), script.bool());
                self.blocked[pair] = blocked;
            }
        }
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].is_some() {
            return;
        }
        self.note(|| format!("{node} starts"));
        self.nodes[node] = Some(Machine::new(
            node,
            NODES,
            BACKENDS,
            self.tls[node],
            self.now(),
        ));
        self.happens(node, Input::Start);
    }

    fn kill(&mut self, node: usize) {
        self.note(|| format!("{node} is killed"));
        self.nodes[node] = None;
        self.dialling.retain(|&(from, ..)| from != node);
        self.answers.retain(|&(from, _)| from != node);
        for link in &mut self.links {
            for end in [0, 1] {
                if link.nodes[end] == node {
                    link.open[end] = false;
                    link.towards[1 - end].ended = true;
                }
            }
        }
    }

    fn leave(&mut self, node: usize) {
        self.happens(node, Input::Leave);
        self.node_outputs(node);
        self.kill(node);
    }

    fn happens(&mut self, node: usize, input: Input<'_>) {
        let now = self.now();
        if let Some(machine) = &mut self.nodes[node] {
            machine.handle(input, now);
        }
    }

    fn login(&mut self, node: usize, hash: homing::core::UserHash) {
        let now = self.now();
        let key = UserKey {
            tag: TagId(0),
            hash,
        };
        if let Some(machine) = &mut self.nodes[node] {
            let decision = machine.login(key, now, true);
            self.note(|| format!("{node} login of {}: {decision:?}", hash.0));
            if let Decision::Go(_) = decision {
                self.outputs();
            }
        }
    }

    fn order(&mut self, script: &mut Script<'_>) {
        let (node, host) = (script.below(NODES), backend(script.below(BACKENDS + 1)));
        let now = self.now();
        let order = match script.below(9) {
            0 => Order::SetBackend {
                ip: host,
                tag: None,
                vhosts: Some(script.below(4) as u32),
            },
            1 => Order::Up(host),
            2 => Order::Down(host),
            3 => Order::Remove(host),
            4 => Order::ForgetUsers(host),
            5 | 6 => Order::Move(user(script.below(USERS)), host),
            7 => Order::KickUser(b"somebody".to_vec()),
            _ => {
                self.note(|| format!("{node} resets all users"));
                let reset = Request::ResetUsers {
                    host: None,
                    max: Some(2),
                };
                if let Some(machine) = &mut self.nodes[node] {
                    machine.request(&reset, now);
                }
                return;
            }
        };
        self.note(|| format!("{node} order {order:?}"));
        if let Some(machine) = &mut self.nodes[node] {
            machine.request(&Request::Order(order), now);
        }
    }

    /// Both ends find that the connection is gone; what was on its way is lost.
    fn cut(&mut self, at: usize) {
        if let Some(link) = self.links.get_mut(at) {
            for stream in &mut link.towards {
                stream.bytes.clear();
                stream.ended = true;
            }
        }
    }

    fn is_blocked(&self, a: usize, b: usize) -> bool {
        let first = if (a + 1) % NODES == b { a } else { b };
        self.blocked[first]
    }

    /// What the machines have to do and to say, up to the wire.
    fn outputs(&mut self) {
        for _ in 0..1000 {
            let any = (0..NODES).any(|node| self.node_outputs(node) | self.node_bytes(node));
            if !any {
                return;
            }
        }
        panic!("a machine does not become quiet");
    }

    fn node_outputs(&mut self, node: usize) -> bool {
        let Some(machine) = &mut self.nodes[node] else {
            return false;
        };
        let outputs = machine.outputs();
        let any = !outputs.is_empty();
        for output in outputs {
            match output {
                Output::Dial(conn, to) => self.dialling.push((node, conn, to)),
                Output::Secure(conn) => self.secure(node, conn),
                Output::Close(conn, rest) => self.close(node, conn, &rest),
                Output::Kick(Kick::Moved(key)) => self.answers.push((node, Answer::Kicked(key))),
                Output::Flush(flush) => self.answers.push((node, Answer::Flushed(flush.key))),
                Output::AbortKick(key) => {
                    self.answers.retain(|it| *it != (node, Answer::Kicked(key)))
                }
                Output::AbortFlush(key) => {
                    self.answers
                        .retain(|it| *it != (node, Answer::Flushed(key)));
                }
                Output::Event(event) => self.note(|| format!("{node}: {event}")),
                Output::Kick(_) => self.answers.push((node, Answer::KickOver)),
                Output::Wake(_) | Output::Answer(..) => {}
            }
        }
        any
    }

    fn node_bytes(&mut self, node: usize) -> bool {
        let now = self.now();
        let Some(machine) = &mut self.nodes[node] else {
            return false;
        };
        let written = machine.written(now, false);
        let any = !written.is_empty();
        for (conn, bytes) in written {
            self.send(node, conn, &bytes);
        }
        any
    }

    /// The link of a connection, and which end it is.
    fn find(&self, node: usize, conn: ConnId) -> Option<(usize, usize)> {
        self.links.iter().enumerate().find_map(|(at, link)| {
            let is_it = |end: &usize| {
                link.open[*end] && (link.nodes[*end], link.conns[*end]) == (node, conn)
            };
            [0, 1].into_iter().find(is_it).map(|end| (at, end))
        })
    }

    fn send(&mut self, node: usize, conn: ConnId, bytes: &[u8]) {
        if let Some((at, end)) = self.find(node, conn) {
            let link = &mut self.links[at];
            let to = link.nodes[1 - end];
            let stream = &mut link.towards[1 - end];
            if !stream.ended {
                stream.bytes.extend_from_slice(bytes);
            }
            self.note(|| {
                let text = String::from_utf8_lossy(bytes);
                format!(
                    "{node}->{to} {conn:?} {}",
                    text.trim_end().replace('\n', " | ")
                )
            });
        }
    }

    fn close(&mut self, node: usize, conn: ConnId, rest: &[u8]) {
        self.dialling
            .retain(|&(from, other, _)| (from, other) != (node, conn));
        self.send(node, conn, rest);
        if let Some((at, end)) = self.find(node, conn) {
            let link = &mut self.links[at];
            link.open[end] = false;
            link.towards[1 - end].ended = true;
        }
    }

    /// Both ends begin anew; what was on its way is not for them any more.
    fn secure(&mut self, node: usize, conn: ConnId) {
        let Some((at, end)) = self.find(node, conn) else {
            return;
        };
        let link = &mut self.links[at];
        let (nodes, conns) = (link.nodes, link.conns);
        let is_whole = link.open == [true, true] && link.towards.iter().all(|it| !it.ended);
        if !is_whole || self.is_blocked(nodes[0], nodes[1]) {
            return self.cut(at);
        }
        let roles = [Role::Acceptor, Role::Dialler];
        let now = self.now();
        for (side, role) in [(end, roles[0]), (1 - end, roles[1])] {
            self.links[at].towards[side].bytes.clear();
            if let Some(machine) = &mut self.nodes[nodes[side]] {
                machine.secured(conns[side], role, now);
            }
        }
    }

    /// Up to so many bytes arrive at one end, and then the end of the stream.
    fn deliver(&mut self, at: usize, end: usize, most: usize) -> bool {
        let Some(link) = self.links.get_mut(at) else {
            return false;
        };
        let (node, conn) = (link.nodes[end], link.conns[end]);
        if !link.open[end] {
            link.towards[end].bytes.clear();
            return false;
        }
        let [a, b] = link.nodes;
        if self.is_blocked(a, b) {
            return false;
        }
        let stream = &mut self.links[at].towards[end];
        let count = most.min(stream.bytes.len());
        let bytes: Vec<u8> = stream.bytes.drain(..count).collect();
        let over = stream.bytes.is_empty() && stream.ended;
        if !bytes.is_empty() {
            self.happens(node, Input::Received(conn, &bytes));
            self.outputs();
        }
        if over && self.links[at].open[end] {
            let link = &mut self.links[at];
            link.open[end] = false;
            link.towards[1 - end].ended = true;
            self.happens(node, Input::Ended(conn));
            self.outputs();
        }
        over || !bytes.is_empty()
    }

    fn dial_all(&mut self) -> bool {
        let mut any = false;
        for (node, conn, to) in std::mem::take(&mut self.dialling) {
            let other = (0..NODES).find(|&other| director(other) == to);
            match other {
                Some(other) if self.is_blocked(node, other) => {
                    // Nobody answers; the machine gives up by itself.
                    self.dialling.push((node, conn, to));
                    continue;
                }
                Some(other) if self.nodes[other].is_some() => self.join(node, conn, other),
                _ => self.happens(node, Input::DialFailed(conn)),
            }
            any = true;
            self.outputs();
        }
        any
    }

    fn join(&mut self, node: usize, conn: ConnId, other: usize) {
        let Some(machine) = &mut self.nodes[other] else {
            return;
        };
        let far = machine.ring.next_conn();
        self.links.push(Link {
            nodes: [node, other],
            conns: [conn, far],
            towards: [Stream::default(), Stream::default()],
            open: [true, true],
        });
        self.happens(node, Input::Connected(conn));
        let source = director(node).ip;
        self.happens(other, Input::Accepted { conn: far, source });
    }

    /// Everything that is on its way arrives, where nothing is blocked.
    fn settle(&mut self) {
        for _ in 0..2000 {
            self.outputs();
            let mut any = self.dial_all();
            for at in 0..self.links.len() {
                any |= self.deliver(at, 0, usize::MAX) | self.deliver(at, 1, usize::MAX);
            }
            self.links.retain(|link| link.open != [false, false]);
            for (node, answer) in std::mem::take(&mut self.answers) {
                any = true;
                match answer {
                    Answer::Kicked(key) => self.happens(node, Input::Kicked(key)),
                    Answer::KickOver => self.happens(node, Input::KickOver),
                    Answer::Flushed(key) => {
                        self.happens(node, Input::Flushed(key, FlushResult::Succeeded));
                    }
                }
            }
            if !any {
                return;
            }
        }
        panic!("the ring does not become quiet");
    }

    fn next_deadline(&self) -> Option<u64> {
        let up = self.nodes.iter().flatten();
        up.filter_map(|machine| machine.ring.next_deadline())
            .map(|at| at.0)
            .min()
    }

    fn tick(&mut self) {
        for node in 0..NODES {
            self.happens(node, Input::Tick);
        }
        self.outputs();
    }

    /// Time goes by, with everything that is due in it, and everything arrives at once.
    fn pass(&mut self, nanos: u64) {
        let end = self.mono + nanos;
        self.settle();
        for _ in 0..20_000 {
            match self.next_deadline() {
                Some(at) if at <= end => {
                    self.mono = self.mono.max(at);
                    self.tick();
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

    fn heal(&mut self) {
        self.note(|| "healing".to_owned());
        self.blocked = [false; NODES];
        for node in 0..NODES {
            self.start(node);
        }
        self.pass(HEALING * Mono::SECOND);
    }

    fn machine(&self, node: usize) -> &Machine {
        self.nodes[node].as_ref().expect("all are up")
    }

    fn assert_whole(&self) {
        for node in 0..NODES {
            let ring = &self.machine(node).ring;
            let standing = ring.standing();
            assert!(
                standing.synced && standing.handshaked,
                "{node}: {standing:?}"
            );
            assert_eq!(
                ring.right(),
                Some(director((node + 1) % NODES)),
                "right of {node}"
            );
            assert_eq!(
                ring.left(),
                Some(director((node + 2) % NODES)),
                "left of {node}"
            );
            self.machine(node).check_users();
        }
    }

    fn assert_of_one_mind(&mut self) {
        let hosts = |node: usize| {
            let backends = self.machine(node).ring.backends();
            let all = backends.iter();
            all.map(|it| (it.ip, it.vhosts, it.down))
                .collect::<Vec<_>>()
        };
        for node in 1..NODES {
            assert_eq!(hosts(0), hosts(node), "backends of 0 and {node}");
        }
        // Who was not heard of logs in everywhere: then everybody has heard of everybody.
        for n in 0..USERS {
            for node in 0..NODES {
                self.pass(Mono::SECOND);
                self.login(node, user(n));
                self.settle();
            }
        }
        self.pass(5 * Mono::SECOND);
        let wall = self.now().wall;
        for hash in (0..USERS).map(user) {
            let home = |node: usize| self.machine(node).home(hash, wall);
            for node in 1..NODES {
                assert_eq!(home(0), home(node), "user {} at 0 and {node}", hash.0);
            }
        }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:9.3} {}", self.mono as f64 / 1e9, what());
        }
    }
}
