//! A director: Homing, or Dovecot 2.3's own one in the same place.
//!
//! Both serve the same sockets at the same paths, so that every test can run against the original
//! too. A test that the original fails is a wrong test.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::admin;
use super::clock::{wait_for, wait_until};
use super::config::render;
use super::dovecot::{Dovecot, Version};
use super::process::{Proc, signal};
use super::site::Site;

const START_LIMIT: Duration = Duration::from_secs(20);
const DUMP_LIMIT: Duration = Duration::from_secs(5);
const TEMPLATE_23: &str = include_str!("conf/director-2.3.conf");

/// Which program directs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectorKind {
    /// Dovecot 2.3's director: shows that a test is right.
    Dovecot23,
    /// The program under test.
    Homing,
}

/// Who starts the director and makes its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectorPlacement {
    /// Started by itself; it makes its sockets at the paths of its settings.
    Standalone,
}

/// Sockets a director serves for one proxy.
#[derive(Clone, Debug)]
pub struct Sockets {
    pub login: PathBuf,
    pub userdb: PathBuf,
    pub notify: PathBuf,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct DirectorSpec {
    pub kind: DirectorKind,
    pub placement: DirectorPlacement,
    pub name: String,
    pub address: Ipv4Addr,
    /// `director_mail_servers`.
    pub backends: String,
    /// `director_user_expire` in seconds; at least 10.
    pub expire: u32,
    pub sockets: Sockets,
    pub auth_login: PathBuf,
    pub auth_userdb: PathBuf,
    /// Further lines for Homing's settings, before the listeners.
    pub homing_settings: String,
}

/// Users a director has assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    pub total: u64,
    pub by_backend: BTreeMap<String, u64>,
}

/// A running director.
pub struct Director {
    spec: DirectorSpec,
    site: PathBuf,
    running: Running,
}

enum Running {
    Dovecot(Dovecot),
    /// `None`: stopped.
    Homing(Option<Proc>),
}

impl Director {
    /// Starts a director and waits until it serves.
    pub fn start(site: &Site, spec: DirectorSpec) -> Self {
        let running = match spec.kind {
            DirectorKind::Dovecot23 => Running::Dovecot(start_dovecot(site, &spec)),
            DirectorKind::Homing => {
                let settings = site.path().join(format!("{}.toml", spec.name));
                fs::write(settings, homing_settings(&spec)).expect("settings of Homing");
                Running::Homing(None)
            }
        };
        let mut director = Self {
            spec,
            site: site.path().to_owned(),
            running,
        };
        if director.spec.kind == DirectorKind::Homing {
            director.run();
        }
        director.wait_ready();
        director
    }

    /// Its sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.spec.sockets
    }

    /// Starts it again after [`Self::stop`].
    pub fn run(&mut self) {
        let log = self.site.join(format!("{}.log", self.spec.name));
        let settings = self.site.join(format!("{}.toml", self.spec.name));
        match &mut self.running {
            Running::Dovecot(dovecot) => dovecot.run(),
            Running::Homing(running) => {
                let args = ["run", "--config", settings.to_str().expect("an ASCII path")];
                let ready = count_lines(&log, "ready");
                let mut started = Proc::start(env!("CARGO_BIN_EXE_homing"), &args, &log);
                wait_until("Homing says that it is ready", START_LIMIT, || {
                    assert!(started.is_running(), "Homing ended at once");
                    count_lines(&log, "ready") > ready
                });
                *running = Some(started);
            }
        }
        self.wait_ready();
    }

    /// Ends it in the orderly way.
    pub fn stop(&mut self) {
        match &mut self.running {
            Running::Dovecot(dovecot) => dovecot.stop(),
            Running::Homing(running) => {
                if let Some(mut running) = running.take() {
                    let pid = running.pid();
                    running.stop(pid);
                }
            }
        }
    }

    /// How many users it has assigned now.
    pub fn users(&self) -> Users {
        match &self.running {
            Running::Dovecot(dovecot) => users_of_dovecot(&dovecot.base().join("director-admin")),
            Running::Homing(Some(homing)) => users_of_homing(homing),
            Running::Homing(None) => panic!("Homing is stopped"),
        }
    }

    fn wait_ready(&self) {
        let Sockets { login, notify, .. } = &self.spec.sockets;
        wait_until("the director's login socket answers", START_LIMIT, || {
            UnixStream::connect(login).is_ok()
        });
        let is_fifo = fs::metadata(notify).is_ok_and(|file| file.file_type().is_fifo());
        assert!(is_fifo, "{} is no FIFO", notify.display());
    }
}

fn start_dovecot(site: &Site, spec: &DirectorSpec) -> Dovecot {
    assert_eq!(spec.placement, DirectorPlacement::Standalone);
    Dovecot::start(site, &spec.name, Version::V23, |dovecot| {
        let link = |target: &Path, name: &str| {
            symlink(target, dovecot.base().join(name)).expect("a link to auth");
        };
        link(&spec.auth_login, "auth-login");
        link(&spec.auth_userdb, "auth-userdb");
        let mut values = dovecot.values();
        values.extend([
            ("ADDRESS", spec.address.to_string()),
            ("BACKENDS", spec.backends.clone()),
            ("EXPIRE", spec.expire.to_string()),
            ("LOGIN_SOCKET", spec.sockets.login.display().to_string()),
            ("USERDB_SOCKET", spec.sockets.userdb.display().to_string()),
            ("NOTIFY_FIFO", spec.sockets.notify.display().to_string()),
        ]);
        render(TEMPLATE_23, &values)
    })
}

fn homing_settings(spec: &DirectorSpec) -> String {
    let listener = |kind: &str, path: &Path| {
        format!(
            "\n[[listener]]\ntype = \"{kind}\"\npath = \"{}\"\nmode = \"0666\"\n",
            path.display()
        )
    };
    [
        format!("director_mail_servers = \"{}\"\n", spec.backends),
        format!("director_user_expire = \"{} s\"\n", spec.expire),
        format!("auth_login_path = \"{}\"\n", spec.auth_login.display()),
        format!("auth_userdb_path = \"{}\"\n", spec.auth_userdb.display()),
        spec.homing_settings.clone(),
        listener("login", &spec.sockets.login),
        listener("userdb", &spec.sockets.userdb),
        listener("notify", &spec.sockets.notify),
    ]
    .concat()
}

/// `HOST-LIST` rows: address, weight, users, and more.
fn users_of_dovecot(socket: &Path) -> Users {
    let rows = admin::rows(socket, "HOST-LIST");
    let by_backend: BTreeMap<_, _> = rows
        .iter()
        .map(|row| (row[0].clone(), row[2].parse().expect("a count")))
        .collect();
    Users {
        total: by_backend.values().sum(),
        by_backend,
    }
}

/// SIGUSR1 makes Homing log `users: total=<n> backend <address>=<n> backend …`.
fn users_of_homing(homing: &Proc) -> Users {
    let before = count_lines(&homing.log, USERS);
    signal(homing.pid(), libc::SIGUSR1);
    let line = wait_for("Homing logs its users", DUMP_LIMIT, || {
        let log = fs::read_to_string(&homing.log).ok()?;
        let line = log.lines().filter(|line| line.contains(USERS)).nth(before);
        line.map(str::to_owned)
    });
    let (_, counts) = line.split_once(USERS).expect("found by it");
    let mut words = counts.split_whitespace();
    let total = words.next().and_then(|word| word.parse().ok());
    let backends = words.filter_map(|word| word.split_once('='));
    Users {
        total: total.unwrap_or_else(|| panic!("no total in {line}")),
        by_backend: backends
            .map(|(backend, count)| (backend.to_owned(), count.parse().expect("a count")))
            .collect(),
    }
}

const USERS: &str = "users: total=";

fn count_lines(log: &Path, text: &str) -> usize {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    log.lines().filter(|line| line.contains(text)).count()
}
