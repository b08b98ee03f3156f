//! Looks up the host names of the settings again and again, and asks the ring for what has to change
//! ([`crate::core::names`] decides).
//!
//! The C library's resolver waits as long as it likes and cannot be stopped. So each lookup has a thread of its
//! own, of which there are only a few, and one more thread waits for them: no lookup of a login ever does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::clock;
use super::directory::Directory;
use super::log_limit::{LogLimit, say};
use super::mailbox::Mailbox;
use super::ring_io::serve::Message;
use crate::core::Mono;
use crate::core::names::{Names, Seen, Step, View};
use crate::core::ring::{Level, Order, Request, Ticket};
use crate::settings::network::Network;

/// Lookups at a time. One that hangs keeps its thread.
const RUNNING_MAX: usize = 4;
/// After this a lookup counts as failed; resolvers give up after 10 to 30 s. What comes later counts all the
/// same.
const LOOKUP_LIMIT: u64 = 10 * Mono::SECOND;
/// How often the list of backends is looked at while something is to be done.
const LOOK_PAUSE: u64 = Mono::SECOND;
/// How long the ring's thread may take to say where we stand.
const RANK_LIMIT: Duration = Duration::from_secs(1);
/// Longest wait without anything to do.
const IDLE: Duration = Duration::from_secs(3600);
/// Tickets of our requests begin here, so that they are none of an admin client's. Answers are not waited for:
/// what came of a request shows in the list.
const FIRST_TICKET: u64 = 1 << 63;

/// What the thread needs.
pub struct Setup {
    /// The names of the settings.
    pub names: Names,
    /// `resolve_interval`; 0: never.
    pub interval: Duration,
    /// Who looks them up.
    pub network: Arc<dyn Network + Send + Sync>,
    /// The snapshot and the user table.
    pub directory: Arc<Directory>,
    /// Of the ring's thread, which carries requests out.
    pub ring: Arc<Mailbox<Message>>,
}

/// The thread, as seen by control. It ends when this is dropped.
pub struct NamesThread {
    /// `None`: there are no names.
    tell: Option<Sender<Duration>>,
}

impl NamesThread {
    /// Starts it if there are names. Without a thread names are only not looked up again, which is logged.
    pub fn start(setup: Setup) -> NamesThread {
        if setup.names.iter().len() == 0 {
            return NamesThread { tell: None };
        }
        let (tell, told) = unbounded();
        let work = move || Worker::new(setup).work(&told);
        let thread = std::thread::Builder::new().name("names".to_owned());
        match thread.spawn(work) {
            Ok(_) => NamesThread { tell: Some(tell) },
            Err(error) => {
                tracing::error!("host names are not looked up again: no thread: {error}");
                NamesThread { tell: None }
            }
        }
    }

    /// `resolve_interval` after a reload.
    pub fn tune(&self, interval: Duration) {
        if let Some(tell) = &self.tell {
            // It ends only when we do.
            let _ = tell.send(interval);
        }
    }
}

type Found = (usize, Result<Vec<std::net::IpAddr>, String>);

struct Worker {
    setup: Setup,
    hosts: Vec<String>,
    /// When the next round begins; `None`: never.
    next_round: Option<Mono>,
    waiting: VecDeque<usize>,
    /// Since when, and whether it counts as failed by now.
    running: BTreeMap<usize, (Mono, bool)>,
    found: (Sender<Found>, Receiver<Found>),
    ticket: u64,
    log: LogLimit,
}

impl Worker {
    fn new(setup: Setup) -> Worker {
        let mut worker = Worker {
            hosts: setup.names.iter().map(str::to_owned).collect(),
            next_round: None,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            // As many as can be sent without anybody reading.
            found: bounded(RUNNING_MAX),
            ticket: FIRST_TICKET,
            log: LogLimit::default(),
            setup,
        };
        worker.plan(clock::mono());
        worker
    }

    fn work(mut self, told: &Receiver<Duration>) {
        loop {
            let now = clock::mono();
            self.begin_round(now);
            self.begin_lookups(now);
            self.give_up(now);
            if self.setup.names.is_busy() {
                self.look(now);
            }
            let wait = self.wait(now);
            let found = self.found.1.clone();
            crossbeam::select! {
                recv(found) -> result => {
                    // We have a sender ourselves, so there is one.
                    if let Ok((at, result)) = result {
                        self.running.remove(&at);
                        self.setup.names.resolved(at, result, clock::mono());
                    }
                }
                recv(told) -> interval => match interval {
                    Ok(interval) => {
                        self.setup.interval = interval;
                        self.plan(clock::mono());
                    }
                    Err(_) => return,
                },
                default(wait) => {}
            }
        }
    }

    fn plan(&mut self, now: Mono) {
        let interval = clock::nanos(self.setup.interval);
        self.next_round = (interval > 0).then(|| now.after(interval));
    }

    fn wait(&self, now: Mono) -> Duration {
        let looks = !self.running.is_empty() || self.setup.names.is_busy();
        let look = looks.then(|| now.after(LOOK_PAUSE));
        let next = [look, self.next_round].into_iter().flatten().min();
        next.map_or(IDLE, |next| Duration::from_nanos(next.since(now)))
    }

    /// All names are looked up again, but for those that wait or are still being looked up.
    fn begin_round(&mut self, now: Mono) {
        if self.next_round.is_some_and(|next| next <= now) {
            self.plan(now);
            for at in 0..self.hosts.len() {
                if !self.running.contains_key(&at) && !self.waiting.contains(&at) {
                    self.waiting.push_back(at);
                }
            }
        }
    }

    fn begin_lookups(&mut self, now: Mono) {
        while self.running.len() < RUNNING_MAX
            && let Some(at) = self.waiting.pop_front()
        {
            let (network, host) = (Arc::clone(&self.setup.network), self.hosts[at].clone());
            let found = self.found.0.clone();
            let thread = std::thread::Builder::new().name("lookup".to_owned());
            let spawned = thread.spawn(move || {
                let result = network.addresses(&host).map_err(|error| error.to_string());
                // Nobody listens any more at the end of the process.
                let _ = found.send((at, result));
            });
            match spawned {
                Ok(_) => drop(self.running.insert(at, (now, false))),
                Err(error) => {
                    let why = Err(format!("no thread: {error}"));
                    self.setup.names.resolved(at, why, now);
                }
            }
        }
    }

    fn give_up(&mut self, now: Mono) {
        for (&at, (since, failed)) in &mut self.running {
            if !*failed && now.since(*since) >= LOOKUP_LIMIT {
                *failed = true;
                let why = format!("no answer within {} s", LOOKUP_LIMIT / Mono::SECOND);
                self.setup.names.resolved(at, Err(why), now);
            }
        }
    }

    /// Looks at the list of backends, and has done what is to be done.
    fn look(&mut self, now: Mono) {
        let Some(view) = self.view() else {
            return;
        };
        for step in self.setup.names.decide(&view, now) {
            match step {
                Step::Ask(order) => self.ask(order),
                Step::Say(level, text) => self.say(level, &text, now),
            }
        }
    }

    fn ask(&mut self, order: Order) {
        let ticket = Ticket(self.ticket);
        self.ticket += 1;
        let request = Request::Order(order);
        self.setup.ring.send(Message::Request(ticket, request));
    }

    fn say(&mut self, level: Level, text: &str, now: Mono) {
        let Some(more) = self.log.allow(now) else {
            return;
        };
        say!(level, text, more);
    }

    /// `None`: the ring's thread does not answer.
    fn view(&self) -> Option<View> {
        let (sender, receiver) = bounded(1);
        self.setup.ring.send(Message::Rank(sender));
        let rank = match receiver.recv_timeout(RANK_LIMIT) {
            Ok(rank) => rank,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        let directory = &self.setup.directory;
        let snapshot = directory.snapshot();
        let users = directory.counted_per_backend(snapshot.backends.len());
        let backends = snapshot.backends.iter().zip(users);
        let backends = backends.filter_map(|(backend, users)| {
            let backend = backend.as_ref()?;
            let vhosts = backend.shown.vhosts;
            Some((backend.ip, Seen { vhosts, users }))
        });
        Some(View {
            synced: snapshot.synced,
            rank,
            backends: backends.collect(),
        })
    }
}

#[cfg(test)]
mod tests;
