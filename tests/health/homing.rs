//! A Homing with checks, and what it says of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::e2e::dovecot::HOMING;
use crate::e2e::process::{self, Proc};
use crate::e2e::{PATIENCE, Site, admin, wait_until};

/// What a row of HOMING-HEALTH says.
#[derive(Clone, Debug, Default)]
pub struct Health {
    pub state: String,
    pub failed: u32,
    pub good: u32,
    pub decision: String,
    pub reason: String,
    pub by: String,
    pub vhosts: u32,
    pub weight: u32,
    pub error: String,
}

pub struct Spec<'a> {
    pub site: &'a Site,
    pub address: Ipv4Addr,
    /// All directors; empty: alone.
    pub directors: Vec<Ipv4Addr>,
    pub backends: Vec<Ipv4Addr>,
    /// Further settings, before tables.
    pub settings: String,
    /// `[[health_check]]` tables.
    pub checks: String,
}

/// One director.
pub struct Homing {
    dir: PathBuf,
    log: PathBuf,
    process: Option<Proc>,
}

impl Homing {
    pub fn start(spec: &Spec<'_>) -> Homing {
        let name = format!("h{}", spec.address.octets()[3]);
        let dir = spec.site.path().join(&name);
        fs::create_dir_all(&dir).unwrap();
        let mut homing = Homing {
            log: spec.site.path().join(format!("{name}.log")),
            dir,
            process: None,
        };
        homing.write(spec);
        homing.run();
        homing
    }

    /// Writes the settings.
    pub fn write(&self, spec: &Spec<'_>) {
        let list = |all: &[Ipv4Addr]| {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            all.join(" ")
        };
        let mut text = format!(
            "director_mail_servers = \"{}\"\nbase_dir = {:?}\nclient_limit = 200\ncores = 1\n\
             kick_service = \"none\"\ndirector_user_kick_delay = \"0\"\n{}\n",
            list(&spec.backends),
            self.dir,
            spec.settings
        );
        if !spec.directors.is_empty() {
            writeln!(text, "director_servers = \"{}\"", list(&spec.directors)).unwrap();
        }
        for (kind, name) in [("login", "login"), ("admin", "admin")] {
            let path = self.dir.join(name);
            writeln!(text, "[[listener]]\ntype = \"{kind}\"\npath = {path:?}").unwrap();
        }
        if !spec.directors.is_empty() {
            let ip = spec.address;
            for (kind, port) in [("ring", 9090), ("health", 9092)] {
                writeln!(
                    text,
                    "[[listener]]\ntype = \"{kind}\"\naddress = \"{ip}:{port}\""
                )
                .unwrap();
            }
        }
        fs::write(self.dir.join("homing.toml"), text + &spec.checks).unwrap();
    }

    pub fn run(&mut self) {
        let config = self.dir.join("homing.toml").display().to_string();
        let before = self.log_text().matches("ready: ").count();
        let mut started = Proc::start(HOMING, &["run", "--config", &config], &self.log);
        wait_until("Homing is ready", PATIENCE, || {
            assert!(started.is_running(), "ended at once:\n{}", self.log_text());
            self.log_text().matches("ready: ").count() > before
        });
        self.process = Some(started);
    }

    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    pub fn signal(&self, number: i32) {
        process::signal(self.process.as_ref().unwrap().pid(), number);
    }

    pub fn log_text(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("admin")
    }

    /// Says lines to the admin socket and hangs up, as poolmon does.
    pub fn say_and_leave(&self, lines: &str) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let text = format!("VERSION\tdirector-doveadm\t1\t0\n{lines}");
        stream.write_all(text.as_bytes()).unwrap();
    }

    /// Runs a command of ours, which must succeed.
    pub fn command(&self, words: &[&str]) -> String {
        let output = Command::new(HOMING)
            .args(words)
            .arg("-a")
            .arg(self.socket())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "homing {words:?}: {said}{error}");
        said
    }

    /// Backends that are down, their weights and users.
    pub fn hosts(&self) -> BTreeMap<Ipv4Addr, (bool, u32, u64)> {
        let rows = admin::rows(&self.socket(), "HOST-LIST");
        let row = |row: Vec<String>| {
            let ip = row[0].parse().unwrap();
            let (vhosts, users) = (row[1].parse().unwrap(), row[2].parse().unwrap());
            (ip, (row[4] == "D", vhosts, users))
        };
        rows.into_iter().map(row).collect()
    }

    pub fn is_down(&self, ip: Ipv4Addr) -> bool {
        self.hosts()[&ip].0
    }

    pub fn down(&self) -> Vec<Ipv4Addr> {
        let hosts = self.hosts().into_iter();
        hosts.filter(|(_, host)| host.0).map(|(ip, _)| ip).collect()
    }

    /// What a check says of a backend.
    pub fn health(&self, ip: Ipv4Addr, check: &str) -> Health {
        let rows = admin::rows(&self.socket(), "HOMING-HEALTH");
        let ip = ip.to_string();
        let found = rows.iter().find(|row| row[0] == ip && row[2] == check);
        let Some(row) = found else {
            return Health::default();
        };
        let number = |at: usize| row[at].parse().unwrap();
        Health {
            state: row[3].clone(),
            failed: number(5),
            good: number(6),
            decision: row[8].clone(),
            reason: row[9].clone(),
            by: row[10].clone(),
            vhosts: number(11),
            weight: number(12),
            error: row[13].clone(),
        }
    }

    #[track_caller]
    pub fn wait_state(&self, ip: Ipv4Addr, check: &str, state: &str) {
        let what = format!("check {check} of {ip} is {state}");
        wait_until(&what, PATIENCE, || self.health(ip, check).state == state);
    }

    #[track_caller]
    pub fn wait_down(&self, ip: Ipv4Addr, down: bool) {
        let what = format!("{ip} is down: {down}");
        wait_until(&what, PATIENCE, || self.is_down(ip) == down);
    }
}
