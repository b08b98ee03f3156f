//! A descriptor that becomes readable at a given time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::epoll::owned;
use crate::core::Mono;

/// One time to be woken at (timerfd). Setting it costs a system call only when the time changes.
#[derive(Debug)]
pub struct Alarm {
    fd: OwnedFd,
    set_to: Option<Mono>,
}

impl Alarm {
    /// Never rings until it is set.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Alarm> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        owned(fd).map(|fd| Alarm { fd, set_to: None })
    }

    /// Becomes readable at `at`, at once if that is past; `None`: not at all.
    pub fn set(&mut self, at: Option<Mono>) {
        if self.set_to == at {
            return;
        }
        self.set_to = at;
        // All zero would mean never.
        let nanos = at.map_or(0, |at| at.0.max(1));
        let value = libc::timespec {
            tv_sec: i64::try_from(nanos / Mono::SECOND).unwrap_or(i64::MAX),
            tv_nsec: (nanos % Mono::SECOND).cast_signed(),
        };
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let times = libc::itimerspec {
            it_interval: zero,
            it_value: value,
        };
        // SAFETY: `times` is a valid itimerspec; nothing is to be written back.
        let done = unsafe {
            libc::timerfd_settime(
                self.fd.as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &raw const times,
                std::ptr::null_mut(),
            )
        };
        assert_eq!(done, 0, "a time that the kernel cannot be asked for");
    }

    /// It was readable: it no longer is, and must be set again.
    pub fn rang(&mut self) {
        self.set_to = None;
        let mut count = [0u8; 8];
        // SAFETY: eight bytes to write to. Nothing to read means that it was set anew meanwhile.
        let _ = unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::shell::clock;

    fn rings_within(alarm: &Alarm, millis: u16) -> bool {
        let mut fds = [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(millis)).unwrap() == 1
    }

    #[test]
    fn it_rings_at_its_time_and_once() {
        let mut alarm = Alarm::new().unwrap();
        assert!(!rings_within(&alarm, 20));
        let start = clock::mono();
        alarm.set(Some(start.after(30_000_000)));
        assert!(rings_within(&alarm, 5000));
        assert!(clock::mono().since(start) >= 30_000_000);
        alarm.rang();
        assert!(!rings_within(&alarm, 20));
        alarm.set(Some(Mono(0)));
        assert!(rings_within(&alarm, 5000), "a time that is past");
        alarm.rang();
        alarm.set(Some(clock::mono().after(20_000_000)));
        alarm.set(None);
        assert!(!rings_within(&alarm, 60));
    }
}
