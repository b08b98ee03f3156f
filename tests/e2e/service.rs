//! Homing as a service of Dovecot's master: what that master does to it.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::Value;

use crate::cases::{ALL_23, ALL_24, PROXY_23, PROXY_24};
use crate::rig::DirectorPlacement::DovecotService;
use crate::rig::{
    Case, Client, DirectorKind, PATIENCE, Tier, TierSpec, User, status_field, wait_until,
};

const SERVICE_23: Case = ALL_23.homing(DovecotService);
const SERVICE_24: Case = ALL_24.homing(DovecotService);
const SHARED_23: Case = PROXY_23.homing(DovecotService);
const SHARED_24: Case = PROXY_24.homing(DovecotService);
const BUILT_IN_23: Case = ALL_23.built_in();
const BUILT_IN_SHARED_23: Case = PROXY_23.built_in();

/// "At once", on a busy machine.
const SOON: Duration = PATIENCE;

macro_rules! tests {
    ($($name:ident: $body:ident($case:ident);)*) => {
        $(#[test]
        fn $name() {
            $body($case);
        })*
    };
}

tests! {
    process_is_unprivileged_and_logs_23: process(SERVICE_23);
    process_is_unprivileged_and_logs_24: process(SERVICE_24);
    reload_under_load_dovecot23: reload_keeps_sessions(BUILT_IN_23);
    reload_under_load_shared_dovecot23: reload_keeps_sessions(BUILT_IN_SHARED_23);
    reload_under_load_23: reload_keeps_sessions(SERVICE_23);
    reload_under_load_24: reload_keeps_sessions(SERVICE_24);
    reload_under_load_shared_23: reload_keeps_sessions(SHARED_23);
    reload_under_load_shared_24: reload_keeps_sessions(SHARED_24);
    reload_that_ends_sessions_dovecot23: reload_ends_sessions(BUILT_IN_23);
    reload_that_ends_sessions_23: reload_ends_sessions(SERVICE_23);
    reload_that_ends_sessions_24: reload_ends_sessions(SERVICE_24);
    restart_under_load_23: restart_under_load(SERVICE_23);
    restart_under_load_24: restart_under_load(SERVICE_24);
    idle_user_after_reload_23: idle_after_reload(SERVICE_23);
    idle_user_after_reload_24: idle_after_reload(SERVICE_24);
    gone_with_the_master_23: gone_with_the_master(SERVICE_23);
    gone_with_the_master_24: gone_with_the_master(SERVICE_24);
}

fn start(case: Case, expire: u32, shutdown_clients: bool) -> Tier {
    Tier::start(&TierSpec {
        expire,
        shutdown_clients,
        ..TierSpec::new(case, ["early", "late"].map(User::proxied).to_vec())
    })
}

fn process(case: Case) {
    let tier = start(case, 900, true);
    let pid = tier.director.pid();
    // The master's listeners answer before Homing has started: it may still be root.
    wait_until("Homing becomes an unprivileged user", SOON, || {
        !status_field(pid, "Uid:").contains(&"0".to_owned())
    });
    assert_eq!(status_field(pid, "CapEff:"), ["0000000000000000"]);
    assert_eq!(status_field(pid, "CapPrm:"), ["0000000000000000"]);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let space = limits
        .lines()
        .find(|line| line.starts_with("Max address space"));
    let space: Vec<_> = space.expect("a limit").split_whitespace().collect();
    assert_eq!(space[3..5], ["unlimited"; 2], "{limits}");
    // SIGUSR1 makes it log; the line must come out in Dovecot's own log, in Dovecot's form.
    assert_eq!(tier.director.users().total, 0);
    tier.director.wait_log("director: Info: ready: ");
    tier.director.wait_log("director: Info: users: total=0 ");
    let log = tier.proxy.log_text();
    assert!(!log.contains("director: Error"), "{log}");
    assert!(!log.contains("director: Fatal"), "{log}");
}

/// What readers that log in again and again saw.
struct Load {
    logins: usize,
    failures: Vec<Value>,
}

/// Runs `act` while two mail readers log in and out again without a pause.
fn under_load(order: &Value, act: impl FnOnce()) -> Load {
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let readers = [0, 1].map(|_| {
            scope.spawn(|| {
                let mut client = Client::new();
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    answers.push(client.ask(order));
                    count.fetch_add(1, Ordering::Relaxed);
                }
                answers
            })
        });
        let wait_for_more = |more| {
            let seen = count.load(Ordering::Relaxed);
            wait_until("the readers go on", 2 * PATIENCE, || {
                count.load(Ordering::Relaxed) >= seen + more
            });
        };
        wait_for_more(10);
        act();
        sleep(Duration::from_secs(2));
        wait_for_more(20);
        stop.store(true, Ordering::Relaxed);
        let answers: Vec<_> = readers
            .into_iter()
            .flat_map(|reader| reader.join().expect("a reader"))
            .collect();
        let failures = answers.iter().filter(|answer| answer["ok"] != true);
        Load {
            logins: answers.len(),
            failures: failures.cloned().collect(),
        }
    })
}

fn works_at_once(tier: &Tier, client: &mut Client, home: &str) {
    let order = tier.order("imap.visit", "late");
    wait_until("logins work again", SOON, || {
        client.ask(&order)["ok"] == true
    });
    for protocol in ["imap", "pop3", "sieve", "submission"] {
        assert_eq!(tier.visit(client, protocol, "late"), home, "{protocol}");
    }
    wait_until("deliveries work again", SOON, || {
        tier.deliver(client, &["late"], "again")["codes"]["late"] == 250
    });
}

fn reload_keeps_sessions(case: Case) {
    reload_under_load(case, false);
}

fn reload_ends_sessions(case: Case) {
    reload_under_load(case, true);
}

/// A reload replaces the director and the login processes. Sessions go on if Dovecot is told not to
/// end them (`shutdown_clients`); logins under way may fail.
fn reload_under_load(case: Case, shutdown_clients: bool) {
    let mut tier = start(case, 900, shutdown_clients);
    let mut client = Client::new();
    tier.open(&mut client, "early");
    let home = tier.visit(&mut client, "imap", "late");
    let homing = case.director == DirectorKind::Homing;
    let old = homing.then(|| tier.director.pid());
    let load = under_load(&tier.order("imap.visit", "late"), || tier.proxy.reload());
    eprintln!(
        "{} logins, {} failed: {:?}",
        load.logins,
        load.failures.len(),
        load.failures
    );
    assert!(
        load.failures.len() <= load.logins / 4,
        "{:?}",
        load.failures
    );
    if let Some(old) = old {
        wait_until("the old process leaves", SOON, || {
            !fs::exists(format!("/proc/{old}")).expect("/proc")
        });
        assert_ne!(tier.director.pid(), old);
    }
    works_at_once(&tier, &mut client, &home);
    let alive = client.session("imap.noop", "early")["ok"] == true;
    assert_eq!(alive, !shutdown_clients, "a session from before");
    tier.proxy.stop();
}

/// A restart ends Dovecot's sessions. Logins work as soon as it is up.
fn restart_under_load(case: Case) {
    let mut tier = start(case, 900, true);
    let mut client = Client::new();
    let home = tier.visit(&mut client, "imap", "late");
    let order = tier.order("imap.visit", "late");
    for _ in 0..3 {
        let load = under_load(&order, || tier.proxy.restart());
        assert!(load.failures.len() < load.logins);
        works_at_once(&tier, &mut client, &home);
    }
    let log = tier.proxy.log_text();
    assert!(!log.contains("Address already in use"), "{log}");
}

/// The login process of a session from before the reload goes over to the new FIFO.
fn idle_after_reload(case: Case) {
    let tier = start(case, 10, false);
    let mut client = Client::new();
    tier.open(&mut client, "early");
    assert_eq!(client.session("imap.idle", "early")["ok"], true);
    let old = tier.director.pid();
    tier.proxy.reload();
    wait_until("the old director leaves", SOON, || {
        !fs::exists(format!("/proc/{old}")).expect("/proc")
    });
    // A login brings the user into the new director; only keep-alive lines can hold it there.
    tier.visit(&mut client, "imap", "early");
    let log = tier.proxy.log_text();
    let mut held = 0;
    for second in 0..25 {
        held = tier.director.users().total;
        eprintln!("{second} s after the reload: {held} users");
        sleep(Duration::from_secs(1));
    }
    assert_eq!(held, 1, "{log}");
}

fn gone_with_the_master(case: Case) {
    let mut tier = start(case, 900, true);
    tier.visit(&mut Client::new(), "imap", "late");
    let pid = tier.director.pid();
    let (said, status) = tier.proxy.doveadm(&["service", "stop", "director"]);
    assert_eq!(status, Some(0), "{said}");
    wait_until("a stopped service leaves", SOON, || {
        !fs::exists(format!("/proc/{pid}")).expect("/proc")
    });
    tier.proxy.restart();
    let pid = tier.director.pid();
    tier.proxy.stop();
    wait_until("Homing leaves with the master", SOON, || {
        !fs::exists(format!("/proc/{pid}")).expect("/proc")
    });
}
