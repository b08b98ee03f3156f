//! The old process: starts the new one, and shows it everything.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::bounded;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::channel::{Channel, ChannelError};
use crate::core::Mono;
use crate::core::state::Head;
use crate::shell::clock;
use crate::shell::cores::{Cores, Message};
use crate::shell::directory::Directory;
use crate::shell::state::write_to;
use crate::wire::health::MarkLine;
use crate::wire::takeover::{End, Kind, Listeners, Offer, encode};

/// How long the new process may take until it is ready to take everything: it looks up names of servers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long logins may stand still at most: less than any client waits for an answer, and systemd's watchdog for
/// a sign of life.
const STILL_LIMIT: Duration = Duration::from_secs(10);
/// How long a core may take to stop: a turn takes some milliseconds.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
/// How long the new process may take to read the last words.
const WORD_LIMIT: Duration = Duration::from_secs(5);

/// How long one that has hung up may take to end, and how often that is looked at.
const END_LIMIT: u64 = 2 * Mono::SECOND;
const END_PAUSE: u64 = 10_000_000;

/// The option that tells a process to take over from the one at its standard input.
pub const OPTION: &str = "--take-over";

/// What the next process is: this program, as it is on the disk by then, with the same command line.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    /// Ours, before any thread was given one of its own.
    cpus: Option<CpuSet>,
}

impl Program {
    /// To be called at the start, while the path still leads to this very file.
    ///
    /// # Errors
    /// No /proc.
    pub fn this() -> io::Result<Program> {
        let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
        args.retain(|arg| arg != OPTION);
        args.push(OPTION.into());
        Ok(Program {
            path: std::env::current_exe()?,
            args,
            cpus: sched_getaffinity(Pid::from_raw(0)).ok(),
        })
    }

    fn spawn(&self, stdin: OwnedFd) -> io::Result<Child> {
        if let Some(cpus) = &self.cpus {
            sched_setaffinity(Pid::from_raw(0), cpus)?;
        }
        Command::new(&self.path)
            .args(&self.args)
            .stdin(Stdio::from(stdin))
            // They name this process.
            .env_remove("WATCHDOG_PID")
            .env_remove("LISTEN_PID")
            .spawn()
    }
}

/// The new process. Ended when this is dropped, unless it was told to go.
#[derive(Debug)]
pub struct Next {
    child: Option<Child>,
    pid: u32,
    channel: Arc<Mutex<Channel>>,
}

impl Next {
    /// Starts it, and waits until it is ready to take everything. For a thread of its own, which is given all CPUs,
    /// as the new process gets them from it.
    ///
    /// # Errors
    /// It will not. Nothing has changed.
    pub fn start(program: &Program, offer: &Offer) -> Result<Next, String> {
        let cannot = |error: io::Error| {
            let path = program.path.display();
            format!("{path} cannot be started: {error}")
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)
            .map_err(|errno| cannot(errno.into()))?;
        let child = program.spawn(theirs).map_err(cannot)?;
        let channel = Channel::new(ours, START_LIMIT);
        let mut next = Next {
            pid: child.id(),
            child: Some(child),
            channel: Arc::new(Mutex::new(channel)),
        };
        let met = next.meet(offer);
        met.map_err(|error| next.explain(&error))?;
        Ok(next)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn meet(&self, offer: &Offer) -> Result<(), ChannelError> {
        let mut channel = self.channel.lock();
        channel.send_hello()?;
        channel.expect_hello()?;
        channel.send(Kind::Offer, &encode(offer), &[])?;
        channel.expect(Kind::Willing).map(drop)
    }

    /// An error, with how the new process has ended, if it has.
    fn explain(&mut self, error: &ChannelError) -> String {
        let (ChannelError::Ended, Some(child)) = (error, &mut self.child) else {
            return error.to_string();
        };
        // What it said last was not read if it hung up while it was told something.
        if let Err(refused @ ChannelError::Refused(_)) = self.channel.lock().receive() {
            return refused.to_string();
        }
        let end = clock::mono().after(END_LIMIT);
        while clock::mono() < end {
            if let Ok(Some(status)) = child.try_wait() {
                return format!("the new process has ended ({status}); its own lines say why");
            }
            clock::sleep_until(clock::mono().after(END_PAUSE));
        }
        "the new process has hung up".to_owned()
    }

    /// Shows it everything, while no core does anything. It has everything when this returns, and has to be
    /// told to go ([`Next::go`]).
    ///
    /// # Errors
    /// It has not. The cores go on.
    pub fn show_all(&mut self, shown: &Shown<'_>) -> Result<End, String> {
        if let Some(core) = shown.cores.freeze(FREEZE_LIMIT) {
            shown.cores.thaw();
            return Err(format!("core {core} does not stop within {FREEZE_LIMIT:?}"));
        }
        self.channel.lock().allow(STILL_LIMIT);
        self.show(shown).map_err(|error| {
            shown.cores.thaw();
            self.explain(&error)
        })
    }

    fn show(&self, shown: &Shown<'_>) -> Result<End, ChannelError> {
        let mut channel = self.channel.lock();
        let listeners = encode(&shown.listeners);
        channel.send(Kind::Listeners, &listeners, &shown.descriptors)?;
        let mut pieces = Pieces(&mut channel);
        let head = Head {
            created: clock::wall(),
            ..shown.head.clone()
        };
        write_to(&mut pieces, &head, shown.directory, shown.marks).map_err(ChannelError::Io)?;
        drop(channel);
        let mut all = End::default();
        for core in 0..shown.cores.count() {
            let (sender, receiver) = bounded(1);
            let channel = Arc::clone(&self.channel);
            shown.cores.send(core, Message::Show(channel, sender));
            let limit = STILL_LIMIT + FREEZE_LIMIT;
            let of_core = receiver.recv_timeout(limit);
            let of_core = of_core.map_err(|_| ChannelError::TooLate)??;
            all.relays += of_core.relays;
            all.parked += of_core.parked;
        }
        let mut channel = self.channel.lock();
        channel.send(Kind::End, &encode(&all), &[])?;
        channel.expect(Kind::Taken)?;
        Ok(all)
    }

    /// The word: from now on it serves, and nobody else may.
    ///
    /// # Errors
    /// It has ended before it could hear that, and has served nobody.
    pub fn go(&mut self) -> Result<(), String> {
        let mut channel = self.channel.lock();
        channel.allow(WORD_LIMIT);
        channel
            .send(Kind::Go, &[], &[])
            .map_err(|error| error.to_string())?;
        // Not ours to end any more.
        self.child = None;
        Ok(())
    }

    /// We have left the director ring, and it may join.
    pub fn gone(&mut self) {
        let mut channel = self.channel.lock();
        channel.allow(WORD_LIMIT);
        if let Err(error) = channel.send(Kind::Gone, &[], &[]) {
            tracing::error!("upgrade: the process that has taken over is gone again: {error}");
        }
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It has touched nothing, and may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What is shown.
pub struct Shown<'a> {
    /// The cores, with the connections.
    pub cores: &'a Cores,
    /// Backends and users.
    pub directory: &'a Directory,
    /// The settings that say what users mean.
    pub head: &'a Head,
    /// Who has set which backend's state.
    pub marks: &'a [MarkLine],
    /// Listeners.
    pub listeners: Listeners,
    /// Theirs, in the same order.
    pub descriptors: Vec<BorrowedFd<'a>>,
}

/// The state as frames.
struct Pieces<'a>(&'a mut Channel);

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.send(Kind::State, bytes, &[]);
        sent.map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
