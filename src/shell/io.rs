//! Direct non-blocking calls on descriptors of the hot path.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use zeroize::Zeroize;

use super::epoll::owned;

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// The peer has finished, or is gone.
    End,
}

/// Reads what is there from a socket, at most `buffer.len()` bytes.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Read {
    read_with(|| recv(fd, &mut *buffer, RecvFlags::DONTWAIT).map(|(count, _)| count))
}

/// Whether a socket's peer has finished and all it said was read.
pub fn is_at_end(fd: BorrowedFd<'_>) -> bool {
    let mut byte = [0u8; 1];
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    let peeked = read_with(|| recv(fd, &mut byte[..], flags).map(|(count, _)| count));
    byte.zeroize();
    peeked == Read::End
}

/// As [`receive`], from a socket or a FIFO.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Read {
    read_with(|| rustix::io::read(fd, &mut *buffer))
}

/// rustix makes the system calls itself: in a process with threads those of glibc are made
/// cancellable each time, which costs a fiftieth of a login.
fn read_with(mut call: impl FnMut() -> Result<usize, Errno>) -> Read {
    loop {
        match call() {
            Ok(0) => return Read::End,
            Ok(count) => return Read::Bytes(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Read::Empty,
            Err(_) => return Read::End,
        }
    }
}

/// Writes what fits; `None`: the peer is gone.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Option<usize> {
    loop {
        match send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => return Some(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Some(0),
            Err(_) => return None,
        }
    }
}

/// Accepts one connection, non-blocking and closed on exec.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers ask for no peer address.
    let fd = unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            flags,
        )
    };
    owned(fd)
}

/// The address of a unix socket, made once and dialled often.
#[derive(Clone)]
pub struct UnixAddress {
    address: libc::sockaddr_un,
    length: libc::socklen_t,
    path: Box<Path>,
}

impl UnixAddress {
    /// `None` when the path is longer than a socket address can hold (107 bytes).
    pub fn new(path: &Path) -> Option<UnixAddress> {
        let bytes = path.as_os_str().as_bytes();
        // SAFETY: a sockaddr_un of zeros is valid.
        let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
        if bytes.len() >= address.sun_path.len() {
            return None;
        }
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, &from) in address.sun_path.iter_mut().zip(bytes) {
            *to = from.cast_signed();
        }
        let length = mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
        Some(UnixAddress {
            address,
            length: length as libc::socklen_t,
            path: Box::from(path),
        })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Connects without waiting. `WouldBlock` means that the listener's backlog is full.
    pub fn connect(&self) -> io::Result<OwnedFd> {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is passed.
        let socket = owned(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
        // SAFETY: the address is a valid sockaddr_un of `length` bytes.
        let done = unsafe {
            libc::connect(
                socket.as_raw_fd(),
                (&raw const self.address).cast(),
                self.length,
            )
        };
        if done == 0 {
            Ok(socket)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Bytes that the peer did not take yet. Wiped when freed, since auth lines carry passwords.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: Vec<u8>,
    sent: usize,
}

impl Backlog {
    /// One in which these bytes wait.
    pub fn of(bytes: &[u8]) -> Backlog {
        let mut backlog = Backlog::default();
        backlog.hold(bytes);
        backlog
    }

    /// What waits.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends `bytes` behind what waits already, as far as the peer takes them; the rest waits.
    /// False: the peer is gone.
    pub fn send(&mut self, fd: BorrowedFd<'_>, bytes: &[u8]) -> bool {
        let sent = if self.is_empty() {
            match write(fd, bytes) {
                None => return false,
                Some(sent) => sent,
            }
        } else {
            0
        };
        self.hold(&bytes[sent..]);
        true
    }

    /// Puts `bytes` behind what waits. What was sent gives up its place, or a peer that always
    /// reads some and never all would make the buffer grow for ever.
    fn hold(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.sent > 0 {
            self.bytes.copy_within(self.sent.., 0);
            self.bytes.truncate(self.len());
            self.sent = 0;
        }
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            // Grown by hand, since a reallocation would not wipe the old place.
            let mut larger = Vec::with_capacity(needed.next_power_of_two());
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets what waits, because nobody will read it.
    pub fn forget(&mut self) {
        self.bytes.zeroize();
        self.bytes = Vec::new();
        self.sent = 0;
    }

    /// Sends what waits, as far as the peer takes it. False: the peer is gone.
    pub fn flush(&mut self, fd: BorrowedFd<'_>) -> bool {
        if self.is_empty() {
            return true;
        }
        while !self.is_empty() {
            match write(fd, &self.bytes[self.sent..]) {
                None => return false,
                Some(0) => return true,
                Some(count) => self.sent += count,
            }
        }
        self.forget();
        true
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_peer_that_always_reads_some_and_never_all_costs_bounded_memory() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut backlog = Backlog::default();
        let mut expected = 0u8;
        let mut next = 0u8;
        let mut buffer = vec![0; 16 << 10];
        for _ in 0..2000 {
            while backlog.len() < 64 << 10 {
                let piece: Vec<u8> = (0..5000)
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                assert!(backlog.send(ours.as_fd(), &piece));
            }
            let count = theirs.read(&mut buffer).unwrap();
            for &byte in &buffer[..count] {
                expected = expected.wrapping_add(1);
                assert_eq!(byte, expected);
            }
            assert!(backlog.flush(ours.as_fd()));
        }
        assert!(backlog.bytes.capacity() <= 256 << 10);
    }
}
