//! The control executor: signals, listeners that come and go, the rolling sweep, and what is told to
//! whoever started us. It serves neither lookups nor the director ring, so that it may wait and take
//! its time; it shares its CPU with the first serving core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, spawn_local};

use super::admin_io::serve::{AdminThread, Configured, Gate};
use super::chronicle::Chronicle;
use super::dovecot_master::StatusReporter;
use super::health::{self, Desk, HealthThread};
use super::http_io::HttpThread;
use super::keeper::{Keeper, KeeperError, KeeperEvent};
use super::names::{self, NamesThread};
use super::readable::{readable, socket_readable};
use super::ring_io::serve::{Replies, RingThread};
use super::ring_io::{self, Driver, Tuning};
use super::sessions;
use super::signals::{ControlSource, Notice};
use super::state::{self, Keep, Recollection};
use super::systemd;
use super::tier::{StartError, Tier};
use super::watchdog::Watchdog;
use super::{admin_io, clock, http_io};
use crate::admin::Context;
use crate::core::ip_text::ip_text;
use crate::core::names::Names;
use crate::core::ring::Input;
use crate::core::snapshot::Snapshot;
use crate::core::users::SHARDS;
use crate::settings::network::SystemNetwork;
use crate::settings::{Listener, ListenerKind, Loaded, Place, Problem, place_text};
use crate::wire::health::MarkLine;

/// Every shard is swept once in this many rounds of [`SWEEP_PAUSE`].
const SWEEP_ROUNDS: usize = 40;
const SWEEP_PAUSE: Duration = Duration::from_millis(250);
/// How often Dovecot's master is told of the number of connections, at most.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// What the control executor looks after.
pub struct Control {
    /// The serving cores.
    pub tier: Tier,
    /// Signals and the end of Dovecot's master.
    pub source: ControlSource,
    /// The process that makes listeners; `None` when they were all handed over.
    pub keeper: Option<Keeper>,
    /// The listeners given to the keeper, in its order.
    pub kept: Vec<Listener>,
    /// Dovecot's master, when it started us.
    pub master: Option<StatusReporter>,
    /// The machine of the ring.
    pub driver: Driver,
    /// How sessions are ended.
    pub sessions: sessions::Config,
    /// Sessions that are there already.
    pub learnt: Vec<sessions::Learnt>,
    /// Users that were saved.
    pub saved: Option<Recollection>,
    /// Where the state is kept; `None`: nowhere.
    pub state: Option<state::Setup>,
    /// Ring listeners that were handed over.
    pub ring_listeners: Vec<OwnedFd>,
    /// Admin listeners that were handed over, and who may connect to them.
    pub admin_listeners: Vec<(OwnedFd, Gate)>,
    /// HTTP listeners likewise.
    pub http_listeners: Vec<(OwnedFd, Gate)>,
    /// What the HTTP interface needs of the settings; a reload puts another one in its place.
    pub http: Arc<ArcSwap<http_io::Config>>,
    /// How backends are checked.
    pub health: health::Config,
    /// Health listeners that were handed over.
    pub health_listeners: Vec<OwnedFd>,
    /// Host names of backends.
    pub names: Names,
    /// `resolve_interval`.
    pub resolve_interval: Duration,
    /// What happens on SIGHUP.
    pub reload: Reload,
}

/// What a reload read from the settings file.
pub type Read = Result<Loaded, Vec<Problem>>;

/// See [`Reload::read`].
pub type ReadAgain = Arc<dyn Fn() -> Read + Send + Sync>;

/// See [`Reload::apply`].
pub type Apply = Box<dyn FnMut(Read, &Tier) -> Option<Tuning>>;

/// How the settings are read again.
pub struct Reload {
    /// Reads the file. Names of servers are looked up, which may take seconds: called on a thread of
    /// its own.
    pub read: ReadAgain,
    /// Takes over what can change. Returns what the ring needs, if the settings are right.
    pub apply: Apply,
}

struct Shared {
    tier: Tier,
    ring: RingThread,
    admin: AdminThread,
    http: HttpThread,
    names: NamesThread,
    keep: Option<Keep>,
    health: HealthThread,
    /// As they are after the last reload.
    sessions: Arc<ArcSwap<sessions::Config>>,
    /// Never borrowed across an await.
    keeper: RefCell<Option<Keeper>>,
    kept: Vec<Listener>,
    stop: Cell<bool>,
    /// Listeners in use, by their place in the keeper's list.
    listening: RefCell<HashMap<usize, InUse>>,
}

/// A listener of the keeper that somebody accepts from.
enum InUse {
    /// The serving cores.
    Cores(Arc<OwnedFd>),
    /// The ring, under this number.
    Ring(usize),
    /// The thread of the admin listeners, under this number.
    Admin(usize),
    /// The thread of the HTTP listeners, under this number.
    Http(usize),
    /// The thread of the health checks, under this number.
    Health(usize),
}

/// Runs until told to stop; then everything is closed, and what was made is removed.
///
/// # Errors
/// The executor cannot be made.
pub fn run(control: Control, cpus: &[usize], made: Vec<KeeperEvent>) -> Result<(), StartError> {
    let between = Between::new(&control.sessions)?;
    // Taken before the ring's thread can change it.
    let initial = control.tier.directory().snapshot();
    let context = context(&control.driver, &initial);
    let ring = start_ring(
        control.driver,
        control.sessions,
        (control.learnt, control.saved),
        control.ring_listeners,
        &control.tier,
        &between,
        cpus,
    )?;
    // Before this thread has its own CPU, which is one of a serving core.
    let admin = admin_io::Setup {
        directory: Arc::clone(control.tier.directory()),
        initial,
        configured: configured(&control.reload),
        cores: Arc::clone(control.tier.cores()),
        count: admin_io::counter(
            Arc::clone(&between.sessions),
            Arc::clone(control.tier.directory()),
        ),
        context,
        ring: ring.mailbox(),
        replies: between.replies,
        health: Arc::clone(&between.desk),
    };
    let admin = start_admin(admin, control.admin_listeners)?;
    let names = start_names(
        control.names,
        control.resolve_interval,
        &control.tier,
        &ring,
    );
    let health = start_health(
        (control.health, control.health_listeners),
        state::marks(control.state.as_ref()),
        Arc::clone(&between.desk),
        &control.tier,
        &ring,
    )?;
    let keep = Keep::start(control.state, control.tier.directory(), &between.desk);
    let http = start_http(
        control.http,
        control.http_listeners,
        &control.tier,
        &admin,
        between.chronicle,
    )?;
    let executor = executor(cpus)?;
    let shared = Shared {
        tier: control.tier,
        ring,
        admin,
        http,
        names,
        keep,
        health,
        sessions: between.sessions,
        keeper: RefCell::new(control.keeper),
        kept: control.kept,
        stop: Cell::new(false),
        listening: RefCell::default(),
    };
    let (source, master, reload) = (control.source, control.master, control.reload);
    executor.run(look_after(shared, source, master, reload, made));
    Ok(())
}

fn context(driver: &Driver, initial: &Snapshot) -> Context {
    Context {
        ring_port: driver.ring().members().me().port,
        username_hash: Arc::clone(&initial.username_hash),
    }
}

fn executor(cpus: &[usize]) -> Result<LocalExecutor, StartError> {
    let cpu = cpus.first().copied().unwrap_or(0);
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name("control")
        .io_memory(0)
        .make()
        .map_err(StartError::from)
}

/// What several threads have in common.
struct Between {
    replies: Arc<Replies>,
    chronicle: Arc<Chronicle>,
    desk: Arc<Desk>,
    sessions: Arc<ArcSwap<sessions::Config>>,
}

impl Between {
    fn new(sessions: &sessions::Config) -> std::io::Result<Between> {
        Ok(Between {
            replies: Arc::new(Replies::new()?),
            chronicle: Arc::new(Chronicle::default()),
            desk: Arc::new(Desk::new()?),
            sessions: Arc::new(ArcSwap::from_pointee(sessions.clone())),
        })
    }
}

fn start_ring(
    driver: Driver,
    sessions: sessions::Config,
    (learnt, saved): (Vec<sessions::Learnt>, Option<Recollection>),
    listeners: Vec<OwnedFd>,
    tier: &Tier,
    between: &Between,
    cpus: &[usize],
) -> Result<RingThread, StartError> {
    let setup = ring_io::serve::Setup {
        driver,
        sessions,
        learnt,
        saved,
        notes: Arc::clone(tier.directory().notes()),
        cores: Arc::clone(tier.cores()),
        replies: Arc::clone(&between.replies),
        chronicle: Arc::clone(&between.chronicle),
        health: Arc::clone(&between.desk),
    };
    let ring = RingThread::start(setup, if cpus.is_empty() { &[0] } else { cpus })?;
    for listener in listeners {
        ring.listen(listener);
    }
    Ok(ring)
}

fn start_admin(
    setup: admin_io::Setup,
    listeners: Vec<(OwnedFd, Gate)>,
) -> std::io::Result<AdminThread> {
    let admin = AdminThread::start(setup)?;
    for (listener, gate) in listeners {
        admin.listen(listener, gate);
    }
    Ok(admin)
}

fn start_http(
    config: Arc<ArcSwap<http_io::Config>>,
    listeners: Vec<(OwnedFd, Gate)>,
    tier: &Tier,
    admin: &AdminThread,
    chronicle: Arc<Chronicle>,
) -> std::io::Result<HttpThread> {
    let http = HttpThread::start(http_io::Setup {
        config,
        directory: Arc::clone(tier.directory()),
        cores: Arc::clone(tier.cores()),
        admin: admin.mailbox(),
        chronicle,
    })?;
    for (listener, gate) in listeners {
        http.listen(listener, gate);
    }
    Ok(http)
}

fn start_names(names: Names, interval: Duration, tier: &Tier, ring: &RingThread) -> NamesThread {
    NamesThread::start(names::Setup {
        names,
        interval,
        network: Arc::new(SystemNetwork),
        directory: Arc::clone(tier.directory()),
        ring: ring.mailbox(),
    })
}

fn start_health(
    (config, listeners): (health::Config, Vec<OwnedFd>),
    marks: Vec<MarkLine>,
    desk: Arc<Desk>,
    tier: &Tier,
    ring: &RingThread,
) -> std::io::Result<HealthThread> {
    let health = HealthThread::start(health::Setup {
        config,
        marks,
        directory: Arc::clone(tier.directory()),
        ring: ring.mailbox(),
        desk,
    })?;
    for listener in listeners {
        health.listen(listener);
    }
    Ok(health)
}

/// Reads the backends of the settings as they are now.
fn configured(reload: &Reload) -> Configured {
    let read = Arc::clone(&reload.read);
    Arc::new(move || match read() {
        Ok(loaded) => {
            let servers = &loaded.settings.director_mail_servers;
            Some(servers.iter().map(|server| server.ip).collect())
        }
        Err(problems) => {
            for problem in problems {
                tracing::error!("HOST-LIST-REMOVED: {problem}");
            }
            None
        }
    })
}

async fn look_after(
    shared: Shared,
    source: ControlSource,
    master: Option<StatusReporter>,
    reload: Reload,
    made: Vec<KeeperEvent>,
) {
    let under_master = master.is_some();
    let shared = Rc::new(shared);
    for event in made {
        shared.keeper_said(event);
    }
    shared.ring.feed(Input::Start);
    spawn_local(sweep(Rc::clone(&shared))).detach();
    spawn_local(watch_keeper(Rc::clone(&shared))).detach();
    if let Some(master) = master {
        spawn_local(report_status(master, Rc::clone(&shared))).detach();
    }
    if !under_master {
        spawn_local(watch_over(Rc::clone(&shared))).detach();
    }
    if !under_master && let Err(error) = systemd::notify("READY=1") {
        tracing::warn!("cannot tell systemd that we are ready: {error}");
    }
    tracing::info!("ready: {} serving cores", shared.tier.cores().count());
    take_notices(source, reload, under_master, &shared).await;
    if !under_master {
        // Nothing more can be done when systemd does not listen any more.
        let _ = systemd::notify("STOPPING=1");
    }
    shared.stop.set(true);
    // New logins find no socket before the ones under way are cut, and neighbours that come back
    // at once find nobody.
    shared.ring.stop_listening();
    shared.http.leave();
    // Whoever ends has no say any more.
    shared.health.leave();
    shared.admin.leave();
    if let Some(keeper) = shared.keeper.borrow_mut().take() {
        keeper.stop();
    }
    shared.tier.stop();
    // Last of all: the users of the last lookups are still told to the others.
    shared.ring.leave();
    if let Some(keep) = &shared.keep {
        keep.leave();
    }
    tracing::info!("stopped");
}

async fn take_notices(
    mut source: ControlSource,
    mut reload: Reload,
    under_master: bool,
    shared: &Shared,
) {
    loop {
        if let Err(error) = readable(source.as_fd()).await {
            tracing::error!("cannot wait for signals: {error}");
            Timer::new(STATUS_PAUSE).await;
        }
        loop {
            match source.notice() {
                Ok(Some(Notice::Terminate)) => {
                    tracing::info!("stopping: SIGTERM");
                    return;
                }
                Ok(Some(Notice::MasterGone)) => {
                    tracing::info!("stopping: Dovecot's master stops or reloads");
                    return;
                }
                Ok(Some(Notice::Interrupt)) if under_master => {}
                Ok(Some(Notice::Interrupt)) => {
                    tracing::info!("stopping: SIGINT");
                    return;
                }
                Ok(Some(Notice::Reload)) => {
                    let read = Arc::clone(&reload.read);
                    let read = glommio::executor().spawn_blocking(move || read()).await;
                    if let Some(tuning) = (reload.apply)(read, &shared.tier) {
                        shared.names.tune(tuning.resolve_interval);
                        if let Some(keep) = &shared.keep {
                            keep.tune(tuning.state_interval);
                        }
                        shared.health.tune(tuning.health.clone());
                        shared.sessions.store(Arc::new(tuning.sessions.clone()));
                        shared.ring.tune(tuning);
                    }
                }
                Ok(Some(Notice::User)) => shared.log_state(),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!("cannot read signals: {error}");
                    break;
                }
            }
        }
    }
}

async fn sweep(shared: Rc<Shared>) {
    let mut swept = 0;
    while !shared.stop.get() {
        Timer::new(SWEEP_PAUSE).await;
        let directory = shared.tier.directory();
        let shards = SHARDS.div_ceil(SWEEP_ROUNDS);
        directory.sweep(shards, clock::wall(), &directory.snapshot());
        swept += shards;
        if swept >= SHARDS {
            swept -= SHARDS;
            shared.ring.feed(Input::Swept);
        }
    }
}

async fn report_status(mut master: StatusReporter, shared: Rc<Shared>) {
    while !shared.stop.get() {
        let connections = u32::try_from(shared.tier.cores().connections()).unwrap_or(u32::MAX);
        if let Err(error) = master.update(connections, Duration::from_nanos(clock::mono().0)) {
            tracing::error!("cannot tell Dovecot's master how many connections fit: {error}");
        }
        Timer::new(STATUS_PAUSE).await;
    }
}

async fn watch_over(shared: Rc<Shared>) {
    let watchdog = Watchdog {
        cores: Arc::clone(shared.tier.cores()),
        ring: shared.ring.mailbox(),
    };
    watchdog.watch(|| shared.stop.get()).await;
}

async fn watch_keeper(shared: Rc<Shared>) {
    let socket = match &*shared.keeper.borrow() {
        Some(keeper) => keeper.as_fd().try_clone_to_owned(),
        None => return,
    };
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => return tracing::error!("cannot watch the keeper process: {error}"),
    };
    loop {
        if socket_readable(socket.as_fd()).await.is_err() {
            Timer::new(STATUS_PAUSE).await;
        }
        while let Some(event) = shared.next_from_keeper() {
            match event {
                Ok(event) => shared.keeper_said(event),
                Err(error) => return tracing::error!("{error}"),
            }
        }
        if shared.stop.get() {
            return;
        }
    }
}

impl Shared {
    fn next_from_keeper(&self) -> Option<Result<KeeperEvent, KeeperError>> {
        self.keeper.borrow().as_ref()?.recv().transpose()
    }

    fn keeper_said(&self, event: KeeperEvent) {
        match event {
            KeeperEvent::Made { index, fd } => {
                let Some(listener) = self.kept.get(index) else {
                    return;
                };
                let place = place_text(&listener.place);
                tracing::info!("listening on {place}");
                let is_fifo = matches!(listener.place, Place::Fifo(_));
                let Some(used) = self.listen(fd, listener, is_fifo) else {
                    return;
                };
                match self.listening.borrow_mut().insert(index, used) {
                    Some(InUse::Cores(old)) => self.tier.unlisten(&old),
                    Some(InUse::Ring(old)) => self.ring.unlisten(old),
                    Some(InUse::Admin(old)) => self.admin.unlisten(old),
                    Some(InUse::Http(old)) => self.http.unlisten(old),
                    Some(InUse::Health(old)) => self.health.unlisten(old),
                    None => {}
                }
            }
            KeeperEvent::Problem { text, .. } => tracing::warn!("{text}"),
            KeeperEvent::FirstRoundDone => {}
        }
    }

    fn listen(&self, fd: OwnedFd, listener: &Listener, is_fifo: bool) -> Option<InUse> {
        match listener.kind {
            ListenerKind::Ring => Some(InUse::Ring(self.ring.listen(fd))),
            ListenerKind::Admin => {
                let gate = Gate(listener.allow.clone());
                Some(InUse::Admin(self.admin.listen(fd, gate)))
            }
            ListenerKind::Http => {
                let gate = Gate(listener.allow.clone());
                Some(InUse::Http(self.http.listen(fd, gate)))
            }
            ListenerKind::Health => Some(InUse::Health(self.health.listen(fd))),
            kind => self.tier.listen(fd, kind, is_fifo).map(InUse::Cores),
        }
    }

    /// One line about users, the ring and lookups each, and one about each core (SIGUSR1).
    fn log_state(&self) {
        let directory = self.tier.directory();
        let snapshot = directory.snapshot();
        let users = directory.users_per_backend(clock::wall(), &snapshot);
        let mut line = format!("users: total={}", users.iter().sum::<u64>());
        for (backend, users) in snapshot.backends.iter().zip(&users) {
            if let Some(backend) = backend {
                line.push_str(&format!(" backend {}={users}", ip_text(backend.ip)));
            }
        }
        tracing::info!("{line}");
        if let Some(line) = self.ring.summary() {
            tracing::info!("{line}");
        }
        if let Some(keep) = &self.keep {
            tracing::info!("{}", keep.summary());
        }
        let counted = self.tier.cores().counted();
        for (core, stats) in &counted.by_core {
            tracing::info!("core {core}: {}", stats.of_core());
        }
        tracing::info!("{}", counted.sum.summary());
    }
}
