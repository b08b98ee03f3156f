//! Direct non-blocking calls on descriptors of the hot path.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
    read_with(|| {
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the pointer and length are those of `buffer`.
        unsafe {
            libc::recv(
                fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                flags,
            )
        }
    })
}

/// As [`receive`], from a socket or a FIFO.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Read {
    read_with(|| {
        // SAFETY: the pointer and length are those of `buffer`.
        unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

fn read_with(mut call: impl FnMut() -> libc::ssize_t) -> Read {
    loop {
        let count = call();
        match count {
            0 => return Read::End,
            1.. => return Read::Bytes(count.unsigned_abs()),
            _ => match io::Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Read::Empty,
                _ => return Read::End,
            },
        }
    }
}

/// Writes what fits; `None`: the peer is gone.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Option<usize> {
    loop {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the pointer and length are those of `bytes`.
        let count =
            unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        if count >= 0 {
            return Some(count.unsigned_abs());
        }
        match io::Error::last_os_error().kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Some(0),
            _ => return None,
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
        if !self.is_empty() {
            self.bytes.extend_from_slice(bytes);
            return true;
        }
        let Some(sent) = write(fd, bytes) else {
            return false;
        };
        self.bytes.extend_from_slice(&bytes[sent..]);
        true
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
        self.bytes.zeroize();
        self.bytes = Vec::new();
        self.sent = 0;
        true
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}
