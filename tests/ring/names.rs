//! A host name among the backends gets and loses addresses.

use std::thread;
use std::time::Duration;

use crate::e2e::{PATIENCE, wait_until};
use crate::rig::{Change, Ring, RingSpec, named};

for_each_ring!(
    backends_of_a_host_name_follow_its_addresses,
    super::follow,
    [h "H", hhd "HHD", dhh "DHH"]
);

const USERS: usize = 160;
/// Lookups come every second, and the last director waits ten seconds.
const LIMIT: Duration = PATIENCE;
/// More than three lookups, and the wait of the last director.
const QUIET: Duration = Duration::from_secs(14);

fn follow(members: &'static str) {
    let spec = RingSpec {
        named: &[1, 2],
        ..RingSpec::of(members)
    };
    let mut ring = Ring::start(spec);
    ring.add_users("user", USERS);

    ring.name_has(&[1, 2, 3]);
    ring.expect(Change::Add(named(3), 100));
    ring.agree();
    thread::sleep(QUIET);
    assert_eq!(
        ring.count_log("it has 10.0.1.3 now"),
        1,
        "one director asks"
    );

    if members.contains('D') {
        let told = ring.count_debug("\t10.0.1.3\t100\t\tU0\tmail.homing.test");
        assert!(told > 0, "Dovecot hears of the name too");
    }

    // Its users stay where they are, and new ones go elsewhere.
    assert!(!ring.users_of(named(1)).is_empty());
    ring.name_has(&[2, 3]);
    ring.expect(Change::Update(named(1), 0));
    ring.agree();
    thread::sleep(QUIET);
    ring.agree();
    assert_eq!(ring.count_log("10.0.1.1 was missing from 3 lookups"), 1);
    assert_eq!(ring.count_log("10.0.1.1 has no users"), 0);
    for name in ring.users_of(named(1)) {
        ring.move_user(&name, named(2));
    }
    ring.expect(Change::Remove(named(1)));
    ring.agree();
    wait_until("one director says why", LIMIT, || {
        ring.count_log("10.0.1.1 has no users") > 0
    });
    assert_eq!(ring.count_log("10.0.1.1 has no users"), 1);

    ring.name_has(&[]);
    let homings = members.matches('H').count();
    let said = |text: &str| ring.count_log(text) == homings;
    wait_until("all tell that the name has gone", LIMIT, || {
        said("host name mail.homing.test cannot be looked up")
    });
    thread::sleep(Duration::from_secs(5));
    ring.settle();
    assert!(said("host name mail.homing.test cannot be looked up"));
    ring.name_has(&[2, 3]);
    wait_until("all tell that the name is back", LIMIT, || {
        said("host name mail.homing.test: can be looked up again")
    });
    ring.settle();
    ring.check_logs(&["host name mail.homing.test"]);
}
