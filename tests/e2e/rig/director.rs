//! A director: Homing, or Dovecot 2.3's own one in the same place.
//!
//! Both serve the same sockets at the same paths, so that every test can run against the original
//! too. A test that the original fails is a wrong test.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::admin;
use super::clock::{PATIENCE, wait_for, wait_until};
use super::config::render;
use super::dovecot::{Dovecot, HOMING, Version};
use super::process::{Proc, adopt_orphans, signal, with_hosts};
use super::seat::Seat;
use super::service;
use super::site::Site;
use super::supervised::Supervised;

const START_LIMIT: Duration = PATIENCE;
const DUMP_LIMIT: Duration = PATIENCE;
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
    /// A service of the proxy's own Dovecot, whose master makes the sockets.
    DovecotService,
    /// As systemd would start it: as root, to become `dovecot`. Its keeper makes the sockets.
    SystemdLike,
    /// Started as `dovecot`, in the group that may enter `login`. Somebody gave it `login/director/`.
    Unprivileged,
}

/// Sockets a director serves for one proxy.
#[derive(Clone, Debug)]
pub struct Sockets {
    pub login: PathBuf,
    pub userdb: PathBuf,
    pub notify: PathBuf,
    /// Optional.
    pub authreply: Option<PathBuf>,
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
    /// Further lines for its settings, of Homing before the listeners. Not for a lone Dovecot.
    pub director_settings: String,
    /// Its place in a ring; without, it is alone.
    pub seat: Option<Seat>,
}

impl DirectorSpec {
    /// What its seat has to say; nothing when it is alone.
    fn in_ring(&self, text: &dyn Fn(&Seat) -> String) -> String {
        self.seat.as_ref().map_or_else(String::new, text)
    }
}

/// Makes two tests of a function that takes a [`DirectorKind`], which must be known where it is.
#[allow(
    unused_macros,
    reason = "the end-to-end tests have matrices of their own"
)]
macro_rules! for_both {
    ($name:ident, $body:path) => {
        mod $name {
            use super::DirectorKind;
            #[test]
            fn dovecot23() {
                $body(DirectorKind::Dovecot23);
            }
            #[test]
            fn homing() {
                $body(DirectorKind::Homing);
            }
        }
    };
}
#[allow(unused_imports, reason = "the same")]
pub(crate) use for_both;

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
    /// `None`: stopped.
    Supervised(Option<Supervised>),
    /// Of a proxy with this base_dir and log.
    Service(PathBuf, PathBuf),
}

impl Director {
    /// Starts a director and waits until it serves.
    pub fn start(site: &Site, spec: DirectorSpec) -> Self {
        let placement = spec.placement;
        let running = match (spec.kind, placement) {
            (DirectorKind::Dovecot23, DirectorPlacement::Standalone) => {
                Running::Dovecot(start_dovecot(site, &spec))
            }
            (
                DirectorKind::Homing,
                DirectorPlacement::Standalone | DirectorPlacement::Unprivileged,
            ) => Running::Homing(None),
            (DirectorKind::Homing, DirectorPlacement::SystemdLike) => Running::Supervised(None),
            (kind, placement) => panic!("{kind:?} cannot be started as {placement:?}"),
        };
        let mut director = Self {
            spec,
            site: site.path().to_owned(),
            running,
        };
        if director.spec.kind == DirectorKind::Homing {
            let settings = homing_settings(&director.spec, &director.admin_socket());
            fs::write(director.settings(), settings).expect("settings");
            fs::write(director.doveadm_config(), for_doveadm(&director.base())).expect("a file");
            if placement == DirectorPlacement::Unprivileged {
                // For its admin socket.
                fs::create_dir(director.base()).expect("a directory");
                let owner = owner(&director.spec.auth_login);
                chown(director.base(), Some(owner), None).expect("chown");
            }
            director.run();
        }
        director.wait_ready();
        director
    }

    /// The director that `proxy` has started as one of its services.
    pub fn of(site: &Site, proxy: &Dovecot, spec: DirectorSpec) -> Self {
        let director = Self {
            spec,
            site: site.path().to_owned(),
            running: Running::Service(proxy.base(), proxy.log()),
        };
        director.wait_ready();
        director
    }

    /// Writes the settings for Homing as a service of `proxy`, and returns the block for that
    /// proxy's configuration.
    pub fn service_block(site: &Site, proxy: &Dovecot, spec: &DirectorSpec) -> String {
        let settings = site.path().join(format!("{}.toml", spec.name));
        fs::write(&settings, service_settings(spec)).expect("settings of Homing");
        let built_in = format!(
            "director_servers = {}\ndirector_mail_servers = {}\ndirector_user_expire = {}s\n{}{}\n",
            spec.in_ring(&Seat::directors),
            spec.backends,
            spec.expire,
            spec.director_settings,
            spec.in_ring(&|seat| seat.dovecot_settings(&proxy.log())),
        );
        service::block(
            spec.kind,
            proxy.version(),
            &proxy.homing(),
            &settings,
            &built_in,
            &spec.in_ring(&|seat| seat.dovecot_listener(spec.address)),
        )
    }

    /// Whether it is a service of the proxy's own Dovecot.
    pub fn is_service(&self) -> bool {
        matches!(self.running, Running::Service(..))
    }

    /// Homing's settings file.
    pub fn settings(&self) -> PathBuf {
        self.site.join(format!("{}.toml", self.spec.name))
    }

    /// Homing's main process.
    pub fn pid(&self) -> u32 {
        match &self.running {
            Running::Homing(Some(homing)) => homing.pid(),
            Running::Supervised(Some(homing)) => homing.main(),
            Running::Service(base, _) => {
                wait_for("Homing runs", START_LIMIT, || service::find(base))
            }
            _ => panic!("Homing does not run"),
        }
    }

    /// Homing under its supervisor.
    pub fn supervised(&mut self) -> &mut Supervised {
        match &mut self.running {
            Running::Supervised(Some(homing)) => homing,
            _ => panic!("not supervised, or stopped"),
        }
    }

    /// Where it logs.
    pub fn log(&self) -> PathBuf {
        match &self.running {
            Running::Service(_, log) => log.clone(),
            _ => self.site.join(format!("{}.log", self.spec.name)),
        }
    }

    /// Waits until it has logged this text. What it logs of an event may come a moment after the event is seen
    /// from outside.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        wait_until(&format!("{text:?} in the log"), PATIENCE, || {
            count_lines(&self.log(), text) > 0
        });
    }

    /// Its sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.spec.sockets
    }

    /// Starts it again after [`Self::stop`].
    pub fn run(&mut self) {
        let (log, settings) = (self.log(), self.settings());
        let become_user = become_user(&self.spec);
        match &mut self.running {
            Running::Dovecot(dovecot) => dovecot.run(),
            Running::Homing(running) => {
                let hosts = with_hosts(&self.site);
                let mut words: Vec<&str> = become_user.iter().map(String::as_str).collect();
                if !hosts.is_empty() {
                    words.extend(["unshare", "--mount"]);
                    words.extend(hosts.iter().map(String::as_str));
                }
                let settings = settings.to_str().expect("an ASCII path");
                words.extend([HOMING, "run", "--config", settings]);
                let ready = count_lines(&log, "ready");
                let mut started = Proc::start(words[0], &words[1..], &log);
                wait_until("Homing says that it is ready", START_LIMIT, || {
                    let said = || std::fs::read_to_string(&log).unwrap_or_default();
                    assert!(started.is_running(), "Homing ended at once: {}", said());
                    count_lines(&log, "ready") > ready
                });
                *running = Some(started);
            }
            Running::Supervised(_) => self.run_until_ready(),
            Running::Service(..) => panic!("it is the proxy's: start that"),
        }
        self.wait_ready();
    }

    /// Starts a supervised Homing and returns the moment it says that it is ready.
    pub fn run_until_ready(&mut self) {
        let (log, settings) = (self.log(), self.settings());
        let mut started = Supervised::start(&self.site, &settings, &log);
        started.wait_ready();
        self.running = Running::Supervised(Some(started));
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
            Running::Supervised(running) => {
                if let Some(mut running) = running.take() {
                    running.signal(libc::SIGTERM);
                    assert_eq!(running.wait_end(), Some(0), "Homing's exit status");
                    let said: Vec<_> = std::iter::from_fn(|| running.said()).collect();
                    assert_eq!(said, ["STOPPING=1"]);
                }
            }
            Running::Service(..) => panic!("it is the proxy's: stop that"),
        }
    }

    /// How many users it has assigned now.
    pub fn users(&self) -> Users {
        match &self.running {
            _ if self.spec.kind == DirectorKind::Dovecot23 => {
                users_of_dovecot(&self.admin_socket())
            }
            _ => users_of_homing(self.pid(), &self.log()),
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

/// What only rings have done to them.
#[allow(dead_code, reason = "the tests of rings are another program")]
impl Director {
    /// Ends it without a warning, as if its machine had lost power.
    pub fn kill(&mut self) {
        match &mut self.running {
            Running::Dovecot(dovecot) => dovecot.kill(),
            Running::Homing(running) => {
                if let Some(mut running) = running.take() {
                    running.kill();
                }
                // Its keeper is a process of its own, and has to notice.
                let login = &self.spec.sockets.login;
                wait_until("the keeper lets go", START_LIMIT, || {
                    UnixStream::connect(login).is_err()
                });
            }
            Running::Supervised(_) | Running::Service(..) => panic!("it is not a lone process"),
        }
    }

    /// Has another process take over from a lone Homing.
    pub fn take_over(&mut self) {
        adopt_orphans();
        let (log, old) = (self.log(), self.pid());
        signal(old, libc::SIGUSR2);
        let pid = wait_for("another process", PATIENCE, || {
            let said = fs::read_to_string(&log).ok()?;
            let (_, rest) = said.rsplit_once("upgrade: process ")?;
            let pid = rest.split(' ').next()?.parse().ok()?;
            (pid != old).then_some(pid)
        });
        match &mut self.running {
            Running::Homing(Some(homing)) => homing.taken_over_by(pid),
            _ => panic!("not a lone Homing"),
        }
    }

    /// Sends a signal to the process that directs, e.g. to stop it for a while.
    pub fn signal(&self, number: i32) {
        let pids = match &self.running {
            Running::Dovecot(dovecot) => dovecot.service_pids("director"),
            _ => vec![self.pid()],
        };
        assert_eq!(pids.len(), 1, "processes of {}", self.spec.name);
        signal(pids[0], number);
    }

    /// Runs Dovecot 2.3's doveadm with a configuration in which this director's admin socket is where it
    /// is by default.
    pub fn run_doveadm(&self, words: &[&str]) -> Output {
        Command::new("timeout")
            .args(["90", "doveadm", "-c"])
            .arg(self.doveadm_config())
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("doveadm of Dovecot 2.3")
    }

    /// [`Self::run_doveadm`]; what it printed, and its exit status.
    pub fn doveadm(&self, words: &[&str]) -> (String, Option<i32>) {
        let output = self.run_doveadm(words);
        let texts = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&texts).into_owned();
        (text, output.status.code())
    }
}

/// Where doveadm finds it.
impl Director {
    /// Its admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.base().join("director-admin")
    }

    /// Dovecot's `base_dir`, or what is as good for doveadm.
    pub fn base(&self) -> PathBuf {
        match &self.running {
            Running::Dovecot(dovecot) => dovecot.base(),
            Running::Service(base, _) => base.clone(),
            _ => self.site.join(&self.spec.name),
        }
    }

    fn doveadm_config(&self) -> PathBuf {
        self.site.join(format!("{}.conf", self.spec.name))
    }
}

fn for_doveadm(base: &Path) -> String {
    let base = base.display();
    format!("base_dir = {base}\nstate_dir = {base}/state\nprotocols =\nssl = no\n")
}

fn start_dovecot(site: &Site, spec: &DirectorSpec) -> Dovecot {
    Dovecot::start(site, &spec.name, Version::V23, |dovecot| {
        let link = |target: &Path, name: &str| {
            symlink(target, dovecot.base().join(name)).expect("a link to auth");
        };
        link(&spec.auth_login, "auth-login");
        link(&spec.auth_userdb, "auth-userdb");
        let unused = PathBuf::from("director-authreply"); // in base_dir
        let authreply = spec.sockets.authreply.as_ref().unwrap_or(&unused);
        let mut values = dovecot.values();
        values.extend([
            ("ADDRESS", spec.address.to_string()),
            ("BACKENDS", spec.backends.clone()),
            ("DIRECTORS", spec.in_ring(&Seat::directors)),
            (
                "RING_SETTINGS",
                spec.in_ring(&|seat| seat.dovecot_settings(&dovecot.log())),
            ),
            (
                "RING_LISTENER",
                spec.in_ring(&|seat| seat.dovecot_listener(spec.address)),
            ),
            ("EXPIRE", spec.expire.to_string()),
            ("LOGIN_SOCKET", spec.sockets.login.display().to_string()),
            ("USERDB_SOCKET", spec.sockets.userdb.display().to_string()),
            ("NOTIFY_FIFO", spec.sockets.notify.display().to_string()),
            ("AUTHREPLY_SOCKET", authreply.display().to_string()),
        ]);
        render(TEMPLATE_23, &values)
    })
}

fn homing_settings(spec: &DirectorSpec, admin: &Path) -> String {
    let with_mode = |kind: &str, path: &Path, mode: &str| {
        format!(
            "\n[[listener]]\ntype = \"{kind}\"\npath = \"{}\"\nmode = \"{mode}\"\n",
            path.display()
        )
    };
    let listener = |kind: &str, path: &Path| with_mode(kind, path, "0666");
    let user = match spec.placement {
        DirectorPlacement::SystemdLike => format!("user = \"{}\"\n", owner(&spec.auth_login)),
        _ => String::new(),
    };
    let authreply = spec.sockets.authreply.as_ref();
    [
        service_settings(spec),
        spec.in_ring(&Seat::homing_settings),
        user,
        kick_services(spec),
        format!("auth_login_path = \"{}\"\n", spec.auth_login.display()),
        format!("auth_userdb_path = \"{}\"\n", spec.auth_userdb.display()),
        listener("login", &spec.sockets.login),
        listener("userdb", &spec.sockets.userdb),
        listener("notify", &spec.sockets.notify),
        with_mode("admin", admin, "0600"),
        authreply.map_or_else(String::new, |path| listener("authreply", path)),
        spec.in_ring(&|seat| seat.homing_listener(spec.address)),
        tables_of(&spec.director_settings).1.to_owned(),
    ]
    .concat()
}

/// Settings, and the tables of listeners and checks behind them, which must come last in a file.
fn tables_of(settings: &str) -> (&str, &str) {
    let at = settings.find("[[").unwrap_or(settings.len());
    settings.split_at(at)
}

/// The proxy's own `base_dir` has the services that end sessions. A lone auth has none.
fn kick_services(spec: &DirectorSpec) -> String {
    match spec
        .auth_login
        .file_name()
        .is_some_and(|name| name == "auth-login")
    {
        true => {
            let base = spec.auth_login.parent().expect("in base_dir");
            format!("base_dir = \"{}\"\n", base.display())
        }
        false => "kick_service = \"none\"\n".to_owned(),
    }
}

/// Who may open auth's socket: `dovecot`, whose number differs between the two Debians.
pub fn owner(socket: &Path) -> u32 {
    fs::metadata(socket).expect("auth's socket").uid()
}

/// What has to be in front of the command of a process that is not to be root: it is in the group that may
/// enter Dovecot's `login`.
fn become_user(spec: &DirectorSpec) -> Vec<String> {
    if spec.placement != DirectorPlacement::Unprivileged {
        return Vec::new();
    }
    let login = spec.sockets.login.ancestors().nth(2).expect("login");
    let group = fs::metadata(login).expect("Dovecot's directory").gid();
    let (user, group) = (owner(&spec.auth_login), group.to_string());
    let user = user.to_string();
    // A change of user would take the signal away.
    [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--reuid",
        &user,
        "--regid",
        &group,
        "--clear-groups",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// What Homing needs where Dovecot's master hands the listeners over, and auth is in the master's
/// own base_dir.
fn service_settings(spec: &DirectorSpec) -> String {
    format!(
        "director_mail_servers = \"{}\"\ndirector_user_expire = \"{} s\"\n{}",
        spec.backends,
        spec.expire,
        tables_of(&spec.director_settings).0
    )
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
fn users_of_homing(pid: u32, log: &Path) -> Users {
    let before = count_lines(log, USERS);
    signal(pid, libc::SIGUSR1);
    let line = wait_for("Homing logs its users", DUMP_LIMIT, || {
        let log = fs::read_to_string(log).ok()?;
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
