//! Homing's own commands say how many sessions an order has ended.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::dovecot::HOMING;
use crate::rig::{BACKENDS, Case, Client, DirectorPlacement, Tier, TierSpec, User};

mod orders_tell_of_sessions {
    use crate::rig::DirectorPlacement::Standalone;

    #[test]
    fn all_23() {
        super::counts(crate::cases::ALL_23.homing(Standalone));
    }
    #[test]
    fn all_24() {
        super::counts(crate::cases::ALL_24.homing(Standalone));
    }
    #[test]
    fn proxy_23_shared_logins() {
        super::counts(crate::cases::PROXY_23.homing(Standalone));
    }
    #[test]
    fn proxy_24_shared_logins() {
        super::counts(crate::cases::PROXY_24.homing(Standalone));
    }
}

/// What one of Homing's commands says, as JSON.
fn homing(tier: &Tier, words: &[&str]) -> Value {
    let mut command = Command::new(HOMING);
    command.args(words).arg("--json");
    command.arg("-a").arg(tier.director.admin_socket());
    let output = command.output().expect("homing runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn fate(said: &Value) -> [Option<u64>; 2] {
    ["sessions_ended", "sessions_survived"].map(|name| said[name].as_u64())
}

/// Opens a session and leaves it in IDLE; the number of its backend.
fn idle(tier: &Tier, client: &mut Client, user: &str) -> usize {
    tier.open(client, user);
    let home = client.session("imap.whereami", user)["backend"].clone();
    assert_eq!(client.session("imap.idle", user)["ok"], true);
    let found = BACKENDS.iter().position(|it| home == *it);
    found.expect("a backend")
}

fn counts(case: Case) {
    let users = ["moves", "leaves", "stays"].map(User::proxied);
    let tier = Tier::start(&TierSpec::new(case, users.to_vec()));
    let (mut one, mut two) = (Client::new(), Client::new());
    let home = idle(&tier, &mut one, "moves");
    idle(&tier, &mut two, "moves");
    idle(&tier, &mut one, "leaves");
    let stays = idle(&tier, &mut one, "stays");
    idle(&tier, &mut two, "stays");

    let target = tier.backend_address((home + 1) % BACKENDS.len());
    let said = homing(&tier, &["move", "moves", &target]);
    assert_eq!(fate(&said), [Some(2), Some(0)], "{said}");
    let said = homing(&tier, &["kick", "leaves"]);
    assert_eq!(fate(&said), [Some(1), Some(0)], "{said}");
    let said = homing(&tier, &["kick", "nobody"]);
    assert_eq!(fate(&said), [Some(0), Some(0)], "{said}");

    let full = tier.backend_address(stays);
    homing(&tier, &["update", &full, "0"]);
    let said = homing(&tier, &["flush", &full]);
    assert_eq!(fate(&said[0]), [Some(2), Some(0)], "{said}");
    for (client, user) in [(&mut one, "leaves"), (&mut two, "stays")] {
        let order = json!({"do": "imap.wait_end", "session": user, "seconds": 60});
        assert_eq!(client.ask(&order)["ok"], true, "{user}");
    }
}

/// One whose process cannot be told stays, and is counted so.
#[test]
fn sessions_that_survive_are_counted() {
    let case = crate::cases::ALL_24.homing(DirectorPlacement::SystemdLike);
    let tier = Tier::start(&TierSpec::new(case, vec![User::proxied("moves")]));
    let mut client = Client::new();
    let home = idle(&tier, &mut client, "moves");
    let sockets = tier.proxy.base().join("srv.imap-login");
    chown(&sockets, Some(0), Some(0)).expect("chown");
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o700)).expect("chmod");
    let target = tier.backend_address((home + 1) % BACKENDS.len());
    let said = homing(&tier, &["move", "moves", &target]);
    assert_eq!(fate(&said), [Some(0), Some(1)], "{said}");
    assert_eq!(client.session("imap.done", "moves")["ok"], true);
}
