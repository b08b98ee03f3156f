//! What an administrator does at one member, all do.

use crate::rig::{Change, Ring, RingSpec, backend};

for_each_ring!(
    host_changes_reach_all_members,
    super::host_changes,
    [hdd "HDD", hhd "HHD", hhh "HHH"]
);
for_each_ring!(
    a_moved_user_logs_in_at_its_new_backend,
    super::moved_users,
    [hdd "HDD", hhd "HHD", hhh "HHH"]
);
for_each_ring!(
    every_member_tells_how_the_ring_is,
    super::statuses,
    [hdd "HDD", hhh "HHH"]
);

// The member that is told is the first one. A Dovecot among other Dovecots loses changes
// (docs/protocol/ring.md, changes in a row), so there is no control.
for_each_ring!(
    of_changes_in_a_row_the_last_one_counts,
    super::in_a_row,
    [dhh "DHH", hdd "HDD", hhd "HHD", hhh "HHH", hddhdd "HDDHDD"]
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

fn in_a_row(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    // A crossing change would win by its lower weight.
    for burst in 1..=20 {
        let weights: Vec<u32> = (0..6).map(|n| burst + 10 * n).collect();
        ring.change_in_a_row(0, backend(1), &weights);
        ring.settle();
    }
    ring.agree();
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

/// `ring status` of each member, but for times and counters.
fn statuses(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    ring.add_users("user", USERS);
    ring.agree();
    let addresses = ring.addresses();
    for number in ring.up() {
        let said = ring.doveadm_at(number, &["-f", "tab"], &["ring", "status"]);
        let count = addresses.len();
        let (left, right) = ((number + count - 1) % count, (number + 1) % count);
        let mut rows: Vec<_> = said.lines().skip(1).map(shape).collect();
        let wanted =
            |at: usize, kind: &str, rest: &str| format!("{} 9090 {kind} T {rest}", addresses[at]);
        let seen = "synced N N N N N T T";
        let mut expected = vec![
            wanted(number, "self", "ring synced N - - - - - -"),
            wanted(left, "left", seen),
            wanted(right, "right", seen),
        ];
        rows.sort_unstable();
        expected.sort_unstable();
        assert_eq!(rows, expected, "member {number} of {members}: {said}");
    }
}

/// Fields with `N` for a number behind the status, and `T` for a time.
fn shape(row: &str) -> String {
    let field = |(at, field): (usize, &str)| match (at, field) {
        (3 | 10 | 11, "-") => "-".to_owned(),
        (3 | 10 | 11, _) => "T".to_owned(),
        (5..=9, number) if number.parse::<u64>().is_ok() => "N".to_owned(),
        _ => field.to_owned(),
    };
    let fields: Vec<_> = row.split('\t').enumerate().map(field).collect();
    fields.join(" ")
}
