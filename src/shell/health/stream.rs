//! One TCP connection that never blocks, perhaps with TLS.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use rustls::Connection;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use zeroize::{Zeroize, Zeroizing};

use crate::shell::epoll::Interest;
use crate::shell::io::{Read, receive, write};

/// What was sent and is not acknowledged for so long ends the connection: nobody is there.
const UNHEARD: Duration = Duration::from_secs(10);

/// See the module's page.
pub(super) struct Stream {
    fd: OwnedFd,
    /// The kernel is connecting.
    pub dialling: bool,
    tls: Option<Box<Connection>>,
    /// Bytes for the socket.
    out: Vec<u8>,
    /// What epoll was last told to watch.
    pub watched: Option<bool>,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// There may be more later.
    Open,
    /// The other side has finished.
    End,
}

impl Stream {
    /// Begins to connect, from an address if one is given.
    pub fn dial(source: Option<IpAddr>, to: SocketAddr) -> io::Result<Stream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        match socket.connect(&SockAddr::from(to)) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
            _ => Ok(Stream {
                fd: socket.into(),
                dialling: true,
                tls: None,
                out: Vec::new(),
                watched: None,
            }),
        }
    }

    /// One that was accepted; it does not block already.
    pub fn accepted(fd: OwnedFd) -> io::Result<Stream> {
        SockRef::from(&fd).set_tcp_nodelay(true)?;
        Ok(Stream {
            fd,
            dialling: false,
            tls: None,
            out: Vec::new(),
            watched: None,
        })
    }

    /// Gives up soon when the other side vanishes.
    pub fn expect_acknowledgements(&self) -> io::Result<()> {
        SockRef::from(&self.fd).set_tcp_user_timeout(Some(UNHEARD))
    }

    /// The kernel has connected, or not.
    pub fn finish_dial(&mut self) -> io::Result<()> {
        let socket = SockRef::from(&self.fd);
        match socket.take_error()? {
            Some(error) => Err(error),
            None => {
                socket.peer_addr()?;
                self.dialling = false;
                Ok(())
            }
        }
    }

    /// Everything from here on is inside TLS.
    pub fn begin_tls(&mut self, connection: Connection) {
        let mut connection = Box::new(connection);
        // What waits is bounded by whoever says it.
        connection.set_buffer_limit(None);
        self.tls = Some(connection);
    }

    /// TLS is there, if there is to be any.
    pub fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Has something sent; it goes with [`Stream::flush`].
    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            // Without a limit all is taken.
            Some(tls) => drop(tls.writer().write_all(bytes)),
            None => {
                if self.out.capacity() < self.out.len() + bytes.len() {
                    // A vector that grows by itself leaves a copy behind, and a password may be in it.
                    let mut larger = Vec::with_capacity(2 * (self.out.len() + bytes.len()));
                    larger.extend_from_slice(&self.out);
                    self.out.zeroize();
                    self.out = larger;
                }
                self.out.extend_from_slice(bytes);
            }
        }
    }

    /// How many bytes wait for the other side.
    pub fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Writes what fits. False: the other side is gone.
    pub fn flush(&mut self) -> bool {
        loop {
            if let Some(tls) = &mut self.tls {
                while tls.wants_write() && self.out.len() < 1 << 20 {
                    if tls.write_tls(&mut self.out).is_err() {
                        return false;
                    }
                }
            }
            if self.out.is_empty() {
                return true;
            }
            match write(self.fd.as_fd(), &self.out) {
                None => return false,
                Some(0) => return true,
                Some(count) => {
                    self.out[..count].zeroize();
                    self.out.drain(..count);
                }
            }
        }
    }

    /// Reads what is there, and appends what it means.
    ///
    /// # Errors
    /// Why TLS has failed.
    pub fn read(&mut self, plain: &mut Zeroizing<Vec<u8>>) -> Result<Came, String> {
        let mut buffer = [0u8; 16 * 1024];
        // Others have their turn then; what is left is told of again.
        for _ in 0..4 {
            let count = match receive(self.fd.as_fd(), &mut buffer) {
                Read::Bytes(count) => count,
                Read::Empty => return Ok(Came::Open),
                Read::End => return Ok(Came::End),
            };
            match &mut self.tls {
                None => plain.extend_from_slice(&buffer[..count]),
                Some(tls) => open(tls, &buffer[..count], plain)?,
            }
        }
        Ok(Came::Open)
    }

    /// What epoll is to tell of; `None`: as before.
    pub fn interest(&mut self) -> Option<Interest> {
        let wanted = self.dialling || !self.out.is_empty();
        if self.watched == Some(wanted) {
            return None;
        }
        self.watched = Some(wanted);
        Some(if wanted {
            Interest::Duplex
        } else {
            Interest::Readable
        })
    }
}

fn open(tls: &mut Connection, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
    while !bytes.is_empty() {
        match tls.read_tls(&mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(format!("TLS has failed: {error}")),
        }
        let state = tls
            .process_new_packets()
            .map_err(|error| format!("TLS has failed: {error}"))?;
        let start = plain.len();
        plain.resize(start + state.plaintext_bytes_to_read(), 0);
        // As much as it has said.
        let _ = tls.reader().read_exact(&mut plain[start..]);
    }
    Ok(())
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.out.zeroize();
    }
}
