//! What directors tell each other: over TLS, and to nobody else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::authority::{Authority, write};
use crate::backends::{Mock, Mood};
use crate::e2e::{PATIENCE, Site, wait_until};
use crate::homing::{Homing, Spec};
use crate::operators::quick;

const BACKENDS: [u8; 2] = [11, 12];

fn spec(site: &Site, host: u8, settings: String) -> Spec<'_> {
    Spec {
        site,
        address: site.address(host),
        directors: [41, 42].map(|host| site.address(host)).into(),
        backends: BACKENDS.map(|host| site.address(host)).into(),
        settings,
        checks: quick(),
    }
}

#[test]
fn votes_are_told_over_tls() {
    let site = Site::new();
    let mocks = BACKENDS.map(|host| Mock::start(site.address(host)));
    let authority = Authority::new();
    let homings = [41, 42].map(|host| {
        let dir = site.path().join(format!("tls{host}"));
        std::fs::create_dir_all(&dir).unwrap();
        let pair = authority.give(site.address(host).into());
        let [cert, key, ca] = write(&dir, &pair, &authority.pem());
        let settings = format!(
            "director_ring_tls_cert = {cert:?}\ndirector_ring_tls_key = {key:?}\n\
             director_ring_tls_ca = {ca:?}\n"
        );
        Homing::start(&spec(&site, host, settings))
    });
    let first = site.address(11);
    for homing in &homings {
        wait_until("both vote", PATIENCE, || {
            homing.health(first, "imap").good == 2
        });
    }
    mocks[0].be(Mood::Busy);
    for homing in &homings {
        homing.wait_down(first, true);
    }
    // Whoever speaks plain is not understood, and hears nothing.
    let mut plain = dial(site.address(42), site.address(41));
    let _ = plain.write_all(b"HOMING-HEALTH\t1\t0\t127.0.0.1\t9090\n");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HOMING-HEALTH"));
}

/// From one address to the health port of another.
fn dial(from: Ipv4Addr, to: Ipv4Addr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket
        .connect(&SocketAddr::from((to, 9092)).into())
        .unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn only_directors_are_listened_to_and_only_in_their_own_name() {
    let site = Site::new();
    let _mocks = BACKENDS.map(|host| Mock::start(site.address(host)));
    let homing = Homing::start(&spec(&site, 41, String::new()));
    let first = site.address(11);
    let (own, other, stranger) = (site.address(41), site.address(42), site.address(77));
    homing.wait_state(first, "imap", "up");
    let rest = |mut stream: TcpStream| {
        let mut said = String::new();
        // It may be reset.
        let _ = stream.read_to_string(&mut said);
        said
    };
    assert_eq!(rest(dial(stranger, own)), "", "hung up on without a word");
    let greeting = format!("HOMING-HEALTH\t1\t0\t{own}\t9090\n");
    for wrong in [
        "VERSION\tdirector\t1\t9\n".to_owned(),
        // In the name of whom it speaks to, or of somebody else.
        greeting.clone(),
        format!("HOMING-HEALTH\t1\t0\t{stranger}\t9090\n"),
        format!("HOMING-HEALTH\t2\t0\t{other}\t9090\n"),
        "x".repeat(5000),
    ] {
        let mut stream = dial(other, own);
        let _ = stream.write_all(wrong.as_bytes());
        assert!(greeting.starts_with(&rest(stream)), "after {wrong}");
    }
    // One that is right has a vote as long as it is there.
    let mut stream = dial(other, own);
    let hello = format!("HOMING-HEALTH\t1\t0\t{other}\t9090\n");
    let vote = format!("VOTE\t{first}\tfailed\t0\tby hand\nBEAT\t7\n");
    stream.write_all((hello + &vote).as_bytes()).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap() + "\n", greeting);
    assert_eq!(lines.next().unwrap().unwrap(), "HEARD\t7");
    wait_until("its vote counts", PATIENCE, || {
        homing.health(first, "imap").failed == 1
    });
    // Silent, it counts no more.
    std::thread::sleep(Duration::from_secs(5));
    wait_until("it does not count", PATIENCE, || {
        homing.health(first, "imap").failed == 0
    });
    drop(stream);
    assert!(homing.down().is_empty());
}
