//! One request on a connection of its own, without any library between the test and the bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Orders of a director alone take no time; what the machine does besides may.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl At {
    pub fn connect(&self) -> Box<dyn Stream> {
        match self {
            At::Tcp(address) => {
                let stream = TcpStream::connect(address).expect("the HTTP listener");
                stream
                    .set_read_timeout(Some(ANSWER_LIMIT))
                    .expect("a limit");
                Box::new(stream)
            }
            At::Unix(path) => {
                let stream = UnixStream::connect(path).expect("the HTTP listener");
                stream
                    .set_read_timeout(Some(ANSWER_LIMIT))
                    .expect("a limit");
                Box::new(stream)
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Request {
        Request::of("homing", method, path)
    }

    /// To a server that minds what it is called.
    pub fn of(host: &str, method: &str, path: &str) -> Request {
        Request {
            head: format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"),
            body: Vec::new(),
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    pub fn token(self, token: &str) -> Request {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Request {
        self.body = body.as_ref().to_vec();
        match self.body.len() {
            0 => self,
            length => self.header("Content-Length", &length.to_string()),
        }
    }

    /// Its head as it is sent, with the empty line.
    pub fn bytes(&self) -> Vec<u8> {
        format!("{}\r\n", self.head).into_bytes()
    }

    #[track_caller]
    pub fn send(&self, at: &At) -> Answer {
        self.send_on(at.connect())
    }

    #[track_caller]
    pub fn send_on(&self, mut stream: impl Read + Write) -> Answer {
        stream.write_all(&self.bytes()).expect("a request is taken");
        // Whoever is refused need not take the whole body.
        let _ = stream.write_all(&self.body);
        let (mut bytes, mut buffer) = (Vec::new(), [0; 1 << 16]);
        // A server that has not read everything resets the connection; another one keeps it open, whatever
        // it is asked for.
        while !is_whole(&bytes) {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        Answer::parse(&bytes)
    }
}

/// Whether an answer has all of the body that its head announces.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(head) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|it| it.trim().parse::<usize>().ok());
    length.is_some_and(|length| bytes.len() >= head + 4 + length)
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn parse(bytes: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        Answer {
            status: status.unwrap_or_else(|| panic!("no status: {head}")),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The problem that it must be.
    #[track_caller]
    pub fn problem(&self, fault: &str) -> String {
        assert!(self.head.contains("application/problem+json"), "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], self.status, "{self:?}");
        assert_eq!(document["fault"], fault, "{self:?}");
        document["detail"].as_str().expect("a detail").to_owned()
    }
}
