//! `[[health_check]]` tables and what belongs to them.

use std::path::Path;
use std::time::Duration;

use homing::core::health::dialogue::{Mechanism, Protocol};
use homing::settings::table::{HEALTH_KEYS, Reload};
use homing::settings::{CheckTls, HealthCheck, Loaded, Problem, Sockets, diff, parse, reference};

use super::support::Lab;

fn read(text: &str) -> Result<Loaded, Vec<Problem>> {
    let text = format!("director_mail_servers = '10.2.0.11'\n{text}\n");
    parse(Path::new("t.toml"), &text, &Lab, &Sockets::FromSettings)
}

fn check(lines: &str) -> HealthCheck {
    let loaded = read(&format!("[[health_check]]\n{lines}"));
    let loaded = loaded.unwrap_or_else(|problems| panic!("{lines}\n{problems:?}"));
    loaded.settings.health_checks[0].clone()
}

/// The one error of a table that begins on line 2.
fn error(lines: &str) -> String {
    let problems = read(&format!("[[health_check]]\n{lines}")).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let text = problems[0].to_string();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn a_check_has_defaults() {
    let imap = check("protocol = 'imap'");
    assert_eq!((imap.name.as_str(), imap.port), ("imap-143", 143));
    assert_eq!(imap.protocol, Protocol::Imap);
    assert_eq!((imap.tls, imap.tls_verify), (CheckTls::No, true));
    assert_eq!((imap.rise, imap.fall), (2, 3));
    assert_eq!(imap.interval, Duration::from_secs(10));
    assert_eq!(imap.timeout, Duration::from_secs(5));
    assert_eq!(imap.mechanism, Mechanism::Plain);
    assert!(imap.user.is_none() && imap.tag.is_none() && imap.backends.is_empty());
    let ports = [
        ("protocol = 'imap'\ntls = 'yes'\ntls_verify = false", 993),
        (
            "protocol = 'imap'\ntls = 'starttls'\ntls_verify = false",
            143,
        ),
        ("protocol = 'pop3'", 110),
        ("protocol = 'pop3'\ntls = 'yes'\ntls_ca = '/ca'", 995),
        ("protocol = 'lmtp'", 24),
        ("protocol = 'lmtp'\nport = 2424", 2424),
        ("protocol = 'tcp'\nport = '99'", 99),
    ];
    for (lines, port) in ports {
        assert_eq!(check(lines).port, port, "{lines}");
    }
    assert_eq!(
        check("protocol = 'lmtp'\ninterval = '2 s'").timeout,
        Duration::from_secs(2),
        "never above interval"
    );
}

#[test]
fn everything_can_be_set() {
    let all = check(
        "name = 'x'\nprotocol = 'pop3'\nport = 1\ntls = 'starttls'\ntls_verify = true\ntls_ca = '/ca'\n\
         tls_name = 'mail'\nuser = 'u'\npassword_file = '/p'\nmechanism = 'login'\ninterval = '1 min'\n\
         timeout = '7 s'\nrise = 4\nfall = '5'\ntag = ''\nbackends = ['10.0.0.1', '::1']\n\
         source = '10.1.0.2'",
    );
    assert_eq!((all.name.as_str(), all.rise, all.fall), ("x", 4, 5));
    assert_eq!(
        (all.tag.as_deref(), all.tls_name.as_deref()),
        (Some(""), Some("mail"))
    );
    assert_eq!(all.backends.len(), 2);
    assert_eq!(all.source, Some("10.1.0.2".parse().unwrap()));
    let keys = HEALTH_KEYS.len();
    assert_eq!(keys, 17, "the table above has them all");
    for key in HEALTH_KEYS {
        assert!(reference().contains(&format!("| `{}` | {} |", key.name, key.accepts)));
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let cases = [
        ("", "2: health_check.protocol: It is missing"),
        (
            "protocol = 'smtp'",
            "3: health_check.protocol: Unknown protocol 'smtp'",
        ),
        (
            "protocol = 'tcp'",
            "2: health_check.port: A check of type tcp needs a port",
        ),
        (
            "protocol = 'imap'\nport = 0",
            "4: health_check.port: Invalid port number 0",
        ),
        (
            "protocol = 'tcp'\nport = 1\ntls = 'starttls'",
            "2: health_check.tls: There is no STARTTLS without a protocol",
        ),
        (
            "protocol = 'imap'\ntls_ca = '/ca'",
            "2: health_check.tls: It is no, and tls_verify, tls_ca or tls_name is set",
        ),
        (
            "protocol = 'imap'\ntls = 'yes'",
            "2: health_check.tls_ca: It is missing: certificates are verified",
        ),
        (
            "protocol = 'imap'\nuser = 'x'",
            "2: health_check.user: One of user and password_file is missing",
        ),
        (
            "protocol = 'lmtp'\nuser = 'x'\npassword_file = '/x'",
            "2: health_check.user: Only imap and pop3 have a login",
        ),
        (
            "protocol = 'imap'\ninterval = '2 s'\ntimeout = '3 s'",
            "2: health_check.timeout: It is above interval: a probe must end before the next one begins",
        ),
        (
            "protocol = 'imap'\ninterval = '0'",
            "4: health_check.interval: It is 0",
        ),
        (
            "protocol = 'imap'\nfall = 0",
            "4: health_check.fall: It is 0",
        ),
        (
            "protocol = 'imap'\nrise = 101",
            "4: health_check.rise: Invalid number 101: Number too large",
        ),
        (
            "protocol = 'imap'\nbackends = 'mail'",
            "4: health_check.backends: Invalid address 'mail'",
        ),
        (
            "protocol = 'imap'\nintervall = '1 s'",
            "4: health_check.intervall: Unknown setting: intervall",
        ),
        (
            "protocol = 'imap'\n[[health_check]]\nprotocol = 'imap'",
            "4: health_check.name: Two checks are called 'imap-143'",
        ),
        (
            "protocol = 'imap'\npassword_file = 'x'",
            "4: health_check.password_file: The path 'x' is not absolute",
        ),
    ];
    for (lines, want) in cases {
        assert_eq!(error(lines), format!("t.toml:{want}"), "{lines}");
    }
    let many = "[[health_check]]\nprotocol = 'tcp'\nport = PORT\n";
    let many: String = (1..=17)
        .map(|n| many.replace("PORT", &n.to_string()))
        .collect();
    let problems = read(&many).unwrap_err();
    assert!(
        problems[0].to_string().contains("Too many checks"),
        "{problems:?}"
    );
    let problems = read("health_floor = 101").unwrap_err();
    assert!(
        problems[0].to_string().contains("Number too large"),
        "{problems:?}"
    );
}

#[test]
fn what_is_probably_not_meant_is_told() {
    let warnings = |text: &str| -> Vec<String> {
        let warnings = read(text).unwrap().warnings;
        warnings.iter().map(ToString::to_string).collect()
    };
    let listener = "[[listener]]\ntype = 'ring'\naddress = '10.1.0.2:9090'\n";
    let servers = "director_servers = '10.1.0.2 10.1.0.3'\n";
    let check = "[[health_check]]\nprotocol = 'imap'\n";
    let said = warnings(&format!("{servers}{listener}{check}"));
    assert!(said.iter().any(|it| it.contains("type health")), "{said:?}");
    let votes = "[[listener]]\ntype = 'health'\naddress = '10.1.0.2:9092'\n";
    assert!(warnings(&format!("{servers}{listener}{votes}{check}")).is_empty());
    let login = "user = 'x'\npassword_file = '/x'\n";
    let said = warnings(&format!("{listener}{check}{login}"));
    assert!(said[0].contains("as it is: set tls"), "{said:?}");
}

#[test]
fn a_health_listener_is_one_of_directors() {
    let error = |lines: &str| {
        let problems = read(&format!("[[listener]]\ntype = 'health'\n{lines}")).unwrap_err();
        problems[0].to_string()
    };
    assert!(error("path = '/x'").contains("A health listener needs an address"));
    let said = error("address = '10.1.0.2:1'\nallow = ['::1']");
    assert!(
        said.contains("A health listener accepts the directors of director_servers"),
        "{said}"
    );
}

#[test]
fn a_reload_tells_what_changes() {
    let settings = |text: &str| read(text).unwrap().settings;
    let old =
        settings("[[health_check]]\nprotocol = 'imap'\n[[health_check]]\nprotocol = 'lmtp'\n");
    let new = settings(
        "health_quorum = 2\n[[health_check]]\nprotocol = 'imap'\nrise = 1\n[[health_check]]\nprotocol = 'pop3'\n",
    );
    let changes: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    let expected = [
        "health_quorum: 0 -> 2: changed",
        "health_check: other imap-143: changed",
        "health_check: new pop3-110: changed",
        "health_check: gone lmtp-24: changed",
    ];
    for line in expected {
        assert!(changes.contains(&line.to_owned()), "{line}: {changes:?}");
    }
    assert!(
        diff(&old, &new)
            .iter()
            .all(|it| it.reload != Reload::Restart || it.key == "listener")
    );
    assert!(diff(&old, &old).is_empty());
}
