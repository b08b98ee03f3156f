//! A director that joins an encrypted ring is asked by many clients while its neighbour's handshake stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use homing::core::Wall;
use homing::settings::RingTls;
use homing::shell::ring_io::tls::{Certificates, Link, Opened};

use super::authority::{Authority, write};
use super::neighbour::{PORT, Ring, connect_from};
use super::rig::peer::host;
use super::rig::{Peer, SOON};
use super::tls::{site, start};
use super::{hash, seconds};

const USERS: u32 = 3000;
/// Requests of one client at a time.
const AT_ONCE: u32 = 500;

/// A connection to Homing that has gone over to TLS, read line by line.
struct Secure {
    stream: TcpStream,
    link: Link,
    unread: Vec<u8>,
}

impl Secure {
    fn dial(ring: &Ring, certificates: Arc<Certificates>) -> Secure {
        let mut stream = connect_from(ring.other, ring.homing).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut offer = Vec::new();
        while !offer.ends_with(b"\n") || !offer.windows(4).any(|at| at == b"\nME\t") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            offer.push(byte[0]);
        }
        let offer = String::from_utf8(offer).unwrap();
        assert!(
            offer.starts_with("VERSION\tdirector\t1\t9\thoming=2\ttls\tjoining\n"),
            "{offer}"
        );
        let mut ask = Vec::new();
        let link = Link::ask(certificates, ring.homing, &mut ask);
        stream.write_all(&ask).unwrap();
        let unread = Vec::new();
        let mut this = Secure {
            stream,
            link,
            unread,
        };
        while !this.link.is_secure() {
            this.read();
        }
        this
    }

    fn read(&mut self) {
        let (mut buffer, mut opened) = ([0; 16384], Opened::default());
        let count = self.stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed");
        self.link.received(&buffer[..count], &mut opened).unwrap();
        self.stream.write_all(&opened.out).unwrap();
        self.unread.extend_from_slice(&opened.plain);
    }

    fn say(&mut self, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        self.link.seal(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line = self.unread.drain(..=end).collect();
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            self.read();
        }
    }
}

/// Says this, then answers PING until the end.
fn answer(mut stream: TcpStream, first: &str) {
    stream.set_nonblocking(false).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        if line.is_ok_and(|line| line.starts_with("PING")) && stream.write_all(b"PONG\n").is_err() {
            return;
        }
    }
}

#[test]
fn a_joining_director_asks_inside_tls_for_thousands_of_users() {
    let (authority, ring) = (Authority::new(), Ring::new(40));
    let given = authority.give(ring.homing);
    let site = site(ring.homing, &[ring.other], &given, &authority.pem());
    let homing = start(site.set("director_ring_tls_required", "false"));
    let dir = tempfile::tempdir().unwrap();
    let [cert, key, ca] = write(dir.path(), &authority.give(ring.other), &authority.pem());
    let files = RingTls { cert, key, ca };
    let loaded = Certificates::load(&files, Some(ring.other), Wall(seconds())).unwrap();

    // Whom it dials is there, or it would serve alone after 20 s. No director has both: this one has no TLS.
    let right = ring.dialled();
    let me = format!(
        "VERSION\tdirector\t1\t9\nME\t{}\t{PORT}\t{}\nDONE\n",
        ring.other,
        seconds()
    );
    let right = thread::spawn(move || answer(right, &me));

    // It was in a complete ring, has told its backends, and is never done with its users.
    let mut neighbour = Secure::dial(&ring, loaded.certificates);
    let hosts: String = (1..=4)
        .map(|n| format!("HOST\t10.2.0.{n}\t100\t\tU0\t\n"))
        .collect();
    neighbour.say(&format!(
        "VERSION\tdirector\t1\t9\thoming=2\nME\t{}\t{PORT}\t{}\nHOST-HAND-START\t1\n{hosts}HOST-HAND-END\t1\n",
        ring.other,
        seconds()
    ));
    // Not where the hash ring would send them.
    let at = |n: u32| format!("10.2.0.{}", n % 4 + 1);
    let names = (0..USERS).map(|n| (hash(&format!("u{n}")), n));
    let names: BTreeMap<u32, u32> = names.collect();
    let mut client = Peer::login(&homing.login());
    // It may ask twice for one.
    let mut told = BTreeSet::new();
    for first in (0..USERS).step_by(AT_ONCE as usize) {
        for n in first..first + AT_ONCE {
            client.request(n, &format!("user=u{n}|proxy"));
        }
        while told.len() < (first + AT_ONCE) as usize {
            let line = neighbour.line();
            if line.starts_with("PING") {
                neighbour.say("PONG\n");
            }
            let Some(rest) = line.strip_prefix("ASK\t") else {
                continue;
            };
            let asked: u32 = rest.split('\t').next().unwrap().parse().unwrap();
            let home = at(names[&asked]);
            neighbour.say(&format!("USER\t{asked}\t{home}\t{}\n", seconds()));
            told.insert(asked);
        }
        for _ in 0..AT_ONCE {
            let reply = client.line();
            let number: u32 = reply.split('\t').nth(1).unwrap().parse().unwrap();
            assert_eq!(host(&reply), Some(&*at(number)), "{reply}");
        }
    }
    assert!(
        !homing.log().contains("ring is synced"),
        "it was joining all the time"
    );
    let log = homing.stop();
    right.join().unwrap();
    assert!(log.contains("its certificate is right, TLS 1.3 begins"));
}
