//! One machine of the ring, to which anything happens that a driver may tell it and anything is said
//! that a peer may say: no panic, bounded memory, and no line that another director would refuse.

#![no_main]

use std::net::IpAddr;

use homing::core::ring::{ConnId, FlushResult, Input, Kick, Now, Order, Output, Request, Tls};
use homing::core::{Mono, TagId, UserKey, Wall};
use homing::wire::ring::{
    Command, DirectorId, HOMING, HandUser, HandUsers, Hash, Host, Load, Order as Line, Origin,
    Role, Sync, Versions,
};
use homing_fuzz::{Machine, Script, backend, director, user};
use libfuzzer_sys::fuzz_target;

const START: u64 = 1_790_000_000;
/// Directors of the settings, us included; a script may name a few more.
const NODES: usize = 3;
const NAMES: usize = 6;
/// Ticks at one time.
const MOST_TICKS: usize = 1000;

struct World<'a> {
    script: Script<'a>,
    machine: Machine,
    mono: u64,
    wall: u64,
    dialling: Vec<ConnId>,
    open: Vec<ConnId>,
    /// TLS is to begin: as its client, or if the peer asks for it with its first bytes.
    securing: Vec<(ConnId, Role)>,
    kicks: Vec<UserKey>,
    flushes: Vec<UserKey>,
}

// Input: whether there is TLS in one byte, then one step after the other, a byte for what happens and a few for its particulars.
fuzz_target!(|data: &[u8]| {
    let now = Now {
        mono: Mono(1),
        wall: Wall(START),
    };
    let mut script = Script(data);
    let tls = match script.below(4) {
        0 | 1 => Tls::Off,
        2 => Tls::Offered,
        _ => Tls::Required,
    };
    let mut world = World {
        script,
        machine: Machine::new(1, NODES, 4, tls, now),
        securing: Vec::new(),
        mono: 1,
        wall: START,
        dialling: Vec::new(),
        open: Vec::new(),
        kicks: Vec::new(),
        flushes: Vec::new(),
    };
    world.happens(Input::Start);
    while let Some(step) = world.script.byte() {
        world.step(step);
        world.outputs();
    }
    world.happens(Input::Leave);
    world.outputs();
    assert_eq!(world.open.len() + world.dialling.len(), 0, "it has left");
    world.machine.check_users();
});

impl World<'_> {
    fn now(&self) -> Now {
        Now {
            mono: Mono(self.mono),
            wall: Wall(self.wall),
        }
    }

    fn happens(&mut self, input: Input<'_>) {
        let now = self.now();
        self.machine.handle(input, now);
    }

    fn step(&mut self, step: u8) {
        match step % 20 {
            0 => self.accept(),
            1 => self.connected(),
            2 => {
                if let Some(conn) = pick(&mut self.script, &mut self.dialling) {
                    self.happens(Input::DialFailed(conn));
                }
            }
            3 => {
                if let Some(conn) = self.some_conn() {
                    let bytes = self.script.bytes();
                    self.receive(conn, bytes);
                }
            }
            4 => {
                if let Some(conn) = pick(&mut self.script, &mut self.open) {
                    self.securing.retain(|&(other, _)| other != conn);
                    self.happens(Input::Ended(conn));
                }
            }
            5 => self.pass(Mono::SECOND / 10),
            6 => self.pass(Mono::SECOND),
            7 => self.login(),
            8 => self.order(),
            9 => self.answer(),
            10 => {
                let now = self.now();
                self.machine.sweep(now);
            }
            11 => {
                let shard = self.user().0 >> 22;
                self.happens(Input::NotesLost(shard as usize));
            }
            12 => {
                let (now, stuck) = (self.now(), self.script.bool());
                self.machine.written(now, stuck);
            }
            13 => self.greet(),
            14 => {
                let full = self.script.bool();
                self.machine.set_full(full);
            }
            15 => {
                // The clock of the machine is set, forwards or backwards.
                let by = self.script.below(256) as u64 * 8;
                self.wall = (self.wall + by).saturating_sub(1024);
            }
            19 => self.secured(),
            _ => self.say(),
        }
    }

    fn outputs(&mut self) {
        for output in self.machine.outputs() {
            match output {
                Output::Dial(conn, _) => self.dialling.push(conn),
                Output::Secure(conn) => self.securing.push((conn, Role::Acceptor)),
                Output::Close(conn, _) => {
                    self.securing.retain(|&(other, _)| other != conn);
                    self.dialling.retain(|&other| other != conn);
                    self.open.retain(|&other| other != conn);
                }
                Output::Kick(Kick::Moved(key)) => self.kicks.push(key),
                Output::AbortKick(key) => self.kicks.retain(|&other| other != key),
                Output::Flush(flush) => self.flushes.push(flush.key),
                Output::AbortFlush(key) => self.flushes.retain(|&other| other != key),
                Output::Kick(_) | Output::Wake(_) | Output::Event(_) | Output::Answer(..) => {}
            }
        }
    }

    fn accept(&mut self) {
        let conn = self.machine.ring.next_conn();
        let source = director(self.script.below(NAMES)).ip;
        self.open.push(conn);
        self.securing.push((conn, Role::Dialler));
        self.happens(Input::Accepted { conn, source });
    }

    fn connected(&mut self) {
        if let Some(conn) = pick(&mut self.script, &mut self.dialling) {
            self.open.push(conn);
            self.happens(Input::Connected(conn));
        }
    }

    fn secured(&mut self) {
        if let Some((conn, role)) = pick(&mut self.script, &mut self.securing) {
            let now = self.now();
            self.machine.secured(conn, role, now);
        }
    }

    fn some_conn(&mut self) -> Option<ConnId> {
        let at = self.script.below(self.open.len().max(1));
        self.open.get(at).copied()
    }

    fn pass(&mut self, unit: u64) {
        let by = unit * self.script.below(256) as u64;
        self.mono += by;
        self.wall += by / Mono::SECOND;
        // What is due may be followed by something else that is due at once, but not for ever.
        for _ in 0..MOST_TICKS {
            self.happens(Input::Tick);
            self.outputs();
            let due = self.machine.ring.next_deadline();
            if due.is_none_or(|at| at.0 > self.mono) {
                return;
            }
        }
        panic!("it would be called for ever");
    }

    fn login(&mut self) {
        let tag = TagId(self.script.below(2) as u16);
        let key = UserKey {
            tag,
            hash: self.user(),
        };
        let (now, told) = (self.now(), self.script.bool());
        self.machine.login(key, now, told);
    }

    /// Sessions were ended, or a flush script has.
    fn answer(&mut self) {
        if let Some(key) = pick(&mut self.script, &mut self.kicks) {
            return self.happens(Input::Kicked(key));
        }
        if let Some(key) = pick(&mut self.script, &mut self.flushes) {
            let result = if self.script.bool() {
                FlushResult::Succeeded
            } else {
                FlushResult::Failed
            };
            return self.happens(Input::Flushed(key, result));
        }
        let now = self.now();
        self.machine.kick_over(now);
    }

    fn order(&mut self) {
        let host = self.host();
        let now = self.now();
        let order = match self.script.below(16) {
            12 => Order::UpdateBackend {
                ip: host,
                tag: self.script.bool().then(|| self.script.bytes().to_vec()),
                vhosts: self.script.bool().then(|| self.script.below(200) as u32),
            },
            13 => Order::RemoveDirectorAt(self.director().ip),
            14 => return self.machine.request(&Request::ForgetAll, now),
            15 => {
                let kick = Request::KickNoWait(Order::KickUser(self.name()));
                return self.machine.request(&kick, now);
            }
            0 => Order::SetBackend {
                ip: host,
                tag: self.script.bool().then(|| self.script.bytes().to_vec()),
                vhosts: self.script.bool().then(|| self.script.below(200) as u32),
            },
            1 => Order::Up(host),
            2 => Order::Down(host),
            3 => Order::Remove(host),
            4 => Order::ForgetUsers(host),
            5 => Order::Move(self.user(), host),
            6 => Order::KickUser(self.name()),
            7 => Order::KickAlt(self.script.bytes().to_vec(), self.name()),
            8 => Order::KickHash(self.user(), host),
            9 => Order::AddDirector(self.director()),
            10 => Order::RemoveDirector(self.director()),
            _ => {
                let (host, max) = (self.script.bool().then_some(host), self.script.below(4));
                let max = Some(max);
                return self
                    .machine
                    .request(&Request::ResetUsers { host, max }, now);
            }
        };
        self.machine.request(&Request::Order(order), now);
    }

    /// A text that is sometimes too long for a line.
    fn name(&mut self) -> Vec<u8> {
        let bytes = self.script.bytes();
        bytes.repeat(1 + self.script.below(8))
    }

    fn host(&mut self) -> IpAddr {
        backend(self.script.below(6))
    }

    fn director(&mut self) -> DirectorId {
        director(self.script.below(NAMES))
    }

    fn user(&mut self) -> homing::core::UserHash {
        user(self.script.below(8))
    }

    /// The first two lines of a peer, as a director of some version says them.
    fn greet(&mut self) {
        let Some(conn) = self.some_conn() else {
            return;
        };
        let (version, who) = (self.script.below(64) as u32, self.director());
        let version = Command::Version {
            minor: version % 16,
            homing: if version & 16 == 0 { HOMING } else { 0 },
            tls: version & 32 == 32,
            joining: version & 8 == 8,
        };
        let me = Command::Me {
            id: who,
            time: self.script.bool().then_some(self.wall),
        };
        self.tell(conn, &[version, me]);
    }

    /// A peer says something, right or wrong at this time.
    fn say(&mut self) {
        let Some(conn) = self.some_conn() else {
            return;
        };
        let (id, host) = (self.director(), self.host());
        let Some(hash) = Hash::new(self.user().0) else {
            return;
        };
        let number = self.script.below(256) as u32;
        let time = self.wall.saturating_sub(u64::from(number)) as u32;
        let origin = Origin {
            director: id,
            seq: number,
        };
        let order = |order| Command::Order(origin, order);
        let command = match self.script.below(28) {
            0 => Command::Done,
            1 => Command::Options,
            2 => Command::HostHandStart(number & 1 == 1),
            3 => Command::HostHandEnd(number & 1 == 1),
            4 => Command::HandHost(self.told_host(host, number)),
            5 => Command::HandUser(HandUser {
                hash,
                host,
                time,
                weak: number & 1 == 1,
            }),
            6 => {
                let mut users = HandUsers::new(host, time);
                (0..8)
                    .filter_map(|n| Hash::new(user(n).0))
                    .for_each(|hash| {
                        users.push(hash, time + number);
                    });
                match number & 1 {
                    0 => Command::HandUsers(users),
                    _ => Command::Users(users),
                }
            }
            7 => Command::Ask {
                hash,
                tag: if number & 1 == 1 { b"east" } else { &b""[..] }.into(),
            },
            8 => Command::Ping(None),
            9 => Command::Pong(Some(Load {
                time: self.wall,
                waiting: 1,
            })),
            10 => Command::Connect(id),
            11 => Command::Quit(self.script.bytes().into()),
            12 => Command::Director(id),
            13 => Command::DirectorRemove(id),
            14 | 15 => Command::Sync(self.sync(id, number)),
            16 => Command::User {
                hash,
                host,
                time: Some(time.into()),
            },
            17 => Command::User {
                hash,
                host,
                time: None,
            },
            18 => Command::UserKilled(hash),
            19 => order(Line::UserWeak { hash, host }),
            20 => order(Line::Host(self.told_host(host, number))),
            21 => order(Line::HostRemove(host)),
            22 => order(Line::HostFlush(host)),
            23 => order(Line::UserMove { hash, host }),
            24 => order(Line::UserKick(self.name().into())),
            25 => order(Line::UserKickAlt {
                field: self.script.bytes().into(),
                value: self.name().into(),
            }),
            26 => order(Line::UserKickHash { hash, except: host }),
            _ => order(Line::UserKilledEverywhere(hash)),
        };
        self.tell(conn, &[command]);
    }

    fn told_host(&mut self, ip: IpAddr, number: u32) -> Host<'static> {
        let tag = match self.script.below(8) {
            0 => b"east".to_vec(),
            1 => self.name(),
            _ => Vec::new(),
        };
        Host {
            ip,
            vhosts: number,
            tag: tag.into(),
            down: self.script.bool(),
            changed: self.wall.saturating_sub(u64::from(number)),
            name: self.script.bool().then(|| self.name().into()),
        }
    }

    /// Somebody's round, or ours, with the hash of hosts that we have or another one.
    fn sync(&mut self, director: DirectorId, seq: u32) -> Sync {
        let ours = self.machine.ring.backends().hosts_hash();
        let hosts_hash = if self.script.bool() { ours } else { seq };
        Sync {
            director,
            seq: seq % 16,
            minor: 9,
            time: Some(self.wall as u32),
            hosts_hash,
        }
    }

    fn tell(&mut self, conn: ConnId, commands: &[Command<'_>]) {
        let versions = Versions { peer: 9, ring: 9 };
        let mut bytes = Vec::new();
        for command in commands {
            // Too long for a line is a matter of the writer; the fuzzer has raw bytes for that.
            let _ = command.write(versions, &mut bytes);
        }
        self.receive(conn, &bytes);
    }

    /// While we begin TLS nothing is for the machine; a peer that has begun otherwise wants none.
    fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        if self.securing.contains(&(conn, Role::Acceptor)) {
            return;
        }
        self.securing.retain(|&(other, _)| other != conn);
        self.happens(Input::Received(conn, bytes));
    }
}

/// Takes one of a few out.
fn pick<T: Copy>(script: &mut Script<'_>, from: &mut Vec<T>) -> Option<T> {
    if from.is_empty() {
        return None;
    }
    Some(from.swap_remove(script.below(from.len())))
}
