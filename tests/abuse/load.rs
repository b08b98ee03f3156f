//! Thousands who say nothing.

use std::time::Duration;

use crate::rig::peer::host;
use crate::rig::{EchoAuth, Heartbeat, Peer, Site, clock, listen, many_descriptors, wait_until};

#[test]
fn eight_thousand_silent_clients_hold_nobody() {
    const SILENT: usize = 8000;
    many_descriptors();
    let homing = Site::new().set("client_limit", "8192").start();
    let before = homing.memory();
    let auth = listen(&homing.site.path("auth-login"));
    let silent: Vec<Peer> = (0..SILENT)
        .map(|_| Peer::connect(&homing.login()))
        .collect();
    wait_until("all are accepted", || {
        homing.total("accepted") >= SILENT as u64
    });
    assert!(auth.poll().is_none(), "auth is dialled for who speaks");
    drop(auth);
    let _auth = EchoAuth::limited(&homing.site.path("auth-login"), false, 1000);
    let heartbeat = Heartbeat::start();
    let begin = clock::now();
    for id in 1..=100 {
        let mut peer = Peer::login(&homing.login());
        assert!(host(&peer.ask(id, "user=ann|proxy")).is_some());
    }
    heartbeat.in_time("a hundred logins", begin.elapsed(), Duration::from_secs(10));
    let grown = homing.memory() - before;
    assert!(grown < 64 * 1024, "{grown} KiB for silent clients");
    // One of them wakes up.
    let mut silent = silent;
    let mut last = silent.pop().unwrap();
    last.send(crate::rig::peer::HELLO);
    last.until("DONE");
    assert!(host(&last.ask(1, "user=ann|proxy")).is_some());
    drop((silent, last));
    homing.wait_connections(1);
    homing.stop();
}
