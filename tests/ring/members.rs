//! Directors are removed from the ring and added to it while it works, by doveadm at any of the others.

use std::net::Ipv4Addr;

use crate::e2e::{PATIENCE, wait_until};
use crate::rig::{Ring, RingSpec};
use crate::start::ALONE;

for_each_ring!(
    a_member_is_removed_and_added_again,
    super::removed,
    [ddd "DDD", hdd "HDD", hhd "HHD", hhh "HHH"]
);
for_each_ring!(
    a_member_that_is_there_is_removed,
    super::removed_alive,
    [hdd "HDD", ddh "DDH", hhd "HHD", dhh "DHH", hhh "HHH"]
);

/// What one says that was removed, and the others about it.
const REMOVED: [&str; 5] = [
    ALONE[0],
    ALONE[3],
    "Removing from ring",
    "refused: it is not in the list",
    "Server not listed in director_servers, dropping",
];
const USERS: usize = 60;
const PORT: &str = "9090";

/// A member has ended for good: nobody dials it any more, until it is added and comes back.
fn removed(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    ring.add_users("user", USERS);
    ring.agree();
    for gone in 0..members.len() {
        let address = ring.addresses()[gone];
        ring.stop(gone);
        ring.agree();
        ring.order_at(ring.up()[0]);
        ring.doveadm(&["ring", "remove", &address.to_string(), PORT]);
        all_list(&ring, address, false);
        ring.agree();
        ring.order_at(ring.up()[1]);
        ring.doveadm(&["ring", "add", &address.to_string(), PORT]);
        all_list(&ring, address, true);
        ring.start_member(gone);
        ring.agree();
        ring.check_logs(&[]);
    }
}

/// The others let go of it, and know it no more. It serves on its own, until it is ended.
fn removed_alive(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    ring.add_users("user", USERS);
    ring.agree();
    let address = ring.addresses()[2];
    ring.order_at(0);
    ring.doveadm(&["ring", "remove", &address.to_string(), PORT]);
    ring.left_to_itself(2);
    all_list(&ring, address, false);
    ring.agree();
    ring.stop_left(2);
    ring.doveadm(&["ring", "add", &address.to_string(), PORT]);
    ring.start_member(2);
    ring.agree();
    ring.check_logs(&REMOVED);
}

/// Waits until all that are up have a director in their lists, or none.
fn all_list(ring: &Ring, address: Ipv4Addr, wanted: bool) {
    wait_until("all know who is a member", PATIENCE, || {
        let has = |number| ring.listed_at(number).contains(&address);
        ring.up().into_iter().all(|number| has(number) == wanted)
    });
}
