//! One director after another is replaced, and nobody notices.

use std::thread;
use std::time::Duration;

use crate::e2e::DirectorKind::{self, Dovecot23, Homing};
use crate::rig::{Ring, RingSpec};

const USERS: usize = 1000;
/// For each user to come by at each member.
const A_WHILE: Duration = Duration::from_secs(3);

#[test]
fn from_dovecot_to_homing_and_back() {
    migrate(&[Homing, Dovecot23]);
}

#[test]
fn from_dovecot_to_dovecot_and_back() {
    migrate(&[Dovecot23, Dovecot23]);
}

/// A thousand users log in through all members the whole time.
fn migrate(kinds: &[DirectorKind]) {
    let mut ring = Ring::start_skewed(RingSpec::of("DDD"), USERS);
    let load = ring.load();
    for kind in kinds {
        for number in 0..3 {
            ring.stop(number);
            ring.replace(number, *kind);
            ring.agree();
            thread::sleep(A_WHILE);
        }
    }
    let tally = load.finish();
    assert!(tally.elsewhere > 0, "nobody has missed a member: {tally:?}");
    ring.check_logs(&[]);
}
