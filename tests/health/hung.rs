//! A Dovecot whose processes stand still: the kernel still takes its connections.

use crate::backends::{dovecot, freeze};
use crate::checks::{CHECKS, all_checks, spec};
use crate::e2e::{Site, Version};
use crate::homing::Homing;

#[test]
fn a_2_3_that_hangs_is_found_out_by_all_checks_but_a_connection() {
    hangs(Version::V23);
}

#[test]
fn a_2_4_that_hangs_is_found_out_by_all_checks_but_a_connection() {
    hangs(Version::V24);
}

fn hangs(version: Version) {
    let site = Site::new();
    let _good = dovecot(&site, 11, version, "");
    let other = dovecot(&site, 12, version, "");
    let homing = Homing::start(&spec(&site, &[11, 12], all_checks(&site)));
    let second = site.address(12);
    for check in CHECKS {
        homing.wait_state(second, check, "up");
    }
    freeze(&other, true);
    for check in CHECKS.into_iter().filter(|check| *check != "tcp") {
        homing.wait_state(second, check, "down");
        let health = homing.health(second, check);
        assert!(health.error.ends_with(" within 4 s"), "{check}: {health:?}");
    }
    assert_eq!(
        homing.health(second, "imap").error,
        "no greeting within 4 s"
    );
    homing.wait_down(second, true);
    assert_eq!(homing.health(second, "tcp").state, "up");
    freeze(&other, false);
    homing.wait_down(second, false);
}
