//! Sessions end when their user is moved or kicked, and nobody else's do.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::rig::{
    BACKENDS, Case, Client, DirectorKind, DirectorPlacement, Heartbeat, PATIENCE, Tier, TierSpec,
    User, wait_until,
};

/// From the order to the client's end.
const KICK_LIMIT: Duration = Duration::from_secs(3);
/// The ring comes together, and hears of a user.
const RING_LIMIT: Duration = PATIENCE;

/// In the columns of the matrix: Homing gets the orders from a Dovecot over the ring, Dovecot's own
/// director from a Homing, or by doveadm itself.
mod moved_and_kicked_users_lose_their_sessions {
    use crate::rig::DirectorPlacement::{Standalone, SystemdLike};

    #[test]
    fn dovecot23_built_in_all_23() {
        super::kicks(crate::cases::ALL_23.built_in(), false);
    }
    #[test]
    fn dovecot23_built_in_shared_logins() {
        super::kicks(crate::cases::PROXY_23.built_in(), false);
    }
    #[test]
    fn dovecot23_told_by_homing_all_23() {
        super::kicks(crate::cases::ALL_23.built_in(), true);
    }
    #[test]
    fn dovecot23_told_by_homing_shared_logins() {
        super::kicks(crate::cases::PROXY_23.built_in(), true);
    }
    #[test]
    fn homing_all_23() {
        super::kicks(crate::cases::ALL_23.homing(Standalone), true);
    }
    #[test]
    fn homing_all_24() {
        super::kicks(crate::cases::ALL_24.homing(Standalone), true);
    }
    #[test]
    fn homing_proxy_23_shared_logins() {
        super::kicks(crate::cases::PROXY_23.homing(Standalone), true);
    }
    #[test]
    fn homing_proxy_24_shared_logins() {
        super::kicks(crate::cases::PROXY_24.homing(Standalone), true);
    }
    #[test]
    fn homing_systemd_all_23() {
        super::kicks(crate::cases::ALL_23.homing(SystemdLike), true);
    }
    #[test]
    fn homing_systemd_all_24() {
        super::kicks(crate::cases::ALL_24.homing(SystemdLike), true);
    }
}

/// Opens a session and leaves it in IDLE.
pub(crate) fn idle(tier: &Tier, client: &mut Client, user: &str) -> String {
    tier.open(client, user);
    let home = client.session("imap.whereami", user)["backend"].clone();
    assert_eq!(client.session("imap.idle", user)["ok"], true);
    home.as_str().expect("a backend").to_owned()
}

fn expect_end(heartbeat: &Heartbeat, client: &mut Client, user: &str) {
    let order = json!({"do": "imap.wait_end", "session": user, "seconds": PATIENCE.as_secs()});
    let answer = client.ask(&order);
    assert_eq!(answer["ok"], true, "{user}: {answer}");
    let took = Duration::from_secs_f64(answer["seconds"].as_f64().expect("a time"));
    heartbeat.in_time(&format!("the end of {user}"), took, KICK_LIMIT);
}

/// The session is there, and where it was.
fn expect_unharmed(client: &mut Client, user: &str, home: &str) {
    assert_eq!(client.session("imap.done", user)["ok"], true, "{user}");
    let answer = client.session("imap.whereami", user);
    assert_eq!(answer["backend"], *home, "{answer}");
    assert_eq!(client.session("imap.idle", user)["ok"], true);
}

fn administer(tier: &Tier, words: &[&str]) {
    let (said, status) = tier.administer(words);
    assert_eq!(status, Some(0), "{words:?}: {said}");
}

pub(crate) fn number(backend: &str) -> usize {
    let found = BACKENDS.iter().position(|it| *it == backend);
    found.expect("a backend")
}

/// Until whoever takes the orders has the user on this backend.
fn wait_until_known(tier: &Tier, user: &str, home: &str) {
    let wanted = format!("Current: {} ", tier.backend_address(number(home)));
    wait_until("the ring knows the user", RING_LIMIT, || {
        tier.administer(&["status", user]).0.contains(&wanted)
    });
}

fn kicks(case: Case, in_ring: bool) {
    let is_homing = case.director == DirectorKind::Homing;
    let names = ["moves", "leaves", "stays"];
    let spec = TierSpec {
        in_ring,
        ..TierSpec::new(case, names.map(User::proxied).to_vec())
    };
    let tier = Tier::start(&spec);
    let (mut one, mut two) = (Client::new(), Client::new());
    let home = idle(&tier, &mut one, "moves");
    assert_eq!(idle(&tier, &mut two, "moves"), home);
    let left = idle(&tier, &mut one, "leaves");
    let stayed = idle(&tier, &mut one, "stays");
    idle(&tier, &mut two, "stays");
    // Whoever is told of an order knows the users by then.
    for (user, home) in names.into_iter().zip([&home, &left, &stayed]) {
        wait_until_known(&tier, user, home);
    }

    let heartbeat = Heartbeat::start();
    let target = (number(&home) + 1) % BACKENDS.len();
    administer(&tier, &["move", "moves", &tier.backend_address(target)]);
    expect_end(&heartbeat, &mut one, "moves");
    expect_end(&heartbeat, &mut two, "moves");
    assert_eq!(tier.visit(&mut two, "imap", "moves"), BACKENDS[target]);
    for client in [&mut one, &mut two] {
        expect_unharmed(client, "stays", &stayed);
    }
    expect_unharmed(&mut one, "leaves", &left);

    administer(&tier, &["kick", "leaves"]);
    expect_end(&heartbeat, &mut one, "leaves");
    assert_eq!(tier.visit(&mut one, "imap", "leaves"), left);
    for client in [&mut one, &mut two] {
        expect_unharmed(client, "stays", &stayed);
    }

    let address = tier.backend_address(number(&stayed));
    administer(&tier, &["update", &address, "0"]);
    administer(&tier, &["flush", &address]);
    for client in [&mut one, &mut two] {
        expect_end(&heartbeat, client, "stays");
    }
    assert_ne!(tier.visit(&mut two, "imap", "stays"), stayed);
    if is_homing {
        let log = fs::read_to_string(tier.director.log()).expect("a log");
        assert!(!log.contains("could not be ended"), "{log}");
    }
}

/// Without the sockets of the login processes nobody can end sessions there, and Homing says so.
#[test]
fn sessions_that_cannot_be_ended_are_told_of() {
    let case = crate::cases::ALL_24.homing(DirectorPlacement::SystemdLike);
    let spec = TierSpec {
        in_ring: true,
        ..TierSpec::new(case, vec![User::proxied("moves")])
    };
    let tier = Tier::start(&spec);
    let mut client = Client::new();
    let home = idle(&tier, &mut client, "moves");
    let sockets = tier.proxy.base().join("srv.imap-login");
    use std::os::unix::fs::{PermissionsExt, chown};
    chown(&sockets, Some(0), Some(0)).expect("chown");
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o700)).expect("chmod");
    let target = BACKENDS
        .iter()
        .position(|name| *name != home)
        .expect("another");
    let address = tier.backend_address(target);
    wait_until("the ring knows the user", RING_LIMIT, || {
        tier.administer(&["status", "moves"])
            .0
            .contains("Current: 127")
    });
    administer(&tier, &["move", "moves", &address]);
    let said = "a session of user hash";
    wait_until("Homing says so", PATIENCE, || {
        let log = fs::read_to_string(tier.director.log()).expect("a log");
        let mut lines = log.lines().filter(|line| line.contains(said));
        lines.any(|line| line.contains("srv.imap-login") && line.contains("Permission denied"))
    });
    // The move goes on all the same.
    assert_eq!(
        tier.visit(&mut Client::new(), "imap", "moves"),
        BACKENDS[target]
    );
    expect_unharmed(&mut client, "moves", &home);
}

/// A user whose session is not where new ones of that name go stays there when Homing is started again.
mod sessions_that_are_there_at_the_start_keep_their_users {
    use crate::rig::DirectorPlacement::Standalone;

    #[test]
    fn all_23() {
        super::learns(crate::cases::ALL_23.homing(Standalone));
    }
    #[test]
    fn all_24() {
        super::learns(crate::cases::ALL_24.homing(Standalone));
    }
    #[test]
    fn proxy_23_shared_logins() {
        super::learns(crate::cases::PROXY_23.homing(Standalone));
    }
    #[test]
    fn proxy_24_shared_logins() {
        super::learns(crate::cases::PROXY_24.homing(Standalone));
    }
}

fn learns(case: Case) {
    let names: Vec<String> = (1..=6).map(|n| format!("user{n}")).collect();
    let users = names.iter().map(User::proxied).collect();
    let mut tier = Tier::start(&TierSpec::new(case, users));
    let mut client = Client::new();
    let mut homes = Vec::new();
    for name in &names {
        homes.push(idle(&tier, &mut client, name));
    }
    tier.director.stop();
    let settings = tier.director.settings();
    let text = fs::read_to_string(&settings).expect("settings");
    // Homing comes back with fifty backends more, at addresses where nobody listens: there six users that
    // are placed anew would be sent, but for one time in a hundred million.
    let more = (40..90).map(|host| tier.site.address(host).to_string());
    let more = more.collect::<Vec<_>>().join(" ");
    let more = format!("director_mail_servers = \"{more} ");
    fs::write(&settings, text.replace("director_mail_servers = \"", &more)).expect("settings");
    tier.director.run();
    assert_eq!(tier.director.users().total, names.len() as u64);
    for (name, home) in names.iter().zip(&homes) {
        assert_eq!(
            tier.visit(&mut Client::new(), "imap", name),
            *home,
            "{name}"
        );
        expect_unharmed(&mut client, name, home);
    }
}

/// A user was moved while Homing was away: what the ring says counts more than the session that is still
/// where it was. Nothing changes for others.
mod after_a_restart_the_ring_counts_more_than_sessions {
    use crate::rig::DirectorPlacement::Standalone;

    #[test]
    fn all_23() {
        super::learns_in_ring(crate::cases::ALL_23.homing(Standalone));
    }
    #[test]
    fn proxy_24_shared_logins() {
        super::learns_in_ring(crate::cases::PROXY_24.homing(Standalone));
    }
}

fn learns_in_ring(case: Case) {
    let names = ["moves", "stays"];
    let mut tier = Tier::start(&TierSpec {
        in_ring: true,
        ..TierSpec::new(case, names.map(User::proxied).to_vec())
    });
    let mut client = Client::new();
    let homes = names.map(|name| idle(&tier, &mut client, name));
    for (name, home) in names.iter().zip(&homes) {
        wait_until_known(&tier, name, home);
    }
    tier.director.stop();
    let target = (number(&homes[0]) + 1) % BACKENDS.len();
    administer(&tier, &["move", "moves", &tier.backend_address(target)]);
    // No one ends sessions behind a director that is away.
    expect_unharmed(&mut client, "moves", &homes[0]);
    tier.director.run();
    let learnt = || fs::read_to_string(tier.director.log()).expect("a log");
    wait_until("Homing has asked for sessions", RING_LIMIT, || {
        learnt().contains("INFO 2 sessions are there already")
    });
    wait_until("the ring is whole", RING_LIMIT, || {
        learnt().contains("users stay where their sessions are")
    });
    assert_eq!(
        tier.visit(&mut Client::new(), "imap", "moves"),
        BACKENDS[target]
    );
    assert_eq!(tier.visit(&mut Client::new(), "imap", "stays"), homes[1]);
    expect_unharmed(&mut client, "stays", &homes[1]);
}
