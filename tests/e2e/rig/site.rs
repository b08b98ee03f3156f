//! A site: the directory, the addresses and the secrets of one test.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tempfile::TempDir;

use super::networks::Network;
use super::secrets;

/// With this in the environment, the directory of a failed test stays.
const KEEP: &str = "HOMING_KEEP_SITES";
/// Lines of each log that a failed test prints.
const TAIL: usize = 60;

/// Everything that must not be shared between two tests that run at the same time.
pub struct Site {
    dir: TempDir,
    network: Network,
    /// The password of all users. Unlike any other text, so that a log can be searched for it.
    pub password: String,
}

impl Site {
    /// Makes a new site. Needs root, because Dovecot does.
    pub fn new() -> Self {
        assert!(
            is_root(),
            "this test starts real Dovecots and needs root: run it as root (it does not skip)"
        );
        let number = next_number();
        // Directly in /tmp: a socket path has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("ho").tempdir_in("/tmp");
        let dir = dir.expect("a temporary directory in /tmp");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        Self {
            dir,
            network: Network::claim(),
            password: format!("Sesam-{}-{number}-oeffne", process::id()),
        }
    }

    /// The site's directory. Its path is the same inside the 2.4 root.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Address `host` of the /24 network that belongs to this site.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        self.network.address(host)
    }

    /// All log files: those directly in the site's directory that end in `.log`.
    pub fn logs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
        let mut logs: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect();
        logs.sort();
        logs
    }

    fn print_logs(&self) {
        for path in self.logs() {
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            let start = lines.len().saturating_sub(TAIL);
            eprintln!("---- {} (last {TAIL} lines)", path.display());
            for line in &lines[start..] {
                eprintln!("{line}");
            }
        }
    }

    fn check_no_secret_in_logs(&self) {
        for path in self.logs() {
            let text = fs::read(&path).unwrap_or_default();
            let leak = secrets::find(&text, &self.password);
            assert!(
                leak.is_none(),
                "{} has the password: {leak:?}",
                path.display()
            );
        }
    }
}

impl Drop for Site {
    /// The last thing in every test: either say what the programs said, or check that none of them
    /// wrote a password.
    fn drop(&mut self) {
        if thread::panicking() {
            self.print_logs();
            if env::var_os(KEEP).is_some() {
                self.dir.disable_cleanup(true);
            }
        } else {
            self.check_no_secret_in_logs();
        }
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid() has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
