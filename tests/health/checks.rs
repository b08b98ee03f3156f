//! Each kind of check against a real Dovecot that works, is stopped, and comes back; and one that refuses.

use std::fs;

use crate::backends::{Mock, Mood, PORTS, dovecot};
use crate::e2e::dovecot::Dovecot;
use crate::e2e::{PATIENCE, Site, Version, wait_until};
use crate::homing::{Homing, Spec};

/// One check of each kind, every few seconds.
pub fn all_checks(site: &Site) -> String {
    let password = site.path().join("password");
    fs::write(&password, format!("{}\n", site.password)).unwrap();
    // A busy machine takes seconds for a login.
    let rest = "interval = \"4 s\"\ntimeout = \"4 s\"\nrise = 2\nfall = 2\n";
    let login = format!("user = \"probe\"\npassword_file = {password:?}\n");
    [
        (
            "tcp",
            format!("protocol = \"tcp\"\nport = {}\n", PORTS.imap),
        ),
        (
            "imap",
            format!("protocol = \"imap\"\nport = {}\n", PORTS.imap),
        ),
        (
            "pop3",
            format!("protocol = \"pop3\"\nport = {}\n", PORTS.pop3),
        ),
        (
            "lmtp",
            format!("protocol = \"lmtp\"\nport = {}\n", PORTS.lmtp),
        ),
        (
            "imap-login",
            format!("protocol = \"imap\"\nport = {}\n{login}", PORTS.imap),
        ),
        (
            "pop3-login",
            format!(
                "protocol = \"pop3\"\nport = {}\n{login}mechanism = \"login\"\n",
                PORTS.pop3
            ),
        ),
        (
            "pop3-plain",
            format!("protocol = \"pop3\"\nport = {}\n{login}", PORTS.pop3),
        ),
        (
            "imap-command",
            format!(
                "protocol = \"imap\"\nport = {}\n{login}mechanism = \"login\"\n",
                PORTS.imap
            ),
        ),
    ]
    .map(|(name, text)| format!("[[health_check]]\nname = \"{name}\"\n{text}{rest}"))
    .concat()
}

pub const CHECKS: [&str; 8] = [
    "tcp",
    "imap",
    "pop3",
    "lmtp",
    "imap-login",
    "pop3-login",
    "pop3-plain",
    "imap-command",
];

pub fn spec<'a>(site: &'a Site, backends: &[u8], checks: String) -> Spec<'a> {
    Spec {
        site,
        address: site.address(41),
        directors: Vec::new(),
        backends: backends.iter().map(|&host| site.address(host)).collect(),
        settings: "health_slow_start = \"4 s\"\n".to_owned(),
        checks,
    }
}

#[test]
fn a_2_3_that_is_stopped_is_found_out_by_each_check_and_comes_back_slowly() {
    stopped(Version::V23);
}

#[test]
fn a_2_4_that_is_stopped_is_found_out_by_each_check_and_comes_back_slowly() {
    stopped(Version::V24);
}

fn stopped(version: Version) {
    let site = Site::new();
    let good = dovecot(&site, 11, version, "");
    let mut other = dovecot(&site, 12, version, "");
    let homing = Homing::start(&spec(&site, &[11, 12], all_checks(&site)));
    let (first, second) = (site.address(11), site.address(12));
    for check in CHECKS {
        homing.wait_state(first, check, "up");
        homing.wait_state(second, check, "up");
    }
    homing.command(&["move", "somebody", &second.to_string()]);
    other.stop();
    for check in CHECKS {
        homing.wait_state(second, check, "down");
        let health = homing.health(second, check);
        assert_eq!(health.error, "connection refused", "{check}");
    }
    homing.wait_down(second, true);
    wait_until("it says so", PATIENCE, || {
        let health = homing.health(second, "imap");
        (health.decision.as_str(), health.by.as_str()) == ("down", "health")
    });
    assert!(!homing.is_down(first));
    wait_until("its user has left", PATIENCE, || {
        let hosts = homing.hosts();
        (hosts[&first].2, hosts[&second].2) == (1, 0)
    });
    other.run();
    homing.wait_down(second, false);
    // Its weight is at most that of a step when it is up, and all of it in the end.
    let health = homing.health(second, "imap");
    assert_eq!(health.weight, 100, "{health:?}");
    wait_until("slow start is over", PATIENCE, || {
        homing.health(second, "imap").decision == "in-service"
    });
    assert_eq!(homing.hosts()[&second].1, 100);
    let log = homing.log_text();
    for step in ["20 %", "slow start"] {
        assert!(log.contains(step), "{step} is not in the log");
    }
    drop(good);
}

#[test]
fn a_2_3_that_refuses_logins_is_found_out_by_logins_only() {
    refuses(Version::V23);
}

#[test]
fn a_2_4_that_refuses_logins_is_found_out_by_logins_only() {
    refuses(Version::V24);
}

fn refuses(version: Version) {
    let site = Site::new();
    let _good = dovecot(&site, 11, version, "");
    let bad = dovecot_refusing(&site, version);
    let homing = Homing::start(&spec(&site, &[11, 12], all_checks(&site)));
    let second = site.address(12);
    for check in CHECKS {
        let is_login = check.contains('-');
        let state = if is_login { "down" } else { "up" };
        homing.wait_state(second, check, state);
        let health = homing.health(second, check);
        let refused = health.error.starts_with("it refuses the login: ");
        assert_eq!(refused, is_login, "{check}: {health:?}");
        homing.wait_state(site.address(11), check, "up");
    }
    homing.wait_down(second, true);
    drop(bad);
}

/// Its only password database knows another password.
fn dovecot_refusing(site: &Site, version: Version) -> Dovecot {
    let mut dovecot = dovecot(site, 12, version, "");
    dovecot.stop();
    let text = fs::read_to_string(dovecot.config()).unwrap();
    assert!(text.contains(&site.password));
    fs::write(
        dovecot.config(),
        text.replace(&site.password, "another-one"),
    )
    .unwrap();
    dovecot.run();
    dovecot
}

#[test]
fn one_that_is_wedged_after_its_greeting_is_found_out() {
    let site = Site::new();
    let mock = Mock::start(site.address(12));
    let _other = Mock::start(site.address(11));
    let rest = format!(
        "port = {}\ninterval = \"1 s\"\ntimeout = \"1 s\"\nfall = 2\n",
        PORTS.imap
    );
    let checks = format!(
        "[[health_check]]\nname = \"tcp\"\nprotocol = \"tcp\"\n{rest}\
         [[health_check]]\nname = \"imap\"\nprotocol = \"imap\"\n{rest}"
    );
    let homing = Homing::start(&spec(&site, &[11, 12], checks));
    let second = site.address(12);
    homing.wait_state(second, "imap", "up");
    mock.be(Mood::Wedged);
    homing.wait_state(second, "imap", "down");
    let health = homing.health(second, "imap");
    assert_eq!(health.error, "a greeting, and no answer to NOOP within 1 s");
    assert_eq!(homing.health(second, "tcp").state, "up");
    homing.wait_down(second, true);
    mock.be(Mood::Good);
    homing.wait_down(second, false);
    mock.be(Mood::Busy);
    homing.wait_down(second, true);
    let health = homing.health(second, "imap");
    assert_eq!(
        health.error,
        "it greets with * BYE [UNAVAILABLE] Too many connections"
    );
}
