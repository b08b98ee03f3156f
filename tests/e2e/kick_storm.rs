//! Hundreds of users are moved and kicked at once: every session of theirs ends, no login process comes to
//! harm, and nobody else notices.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;

use crate::kicks::{idle, number};
use crate::rig::{BACKENDS, Case, Client, Tier, TierSpec, User};

mod a_storm_of_kicks_harms_nobody_else {
    use crate::rig::DirectorPlacement::Standalone;

    #[test]
    fn all_23() {
        super::storm(crate::cases::ALL_23.homing(Standalone), super::FEW);
    }
    #[test]
    fn all_24() {
        super::storm(crate::cases::ALL_24.homing(Standalone), super::FEW);
    }
    #[test]
    fn proxy_23_shared_logins() {
        super::storm(crate::cases::PROXY_23.homing(Standalone), super::MANY);
    }
    #[test]
    fn proxy_24_shared_logins() {
        super::storm(crate::cases::PROXY_24.homing(Standalone), super::MANY);
    }
}

/// Users whose sessions are to end.
const MANY: usize = 200;
/// The same where each session has a process of its own: Dovecot has 100 of a service.
const FEW: usize = 60;
/// Users who stay.
const STAYING: usize = 10;
/// Users who come back.
const BACK: usize = 20;
/// For all sessions to end, or all orders to be taken. Nothing here is fast on a busy machine.
const LIMIT_SECONDS: u32 = 60;
/// What the log of a login process that has come to harm has, or that of its master. The last is said
/// before most panics.
const HARM: [&str; 5] = [
    "Panic:",
    "killed with signal",
    "assertion failed",
    "Raw backtrace",
    "I/O leak",
];

fn storm(case: Case, count: usize) {
    let names: Vec<String> = (0..count).map(|n| format!("leaves{n}")).collect();
    let staying: Vec<String> = (0..STAYING).map(|n| format!("stays{n}")).collect();
    let users = names.iter().chain(&staying).map(User::proxied).collect();
    let tier = Tier::start(&TierSpec::new(case, users));
    let mut client = Client::new();
    let homes: Vec<String> = staying
        .iter()
        .map(|name| idle(&tier, &mut client, name))
        .collect();
    let from: Vec<String> = names
        .iter()
        .map(|name| idle(&tier, &mut client, name))
        .collect();

    // Every other one moves, the others are kicked; none waits for the one before.
    let orders: Vec<String> = names
        .iter()
        .zip(&from)
        .enumerate()
        .map(|(n, (name, home))| match n % 2 {
            0 => {
                let to = tier.backend_address(number(next(home)));
                format!("USER-MOVE\t{name}\t{to}")
            }
            _ => format!("USER-KICK\t{name}"),
        })
        .collect();
    order(&tier, &orders);
    let ends = json!({"do": "imap.wait_ends", "sessions": names, "seconds": LIMIT_SECONDS});
    let answer = client.ask(&ends);
    assert_eq!(answer["ok"], true, "{answer}");

    for (name, home) in staying.iter().zip(&homes) {
        assert_eq!(client.session("imap.done", name)["ok"], true, "{name}");
        let answer = client.session("imap.whereami", name);
        assert_eq!(answer["backend"], **home, "{name}: {answer}");
    }
    // A process that panics does so after the session has ended, and its master says it later still: those
    // who come back give it time.
    for (n, (name, home)) in names.iter().zip(&from).enumerate().take(BACK) {
        let wanted = match n % 2 {
            0 => next(home),
            _ => home.as_str(),
        };
        assert_eq!(tier.visit(&mut client, "imap", name), wanted, "{name}");
    }
    let is_harmed = |log: &str| HARM.iter().any(|text| log.contains(text));
    for log in tier.site.logs() {
        let text = fs::read(&log).expect("a log");
        let text = String::from_utf8_lossy(&text);
        let bad: Vec<_> = text.lines().filter(|line| is_harmed(line)).collect();
        assert!(bad.is_empty(), "{}: {bad:#?}", log.display());
    }
}

/// The backend that a user of this one moves to.
fn next(home: &str) -> &'static str {
    BACKENDS[(number(home) + 1) % BACKENDS.len()]
}

/// Gives the director all of the orders at once.
fn order(tier: &Tier, orders: &[String]) {
    let mut stream = UnixStream::connect(tier.director.admin_socket()).expect("the admin socket");
    let limit = Duration::from_secs(LIMIT_SECONDS.into());
    stream.set_read_timeout(Some(limit)).expect("a limit");
    let request = format!("VERSION\tdirector-doveadm\t1\t0\n{}\n", orders.join("\n"));
    stream.write_all(request.as_bytes()).expect("to be heard");
    // The first line is the director's VERSION.
    let mut answers = BufReader::new(stream).lines().skip(1);
    for order in orders {
        let answer = answers.next().expect("an answer").expect("an answer");
        assert_eq!(answer, "OK", "{order}");
    }
}
