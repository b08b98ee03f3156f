//! Connections and users over the cores.

use std::sync::Barrier;

use loadgen::{StubAuth, StubConfig};

use crate::rig::peer::host;
use crate::rig::{EchoAuth, Homing, Peer, Site, many_descriptors};

fn start(cores: usize) -> Homing {
    Site::new().arg(&format!("--cores={cores}")).start()
}

fn per_core(homing: &Homing, cores: usize, name: &str) -> Vec<u64> {
    (0..cores)
        .map(|core| homing.count(&format!("core {core}:"), name))
        .collect()
}

fn spread_evenly(cores: usize) {
    many_descriptors();
    let homing = start(cores);
    let _auth = EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let mut open: Vec<Peer> = (0..240).map(|_| Peer::login(&homing.login())).collect();
    homing.wait_connections(241);
    let even = |homing: &Homing| {
        let counts = per_core(homing, cores, "connections");
        let share = counts.iter().sum::<u64>() / cores as u64;
        let slack = share / 8 + 3;
        let good = counts.iter().all(|count| count.abs_diff(share) <= slack);
        assert!(good, "{counts:?}");
    };
    even(&homing);
    // Half leave and as many come: still even, or soon again.
    open.drain(..120);
    homing.wait_connections(121);
    open.extend((0..240).map(|_| Peer::login(&homing.login())));
    homing.wait_connections(361);
    even(&homing);
    for (id, peer) in (1..).zip(&mut open) {
        assert!(host(&peer.ask(id, "user=ann|proxy")).is_some());
    }
    homing.wait_total("lookups", 360);
    let lookups = per_core(&homing, cores, "lookups");
    assert_eq!(lookups.iter().sum::<u64>(), 360);
    assert!(lookups.iter().all(|&count| count > 0), "{lookups:?}");
    homing.stop();
}

#[test]
fn long_lived_connections_are_spread_over_two_cores() {
    spread_evenly(2);
}

#[test]
fn long_lived_connections_are_spread_over_more_cores_than_cpus() {
    spread_evenly(4);
}

#[test]
fn short_lived_connections_under_load_are_spread() {
    let homing = start(2);
    let config = StubConfig {
        login: Some(homing.site.path("auth-login")),
        ..StubConfig::default()
    };
    let _auth = StubAuth::spawn(&config).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..250 {
                    let mut peer = Peer::login(&homing.login());
                    peer.send("AUTH\t1\tPLAIN\tservice=imap\tresp=AGFubgB4\n");
                    assert!(host(&peer.line()).is_some());
                }
            });
        }
    });
    homing.wait_total("lookups", 2000);
    let lookups = per_core(&homing, 2, "lookups");
    assert_eq!(lookups.iter().sum::<u64>(), 2000, "{lookups:?}");
    assert!(lookups.iter().all(|&count| count > 100), "{lookups:?}");
    homing.stop();
}

/// New users, each asked for from all connections at the same time.
fn race(cores: usize) {
    const CLIENTS: usize = 8;
    const ROUNDS: u32 = 300;
    let homing = start(cores);
    let _auth = EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let peers: Vec<Peer> = (0..CLIENTS).map(|_| Peer::login(&homing.login())).collect();
    let barrier = Barrier::new(CLIENTS);
    let barrier = &barrier;
    let answers: Vec<Vec<String>> = std::thread::scope(|scope| {
        let ask = |mut peer: Peer| {
            let ask_all = move || {
                let ask_one = |round: u32| {
                    barrier.wait();
                    let reply = peer.ask(1, &format!("user=new{round}|proxy"));
                    host(&reply).expect("a backend").to_owned()
                };
                (0..ROUNDS).map(ask_one).collect()
            };
            scope.spawn(ask_all)
        };
        let threads: Vec<_> = peers.into_iter().map(ask).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    for other in &answers[1..] {
        assert_eq!(other, &answers[0]);
    }
    assert_eq!(homing.users(), u64::from(ROUNDS));
    let lookups = per_core(&homing, cores, "lookups");
    assert!(lookups.iter().all(|&count| count > 0), "{lookups:?}");
    homing.stop();
}

#[test]
fn a_new_user_asked_for_on_two_cores_at_once_has_one_place() {
    race(2);
}

#[test]
fn a_new_user_asked_for_on_four_cores_at_once_has_one_place() {
    race(4);
}
