//! One TCP connection to another director: what waits to be sent, and how it is made.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::tls::Link;
use crate::shell::io::{Read, receive, write};

/// Pieces are put together up to this size, so that a peer that reads slowly costs few calls.
const PIECE: usize = 64 * 1024;
/// A buffer of the machine that has grown beyond this is given back once it is empty.
const KEEP: usize = 256 * 1024;
/// Reads before a connection is closed, see [`Conn::close`].
const LAST_READS: usize = 16;

/// Bytes that the peer did not take yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were sent.
    sent: usize,
    waiting: usize,
}

impl Outbox {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Puts all of `bytes` behind what waits, and leaves it empty.
    fn hold(&mut self, bytes: &mut Vec<u8>) {
        self.waiting += bytes.len();
        match self.pieces.back_mut() {
            _ if bytes.is_empty() => {}
            Some(last) if last.len() + bytes.len() <= PIECE => last.append(bytes),
            _ => self.pieces.push_back(std::mem::take(bytes)),
        }
        if bytes.capacity() > KEEP {
            *bytes = Vec::new();
        }
    }

    /// Sends as much as fits. False: the peer is gone.
    fn flush(&mut self, fd: BorrowedFd<'_>) -> bool {
        while let Some(first) = self.pieces.front_mut() {
            match write(fd, &first[self.sent..]) {
                None => return false,
                Some(0) => return true,
                Some(count) => {
                    self.sent += count;
                    self.waiting -= count;
                }
            }
            if self.sent == first.len() {
                self.sent = 0;
                self.pieces.pop_front();
            }
        }
        true
    }

    /// Sends `bytes` behind what waits, as far as they fit, and holds the rest. They are sent from
    /// where they are, so that usually nothing is copied. False: the peer is gone.
    fn send(&mut self, fd: BorrowedFd<'_>, bytes: &mut Vec<u8>) -> bool {
        let mut sent = 0;
        while self.pieces.is_empty() && sent < bytes.len() {
            match write(fd, &bytes[sent..]) {
                None => return false,
                Some(0) => break,
                Some(count) => sent += count,
            }
        }
        if sent == bytes.len() {
            bytes.clear();
        }
        if sent > 0 && !bytes.is_empty() {
            self.waiting += bytes.len() - sent;
            self.sent = sent;
            self.pieces.push_back(std::mem::take(bytes));
        }
        self.hold(bytes);
        true
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The kernel is connecting.
    Dialling,
    /// Bytes can go both ways.
    Open,
    /// Writing has failed. What the peer said last can still be read, and then the end.
    Broken,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    fd: OwnedFd,
    pub stage: Stage,
    /// Whom it was made to; `None`: it came to our listener.
    pub dialled: Option<SocketAddr>,
    /// The address at the other end.
    pub peer: IpAddr,
    /// Whether it is plain.
    pub link: Link,
    /// Epoll tells when it is writable.
    pub watched_for_room: bool,
    pub outbox: Outbox,
}

impl Conn {
    /// A connection that came to our listener from this address.
    pub fn accepted(fd: OwnedFd, peer: IpAddr, link: Link) -> Conn {
        Conn {
            fd,
            stage: Stage::Open,
            dialled: None,
            peer,
            link,
            watched_for_room: false,
            outbox: Outbox::default(),
        }
    }

    /// Begins to connect from `own`, by which the other director knows us.
    pub fn dial(own: IpAddr, to: SocketAddr) -> io::Result<Conn> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
        prepare(&socket.as_fd())?;
        socket.bind(&SockAddr::from(SocketAddr::new(own, 0)))?;
        match socket.connect(&SockAddr::from(to)) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
            _ => Ok(Conn {
                fd: socket.into(),
                stage: Stage::Dialling,
                dialled: Some(to),
                peer: to.ip(),
                // Until the machine says otherwise.
                link: Link::Plain,
                // Writable means connected, or not.
                watched_for_room: true,
                outbox: Outbox::default(),
            }),
        }
    }

    /// The kernel has finished connecting, one way or the other.
    pub fn finish_dial(&mut self) -> io::Result<()> {
        match SockRef::from(&self.fd).take_error()? {
            Some(error) => Err(error),
            None => {
                self.stage = Stage::Open;
                Ok(())
            }
        }
    }

    /// Sends `bytes` or holds them, and leaves them empty.
    pub fn send(&mut self, bytes: &mut Vec<u8>) {
        self.link.seal(bytes);
        self.send_as_it_is(bytes);
    }

    /// As [`Conn::send`], for what TLS itself says.
    pub fn send_as_it_is(&mut self, bytes: &mut Vec<u8>) {
        match self.stage {
            Stage::Dialling => self.outbox.hold(bytes),
            Stage::Open if self.outbox.send(self.fd.as_fd(), bytes) => {}
            Stage::Open | Stage::Broken => {
                bytes.clear();
                self.broken();
            }
        }
    }

    /// There is room again.
    pub fn flush(&mut self) {
        if self.stage == Stage::Open && !self.outbox.flush(self.fd.as_fd()) {
            self.broken();
        }
    }

    fn broken(&mut self) {
        self.stage = Stage::Broken;
        self.outbox = Outbox::default();
        // Whatever the reason was, lines are missing now: the end must come, and soon. It fails
        // where the connection is gone already.
        let _ = SockRef::from(&self.fd).shutdown(Shutdown::Both);
    }

    /// What is there, at most `buffer.len()` bytes.
    pub fn read(&self, buffer: &mut [u8]) -> Read {
        receive(self.fd.as_fd(), buffer)
    }

    /// Tries once to send `rest`, and closes. What the peer said meanwhile is read away first:
    /// with unread bytes the kernel would reset the connection, and take back what is on its way.
    pub fn close(mut self, mut rest: Vec<u8>, scratch: &mut [u8]) {
        if self.stage != Stage::Open {
            return;
        }
        self.link.seal_last(&mut rest);
        self.send_as_it_is(&mut rest);
        for _ in 0..LAST_READS {
            if !matches!(self.read(scratch), Read::Bytes(_)) {
                return;
            }
        }
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What both kinds of connections need. Lines are sent together already, and whoever waits for one
/// should not wait for the acknowledgement of the one before. TCP keep-alive would say later what
/// PING says.
pub(super) fn prepare(fd: &BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(fd).set_tcp_nodelay(true)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (Conn, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let peer = theirs.local_addr().unwrap().ip();
        (Conn::accepted(ours.into(), peer, Link::Plain), theirs)
    }

    #[test]
    fn a_slow_peer_gets_everything_in_order() {
        let (mut conn, mut theirs) = pair();
        let mut next = 0u32;
        let mut batch = |lines: u32| {
            let from = next;
            next += lines;
            (from..next)
                .flat_map(|n| n.to_be_bytes())
                .collect::<Vec<u8>>()
        };
        let mut total = 0;
        let mut received = Vec::new();
        let mut buffer = vec![0; 100_000];
        for round in 0..600 {
            let mut bytes = batch(if round % 7 == 0 { 100_000 } else { 30 });
            total += bytes.len();
            conn.send(&mut bytes);
            assert!(bytes.is_empty());
            if round % 3 == 0 && conn.outbox.len() > 0 {
                let count = theirs.read(&mut buffer).unwrap();
                received.extend_from_slice(&buffer[..count]);
                conn.flush();
            }
        }
        while received.len() < total {
            conn.flush();
            let count = theirs.read(&mut buffer).unwrap();
            received.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(conn.outbox.len(), 0);
        let expected = (0..next).flat_map(|n| n.to_be_bytes());
        assert!(expected.eq(received), "in order, nothing lost or twice");
    }

    #[test]
    fn the_last_words_arrive_although_the_peer_was_not_read() {
        let (conn, mut theirs) = pair();
        theirs.write_all(&[b'x'; 3000]).unwrap();
        conn.close(b"QUIT\n".to_vec(), &mut [0; 512]);
        let mut said = String::new();
        theirs.read_to_string(&mut said).unwrap();
        assert_eq!(said, "QUIT\n");
    }

    #[test]
    fn what_a_peer_said_before_it_went_is_read_after_a_failed_write() {
        let (mut conn, mut theirs) = pair();
        theirs.write_all(b"QUIT\n").unwrap();
        drop(theirs);
        for _ in 0..50 {
            conn.send(&mut b"x".to_vec());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!(conn.stage, Stage::Broken);
        assert_eq!(conn.outbox.len(), 0);
        let mut buffer = [0; 64];
        assert_eq!(conn.read(&mut buffer), Read::Bytes(5));
        assert_eq!(conn.read(&mut buffer), Read::End);
    }

    #[test]
    fn it_dials_from_its_own_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own: IpAddr = "127.0.0.77".parse().unwrap();
        let mut conn = Conn::dial(own, listener.local_addr().unwrap()).unwrap();
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), own);
        conn.finish_dial().unwrap();
        assert_eq!(conn.stage, Stage::Open);
    }
}
