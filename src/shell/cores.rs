//! The serving cores as seen from outside: a mailbox each, and how many connections each has.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::channel::Sender;
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use super::clock;
use super::mailbox::Mailbox;
use super::relay::carry::Carried;
use super::relay::conn::Role;
use super::stats::{Counted, Stats};
use super::takeover::channel::{Channel, ChannelError};
use crate::core::{Mono, UserKey};
use crate::wire::takeover::End;

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
    /// Neither read nor accept anything until [`Message::Thaw`], and say so, by your number.
    Freeze(Sender<usize>),
    /// Go on.
    Thaw,
    /// Show all connections to the process at the other end, and say how many that were.
    Show(Arc<Mutex<Channel>>, Sender<Result<End, ChannelError>>),
    /// Serve this connection of the process before us.
    TakeUp(Box<Carried>),
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

/// How long cores are waited for that are asked what they counted. An idle one answers at once; one
/// that takes longer is stuck or has no CPU.
const REPORT_LIMIT: u64 = Mono::SECOND;

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
    pub fn silent(&self, limit: Duration) -> Option<usize> {
        self.silent_to(Message::Alive, limit)
    }

    /// Stops all cores, without a connection being touched, until [`Cores::thaw`]. `Some`: this one did not
    /// within `limit`.
    pub fn freeze(&self, limit: Duration) -> Option<usize> {
        self.silent_to(Message::Freeze, limit)
    }

    /// All cores go on.
    pub fn thaw(&self) {
        (0..self.count()).for_each(|core| self.send(core, Message::Thaw));
    }

    /// The first core that does not answer within `limit`.
    fn silent_to(&self, ask: fn(Sender<usize>) -> Message, limit: Duration) -> Option<usize> {
        let (sender, receiver) = crossbeam::channel::bounded(self.count());
        for core in 0..self.count() {
            self.send(core, ask(sender.clone()));
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

    /// What every core has counted until now, and the sum. Any thread may ask; it waits for the
    /// cores for a second at most, so one that must not wait asks on a thread of its own. The cores
    /// write what they count without a lock, and each sends a copy between two turns: some 0.2 ms
    /// of its time.
    pub fn counted(&self) -> Counted {
        self.ask(0..self.count())
    }

    /// The same of one core; empty if there is no such core.
    pub fn counted_by(&self, core: usize) -> Counted {
        self.ask(core..self.count().min(core.saturating_add(1)))
    }

    fn ask(&self, cores: Range<usize>) -> Counted {
        // One more, since a channel of none would wait for its reader.
        let (sender, receiver) = crossbeam::channel::bounded(cores.len() + 1);
        for core in cores {
            self.send(core, Message::Report(sender.clone()));
        }
        drop(sender);
        let until = clock::mono().after(REPORT_LIMIT);
        let mut by_core = Vec::new();
        let left = || Duration::from_nanos(until.since(clock::mono()));
        // It also ends when every core has answered and dropped its end.
        while let Ok(stats) = receiver.recv_timeout(left()) {
            by_core.push(stats);
        }
        Counted::new(by_core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cores_counted_is_told_one_by_one_and_as_a_sum() {
        let cores = Arc::new(Cores::new(3, 10).expect("mailboxes"));
        // The last core never answers.
        let answer = |core: usize| {
            let cores = Arc::clone(&cores);
            move || loop {
                for message in cores.mailbox_of(core).take() {
                    match message {
                        Message::Report(sender) => {
                            let stats = Stats {
                                created: 10 + core as u64,
                                ..Stats::default()
                            };
                            let _ = sender.try_send((core, stats));
                        }
                        _ => return,
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let threads = [0, 1].map(|core| std::thread::spawn(answer(core)));
        let of = |counted: &Counted| -> Vec<(usize, u64)> {
            let by_core = counted.by_core.iter();
            by_core
                .map(|(core, stats)| (*core, stats.created))
                .collect()
        };
        let all = cores.counted();
        assert_eq!(of(&all), [(0, 10), (1, 11)]);
        assert_eq!(all.sum.created, 21);
        let one = cores.counted_by(1);
        assert_eq!((of(&one), one.sum.created), (vec![(1, 11)], 11));
        assert!(cores.counted_by(3).by_core.is_empty());
        assert!(cores.counted_by(usize::MAX).by_core.is_empty());
        (0..2).for_each(|core| cores.send(core, Message::Stop));
        for thread in threads {
            thread.join().expect("no panic");
        }
    }
}
