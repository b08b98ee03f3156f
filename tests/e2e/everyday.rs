//! What happens all day: users log in by every protocol and get mail.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::rig::{BACKENDS, Case, Client, Heartbeat, Home, Tier, TierSpec, User, now};

for_each_case!(
    all_protocols_reach_one_backend,
    crate::everyday::one_backend
);
for_each_case!(different_users_spread, crate::everyday::spread);
for_each_case!(lmtp_recipients_on_several_backends, crate::everyday::lmtp);
for_each_placement!(
    all_protocols_reach_one_backend_from_elsewhere,
    crate::everyday::one_backend
);
for_each_placement!(
    lmtp_recipients_on_several_backends_from_elsewhere,
    crate::everyday::lmtp
);
for_each_case!(wrong_password_is_refused, crate::everyday::wrong_password);
for_each_case!(
    proxy_and_backend_on_one_address,
    crate::everyday::shared_address
);

/// So many that all of them on two of three backends is out of the question. Where each lives is
/// different in every run, because the backends' addresses are.
const MANY: usize = 40;
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
        ..TierSpec::new(case, users(MANY))
    };
    let tier = Tier::start(&spec);
    let visited = visit_until_spread(&tier, &mut Client::new(), &spec.users);
    // One user on the address that is the proxy's too, and one elsewhere.
    for here in [true, false] {
        let found = visited
            .iter()
            .find(|(_, home)| (home == BACKENDS[0]) == here);
        everything_reaches_one_backend(&tier, found.expect("they spread").0);
    }
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
    let spec = TierSpec::new(case, users(MANY));
    let tier = Tier::start(&spec);
    let mut client = Client::new();
    let mut homes = || -> Vec<_> {
        let names = spec.users.iter().map(|user| &user.name);
        names
            .map(|name| tier.visit(&mut client, "imap", name))
            .collect()
    };
    let first = homes();
    let used: BTreeSet<_> = first.iter().map(String::as_str).collect();
    assert_eq!(used, BTreeSet::from(BACKENDS));
    assert_eq!(first, homes(), "after reconnecting");
}

/// Logs users in, one after the other, until there is one on each backend.
fn visit_until_spread<'a>(
    tier: &Tier,
    client: &mut Client,
    users: &'a [User],
) -> Vec<(&'a str, String)> {
    let mut visited = Vec::new();
    let mut used = BTreeSet::new();
    for user in users {
        let home = tier.visit(client, "imap", &user.name);
        used.insert(home.clone());
        visited.push((user.name.as_str(), home));
        if used.len() == BACKENDS.len() {
            return visited;
        }
    }
    panic!("{} users and only {used:?}", users.len());
}

/// One transaction: recipients on all backends, one on the proxy itself, and one that nobody knows.
pub fn lmtp(case: Case) {
    let mut spec = TierSpec::new(case, users(MANY));
    spec.users.push(User {
        name: "local".to_owned(),
        home: Home::Local,
    });
    let tier = Tier::start(&spec);
    let mut client = Client::new();
    let proxied = visit_until_spread(&tier, &mut client, &spec.users[..MANY]);

    let mut to = vec!["stranger", "local"];
    to.extend(proxied.iter().map(|(user, _)| user));
    to.swap(0, 2); // the stranger and the local user stand among the others
    let answer = tier.deliver(&mut client, &to, "many-recipients");
    assert_eq!(answer["codes"]["stranger"], 550, "{answer}");
    assert_eq!(answer["codes"]["local"], 250, "{answer}");
    assert_eq!(tier.find_message("local", "many-recipients"), ["proxy"]);
    for (user, home) in proxied {
        assert_eq!(answer["codes"][user], 250, "{answer}");
        assert_eq!(tier.find_message(user, "many-recipients"), [home], "{user}");
    }
}

/// The refusal is auth's own, and comes when auth gives it (it waits about two seconds).
pub fn wrong_password(case: Case) {
    let tier = Tier::start(&TierSpec::new(case, users(1)));
    let mut client = Client::new();
    let heartbeat = Heartbeat::start();
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
        heartbeat.in_time(protocol, asked.elapsed(), Duration::from_secs(20));
    }
}
