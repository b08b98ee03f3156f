//! Signals, and the end of Dovecot's master, as one pollable descriptor with decoded events.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a process is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// SIGTERM: finish.
    Terminate,
    /// SIGINT: finish when started from a terminal. Dovecot's master sends it to a process that
    /// it takes for idle: as a service ignore it, a director is never idle.
    Interrupt,
    /// SIGHUP: read the settings again.
    Reload,
    /// SIGUSR1: reopen or report, as the caller decides.
    User,
    /// SIGUSR2: start this program anew, and let it take over.
    Upgrade,
    /// Dovecot's master is gone, reloads or stops: finish at once, the next one may be starting.
    MasterGone,
}

const HANDLED: [(Signal, Notice); 5] = [
    (Signal::SIGTERM, Notice::Terminate),
    (Signal::SIGINT, Notice::Interrupt),
    (Signal::SIGHUP, Notice::Reload),
    (Signal::SIGUSR1, Notice::User),
    (Signal::SIGUSR2, Notice::Upgrade),
];

/// Marks the master's descriptor among the epoll events.
const MASTER: u64 = 1;

fn handled() -> SigSet {
    HANDLED.iter().map(|(signal, _)| *signal).collect()
}

/// Blocks the signals that [`ControlSource`] delivers, and ignores SIGPIPE. Call it before the
/// first thread starts: threads inherit it. Children started by `std::process::Command` do not.
///
/// # Errors
/// None that the kernel gives for these arguments.
pub fn block() -> Result<(), Errno> {
    handled().thread_block()?;
    // SAFETY: ignoring a signal installs no handler that could run.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.map(drop)
}

/// The descriptor to poll for reading, and its decoder.
#[derive(Debug)]
pub struct ControlSource {
    epoll: Epoll,
    signals: SignalFd,
    master: Option<OwnedFd>,
}

impl ControlSource {
    /// Needs [`block`] first. `master` is the death watch of a Dovecot service
    /// ([`DovecotService::death_watch`](super::dovecot_master::DovecotService)).
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new(master: Option<OwnedFd>) -> Result<Self, Errno> {
        let signals =
            SignalFd::with_flags(&handled(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        if let Some(fd) = &master {
            // It is the writing end of a pipe: when the reader goes, it becomes an error, which
            // is always reported. Reading from it would only fail.
            epoll.add(fd, EpollEvent::new(EpollFlags::empty(), MASTER))?;
        }
        Ok(Self {
            epoll,
            signals,
            master,
        })
    }

    /// The next notice, or `None` when there is none by now. Never blocks.
    ///
    /// # Errors
    /// None expected; a broken descriptor.
    pub fn notice(&mut self) -> Result<Option<Notice>, Errno> {
        while let Some(info) = self.signals.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            if let Some((_, notice)) = HANDLED.iter().find(|(signal, _)| *signal as i32 == number) {
                return Ok(Some(*notice));
            }
        }
        let mut events = [EpollEvent::empty(); 2];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO)?;
        if events[..count].iter().any(|event| event.data() == MASTER)
            && let Some(fd) = self.master.take()
        {
            // Said once; left in, it would keep the descriptor readable for ever.
            self.epoll.delete(&fd)?;
            return Ok(Some(Notice::MasterGone));
        }
        Ok(None)
    }
}

impl AsFd for ControlSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl AsRawFd for ControlSource {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::pthread::{pthread_kill, pthread_self};

    use super::*;

    fn readable(source: &ControlSource) -> bool {
        let mut fds = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(200u16)).unwrap() == 1
    }

    #[test]
    fn signals_and_the_masters_end_are_decoded() {
        block().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut source = ControlSource::new(Some(writer.into())).unwrap();
        assert_eq!(source.notice(), Ok(None));
        for (signal, notice) in HANDLED {
            pthread_kill(pthread_self(), signal).unwrap();
            assert!(readable(&source));
            assert_eq!(source.notice(), Ok(Some(notice)));
        }
        assert_eq!(source.notice(), Ok(None));
        drop(reader);
        assert!(readable(&source));
        assert_eq!(source.notice(), Ok(Some(Notice::MasterGone)));
        assert_eq!(source.notice(), Ok(None));
        assert!(!readable(&source));
    }
}
