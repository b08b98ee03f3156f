//! Flush scripts in mixed rings (docs/protocol/kicks.md, flush scripts).

use crate::rig::{Ring, RingSpec, backend, user_hash};

for_each_ring!(
    only_who_was_ordered_runs_the_flush_script,
    super::flushed,
    [hhd "HHD", dhh "DHH"]
);

const USERS: usize = 60;

/// All Homings have a script. A user's move ends on each of them, and is begun by one.
fn flushed(members: &'static str) {
    let mut ring = Ring::start(RingSpec {
        flush: true,
        ..RingSpec::of(members)
    });
    ring.add_users("user", USERS);
    ring.agree();
    let mut expected = Vec::new();
    for (number, letter) in members.chars().enumerate() {
        ring.order_at(number);
        let users = ring.users_of(backend(1));
        let name = users.first().expect("one for each member").clone();
        ring.move_user(&name, backend(2));
        // The logins in there wait until the move is over everywhere, a wrong member's script included.
        ring.agree();
        if letter == 'H' {
            let (hash, old, new) = (user_hash(&name), backend(1), backend(2));
            expected.push((number, format!("FLUSH {hash} {old} {new} up 100")));
        }
        assert_eq!(ring.flushed(), expected, "ordered at member {number}");
    }
    // Whoever was nowhere has left nothing to be flushed.
    ring.order_at(members.find('H').expect("a Homing"));
    ring.move_user("stranger@Example.org", backend(3));
    ring.agree();
    assert_eq!(ring.flushed(), expected);
    ring.check_logs(&[]);
}
