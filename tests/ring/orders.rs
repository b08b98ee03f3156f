//! Whichever member of a mixed ring is given the orders, Homing or Dovecot, all members do the same.
//!
//! Between two orders the ring settles. With two Dovecots in it that is needed: they undo changes of a
//! backend that come while others still have theirs under way (docs/protocol/ring.md, changes in a row).

use std::time::Duration;

use crate::e2e::wait_until;
use crate::rig::{Change, Ring, RingSpec, backend};

for_each_ring!(
    every_order_at_every_member_reaches_all,
    super::orders,
    [hdd "HDD", dhd "DHD", hhd "HHD", dhh "DHH"]
);

const USERS: usize = 120;
/// A line goes round the ring at once; a busy machine takes longer.
const LIMIT: Duration = Duration::from_secs(60);

fn orders(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    ring.add_users("user", USERS);
    ring.agree();
    for number in 0..members.len() {
        ring.order_at(number);
        backends_change(&mut ring);
        users_move(&mut ring, number);
        users_are_kicked(&ring, members, number);
        users_are_flushed(&mut ring);
        ring.check_logs(&[]);
    }
}

/// Adds, updates, takes down, brings up and removes backends.
fn backends_change(ring: &mut Ring) {
    for change in [
        Change::Add(backend(200), 50),
        Change::Update(backend(1), 30),
        Change::Update(backend(1), 100),
        Change::Down(backend(2)),
        Change::Up(backend(2)),
        // Some of the new users are there by now.
        Change::Remove(backend(200)),
    ] {
        ring.change(change);
        ring.agree();
    }
}

/// A user of each backend goes to the next.
fn users_move(ring: &mut Ring, number: usize) {
    // Another one each time: a director takes no second order for a user that is being moved.
    let moves: Vec<_> = (1..=6)
        .map(|from| {
            let users = ring.users_of(backend(from));
            let name = users.get(number).expect("enough users").clone();
            (name, backend(from % 6 + 1))
        })
        .collect();
    for (name, to) in moves {
        ring.move_user(&name, to);
    }
    // The logins in there wait until the moves are over.
    ring.agree();
}

/// Kicked users stay where they are, and every member is told their names. What it then does at its login
/// processes is what the end-to-end tests look at.
fn users_are_kicked(ring: &Ring, members: &str, number: usize) {
    let users = ring.users_of(backend(1));
    let name = users.get(number).expect("enough users");
    ring.doveadm(&["kick", name]);
    for (at, letter) in members.chars().enumerate() {
        if letter == 'D' && at != number {
            // Between them is who ordered it.
            let is_kick = |line: &str| line.contains("input: USER-KICK\t") && line.ends_with(name);
            wait_until("a Dovecot hears of the kick", LIMIT, || {
                ring.debug_of(at).lines().any(is_kick)
            });
        }
    }
    ring.settle();
}

/// Users of a backend that takes no new ones leave it, a backend's users are forgotten and come back where
/// they were, and in the end everybody is where new users go.
fn users_are_flushed(ring: &mut Ring) {
    ring.change(Change::Update(backend(3), 0));
    ring.agree();
    ring.flush(Some(backend(3)));
    ring.agree();
    assert_eq!(ring.users_of(backend(3)), Vec::<String>::new());
    ring.change(Change::Update(backend(3), 100));
    ring.agree();
    ring.forget(backend(4));
    ring.agree();
    ring.flush(None);
    ring.agree();
    assert_eq!(ring.users_away(), Vec::<String>::new());
}
