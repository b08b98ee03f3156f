//! Parts end and come back under running sessions.

use std::time::Duration;

use crate::rig::{Case, Client, PATIENCE, Tier, TierSpec, User, wait_until};

for_each_case!(
    director_restart_under_dovecot,
    crate::restarts::director_restart
);
for_each_case!(
    dovecot_restart_under_director,
    crate::restarts::dovecot_restart
);
for_each_case!(auth_killed, crate::restarts::auth_killed);

/// A login process that has lost auth tries again after some seconds.
const RECONNECT_LIMIT: Duration = PATIENCE;

fn start(case: Case) -> Tier {
    let names = ["early", "late", "third"];
    Tier::start(&TierSpec::new(case, names.map(User::proxied).to_vec()))
}

/// Established sessions do not notice; a user comes back to the same backend, because the user hash
/// decides it anew.
pub fn director_restart(case: Case) {
    let mut tier = start(case);
    let mut client = Client::new();
    tier.open(&mut client, "early");
    let home = tier.visit(&mut client, "imap", "early");

    tier.director.stop();
    assert_eq!(
        client.session("imap.noop", "early")["ok"],
        true,
        "while the director is away"
    );
    tier.director.run();
    assert_eq!(
        client.session("imap.noop", "early")["ok"],
        true,
        "after its return"
    );
    assert_eq!(
        client.session("imap.whereami", "early")["backend"],
        home.as_str()
    );

    logins_work_again(&tier, &mut client);
    assert_eq!(tier.visit(&mut client, "imap", "early"), home);
    deliveries_work_again(&tier, &mut client, &home);
}

/// Dovecot takes its sessions along when it ends; the director stays and serves the next one.
pub fn dovecot_restart(case: Case) {
    let mut tier = start(case);
    let mut client = Client::new();
    let home = tier.visit(&mut client, "imap", "early");
    tier.proxy.restart();
    logins_work_again(&tier, &mut client);
    assert_eq!(tier.visit(&mut client, "imap", "early"), home);
    assert_eq!(tier.visit(&mut client, "pop3", "early"), home);
    deliveries_work_again(&tier, &mut client, &home);
}

pub fn auth_killed(case: Case) {
    let tier = start(case);
    let mut client = Client::new();
    tier.open(&mut client, "early");
    let home = tier.visit(&mut client, "imap", "early");
    assert!(
        tier.proxy.kill_service("auth") > 0,
        "an auth process must have run"
    );
    assert_eq!(
        client.session("imap.noop", "early")["ok"],
        true,
        "sessions need no auth"
    );
    logins_work_again(&tier, &mut client);
    assert_eq!(tier.visit(&mut client, "imap", "early"), home);
    deliveries_work_again(&tier, &mut client, &home);
}

/// Logins may fail for a moment after a restart, as they do with any director.
fn logins_work_again(tier: &Tier, client: &mut Client) {
    for user in ["late", "third"] {
        let order = tier.order("imap.visit", user);
        wait_until("new logins work again", RECONNECT_LIMIT, || {
            client.ask(&order)["ok"] == true
        });
    }
}

/// An lmtp process keeps its connection to the director and finds out at its next lookup that it is
/// gone: that one lookup is a temporary failure, and never more than that.
fn deliveries_work_again(tier: &Tier, client: &mut Client, home: &str) {
    wait_until("deliveries work again", RECONNECT_LIMIT, || {
        let answer = tier.deliver(client, &["early"], "after-restart");
        let code = &answer["codes"]["early"];
        assert!(*code == 250 || *code == 451, "{answer}");
        *code == 250
    });
    assert_eq!(tier.find_message("early", "after-restart"), [home]);
}
