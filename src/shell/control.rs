//! The control executor: signals, listeners that come and go, the rolling sweep, and what is told to
//! whoever started us. It serves neither lookups nor the director ring, so that it may wait and take
//! its time; it shares its CPU with the first serving core.
//!
//! | module | what it is about |
//! |---|---|
//! | `listening` | who accepts from which listener |
//! | `upgrade` | another process takes over |

mod listening;
mod upgrade;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, spawn_local};
use nix::errno::Errno;

use super::admin_io::serve::{AdminThread, Configured};
use super::chronicle::Chronicle;
use super::cores::Message;
use super::dovecot_master::StatusReporter;
use super::health::{self, Desk, HealthThread};
use super::http_io::HttpThread;
use super::keeper::{Keeper, KeeperEvent};
use super::names::{self, NamesThread};
use super::readable::readable;
use super::relay::carry::Carried;
use super::ring_io::serve::{Replies, RingThread};
use super::ring_io::{self, Driver, Tuning};
use super::sessions;
use super::signals::{ControlSource, Notice};
use super::state::{self, Keep, Recollection};
use super::systemd;
use super::takeover::take::{Everything, Leaving};
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
use crate::settings::{Listener, Loaded, Problem};
use crate::wire::health::MarkLine;
use listening::{InUse, Which};
use upgrade::Successor;

pub use listening::Handed;
pub use upgrade::Succession;

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
    /// Who had set which backend's state.
    pub marks: Vec<MarkLine>,
    /// Where the state is kept; `None`: nowhere.
    pub state: Option<state::Setup>,
    /// Listeners that were handed over.
    pub handed: Vec<Handed>,
    /// The process that this one takes over from, with everything that it had.
    pub before: Option<Everything>,
    /// How another process takes over from this one; `None`: none may.
    pub succession: Option<Succession>,
    /// What the HTTP interface needs of the settings; a reload puts another one in its place.
    pub http: Arc<ArcSwap<http_io::Config>>,
    /// How backends are checked.
    pub health: health::Config,
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
    desk: Arc<Desk>,
    /// As they are after the last reload.
    sessions: Arc<ArcSwap<sessions::Config>>,
    /// Never borrowed across an await.
    keeper: RefCell<Option<Keeper>>,
    kept: Vec<Listener>,
    stop: Cell<bool>,
    /// What this process was told while it could do nothing about it.
    put_off: RefCell<VecDeque<Notice>>,
    /// Listeners in use, by their place in the keeper's list.
    listening: RefCell<HashMap<usize, InUse>>,
    /// A descriptor of each listener, of the keeper's and of others.
    held: RefCell<BTreeMap<Which, OwnedFd>>,
    /// Where those of others are.
    places: RefCell<Vec<String>>,
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
        &control.tier,
        &between,
        cpus,
    )?;
    // Before this thread has its own CPU, which is one of a serving core.
    let configured = configured(&control.reload);
    let admin = start_admin(
        (initial, configured),
        context,
        &control.tier,
        &ring,
        &between,
    )?;
    let names = start_names(
        control.names,
        control.resolve_interval,
        &control.tier,
        &ring,
    );
    let health = start_health(
        (control.health, control.marks),
        Arc::clone(&between.desk),
        &control.tier,
        &ring,
    )?;
    let keep = Keep::start(control.state, control.tier.directory(), &between.desk);
    let http = start_http(control.http, &control.tier, &admin, between.chronicle)?;
    let executor = executor(cpus)?;
    let shared = Shared {
        tier: control.tier,
        ring,
        admin,
        http,
        names,
        keep,
        health,
        desk: between.desk,
        sessions: between.sessions,
        keeper: RefCell::new(control.keeper),
        kept: control.kept,
        stop: Cell::new(false),
        put_off: RefCell::default(),
        listening: RefCell::default(),
        held: RefCell::default(),
        places: RefCell::default(),
    };
    let (relays, leaving) = match control.before {
        Some(before) => shared.take_over(before)?,
        None => Default::default(),
    };
    shared.begin_listening(made, control.handed, &relays);
    shared.take_up(relays);
    let told = Told {
        source: control.source,
        reload: control.reload,
        succession: control.succession,
    };
    executor.run(look_after(shared, told, control.master, leaving));
    Ok(())
}

/// Whom control listens to, and what it does then.
struct Told {
    source: ControlSource,
    reload: Reload,
    succession: Option<Succession>,
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
    RingThread::start(setup, if cpus.is_empty() { &[0] } else { cpus })
}

fn start_admin(
    (initial, configured): (Arc<Snapshot>, Configured),
    context: Context,
    tier: &Tier,
    ring: &RingThread,
    between: &Between,
) -> std::io::Result<AdminThread> {
    let (sessions, directory) = (Arc::clone(&between.sessions), Arc::clone(tier.directory()));
    AdminThread::start(admin_io::Setup {
        directory: Arc::clone(tier.directory()),
        initial,
        configured,
        cores: Arc::clone(tier.cores()),
        count: admin_io::counter(sessions, directory),
        context,
        ring: ring.mailbox(),
        replies: Arc::clone(&between.replies),
        health: Arc::clone(&between.desk),
    })
}

fn start_http(
    config: Arc<ArcSwap<http_io::Config>>,
    tier: &Tier,
    admin: &AdminThread,
    chronicle: Arc<Chronicle>,
) -> std::io::Result<HttpThread> {
    HttpThread::start(http_io::Setup {
        config,
        directory: Arc::clone(tier.directory()),
        cores: Arc::clone(tier.cores()),
        admin: admin.mailbox(),
        chronicle,
    })
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
    (config, marks): (health::Config, Vec<MarkLine>),
    desk: Arc<Desk>,
    tier: &Tier,
    ring: &RingThread,
) -> std::io::Result<HealthThread> {
    HealthThread::start(health::Setup {
        config,
        marks,
        directory: Arc::clone(tier.directory()),
        ring: ring.mailbox(),
        desk,
    })
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
    told: Told,
    master: Option<StatusReporter>,
    leaving: Option<Leaving>,
) {
    let under_master = master.is_some();
    let takes_over = leaving.is_some();
    let shared = Rc::new(shared);
    if let Some(leaving) = leaving {
        // Two of one name would be no ring. Logins are served meanwhile.
        let wait = glommio::executor().spawn_blocking(move || leaving.wait());
        wait.await;
    }
    shared.ring.feed(Input::Start);
    spawn_local(sweep(Rc::clone(&shared))).detach();
    let keeper = Rc::clone(&shared);
    spawn_local(async move { keeper.watch_keeper().await }).detach();
    if let Some(master) = master {
        spawn_local(report_status(master, Rc::clone(&shared))).detach();
    }
    if !under_master {
        spawn_local(watch_over(Rc::clone(&shared))).detach();
    }
    if !under_master && let Err(error) = systemd::notify("READY=1") {
        tracing::warn!("cannot tell systemd that we are ready: {error}");
    }
    if takes_over {
        // The process before may have said it last some time ago.
        let _ = systemd::notify("STATUS=\nWATCHDOG=1");
    }
    tracing::info!("ready: {} serving cores", shared.tier.cores().count());
    let successor = take_notices(told, under_master, &shared).await;
    shared.stop.set(true);
    match successor {
        Some(successor) => shared.make_way(successor),
        None => shared.end(under_master),
    }
}

/// Until the end; `Some`: another process has taken over.
async fn take_notices(told: Told, under_master: bool, shared: &Shared) -> Option<Successor> {
    let Told {
        mut source,
        mut reload,
        succession,
    } = told;
    loop {
        if let Err(error) = readable(source.as_fd()).await {
            tracing::error!("cannot wait for signals: {error}");
            Timer::new(STATUS_PAUSE).await;
        }
        loop {
            match shared.next_notice(&mut source) {
                Ok(Some(Notice::Terminate)) => {
                    tracing::info!("stopping: SIGTERM");
                    return None;
                }
                Ok(Some(Notice::MasterGone)) => {
                    tracing::info!("stopping: Dovecot's master stops or reloads");
                    return None;
                }
                Ok(Some(Notice::Interrupt)) if under_master => {}
                Ok(Some(Notice::Interrupt)) => {
                    tracing::info!("stopping: SIGINT");
                    return None;
                }
                Ok(Some(Notice::Reload)) => shared.reload(&mut reload).await,
                Ok(Some(Notice::Upgrade)) => {
                    let successor = shared.upgrade(succession.as_ref(), &mut source).await;
                    if successor.is_some() {
                        return successor;
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

impl Shared {
    fn next_notice(&self, source: &mut ControlSource) -> Result<Option<Notice>, Errno> {
        let earlier = self.put_off.borrow_mut().pop_front();
        earlier.map_or_else(|| source.notice(), |notice| Ok(Some(notice)))
    }

    /// Reads the settings again.
    async fn reload(&self, reload: &mut Reload) {
        let read = Arc::clone(&reload.read);
        let read = glommio::executor().spawn_blocking(move || read()).await;
        if let Some(tuning) = (reload.apply)(read, &self.tier) {
            self.names.tune(tuning.resolve_interval);
            if let Some(keep) = &self.keep {
                keep.tune(tuning.state_interval);
            }
            self.health.tune(tuning.health.clone());
            self.sessions.store(Arc::new(tuning.sessions.clone()));
            self.ring.tune(tuning);
        }
    }

    /// Hears from the process before this one that everything is ours now.
    fn take_over(
        &self,
        mut before: Everything,
    ) -> Result<(Vec<Carried>, Option<Leaving>), StartError> {
        before
            .wait_for_the_word()
            .map_err(|error| StartError::NotWanted(error.to_string()))?;
        let keeper = before.keeper.take();
        *self.keeper.borrow_mut() = keeper.map(Keeper::taken_over);
        let relays = std::mem::take(&mut before.relays);
        Ok((relays, Some(before.leaving())))
    }

    /// Serves connections of the process before this one, each core as many.
    fn take_up(&self, relays: Vec<Carried>) {
        let cores = self.tier.cores();
        for (at, relay) in relays.into_iter().enumerate() {
            cores.send(at % cores.count(), Message::TakeUp(Box::new(relay)));
        }
    }

    /// Closes everything, and removes what was made.
    fn end(&self, under_master: bool) {
        if !under_master {
            // Nothing more can be done when systemd does not listen any more.
            let _ = systemd::notify("STOPPING=1");
        }
        // New logins find no socket before the ones under way are cut, and neighbours that come back
        // at once find nobody.
        self.ring.stop_listening();
        self.http.leave();
        // Whoever ends has no say any more.
        self.health.leave();
        self.admin.leave();
        self.held.borrow_mut().clear();
        if let Some(keeper) = self.keeper.borrow_mut().take() {
            keeper.stop();
        }
        self.tier.stop();
        // Last of all: the users of the last lookups are still told to the others.
        self.ring.leave();
        if let Some(keep) = &self.keep {
            keep.leave();
        }
        tracing::info!("stopped");
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
