//! Child processes that cannot outlive their test.
//!
//! Three nets, each for what slips through the one before it: `Drop` stops the process; the kernel
//! kills it when this program dies (`setpriv --pdeathsig`); and a Dovecot lives in a PID namespace,
//! whose processes all die with its first one.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::clock::{PATIENCE, wait_until};

/// Time a process has for a clean end before it is killed.
const STOP_LIMIT: Duration = PATIENCE;

/// A running child process.
pub struct Proc {
    child: Child,
    /// What has taken over from it, and whose end was not seen.
    heir: Option<Pid>,
}

impl Proc {
    /// Starts `program`; its output is appended to the file `log`.
    pub fn start(program: &str, args: &[&str], log: &Path) -> Self {
        let output = append(log);
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", program])
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("dup of a log descriptor"))
            .stderr(output);
        Self {
            child: spawn(command),
            heir: None,
        }
    }

    /// Process id of the started program, or of what has taken over from it.
    pub fn pid(&self) -> u32 {
        self.heir
            .map_or_else(|| self.child.id(), |heir| heir.as_raw().cast_unsigned())
    }

    /// Another process has taken over; waits for the end of this one. Orphans must be ours ([`adopt_orphans`]).
    #[allow(dead_code, reason = "not every program of tests needs it")]
    pub fn taken_over_by(&mut self, pid: u32) {
        wait_until("a process that was taken over ends", STOP_LIMIT, || {
            !self.is_running()
        });
        self.heir = Some(Pid::from_raw(pid.cast_signed()));
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        match self.heir {
            Some(heir) => {
                let seen = waitpid(heir, Some(WaitPidFlag::WNOHANG));
                seen == Ok(WaitStatus::StillAlive)
            }
            None => matches!(self.child.try_wait(), Ok(None)),
        }
    }

    /// Its exit status, once it has ended; `None` also when a signal ended it.
    pub fn status(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten()?.code()
    }

    /// Asks process `whom` (this one, or the one it watches) to end, and waits for this one. What
    /// does not end in time is killed.
    pub fn stop(&mut self, whom: u32) {
        if !self.is_running() {
            return;
        }
        signal(whom, libc::SIGTERM);
        let end = super::clock::now() + STOP_LIMIT;
        while self.is_running() && super::clock::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// Kills it without a warning and reaps it.
    pub fn kill(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(heir) = self.heir.filter(|_| self.is_running()) {
            signal(heir.as_raw().cast_unsigned(), libc::SIGKILL);
            let _ = waitpid(heir, None);
        }
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if thread::panicking() {
            say_what_threads_do(self.pid());
        }
        self.kill();
    }
}

/// For a process that has fallen silent: in which call of the kernel each of its threads is.
fn say_what_threads_do(pid: u32) {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let status = read("status");
        let field = |name| status.lines().find(|line| line.starts_with(name));
        eprintln!(
            "process {pid}, {}: {}, in {}, call {}",
            read("comm").trim(),
            field("State:").unwrap_or("gone"),
            read("wchan"),
            read("syscall").trim()
        );
    }
}

/// Starts a command from a thread that never ends: the kernel's parent-death signal comes when the
/// *thread* that forked ends, and tests start processes from short-lived ones.
pub fn spawn(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let program = command.get_program().to_owned();
    let (reply, answer) = mpsc::channel();
    spawner.send((command, reply)).expect("spawner thread");
    match answer.recv().expect("spawner thread") {
        Ok(child) => child,
        Err(error) => panic!("cannot start {}: {error}", program.display()),
    }
}

/// Processes whose parent has ended become children of this program, which can then wait for them.
#[allow(dead_code, reason = "not every program of tests needs it")]
pub fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).expect("prctl");
}

/// Arguments of `unshare` that have a program see the site's file `hosts`, if there is one, as /etc/hosts.
pub fn with_hosts(site: &Path) -> Vec<String> {
    let hosts = site.join("hosts");
    if !hosts.exists() {
        return Vec::new();
    }
    let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

/// Sends a signal; a process that is gone is no error.
pub fn signal(pid: u32, number: i32) {
    let pid = i32::try_from(pid).expect("process ids fit");
    // SAFETY: kill() takes two integers and touches no memory of ours.
    unsafe {
        libc::kill(pid, number);
    }
}

/// All living descendants of a process with their names, parents before children.
pub fn descendants(root: u32) -> Vec<(u32, String)> {
    let all = processes();
    let mut found = vec![(root, String::new())];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].0;
        let children = all.iter().filter(|process| process.parent == parent);
        found.extend(children.map(|process| (process.pid, process.name.clone())));
        next += 1;
    }
    found.remove(0);
    found
}

/// Waits until a process is gone.
pub fn wait_gone(pid: u32) {
    wait_until("a killed process disappears", STOP_LIMIT, || {
        processes().iter().all(|process| process.pid != pid)
    });
}

/// The values of one field of `/proc/<pid>/status`, e.g. `Uid:`.
pub fn status_field(pid: u32, field: &str) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let values = line.unwrap_or_else(|| panic!("no {field} in {status}"));
    values.split_whitespace().map(str::to_owned).collect()
}

struct Process {
    pid: u32,
    parent: u32,
    name: String,
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(process)
        .collect()
}

/// Reads `/proc/<pid>/stat`: `pid (name) state parent …`; zombies do not count.
fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then(|| Process {
        pid,
        parent,
        name: name.to_owned(),
    })
}

fn append(path: &Path) -> File {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}
