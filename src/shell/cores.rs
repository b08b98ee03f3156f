//! The serving cores as seen from outside: a mailbox each, and how many connections each has.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam::channel::Sender;
use crossbeam::utils::CachePadded;

use super::mailbox::Mailbox;
use super::relay::conn::Role;
use super::stats::Stats;
use crate::core::UserKey;

/// A message to a serving core.
pub enum Message {
    /// Accept from this listener; every core gets the same one.
    Listen(Arc<OwnedFd>, Role),
    /// No longer accept from this listener.
    Unlisten(Arc<OwnedFd>),
    /// Serve this connection.
    Adopt(OwnedFd, Role),
    /// Something has changed for these users: try their lookups that wait.
    Woken(Arc<[UserKey]>),
    /// Try all lookups that wait.
    TryAll,
    /// Send a copy of what you counted.
    Report(Sender<(usize, Stats)>),
    /// Say that you are there, by your number.
    Alive(Sender<usize>),
    /// Close everything and end.
    Stop,
}

struct Core {
    mailbox: Mailbox<Message>,
    /// As the core counts them.
    connections: AtomicUsize,
    /// On their way to the core.
    arriving: AtomicUsize,
    /// Lookups wait there.
    waits: Arc<Waits>,
}

impl Core {
    fn load(&self) -> usize {
        self.connections.load(Ordering::Relaxed) + self.arriving.load(Ordering::Relaxed)
    }
}

/// Whether lookups wait on a core, as it says itself; else news of single users do not concern it.
///
/// A core says so before it looks a last time whether a lookup must wait, so that news that come
/// too early to be sent are seen by that look: both happen under the lock of the user's shard.
#[derive(Debug, Default)]
pub struct Waits(AtomicBool);

impl Waits {
    /// Says it.
    pub fn set(&self, waits: bool) {
        self.0.store(waits, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// All serving cores.
pub struct Cores {
    cores: Box<[CachePadded<Core>]>,
    /// Most connections over all cores; beyond it nothing is accepted.
    client_limit: usize,
}

/// A core keeps a connection that it accepted unless another core has fewer by more than this and
/// a sixteenth: short-lived connections then stay where they were accepted, and long-lived ones
/// end up spread evenly.
const UNEVEN: usize = 1;

impl Cores {
    /// Mailboxes for `count` cores.
    pub fn new(count: usize, client_limit: usize) -> io::Result<Cores> {
        let core = || -> io::Result<CachePadded<Core>> {
            Ok(CachePadded::new(Core {
                mailbox: Mailbox::new()?,
                connections: AtomicUsize::new(0),
                arriving: AtomicUsize::new(0),
                waits: Arc::new(Waits::default()),
            }))
        };
        let cores = (0..count).map(|_| core()).collect::<io::Result<_>>()?;
        Ok(Cores {
            cores,
            client_limit,
        })
    }

    /// How many cores serve.
    pub fn count(&self) -> usize {
        self.cores.len()
    }

    /// Sends a message to one core.
    pub fn send(&self, core: usize, message: Message) {
        let core = &self.cores[core];
        if matches!(message, Message::Adopt(..)) {
            // Until the core counts it itself, so that a burst is not all sent to one core.
            core.arriving.fetch_add(1, Ordering::Relaxed);
        }
        core.mailbox.send(message);
    }

    /// Makes a core look at its mailbox and at the snapshot.
    pub fn wake(&self, core: usize) {
        self.cores[core].mailbox.wake();
    }

    /// Wakes every core, after a snapshot was published.
    pub fn wake_all(&self) {
        (0..self.count()).for_each(|core| self.wake(core));
    }

    /// Has lookups that wait for news of these users tried again.
    pub fn wake_users(&self, users: Vec<UserKey>) {
        let users: Arc<[UserKey]> = users.into();
        for core in self.waiting() {
            self.send(core, Message::Woken(Arc::clone(&users)));
        }
    }

    /// Has all lookups that wait tried again.
    pub fn try_all(&self) {
        for core in self.waiting() {
            self.send(core, Message::TryAll);
        }
    }

    fn waiting(&self) -> impl Iterator<Item = usize> {
        (0..self.count()).filter(|&core| self.cores[core].waits.get())
    }

    /// Where a core says whether lookups wait on it.
    pub fn waits_of(&self, core: usize) -> Arc<Waits> {
        Arc::clone(&self.cores[core].waits)
    }

    /// A core's mailbox: readable when the core was woken.
    pub fn mailbox_of(&self, core: usize) -> &Mailbox<Message> {
        &self.cores[core].mailbox
    }

    /// Says how many connections a core has.
    pub fn set_connections(&self, core: usize, connections: usize) {
        self.cores[core]
            .connections
            .store(connections, Ordering::Relaxed);
    }

    /// Says that a core has taken over a connection sent to it, and how many it now has.
    pub fn has_arrived(&self, core: usize, connections: usize) {
        self.set_connections(core, connections);
        self.cores[core].arriving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections over all cores.
    pub fn connections(&self) -> usize {
        self.cores.iter().map(|core| core.load()).sum()
    }

    /// Whether another connection may be accepted.
    pub fn has_room(&self) -> bool {
        self.connections() < self.client_limit
    }

    /// Which core should serve a connection that `core`, which has `own`, has just accepted.
    pub fn place(&self, core: usize, own: usize) -> usize {
        let load = |at: usize| self.cores[at].load();
        let Some(least) = (0..self.count())
            .filter(|&at| at != core)
            .min_by_key(|&at| load(at))
        else {
            return core;
        };
        let fewest = load(least);
        if own > fewest + fewest / 16 + UNEVEN {
            least
        } else {
            core
        }
    }

    /// The first core that does not say within `limit` that it is there.
    pub fn silent(&self, limit: std::time::Duration) -> Option<usize> {
        let (sender, receiver) = crossbeam::channel::bounded(self.count());
        for core in 0..self.count() {
            self.send(core, Message::Alive(sender.clone()));
        }
        drop(sender);
        let end = crossbeam::channel::after(limit);
        let mut heard = vec![false; self.count()];
        while heard.contains(&false) {
            crossbeam::channel::select! {
                recv(receiver) -> core => heard[core.ok()?] = true,
                recv(end) -> _ => break,
            }
        }
        heard.iter().position(|heard| !heard)
    }

    /// Asks every core what it counted, in order of cores; those that do not answer within a
    /// second are left out.
    pub fn stats(&self) -> Vec<(usize, Stats)> {
        let (sender, receiver) = crossbeam::channel::bounded(self.count());
        for core in 0..self.count() {
            self.send(core, Message::Report(sender.clone()));
        }
        drop(sender);
        let mut all = Vec::new();
        while let Ok(stats) = receiver.recv_timeout(std::time::Duration::from_secs(1)) {
            all.push(stats);
        }
        all.sort_by_key(|&(core, _)| core);
        all
    }
}
