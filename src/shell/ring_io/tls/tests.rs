//! Both ends of TLS, without sockets.

#[path = "../../../../tests/ring_io/authority.rs"]
mod authority;

use std::net::IpAddr;
use std::sync::Arc;

use authority::{Authority, expired, only_for_servers, write};

use super::*;
use crate::core::Wall;
use crate::settings::RingTls;
use crate::wire::ring::START_TLS;

/// In the time of the certificates that tests make.
const NOW: Wall = Wall(1_800_000_000);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn files(dir: &std::path::Path, given: &(String, String), ca: &str) -> RingTls {
    let [cert, key, ca] = write(dir, given, ca);
    RingTls { cert, key, ca }
}

fn load(given: &(String, String), ca: &str, own: Option<IpAddr>) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), given, ca);
    Certificates::load(&files, own, NOW).map_err(|error| error.to_string())
}

fn certificates(given: &(String, String), ca: &str) -> Arc<Certificates> {
    load(given, ca, None).unwrap().certificates
}

/// A dialler at 10.0.0.1 and an acceptor at 10.0.0.2, or at `seen` as each sees the other.
struct Pair {
    ends: [Link; 2],
    /// What each has got for its machine.
    got: [Vec<u8>; 2],
    /// On its way to each.
    wire: [Vec<u8>; 2],
    faults: [Option<String>; 2],
    /// Everything that was on the wire.
    seen: Vec<u8>,
}

impl Pair {
    fn new(dialler: &Arc<Certificates>, acceptor: &Arc<Certificates>) -> Pair {
        Pair::at(dialler, acceptor, ip("10.0.0.1"), ip("10.0.0.2"))
    }

    fn at(
        dialler: &Arc<Certificates>,
        acceptor: &Arc<Certificates>,
        dialler_at: IpAddr,
        acceptor_at: IpAddr,
    ) -> Pair {
        let mut to_acceptor = Vec::new();
        let ends = [
            Link::ask(Arc::clone(dialler), acceptor_at, &mut to_acceptor),
            Link::accepted(Some(acceptor), dialler_at),
        ];
        Pair {
            ends,
            got: Default::default(),
            // The end of its ME, which the dialler has begun to read.
            wire: [b"7\n".to_vec(), to_acceptor],
            faults: Default::default(),
            seen: Vec::new(),
        }
    }

    /// Carries bytes in pieces of `size` until nothing moves.
    fn run(&mut self, size: usize) {
        while self.wire.iter().any(|wire| !wire.is_empty()) {
            for end in 0..2 {
                let count = self.wire[end].len().min(size);
                let bytes: Vec<u8> = self.wire[end].drain(..count).collect();
                self.seen.extend_from_slice(&bytes);
                if self.faults[end].is_some() {
                    continue;
                }
                let mut opened = Opened::default();
                let received = self.ends[end].received(&bytes, &mut opened);
                self.got[end].append(&mut opened.plain);
                self.wire[1 - end].append(&mut opened.out);
                self.faults[end] = received.err();
            }
        }
    }

    fn say(&mut self, end: usize, text: &[u8]) {
        let mut bytes = text.to_vec();
        self.ends[end].seal(&mut bytes);
        self.wire[1 - end].extend_from_slice(&bytes);
    }

    fn is_secure(&self) -> [bool; 2] {
        [0, 1].map(|end| self.ends[end].is_secure())
    }

    fn fault(&self, end: usize) -> &str {
        self.faults[end].as_deref().unwrap_or("none")
    }
}

fn both(authority: &Authority) -> [Arc<Certificates>; 2] {
    ["10.0.0.1", "10.0.0.2"].map(|at| certificates(&authority.give(ip(at)), &authority.pem()))
}

#[test]
fn both_ends_hear_each_other_and_nobody_else_does() {
    let authority = Authority::new();
    let [dialler, acceptor] = both(&authority);
    for size in [1, 7, 100, 100_000] {
        let mut pair = Pair::new(&dialler, &acceptor);
        // Neither plain nor inside TLS.
        pair.say(0, b"QUIT\ttoo early\n");
        pair.run(size);
        assert_eq!(pair.is_secure(), [true, true], "{:?}", pair.faults);
        assert_eq!(pair.got, [Vec::<u8>::new(), Vec::<u8>::new()]);
        let long: Vec<u8> = (0..300_000u32).flat_map(u32::to_be_bytes).collect();
        pair.say(0, b"USER\t1\n");
        pair.say(1, &long);
        pair.say(1, b"USER\t2\n");
        pair.run(size.max(50));
        assert_eq!(pair.got[1], b"USER\t1\n");
        assert_eq!(pair.got[0], [long.as_slice(), b"USER\t2\n"].concat());
        assert!(!pair.seen.windows(4).any(|four| four == b"USER"));
        let mut last = b"QUIT\tbye\n".to_vec();
        pair.ends[0].seal_last(&mut last);
        pair.wire[1].append(&mut last);
        // A stranger adds something.
        pair.wire[1].extend_from_slice(b"USER\t3\n");
        pair.run(size);
        assert_eq!(pair.got[1], b"USER\t1\nQUIT\tbye\n");
        assert_eq!(pair.faults, [None, None]);
    }
}

#[test]
fn a_plain_peer_is_heard_as_it_is() {
    let [_, acceptor] = both(&Authority::new());
    for first in ["VERSION\tdirector\t1\t9\n", "START", "STARTTLS \n", "\n"] {
        let mut link = Link::accepted(Some(&acceptor), ip("10.0.0.1"));
        let mut opened = Opened::default();
        for byte in first.bytes().chain(*b"X") {
            link.received(&[byte], &mut opened).unwrap();
        }
        assert!(link.is_plain());
        assert_eq!(opened.plain, format!("{first}X").into_bytes());
        assert!(opened.out.is_empty());
    }
    let mut link = Link::accepted(None, ip("10.0.0.1"));
    let mut opened = Opened::default();
    link.received(START_TLS, &mut opened).unwrap();
    assert_eq!(opened.plain, START_TLS, "it was not offered");
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    let [dialler, _] = both(&Authority::new());
    let mut link = Link::ask(dialler, ip("10.0.0.2"), &mut Vec::new());
    let mut opened = Opened::default();
    let line = [&b"xSTARTTLS\n"[..], &[b'x'; 8000]].concat();
    let faults = (0..20).filter_map(|_| link.received(&line, &mut opened).err());
    let first = faults.into_iter().next().unwrap();
    assert_eq!(first, "it has offered TLS and does not begin it");
    assert!(opened.plain.is_empty() && opened.out.is_empty());
}

#[test]
fn garbage_instead_of_tls_is_an_error() {
    let [_, acceptor] = both(&Authority::new());
    let mut link = Link::accepted(Some(&acceptor), ip("10.0.0.1"));
    let mut opened = Opened::default();
    let fault = link.received(b"STARTTLS\nVERSION\tdirector\t1\t9\n", &mut opened);
    assert!(fault.unwrap_err().starts_with("TLS has failed: "));
    assert!(opened.plain.is_empty());
}

/// What the dialler and the acceptor say when one of them has this certificate. The other's is good.
fn refused(bad: &Arc<Certificates>, good: &Arc<Certificates>, bad_end: usize) -> [String; 2] {
    let (dialler, acceptor) = if bad_end == 0 {
        (bad, good)
    } else {
        (good, bad)
    };
    let mut pair = Pair::new(dialler, acceptor);
    pair.run(1000);
    assert!(
        !pair.ends[1 - bad_end].is_secure(),
        "by whom it was checked"
    );
    [pair.fault(bad_end), pair.fault(1 - bad_end)].map(str::to_owned)
}

#[test]
fn a_certificate_that_has_expired_is_refused() {
    let authority = Authority::new();
    let good = both(&authority);
    for (end, at) in ["10.0.0.1", "10.0.0.2"].into_iter().enumerate() {
        let given = authority.give_with(ip(at), expired);
        let loaded = load(&given, &authority.pem(), Some(ip(at))).unwrap();
        assert!(loaded.warnings[0].ends_with("cert.pem: it has expired"));
        let [bad, by] = refused(&loaded.certificates, &good[1 - end], end);
        assert_eq!(by, "its certificate is refused: it has expired");
        assert!(bad.starts_with("it refuses our certificate: "), "{bad}");
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = both(&authority);
    for (end, at) in ["10.0.0.1", "10.0.0.2"].into_iter().enumerate() {
        let given = other.give(ip(at));
        // Who believes both, and is believed by one.
        let believed = format!("{}{}", authority.pem(), other.pem());
        let [bad, by] = refused(&certificates(&given, &believed), &good[1 - end], end);
        let says = "its certificate is refused: it is from no authority of director_ring_tls_ca";
        assert_eq!(by, says);
        assert!(bad.contains("unknown authority"), "{bad}");
    }
}

#[test]
fn a_certificate_of_another_director_is_refused() {
    let authority = Authority::new();
    let good = both(&authority);
    for end in 0..2 {
        let given = authority.give(ip("10.0.0.3"));
        let [bad, by] = refused(&certificates(&given, &authority.pem()), &good[1 - end], end);
        let at = ["10.0.0.1", "10.0.0.2"][end];
        let says = format!("has not the director's address {at}, only [");
        assert!(by.contains(&says) && by.contains("10.0.0.3"), "{by}");
        assert!(bad.contains("does not name the address"), "{bad}");
    }
    // A name is no address.
    let given = authority.give_with(ip("10.0.0.1"), |params| {
        let name = "director1.example.org".try_into().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
    });
    let [_, by] = refused(&certificates(&given, &authority.pem()), &good[1], 0);
    assert!(by.contains("director1.example.org"), "{by}");
}

#[test]
fn an_ipv6_address_is_a_name_too() {
    let authority = Authority::new();
    let given = ["fd00::1", "fd00::2"].map(|at| authority.give(ip(at)));
    let [dialler, acceptor] = given.map(|given| certificates(&given, &authority.pem()));
    let mut pair = Pair::at(&dialler, &acceptor, ip("fd00::1"), ip("fd00::2"));
    pair.run(1000);
    assert_eq!(pair.is_secure(), [true, true], "{:?}", pair.faults);
}

#[test]
fn a_dialler_without_certificate_is_refused() {
    let authority = Authority::new();
    let [_, acceptor] = both(&authority);
    let mut roots = rustls::RootCertStore::empty();
    let dir = tempfile::tempdir().unwrap();
    let files = files(
        dir.path(),
        &authority.give(ip("10.0.0.1")),
        &authority.pem(),
    );
    use rustls::pki_types::pem::PemObject as _;
    let ca = rustls::pki_types::CertificateDer::from_pem_file(&files.ca).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::IpAddress(ip("10.0.0.2").into());
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut client = Tls {
        connection: connection.into(),
    };
    let mut pair = Pair::new(&acceptor, &acceptor);
    pair.wire[1].clear();
    pair.wire[1].extend_from_slice(START_TLS);
    client.unwritten(&mut pair.wire[1]);
    pair.ends[0] = Link::Tls(Box::new(client));
    pair.wire[0].clear();
    // Its end of the handshake does not look for the line.
    let mut opened = Opened::default();
    let bytes = std::mem::take(&mut pair.wire[1]);
    pair.ends[1].received(&bytes, &mut opened).unwrap();
    pair.wire[0] = opened.out.split_off(START_TLS.len());
    pair.run(1000);
    assert_eq!(pair.fault(1), "it has no certificate");
    assert_eq!(pair.fault(0), "it refuses our certificate: we sent none");
    assert!(!pair.ends[1].is_secure());
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let at = ip("10.0.0.1");
    let (cert, key) = authority.give(at);
    let (_, another) = authority.give(at);
    let ca = authority.pem();
    let says = |cert: &str, key: &str, ca: &str, own: IpAddr| {
        let given = (cert.to_owned(), key.to_owned());
        load(&given, ca, Some(own)).map(|loaded| loaded.warnings)
    };
    assert_eq!(says(&cert, &key, &ca, at), Ok(Vec::new()));
    let cases = [
        (
            says(&cert, &another, &ca, at),
            "tls_key",
            "it is not the key of director_ring_tls_cert",
        ),
        (
            says(&cert, &cert, &ca, at),
            "tls_key",
            "no PEM private key without passphrase in it",
        ),
        (
            says(&key, &key, &ca, at),
            "tls_cert",
            "no PEM certificate in it",
        ),
        (
            says("", &key, &ca, at),
            "tls_cert",
            "no PEM certificate in it",
        ),
        (
            says(&cert, &key, "", at),
            "tls_ca",
            "no PEM certificate in it",
        ),
        (says(&cert[..300], &key, &ca, at), "tls_cert", "no PEM: "),
        (
            says(&cert, &key, &other.pem(), at),
            "tls_cert",
            "it is from no authority of",
        ),
        (
            says(&cert, &key, &ca, ip("10.0.0.9")),
            "tls_cert",
            "not the director's address 10.0.0.9",
        ),
    ];
    for (result, setting, what) in cases {
        let error = result.unwrap_err();
        assert!(
            error.starts_with(&format!("director_ring_{setting}: /")),
            "{error}"
        );
        assert!(error.contains(what), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
    let (cert, key) = authority.give_with(at, only_for_servers);
    let error = says(&cert, &key, &ca, at).unwrap_err();
    assert!(error.contains("both serverAuth and clientAuth"), "{error}");
    let nowhere = RingTls {
        cert: "/nowhere/c".into(),
        key: "/nowhere/k".into(),
        ca: "/nowhere/a".into(),
    };
    let error = Certificates::load(&nowhere, None, NOW)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("director_ring_tls_cert: /nowhere/c: cannot be read: "));
}
