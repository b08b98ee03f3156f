//! One running Dovecot, of either version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::clock::{PATIENCE, wait_until};
use super::process::{self, Proc};
use super::site::Site;

/// Where `tests/setup.sh` puts a Debian 13 with Dovecot 2.4.
const ROOT_24: &str = "/var/cache/homing/trixie";
const ENTER_ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/rig/enter-root.sh");
/// The program under test.
pub const HOMING: &str = env!("CARGO_BIN_EXE_homing");
const START_LIMIT: Duration = PATIENCE;

/// Which Dovecot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 2.3, of this machine.
    V23,
    /// 2.4, in a root directory of its own.
    V24,
}

/// How login processes serve connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginMode {
    /// The default: a process serves one connection and ends.
    OnePerProcess,
    /// "High-performance mode": a few processes serve all.
    ManyPerProcess,
}

/// A Dovecot instance with its own `base_dir`. It is killed when this is dropped; an orderly end,
/// which takes a second or two, is [`Self::stop`].
pub struct Dovecot {
    name: String,
    version: Version,
    site: PathBuf,
    running: Option<Proc>,
}

impl Dovecot {
    /// Writes the configuration that `configure` makes for this instance's `base_dir` and log, and
    /// starts it.
    pub fn start(
        site: &Site,
        name: &str,
        version: Version,
        configure: impl FnOnce(&Self) -> String,
    ) -> Self {
        let mut dovecot = Self {
            name: name.to_owned(),
            version,
            site: site.path().to_owned(),
            running: None,
        };
        fs::create_dir_all(dovecot.base()).expect("base_dir");
        let text = configure(&dovecot);
        fs::write(dovecot.config(), text).expect("a configuration file");
        dovecot.run();
        dovecot
    }

    /// Its `base_dir`.
    pub fn base(&self) -> PathBuf {
        self.site.join(&self.name)
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.site.join(format!("{}.log", self.name))
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.site.join(format!("{}.conf", self.name))
    }

    /// `base_dir`, log and name for a template.
    pub fn values(&self) -> Vec<(&'static str, String)> {
        vec![
            ("NAME", self.name.clone()),
            ("BASE", self.base().display().to_string()),
            ("LOG", self.log().display().to_string()),
        ]
    }

    /// Starts it (again).
    pub fn run(&mut self) {
        assert!(self.running.is_none(), "{} runs already", self.name);
        let starts = self.starts();
        let output = self.site.join(format!("{}.out.log", self.name));
        let args = self.command();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let mut started = Proc::start("unshare", &args, &output);
        wait_until(&format!("{} starts", self.name), START_LIMIT, || {
            assert!(started.is_running(), "{} ended at once", self.name);
            self.starts() > starts
        });
        self.running = Some(started);
    }

    /// Stops it, master last, as a service manager would.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let below = process::descendants(running.pid());
            let master = below.first().map(|(pid, _)| *pid);
            running.stop(master.unwrap_or(running.pid()));
        }
    }

    /// Kills all of it at once and waits until nothing is left. What it has left on disk stays.
    #[allow(dead_code, reason = "the tests of rings are another program")]
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            let below = process::descendants(running.pid());
            running.kill();
            for (pid, _) in below {
                process::wait_gone(pid);
            }
        }
    }

    /// Runs `doveadm` in this instance, with its configuration; what it printed, and its exit status.
    pub fn doveadm(&self, words: &[&str]) -> (String, Option<i32>) {
        let (master, config) = (self.master().to_string(), self.config());
        let output = Command::new("nsenter")
            .args(["--target", &master, "--mount", "--pid", "--root", "--wd=/"])
            .args(["timeout", "60", "doveadm", "-c"])
            .arg(config)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("nsenter of util-linux");
        let texts = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&texts).into_owned();
        (text, output.status.code())
    }

    /// Has it read its configuration again, and replace its processes.
    pub fn reload(&self) {
        let config = fs::read_to_string(self.config()).expect("its configuration");
        // Dovecot 2.3 does nothing when the file is the same.
        fs::write(self.config(), config + "# again\n").expect("its configuration");
        let (said, status) = self.doveadm(&["reload"]);
        assert_eq!(status, Some(0), "doveadm reload: {said}");
    }

    /// What it has logged so far.
    pub fn log_text(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Which Dovecot it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Homing's path, as this instance sees it.
    pub fn homing(&self) -> String {
        match self.version {
            Version::V23 => HOMING.to_owned(),
            Version::V24 => self.site.join("homing").display().to_string(),
        }
    }

    /// Stops and starts it.
    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    /// Kills (`kill -9`) all processes of one of its services and says how many there were.
    pub fn kill_service(&self, service: &str) -> usize {
        let victims = self.service_pids(service);
        for pid in &victims {
            process::signal(*pid, libc::SIGKILL);
        }
        for pid in &victims {
            process::wait_gone(*pid);
        }
        victims.len()
    }

    /// The master process.
    pub fn master(&self) -> u32 {
        let running = self.running.as_ref().expect("it runs");
        let below = process::descendants(running.pid());
        below.first().expect("unshare has a child").0
    }

    /// Sends a signal to all processes of one of its services.
    pub fn signal_service(&self, service: &str, number: i32) {
        for pid in self.service_pids(service) {
            process::signal(pid, number);
        }
    }

    /// Processes with this name.
    pub fn service_pids(&self, service: &str) -> Vec<u32> {
        let running = self.running.as_ref().expect("it runs");
        process::descendants(running.pid())
            .into_iter()
            .filter(|(_, name)| name == service)
            .map(|(pid, _)| pid)
            .collect()
    }

    /// How often it has said in its log that it starts. It says so when all of its sockets listen.
    fn starts(&self) -> usize {
        let log = fs::read(self.log()).unwrap_or_default();
        memchr::memmem::find_iter(&log, ") starting up ").count()
    }

    /// Arguments of `unshare`. In its own PID namespace, so that all of its processes die with the
    /// first; and 2.4 also in its own mount namespace.
    fn command(&self) -> Vec<String> {
        let config = self.config().display().to_string();
        let site = self.site.display().to_string();
        let hosts = process::with_hosts(&self.site);
        let mut args = vec!["--mount", "--pid", "--fork", "--kill-child"];
        match self.version {
            Version::V23 => {
                args.push("--mount-proc");
                args.extend(hosts.iter().map(String::as_str));
            }
            Version::V24 => {
                assert!(
                    Path::new(ROOT_24).join("usr/sbin/dovecot").exists(),
                    "no Dovecot 2.4 in {ROOT_24}: run tests/setup.sh as root"
                );
                args.extend(["sh", ENTER_ROOT, ROOT_24, &site, HOMING]);
            }
        }
        args.extend(["/usr/sbin/dovecot", "-F", "-c", &config]);
        args.into_iter().map(str::to_owned).collect()
    }
}
