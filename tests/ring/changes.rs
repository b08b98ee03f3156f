//! What an administrator does at one member, all do.

use crate::rig::{Change, Ring, RingSpec, backend};

for_each_ring!(
    host_changes_reach_all_members,
    super::host_changes,
    [ddd "DDD", hdd "HDD", hhd "HHD"]
);
for_each_ring!(
    a_moved_user_logs_in_at_its_new_backend,
    super::moved_users,
    [ddd "DDD", hdd "HDD", hhd "HHD"]
);

const USERS: usize = 120;
const MOVED: usize = 6;

fn host_changes(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    ring.add_users("user", USERS);
    ring.agree();
    for change in [
        Change::Update(backend(1), 0),
        Change::Update(backend(2), 300),
        Change::Down(backend(3)),
        Change::Add(backend(200), 50),
        Change::Remove(backend(4)),
        Change::Up(backend(3)),
        Change::Update(backend(1), 100),
        Change::Add(backend(4), 100),
    ] {
        ring.change(change);
        ring.agree();
    }
    ring.check_logs(&[]);
}

fn moved_users(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    let users = ring.add_users("user", USERS);
    ring.agree();
    for name in users.iter().take(MOVED) {
        let from = ring.backend_of(name);
        let to = if from == backend(1) {
            backend(2)
        } else {
            backend(1)
        };
        ring.move_user(name, to);
    }
    // The logins in there wait until the moves are over.
    ring.agree();
    ring.check_logs(&[]);
}
