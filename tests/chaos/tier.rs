//! Five directors, what is beside each of them, and whether they agree.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::deeds::Deeds;
use crate::e2e::dovecot::HOMING;
use crate::e2e::process::{self, Proc};
use crate::e2e::{Heartbeat, PATIENCE, Site, StubAuth, admin, now, wait_until};
use crate::login::{Sessions, hash};
use crate::network::{DIRECTORS, Network, address};

pub const BACKENDS: u8 = 20;
/// How soon directors agree that can reach each other again.
const AGREED: Duration = Duration::from_secs(10);
/// Has a process see another time of day.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Weight, and whether it is down.
pub type Backends = BTreeMap<Ipv4Addr, (u32, bool)>;

pub struct Tier {
    // Before the site, which looks at the logs when it is dropped.
    processes: Vec<Option<Proc>>,
    pub network: Network,
    pub sessions: Arc<Sessions>,
    heartbeat: Heartbeat,
    site: Site,
}

/// One line to a director, and its answer. An order waits for the ring twice.
pub fn ask(socket: &Path, line: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    stream.write_all(format!("VERSION\tdirector-doveadm\t1\t0\n{line}\n").as_bytes())?;
    let answer = BufReader::new(stream).lines().nth(1);
    answer.ok_or(io::ErrorKind::UnexpectedEof)?
}

pub fn backend(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, number)
}

pub fn backends() -> Backends {
    (1..=BACKENDS)
        .map(|number| (backend(number), (100, false)))
        .collect()
}

impl Tier {
    pub fn start() -> Tier {
        let site = Site::new();
        StubAuth::start(&site.path().join("auth"));
        let sessions = Arc::new(Sessions::default());
        let mut tier = Tier {
            processes: (0..DIRECTORS).map(|_| None).collect(),
            network: Network::start(),
            sessions,
            heartbeat: Heartbeat::start(),
            site,
        };
        for at in 0..DIRECTORS {
            fs::create_dir(tier.dir(at)).expect("a directory");
            fs::write(tier.dir(at).join("homing.toml"), tier.settings(at)).expect("settings");
            tier.sessions.serve_ipc(at, &tier.dir(at).join("ipc"));
            tier.run(at, 0);
        }
        for at in 0..DIRECTORS {
            tier.wait_synced(at);
        }
        tier
    }

    fn dir(&self, at: usize) -> PathBuf {
        self.site.path().join(format!("h{at}"))
    }

    pub fn login(&self, at: usize) -> PathBuf {
        self.dir(at).join("login")
    }

    pub fn notify(&self, at: usize) -> PathBuf {
        self.dir(at).join("notify")
    }

    fn log(&self, at: usize) -> PathBuf {
        self.site.path().join(format!("h{at}.log"))
    }

    fn settings(&self, at: usize) -> String {
        let directors: Vec<String> = (0..DIRECTORS).map(address).collect();
        let mut text = format!(
            "director_mail_servers = \"{}-{}\"\ndirector_servers = \"{}\"\nbase_dir = {:?}\n\
             auth_login_path = {:?}\ndirector_user_expire = \"60 s\"\ncores = 1\nclient_limit = 200\n\
             kick_service = \"ipc\"\n\
             director_ping_idle_timeout = \"2 s\"\ndirector_ping_max_timeout = \"4 s\"\n",
            backend(1),
            backend(BACKENDS),
            directors.join(" "),
            self.dir(at),
            self.site.path().join("auth"),
        );
        for (kind, name) in [("login", "login"), ("notify", "notify"), ("admin", "admin")] {
            let path = self.dir(at).join(name);
            text += &format!("[[listener]]\ntype = \"{kind}\"\npath = {path:?}\n");
        }
        text + &format!(
            "[[listener]]\ntype = \"ring\"\naddress = \"{}:9090\"\n",
            address(at)
        )
    }

    /// Starts a director whose clock is off by so many seconds.
    pub fn run(&mut self, at: usize, offset: i64) {
        let config = self.dir(at).join("homing.toml").display().to_string();
        let namespace = self.network.namespace(at);
        let offset = format!("FAKETIME={offset:+}s");
        let preload = format!("LD_PRELOAD={FAKETIME}");
        let mut words = vec![namespace.as_str(), "env"];
        if offset != "FAKETIME=+0s" {
            words.extend([&preload, &offset, "FAKETIME_DONT_FAKE_MONOTONIC=1"]);
        }
        words.extend([HOMING, "run", "--config", &config]);
        self.processes[at] = Some(Proc::start("nsenter", &words, &self.log(at)));
        wait_until("a director is ready", PATIENCE, || {
            self.are_running();
            admin::try_rows(&self.dir(at).join("admin"), "HOST-LIST").is_ok()
        });
    }

    pub fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.processes[at].take() {
            process.kill();
        }
    }

    pub fn signal(&self, at: usize, number: i32) {
        let process = self.processes[at].as_ref().expect("a director");
        process::signal(process.pid(), number);
    }

    /// None has ended by itself.
    #[track_caller]
    pub fn are_running(&mut self) {
        for (at, process) in self.processes.iter_mut().enumerate() {
            if let Some(process) = process {
                assert!(process.is_running(), "director {at} has ended by itself");
            }
        }
    }

    /// Where orders are given.
    pub fn admin(&self, at: usize) -> PathBuf {
        self.dir(at).join("admin")
    }

    /// An order; what the director has said.
    pub fn order(&self, at: usize, line: &str) -> String {
        ask(&self.admin(at), line).expect("an answer to an order")
    }

    fn rows(&self, at: usize, command: &str) -> Vec<Vec<String>> {
        admin::try_rows(&self.dir(at).join("admin"), command).unwrap_or_default()
    }

    /// It is in the ring with all others, and agrees with them on the backends.
    fn is_synced(&self, at: usize) -> bool {
        let rows = self.rows(at, "DIRECTOR-LIST");
        let connected = |kind: &str| rows.iter().any(|row| row[2] == kind && row[4] == "synced");
        let own = rows
            .iter()
            .any(|row| row[2] == "self" && row[4] == "ring synced");
        own && connected("left") && connected("right")
    }

    pub fn wait_synced(&self, at: usize) {
        wait_until(
            &format!("director {at} is in a synced ring"),
            PATIENCE,
            || self.is_synced(at),
        );
    }

    fn backends(&self, at: usize) -> Backends {
        let row = |row: Vec<String>| {
            let weight = row[1].parse().expect("a weight");
            (row[0].parse().expect("an address"), (weight, row[4] == "D"))
        };
        self.rows(at, "HOST-LIST").into_iter().map(row).collect()
    }

    /// Where users are, by their hashes.
    pub fn users(&self, at: usize) -> BTreeMap<u32, Ipv4Addr> {
        let row = |row: Vec<String>| {
            let (hash, ip) = (row[0].parse().expect("a hash"), row[2].parse());
            (hash, ip.expect("an address"))
        };
        self.rows(at, "USER-LIST").into_iter().map(row).collect()
    }

    /// What a director says otherwise than it should; empty: nothing.
    fn differs(&self, at: usize, wanted: &Backends) -> String {
        if !self.is_synced(at) {
            return format!(
                "director {at} is not synced: {:?}",
                self.rows(at, "DIRECTOR-LIST")
            );
        }
        let backends = self.backends(at);
        if backends != *wanted {
            let wrong = backends
                .iter()
                .filter(|(ip, is)| wanted.get(ip) != Some(is));
            return format!("director {at} has {:?}", wrong.collect::<Vec<_>>());
        }
        let users = self.users(at);
        let places = self.sessions.places();
        let wrong = places
            .iter()
            .filter(|(user, backend)| users.get(&hash(user)) != Some(backend));
        let wrong: Vec<_> = wrong
            .map(|(user, backend)| (user, backend, users.get(&hash(user))))
            .collect();
        match wrong.is_empty() {
            true => String::new(),
            false => format!("director {at} has other places than the sessions: {wrong:?}"),
        }
    }

    /// All directors have what was ordered, and every session is where they say that its user is.
    pub fn agree(&mut self, deeds: &Deeds) {
        let begun = now();
        let mut last = String::new();
        loop {
            self.are_running();
            let doubles = self.sessions.doubles();
            let differences = (0..DIRECTORS).map(|at| self.differs(at, deeds.backends()));
            let difference = differences.chain(doubles).find(|it| !it.is_empty());
            let Some(difference) = difference else {
                break;
            };
            last = difference;
            assert!(begun.elapsed() < PATIENCE, "after {PATIENCE:?}: {last}");
            std::thread::sleep(Duration::from_millis(200));
        }
        self.heartbeat.in_time(
            &format!("that all agree (last: {last})"),
            begun.elapsed(),
            AGREED,
        );
    }
}
