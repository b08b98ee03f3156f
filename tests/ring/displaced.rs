//! A left that does not hear that it was told to leave (docs/protocol/ring.md, connections).

use std::time::Duration;

use crate::e2e::wait_until;
use crate::rig::{Ring, RingSpec};
use crate::start::ALONE;

// Dovecot waits until such a left is found to be silent, so it is no control.
for_each_ring!(
    a_left_that_does_not_hear_makes_room,
    super::displaced,
    [hdd "HDD", hhd "HHD", hdh "HDH"]
);

/// What Homing then says.
const STAYED: &str = "closed: CONNECT requested, but it stayed";
/// It takes 4 s from the third's handshake, and 10 s from CONNECT at most; a busy machine takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// The first member is a Homing. Its left is the second, until the third comes: then that one is, but the
/// second, whose process is stopped, has not read that it is to leave.
fn displaced(members: &'static str) {
    let mut ring = Ring::new(RingSpec::of(members));
    ring.start_member(0);
    ring.start_member(1);
    ring.add_users("user", 60);
    ring.agree();
    ring.pause(1);
    ring.start_member(2);
    wait_until("the left is closed", LIMIT, || ring.count_log(STAYED) > 0);
    ring.resume(1);
    ring.agree();
    ring.check_logs(&ALONE);
}
