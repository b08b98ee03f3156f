//! `client_limit`, descriptors, `user_table_limit`, `new_user_rate`.

use std::time::Duration;

use nix::sys::resource::Resource;

use crate::rig::peer::{HELLO, host};
use crate::rig::{EchoAuth, Peer, Site, many_descriptors, wait_until};

#[test]
fn beyond_client_limit_new_clients_wait_until_others_leave() {
    // The FIFO is one of them.
    let homing = Site::new()
        .set("client_limit", "21")
        .arg("--cores=2")
        .start();
    let _auth = EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let first: Vec<Peer> = (0..20).map(|_| Peer::login(&homing.login())).collect();
    let mut waiting: Vec<Peer> = (0..10)
        .map(|_| {
            let mut peer = Peer::connect(&homing.login());
            peer.send(HELLO);
            peer
        })
        .collect();
    waiting[0].expect_silence(Duration::from_millis(300));
    homing.wait_connections(21);
    homing.wait_said("client_limit reached; new connections wait in the backlog");
    drop(first);
    for (id, peer) in (1..).zip(&mut waiting) {
        peer.until("DONE");
        assert!(host(&peer.ask(id, "user=ann|proxy")).is_some());
    }
    drop(waiting);
    homing.wait_connections(1);
    homing.stop();
}

#[test]
fn connections_leave_nothing_behind() {
    let homing = Site::new().arg("--cores=2").start();
    let _auth = EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let _userdb = EchoAuth::spawn(&homing.site.path("auth-userdb"), true);
    let cycle = |round: u32| {
        let mut login = Peer::login(&homing.login());
        if round.is_multiple_of(3) {
            assert!(host(&login.ask(1, "user=ann|proxy")).is_some());
        } else {
            login.request(1, "user=ann|proxy");
        }
        if round.is_multiple_of(4) {
            Peer::connect(&homing.site.path("userdb-socket")).send("PASS\t1\tann\n");
            Peer::connect(&homing.site.path("authreply-socket")).send("half");
            Peer::connect(&homing.site.path("notify-socket")).send("ann\nhalf");
            drop(Peer::connect(&homing.login()));
        }
    };
    (0..500).for_each(cycle);
    homing.wait_connections(1);
    let (descriptors, memory) = (homing.descriptors(), homing.memory());
    (0..3000).for_each(cycle);
    homing.wait_connections(1);
    // Closing may take a moment longer than what is counted.
    wait_until("no more descriptors than before", || {
        homing.descriptors() <= descriptors
    });
    assert!(
        homing.memory() < memory + 4096,
        "{memory} {}",
        homing.memory()
    );
    homing.stop();
}

/// Sets the soft limit of descriptors of a running process.
fn limit_descriptors(pid: u32, soft: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let pid = pid.cast_signed();
    // SAFETY: both pointers are to a valid rlimit, or null.
    let done = unsafe {
        libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit);
        limit.rlim_cur = soft;
        libc::prlimit(
            pid,
            libc::RLIMIT_NOFILE,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn without_descriptors_clients_wait_and_no_cpu_is_burnt() {
    many_descriptors();
    let homing = Site::new().arg("--cores=1").start();
    let _auth = EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let mut before = Peer::login(&homing.login());
    limit_descriptors(homing.pid(), 3);
    let mut waiting = Peer::connect(&homing.login());
    waiting.send(HELLO);
    wait_until("the refusal is logged", || {
        homing.log().contains("cannot accept a connection")
    });
    let ticks = homing.cpu_ticks();
    waiting.expect_silence(Duration::from_secs(1));
    // A hundred ticks are a second of CPU time.
    assert!(homing.cpu_ticks() - ticks < 50);
    assert!(host(&before.ask(1, "user=ann|proxy")).is_some());
    let (soft, _) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    limit_descriptors(homing.pid(), soft);
    waiting.until("DONE");
    assert!(host(&waiting.ask(1, "user=ann|proxy")).is_some());
    homing.stop();
}

#[test]
fn a_full_user_table_refuses_new_users_only() {
    let homing = Site::new().set("user_table_limit", "5").start();
    let _auth = EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let mut client = Peer::login(&homing.login());
    let known: Vec<String> = (1..=5)
        .map(|id| client.ask(id, &format!("user=known{id}|proxy")))
        .collect();
    assert!(known.iter().all(|reply| host(reply).is_some()));
    for id in 6..=40 {
        let reply = client.ask(id, &format!("user=flood{id}|proxy"));
        assert_eq!(reply, format!("FAIL\t{id}\tcode=temp_fail"));
    }
    for (id, before) in (1..=5).zip(&known) {
        assert_eq!(&client.ask(id, &format!("user=known{id}|proxy")), before);
    }
    assert_eq!(homing.users(), 5);
    homing.wait_total("refused", 35);
    let log = homing.stop();
    assert!(log.contains("User flood6 host lookup failed: "), "{log}");
    assert!(log.contains("user_table_limit"), "{log}");
    let lines = log.matches("host lookup failed").count();
    assert!(lines < 35, "a flood does not fill the log: {lines}");
}

#[test]
fn new_users_come_no_faster_than_allowed() {
    let homing = Site::new()
        .set("new_user_rate", "5")
        .arg("--cores=2")
        .start();
    let _auth = EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let mut clients: Vec<Peer> = (0..4).map(|_| Peer::login(&homing.login())).collect();
    let start = crate::rig::clock::now();
    let mut let_in = 0;
    for id in 1..=200 {
        let client = &mut clients[id as usize % 4];
        let reply = client.ask(id, &format!("user=flood{id}|proxy"));
        let_in += u64::from(host(&reply).is_some());
        assert!(host(&reply).is_some() || reply == format!("FAIL\t{id}\tcode=temp_fail"));
    }
    // A second's worth at once, and what has become due since.
    let most = 5 + 5 * (start.elapsed().as_secs() + 1);
    assert!((5..=most).contains(&let_in), "{let_in} of {most}");
    assert!(
        host(&clients[0].ask(999, "user=flood1|proxy")).is_some(),
        "known"
    );
    assert_eq!(homing.users(), let_in);
    homing.wait_total("refused", 200 - let_in);
    std::thread::sleep(Duration::from_millis(1100));
    assert!(host(&clients[0].ask(999, "user=later|proxy")).is_some());
    let log = homing.stop();
    assert!(log.contains("new_user_rate"), "{log}");
}
