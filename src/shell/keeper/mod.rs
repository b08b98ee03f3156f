//! The keeper: a small process that makes the listeners where login processes need them, remakes
//! them after a restart of Dovecot has wiped them, and removes them when the main process ends,
//! however it ends.
//!
//! The main process starts it first, as root if it is root, and drops its own privileges then.
//! Over a pair of sequenced-packet sockets the keeper gets the list of listeners and gives back
//! one descriptor for each that it made, again whenever it had to make it anew. It keeps each
//! open too: a login process that opens the proxy-notify FIFO while nobody reads it would hang,
//! so there is always somebody, even right after the main process was killed; then the keeper
//! unlinks everything and leaves. Both ends are one program at the start. Later the keeper may be of an older
//! version, since a main process that takes over keeps it: messages change only with the version of
//! [`crate::wire::takeover`].

mod confine;
#[doc(hidden)]
pub mod messages;
mod process;
mod watch;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};

use super::sockets::BindClass;
use crate::settings::{Listener, MAX_LISTENERS};

pub use process::run;

/// As many as settings can have.
pub const LISTENER_LIMIT: usize = MAX_LISTENERS;

/// How long one message of the first round may take: a listener is made within a second, even
/// when another process holds its directory.
const FIRST_ROUND_MS: u16 = 5_000;

/// How long the keeper may take to leave once it is told to. It needs some milliseconds; on a machine
/// with ten times more work than CPUs it was seen to take over two seconds, and what it leaves behind
/// then stays until the next start.
const STOP_TRIES: u32 = 500;
const STOP_PAUSE: Duration = Duration::from_millis(20);

/// What the keeper tells the main process.
#[derive(Debug)]
pub enum KeeperEvent {
    /// A listener was made, for the first time or again: use it and drop the one before.
    Made {
        /// Place in the list given to [`Keeper::spawn`].
        index: usize,
        /// The listening socket or FIFO, non-blocking and close-on-exec.
        fd: OwnedFd,
    },
    /// A listener could not be made. The keeper goes on trying; this is said when it changes.
    Problem {
        /// Place in the list given to [`Keeper::spawn`].
        index: usize,
        /// At start: all but `Waiting` are reasons not to run.
        class: BindClass,
        /// What, why and the fix, to be logged.
        text: String,
    },
    /// Every listener was tried once and has been reported.
    FirstRoundDone,
}

/// Why there is no keeper, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Could not be started.
    #[error("cannot start the keeper process: {0}")]
    Start(#[source] io::Error),
    /// It ended: listeners are no longer remade, and the FIFO is held by this process alone.
    #[error("the keeper process ended; restart Homing")]
    Gone,
    /// More than [`LISTENER_LIMIT`], or a path that is no UTF-8.
    #[error("cannot describe the listeners to the keeper process: {0}")]
    Listeners(String),
    /// A bug.
    #[error("the keeper process said something unknown: {0:?}")]
    Message(String),
}

/// The main process's end.
#[derive(Debug)]
pub struct Keeper {
    socket: Option<OwnedFd>,
    /// `None`: an earlier main process has started it.
    child: Option<Child>,
}

impl Keeper {
    /// Starts the keeper from this very program, with this process's present privileges.
    ///
    /// # Errors
    /// Too many listeners, or no process or descriptor to be had.
    pub fn spawn(listeners: &[Listener]) -> Result<Self, KeeperError> {
        Self::spawn_program("/proc/self/exe".as_ref(), listeners)
    }

    /// As [`Keeper::spawn`], from another program that understands `keeper`; for tests.
    ///
    /// # Errors
    /// As [`Keeper::spawn`].
    pub fn spawn_program(program: &OsStr, listeners: &[Listener]) -> Result<Self, KeeperError> {
        let message = messages::encode_listeners(listeners)?;
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )
        .map_err(|errno| KeeperError::Start(errno.into()))?;
        // Before it runs: one that ended at once would be reported as a broken pipe.
        messages::send(ours.as_fd(), message.as_bytes(), None)
            .map_err(|errno| KeeperError::Start(errno.into()))?;
        // Its standard input is the socket: the one descriptor that a child can be given without
        // code between fork and exec.
        let child = Command::new(program)
            .arg("keeper")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(KeeperError::Start)?;
        Ok(Self {
            socket: Some(ours),
            child: Some(child),
        })
    }

    /// The keeper of the main process before this one, which has let it go.
    pub fn taken_over(socket: OwnedFd) -> Keeper {
        Keeper {
            socket: Some(socket),
            child: None,
        }
    }

    /// Another main process has its socket, and goes on with it.
    pub fn let_go(mut self) {
        // Closed only: what this end says, like that nothing more will come, would count for both.
        self.socket = None;
    }

    /// Number of the keeper process; `None`: it was taken over.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The next event, or `None` when there is none by now. Never blocks.
    ///
    /// # Errors
    /// `Gone`, from then on always.
    pub fn recv(&self) -> Result<Option<KeeperEvent>, KeeperError> {
        match messages::receive(self.as_fd()) {
            Ok((bytes, fd)) if !bytes.is_empty() => {
                messages::decode_event(&String::from_utf8_lossy(&bytes), fd).map(Some)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            _ => Err(KeeperError::Gone),
        }
    }

    /// All events up to `FirstRoundDone`, which is left out. Blocks, for start-up only: a fraction
    /// of a second as a rule, a second for each listener at most.
    ///
    /// # Errors
    /// `Gone`, also when it says nothing for 5 seconds.
    pub fn first_round(&self) -> Result<Vec<KeeperEvent>, KeeperError> {
        let mut events = Vec::new();
        loop {
            match self.recv()? {
                Some(KeeperEvent::FirstRoundDone) => return Ok(events),
                Some(event) => events.push(event),
                None => {
                    let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut fds, PollTimeout::from(FIRST_ROUND_MS)) {
                        Ok(0) => return Err(KeeperError::Gone),
                        // A signal, or something to read.
                        _ => continue,
                    }
                }
            }
        }
    }

    /// Has everything unlinked that the keeper made and waits for that, at most ten seconds.
    /// Established connections and descriptors already received stay as they are.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        // Closing would not do while somebody still waits on a duplicate. It can only fail because the
        // keeper is gone already.
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
        for _ in 0..STOP_TRIES {
            let is_done = match messages::receive(socket.as_fd()) {
                Ok((bytes, _)) => bytes.is_empty(),
                Err(errno) => !matches!(errno, Errno::EAGAIN | Errno::EINTR),
            };
            if is_done || self.has_ended() {
                break;
            }
            std::thread::sleep(STOP_PAUSE);
        }
        // Whoever waits for it otherwise gets it when this process ends.
        self.has_ended();
    }

    fn has_ended(&mut self) -> bool {
        let ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        self.child.as_mut().is_some_and(ended)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

/// Readable when [`Keeper::recv`] has something to say.
impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Some(socket) => socket.as_fd(),
            None => unreachable!("the socket is taken only when the keeper is dropped"),
        }
    }
}
