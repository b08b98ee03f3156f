//! Ten members: half of them Homing. A ring of ten Dovecots alone is no yardstick here: after three
//! were killed it does not always settle, or forgets users (docs/protocol/ring.md, large rings).

use crate::rig::{Change, Ring, RingSpec, backend};

for_each_ring!(
    ten_members_agree,
    super::ten,
    [half_and_half "DHDHHDHDDH"]
);

fn ten(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    ring.skew(400);
    ring.change(Change::Down(backend(2)));
    ring.agree();
    // Neighbours of each other, and others.
    for gone in [3, 4, 8] {
        ring.kill(gone);
    }
    ring.agree();
    ring.change(Change::Up(backend(2)));
    for back in [4, 8, 3] {
        ring.start_member(back);
    }
    ring.agree();
    ring.check_logs(&[]);
}
