//! The relay of one serving core: client connections, their auth connections, and the lookups in
//! between.
//!
//! | module | what it does |
//! |---|---|
//! | [`batch`] | lookups of one read, answered together |
//! | [`carry`] | connections from one process to the next |
//! | [`conn`] | the state of one connection, as a value |
//! | [`tap`] | what requests said, remembered until they are answered |
//! | [`pump`] | moves bytes between a client and auth |
//! | [`lookups`] | answers replies that ask for a backend, and those that had to wait |
//! | [`report`] | what is logged about lookups |
//!
//! The sockets are read and written directly when epoll says so; there is no task per connection.
//! Everything a connection is lies in [`conn::Conn`], so that it can be written out and taken up
//! by another process.

mod batch;
pub mod carry;
pub mod conn;
mod lookups;
mod pump;
mod report;
pub mod tap;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use slab::Slab;
use zeroize::Zeroize;

use crate::core::parking::Parking;
use crate::core::snapshot::Snapshot;
use crate::core::{Mono, UserKey, Wall};
use crate::shell::clock;
use crate::shell::cores::Waits;
use crate::shell::directory::{Directory, SnapshotCache, TunablesCache};
use crate::shell::epoll::{Epoll, Interest, Ready};
use crate::shell::prefetch::prefetch_all;
use crate::shell::stats::Stats;
use batch::Batch;
use conn::{Conn, Role, Upstream};
use lookups::Waiting;
use pump::Next;
use report::Limits;

/// Bytes read from a socket at once.
const READ_SIZE: usize = 64 * 1024;
/// Woken lookups tried in one turn, so that new ones are served in between.
const WOKEN_PER_TURN: usize = 256;

/// Lookups failed in one turn, likewise.
const EXPIRED_PER_TURN: usize = 256;

/// Names a connection; stays unique while anything may still ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId {
    key: u32,
    serial: u32,
}

/// The relay's part of an epoll token. The top bits tell it from the loop's own tokens.
const UPSTREAM_BIT: u64 = 1 << 63;
/// Tokens from here up are not the relay's.
pub const OWN_TOKENS: u64 = 1 << 62;
/// Serial numbers fit between the slab key and the top bits.
const SERIAL_MASK: u32 = (1 << 30) - 1;

impl ConnId {
    fn token(self, upstream: bool) -> u64 {
        let side = if upstream { UPSTREAM_BIT } else { 0 };
        side | u64::from(self.serial) << 32 | u64::from(self.key)
    }

    fn of_token(token: u64) -> (ConnId, bool) {
        let serial = (token >> 32) as u32 & SERIAL_MASK;
        (
            ConnId {
                key: token as u32,
                serial,
            },
            token & UPSTREAM_BIT != 0,
        )
    }
}

/// What a relay is given.
pub struct Setup {
    /// The shared user table.
    pub directory: Arc<Directory>,
    /// Where it says whether lookups wait.
    pub waits: Arc<Waits>,
    /// Seed of the jitter between dials.
    pub seed: u64,
}

/// All connections of one core.
pub struct Relay {
    conns: Slab<Conn>,
    cx: Context,
    /// Connections with more to do than one turn's share.
    again: Vec<ConnId>,
    next_serial: u32,
}

/// What the work on any one connection needs besides it.
struct Context {
    directory: Arc<Directory>,
    waits: Arc<Waits>,
    /// What was last said there.
    said_waits: bool,
    tunables: TunablesCache,
    epoll: Epoll,
    cache: SnapshotCache,
    snapshot: Arc<Snapshot>,
    parking: Parking<Waiting>,
    dials: BTreeMap<(Mono, ConnId), ()>,
    batch: Batch,
    scratch: Vec<u8>,
    out: Vec<u8>,
    names: Vec<u8>,
    stats: Stats,
    limits: Limits,
    now: Mono,
    wall: Wall,
    random: u64,
}

impl Relay {
    /// A relay without connections.
    pub fn new(setup: Setup) -> std::io::Result<Relay> {
        let cache = setup.directory.cache();
        let snapshot = setup.directory.snapshot();
        let random = setup.seed | 1;
        let cx = Context {
            tunables: setup.directory.tunables(),
            directory: setup.directory,
            waits: setup.waits,
            said_waits: false,
            epoll: Epoll::new()?,
            cache,
            snapshot,
            parking: Parking::default(),
            dials: BTreeMap::new(),
            batch: Batch::default(),
            scratch: vec![0; READ_SIZE],
            out: Vec::new(),
            names: Vec::new(),
            stats: Stats::default(),
            limits: Limits::default(),
            now: clock::mono(),
            wall: clock::wall(),
            random,
        };
        Ok(Relay {
            conns: Slab::new(),
            cx,
            again: Vec::new(),
            next_serial: 0,
        })
    }

    /// The relay's epoll, for the loop that drives it to wait on and to add its own descriptors.
    pub fn epoll(&self) -> &Epoll {
        &self.cx.epoll
    }

    /// What this core counted, with its gauges brought up to date.
    pub fn stats(&mut self) -> &mut Stats {
        self.cx.stats.connections = self.conns.len() as u64;
        self.cx.stats.parked = self.cx.parking.len() as u64;
        &mut self.cx.stats
    }

    /// `lookup_batch_delay`, in nanoseconds.
    pub fn batch_delay(&mut self) -> u64 {
        self.cx.tunables.load().batch_delay
    }

    /// Lookups answered with a backend since the start.
    pub fn answered(&self) -> u64 {
        self.cx.stats.answered.iter().sum()
    }

    /// When this turn began.
    pub fn now(&self) -> Mono {
        self.cx.now
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Begins a turn: reads the clocks once for all that happens in it, and takes up a new
    /// snapshot.
    pub fn begin_turn(&mut self) {
        self.cx.now = clock::mono();
        self.cx.wall = clock::wall();
        let snapshot = self.cx.cache.load();
        if snapshot.generation != self.cx.snapshot.generation {
            self.cx.snapshot = Arc::clone(snapshot);
            self.cx.parking.wake_all();
        }
    }

    /// Ends a turn: connections with more to read, dials to be tried again, woken lookups, and
    /// lookups whose deadline has come.
    pub fn end_turn(&mut self) {
        for id in std::mem::take(&mut self.again) {
            if let Some(conn) = self.get(id) {
                conn.queued = false;
            }
            self.pump(id);
        }
        while let Some((&(when, id), ())) = self.cx.dials.first_key_value() {
            if when > self.cx.now {
                break;
            }
            self.cx.dials.remove(&(when, id));
            self.pump(id);
        }
        self.retry_woken(WOKEN_PER_TURN);
        self.fail_expired(EXPIRED_PER_TURN);
        if self.cx.said_waits && self.cx.parking.is_empty() {
            self.cx.said_waits = false;
            self.cx.waits.set(false);
        }
    }

    /// Something has changed for these users: their lookups that wait are to be tried again.
    pub fn wake(&mut self, users: &[UserKey]) {
        if !self.cx.parking.is_empty() {
            users.iter().for_each(|&key| self.cx.parking.wake(key));
        }
    }

    /// All lookups that wait are to be tried again.
    pub fn wake_all(&mut self) {
        self.cx.parking.wake_all();
    }

    /// How long the loop may wait for events, in milliseconds; `longest` at most.
    pub fn wait_ms(&self, longest: i32) -> i32 {
        if !self.again.is_empty() || self.cx.parking.has_woken() {
            return 0;
        }
        let dial = self.cx.dials.first_key_value().map(|(&(when, _), ())| when);
        let next = [self.cx.parking.next_deadline(), dial]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next else {
            return longest;
        };
        // Rounded up, so that the deadline has come when the wait is over.
        let millis = next.since(self.cx.now).div_ceil(1_000_000);
        i32::try_from(millis).unwrap_or(longest).min(longest)
    }

    /// Takes over a new client connection.
    pub fn adopt(&mut self, role: Role, fd: OwnedFd) {
        let Some(id) = self.next_id() else {
            return;
        };
        let mut conn = Conn::new(id.serial, role, fd);
        let epoll = &self.cx.epoll;
        if let Err(error) = epoll.add(conn.client.fd(), id.token(false), interest(role)) {
            tracing::error!("cannot watch a connection, closing it: {error}");
            return;
        }
        let greeted = pump::greet(&mut conn);
        self.conns.insert(conn);
        if !greeted {
            self.close(id);
        }
    }

    /// The place of the next connection that is inserted. `None`: there are more than can be numbered.
    fn next_id(&mut self) -> Option<ConnId> {
        let serial = self.next_serial;
        self.next_serial = (self.next_serial + 1) & SERIAL_MASK;
        let key = u32::try_from(self.conns.vacant_key()).ok()?;
        Some(ConnId { key, serial })
    }

    /// An event of one of the relay's connections comes after the next one: has its memory fetched, for
    /// with very many connections no cache holds them all.
    pub fn expect(&self, token: u64) {
        let (id, _) = ConnId::of_token(token);
        if let Some(conn) = self.conns.get(id.key as usize) {
            prefetch_all(conn);
        }
    }

    /// A descriptor of one of the relay's connections is ready.
    pub fn ready(&mut self, ready: Ready) {
        let (id, upstream) = ConnId::of_token(ready.token);
        let Some(conn) = self.get(id) else {
            return;
        };
        let side = match (&mut conn.upstream, upstream) {
            (Upstream::Open(side), true) => side,
            (_, true) => return,
            (_, false) => &mut conn.client,
        };
        side.readable |= ready.readable;
        side.hung_up |= ready.hung_up;
        self.pump(id);
    }

    fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns
            .get_mut(id.key as usize)
            .filter(|conn| conn.serial == id.serial)
    }

    fn pump(&mut self, id: ConnId) {
        let Some(conn) = self
            .conns
            .get_mut(id.key as usize)
            .filter(|c| c.serial == id.serial)
        else {
            return;
        };
        match pump::run(conn, id, &mut self.cx) {
            Next::Wait => {}
            // Once is enough: a second place on the list would be a second share of every turn.
            Next::Again if conn.queued => {}
            Next::Again => {
                conn.queued = true;
                self.again.push(id);
            }
            Next::Close => self.close(id),
        }
    }

    /// Closes both sides at once: auth then forgets the client's requests, and may accept the
    /// same CPID again.
    fn close(&mut self, id: ConnId) {
        let Some(mut conn) = self.conns.try_remove(id.key as usize) else {
            return;
        };
        for place in conn.parked.drain(..) {
            self.cx.parking.remove(place);
        }
    }

    /// Closes everything.
    pub fn close_all(&mut self) {
        self.conns.clear();
        self.cx.parking = Parking::default();
    }
}

impl Drop for Context {
    /// Both buffers have held auth lines.
    fn drop(&mut self) {
        self.scratch.zeroize();
        self.out.zeroize();
    }
}

/// What a client's descriptor is watched for.
fn interest(role: Role) -> Interest {
    match role {
        // A FIFO may be written in packets, of which each read takes one: a short read does
        // not mean that it is empty.
        Role::Notify => Interest::Readable,
        Role::Relay(_) | Role::Authreply(_) => Interest::Stream,
    }
}
