//! A Homing process: its directory, its settings, its log, its signals, its resources.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{SOON, clock, wait_for};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_homing");

/// A directory with settings; nothing runs yet.
pub struct Site {
    dir: tempfile::TempDir,
    settings: Vec<(String, String)>,
    more: String,
    args: Vec<String>,
}

impl Site {
    pub fn new() -> Site {
        let dir = tempfile::Builder::new().prefix("hab").tempdir().unwrap();
        let at = |name: &str| format!("{:?}", dir.path().join(name));
        let settings = [
            ("director_mail_servers", "\"10.2.0.1-10.2.0.4\"".to_owned()),
            ("base_dir", at("")),
            ("auth_login_path", at("auth-login")),
            ("auth_userdb_path", at("auth-userdb")),
            ("client_limit", "500".to_owned()),
            ("log_level", "\"trace\"".to_owned()),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value));
        Site {
            settings: settings.to_vec(),
            dir,
            more: String::new(),
            args: Vec::new(),
        }
    }

    /// Sets or replaces a setting; `value` as in the file.
    pub fn set(mut self, key: &str, value: &str) -> Site {
        self.change(key, value);
        self
    }

    pub fn change(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    pub fn arg(mut self, arg: &str) -> Site {
        self.args.push(arg.to_owned());
        self
    }

    /// Adds to the end of the settings file.
    #[allow(dead_code, reason = "not every program of tests needs it")]
    pub fn append(mut self, text: &str) -> Site {
        self.more.push_str(text);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("homing.toml")
    }

    /// The settings file's text, with a listener of each kind.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.settings {
            writeln!(text, "{key} = {value}").unwrap();
        }
        for (kind, name, more) in [
            ("login", "login-socket", ""),
            ("userdb", "userdb-socket", ""),
            ("authreply", "authreply-socket", ""),
            ("notify", "notify-fifo", ""),
            ("notify", "notify-socket", "fifo = false\n"),
        ] {
            let path = self.path(name);
            writeln!(
                text,
                "[[listener]]\ntype = \"{kind}\"\npath = {path:?}\nmode = \"0666\"\n{more}"
            )
            .unwrap();
        }
        text + &self.more
    }

    pub fn write(&self) {
        std::fs::write(self.config(), self.text()).unwrap();
    }

    /// The command that runs it, not yet started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg("--config").arg(self.config());
        command.args(&self.args);
        command
    }

    pub fn start(self) -> Homing {
        self.write();
        let command = self.command();
        Homing::start(self, command)
    }
}

pub struct Homing {
    pub site: Site,
    child: Child,
}

impl Homing {
    /// Starts a command and waits until it serves.
    pub fn start(site: Site, mut command: Command) -> Homing {
        let log = File::create(site.path("log")).unwrap();
        end_with_us(&mut command);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut homing = Homing { site, child };
        homing.wait_log("ready: ");
        homing
    }

    pub fn login(&self) -> PathBuf {
        self.site.path("login-socket")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.site.path("log")).unwrap();
        String::from_utf8(bytes).expect("the log is UTF-8")
    }

    /// Waits for a line with `text`, and returns the last such line.
    pub fn wait_log(&mut self, text: &str) -> String {
        let end = clock::now() + SOON;
        loop {
            if let Some(line) = self.log().lines().rev().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended: {ended:?}\n{}", self.log());
            assert!(clock::now() < end, "no {text:?} in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it without a warning.
    #[allow(dead_code, reason = "not every program of tests needs it")]
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// The lines that SIGUSR1 makes it log, newest only.
    pub fn state(&self) -> Vec<String> {
        let seen = self.log().len();
        self.signal(nix::sys::signal::Signal::SIGUSR1);
        wait_for("the state lines", || {
            let log = self.log();
            let (_, last) = log[seen..].split_once("keep_alives=")?;
            // It may be in the middle of the line.
            last.contains('\n')
                .then(|| log[seen..].lines().map(str::to_owned).collect())
        })
    }

    /// A number from the state lines: the first `name=` of the line that has `of`.
    pub fn count(&self, of: &str, name: &str) -> u64 {
        let state = self.state();
        let number = state
            .iter()
            .filter(|line| line.contains(of))
            .find_map(|line| {
                let (_, rest) = line.split_once(&format!(" {name}="))?;
                rest.split(' ').next()?.parse().ok()
            });
        number.unwrap_or_else(|| panic!("no {name} of {of:?} in {state:#?}"))
    }

    /// Users known.
    pub fn users(&self) -> u64 {
        self.count("users:", "total")
    }

    /// A counter of all cores.
    pub fn total(&self, name: &str) -> u64 {
        self.count("timed_out=", name)
    }

    /// Waits until so many connections are open. The FIFO counts as one.
    pub fn wait_connections(&self, count: u64) {
        self.wait_total("connections", count);
    }

    /// Waits until a counter of all cores has this value. It may change a moment after what it counts is seen from
    /// outside.
    #[track_caller]
    pub fn wait_total(&self, name: &str, count: u64) {
        let end = clock::now() + SOON;
        loop {
            let last = self.total(name);
            if last == count {
                return;
            }
            assert!(clock::now() < end, "{name}={last}, not {count}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a text in the log. It may be written a moment after what it tells of is seen from outside.
    #[track_caller]
    pub fn wait_said(&self, text: &str) {
        let end = clock::now() + SOON;
        while !self.log().contains(text) {
            assert!(clock::now() < end, "no {text:?} in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|text| text.parse().ok()).expect("VmRSS")
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        let dir = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(dir).unwrap().count()
    }

    /// CPU time used, in clock ticks.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Ends it as an operator would, and checks that it ended well.
    pub fn stop(mut self) -> String {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = wait_end(&mut self.child);
        assert!(status.success(), "{status:?}\n{}", self.log());
        assert!(!self.log().contains("panicked"), "{}", self.log());
        // It may be started again at once.
        for name in [
            "login-socket",
            "userdb-socket",
            "notify-fifo",
            "notify-socket",
        ] {
            assert!(!self.site.path(name).exists(), "{name} is left behind");
        }
        self.log()
    }
}

impl Drop for Homing {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // It may just have ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            eprintln!("log:\n{}", log.get(from..).unwrap_or(&log));
        }
    }
}

/// The kernel ends the process when the thread that started it ends.
pub fn end_with_us(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// Waits for the end of a process; one that does not end is killed.
pub fn wait_end(child: &mut Child) -> ExitStatus {
    let end = clock::now() + SOON;
    while clock::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("did not end within {SOON:?}");
}

/// Runs a command that should end by itself; its exit status and what it said.
pub fn run(mut command: Command, dir: &Path) -> (i32, String, String) {
    let (out, err) = (dir.join("stdout"), dir.join("stderr"));
    end_with_us(&mut command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let status = wait_end(&mut child);
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
    (code, read(out), read(err))
}
