//! Homing as systemd runs it: started as root, told where to report readiness, and after the end of
//! its main process everything that is left of it gets SIGTERM and some time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use super::clock::{PATIENCE, now, wait_for, wait_until};
use super::dovecot::HOMING;
use super::process::{self, Proc};

/// The first process of a PID namespace, so that nothing outlives the test: an unprivileged process
/// is not killed at its parent's death. Its exit status is that of the first main process.
const SUPERVISE: &str = r#"
"$@"
status=$?
trap '' TERM
tries=0
# Another main process may have taken over from it.
[ $status -ne 0 ] || while kill -0 -1 2>/dev/null && [ $tries -lt 6000 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -TERM -1 2>/dev/null
tries=0
while kill -0 -1 2>/dev/null && [ $tries -lt 500 ]; do sleep 0.1; tries=$((tries + 1)); done
exit $status
"#;
const READY_LIMIT: Duration = PATIENCE;
const END_LIMIT: Duration = PATIENCE;

/// A supervised Homing.
pub struct Supervised {
    supervisor: Proc,
    notify: UnixDatagram,
}

impl Supervised {
    /// Starts it; does not wait for anything. `directory`: where the readiness socket goes.
    pub fn start(directory: &Path, settings: &Path, log: &Path) -> Self {
        let path = directory.join("systemd");
        // Left from an earlier start, whose socket is closed.
        let _ = fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).expect("a readiness socket");
        // As systemd makes its own: the main process is no longer root when it is ready.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
        notify.set_nonblocking(true).expect("non-blocking");
        let variable = format!("NOTIFY_SOCKET={}", path.display());
        let settings = settings.to_str().expect("an ASCII path");
        let args = [
            "--pid",
            "--fork",
            "--kill-child",
            "env",
            &variable,
            "sh",
            "-c",
            SUPERVISE,
            "sh",
            HOMING,
            "run",
            "--config",
            settings,
        ];
        let supervisor = Proc::start("unshare", &args, log);
        Self { supervisor, notify }
    }

    /// Waits until Homing says that it is ready.
    pub fn wait_ready(&mut self) {
        let end = now() + READY_LIMIT;
        loop {
            if self.said().as_deref() == Some("READY=1") {
                return;
            }
            assert!(self.supervisor.is_running(), "Homing ended at once");
            assert!(now() < end, "Homing is not ready within {READY_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next message to systemd, if there is one by now.
    pub fn said(&self) -> Option<String> {
        let mut bytes = [0; 256];
        let length = self.notify.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Homing's main process.
    pub fn main(&self) -> u32 {
        self.process("homing")
    }

    /// Its keeper.
    pub fn keeper(&self) -> u32 {
        self.process("homing-keeper")
    }

    fn process(&self, name: &str) -> u32 {
        wait_for(name, READY_LIMIT, || {
            let below = process::descendants(self.supervisor.pid());
            let found = below.iter().find(|(_, found)| found == name);
            found.map(|(pid, _)| *pid)
        })
    }

    /// Sends a signal to the main process.
    pub fn signal(&self, number: i32) {
        process::signal(self.main(), number);
    }

    /// Waits for the end of it all; the exit status.
    pub fn wait_end(&mut self) -> Option<i32> {
        wait_until("Homing and its keeper end", END_LIMIT, || {
            !self.supervisor.is_running()
        });
        self.supervisor.status()
    }
}
