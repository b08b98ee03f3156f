//! Homing directors that speak TLS with each other: real processes, and what they tell a neighbour
//! that has none.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::authority::{Authority, expired, write};
use super::neighbour::{Neighbour, PORT, Ring, at, connect_from};
use super::rig::homing::run;
use super::rig::peer::host;
use super::rig::{EchoAuth, Homing, Peer, SOON, Site, clock, wait_until};
use super::{hash, ring_line};

/// A director at `own`, in a ring with `others`, with this certificate and key.
pub fn site(own: IpAddr, others: &[IpAddr], given: &(String, String), ca: &str) -> Site {
    let all = [&[own], others].concat();
    let all: Vec<String> = all.iter().map(|ip| format!("{ip}:{PORT}")).collect();
    let site = Site::new().set("director_servers", &format!("{:?}", all.join(" ")));
    let dir = site.path("");
    let paths = write(&dir, given, ca);
    ["cert", "key", "ca"]
        .into_iter()
        .zip(&paths)
        .fold(site, |site, (name, path)| {
            site.set(&format!("director_ring_tls_{name}"), &format!("{path:?}"))
        })
        .append(&format!(
            "[[listener]]\ntype = \"ring\"\naddress = \"{own}:{PORT}\"\n"
        ))
}

pub fn start(site: Site) -> Homing {
    let homing = site.start();
    EchoAuth::spawn(&homing.site.path("auth-login"), false);
    homing
}

fn whole(homing: &Homing) -> bool {
    let line = ring_line(homing);
    line.contains("synced=true") && line.contains("alone=false") && !line.contains("none")
}

/// A user that logs in at each is known to all others, and has one home.
fn is_one(homings: &[Homing], name: &str) {
    for (n, homing) in homings.iter().enumerate() {
        let mut client = Peer::login(&homing.login());
        let reply = client.ask(1, &format!("user={name}{n}|proxy"));
        assert!(host(&reply).is_some(), "{reply}");
    }
    for homing in homings {
        let count = homings.len() as u64;
        wait_until("the users of the others", || homing.users() >= count);
    }
}

fn reload(homing: &Homing, done: &str) -> String {
    let seen = homing.log().len();
    homing.signal(Signal::SIGHUP);
    wait_until("the reload", || homing.log()[seen..].contains(done));
    homing.log()[seen..].to_owned()
}

#[test]
fn three_directors_are_one_ring_and_a_renewed_certificate_is_taken() {
    let authority = Authority::new();
    let ips = [1, 2, 3].map(|last| at(20, last));
    let mut homings: Vec<Homing> = Vec::new();
    for own in ips {
        let others: Vec<IpAddr> = ips.into_iter().filter(|&ip| ip != own).collect();
        homings.push(start(site(
            own,
            &others,
            &authority.give(own),
            &authority.pem(),
        )));
    }
    wait_until("a ring", || homings.iter().all(whole));
    is_one(&homings, "ann");
    for homing in &homings {
        homing.wait_said("its certificate is right");
        assert!(!homing.log().contains("PRIVATE KEY"));
    }

    // All go over to another authority, one after the other, and are one ring again.
    let next = Authority::new();
    let both = authority.pem() + &next.pem();
    for (homing, own) in homings.iter().zip(ips) {
        write(&homing.site.path(""), &authority.give(own), &both);
        reload(homing, "reload: done");
    }
    for (homing, own) in homings.iter().zip(ips) {
        write(&homing.site.path(""), &next.give(own), &both);
        reload(homing, "reload: done");
    }
    assert!(homings.iter().all(whole), "nothing was interrupted");
    for (homing, own) in homings.iter().zip(ips) {
        write(&homing.site.path(""), &next.give(own), &next.pem());
        reload(homing, "reload: done");
    }
    homings.pop().unwrap().stop();
    let given = next.give(ips[2]);
    homings.push(start(site(ips[2], &ips[..2], &given, &next.pem())));
    wait_until("a ring with the new authority", || {
        homings.iter().all(whole)
    });

    // Files that cannot be used change nothing.
    let path = homings[0].site.path("");
    write(&path, &next.give(ips[1]), &next.pem());
    let said = reload(
        &homings[0],
        "the certificates cannot be used, nothing was changed",
    );
    assert!(said.contains("director_ring_tls_cert: "), "{said}");
    assert!(
        said.contains("its subjectAltName has not the director's address"),
        "{said}"
    );
    is_one(&homings, "bob");
    for homing in homings {
        homing.stop();
    }
}

/// What a connection says within a while, or until it ends.
fn said(stream: &mut TcpStream, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let end = clock::now() + SOON;
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while !enough(&all) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(_) => assert!(clock::now() < end, "{:?}", String::from_utf8_lossy(&all)),
        }
    }
    all
}

/// The first two lines, which offer TLS.
fn greeting(stream: &mut TcpStream) {
    let two = |all: &[u8]| all.iter().filter(|&&byte| byte == b'\n').count() == 2;
    let text = String::from_utf8(said(stream, two)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Behind it, "joining" while it has nobody who has told it the users.
    assert!(lines[0].split('\t').any(|field| field == "tls"), "{text}");
    assert!(lines[1].starts_with("ME\t"), "{text}");
}

fn quiet(stream: &mut TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let error = stream.read(&mut [0; 100]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn who_demands_tls_says_nothing_plain_but_its_name() {
    let authority = Authority::new();
    let ring = Ring::new(21);
    let given = authority.give(ring.homing);
    let mut homing = start(site(ring.homing, &[ring.other], &given, &authority.pem()));
    let me = format!("ME\t{}\t{PORT}\t1\n", ring.other);

    let plain = format!("VERSION\tdirector\t1\t9\n{me}");

    // Dialling a director that has TLS, and then something else.
    let mut stream = ring.dialled();
    quiet(&mut stream);
    stream
        .write_all(format!("VERSION\tdirector\t1\t9\thoming=1\ttls\n{me}").as_bytes())
        .unwrap();
    assert_eq!(said(&mut stream, |all| all.len() >= 9), b"STARTTLS\n");
    stream.write_all(b"STARTTLS\n").unwrap();
    let hello = said(&mut stream, |all| all.len() > 100);
    assert_eq!(hello[..2], [22, 3], "a handshake record");
    stream.write_all(b"USER\t1\t10.2.0.1\t1\n").unwrap();
    homing.wait_log("TLS has failed: ");

    // Dialling one without TLS.
    let mut stream = ring.dialled();
    quiet(&mut stream);
    stream.write_all(plain.as_bytes()).unwrap();
    assert_eq!(said(&mut stream, |_| false), b"");
    homing.wait_log("no TLS, which director_ring_tls_required demands");

    // Dialled by one.
    let mut stream = connect_from(ring.other, ring.homing).unwrap();
    greeting(&mut stream);
    stream.write_all(plain.as_bytes()).unwrap();
    assert_eq!(said(&mut stream, |_| false), b"");
    homing.wait_log(&format!("director {}: closed: no TLS", ring.other));
    assert_eq!(homing.users(), 0);
    homing.stop();
}

#[test]
fn who_does_not_demand_tls_takes_plain_directors_too() {
    let authority = Authority::new();
    let ring = Ring::new(22);
    let given = authority.give(ring.homing);
    let site = site(ring.homing, &[ring.other], &given, &authority.pem())
        .set("director_ring_tls_required", "false");
    let homing = start(site);
    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_synced(&homing);
    // One that may still begin TLS must not hear of users.
    let mut silent = connect_from(ring.other, ring.homing).unwrap();
    greeting(&mut silent);
    let mut client = Peer::login(&homing.login());
    client.ask(1, "user=ann|proxy");
    let told = format!("USER\t{}\t", hash("ann"));
    neighbour.until("ann's place", |line| line.starts_with(&told));
    quiet(&mut silent);
    homing.stop();
}

#[test]
fn certificates_are_rolled_out_in_a_running_ring() {
    let authority = Authority::new();
    let [own, other] = [at(23, 1), at(23, 2)];
    let plain = |own: IpAddr, other: IpAddr| {
        site(own, &[other], &authority.give(own), &authority.pem())
            .set("director_ring_tls_required", "\"no\"")
    };
    let without = |own: IpAddr, other: IpAddr| {
        ["cert", "key", "ca"]
            .into_iter()
            .fold(plain(own, other), |site, name| {
                site.set(&format!("director_ring_tls_{name}"), "\"\"")
            })
    };
    let homings = [start(plain(own, other)), start(without(other, own))];
    wait_until("a plain ring", || homings.iter().all(whole));
    assert!(!homings[0].log().contains("its certificate is right"));
    let [first, second] = homings;
    second.stop();
    let homings = [first, start(plain(other, own))];
    wait_until("a ring", || homings.iter().all(whole));
    for homing in &homings {
        homing.wait_said("its certificate is right");
    }
    is_one(&homings, "ann");
    for homing in homings {
        homing.stop();
    }
}

#[test]
fn an_expired_certificate_is_refused_until_it_is_renewed() {
    let authority = Authority::new();
    let [own, other] = [at(24, 1), at(24, 2)];
    let ca = authority.pem();
    let old = authority.give_with(own, expired);
    let mut homings = [
        start(site(own, &[other], &old, &ca)),
        start(site(other, &[own], &authority.give(other), &ca)),
    ];
    homings[0].wait_log("cert.pem: it has expired");
    homings[0].wait_log("it refuses our certificate: ");
    homings[1].wait_log(&format!(
        "director {own}: its certificate is refused: it has expired"
    ));
    for homing in &homings {
        wait_until("each is alone", || ring_line(homing).contains("alone=true"));
    }
    write(&homings[0].site.path(""), &authority.give(own), &ca);
    reload(&homings[0], "reload: done");
    wait_until("a ring", || homings.iter().all(whole));
    is_one(&homings, "ann");
    for homing in homings {
        homing.stop();
    }
}

#[test]
fn check_looks_into_the_files() {
    let authority = Authority::new();
    let own = at(25, 1);
    let check = |given: &(String, String)| {
        let site = site(own, &[at(25, 2)], given, &authority.pem());
        site.write();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_homing"));
        command.arg("check").arg("--config").arg(site.config());
        let result = run(command, &site.path(""));
        (site, result)
    };
    let (_, good) = check(&authority.give(own));
    assert_eq!(good.0, 0, "{good:?}");
    let (_, old) = check(&authority.give_with(own, expired));
    assert!(
        old.0 == 0 && old.1.contains("warning: ") && old.1.contains("it has expired"),
        "{old:?}"
    );
    let (cert, _) = authority.give(own);
    let (_, key) = authority.give(own);
    let (site, (code, _, err)) = check(&(cert, key));
    let (start, _, said) = run(site.command(), &site.path(""));
    assert_eq!((code, start), (78, 78), "{err}{said}");
    assert!(!site.path("login-socket").exists());
    for text in [err, said] {
        let says = "key.pem: it is not the key of director_ring_tls_cert";
        assert!(text.contains(says), "{text}");
    }
}
