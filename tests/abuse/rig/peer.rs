//! One end of a connection, driven by hand. Every wait is bounded.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{SOON, wait_for};

/// What a login process says first.
pub const HELLO: &str = "VERSION\t1\t2\nCPID\t42\n";

pub struct Peer {
    pub stream: UnixStream,
    unread: Vec<u8>,
}

impl Peer {
    pub fn new(stream: UnixStream) -> Peer {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Peer {
            stream,
            unread: Vec::new(),
        }
    }

    /// Connects, waiting while nobody listens yet.
    pub fn connect(path: &Path) -> Peer {
        Peer::new(wait_for("a listener", || UnixStream::connect(path).ok()))
    }

    /// Connects to a login socket and shakes hands.
    pub fn login(path: &Path) -> Peer {
        let mut peer = Peer::connect(path);
        peer.send(HELLO);
        peer.until("DONE");
        peer
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("send");
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            // A child of another test was stopped or has ended.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.more(),
            Err(error) => panic!(
                "{error} after {:?}",
                String::from_utf8_lossy(&self.unread[..self.unread.len().min(200)])
            ),
        }
    }

    /// The next line, without LF.
    pub fn raw_line(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line = self.unread[..end].to_vec();
                self.unread.drain(..=end);
                return line;
            }
            assert!(
                self.more(),
                "closed, after {:?}",
                String::from_utf8_lossy(&self.unread)
            );
        }
    }

    pub fn line(&mut self) -> String {
        String::from_utf8(self.raw_line()).unwrap()
    }

    /// Reads lines up to `last` and gives them all back.
    pub fn until(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != last) {
            lines.push(self.line());
        }
        lines
    }

    /// Exactly so many bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.more(), "closed after {} bytes", self.unread.len());
        }
        self.unread.drain(..count).collect()
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.unread)
    }

    /// The other side closes, and says nothing more before.
    pub fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    }

    /// Nothing comes for a while.
    pub fn expect_silence(&mut self, time: Duration) {
        assert!(self.unread.is_empty(), "{:?}", self.unread);
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut byte = [0];
        let read = self.stream.read(&mut byte);
        self.stream.set_read_timeout(Some(SOON)).unwrap();
        match read {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("not silent: {other:?} {byte:?}"),
        }
    }

    /// Writes until nothing more is taken for a while, or the other side is gone, or `most` bytes;
    /// returns how many were.
    pub fn flood(&mut self, piece: &[u8], most: usize) -> usize {
        let pause = Duration::from_millis(500);
        self.stream.set_write_timeout(Some(pause)).unwrap();
        let mut sent = 0;
        while sent < most {
            match self.stream.write(&piece[sent % piece.len()..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::BrokenPipe].contains(&error.kind()) =>
                {
                    break;
                }
                Err(error) => panic!("{error} after {sent} bytes"),
            }
        }
        self.stream.set_write_timeout(Some(SOON)).unwrap();
        sent
    }

    /// Asks for a user that [`super::EchoAuth`] or the stub answers; returns the reply.
    pub fn ask(&mut self, id: u32, fields: &str) -> String {
        self.request(id, fields);
        self.line()
    }

    /// As [`Peer::ask`], without waiting for the reply. `|` stands for TAB.
    pub fn request(&mut self, id: u32, fields: &str) {
        self.send(format!("AUTH\t{id}\tPLAIN\tservice=imap\tsay={fields}\n"));
    }
}

/// The backend in a reply.
pub fn host(reply: &str) -> Option<&str> {
    reply
        .split('\t')
        .find_map(|field| field.strip_prefix("host="))
}
