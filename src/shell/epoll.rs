//! Readiness of many descriptors, and a wake-up from other threads.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

/// What to be told of.
#[derive(Clone, Copy, Debug)]
pub enum Interest {
    /// A stream, told once per change (edge-triggered): readable, peer gone. Not writable: a unix
    /// socket would report that whenever its peer reads, once per message.
    Stream,
    /// As `Stream`, and writable: while bytes wait for the peer to read.
    StreamOut,
    /// Connections to accept; only one of the waiting cores is woken.
    Listener,
    /// Readable as long as it is (level-triggered).
    Readable,
    /// Readable or writable as long as it is (level-triggered).
    Duplex,
    /// Writable as long as it is (level-triggered).
    Writable,
}

/// A descriptor is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The token given to [`Epoll::add`].
    pub token: u64,
    /// Something can be read, or the end of the stream.
    pub readable: bool,
    /// Something can be written.
    pub writable: bool,
    /// The peer has finished writing, or is gone.
    pub hung_up: bool,
}

/// Events taken from the kernel at once.
const BATCH: usize = 256;

/// Where events are put.
pub struct Events(Vec<libc::epoll_event>);

impl Default for Events {
    fn default() -> Self {
        Events(vec![libc::epoll_event { events: 0, u64: 0 }; BATCH])
    }
}

impl Epoll {
    /// A new, empty instance.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        owned(fd).map(|fd| Epoll { fd })
    }

    /// Watches `fd`; its events carry `token`. Closing the descriptor ends the watch.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: flags(interest),
            u64: token,
        };
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event)
    }

    /// Changes what to be told of `fd`.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: flags(interest),
            u64: token,
        };
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), &mut event)
    }

    /// Stops watching `fd`.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), &mut event)
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: RawFd,
        event: &mut libc::epoll_event,
    ) -> io::Result<()> {
        // SAFETY: `event` is a valid epoll_event; the kernel checks the descriptors.
        let done = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, event) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Waits for events for at most `timeout_ms` milliseconds and returns how many came. A signal
    /// ends the wait with none.
    pub fn wait(&self, events: &mut Events, timeout_ms: i32) -> io::Result<usize> {
        let room = i32::try_from(events.0.len()).unwrap_or(i32::MAX);
        // SAFETY: the pointer and length describe the events vector, whose elements are
        // initialised.
        let count = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), events.0.as_mut_ptr(), room, timeout_ms)
        };
        if count >= 0 {
            return Ok(count.unsigned_abs() as usize);
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        }
    }
}

fn flags(interest: Interest) -> u32 {
    let stream = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;
    let flags = match interest {
        Interest::Stream => stream,
        Interest::StreamOut => stream | libc::EPOLLOUT,
        Interest::Listener => libc::EPOLLIN | libc::EPOLLEXCLUSIVE,
        Interest::Readable => libc::EPOLLIN,
        Interest::Duplex => libc::EPOLLIN | libc::EPOLLOUT,
        Interest::Writable => libc::EPOLLOUT,
    };
    flags.cast_unsigned()
}

impl Events {
    /// Event `at` of the last [`Epoll::wait`].
    pub fn get(&self, at: usize) -> Ready {
        let event = self.0[at];
        let flags = event.events.cast_signed();
        let hung_up = flags & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0;
        Ready {
            token: event.u64,
            readable: hung_up || flags & libc::EPOLLIN != 0,
            writable: flags & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) != 0,
            hung_up,
        }
    }
}

/// A wake-up that any thread can give (eventfd).
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// A new one.
    pub fn new() -> io::Result<Wake> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        owned(fd).map(Wake)
    }

    /// Wakes whoever waits.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight valid bytes. A full counter means that a wake-up is pending already.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes back all wake-ups given so far.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight bytes to write to. Nothing to read means that there was no wake-up.
        let _ = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl std::os::fd::AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes ownership of a descriptor that a system call has just returned.
pub(super) fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and nobody else has this new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl std::os::fd::AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
