//! A line of processes, each of which takes over from the one before, and who stands for systemd: it hears who
//! the main process is.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::rig::homing::end_with_us;
use crate::rig::{Site, wait_for, wait_until};

/// What systemd is told when nobody has taken over.
const GIVEN_UP: &str = "STATUS=upgrade given up: ";

pub struct Line {
    pub site: Site,
    notify: UnixDatagram,
    main: Pid,
}

impl Line {
    pub fn start(site: Site) -> Line {
        let command = site.command();
        Line::start_with(site, command)
    }

    /// Starts it by another command, and waits until it is ready.
    pub fn start_with(site: Site, mut command: Command) -> Line {
        // Whoever takes over is a child of a process that ends, and then ours.
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        site.write();
        let path = site.path("systemd");
        let notify = UnixDatagram::bind(&path).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&path, open).unwrap();
        notify.set_nonblocking(true).unwrap();
        end_with_us(&mut command);
        let main = command
            .env("NOTIFY_SOCKET", &path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(site.path("log")).unwrap())
            .spawn()
            .unwrap()
            .id();
        let main = Pid::from_raw(main.cast_signed());
        let line = Line { site, notify, main };
        line.hear("READY=1");
        line
    }

    /// Waits until systemd is told something that begins so; the rest of it.
    pub fn hear(&self, begin: &str) -> String {
        self.hear_one_of(&[begin]).1
    }

    /// Waits for one of several beginnings; which it was, and the rest.
    fn hear_one_of(&self, begins: &[&str]) -> (usize, String) {
        wait_for(begins[0], || {
            let mut bytes = [0; 1024];
            while let Ok(count) = self.notify.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                for (at, begin) in begins.iter().enumerate() {
                    if let Some(rest) = text.strip_prefix(begin) {
                        return Some((at, rest.to_owned()));
                    }
                }
            }
            assert!(self.is_running(), "ended:\n{}", self.log());
            None
        })
    }

    pub fn is_running(&self) -> bool {
        match waitpid(self.main, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) => status == WaitStatus::StillAlive,
            // The process that started it has not ended yet.
            Err(_) => kill(self.main, None).is_ok(),
        }
    }

    pub fn main(&self) -> u32 {
        self.main.as_raw().cast_unsigned()
    }

    pub fn log(&self) -> String {
        String::from_utf8(std::fs::read(self.site.path("log")).unwrap()).unwrap()
    }

    pub fn login(&self) -> PathBuf {
        self.site.path("login-socket")
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.main, signal).unwrap();
    }

    /// Lets the next process take over, and waits until it is ready and the old one has ended well.
    pub fn upgrade(&mut self) {
        let old = self.main;
        let mut tries = 0;
        let pid = loop {
            tries += 1;
            self.signal(Signal::SIGUSR2);
            match self.hear_one_of(&["MAINPID=", GIVEN_UP]) {
                (0, pid) => break pid.parse().unwrap(),
                // Right for a machine that stands still for so long.
                (_, why) => assert!(why.contains("in time") && tries < 5, "{why}"),
            }
        };
        self.main = Pid::from_raw(pid);
        self.hear("READY=1");
        wait_for("the end of the old process", || {
            match waitpid(old, Some(WaitPidFlag::WNOHANG)).unwrap() {
                WaitStatus::StillAlive => None,
                status => {
                    assert_eq!(status, WaitStatus::Exited(old, 0), "{}", self.log());
                    Some(())
                }
            }
        });
    }

    /// Asks for it in vain; returns why.
    pub fn upgrade_in_vain(&self) -> String {
        self.signal(Signal::SIGUSR2);
        let why = self.hear(GIVEN_UP);
        assert!(self.is_running());
        why
    }

    /// The number of a counter in what SIGUSR1 makes it log.
    pub fn total(&self, name: &str) -> u64 {
        let said = self.said(" keep_alives=");
        let (_, rest) = said.split_once(&format!(" {name}=")).expect("a counter");
        rest.split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }

    /// The line with this text of those that SIGUSR1 makes it log.
    pub fn said(&self, text: &str) -> String {
        let seen = self.log().len();
        self.signal(Signal::SIGUSR1);
        wait_for("the state lines", || {
            let log = self.log();
            let (_, last) = log[seen..].split_once(" keep_alives=")?;
            // It may be in the middle of the line.
            last.contains('\n').then_some(())?;
            let line = log[seen..].lines().rfind(|line| line.contains(text));
            line.map(str::to_owned)
        })
    }

    /// Ends it as systemd would; its log.
    pub fn stop(self) -> String {
        self.signal(Signal::SIGTERM);
        wait_for("the end", || {
            match waitpid(self.main, Some(WaitPidFlag::WNOHANG)).unwrap() {
                WaitStatus::StillAlive => None,
                status => {
                    assert_eq!(status, WaitStatus::Exited(self.main, 0), "{}", self.log());
                    Some(())
                }
            }
        });
        wait_until("the sockets are gone", || !self.login().exists());
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        log
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_running() {
            // It may just have ended.
            let _ = kill(self.main, Signal::SIGKILL);
            let _ = waitpid(self.main, None);
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6000);
            eprintln!("log:\n{}", log.get(from..).unwrap_or(&log));
        }
    }
}
