//! The thread: probes, connections of other directors, and what is decided a few times a second.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam::channel::{Receiver, bounded};
use parking_lot::Mutex;

use super::links::Links;
use super::probe::{Probing, plainly};
use super::stream::Stream;
use super::target::Target;
use super::{Config, Desk, FIRST_TICKET, Message};
use crate::core::Mono;
use crate::core::health::{Backend, Health, Probe, Step, View};
use crate::core::ip_text::ip_text;
use crate::core::ring::{Around, Order, Request, Ticket};
use crate::shell::directory::Directory;
use crate::shell::epoll::{Epoll, Events, Interest};
use crate::shell::log_limit::{LogLimit, left_out, say};
use crate::shell::mailbox::Mailbox;
use crate::shell::{clock, random, ring_io};
use crate::wire::health::MarkLine;

/// How often is decided.
const TICK: u64 = Mono::SECOND / 4;
/// How often the others are told, if nothing is new.
const BEAT: u64 = Mono::SECOND;
/// What the ring said of itself longer ago than this is not believed: it may stand still.
const AROUND_LIMIT: u64 = 5 * Mono::SECOND;
/// Probes under way at a time; each is a descriptor. With a timeout of 5 s, 50 hanging backends are
/// found out each second, and others wait for their turn.
const PROBES_MAX: usize = 256;
/// Pause after a failure of the kernel.
const FAILED_PAUSE: u64 = 100_000_000;

/// What epoll's tokens mean: the highest bits say what kind.
pub(super) mod token {
    pub const MAIL: u64 = 0;
    pub const LISTENER: u64 = 1 << 60;
    pub const PROBE: u64 = 2 << 60;
    pub const INCOMING: u64 = 3 << 60;
    pub const OUTGOING: u64 = 4 << 60;
    pub const KIND: u64 = 7 << 60;
}

/// What the thread needs.
pub struct Setup {
    /// What the settings say.
    pub config: Config,
    /// What the state on disk says of who has set which backend's state.
    pub marks: Vec<MarkLine>,
    /// The snapshot and the user table.
    pub directory: Arc<Directory>,
    /// Of the ring's thread, which carries requests out.
    pub ring: Arc<Mailbox<ring_io::serve::Message>>,
    /// Where others leave messages.
    pub desk: Arc<Desk>,
}

/// The thread, as seen by control. It ends when it is told to.
pub struct HealthThread {
    desk: Arc<Desk>,
    listeners: Mutex<usize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl HealthThread {
    /// Starts it, on whatever CPUs the caller may use.
    ///
    /// # Errors
    /// Out of descriptors or threads.
    pub fn start(setup: Setup) -> io::Result<HealthThread> {
        let desk = Arc::clone(&setup.desk);
        let worker = Worker::new(setup)?;
        let thread = Builder::new()
            .name("health".to_owned())
            .spawn(move || worker.work())?;
        Ok(HealthThread {
            desk,
            listeners: Mutex::new(0),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Accepts other directors from a listening socket. Returns what [`HealthThread::unlisten`] needs.
    pub fn listen(&self, fd: OwnedFd) -> usize {
        let mut listeners = self.listeners.lock();
        *listeners += 1;
        self.desk.send(Message::Listen(*listeners, fd));
        *listeners
    }

    /// No longer accepts from a listener; its connections live on.
    pub fn unlisten(&self, number: usize) {
        self.desk.send(Message::Unlisten(number));
    }

    /// After a reload. The port is that of the start: listeners are not changed by a reload.
    pub fn tune(&self, config: Config) {
        self.desk.send(Message::Tune(Box::new(config)));
    }

    /// The process ends: everything is closed, and the thread ends. Waits for that.
    pub fn leave(&self) {
        self.desk.send(Message::Leave);
        if let Some(Err(_)) = self.thread.lock().take().map(JoinHandle::join) {
            tracing::error!("the thread of the health checks ended with an error");
        }
    }
}

pub(super) struct Worker {
    pub config: Config,
    /// By the numbers of the policy's checks; errors: why one cannot be made.
    targets: Vec<Result<Arc<Target>, String>>,
    directory: Arc<Directory>,
    ring: Arc<Mailbox<ring_io::serve::Message>>,
    desk: Arc<Desk>,
    pub health: Health,
    pub epoll: Epoll,
    pub listeners: BTreeMap<usize, OwnedFd>,
    pub links: Links,
    probing: BTreeMap<u64, Probing>,
    last_token: u64,
    /// How the ring is, and when it said so.
    pub around: Option<Around>,
    around_at: Mono,
    asked: Option<Receiver<Around>>,
    next_tick: Mono,
    next_beat: Mono,
    /// What of [`Health::news`] all were told.
    told: u64,
    ticket: u64,
    seed: u64,
    pub now: Mono,
    log: LogLimit,
    left: bool,
}

impl Worker {
    fn new(setup: Setup) -> io::Result<Worker> {
        let epoll = Epoll::new()?;
        epoll.add(setup.desk.mailbox.as_fd(), token::MAIL, Interest::Readable)?;
        let now = clock::mono();
        let mut worker = Worker {
            health: Health::new(setup.config.policy.clone()).recalling(setup.marks),
            config: setup.config,
            targets: Vec::new(),
            directory: setup.directory,
            ring: setup.ring,
            desk: setup.desk,
            epoll,
            listeners: BTreeMap::new(),
            links: Links::default(),
            probing: BTreeMap::new(),
            last_token: 0,
            around: None,
            around_at: now,
            asked: None,
            next_tick: now,
            next_beat: now,
            told: 0,
            ticket: FIRST_TICKET,
            seed: random::seed() | 1,
            now,
            log: LogLimit::default(),
            left: false,
        };
        worker.load_targets();
        // For a file that is written before anything is decided.
        worker.desk.marks.store(Arc::new(worker.health.all_marks()));
        Ok(worker)
    }

    fn load_targets(&mut self) {
        let load = |check| Target::load(check).map(Arc::new);
        self.targets = self.config.checks.iter().map(load).collect();
        for (check, target) in self.config.checks.iter().zip(&self.targets) {
            if let Err(why) = target {
                tracing::error!("health check {}: {why}: it is not made", check.name);
            }
        }
    }

    fn work(mut self) {
        let mut events = Events::default();
        while !self.left {
            if let Err(error) = self.turn(&mut events) {
                tracing::error!("cannot check the health of backends: {error}");
                clock::sleep_until(clock::mono().after(FAILED_PAUSE));
            }
        }
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let count = self.epoll.wait(events, self.wait_ms())?;
        self.now = clock::mono();
        for at in 0..count {
            let ready = events.get(at);
            match ready.token & token::KIND {
                token::LISTENER => self.accept_from((ready.token & !token::KIND) as usize),
                token::PROBE => self.probe_ready(ready.token, ready.readable),
                token::INCOMING => self.incoming_ready(ready.token, ready.readable),
                token::OUTGOING => self.outgoing_ready(ready.token, ready.readable),
                _ => self.read_mailbox(),
            }
        }
        if !self.is_idle() {
            self.end_late_probes();
            if self.next_tick <= self.now {
                self.next_tick = self.now.after(TICK);
                self.tick();
            }
        }
        Ok(())
    }

    /// There is nothing to check, and nobody to tell.
    fn is_idle(&self) -> bool {
        self.config.checks.is_empty() && self.config.port.is_none()
    }

    fn wait_ms(&self) -> i32 {
        if self.is_idle() {
            return -1;
        }
        let late = self.probing.values().map(|it| it.deadline).min();
        let next = late.map_or(self.next_tick, |late| late.min(self.next_tick));
        let wait = next.since(clock::mono()).div_ceil(1_000_000);
        i32::try_from(wait).unwrap_or(i32::MAX)
    }

    fn read_mailbox(&mut self) {
        let desk = Arc::clone(&self.desk);
        for message in desk.mailbox.take() {
            match message {
                Message::Listen(number, fd) => {
                    let token = token::LISTENER | number as u64;
                    if let Err(error) = self.epoll.add(fd.as_fd(), token, Interest::Readable) {
                        tracing::error!("health: cannot accept other directors: {error}");
                    }
                    self.listeners.insert(number, fd);
                }
                Message::Unlisten(number) => drop(self.listeners.remove(&number)),
                Message::Tune(config) => self.tune(*config),
                Message::Hold(ip) => self.health.hold(ip),
                Message::Release(ip) => self.health.release(ip),
                Message::Leave => self.left = true,
            }
        }
    }

    fn tune(&mut self, config: Config) {
        if config.checks != self.config.checks {
            // Their numbers may mean others.
            self.probing.clear();
        }
        let port = self.config.port;
        self.health.tune(config.policy.clone());
        self.config = Config { port, ..config };
        // Files may be others under the same names.
        self.load_targets();
        if self.is_idle() {
            self.desk.rows.store(Arc::default());
        }
    }

    /// Decides, begins probes, and tells the others.
    fn tick(&mut self) {
        self.look_around();
        let Some(view) = self.view() else {
            return;
        };
        let (now, wall) = (self.now, clock::wall());
        let mut seed = self.seed;
        let steps = self.health.look(view, || next_random(&mut seed), now, wall);
        self.seed = seed;
        for step in steps {
            match step {
                Step::Say(level, text) => {
                    if let Some(more) = self.log.allow(now) {
                        say!(level, text, more);
                    }
                }
                Step::Ask(request) => {
                    let ticket = Ticket(self.ticket);
                    self.ticket += 1;
                    tracing::info!("health orders {}", in_words(&request));
                    self.ring
                        .send(ring_io::serve::Message::Request(ticket, request));
                }
            }
        }
        self.begin_probes();
        self.tend_links();
        let news = self.health.news();
        if self.next_beat <= now || news != self.told {
            self.told = news;
            self.next_beat = now.after(BEAT);
            self.tell_all();
        }
        self.desk.rows.store(Arc::new(self.health.rows(now)));
        self.desk.marks.store(Arc::new(self.health.all_marks()));
    }

    /// Takes the answer to the last question to the ring's thread, and asks again.
    fn look_around(&mut self) {
        if let Some(answer) = self.asked.as_ref().and_then(|it| it.try_recv().ok()) {
            self.around = Some(answer);
            self.around_at = self.now;
            self.asked = None;
        }
        if self.asked.is_none() {
            let (sender, receiver) = bounded(1);
            self.ring.send(ring_io::serve::Message::Around(sender));
            self.asked = Some(receiver);
        }
    }

    fn view(&self) -> Option<View> {
        let around = self.around.as_ref()?;
        let snapshot = self.directory.snapshot();
        let mut tags: Vec<&[u8]> = vec![b""; snapshot.tag_count()];
        for (name, tag) in snapshot.tags.iter() {
            if let Some(place) = tags.get_mut(usize::from(tag.0)) {
                *place = name;
            }
        }
        // Only of those that are down it matters, and counting millions costs.
        let count = self
            .health
            .marks()
            .iter()
            .any(|line| line.mark.is_down_by_health());
        let users = match count {
            true => self.directory.counted_per_backend(snapshot.backends.len()),
            false => Vec::new(),
        };
        let slots = snapshot.backends.iter().enumerate();
        let backends = slots.filter_map(|(slot, backend)| {
            let backend = backend.as_ref()?;
            let shown = backend.shown;
            let tag = tags.get(usize::from(shown.tag.0)).copied();
            let it = Backend {
                tag: tag.unwrap_or_default().to_vec(),
                vhosts: shown.vhosts,
                down: shown.down,
                changed: shown.last_updown_change,
                users: users.get(slot).copied().unwrap_or(0),
            };
            Some((backend.ip, it))
        });
        let is_fresh = self.now.since(self.around_at) < AROUND_LIMIT;
        Some(View {
            me: around.me,
            directors: around.directors.clone(),
            neighbours: around.neighbours.clone(),
            handshaked: around.handshaked && is_fresh,
            joined: around.joined && is_fresh,
            backends: backends.collect(),
        })
    }

    fn begin_probes(&mut self) {
        let room = PROBES_MAX.saturating_sub(self.probing.len());
        let mut seed = self.seed;
        let due = self.health.due(room, || next_random(&mut seed), self.now);
        self.seed = seed;
        for probe in due {
            self.begin_probe(probe);
        }
    }

    fn begin_probe(&mut self, probe: Probe) {
        let target = match self.targets.get(probe.check) {
            Some(Ok(target)) => Arc::clone(target),
            Some(Err(why)) => return self.health.not_probed(probe, format!("not made: {why}")),
            None => return,
        };
        let name = self
            .around
            .as_ref()
            .and_then(|it| it.names.get(&probe.ip).cloned());
        match Probing::begin(probe, target, name, self.now) {
            Ok(mut probing) => {
                let token = self.next_token(token::PROBE);
                let watched = match probing.interest() {
                    Some(interest) => self.epoll.add(probing.as_fd(), token, interest),
                    None => Ok(()),
                };
                match watched {
                    Ok(()) => drop(self.probing.insert(token, probing)),
                    Err(error) => self.not_begun(probe, &error),
                }
            }
            // Of ours, not of the backend.
            Err(error) if is_our_own(&error) => self.not_begun(probe, &error),
            Err(error) => self.ended(probe, Err(plainly(&error))),
        }
    }

    fn not_begun(&mut self, probe: Probe, error: &io::Error) {
        let why = format!("not made: {}", plainly(error));
        self.warn(|| format!("health: backend {} cannot be checked: {error}", probe.ip));
        self.health.not_probed(probe, why);
    }

    fn probe_ready(&mut self, token: u64, readable: bool) {
        let Some(probing) = self.probing.get_mut(&token) else {
            return;
        };
        let outcome = match probing.go_on(readable) {
            None => match probing.interest() {
                Some(interest) => {
                    let watched = self.epoll.modify(probing.as_fd(), token, interest);
                    watched.err().map(|error| Err(error.to_string()))
                }
                None => None,
            },
            some => some,
        };
        if let Some(result) = outcome
            && let Some(probing) = self.probing.remove(&token)
        {
            self.ended(probing.probe, result);
        }
    }

    fn end_late_probes(&mut self) {
        let now = self.now;
        let late: Vec<Probing> = self
            .probing
            .extract_if(.., |_, it| it.deadline <= now)
            .map(|(_, it)| it)
            .collect();
        for probing in late {
            self.ended(probing.probe, Err(probing.is_late()));
        }
    }

    fn ended(&mut self, probe: Probe, result: Result<(), String>) {
        self.health.probed(probe, result, clock::wall());
    }

    pub(super) fn next_token(&mut self, kind: u64) -> u64 {
        self.last_token += 1;
        kind | self.last_token
    }

    pub(super) fn random(&mut self) -> u64 {
        next_random(&mut self.seed)
    }

    /// Has epoll tell of what a connection waits for. False: it cannot.
    pub(super) fn watch(&self, stream: &mut Stream, token: u64) -> bool {
        match stream.interest() {
            Some(interest) => self.epoll.modify(stream.as_fd(), token, interest).is_ok(),
            None => true,
        }
    }

    pub(super) fn warn(&mut self, text: impl FnOnce() -> String) {
        if let Some(more) = self.log.allow(self.now) {
            tracing::warn!("{}{}", text(), left_out(more));
        }
    }
}

/// As an operator would order it.
fn in_words(request: &Request) -> String {
    match request {
        Request::Order(Order::Down(ip)) => format!("down {}", ip_text(*ip)),
        Request::Order(Order::Up(ip)) => format!("up {}", ip_text(*ip)),
        Request::Order(Order::UpdateBackend {
            ip,
            vhosts: Some(vhosts),
            ..
        }) => format!("update {} {vhosts}", ip_text(*ip)),
        Request::ResetUsers { host: Some(ip), .. } => format!("flush {}", ip_text(*ip)),
        other => format!("{other:?}"),
    }
}

/// Errors of the kernel that say nothing of the other side.
fn is_our_own(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let ours = [
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ENOBUFS,
        Errno::ENOMEM,
        Errno::EADDRNOTAVAIL,
        Errno::EADDRINUSE,
    ];
    error
        .raw_os_error()
        .is_some_and(|number| ours.contains(&Errno::from_raw(number)))
}

/// xorshift64*: it only scatters times.
fn next_random(seed: &mut u64) -> u64 {
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
}
