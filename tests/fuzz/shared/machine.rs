//! One machine of the ring, with its users.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use homing::core::director::{Config, Director, Seed};
use homing::core::ring::{
    ConnId, Input, Kick, Limits, MAX_REQUESTS, Now, Output, Request, Ring, Table, Ticket, Tls,
};
use homing::core::snapshot::Snapshot;
use homing::core::user_hash::Template;
use homing::core::users::{Decision, Note, SHARDS, Shard, shard_of};
use homing::core::{Mono, Refusal, TagId, UserHash, UserKey, Wall};
use homing::wire::ring::{DirectorId, Role};

use crate::Reader;

/// Those of the defaults, but for a buffer and a number of kicks that a fuzzer can fill, and a flush
/// script.
pub const LIMITS: Limits = Limits {
    ping_idle: 30 * Mono::SECOND,
    ping_max: 60 * Mono::SECOND,
    kick_delay: 2 * Mono::SECOND,
    move_limit: 30 * Mono::SECOND,
    max_parallel_moves: 100,
    max_parallel_kicks: 2,
    output_buffer: 32 << 10,
    flush_script: true,
    tls: Tls::Off,
    jitter: 0,
};
/// What may be written behind a full buffer before its connection is closed: one input's answers.
const SLACK: usize = 256 << 10;
/// What a machine may hold for strangers, and for each director; S7 says the same of all together.
const MOST_CONNS: usize = 128;

/// The name of a director.
pub fn director(node: usize) -> DirectorId {
    DirectorId {
        ip: IpAddr::from([127, 0, 0, node as u8 + 1]),
        port: 9090,
    }
}

/// The address of a backend.
pub fn backend(n: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, n as u8 + 1])
}

/// One of a few users, in different shards.
pub fn user(n: usize) -> UserHash {
    UserHash((n as u32).wrapping_mul(800_000_011).wrapping_add(7))
}

/// The user table, as the ring's core and the lookup cores share it.
#[derive(Debug)]
struct Users {
    shards: Vec<Shard>,
    published: u64,
    full: bool,
    touched: BTreeSet<usize>,
}

impl Table for Users {
    fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        assert!(snapshot.generation > self.published, "S6");
        self.published = snapshot.generation;
    }

    fn with<R>(&mut self, shard: usize, action: impl FnOnce(&mut Shard) -> R) -> R {
        let done = action(&mut self.shards[shard]);
        // All are looked at whenever somebody joins.
        if !self.shards[shard].is_empty() {
            self.touched.insert(shard);
        }
        done
    }

    fn room(&self) -> Result<(), Refusal> {
        if self.full {
            return Err(Refusal::TableFull);
        }
        Ok(())
    }
}

/// The machine, its users, and who reads at the other end of each connection.
#[derive(Debug)]
pub struct Machine {
    /// To be looked at; what happens to it goes through [`Machine::handle`].
    pub ring: Ring,
    users: Users,
    readers: BTreeMap<ConnId, Reader>,
    /// Requests that were not answered.
    asked: BTreeSet<Ticket>,
    tickets: u64,
    /// Kicks that are not carried out.
    kicks: usize,
}

impl Machine {
    /// One of `nodes` directors, with backends of the settings.
    pub fn new(node: usize, nodes: usize, backends: usize, tls: Tls, now: Now) -> Machine {
        let username_hash = Template::parse("%Lu", &|_| None).expect("a valid template");
        let config = Config {
            expire_secs: 120,
            username_hash: Arc::new(username_hash),
            master_user_separator: None,
            hasher: ahash::RandomState::with_seeds(1, 2, 3, 4),
        };
        let seed = |n| Seed {
            ip: backend(n),
            name: None,
            tag: if n == 3 { "east" } else { "" },
            vhosts: 2,
        };
        let made = Director::new(config, (0..backends).map(seed)).expect("valid backends");
        let limits = Limits {
            tls,
            jitter: node as u64 * 7_919_000_001,
            ..LIMITS
        };
        let names = (0..nodes).map(director);
        let ring = Ring::new(made, director(node), names, limits, now).expect("few directors");
        Machine {
            ring,
            users: Users {
                shards: (0..SHARDS).map(|_| Shard::new(1)).collect(),
                published: 1,
                full: false,
                touched: BTreeSet::new(),
            },
            readers: BTreeMap::new(),
            asked: BTreeSet::new(),
            tickets: 0,
            kicks: 0,
        }
    }

    /// Something happens.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        match input {
            Input::Accepted { conn, .. } => {
                self.readers.insert(conn, Reader::new(Role::Dialler));
            }
            Input::Connected(conn) => {
                self.readers.insert(conn, Reader::new(Role::Acceptor));
            }
            Input::Ended(conn) => {
                self.readers.remove(&conn);
            }
            _ => {}
        }
        self.ring.handle(input, now, &mut self.users);
        self.check(now);
    }

    /// TLS has begun. What was written before is read, and then both sides begin anew.
    pub fn secured(&mut self, conn: ConnId, role: Role, now: Now) {
        for (other, bytes) in self.ring.unwritten() {
            if let Some(reader) = self.readers.get_mut(&conn)
                && other == conn
            {
                reader.read(bytes);
                bytes.clear();
            }
        }
        self.readers.insert(conn, Reader::new(role));
        self.handle(Input::Secured(conn), now);
    }

    /// An operator asks for something.
    pub fn request(&mut self, request: &Request, now: Now) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked.insert(ticket);
        self.handle(Input::Request(ticket, request), now);
    }

    /// A kick has been carried out, if one is under way.
    pub fn kick_over(&mut self, now: Now) {
        if self.kicks > 0 {
            self.kicks -= 1;
            self.handle(Input::KickOver, now);
        }
    }

    /// What the driver must do. What is closed has had its last words read.
    pub fn outputs(&mut self) -> Vec<Output> {
        let outputs = self.ring.take_outputs();
        for output in &outputs {
            match output {
                Output::Close(conn, rest) => {
                    if let Some(mut reader) = self.readers.remove(conn) {
                        reader.read(rest);
                    }
                }
                Output::Answer(ticket, _) => {
                    assert!(self.asked.remove(ticket), "each is answered once");
                }
                Output::Kick(Kick::Moved(_)) => {}
                Output::Kick(_) => self.kicks += 1,
                Output::Event(event) => assert!(!event.to_string().contains('\n')),
                _ => {}
            }
        }
        outputs
    }

    /// What waits to be written, read at the other end. `stuck`: the kernel takes none of it.
    pub fn written(&mut self, now: Now, stuck: bool) -> Vec<(ConnId, Vec<u8>)> {
        let taken: Vec<(ConnId, Vec<u8>)> = self
            .ring
            .unwritten()
            .map(|(conn, bytes)| (conn, std::mem::take(bytes)))
            .collect();
        for (conn, bytes) in &taken {
            let reader = self.readers.get_mut(conn);
            reader.expect("a connection that is there").read(bytes);
            let unsent = if stuck { bytes.len() } else { 0 };
            self.handle(Input::Written(*conn, unsent), now);
        }
        taken
    }

    /// A login; what it notes is told at once if `told`.
    pub fn login(&mut self, key: UserKey, now: Now, told: bool) -> Decision {
        let snapshot = Arc::clone(self.ring.snapshot());
        let room = self.users.room();
        let login = self.users.with(shard_of(key.hash), |shard| {
            shard.login(key, now.wall, &snapshot, || room)
        });
        if let Decision::Go(slot) = login.decision {
            assert!(snapshot.has_backend(slot), "a login is sent nowhere");
        }
        if told && login.note != Note::None {
            self.handle(Input::Notes(&[key]), now);
        }
        login.decision
    }

    /// Whether there is room for new users.
    pub fn set_full(&mut self, full: bool) {
        self.users.full = full;
    }

    /// All shards are swept.
    pub fn sweep(&mut self, now: Now) {
        let snapshot = Arc::clone(self.ring.snapshot());
        for &shard in &self.users.touched {
            self.users.shards[shard].sweep(now.wall, &snapshot);
        }
        self.handle(Input::Swept, now);
    }

    /// Where this machine thinks that an untagged user lives.
    pub fn home(&self, hash: UserHash, wall: Wall) -> Option<IpAddr> {
        let key = UserKey {
            tag: TagId(0),
            hash,
        };
        let snapshot = self.ring.snapshot();
        let entry = self.users.shards[shard_of(hash)].peek(key, wall, snapshot)?;
        Some(snapshot.backend(entry.backend())?.ip)
    }

    /// Panics where the user table contradicts itself.
    pub fn check_users(&self) {
        for &shard in &self.users.touched {
            self.users.shards[shard].check_invariants(shard);
        }
    }

    /// What must be so after every input; the machine checks its own invariants besides.
    fn check(&mut self, now: Now) {
        let most = LIMITS.output_buffer + SLACK;
        for (conn, bytes) in self.ring.unwritten() {
            assert!(bytes.len() <= most, "{} bytes for {conn:?}", bytes.len());
        }
        assert!(self.ring.report(now).len() >= self.ring.members().iter().len());
        assert!(self.asked.len() <= MAX_REQUESTS + 64, "S7");
        let directors = self.ring.members().iter().len();
        assert!(self.readers.len() <= MOST_CONNS + 4 * directors, "S7");
    }
}
