//! What happens all day: users log in by every protocol and get mail.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::rig::{BACKENDS, Case, Client, Home, Tier, TierSpec, User, now};

for_each_case!(
    all_protocols_reach_one_backend,
    crate::everyday::one_backend
);
for_each_case!(different_users_spread, crate::everyday::spread);
for_each_case!(lmtp_recipients_on_several_backends, crate::everyday::lmtp);
for_each_case!(wrong_password_is_refused, crate::everyday::wrong_password);
for_each_case!(
    proxy_and_backend_on_one_address,
    crate::everyday::shared_address
);

const PROTOCOLS: [&str; 4] = ["imap", "pop3", "sieve", "submission"];

fn users(count: usize) -> Vec<User> {
    (0..count)
        .map(|n| User::proxied(format!("user{n}")))
        .collect()
}

pub fn one_backend(case: Case) {
    let tier = Tier::start(&TierSpec::new(case, users(3)));
    everything_reaches_one_backend(&tier, "user0");
    everything_reaches_one_backend(&tier, "user1");
    everything_reaches_one_backend(&tier, "user2");
}

pub fn shared_address(case: Case) {
    let spec = TierSpec {
        shared_address: true,
        ..TierSpec::new(case, users(30))
    };
    let tier = Tier::start(&spec);
    // One user on the address that is the proxy's too, and one elsewhere.
    let mut client = Client::new();
    let home = |client: &mut Client, user: &User| tier.visit(client, "imap", &user.name);
    let homes: Vec<_> = spec
        .users
        .iter()
        .map(|user| home(&mut client, user))
        .collect();
    let here = homes
        .iter()
        .position(|home| home == BACKENDS[0])
        .expect("30 users spread");
    let there = homes
        .iter()
        .position(|home| home != BACKENDS[0])
        .expect("30 users spread");
    everything_reaches_one_backend(&tier, &spec.users[here].name);
    everything_reaches_one_backend(&tier, &spec.users[there].name);
}

fn everything_reaches_one_backend(tier: &Tier, user: &str) {
    let mut client = Client::new();
    let home = tier.visit(&mut client, "imap", user);
    for round in ["first", "second"] {
        for protocol in PROTOCOLS {
            let backend = tier.visit(&mut client, protocol, user);
            assert_eq!(backend, home, "{user} by {protocol}, {round} time");
        }
    }
    let token = format!("to-{user}");
    let answer = tier.deliver(&mut client, &[user], &token);
    assert_eq!(answer["codes"][user], 250, "{answer}");
    assert_eq!(tier.find_message(user, &token), [home]);
}

pub fn spread(case: Case) {
    let spec = TierSpec::new(case, users(30));
    let tier = Tier::start(&spec);
    let mut client = Client::new();
    let first: Vec<_> = homes(&tier, &mut client, &spec.users);
    let used: BTreeSet<_> = first.iter().map(String::as_str).collect();
    assert_eq!(used, BTreeSet::from(BACKENDS));
    assert_eq!(
        first,
        homes(&tier, &mut client, &spec.users),
        "after reconnecting"
    );
}

fn homes(tier: &Tier, client: &mut Client, users: &[User]) -> Vec<String> {
    users
        .iter()
        .map(|user| tier.visit(client, "imap", &user.name))
        .collect()
}

/// One transaction: recipients on all backends, one on the proxy itself, and one that nobody knows.
pub fn lmtp(case: Case) {
    let mut spec = TierSpec::new(case, users(12));
    spec.users.push(User {
        name: "local".to_owned(),
        home: Home::Local,
    });
    let tier = Tier::start(&spec);
    let mut client = Client::new();
    let proxied = &spec.users[..12];
    let homes = homes(&tier, &mut client, proxied);
    let used: BTreeSet<_> = homes.iter().collect();
    assert_eq!(
        used.len(),
        BACKENDS.len(),
        "the names were chosen to spread"
    );

    let mut to: Vec<_> = spec.users.iter().map(|user| user.name.as_str()).collect();
    to.insert(5, "stranger");
    let answer = tier.deliver(&mut client, &to, "many-recipients");
    assert_eq!(answer["codes"]["stranger"], 550, "{answer}");
    assert_eq!(answer["codes"]["local"], 250, "{answer}");
    assert_eq!(tier.find_message("local", "many-recipients"), ["proxy"]);
    for (user, home) in proxied.iter().zip(homes) {
        assert_eq!(answer["codes"][&user.name], 250, "{answer}");
        assert_eq!(
            tier.find_message(&user.name, "many-recipients"),
            [home],
            "{user:?}"
        );
    }
}

/// The refusal is auth's own, and comes when auth gives it (it waits about two seconds).
pub fn wrong_password(case: Case) {
    let tier = Tier::start(&TierSpec::new(case, users(1)));
    let mut client = Client::new();
    for (protocol, refusal) in [
        ("imap", "[AUTHENTICATIONFAILED]"),
        ("pop3", "[AUTH] Authentication failed"),
        ("submission", "535"),
        ("sieve", "NO \"Authentication failed"),
    ] {
        let mut order = tier.order(&format!("{protocol}.visit"), "user0");
        order["password"] = Value::from(format!("not {}", tier.site.password));
        let asked = now();
        let answer = client.ask(&order);
        assert_eq!(answer["ok"], false, "{protocol}: {answer}");
        let error = answer["error"].as_str().expect("a text");
        assert!(error.contains(refusal), "{protocol}: {error}");
        let waited = asked.elapsed();
        assert!(waited < Duration::from_secs(20), "{protocol}: {waited:?}");
    }
}
