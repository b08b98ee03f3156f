//! A director that floods, garbles, does not read or does not answer is cut off with the reason in the log, and
//! the two Homings beside it go on as a ring of their own.

use std::io::Write;
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::neighbour::{Neighbour, PORT, Ring};
use super::rig::peer::host;
use super::rig::{EchoAuth, Homing, Peer, Site, clock, wait_until};
use super::ring_line;

/// Three times as many as a director may say at once.
const ORDERS: u32 = 300_000;
/// That they may take at least: ten thousand a second may go on, and some are in the kernel's buffers.
const ALLOWED: Duration = Duration::from_secs(8);

/// Two Homings with the bad one between them: the first dials it, and it dials the second.
struct Trio {
    ring: Ring,
    homings: [Homing; 2],
    bad: Neighbour,
}

impl Trio {
    fn start(net: u8, more: &[(&str, &str)]) -> Trio {
        let ring = Ring::new(net);
        let ips = [ring.homing, ring.other, ring.third];
        let all: Vec<String> = ips.iter().map(|ip| format!("{ip}:{PORT}")).collect();
        let start = |own: IpAddr| {
            let site = Site::new()
                .set("director_servers", &format!("{:?}", all.join(" ")))
                .append(&format!(
                    "[[listener]]\ntype = \"ring\"\naddress = \"{own}:{PORT}\"\n"
                ));
            let site = more
                .iter()
                .fold(site, |site, (key, value)| site.set(key, value));
            let homing = site.start();
            EchoAuth::spawn(&homing.site.path("auth-login"), false);
            homing
        };
        let homings = [start(ips[0]), start(ips[2])];
        let mut bad = Neighbour::between(&ring, ring.third);
        let other = format!("{}:{PORT}", ring.other);
        let is_whole = |homing: &Homing| {
            let line = ring_line(homing);
            line.contains("synced=true") && line.contains(&other) && !line.contains("none")
        };
        wait_until("a ring of three", || {
            bad.stay(Duration::from_millis(20));
            homings.iter().all(is_whole)
        });
        Trio { ring, homings, bad }
    }

    /// It is cut off at both sides, for this reason; whoever asks the two that are left is answered, and they
    /// agree.
    fn must_be_cut_off(self, why: &str) {
        let text = format!("director {}:{PORT}: closed: {why}", self.ring.other);
        for homing in &self.homings {
            homing.wait_said(&text);
        }
        self.lives_on();
    }

    /// It is gone at both sides.
    fn lives_on(self) {
        let [one, two] = &self.homings;
        let pair = |own: &Homing, other: IpAddr| {
            let line = ring_line(own);
            line.contains("synced=true")
                && line.contains(&format!("left={other}:{PORT} right={other}:"))
        };
        wait_until("a ring of two", || {
            pair(one, self.ring.third) && pair(two, self.ring.homing)
        });
        let before = two.users();
        let mut client = Peer::login(&one.login());
        let home = client.ask(1, "user=late|proxy");
        wait_until("the other one hears of it", || two.users() > before);
        let again = Peer::login(&two.login()).ask(1, "user=late|proxy");
        assert!(host(&home).is_some(), "{home}");
        assert_eq!(host(&home), host(&again));
        for homing in self.homings {
            homing.stop();
        }
    }
}

#[test]
fn one_that_floods() {
    let trio = Trio::start(30, &[]);
    let mut clients: Vec<Peer> = trio
        .homings
        .iter()
        .map(|it| Peer::login(&it.login()))
        .collect();
    for client in &mut clients {
        assert!(host(&client.ask(1, "user=ann|proxy")).is_some());
    }
    // Made before, or making them would take longer than following them.
    let line = |n| format!("HOST-FLUSH\t{}\t{PORT}\t{n}\t10.9.9.9\n", trio.ring.other);
    let lines: Arc<String> = Arc::new((1..=ORDERS).map(line).collect());
    let floods = trio.bad.streams().map(|mut stream| {
        let lines = Arc::clone(&lines);
        stream.set_nonblocking(false).unwrap();
        thread::spawn(move || {
            let began = clock::now();
            let told = stream.write_all(lines.as_bytes());
            // Reset or not: it is gone.
            let _ = stream.shutdown(Shutdown::Both);
            told.map(|()| began.elapsed())
        })
    });
    // Who is known is answered meanwhile.
    for n in 2..20 {
        for client in &mut clients {
            assert!(host(&client.ask(n, "user=ann|proxy")).is_some());
        }
    }
    let floods = floods.map(|flood| flood.join().unwrap());
    if floods.iter().all(Result::is_err) {
        return trio.must_be_cut_off("Flood: no director has so much to say");
    }
    // A machine so busy that they are followed no faster than they may be.
    for took in floods.into_iter().flatten() {
        assert!(took > ALLOWED, "it was not cut off");
    }
    trio.lives_on();
}

#[test]
fn one_that_garbles() {
    let trio = Trio::start(31, &[]);
    for mut stream in trio.bad.streams() {
        stream.write_all(b"\x16\x03\x01 not a line\n").unwrap();
    }
    trio.must_be_cut_off("Invalid input: unknown command");
}

#[test]
fn one_that_does_not_read() {
    let trio = Trio::start(32, &[("director_output_buffer_size", "\"64 k\"")]);
    // Each PING is answered with a longer line.
    for mut stream in trio.bad.streams() {
        stream.set_nonblocking(false).unwrap();
        thread::spawn(move || while stream.write_all("PING\n".repeat(1000).as_bytes()).is_ok() {});
    }
    trio.must_be_cut_off("Output buffer is full");
}

#[test]
fn one_that_does_not_answer() {
    let trio = Trio::start(33, &[("director_ping_idle_timeout", "\"2 s\"")]);
    // It is asked after 15 s of silence, and reads nothing any more.
    trio.must_be_cut_off("Ping timeout");
}
