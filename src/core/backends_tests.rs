use proptest::prelude::*;

use super::*;
use crate::core::UserHash;

fn ip(last: u16) -> IpAddr {
    let [high, low] = last.to_be_bytes();
    IpAddr::from([10, 0, high, low])
}

fn new(last: u16, vhosts: u32, tag: &str) -> NewBackend<'_> {
    NewBackend {
        ip: ip(last),
        name: None,
        tag: tag.as_bytes(),
        vhosts,
    }
}

#[test]
fn backends_are_listed_in_address_order() {
    let mut backends = Backends::new();
    for last in [300, 10, 9] {
        backends.add(new(last, 100, "")).unwrap();
    }
    let v6 = NewBackend {
        ip: "::1".parse().unwrap(),
        ..new(0, 1, "v6")
    };
    backends.add(v6).unwrap();
    backends.add(new(1, 100, "")).unwrap();
    let listed: Vec<_> = backends.iter().map(|b| b.ip.to_string()).collect();
    assert_eq!(
        listed,
        ["10.0.0.1", "10.0.0.9", "10.0.0.10", "10.0.1.44", "::1"]
    );
}

#[test]
fn a_refused_change_leaves_the_list_alone() {
    let mut backends = Backends::new();
    backends.add(new(1, 100, "")).unwrap();
    let before = format!("{backends:?}");
    let unknown = BackendError::Unknown(ip(2));
    assert_eq!(
        backends.add(new(1, 5, "x")),
        Err(BackendError::Exists(ip(1)))
    );
    assert_eq!(backends.set_vhosts(ip(2), 1), Err(unknown.clone()));
    assert_eq!(backends.down(ip(2), Wall(1)), Err(unknown.clone()));
    assert_eq!(backends.set_tag(ip(2), b"x"), Err(unknown.clone()));
    assert_eq!(backends.remove(ip(2)), Err(unknown));
    let too_many = BackendError::TooManyVhosts {
        ip: ip(1),
        vhosts: MAX_VHOSTS + 1,
    };
    assert_eq!(
        backends.set_vhosts(ip(1), MAX_VHOSTS + 1),
        Err(too_many.clone())
    );
    assert_eq!(
        too_many.to_string(),
        "vhost count 1000001 of backend 10.0.0.1 is above 1000000"
    );
    assert_eq!(format!("{backends:?}"), before);
}

#[test]
fn a_backend_that_no_line_could_tell_of_is_refused() {
    let mut backends = Backends::new();
    backends.add(new(1, 100, "")).unwrap();
    let before = format!("{backends:?}");
    let too_long = |last| Err(BackendError::NamesTooLong(ip(last)));
    let long = "x".repeat(1000);
    assert_eq!(backends.add(new(2, 100, &long)), too_long(2));
    assert_eq!(
        backends.set_tag(ip(1), long.as_bytes()),
        too_long(1).map(|_| true)
    );
    // Each of these takes two bytes in a line.
    let escaped = "\n".repeat(500);
    assert_eq!(backends.add(new(2, 100, &escaped)), too_long(2));
    assert_eq!(format!("{backends:?}"), before);
    let name = "x".repeat(255);
    let both = NewBackend {
        name: Some(&name),
        ..new(2, 100, &long[..600])
    };
    assert!(backends.add(both).is_ok());
}

#[test]
fn all_weights_together_are_bounded() {
    let mut backends = Backends::new();
    for last in 0..16 {
        backends.add(new(last, MAX_VHOSTS, "")).unwrap();
    }
    let refused = backends.add(new(16, 1, ""));
    let error = BackendError::TooManyPoints {
        ip: ip(16),
        vhosts: 1,
        total: MAX_POINTS + 1,
    };
    assert_eq!(refused, Err(error));
    assert!(backends.set_vhosts(ip(3), MAX_VHOSTS - 1).unwrap());
    backends.add(new(16, 1, "")).unwrap();
}

#[test]
fn slots_run_out_and_come_back_when_released() {
    let mut backends = Backends::new();
    // Built by hand: adding 65,534 backends with all checks would take minutes.
    backends.slots = vec![SlotState::Retired; MAX_BACKENDS];
    assert_eq!(
        backends.add(new(1, 1, "")),
        Err(BackendError::TooManyBackends(ip(1)))
    );
    backends.release_slot(BackendSlot(41)).unwrap();
    assert_eq!(backends.add(new(1, 1, "")), Ok(BackendSlot(41)));
}

#[test]
fn a_removed_backends_slot_waits_for_its_release() {
    let mut backends = Backends::new();
    let first = backends.add(new(1, 1, "")).unwrap();
    assert_eq!(
        backends.release_slot(first),
        Err(BackendError::NotRetired(first))
    );
    backends.remove(ip(1)).unwrap();
    assert_eq!(backends.by_slot(first), None);
    let second = backends.add(new(1, 1, "")).unwrap();
    assert_ne!(first, second);
    backends.release_slot(first).unwrap();
    assert_eq!(
        backends.release_slot(first),
        Err(BackendError::NotRetired(first))
    );
    assert_eq!(backends.add(new(2, 1, "")), Ok(first));
    assert_eq!(backends.by_slot(first).map(|b| b.ip), Some(ip(2)));
    assert!(backends.release_slot(BackendSlot(99)).is_err());
}

#[test]
fn the_change_time_moves_only_with_the_state() {
    let mut backends = Backends::new();
    backends.add(new(1, 1, "")).unwrap();
    let time = |backends: &Backends| backends.find(ip(1)).unwrap().last_updown_change;
    assert_eq!(backends.up(ip(1), Wall(5)), Ok(false));
    assert_eq!(time(&backends), Wall(0));
    assert_eq!(backends.down(ip(1), Wall(6)), Ok(true));
    assert_eq!(backends.down(ip(1), Wall(7)), Ok(false));
    assert_eq!(time(&backends), Wall(6));
    assert_eq!(backends.up(ip(1), Wall(8)), Ok(true));
    assert_eq!(time(&backends), Wall(8));
}

#[test]
fn tags_are_numbered_once_and_bounded() {
    let mut backends = Backends::new();
    assert_eq!(backends.tag_id(b""), Some(TagId(0)));
    assert_eq!(backends.intern_tag(b"east"), Ok(TagId(1)));
    assert_eq!(backends.intern_tag(b""), Ok(TagId(0)));
    assert_eq!(backends.intern_tag(b"east"), Ok(TagId(1)));
    assert_eq!(backends.tag_name(TagId(1)), b"east");
    assert_eq!(backends.tag_id(b"west"), None);
    for n in backends.tags.len()..MAX_TAGS {
        backends.intern_tag(n.to_string().as_bytes()).unwrap();
    }
    assert!(matches!(
        backends.add(new(1, 1, "x")),
        Err(BackendError::TooManyTags(_))
    ));
    assert!(backends.is_empty());
    backends.add(new(1, 1, "east")).unwrap();
}

#[test]
fn rings_hold_what_is_up_under_its_tag() {
    let mut backends = Backends::new();
    let none = backends.add(new(1, 10, "")).unwrap();
    backends.add(new(2, 10, "east")).unwrap();
    backends.down(ip(2), Wall(1)).unwrap();
    let rings = backends.rings();
    assert_eq!(rings.len(), 2);
    assert_eq!(rings[0].lookup(UserHash(1)), Some(none));
    assert_eq!(rings[1].lookup(UserHash(1)), None);
    assert!(backends.set_tag(ip(1), b"east").unwrap());
    assert_eq!(backends.ring(TagId(0)).lookup(UserHash(1)), None);
    assert_eq!(backends.ring(TagId(1)).lookup(UserHash(1)), Some(none));
}

#[test]
fn an_empty_list_hashes_to_one() {
    assert_eq!(Backends::new().hosts_hash(), 1);
}

#[derive(Clone, Debug)]
enum Change {
    Add(u16, u32, u8),
    Vhosts(u16, u32),
    Down(u16, bool),
    Tag(u16, u8),
    Remove(u16),
    Release(u16),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..8u16, 0..50u32, 0..3u8).prop_map(|(a, v, t)| Change::Add(a, v, t)),
        (0..8u16, 0..50u32).prop_map(|(a, v)| Change::Vhosts(a, v)),
        (0..8u16, any::<bool>()).prop_map(|(a, d)| Change::Down(a, d)),
        (0..8u16, 0..3u8).prop_map(|(a, t)| Change::Tag(a, t)),
        (0..8u16).prop_map(Change::Remove),
        (0..12u16).prop_map(Change::Release),
    ]
}

fn apply(backends: &mut Backends, change: &Change) {
    // Refusals are as good as successes: check_invariants() judges after both.
    let _ = match *change {
        Change::Add(a, v, t) => backends
            .add(new(a, v, ["", "east", "west"][t as usize]))
            .is_ok(),
        Change::Vhosts(a, v) => backends.set_vhosts(ip(a), v).is_ok(),
        Change::Down(a, true) => backends.down(ip(a), Wall(1)).is_ok(),
        Change::Down(a, false) => backends.up(ip(a), Wall(1)).is_ok(),
        Change::Tag(a, t) => backends.set_tag(ip(a), &[t]).is_ok(),
        Change::Remove(a) => backends.remove(ip(a)).is_ok(),
        Change::Release(slot) => backends.release_slot(BackendSlot(slot)).is_ok(),
    };
    backends.check_invariants();
}

proptest! {
    #[test]
    fn any_changes_keep_the_list_consistent(
        changes in prop::collection::vec(any_change(), 0..80),
    ) {
        let mut backends = Backends::new();
        for change in &changes {
            apply(&mut backends, change);
        }
        for backend in &backends {
            prop_assert_eq!(backends.by_slot(backend.slot), Some(backend));
        }
        prop_assert_ne!(backends.hosts_hash(), 0);
    }
}
