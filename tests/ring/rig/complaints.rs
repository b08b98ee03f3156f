//! Warnings and errors in the members' logs. A test says which ones it has caused itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

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
const ALWAYS: [&str; 2] = [
    // A member that inserts itself has the two beside it let go of each other. Dovecot warns.
    "disconnected us with reason: CONNECT requested",
    // The tests are.
    "running as root: set user to",
];
/// What members say about one that the test has cut off; its address is in the same line. First
/// Dovecot's words, then Homing's.
const ABOUT_CUT: [&str; 11] = [
    "Connection refused",
    "Connection closed",
    "Connection reset by peer",
    "Broken pipe",
    "Ping timed out",
    "Handshaking ME timed out",
    "disconnected us with reason: Shutting down",
    ": cannot connect",
    ": connection lost",
    ": closed: Ping timeout",
    ": closed: Handshaking ME timed out",
];

/// What Dovecot's master says at SIGTERM.
pub const STOPPED: &str = "master: Warning: Killed with signal 15";

/// Lines that need an explanation. `cut`: members the test has cut off; `allowed`: texts this test
/// expects besides.
pub fn find(log: &Path, cut: &BTreeSet<Ipv4Addr>, allowed: &[&str]) -> Vec<String> {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let is_usual = |line: &str| ALWAYS.iter().any(|text| line.contains(text));
    let is_about_cut = |line: &str| {
        ABOUT_CUT.iter().any(|text| line.contains(text))
            && cut
                .iter()
                .any(|address| line.contains(&format!("{address}:")))
    };
    text.lines()
        .filter(|line| MARKS.iter().any(|mark| line.contains(mark)))
        .filter(|line| !is_usual(line) && !is_about_cut(line))
        .filter(|line| !allowed.iter().any(|text| line.contains(text)))
        .map(str::to_owned)
        .collect()
}
