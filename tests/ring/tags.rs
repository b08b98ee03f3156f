//! Users with a director tag are on backends with that tag only, and all members know it.

use std::net::Ipv4Addr;

use crate::rig::{Change, Ring, RingSpec, TAGGED, backend};

for_each_ring!(
    tagged_users_stay_on_tagged_backends,
    super::tags,
    [ddd "DDD", hdd "HDD", hhd "HHD", dhh "DHH", hhh "HHH"]
);

const USERS: usize = 60;
/// The others, 1 to 4, have none.
const WITH_TAG: &[u8] = &[5, 6];

fn tags(members: &'static str) {
    let spec = RingSpec {
        tagged: WITH_TAG,
        ..RingSpec::of(members)
    };
    let mut ring = Ring::start(spec);
    ring.add_users("user", USERS);
    ring.add_users(TAGGED, USERS);
    ring.agree();
    all_are_where_they_may_be(&ring);

    // Only the other backend of the tag can take them.
    ring.change(Change::Update(backend(5), 0));
    ring.agree();
    ring.flush(Some(backend(5)));
    ring.agree();
    assert_eq!(ring.users_of(backend(5)), Vec::<String>::new());
    all_are_where_they_may_be(&ring);

    ring.change(Change::Update(backend(5), 100));
    ring.agree();
    let name = ring.users_of(backend(6)).remove(0);
    ring.move_user(&name, backend(5));
    ring.agree();
    ring.change(Change::Remove(backend(6)));
    ring.add_users(&format!("{TAGGED}more"), USERS);
    ring.agree();
    all_are_where_they_may_be(&ring);
    ring.check_logs(&[]);
}

/// As every member says.
fn all_are_where_they_may_be(ring: &Ring) {
    let with_tag: Vec<Ipv4Addr> = WITH_TAG.iter().copied().map(backend).collect();
    for number in ring.up() {
        let places = ring.places_at(number);
        for (name, at) in places {
            let is_tagged = with_tag.contains(&at);
            assert_eq!(name.starts_with(TAGGED), is_tagged, "{name} on {at}");
        }
    }
}
