//! The recipe of Dovecot's manual for taking a backend out of service: its weight becomes 0, and its users
//! are flushed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::rig::admin::rows;
use crate::rig::{BACKENDS, Case, Client, Heartbeat, PATIENCE, Tier, TierSpec, User};

/// From the order to the last client's end.
const KICK_LIMIT: Duration = Duration::from_secs(3);
/// Users with sessions; each has one in either client.
const USERS: usize = 24;
/// Users that come when the backend is empty.
const LATER: usize = 24;

mod a_flushed_backend_is_left_and_nobody_else_notices {
    use crate::rig::DirectorPlacement::{DovecotService, Standalone};

    #[test]
    fn dovecot23_built_in_all_23() {
        super::drain(crate::cases::ALL_23.built_in());
    }
    #[test]
    fn dovecot23_built_in_shared_logins() {
        super::drain(crate::cases::PROXY_23.built_in());
    }
    #[test]
    fn homing_all_23() {
        super::drain(crate::cases::ALL_23.homing(Standalone));
    }
    #[test]
    fn homing_all_24() {
        super::drain(crate::cases::ALL_24.homing(Standalone));
    }
    #[test]
    fn homing_proxy_23_shared_logins() {
        super::drain(crate::cases::PROXY_23.homing(Standalone));
    }
    #[test]
    fn homing_proxy_24_shared_logins() {
        super::drain(crate::cases::PROXY_24.homing(Standalone));
    }
    #[test]
    fn homing_service_proxy_23_shared_logins() {
        super::drain(crate::cases::PROXY_23.homing(DovecotService));
    }
}

fn order(tier: &Tier, words: &[&str]) {
    let (said, status) = tier.order_director(words);
    assert_eq!(status, Some(0), "{words:?}: {said}");
}

fn drain(case: Case) {
    let names: Vec<_> = (0..USERS + LATER).map(|n| format!("user{n}")).collect();
    let users = names.iter().map(User::proxied).collect();
    let tier = Tier::start(&TierSpec::new(case, users));
    let (early, late) = names.split_at(USERS);
    let mut clients = [Client::new(), Client::new()];
    let mut homes = BTreeMap::new();
    for name in early {
        for client in &mut clients {
            tier.open(client, name);
            let home = client.session("imap.whereami", name)["backend"].clone();
            let home = home.as_str().expect("a backend").to_owned();
            let before = homes.insert(name.as_str(), home.clone());
            assert!(before.is_none_or(|it| it == home), "{name} is on two");
            assert_eq!(client.session("imap.idle", name)["ok"], true);
        }
    }
    let drained = BACKENDS[0];
    let (leave, stay): (Vec<&str>, Vec<&str>) = early
        .iter()
        .map(String::as_str)
        .partition(|name| homes[name] == drained);
    assert!(!leave.is_empty() && !stay.is_empty(), "{homes:?}");

    let address = tier.backend_address(0);
    order(&tier, &["add", &address, "0"]);
    // A weight of 0 alone disturbs nobody: all are still waited for, and here.
    let wait = json!({"do": "imap.wait_ends", "sessions": leave, "seconds": 0});
    for client in &mut clients {
        assert_eq!(
            client.ask(&wait)["ok"],
            false,
            "a session has ended already"
        );
    }
    let wait = json!({"do": "imap.wait_ends", "sessions": leave, "seconds": PATIENCE.as_secs()});
    let heartbeat = Heartbeat::start();
    for client in &mut clients {
        client.send(&wait);
    }
    order(&tier, &["flush", &address]);
    for client in &mut clients {
        let answer = client.answer(&wait);
        assert_eq!(answer["ok"], true, "{answer}");
        let took = Duration::from_secs_f64(answer["seconds"].as_f64().expect("a time"));
        heartbeat.in_time("the end of all sessions", took, KICK_LIMIT);
    }

    for name in leave {
        let home = tier.visit(&mut clients[0], "imap", name);
        assert_ne!(home, drained, "{name}");
        assert_eq!(tier.visit(&mut clients[1], "imap", name), home, "{name}");
    }
    for name in late {
        assert_ne!(tier.visit(&mut clients[0], "imap", name), drained, "{name}");
    }
    for name in stay {
        for client in &mut clients {
            assert_eq!(client.session("imap.done", name)["ok"], true, "{name}");
            let answer = client.session("imap.whereami", name);
            assert_eq!(answer["backend"], *homes[name], "{answer}");
        }
    }
    let hosts = rows(&tier.director.admin_socket(), "HOST-LIST");
    let row = hosts.iter().find(|row| row[0] == address).expect("a row");
    assert_eq!((row[1].as_str(), row[2].as_str()), ("0", "0"), "{row:?}");
}
