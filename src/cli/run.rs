//! `homing run` and `homing dovecot-service`: from the settings to a running director. Nothing
//! listens before everything is known to be right.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::log::{self, Level};
use super::state::Kept;
use super::takeover::{succession, take_over};
use super::{RunArgs, admin, http, refuse, ring, state};
use crate::core::state::SavedBackend;
use crate::settings::network::SystemNetwork;
use crate::settings::table;
use crate::settings::{self, ListenerKind, Loaded, Place, Problem, Settings, Sockets};
use crate::shell::admin_io::serve::Gate;
use crate::shell::control::{self, Control, Handed, Read, ReadAgain, Reload, Succession};
use crate::shell::dovecot_log;
use crate::shell::dovecot_master::{DovecotService, StatusReporter};
use crate::shell::http_io;
use crate::shell::keeper::{Keeper, KeeperEvent};
use crate::shell::preflight::{self, Exit};
use crate::shell::ring_io::tls::Certificates;
use crate::shell::ring_io::{Driver, Tuning};
use crate::shell::signals::{self, ControlSource};
use crate::shell::sockets::{BindClass, Bound};
use crate::shell::takeover::give::OPTION;
use crate::shell::takeover::take::{Everything, Old};
use crate::shell::tier::{Tier, tunables};
use crate::shell::{health, sessions};
use crate::shell::{privileges, random, systemd};

/// Why the director cannot run: one sentence, and the exit status.
pub(super) struct Refused {
    pub(super) exit: Exit,
    pub(super) sentence: String,
}

impl Refused {
    pub(super) fn config(sentence: impl Into<String>) -> Refused {
        Refused {
            exit: Exit::Config,
            sentence: sentence.into(),
        }
    }

    pub(super) fn environment(sentence: impl Into<String>) -> Refused {
        Refused {
            exit: Exit::Environment,
            sentence: sentence.into(),
        }
    }
}

impl From<preflight::Failure> for Refused {
    fn from(failure: preflight::Failure) -> Refused {
        Refused {
            exit: failure.exit,
            sentence: failure.sentence,
        }
    }
}

/// Runs as a process of its own.
pub fn run(args: &RunArgs) -> ExitCode {
    // First of all: these descriptors have fixed numbers.
    let adopted = systemd::adopted();
    let mut old = match args.take_over.then(Old::at_stdin).transpose() {
        Ok(old) => old,
        Err(error) => {
            eprintln!("homing: {OPTION} is for a running director to start another one: {error}");
            return ExitCode::from(super::USAGE);
        }
    };
    let loaded = match load(args, &Sockets::FromSettings) {
        Ok(loaded) => loaded,
        Err(problems) => {
            if let (Some(old), Some(first)) = (&mut old, problems.first()) {
                old.refuse(&first.to_string());
            }
            return refuse(&problems);
        }
    };
    let level = log::start(&loaded.settings.log_level, loaded.settings.log_format);
    warn(&loaded.warnings);
    let ended = match old {
        Some(old) => take_over(args, loaded.settings, old, level),
        None => start(args, loaded.settings, adopted, level),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(refused) => {
            eprintln!("homing: {}", refused.sentence);
            ExitCode::from(refused.exit.code())
        }
    }
}

/// Runs in place of Dovecot's own director.
pub fn dovecot_service(args: &RunArgs) -> ExitCode {
    let fail = |refused: Refused| {
        dovecot_log::fatal(&refused.sentence);
        ExitCode::from(refused.exit.code())
    };
    let service = match DovecotService::from_env() {
        Ok(Some(service)) => service,
        Ok(None) => {
            eprintln!(
                "homing: dovecot-service is for Dovecot's master to start, by service director \
                 {{ executable = homing dovecot-service }}; by hand use homing run"
            );
            return ExitCode::from(super::USAGE);
        }
        Err(error) => return fail(Refused::environment(error.to_string())),
    };
    let rings = service
        .listeners
        .iter()
        .filter_map(|listener| match listener.place {
            Place::Tcp(address) if listener.kind == ListenerKind::Ring => Some(address),
            _ => None,
        });
    let rings: Vec<SocketAddr> = rings.collect();
    let sockets = Sockets::HandedOver(rings);
    let mut loaded = match load(args, &sockets) {
        Ok(loaded) => loaded,
        Err(problems) => {
            problems
                .iter()
                .for_each(|problem| dovecot_log::fatal(&problem.to_string()));
            return ExitCode::from(Exit::Config.code());
        }
    };
    rebase(&mut loaded.settings, &service.base_dir);
    let level = log::to_dovecot(&loaded.settings.log_level);
    warn(&loaded.warnings);
    match start_service(args, loaded.settings, sockets, service, level) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refused) => fail(refused),
    }
}

fn load(args: &RunArgs, sockets: &Sockets) -> Result<Loaded, Vec<Problem>> {
    let mut loaded = settings::load_with(&args.config.config, &SystemNetwork, sockets)?;
    override_cores(&mut loaded.settings, args.cores);
    Ok(loaded)
}

/// The command line wins.
pub(super) fn override_cores(settings: &mut Settings, cores: Option<u16>) {
    if let Some(cores) = cores {
        settings.cores = Some(usize::from(cores));
    }
}

fn warn(warnings: &[Problem]) {
    warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
}

/// Auth's sockets are in the base_dir of the Dovecot that started us, unless the settings say
/// otherwise.
fn rebase(settings: &mut Settings, base_dir: &Path) {
    let old = std::mem::replace(&mut settings.base_dir, base_dir.to_owned());
    for path in [
        &mut settings.auth_login_path,
        &mut settings.auth_userdb_path,
    ] {
        let inside: Option<PathBuf> = path.strip_prefix(&old).ok().map(Path::to_owned);
        if let Some(inside) = inside {
            *path = base_dir.join(inside);
        }
    }
}

/// What must be right before anything is made.
pub(super) fn prepare(settings: &Settings) -> Result<preflight::Report, Refused> {
    if settings.listeners.is_empty() {
        return Err(Refused::config(
            "the settings have no [[listener]]: nobody could reach the director",
        ));
    }
    // Once more when privileges are dropped, and then to be used.
    ring_certificates(settings)?;
    http::config(settings)?;
    let report = preflight::check(settings)?;
    report
        .warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
    signals::block()
        .map_err(|error| Refused::environment(format!("signals cannot be blocked: {error}")))?;
    Ok(report)
}

fn start(
    args: &RunArgs,
    settings: Settings,
    adopted: Vec<(String, OwnedFd)>,
    level: Level,
) -> Result<(), Refused> {
    let report = prepare(&settings)?;
    state::prepare(&settings);
    let (handed, made_by_keeper) = sort_out(&settings, adopted)?;
    let keeper =
        Keeper::spawn(&made_by_keeper).map_err(|error| Refused::environment(error.to_string()))?;
    let made = keeper
        .first_round()
        .map_err(|error| Refused::environment(error.to_string()))?;
    made.iter().try_for_each(refuse_problem)?;
    drop_privileges(&settings)?;
    // Root may where others may not.
    preflight::io_uring()?;
    let listeners = handed
        .into_iter()
        .map(|it| (it.kind, it.fd, it.place, it.is_fifo));
    let cores = args.cores;
    let kept = state::recall(&settings);
    let origin = Origin {
        source: control_source(None)?,
        keeper: Some(keeper),
        kept: made_by_keeper,
        made,
        before: None,
        succession: Some(succession(&settings)?),
        master: None,
        read: read_again(args, Sockets::FromSettings),
        level,
    };
    let adjust = move |new: &mut Settings| override_cores(new, cores);
    direct(settings, &report.cpus, listeners, origin, kept, adjust)
}

fn start_service(
    args: &RunArgs,
    mut settings: Settings,
    sockets: Sockets,
    service: DovecotService,
    level: Level,
) -> Result<(), Refused> {
    ring_certificates(&settings)?;
    http::config(&settings)?;
    http::check_handed(&settings, &service.listeners)?;
    settings.client_limit = service.client_limit;
    let address_space = preflight::address_space();
    let report = preflight::check(&settings)?;
    address_space
        .iter()
        .chain(&report.warnings)
        .for_each(|warning| tracing::warn!("{warning}"));
    signals::block()
        .map_err(|error| Refused::environment(format!("signals cannot be blocked: {error}")))?;
    let user = settings
        .user
        .as_deref()
        .map(|user| (user, settings.group.as_deref()));
    state::prepare_for(&settings, service.restrict.uid, service.restrict.gid);
    service
        .restrict
        .apply(user)
        .map_err(|error| Refused::config(error.to_string()))?;
    // Root may where others may not.
    preflight::io_uring()?;
    let listeners = service.listeners.into_iter();
    let listeners = listeners.map(|it| (it.kind, it.fd, it.place, it.is_fifo));
    let adjust = {
        let (cores, base_dir) = (args.cores, settings.base_dir.clone());
        let client_limit = settings.client_limit;
        move |new: &mut Settings| {
            override_cores(new, cores);
            rebase(new, &base_dir);
            new.client_limit = client_limit;
        }
    };
    let kept = state::recall(&settings);
    let origin = Origin {
        source: control_source(Some(service.death_watch))?,
        keeper: None,
        kept: Vec::new(),
        made: Vec::new(),
        before: None,
        succession: None,
        master: Some(service.status),
        read: read_again(args, sockets),
        level,
    };
    direct(settings, &report.cpus, listeners, origin, kept, adjust)
}

/// In what ways of being started differ.
pub(super) struct Origin {
    pub(super) source: ControlSource,
    pub(super) keeper: Option<Keeper>,
    /// What the keeper was given to make, and what came of it.
    pub(super) kept: Vec<settings::Listener>,
    pub(super) made: Vec<KeeperEvent>,
    /// The director that is taken over.
    pub(super) before: Option<Everything>,
    pub(super) succession: Option<Succession>,
    pub(super) master: Option<StatusReporter>,
    pub(super) read: ReadAgain,
    pub(super) level: Level,
}

/// Directs until told to stop. The process is by now whom it will be.
pub(super) fn direct(
    settings: Settings,
    cpus: &[usize],
    listeners: impl Iterator<Item = (ListenerKind, OwnedFd, Place, bool)>,
    origin: Origin,
    kept: Kept,
    adjust: impl Fn(&mut Settings) + 'static,
) -> Result<(), Refused> {
    let sessions = sessions::Config::of(&settings);
    // Nobody is served yet who could be placed elsewhere. The director before this one knew them all.
    let learnt = match &origin.before {
        None => sessions::learn(&sessions),
        Some(_) => Vec::new(),
    };
    let (tier, driver, mut health) = start_tier(&settings, cpus, &kept.backends)?;
    let http = Arc::new(ArcSwap::from_pointee(http::config(&settings)?));
    let handed: Vec<Handed> = listeners.map(|it| handed(it, &settings)).collect();
    if origin.master.is_some() {
        // The settings have no listeners there.
        health.port = health_port(&handed);
    }
    let control = Control {
        tier,
        driver,
        sessions,
        learnt,
        saved: kept.saved,
        marks: kept.marks,
        state: kept.setup,
        handed,
        before: origin.before,
        succession: origin.succession,
        http: Arc::clone(&http),
        health,
        names: ring::names(&settings),
        resolve_interval: settings.resolve_interval,
        source: origin.source,
        keeper: origin.keeper,
        kept: origin.kept,
        master: origin.master,
        reload: Reload {
            read: origin.read,
            apply: Box::new(apply(settings, origin.level, http, adjust)),
        },
    };
    control::run(control, cpus, origin.made)
        .map_err(|error| Refused::environment(error.to_string()))
}

fn handed(
    (kind, fd, place, is_fifo): (ListenerKind, OwnedFd, Place, bool),
    settings: &Settings,
) -> Handed {
    let gate = match kind {
        ListenerKind::Http | ListenerKind::Admin => admin::gate(settings, kind, &place),
        _ => Gate::default(),
    };
    Handed {
        kind,
        fd,
        place,
        is_fifo,
        gate,
    }
}

/// Where other directors listen for votes, too.
fn health_port(handed: &[Handed]) -> Option<u16> {
    let mut ports = handed.iter().filter_map(|it| match it.place {
        Place::Tcp(address) if it.kind == ListenerKind::Health => Some(address.port()),
        _ => None,
    });
    ports.next_back()
}

/// Listeners that systemd made are recognised by their address; the keeper makes the others.
fn sort_out(
    settings: &Settings,
    adopted: Vec<(String, OwnedFd)>,
) -> Result<(Vec<Bound>, Vec<settings::Listener>), Refused> {
    let mut kept = settings.listeners.clone();
    let mut handed = Vec::new();
    for (name, fd) in adopted {
        let Some(at) = kept
            .iter()
            .position(|listener| systemd::is_at(&fd, &listener.place))
        else {
            return Err(Refused::config(format!(
                "systemd hands over a socket ({name}) that no [[listener]] has the path or address \
                 of: make the settings and the socket unit agree"
            )));
        };
        let listener = kept.remove(at);
        let is_fifo = matches!(listener.place, Place::Fifo(_));
        handed.push(Bound::adopted(listener.kind, fd, listener.place, is_fifo));
    }
    Ok((handed, kept))
}

/// A listener that may appear when Dovecot starts is waited for; any other problem ends the start.
fn refuse_problem(event: &KeeperEvent) -> Result<(), Refused> {
    match event {
        KeeperEvent::Problem {
            class: BindClass::Waiting,
            ..
        } => Ok(()),
        KeeperEvent::Problem {
            class: BindClass::Config,
            text,
            ..
        } => Err(Refused::config(text.clone())),
        KeeperEvent::Problem { text, .. } => Err(Refused::environment(text.clone())),
        KeeperEvent::Made { .. } | KeeperEvent::FirstRoundDone => Ok(()),
    }
}

pub(super) fn drop_privileges(settings: &Settings) -> Result<(), Refused> {
    match &settings.user {
        Some(user) => privileges::drop(user, settings.group.as_deref())
            .map_err(|error| Refused::config(error.to_string())),
        None => {
            if privileges::is_root() {
                tracing::warn!(
                    "running as root: set user to Dovecot's default_internal_user, who may open \
                     auth's sockets"
                );
            }
            Ok(())
        }
    }
}

pub(super) fn control_source(death_watch: Option<OwnedFd>) -> Result<ControlSource, Refused> {
    ControlSource::new(death_watch)
        .map_err(|error| Refused::environment(format!("signals cannot be watched: {error}")))
}

fn ring_certificates(
    settings: &Settings,
) -> Result<(Option<Arc<Certificates>>, Vec<String>), Refused> {
    ring::certificates(settings, settings.director_self)
        .map_err(|error| Refused::config(error.to_string()))
}

/// The director's state from the settings, and the cores that serve it.
///
/// `saved`: backends to begin with instead of those of the settings.
pub(super) fn start_tier(
    settings: &Settings,
    cpus: &[usize],
    saved: &[SavedBackend],
) -> Result<(Tier, Driver, health::Config), Refused> {
    let ring = ring::build(settings, saved)?;
    // Read as whom a reload will read them.
    let (certificates, warnings) = ring_certificates(settings)?;
    warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
    let cpus = if cpus.is_empty() { &[0] } else { cpus };
    let tier = Tier::start(settings, Arc::clone(ring.snapshot()), cpus, random::seed())
        .map_err(|error| Refused::environment(error.to_string()))?;
    let health = health::Config::of(settings, certificates.clone());
    let driver = Driver::new(ring, Arc::clone(tier.directory()), certificates);
    Ok((tier, driver, health))
}

/// The first half of what SIGHUP does.
pub(super) fn read_again(args: &RunArgs, sockets: Sockets) -> ReadAgain {
    let file = args.config.config.clone();
    Arc::new(move || settings::load_with(&file, &SystemNetwork, &sockets))
}

/// The other half: takes over what can change, and says what needs a restart. `adjust` makes of a
/// file's settings what they are in this process, as was done at the start.
fn apply(
    mut current: Settings,
    level: Level,
    http: Arc<ArcSwap<http_io::Config>>,
    adjust: impl Fn(&mut Settings),
) -> impl FnMut(Read, &Tier) -> Option<Tuning> {
    move |read, tier| {
        let mut new = match read {
            Ok(loaded) => {
                warn(&loaded.warnings);
                loaded.settings
            }
            Err(problems) => {
                problems
                    .iter()
                    .for_each(|problem| tracing::error!("{problem}"));
                tracing::error!("reload: the settings are wrong, nothing was changed");
                return None;
            }
        };
        adjust(&mut new);
        let certificates = certificates_again(&new, current.director_self)?;
        http_again(&new)?;
        let changes = settings::diff(&current, &new);
        for change in &changes {
            match change.reload {
                table::Reload::Live => tracing::info!("reload: {change}"),
                table::Reload::Restart | table::Reload::RingDecides => {
                    tracing::warn!("reload: {change}")
                }
            }
        }
        match tunables(&new) {
            Ok(tunables) => tier.directory().tune(tunables),
            Err(error) => {
                tracing::error!("reload: {error}; nothing was changed");
                return None;
            }
        }
        level.set(&new.log_level);
        tracing::info!("reload: done, {} differences", changes.len());
        take_live(&mut current, new);
        http.store(Arc::new(http_again(&current)?));
        Some(Tuning {
            limits: ring::limits(&current),
            health: health::Config::of(&current, certificates.clone()),
            certificates,
            sessions: sessions::Config::of(&current),
            resolve_interval: current.resolve_interval,
            state_interval: current.state_interval,
        })
    }
}

/// At a reload; `None`: they cannot be used, which was logged.
fn certificates_again(new: &Settings, me: Option<SocketAddr>) -> Option<Option<Arc<Certificates>>> {
    match ring::certificates(new, me) {
        Ok((certificates, warnings)) => {
            warnings
                .iter()
                .for_each(|warning| tracing::warn!("{warning}"));
            Some(certificates)
        }
        Err(error) => {
            tracing::error!("{error}");
            tracing::error!("reload: the certificates cannot be used, nothing was changed");
            None
        }
    }
}

/// Tokens and certificates of HTTP at a reload; `None`: they cannot be used, which was logged.
fn http_again(new: &Settings) -> Option<http_io::Config> {
    http_io::Config::load(new)
        .inspect_err(|error| {
            tracing::error!("{error}");
            tracing::error!("reload: the files of http_* cannot be used, nothing was changed");
        })
        .ok()
}

/// The settings now in force: what a reload changes is new, the rest is as it was, so that the
/// next reload tells of it again.
fn take_live(current: &mut Settings, new: Settings) {
    let old = std::mem::replace(current, new);
    current.director_servers = old.director_servers;
    current.director_self = old.director_self;
    current.director_mail_servers = old.director_mail_servers;
    current.director_user_expire = old.director_user_expire;
    current.director_username_hash = old.director_username_hash;
    current.auth_master_user_separator = old.auth_master_user_separator;
    current.base_dir = old.base_dir;
    current.state_path = old.state_path;
    current.user = old.user;
    current.group = old.group;
    current.cores = old.cores;
    current.client_limit = old.client_limit;
    current.listeners = old.listeners;
}
