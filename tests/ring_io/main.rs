//! A running Homing in a ring of two, whose other director is played by the test.

mod asking;
mod authority;
mod bad;
mod handed;
mod neighbour;
#[path = "../networks/mod.rs"]
mod networks;
#[allow(
    dead_code,
    unused_imports,
    reason = "these tests need only a part of it"
)]
#[path = "../abuse/rig/mod.rs"]
mod rig;
mod tls;

use std::time::{Duration, SystemTime};

use homing::core::user_hash::Template;
use neighbour::{Neighbour, PORT, Ring, connect_from};
use nix::sys::signal::Signal;
use rig::peer::host;
use rig::{EchoAuth, Heartbeat, Homing, Peer, Site, clock};

/// Homing in a ring of two; its neighbour is not there yet. `net`: tests run side by side, each on
/// addresses of its own.
fn start(net: u8) -> (Homing, Ring) {
    start_with(net, "10 M")
}

fn start_with(net: u8, output_buffer: &str) -> (Homing, Ring) {
    let ring = Ring::new(net);
    let (own, other) = (ring.homing, ring.other);
    let homing = Site::new()
        .set(
            "director_servers",
            &format!("\"{own}:{PORT} {other}:{PORT}\""),
        )
        .set(
            "director_output_buffer_size",
            &format!("\"{output_buffer}\""),
        )
        .append(&format!(
            "[[listener]]\ntype = \"ring\"\naddress = \"{own}:{PORT}\"\n"
        ))
        .start();
    EchoAuth::spawn(&homing.site.path("auth-login"), false);
    (homing, ring)
}

fn hash(name: &str) -> u32 {
    let template = Template::parse("%Lu", &|_| None).unwrap();
    template.hash(name.as_bytes(), &mut Vec::new()).0
}

#[expect(
    clippy::disallowed_methods,
    reason = "the neighbour's clock is that of the machine"
)]
fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn ring_line(homing: &Homing) -> String {
    let state = homing.state();
    let line = state.iter().find(|line| line.contains("ring: "));
    line.unwrap_or_else(|| panic!("{state:#?}")).clone()
}

#[test]
fn it_joins_tells_and_is_told() {
    let (homing, ring) = start(1);
    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_synced(&homing);
    let ends = format!("left={0}:{PORT} right={0}:{PORT}", ring.other);
    let wanted = [&*ends, "members=2", "synced=true"];
    rig::wait_until("a ring of two", || {
        let line = ring_line(&homing);
        wanted.iter().all(|text| line.contains(text))
    });

    let mut client = Peer::login(&homing.login());
    let reply = client.ask(1, "user=ann|proxy");
    let home = host(&reply).expect("a backend").to_owned();
    let told = format!("USER\t{}\t{home}\t", hash("ann"));
    neighbour.until("ann's place", |line| line.starts_with(&told));

    // What the neighbour says of a user counts, whatever the hash ring would say.
    for (n, name) in ["bob", "cid", "dan"].into_iter().enumerate() {
        let home = format!("10.2.0.{}", n + 1);
        neighbour.say(&format!("USER\t{}\t{home}\t{}", hash(name), seconds()));
    }
    rig::wait_until("the users that it was told of", || homing.users() == 4);
    for (n, name) in ["bob", "cid", "dan"].into_iter().enumerate() {
        let reply = client.ask(2, &format!("user={name}|proxy"));
        assert_eq!(host(&reply), Some(&*format!("10.2.0.{}", n + 1)));
    }
    homing.stop();
}

#[test]
fn lookups_wait_for_the_ring_and_no_longer() {
    let (homing, ring) = start(2);
    let mut client = Peer::login(&homing.login());
    client.request(1, "user=ann|proxy");
    client.expect_silence(Duration::from_millis(200));
    let mut neighbour = Neighbour::join(&ring);
    let heartbeat = Heartbeat::start();
    neighbour.until_synced(&homing);
    let synced = clock::now();
    let reply = client.line();
    assert!(host(&reply).is_some(), "{reply}");
    // An idle core looks by itself a second after the request; nobody should have to wait for that.
    heartbeat.in_time("a lookup", synced.elapsed(), Duration::from_millis(300));
    homing.stop();
}

#[test]
fn lookups_of_a_weak_user_are_woken_by_its_confirmation() {
    let (homing, ring) = start(3);
    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_synced(&homing);
    let mut client = Peer::login(&homing.login());
    let (weak, other) = (hash("weak"), hash("other"));
    for (seq, user) in [(1, weak), (2, other)] {
        let origin = format!("{}\t{PORT}\t{seq}", ring.other);
        neighbour.say(&format!("USER-WEAK\t{origin}\t{user}\t10.2.0.3"));
    }
    rig::wait_until("the weak users", || homing.users() == 2);
    for round in 0..3 {
        client.request(10 + round, "user=weak|proxy");
    }
    client.request(20, "user=other|proxy");
    client.expect_silence(Duration::from_millis(1500));
    let heartbeat = Heartbeat::start();
    neighbour.say(&format!("USER\t{weak}\t10.2.0.4\t{}", seconds()));
    let said = clock::now();
    for round in 0..3 {
        let reply = client.line();
        assert!(
            reply.starts_with(&format!("OK\t{}\t", 10 + round)),
            "{reply}"
        );
        assert_eq!(host(&reply), Some("10.2.0.4"));
    }
    let limit = Duration::from_millis(500);
    heartbeat.in_time("the lookups", said.elapsed(), limit);
    client.expect_silence(Duration::from_millis(300));
    homing.wait_total("parked", 1);
    homing.stop();
}

#[test]
fn it_says_goodbye_and_tells_of_the_last_users_before() {
    let (homing, ring) = start(4);
    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_synced(&homing);
    let mut client = Peer::login(&homing.login());
    for n in 0..200 {
        client.request(n, &format!("user=u{n}|proxy"));
    }
    for _ in 0..200 {
        client.line();
    }
    homing.signal(Signal::SIGTERM);
    let lines = neighbour.until_the_end();
    for n in 0..200 {
        let told = format!("USER\t{}\t", hash(&format!("u{n}")));
        assert!(
            lines.iter().any(|line| line.starts_with(&told)),
            "u{n} was not told of"
        );
    }
    let quits = lines.iter().filter(|line| line.starts_with("QUIT\t"));
    assert_eq!(quits.count(), 2, "one on each connection");
    let log = homing.stop();
    assert!(log.contains("stopped"), "{log}");
    assert!(connect_from(ring.other, ring.homing).is_err());
}

#[test]
fn an_idle_ring_costs_nothing_and_a_reload_changes_its_limits() {
    let (mut homing, ring) = start(7);
    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_synced(&homing);
    let before = homing.cpu_ticks();
    neighbour.stay(Duration::from_secs(3));
    let ticks = homing.cpu_ticks() - before;
    assert!(ticks < 15, "{ticks} ticks of 10 ms in three seconds");
    homing.site.change("director_output_buffer_size", "\"1 M\"");
    homing.site.write();
    homing.signal(Signal::SIGHUP);
    let said = homing.wait_log("reload: done");
    assert!(said.contains("1 differences"), "{said}");
    neighbour.stay(Duration::from_millis(200));
    assert!(ring_line(&homing).contains("synced=true"));
    homing.stop();
}

#[test]
fn a_burst_of_logins_fits_into_the_smallest_buffer_of_a_neighbour_that_reads() {
    const USERS: u32 = 20_000;
    let (homing, ring) = start_with(8, "64 k");
    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_synced(&homing);
    let mut client = Peer::login(&homing.login());
    for from in (0..USERS).step_by(2000) {
        for n in from..from + 2000 {
            client.request(n, &format!("user=b{n}|proxy"));
        }
        for _ in 0..2000 {
            client.line();
        }
        neighbour.stay(Duration::from_millis(1));
    }
    let last = format!("USER\t{}\t", hash(&format!("b{}", USERS - 1)));
    neighbour.until("the last user", |line| line.starts_with(&last));
    let is_user = |line: &str| line.starts_with("USER\t");
    rig::wait_until("the users on each connection", || {
        neighbour.stay(Duration::from_millis(1));
        neighbour.count(is_user) >= 2 * USERS as usize
    });
    neighbour.stay(Duration::from_millis(200));
    let told = neighbour.count(is_user);
    assert_eq!(told, 2 * USERS as usize, "on each connection once");
    assert!(ring_line(&homing).contains("synced=true"));
    homing.stop();
}

#[test]
fn strangers_hear_nothing_and_the_ring_goes_on() {
    let (homing, ring) = start(5);
    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_synced(&homing);
    for _ in 0..200 {
        let mut stranger = connect_from(ring.stranger, ring.homing).unwrap();
        let mut bytes = Vec::new();
        // Reset or closed.
        let _ = std::io::Read::read_to_end(&mut stranger, &mut bytes);
        assert!(bytes.is_empty());
    }
    // One that is in the list, and opens more than anybody needs.
    let many: Vec<_> = (0..200)
        .filter_map(|_| connect_from(ring.other, ring.homing).ok())
        .collect();
    let mut client = Peer::login(&homing.login());
    client.ask(1, "user=ann|proxy");
    let told = format!("USER\t{}\t", hash("ann"));
    neighbour.until("ann's place", |line| line.starts_with(&told));
    rig::wait_until("most of them are closed", || homing.descriptors() < 200);
    drop(many);
    assert!(ring_line(&homing).contains("synced=true"));
    homing.stop();
}

#[test]
fn a_lost_neighbour_is_dialled_again() {
    let (homing, ring) = start(6);
    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_synced(&homing);
    drop(neighbour);
    rig::wait_until("the loss", || ring_line(&homing).contains("left=none"));
    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_neighbour(|| ring_line(&homing));
    homing.stop();
}
