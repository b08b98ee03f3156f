//! The other director of a ring of two, played by hand: it answers PING, and brings SYNC back.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};

use super::networks::Network;
use super::rig::{Homing, SOON, clock, wait_for};

pub const PORT: u16 = 19_190;

/// Who is who.
pub struct Ring {
    pub homing: IpAddr,
    pub other: IpAddr,
    /// Of a ring of three.
    pub third: IpAddr,
    pub stranger: IpAddr,
    listener: TcpListener,
}

/// Address `last` of network `net` of these tests.
pub fn at(net: u8, last: u8) -> IpAddr {
    static NETWORKS: Mutex<BTreeMap<u8, Network>> = Mutex::new(BTreeMap::new());
    let mut networks = NETWORKS.lock();
    let network = networks.entry(net).or_insert_with(Network::claim);
    network.address(last).into()
}

impl Ring {
    pub fn new(net: u8) -> Ring {
        let at = |last| at(net, last);
        let listener = TcpListener::bind((at(2), PORT)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Ring {
            homing: at(1),
            other: at(2),
            third: at(3),
            stranger: at(9),
            listener,
        }
    }

    /// Homing's next connection to the other director.
    pub fn dialled(&self) -> TcpStream {
        let (stream, from) = wait_for("to be dialled", || self.listener.accept().ok());
        assert_eq!(
            from.ip(),
            self.homing,
            "dialled from its address in the ring"
        );
        stream
    }
}

pub fn connect_from(own: IpAddr, to: IpAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SockAddr::from(SocketAddr::new(own, 0)))?;
    socket.connect(&SockAddr::from(SocketAddr::new(to, PORT)))?;
    Ok(socket.into())
}

/// A connection, read line by line.
struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
    ended: bool,
}

impl Line {
    fn new(stream: TcpStream) -> Line {
        stream.set_nonblocking(true).unwrap();
        Line {
            stream,
            unread: Vec::new(),
            ended: false,
        }
    }

    /// Lines that are there.
    fn read(&mut self) -> Vec<String> {
        let mut buffer = [0; 16384];
        while !self.ended {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    self.ended = true;
                }
            }
        }
        let Some(last) = self.unread.iter().rposition(|&byte| byte == b'\n') else {
            return Vec::new();
        };
        let complete: Vec<u8> = self.unread.drain(..=last).collect();
        let text = String::from_utf8(complete).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }
}

/// The director with both its connections.
pub struct Neighbour {
    /// Homing dialled it.
    from_homing: Line,
    /// It dialled Homing.
    to_homing: Line,
    lines: Vec<String>,
}

impl Neighbour {
    /// Shakes hands both ways.
    pub fn join(ring: &Ring) -> Neighbour {
        Neighbour::between(ring, ring.homing)
    }

    /// The same with two: one dials it, and it dials the other one.
    pub fn between(ring: &Ring, right: IpAddr) -> Neighbour {
        let stream = ring.dialled();
        let stream_to = connect_from(ring.other, right).unwrap();
        let mut neighbour = Neighbour {
            from_homing: Line::new(stream),
            to_homing: Line::new(stream_to),
            lines: Vec::new(),
        };
        let me = format!("VERSION\tdirector\t1\t9\nME\t{}\t{PORT}\t1\n", ring.other);
        neighbour.from_homing.write(&me);
        let hosts: String = (1..=4)
            .map(|last| format!("HOST\t10.2.0.{last}\t100\t\tU0\t\n"))
            .collect();
        neighbour.to_homing.write(&format!(
            "{me}HOST-HAND-START\t0\n{hosts}HOST-HAND-END\t0\nOPTIONS\tconsistent-hashing\nDONE\n"
        ));
        let mut done = 0;
        while done < 2 {
            done += neighbour.wait("DONE", |line| line == "DONE");
        }
        neighbour
    }

    /// Until Homing says that the ring is synced. Only its log is read: asking it would wake it.
    pub fn until_synced(&mut self, homing: &Homing) {
        let end = clock::now() + SOON;
        let says = |line: &&str| line.contains("ring is ");
        let is_synced = |log: &str| {
            let last = log.lines().rev().find(says);
            last.is_some_and(|line| line.contains("ring is synced"))
        };
        while !is_synced(&homing.log()) {
            self.pump();
            assert!(clock::now() < end, "not synced: {:?}", self.lines);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Until both its connections are Homing's neighbours.
    pub fn until_neighbour(&mut self, ring_line: impl Fn() -> String) {
        let end = clock::now() + SOON;
        while ring_line().contains("none") {
            self.pump();
            assert!(clock::now() < end, "{}: {:?}", ring_line(), self.lines);
        }
    }

    /// Reads what is there, answers PING and passes on SYNC; returns the lines.
    fn pump(&mut self) -> Vec<String> {
        let mut new = Vec::new();
        for line in self.from_homing.read() {
            if line.starts_with("PING") {
                self.from_homing.write("PONG\n");
            }
            if line == "DONE" {
                self.from_homing.write("DONE\n");
            }
            if line.starts_with("SYNC") && !self.to_homing.ended {
                self.to_homing.write(&format!("{line}\n"));
            }
            new.push(line);
        }
        for line in self.to_homing.read() {
            if line.starts_with("PING") {
                self.to_homing.write("PONG\n");
            }
            new.push(line);
        }
        self.lines.extend(new.iter().cloned());
        new
    }

    fn wait(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> usize {
        let end = clock::now() + SOON;
        loop {
            let count = self.pump().iter().filter(|line| wanted(line)).count();
            if count > 0 {
                return count;
            }
            assert!(clock::now() < end, "{what}: {:?}", self.lines);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Until a line comes.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        if !self.lines.iter().any(|line| wanted(line)) {
            self.wait(what, wanted);
        }
    }

    /// Answers for a while.
    pub fn stay(&mut self, time: Duration) {
        let end = clock::now() + time;
        while clock::now() < end {
            self.pump();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many such lines were said.
    pub fn count(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.lines.iter().filter(|line| wanted(line)).count()
    }

    /// Says something on the connection on which it is Homing's left.
    pub fn say(&mut self, line: &str) {
        self.to_homing.write(&format!("{line}\n"));
    }

    /// Both its connections, to do what no director does.
    pub fn streams(&self) -> [TcpStream; 2] {
        [&self.from_homing, &self.to_homing].map(|line| line.stream.try_clone().unwrap())
    }

    /// Everything that was said up to the end of both connections.
    pub fn until_the_end(mut self) -> Vec<String> {
        let end = clock::now() + SOON;
        while !(self.from_homing.ended && self.to_homing.ended) {
            self.pump();
            assert!(clock::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.lines
    }
}
