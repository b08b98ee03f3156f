//! A login that was under way when its user moved has been told the old backend, and whoever ends sessions
//! does not know it yet (docs/protocol/kicks.md, logins under way).

use std::fs;
use std::net::Ipv4Addr;

use serde_json::json;

use crate::kicks::idle;
use crate::rig::{BACKENDS, Case, Client, PATIENCE, Tier, TierSpec, User, wait_until};

/// State of a connection that both sides know of.
const ESTABLISHED: &str = "01";

/// Not of Dovecot's director: such a session stays where it is, but for 2.3's login processes of many connections, which
/// end it as a rule.
mod a_login_under_way_does_not_stay_where_its_user_was {
    use crate::rig::DirectorPlacement::Standalone;

    #[test]
    fn homing_all_23() {
        super::late(crate::cases::ALL_23.homing(Standalone));
    }
    #[test]
    fn homing_all_24() {
        super::late(crate::cases::ALL_24.homing(Standalone));
    }
    #[test]
    fn homing_proxy_23_shared_logins() {
        super::late(crate::cases::PROXY_23.homing(Standalone));
    }
    #[test]
    fn homing_proxy_24_shared_logins() {
        super::late(crate::cases::PROXY_24.homing(Standalone));
    }
}

/// Connections to the backends' IMAP ports, in the words of proc(5).
fn dialled(tier: &Tier) -> usize {
    let port = tier.order("imap.open", "")["port"]
        .as_u64()
        .expect("a port");
    let place = |number| {
        let address: Ipv4Addr = tier.backend_address(number).parse().expect("an address");
        format!("{:08X}:{port:04X}", u32::from_le_bytes(address.octets()))
    };
    let places: Vec<_> = (0..BACKENDS.len()).map(place).collect();
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let is_dialled = |line: &&str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words[3] == ESTABLISHED && places.iter().any(|place| words[2] == place)
    };
    table.lines().filter(is_dialled).count()
}

fn late(case: Case) {
    let users = ["moves", "stays"].map(User::proxied);
    let tier = Tier::start(&TierSpec::new(case, users.to_vec()));
    let (mut client, mut other) = (Client::new(), Client::new());
    let stays = idle(&tier, &mut other, "stays");

    // No backend lets anybody in for a while.
    let signal = |number| {
        for backend in tier.backends() {
            backend.signal_service("auth", number);
        }
    };
    signal(libc::SIGSTOP);
    let mut order = tier.order("imap.open", "moves");
    order["session"] = json!("moves");
    let before = dialled(&tier);
    client.send(&order);
    // By then Dovecot's director can have it ended, too.
    wait_until("a backend is dialled", PATIENCE, || dialled(&tier) > before);
    let (said, status) = tier.order_director(&["status", "moves"]);
    assert_eq!(status, Some(0), "{said}");
    let home = said.split_whitespace().nth(1).expect(&said);
    let target = (tier.backend_number(home) + 1) % BACKENDS.len();
    let address = tier.backend_address(target);
    let words = ["move", "moves", address.as_str()];
    assert_eq!(tier.order_director(&words).1, Some(0));
    // Who moves there already is told to wait; who is there is not.
    wait_until("the move is over", PATIENCE, || {
        tier.order_director(&words).1 == Some(0)
    });
    signal(libc::SIGCONT);

    if client.answer(&order)["ok"] == true {
        let end = json!({"do": "imap.wait_end", "session": "moves", "seconds": PATIENCE.as_secs()});
        let answer = client.ask(&end);
        assert_eq!(answer["ok"], true, "it is still where it was: {answer}");
    }
    assert_eq!(tier.visit(&mut client, "imap", "moves"), BACKENDS[target]);
    assert_eq!(other.session("imap.done", "stays")["ok"], true);
    let answer = other.session("imap.whereami", "stays");
    assert_eq!(answer["backend"], *stays, "{answer}");
}
