//! A login that was under way when its user moved has been told the old backend, and whoever ends sessions
//! does not know it yet (docs/protocol/kicks.md, logins under way).

use serde_json::json;

use crate::kicks::idle;
use crate::rig::{BACKENDS, Case, Client, PATIENCE, Tier, TierSpec, User, wait_until};

/// Of Dovecot's director only where a login process with sessions is told: in the other columns such a session
/// stays where it is.
mod a_login_under_way_does_not_stay_where_its_user_was {
    use crate::rig::DirectorPlacement::Standalone;

    #[test]
    fn dovecot23_shared_logins() {
        super::late(crate::cases::PROXY_23.built_in());
    }
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
    client.send(&order);
    wait_until("a backend was named", PATIENCE, || {
        tier.director.users().total == 2
    });
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
