//! Members find each other, in whatever order they start.

use crate::rig::{Ring, RingSpec};

for_each_ring!(
    members_agree_in_every_start_order,
    super::every_start_order,
    [ddd "DDD", hdd "HDD", hhd "HHD", hhh "HHH"]
);

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
