//! Warnings and errors in the members' logs. A test says which ones it has caused itself.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::e2e::seat::over_ipv6;

/// How a line that is no mere information begins, of Dovecot and of Homing.
const MARKS: [&str; 7] = [
    ": Error: ",
    ": Warning: ",
    ": Fatal: ",
    ": Panic: ",
    " ERROR ",
    " WARN ",
    "panicked at",
];
/// What is said in any test.
const ALWAYS: [&str; 4] = [
    // A member that inserts itself has the two beside it let go of each other. Dovecot warns.
    "disconnected us with reason: CONNECT requested",
    "disconnected us with reason: Replacing with ",
    // The tests are.
    "running as root: set user to",
    // Dovecot's stats process, which a busy machine is slow to start, to its director.
    "stats-writer (pid=1,uid=0): Timeout waiting for handshake response",
];
/// What members say about one that the test has cut off, and that one about them. First Dovecot's
/// words, then Homing's.
const ABOUT_CUT: [&str; 14] = [
    "Connection refused",
    "Connection closed",
    "Connection reset by peer",
    "Broken pipe",
    "Ping timed out",
    "Handshaking ME timed out",
    "disconnected us with reason: Shutting down",
    "disconnected us with reason: Ping timeout",
    "PING response took",
    // One that was dialled while its neighbour was away.
    "tried to connect to us, should use",
    ": cannot connect",
    ": connection lost",
    ": closed: Ping timeout",
    ": closed: Handshake timeout",
];
/// What Dovecot's master says at SIGTERM.
const STOPPED: &str = "master: Warning: Killed with signal 15";
/// All members have one clock; a busy machine lets a line wait that says what time it is.
const CLOCK_DIFFERS: [&str; 2] = ["clock differs from ours by ", "its clock differs by "];
const CLOCK_SECONDS: u32 = 20;

/// Lines of one member's log that need an explanation. `own`: its address; `cut`: members the test
/// has cut off; `allowed`: texts this test expects besides.
pub fn find(text: &str, own: Ipv4Addr, cut: &BTreeSet<Ipv4Addr>, allowed: &[&str]) -> Vec<String> {
    let has = |line: &str, texts: &[&str]| texts.iter().any(|text| line.contains(text));
    let was_cut = cut.contains(&own);
    let is_explained = |line: &str| {
        has(line, &ALWAYS)
            || has(line, allowed)
            || is_delay(line)
            || was_cut && line.contains(STOPPED)
            || has(line, &ABOUT_CUT)
                && (was_cut || cut.iter().any(|address| mentions(line, *address)))
    };
    text.lines()
        .filter(|line| has(line, &MARKS) && !is_explained(line))
        .map(str::to_owned)
        .collect()
}

fn is_delay(line: &str) -> bool {
    CLOCK_DIFFERS.iter().any(|text| {
        let seconds = line.split_once(text).and_then(|(_, rest)| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<u32>().ok()
        });
        seconds.is_some_and(|seconds| seconds <= CLOCK_SECONDS)
    })
}

/// Whether the line has the address, or its IPv6 address, and not only one that begins like it.
fn mentions(line: &str, address: Ipv4Addr) -> bool {
    [address.to_string(), over_ipv6(address).to_string()]
        .iter()
        .any(|text| {
            line.match_indices(text).any(|(at, _)| {
                let next = line[at + text.len()..].chars().next();
                next.is_none_or(|next| !next.is_ascii_hexdigit())
            })
        })
}

#[test]
fn only_what_a_test_has_caused_is_explained() {
    let [one, two, three] = [1, 2, 11].map(|host| Ipv4Addr::new(127, 0, 0, host));
    let lost = "director: Error: director(127.0.0.11:9090/right): Connection closed";
    let twice =
        "director: Error: User hash 7 is being redirected to two hosts: 10.0.0.1 and 10.0.0.2";
    let clock =
        |seconds| format!("x WARN director 127.0.0.2:9090: its clock differs by {seconds} s");
    let count =
        |line: &str, cut: &[Ipv4Addr]| find(line, two, &cut.iter().copied().collect(), &[]).len();
    assert_eq!(count(lost, &[]), 1);
    assert_eq!(count(lost, &[one]), 1);
    assert_eq!(count(lost, &[three]), 0);
    assert_eq!(count(lost, &[two]), 0);
    assert_eq!(count(twice, &[one, two, three]), 1);
    assert_eq!(count(&clock(3), &[]), 0);
    assert_eq!(count(&clock(300), &[]), 1);
    assert_eq!(count("director: Info: Connection closed", &[]), 0);
}
