//! Auth, or a client, that does not read, does not answer, is not there, or ends.

use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::rig::peer::{HELLO, host};
use crate::rig::{EchoAuth, Heartbeat, Homing, Peer, Site, clock, listen, wait_until};

/// No flood may make the process grow by more than this, in KiB. The limits allow some hundred for
/// each connection.
const GROWTH: u64 = 16 * 1024;
const FLOOD: usize = 64 << 20;

/// One connection that a test plays auth for by hand, among others that are served.
struct Pair {
    client: Peer,
    auth: Peer,
}

fn pair(homing: &Homing) -> Pair {
    let path = homing.site.path("auth-login");
    let auth = listen(&path);
    let mut client = Peer::connect(&homing.login());
    client.send(HELLO);
    let auth = auth.accept();
    EchoAuth::spawn(&path, false);
    Pair { client, auth }
}

fn others_are_served(homing: &Homing) {
    let mut other = Peer::login(&homing.login());
    for id in 1..50 {
        let reply = other.ask(id, &format!("user=other{id}|proxy"));
        assert!(host(&reply).is_some(), "{reply}");
    }
}

#[test]
fn a_client_that_never_reads_costs_bounded_memory() {
    let homing = Site::new().arg("--cores=1").start();
    let mut pair = pair(&homing);
    others_are_served(&homing);
    let before = homing.memory();
    let line = format!("OK\t1\tuser=ann\tproxy\tpad={}\n", "x".repeat(500));
    let sent = pair.auth.flood(line.as_bytes(), FLOOD);
    assert!(sent < FLOOD, "auth is held back");
    others_are_served(&homing);
    assert!(
        homing.memory() < before + GROWTH,
        "{before} {}",
        homing.memory()
    );
    // When it reads at last, nothing is missing.
    let whole = sent / line.len();
    let writer = std::thread::spawn(move || {
        for _ in 0..whole {
            let line = pair.client.line();
            assert!(host(&line).is_some(), "{line}");
        }
        pair.client
    });
    writer.join().unwrap();
    homing.wait_connections(1);
    homing.stop();
}

#[test]
fn a_client_that_reads_slowly_costs_bounded_memory() {
    let homing = Site::new().arg("--cores=1").start();
    let mut pair = pair(&homing);
    others_are_served(&homing);
    let before = homing.memory();
    let mut auth = pair.auth;
    let flood = std::thread::spawn(move || auth.flood(b"OK\t1\tuser=ann\tproxy\n", FLOOD));
    let mut read = 0;
    while read < 40 << 20 {
        read += pair.client.take(8192).len();
    }
    assert!(
        homing.memory() < before + GROWTH,
        "{before} {}",
        homing.memory()
    );
    drop(pair.client);
    let _ = flood.join();
    homing.wait_connections(1);
    homing.stop();
}

#[test]
fn an_auth_that_never_reads_costs_bounded_memory_and_no_connection() {
    let homing = Site::new().arg("--cores=1").start();
    let mut pair = pair(&homing);
    others_are_served(&homing);
    let before = homing.memory();
    let line = format!("AUTH\t1\tPLAIN\tresp={}\n", "x".repeat(800));
    let sent = pair.client.flood(line.as_bytes(), FLOOD);
    assert!(sent < FLOOD, "the client is held back");
    others_are_served(&homing);
    assert!(
        homing.memory() < before + GROWTH,
        "{before} {}",
        homing.memory()
    );
    // The client leaves; auth still does not read.
    drop(pair.client);
    homing.wait_connections(1);
    homing.stop();
}

#[test]
fn what_auth_said_last_is_passed_on() {
    let homing = Site::new().start();
    let mut pair = pair(&homing);
    pair.client.flood(b"AUTH\t1\tPLAIN\tresp=QUFB\n", FLOOD);
    pair.auth.send("FAIL\t1\tuser=ann\n");
    drop(pair.auth);
    assert_eq!(pair.client.rest(), b"FAIL\t1\tuser=ann\n");
    homing.stop();
}

#[test]
fn an_auth_that_ends_ends_its_connection_only() {
    let homing = Site::new().start();
    let mut pair = pair(&homing);
    let mut other = Peer::login(&homing.login());
    pair.auth
        .send("OK\t1\tuser=ann\tproxy\nOK\t2\tuser=half a li");
    assert!(host(&pair.client.line()).is_some());
    drop(pair.auth);
    pair.client.expect_end();
    assert!(host(&other.ask(1, "user=ann|proxy")).is_some());
    homing.wait_total("auth_lost", 1);
    let log = homing.stop();
    assert!(log.contains("Auth server disconnected unexpectedly (login socket)"));
}

#[test]
fn an_auth_that_never_answers_holds_nobody_else() {
    let homing = Site::new().start();
    let mut pair = pair(&homing);
    pair.client.send("AUTH\t1\tPLAIN\tresp=QUFB\n");
    pair.client.expect_silence(Duration::from_millis(300));
    others_are_served(&homing);
    drop(pair.client);
    assert!(pair.auth.rest().ends_with(b"resp=QUFB\n"), "closed to auth");
    homing.stop();
}

#[test]
fn a_client_that_says_it_has_finished_is_closed_on_both_sides() {
    let homing = Site::new().start();
    let mut pair = pair(&homing);
    pair.client.send("AUTH\t1\tPLAIN\tresp=QUFB\n");
    pair.client.stream.shutdown(Shutdown::Write).unwrap();
    let heard = pair.auth.rest();
    assert!(heard.ends_with(b"resp=QUFB\n"), "{heard:?}");
    pair.client.rest();
    homing.wait_connections(1);
    homing.stop();
}

#[test]
fn a_missing_auth_is_named_and_used_once_it_is_there() {
    let homing = Site::new().start();
    let mut client = Peer::connect(&homing.login());
    client.send(HELLO);
    client.expect_end();
    homing.wait_total("dial_failures", 1);
    homing.wait_said("is auth_login_path right?");
    // Left behind by an auth that is gone: refused, tried again for a second.
    let path = homing.site.path("auth-login");
    drop(UnixListener::bind(&path).unwrap());
    let start = clock::now();
    let mut client = Peer::connect(&homing.login());
    client.send(HELLO);
    client.expect_end();
    assert!(start.elapsed() > Duration::from_millis(900));
    homing.wait_total("dial_failures", 2);
    // It comes back within that second, unless the machine stands still.
    let mut client = None;
    for _ in 0..10 {
        let _ = std::fs::remove_file(&path);
        drop(UnixListener::bind(&path).unwrap());
        let failures = homing.total("dial_failures");
        let start = clock::now();
        let mut waiting = Peer::connect(&homing.login());
        for byte in HELLO.bytes() {
            waiting.send([byte]);
        }
        std::thread::sleep(Duration::from_millis(200));
        EchoAuth::spawn(&path, false);
        if start.elapsed() < Duration::from_millis(600) {
            client = Some((waiting, failures));
            break;
        }
    }
    let (mut client, failures) = client.expect("a machine that does not always stand still");
    client.until("DONE");
    assert!(host(&client.ask(1, "user=ann|proxy")).is_some());
    assert_eq!(homing.total("dial_failures"), failures);
    homing.stop();
}

#[test]
fn a_full_backlog_of_auth_is_waited_for() {
    let homing = Site::new().start();
    let path = homing.site.path("auth-login");
    let auth = listen(&path);
    // SAFETY: listen takes two integers; this shortens the backlog.
    unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&auth.0), 0) };
    let fillers: Vec<Peer> = (0..8)
        .map_while(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let address = socket2::SockAddr::unix(&path).unwrap();
            socket.connect(&address).ok()?;
            Some(Peer::new(std::os::fd::OwnedFd::from(socket).into()))
        })
        .collect();
    assert!(fillers.len() < 8, "the backlog is full");
    let mut client = Peer::connect(&homing.login());
    client.send(HELLO);
    std::thread::sleep(Duration::from_millis(200));
    for _ in &fillers {
        auth.accept();
    }
    let mut upstream = auth.accept();
    assert_eq!(upstream.take(HELLO.len()), HELLO.as_bytes());
    homing.stop();
}

#[test]
fn who_says_nothing_costs_auth_nothing() {
    let homing = Site::new().start();
    let auth = listen(&homing.site.path("auth-login"));
    for _ in 0..50 {
        drop(Peer::connect(&homing.login()));
    }
    let silent: Vec<Peer> = (0..50).map(|_| Peer::connect(&homing.login())).collect();
    wait_until("all are accepted", || homing.total("accepted") >= 100);
    drop(silent);
    homing.wait_connections(1);
    assert!(auth.poll().is_none(), "auth was dialled for nobody");
    homing.stop();
}

#[test]
fn floods_that_are_read_hold_nobody() {
    let homing = Site::new().arg("--cores=1").start();
    let floods: Vec<Pair> = (0..4).map(|_| pair(&homing)).collect();
    let threads: Vec<_> = floods
        .into_iter()
        .flat_map(
            |Pair {
                 mut client,
                 mut auth,
             }| {
                let mut reader = Peer::new(client.stream.try_clone().unwrap());
                let mut at_auth = Peer::new(auth.stream.try_clone().unwrap());
                [
                    std::thread::spawn(move || {
                        auth.flood(b"OK\t1\tuser=ann\tproxy\n", 2 << 20);
                        // Both sides are closed when the first of them has nothing more to say.
                        std::thread::sleep(Duration::from_millis(200));
                        drop(auth);
                    }),
                    std::thread::spawn(move || {
                        client.flood(b"AUTH\t1\tPLAIN\tresp=QUFB\n", 2 << 20);
                        std::thread::sleep(Duration::from_millis(200));
                        drop(client);
                    }),
                    std::thread::spawn(move || drop(reader.rest())),
                    std::thread::spawn(move || drop(at_auth.rest())),
                ]
            },
        )
        .collect();
    let mut other = Peer::login(&homing.login());
    let heartbeat = Heartbeat::start();
    let mut served = 0;
    while !threads.iter().all(std::thread::JoinHandle::is_finished) {
        let asked = clock::now();
        assert!(host(&other.ask(1, "user=bob|proxy")).is_some());
        heartbeat.in_time("an answer", asked.elapsed(), Duration::from_secs(5));
        served += 1;
        if served > 200_000 {
            break;
        }
    }
    assert!(served > 10, "{served}");
    homing.stop();
}

#[test]
fn a_user_who_lives_elsewhere_is_taken_from_auth_between_two_lines() {
    let homing = Site::new().start();
    let mut pair = pair(&homing);
    pair.auth.take(HELLO.len());
    // Only auth of 1.4 and later confirms a CANCEL.
    pair.auth.send("VERSION\t1\t4\n");
    assert_eq!(pair.client.line(), "VERSION\t1\t4");
    let reply = "OK\t3\tuser=ann\tdirector_proxy_maybe\tpass=x\tlip=10.9.9.9\n";
    pair.client.send("AUTH\t3\tPLAIN\tresp=QUFB\nAUTH\t4\tPL");
    pair.auth
        .take("AUTH\t3\tPLAIN\tresp=QUFB\nAUTH\t4\tPL".len());
    pair.auth.send(reply);
    assert!(
        pair.client
            .line()
            .contains("\tproxy\tproxy_refresh=450\thost=")
    );
    pair.auth.expect_silence(Duration::from_millis(200));
    pair.client.send("AIN\tresp=QUFB\n");
    assert_eq!(pair.auth.line(), "AIN\tresp=QUFB");
    assert_eq!(pair.auth.line(), "CANCEL\t3");
    // The confirmation is not for the client, one that it asked for is.
    pair.client.send("CANCEL\t4\n");
    pair.auth.send("CANCELLED\t3\nCANCELLED\t4\nCANCELLED\t3\n");
    assert_eq!(pair.client.line(), "CANCELLED\t4");
    assert_eq!(pair.client.line(), "CANCELLED\t3");
    // An auth that never confirms, on a connection that lives long.
    let rounds = 20_000;
    let before = homing.memory();
    for _ in 0..rounds / 100 {
        pair.auth.send(reply.repeat(100));
        for _ in 0..100 {
            assert!(host(&pair.client.line()).is_some());
        }
    }
    assert_eq!(pair.auth.line(), "CANCEL\t4");
    for _ in 0..rounds {
        assert_eq!(pair.auth.line(), "CANCEL\t3");
    }
    assert!(homing.memory() < before + GROWTH);
    homing.stop();
}
