//! Checks over TLS and STARTTLS, with certificates that are right and wrong.

use std::fs;

use crate::authority::{Authority, expired};
use crate::backends::{PORTS, dovecot};
use crate::checks::spec;
use crate::e2e::{Site, Version};
use crate::homing::Homing;

const IMAPS: u16 = 1993;

/// Lines that give a backend a certificate.
fn with_certificate(site: &Site, host: u8, pair: &(String, String)) -> String {
    let write = |what: &str, text: &str| {
        let path = site.path().join(format!("b{host}.{what}.pem"));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    format!(
        "\nssl = yes\nssl_cert = <{}\nssl_key = <{}\nservice imap-login {{\n  inet_listener imaps \
         {{\n    port = {IMAPS}\n    ssl = yes\n  }}\n}}\n",
        write("cert", &pair.0),
        write("key", &pair.1)
    )
}

#[test]
fn certificates_are_verified_unless_the_settings_say_otherwise() {
    let site = Site::new();
    let authority = Authority::new();
    let other = Authority::new();
    let address = |host| site.address(host).into();
    let right = authority.give(address(11));
    let of_another_address = authority.give(address(99));
    let of_another_authority = other.give(address(13));
    let too_old = authority.give_with(address(14), expired);
    let pairs = [
        (11, right),
        (12, of_another_address),
        (13, of_another_authority),
        (14, too_old),
    ];
    let backends: Vec<_> = pairs
        .iter()
        .map(|(host, pair)| {
            dovecot(
                &site,
                *host,
                Version::V23,
                &with_certificate(&site, *host, pair),
            )
        })
        .collect();
    let ca = site.path().join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let password = site.path().join("password");
    fs::write(&password, &site.password).unwrap();
    let rest =
        format!("interval = \"5 s\"\nfall = 1\nuser = \"probe\"\npassword_file = {password:?}\n");
    let verified = format!("tls_ca = {ca:?}\n{rest}");
    let checks = [
        (
            "imaps",
            format!("protocol = \"imap\"\nport = {IMAPS}\ntls = \"yes\"\n{verified}"),
        ),
        (
            "imap-starttls",
            format!(
                "protocol = \"imap\"\nport = {}\ntls = \"starttls\"\n{verified}",
                PORTS.imap
            ),
        ),
        (
            "pop3-stls",
            format!(
                "protocol = \"pop3\"\nport = {}\ntls = \"starttls\"\n{verified}",
                PORTS.pop3
            ),
        ),
        (
            "anybody",
            format!(
                "protocol = \"imap\"\nport = {IMAPS}\ntls = \"yes\"\ntls_verify = false\n{rest}"
            ),
        ),
    ]
    .map(|(name, text)| format!("[[health_check]]\nname = \"{name}\"\n{text}"))
    .concat();
    let homing = Homing::start(&spec(&site, &[11, 12, 13, 14], checks));
    for (host, fault) in [
        (11, ""),
        (12, "not valid for name"),
        // Both authorities have one name.
        (13, "BadSignature"),
        (14, "expired"),
    ] {
        let ip = site.address(host);
        homing.wait_state(ip, "anybody", "up");
        for check in ["imaps", "imap-starttls", "pop3-stls"] {
            let state = if fault.is_empty() { "up" } else { "down" };
            homing.wait_state(ip, check, state);
            let health = homing.health(ip, check);
            assert!(health.error.contains(fault), "{host} {check}: {health:?}");
        }
    }
    // Three of four have failed, and two must serve.
    crate::e2e::wait_until("two are down", crate::e2e::PATIENCE, || {
        homing.down().len() == 2
    });
    assert!(!homing.is_down(site.address(11)));
    drop(backends);
}
