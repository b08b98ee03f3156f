//! `director_proxy_maybe`: a user lives on the proxy itself or elsewhere, as the director says. It
//! never worked with Dovecot's own director, so there is no control.

use std::collections::BTreeMap;

use crate::rig::{BACKENDS, Case, Client, Home, Tier, TierSpec, User};

/// For each column: here, elsewhere, and what goes wrong.
macro_rules! tests {
    ($($name:ident: $body:ident;)*) => {
        $(mod $name {
            #[test]
            fn homing_all_23() {
                super::$body(crate::cases::ALL_23.with(crate::rig::DirectorKind::Homing));
            }
            #[test]
            fn homing_all_24() {
                super::$body(crate::cases::ALL_24.with(crate::rig::DirectorKind::Homing));
            }
            #[test]
            fn homing_proxy_23_backends_24_shared_logins() {
                super::$body(crate::cases::PROXY_23.with(crate::rig::DirectorKind::Homing));
            }
            #[test]
            fn homing_proxy_24_backends_23_shared_logins() {
                super::$body(crate::cases::PROXY_24.with(crate::rig::DirectorKind::Homing));
            }
        })*
    };
}

tests! {
    here_or_elsewhere: here_or_elsewhere;
    lmtp_here_and_elsewhere: lmtp;
    without_pass: without_pass;
    master_without_pass: master_without_pass;
    with_proxy: with_proxy;
}

/// So many that some are here and some elsewhere.
const MANY: usize = 24;

/// The proxy is the first backend.
fn start(case: Case, pass: bool, fields: &'static str) -> Tier {
    let home = Home::Maybe { pass, fields };
    let user = |number| User {
        name: format!("user{number}"),
        home: home.clone(),
    };
    Tier::start(&TierSpec {
        proxy_is_backend: true,
        ..TierSpec::new(case, (0..MANY).map(user).collect())
    })
}

/// Logs all users in once by IMAP: each one's backend, or what the mail reader was told.
fn visit_all(tier: &Tier) -> BTreeMap<String, Result<String, String>> {
    let mut client = Client::new();
    let mut visit = |name: &String| {
        let answer = client.ask(&tier.order("imap.visit", name));
        let text = |key: &str| answer[key].as_str().map(str::to_owned);
        text("backend").ok_or_else(|| text("error").expect("an error's text"))
    };
    let names = (0..MANY).map(|number| format!("user{number}"));
    names
        .map(|name| {
            let found = visit(&name);
            (name, found)
        })
        .collect()
}

/// Nothing that Dovecot would complain of: an auth request left behind, a crashed login process.
fn check_log(tier: &Tier) {
    let log = tier.proxy.log_text();
    let bad = [
        "auth: Warning",
        "auth: Error",
        "pending",
        "Panic",
        "Fatal",
        "killed with signal",
        "-login: Error",
    ];
    let complaints: Vec<_> = log
        .lines()
        .filter(|line| bad.iter().any(|bad| line.contains(bad)))
        // Login processes that start with Dovecot are there before the director.
        .filter(|line| !line.contains("connect(director/auth)") || line.contains("denied"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

fn here_or_elsewhere(case: Case) {
    let mut tier = start(case, true, "");
    let homes = visit_all(&tier);
    let at = |wanted: &str| {
        let mut found = homes
            .iter()
            .filter(|(_, home)| home.as_deref() == Ok(wanted));
        found
            .next()
            .unwrap_or_else(|| panic!("nobody at {wanted}: {homes:?}"))
            .0
    };
    let mut client = Client::new();
    let here = at(BACKENDS[0]);
    assert_eq!(tier.visit(&mut client, "pop3", here), BACKENDS[0]);
    for elsewhere in &BACKENDS[1..] {
        let user = at(elsewhere);
        for protocol in ["imap", "pop3", "sieve", "submission", "imap"] {
            assert_eq!(
                tier.visit(&mut client, protocol, user),
                *elsewhere,
                "{protocol}"
            );
        }
    }
    assert!(homes.values().all(Result::is_ok), "{homes:?}");
    // Auth says only at the end of a connection what it has been left with.
    tier.proxy.stop();
    check_log(&tier);
}

/// One transaction with recipients here and elsewhere.
fn lmtp(case: Case) {
    let tier = start(case, false, "");
    let names: Vec<_> = (0..MANY).map(|number| format!("user{number}")).collect();
    let to: Vec<_> = names.iter().map(String::as_str).collect();
    let answer = tier.deliver(&mut Client::new(), &to, "mixed");
    let mut places = BTreeMap::<_, usize>::new();
    for user in to {
        assert_eq!(answer["codes"][user], 250, "{answer}");
        let found = tier.find_message(user, "mixed");
        let [place] = &found[..] else {
            panic!("{user}: {found:?}")
        };
        *places.entry(place.clone()).or_default() += 1;
    }
    let used: Vec<_> = places.keys().map(String::as_str).collect();
    assert_eq!(used, [BACKENDS[1], BACKENDS[2], "proxy"], "{places:?}");
    assert_eq!(
        tier.director
            .users()
            .by_backend
            .values()
            .filter(|count| **count > 0)
            .count(),
        3
    );
}

/// Elsewhere a password is needed, and nobody has one: a temporary failure that is explained.
fn without_pass(case: Case) {
    temporary_failure_elsewhere(case, "");
}

/// A master user's name alone does not log in anywhere either.
fn master_without_pass(case: Case) {
    temporary_failure_elsewhere(case, "master=boss");
}

fn temporary_failure_elsewhere(case: Case, fields: &'static str) {
    let tier = start(case, false, fields);
    let homes = visit_all(&tier);
    let here = homes
        .values()
        .filter(|home| home.as_deref() == Ok(BACKENDS[0]))
        .count();
    let failed = homes.values().filter_map(|home| home.as_ref().err());
    let failed: Vec<_> = failed.collect();
    assert!(here > 0 && !failed.is_empty(), "{homes:?}");
    assert_eq!(here + failed.len(), MANY, "{homes:?}");
    check_log(&tier);
    assert!(
        failed.iter().all(|error| error.contains("[UNAVAILABLE]")),
        "{failed:?}"
    );
    tier.director
        .wait_log("host lookup failed: the passdb returns director_proxy_maybe without");
}

/// Both fields, and the user lives here: Dovecot's director answers `proxy` without a host, of which
/// the login process dies.
fn with_proxy(case: Case) {
    let tier = start(case, true, "proxy=y");
    let homes = visit_all(&tier);
    let failed = homes.values().filter_map(|home| home.as_ref().err());
    let failed: Vec<_> = failed.collect();
    assert!(!failed.is_empty() && failed.len() < MANY, "{homes:?}");
    assert!(
        failed.iter().all(|error| error.contains("[UNAVAILABLE]")),
        "{failed:?}"
    );
    assert!(
        homes.values().flatten().all(|home| *home != BACKENDS[0]),
        "{homes:?}"
    );
    check_log(&tier);
    tier.director
        .wait_log("returns both proxy and director_proxy_maybe");
}
