//! One director: the real machine of the ring, a real user table, and lookup cores between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use homing::core::admission::has_room;
use homing::core::director::{Config, Director, Seed};
use homing::core::parking::Parking;
use homing::core::ring::{ConnId, Limits, Now, Ring, Table, Tls};
use homing::core::snapshot::Snapshot;
use homing::core::user_hash::Template;
use homing::core::users::{SHARDS, Shard};
use homing::core::{Mono, Refusal, UserKey, Wall};
use homing::wire::ring::DirectorId;

use crate::net::LinkId;
use crate::options::{Options, SECOND};
use crate::world::At;

/// The year 2027.
const WALL_START: u64 = 1_800_000_000;

pub struct Node {
    pub id: DirectorId,
    /// Counts the processes that were started here.
    pub boot: u32,
    pub booted_at: u64,
    pub process: Option<Process>,
    pub paused_until: u64,
    /// The machine has no power: its kernel does not answer either.
    pub dark: bool,
    /// Nanoseconds that its wall clock is off.
    pub skew: i64,
}

pub struct Process {
    pub ring: Ring,
    pub table: SimTable,
    pub cores: Vec<Core>,
    /// What lookup cores tell the control core; bounded.
    pub notes: VecDeque<UserKey>,
    pub draining: bool,
    /// Shards of notes for which there was no room.
    pub lost: BTreeSet<usize>,
    pub tick_at: Option<u64>,
    /// Ticks that came at one and the same time.
    pub ticks: u32,
    pub links: BTreeMap<ConnId, (LinkId, usize)>,
    pub dials: BTreeSet<ConnId>,
    pub kicks: BTreeMap<UserKey, u64>,
    pub flushes: BTreeMap<UserKey, u64>,
    pub sweep_at: usize,
    /// Since when a user is weak, and being killed, as seen from outside.
    pub flags: BTreeMap<UserKey, Flags>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub weak: Option<u64>,
    pub killing: Option<u64>,
}

pub struct Core {
    pub snapshot: Arc<Snapshot>,
    /// Generation with which all that wait were last tried.
    pub tried: u64,
    pub parking: Parking<Waiting>,
}

/// A lookup that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub user: usize,
}

/// The user table with one thread: what `shell` has behind locks.
pub struct SimTable {
    pub shards: Vec<Shard>,
    pub snapshot: Arc<Snapshot>,
    /// A snapshot was published that the cores have not been told of.
    pub fresh: bool,
    /// Since then not all notes were told that may be older.
    pub behind: bool,
    pub touched: Vec<usize>,
    pub users: u64,
    pub limit: u64,
    pub stale: Option<u64>,
    /// Which backend a slot last stood for.
    pub slots: BTreeMap<usize, IpAddr>,
    /// Users on a slot that stands for another backend now.
    pub misfiled: Option<String>,
}

impl SimTable {
    /// Something is done to one shard, S4 holds before and after, and the users are counted.
    pub fn touch<R>(&mut self, shard: usize, action: impl FnOnce(&mut Shard) -> R) -> R {
        self.touched.push(shard);
        let before = self.shards[shard].len() as u64;
        let result = action(&mut self.shards[shard]);
        self.shards[shard].check_invariants(shard);
        self.users = self.users - before + self.shards[shard].len() as u64;
        result
    }

    /// S6: a slot means another backend only when no user names it any more.
    fn check_slots(&mut self) {
        for (slot, view) in self.snapshot.backends.iter().enumerate() {
            let Some(view) = view else { continue };
            let before = self.slots.insert(slot, view.ip);
            if before.is_none_or(|before| before == view.ip) {
                continue;
            }
            let users = |shard: &Shard| shard.users_per_backend().get(slot).copied().unwrap_or(0);
            let left: u32 = self.shards.iter().map(users).sum();
            if left > 0 {
                self.misfiled = Some(format!(
                    "slot {slot} of {before:?} has {left} users and is {}",
                    view.ip
                ));
            }
        }
    }
}

impl Table for SimTable {
    fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        let (old, new) = (self.snapshot.generation, snapshot.generation);
        if new <= old {
            self.stale = Some(new);
        }
        self.snapshot = Arc::clone(snapshot);
        self.fresh = true;
        self.behind = true;
        self.check_slots();
    }

    fn is_told(&self) -> bool {
        !self.behind
    }

    fn with<R>(&mut self, shard: usize, action: impl FnOnce(&mut Shard) -> R) -> R {
        self.touch(shard, action)
    }

    fn room(&self) -> Result<(), Refusal> {
        has_room(self.users, self.limit)
    }
}

impl Node {
    pub fn new(id: DirectorId, skew: i64) -> Node {
        Node {
            id,
            boot: 0,
            booted_at: 0,
            process: None,
            paused_until: 0,
            dark: false,
            skew,
        }
    }

    pub fn at(&self, node: usize) -> At {
        At {
            node,
            boot: self.boot,
        }
    }

    /// The clocks as this machine shows them. Each has a monotonic clock of its own.
    pub fn clocks(&self, now: u64) -> Now {
        let wall = WALL_START * SECOND + now;
        Now {
            mono: Mono(self.mono(now)),
            wall: Wall(wall.saturating_add_signed(self.skew) / SECOND),
        }
    }

    fn offset(&self) -> u64 {
        u64::from(self.id.port) * 77 * SECOND + u64::from(self.boot)
    }

    fn mono(&self, now: u64) -> u64 {
        now + self.offset()
    }

    pub fn simulated(&self, mono: Mono) -> u64 {
        mono.0.saturating_sub(self.offset())
    }
}

pub fn backend_ip(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(number + 1).unwrap()))
}

pub fn tag_name(tag: usize) -> &'static str {
    ["", "east", "west"][tag]
}

fn director(options: &Options) -> Director {
    let config = Config {
        expire_secs: options.expire_secs,
        username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
        master_user_separator: None,
        hasher: ahash::RandomState::with_seeds(1, 2, 3, 4),
    };
    let seeds = (0..options.backends).flat_map(|number| {
        (0..options.tags).map(move |tag| Seed {
            ip: backend_ip(number + 100 * tag),
            name: None,
            tag: tag_name(tag),
            vhosts: 10 + 5 * u32::try_from(number).unwrap(),
        })
    });
    Director::new(config, seeds).unwrap()
}

impl Process {
    pub fn new(options: &Options, me: DirectorId, others: &[DirectorId], now: Now) -> Process {
        let limits = Limits {
            ping_idle: 30 * SECOND,
            ping_max: 60 * SECOND,
            kick_delay: 2 * SECOND,
            move_limit: 30 * SECOND,
            max_parallel_moves: 100,
            max_parallel_kicks: 2,
            output_buffer: options.output_buffer,
            flush_script: options.flush_script,
            tls: Tls::Off,
            jitter: now.mono.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20,
        };
        let ring = Ring::new(director(options), me, others.iter().copied(), limits, now).unwrap();
        let snapshot = Arc::clone(ring.snapshot());
        let core = || Core {
            snapshot: Arc::clone(&snapshot),
            tried: snapshot.generation,
            parking: Parking::default(),
        };
        Process {
            table: SimTable {
                shards: (0..SHARDS).map(|_| Shard::new(0x9e37_79b1)).collect(),
                snapshot: Arc::clone(&snapshot),
                fresh: false,
                behind: false,
                touched: Vec::new(),
                users: 0,
                limit: options.user_limit,
                stale: None,
                slots: BTreeMap::new(),
                misfiled: None,
            },
            cores: (0..options.cores).map(|_| core()).collect(),
            notes: VecDeque::new(),
            draining: false,
            lost: BTreeSet::new(),
            tick_at: None,
            ticks: 0,
            links: BTreeMap::new(),
            dials: BTreeSet::new(),
            kicks: BTreeMap::new(),
            flushes: BTreeMap::new(),
            sweep_at: 0,
            flags: BTreeMap::new(),
            ring,
        }
    }

    /// The key that this process gives a user; `None`: it never heard of the tag.
    pub fn key(snapshot: &Snapshot, hash: u32, tag: usize) -> Option<UserKey> {
        Some(UserKey {
            tag: snapshot.tag(tag_name(tag).as_bytes())?,
            hash: homing::core::UserHash(hash),
        })
    }
}
