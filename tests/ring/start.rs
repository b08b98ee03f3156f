//! Members find each other, in whatever order they start.

use crate::rig::{Ring, RingSpec};

for_each_ring!(
    members_agree_in_every_start_order,
    super::every_start_order,
    [ddd "DDD", hdd "HDD", hhd "HHD", hhh "HHH"]
);
for_each_ring!(
    a_lone_member_is_joined_by_the_others,
    super::joined,
    [ddd "DDD", hdd "HDD", dhh "DHH", hhh "HHH"]
);

/// What one says that serves without the others, and before.
pub(crate) const ALONE: [&str; 4] = [
    "we must be the only director left",
    "Delaying all requests until all directors have connected",
    "Directors have been connected, continuing delayed requests",
    "no other director can be reached: serving alone",
];
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

fn every_start_order(members: &'static str) {
    for order in ORDERS {
        let mut ring = Ring::new(RingSpec::of(members));
        for number in order {
            ring.start_member(number);
        }
        ring.add_users("user", 60);
        ring.agree();
        ring.check_logs(&[]);
    }
}

/// The first one serves when it has looked for the others in vain for a while.
fn joined(members: &'static str) {
    let mut ring = Ring::new(RingSpec::of(members));
    ring.start_member(0);
    ring.add_users("early", 200);
    ring.agree();
    for number in [1, 2] {
        ring.start_member(number);
        ring.agree();
    }
    ring.check_logs(&ALONE);
}
