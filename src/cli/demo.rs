//! `homing demo`: the main job on an embedded default, with nothing installed and not as root.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use std::time::Duration;

use clap::Args;
use loadgen::{Amount, Bar, Plan, StubAuth, StubConfig, Target, Users};

use super::ring;
use super::run::{Refused, start_tier};
use crate::settings::{
    KickService, Listener, ListenerKind, Loaded, LogFormat, MailServer, Place, Settings,
};
use crate::shell::admin_io::serve::Gate;
use crate::shell::control::{self, Control, Handed, Reload};
use crate::shell::preflight::{self, Exit};
use crate::shell::ring_io::Driver;
use crate::shell::signals::{self, ControlSource};
use crate::shell::sockets::{Bound, bind};
use crate::shell::tier::Tier;

const BACKENDS: u8 = 20;
/// Where a director has it below its `base_dir`, too.
const ADMIN: &str = "director-admin";
/// A check of the demo did not hold.
const FAILED: u8 = 1;

#[derive(Args)]
pub struct DemoArgs {
    /// How many logins to make.
    #[arg(long, default_value_t = 400_000, value_parser = clap::value_parser!(u64).range(1..))]
    logins: u64,
    /// How many users make them.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Then go on serving, with an admin socket, until interrupted.
    #[arg(long)]
    serve: bool,
}

/// Where the demo's sockets are; removed at its end.
struct Scratch {
    dir: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-overs in a temporary directory do no harm.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Runs the demo.
pub fn demo(args: &DemoArgs) -> ExitCode {
    let _log = super::log::start("error", LogFormat::Plain);
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(refused) => {
            eprintln!("homing: {}", refused.sentence);
            ExitCode::from(refused.exit.code())
        }
    }
}

fn run(args: &DemoArgs) -> Result<bool, Refused> {
    let place = make_place()?;
    let settings = settings(&place.dir);
    let report = preflight::check(&settings)?;
    signals::block().map_err(environment("signals cannot be blocked"))?;
    let (tier, driver, _) = start_tier(&settings, &report.cpus, &[])?;
    let login = listen(&tier, &settings.listeners[0])?;
    println!(
        "Homing with {} serving cores and {BACKENDS} backends; a stub auth server answers for any \
         user; {} logins of {} users through {}",
        tier.cores().count(),
        args.logins,
        args.users,
        settings.auth_login_path.with_file_name("login").display(),
    );
    let held = drive(args, &settings, &tier)?;
    if args.serve {
        serve((tier, driver), &settings, &report.cpus)?;
    } else {
        tier.stop();
    }
    login.remove();
    Ok(held)
}

fn environment<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Refused {
    move |error| Refused::environment(format!("{what}: {error}"))
}

fn make_place() -> Result<Scratch, Refused> {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let bases = base.into_iter().chain([std::env::temp_dir()]);
    let mut last = None;
    for base in bases {
        let dir = base.join(format!("homing-demo-{}", std::process::id()));
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(Scratch { dir }),
            Err(error) => last = Some(format!("{}: {error}", dir.display())),
        }
    }
    let why = last.unwrap_or_default();
    Err(Refused::environment(format!(
        "no directory for the demo's sockets can be made: {why}"
    )))
}

fn settings(dir: &Path) -> Settings {
    let backend = |last: u8| MailServer {
        ip: [10, 0, 0, last].into(),
        name: None,
        tag: String::new(),
        vhosts: 100,
    };
    let listener = |kind, name| Listener {
        kind,
        place: Place::Unix(dir.join(name)),
        mode: 0o600,
        owner: None,
        group: None,
        allow: Vec::new(),
    };
    Settings {
        director_mail_servers: (1..=BACKENDS).map(backend).collect(),
        auth_login_path: dir.join("auth-login"),
        auth_userdb_path: dir.join("auth-userdb"),
        client_limit: 200,
        // There is no Dovecot whose sessions could be ended.
        kick_service: KickService::None,
        listeners: vec![
            listener(ListenerKind::Login, "login"),
            listener(ListenerKind::Admin, ADMIN),
        ],
        ..Settings::default()
    }
}

fn make(listener: &Listener) -> Result<Bound, Refused> {
    bind(listener).map_err(|error| Refused {
        exit: Exit::Environment,
        sentence: error.to_string(),
    })
}

fn listen(tier: &Tier, listener: &Listener) -> Result<Bound, Refused> {
    let bound = make(listener)?;
    let fd = bound.fd.try_clone().map_err(environment("cannot listen"))?;
    tier.listen(fd, listener.kind, false);
    Ok(bound)
}

fn stub(settings: &Settings) -> StubConfig {
    StubConfig {
        login: Some(settings.auth_login_path.clone()),
        ..StubConfig::default()
    }
}

/// How many hashes the users' names have: of many names some share one, and thus a place.
fn hashes(tier: &Tier, prefix: &str, users: u32) -> u64 {
    let snapshot = tier.directory().snapshot();
    let mut scratch = Vec::new();
    let mut hash = |user| {
        let name = format!("{prefix}{user}");
        snapshot.username_hash.hash(name.as_bytes(), &mut scratch).0
    };
    let mut hashes: Vec<u32> = (0..users).map(&mut hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.len() as u64
}

/// Drives the logins, prints what came of them, and says whether every check held.
fn drive(args: &DemoArgs, settings: &Settings, tier: &Tier) -> Result<bool, Refused> {
    let login = settings.auth_login_path.with_file_name("login");
    let plan = Plan {
        stub_auth: Some(stub(settings)),
        users: Users::Known {
            count: args.users,
            preload: true,
        },
        amount: Amount::Lookups(args.logins),
        time_limit: Duration::from_secs(300),
        ..Plan::new(Target::Login(login))
    };
    let bar = Bar::new();
    let report = loadgen::run(&plan, |progress| bar.show(progress));
    bar.clear();
    let report = report.map_err(environment("the logins could not be made"))?;
    println!("{report}");
    let users = tier.directory().users();
    let hashes = hashes(tier, &plan.prefix, args.users);
    let same = users == hashes;
    println!(
        "users in the director's table: {users}; the {} names have {hashes} hashes",
        report.users
    );
    let held = report.passed() && same;
    println!(
        "{}",
        if held {
            "Every check held."
        } else {
            "A CHECK FAILED, see above."
        }
    );
    Ok(held)
}

/// As a director without a settings file, until interrupted.
fn serve(
    (tier, driver): (Tier, Driver),
    settings: &Settings,
    cpus: &[usize],
) -> Result<(), Refused> {
    let _auth = StubAuth::spawn(&stub(settings)).map_err(environment("no stub auth server"))?;
    let source = ControlSource::new(None).map_err(environment("signals cannot be watched"))?;
    let admin = make(&settings.listeners[1])?;
    let handed = Handed {
        kind: admin.kind,
        fd: admin.fd.try_clone().map_err(environment("cannot listen"))?,
        place: admin.place.clone(),
        is_fifo: false,
        gate: Gate::default(),
    };
    let login = settings.auth_login_path.with_file_name("login");
    println!(
        "Serving until interrupted: login socket {}, a stub auth server behind it.\n\
         Its operator's commands: homing status -a {}",
        login.display(),
        login.with_file_name(ADMIN).display()
    );
    let loaded = Loaded {
        settings: settings.clone(),
        warnings: Vec::new(),
    };
    let http = super::http::config(settings)?;
    let control = Control {
        tier,
        driver,
        sessions: crate::shell::sessions::Config::of(settings),
        learnt: Vec::new(),
        saved: None,
        marks: Vec::new(),
        state: None,
        handed: vec![handed],
        before: None,
        succession: None,
        http: Arc::new(ArcSwap::from_pointee(http)),
        health: crate::shell::health::Config::of(settings, None),
        names: ring::names(settings),
        resolve_interval: settings.resolve_interval,
        source,
        keeper: None,
        kept: Vec::new(),
        master: None,
        reload: Reload {
            read: Arc::new(move || Ok(loaded.clone())),
            // There is no file that could have changed.
            apply: Box::new(|_, _| None),
        },
    };
    control::run(control, cpus, Vec::new()).map_err(environment("the demo cannot go on"))?;
    admin.remove();
    Ok(())
}
