//! HOST lines: the recorded ones, every row of the rules.

use proptest::prelude::*;

use super::*;

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn line(last: u8, vhosts: u32) -> HostLine<'static> {
    HostLine {
        ip: ip(last),
        vhosts,
        tag: b"",
        down: false,
        changed: Wall(0),
        name: None,
    }
}

fn down(line: HostLine<'_>, when: u64) -> HostLine<'_> {
    HostLine {
        down: true,
        changed: Wall(when),
        ..line
    }
}

/// 10.0.0.1 and 10.0.0.10 with 100 vhosts each, in sync.
fn two() -> Backends {
    let mut backends = Backends::new();
    for last in [1, 10] {
        backends.merge(&line(last, 100), true, 0).unwrap();
    }
    backends.all_synced();
    backends
}

fn changed(teller: Teller) -> Merged {
    Merged::Changed {
        teller,
        created: false,
        retired: None,
    }
}

#[test]
fn a_new_backend_that_is_up_has_never_changed() {
    let mut backends = Backends::new();
    let new = HostLine {
        tag: b"east",
        changed: Wall(500),
        name: Some("mail1"),
        ..line(1, 0)
    };
    let created = Merged::Changed {
        teller: Teller::Origin,
        created: true,
        retired: None,
    };
    assert_eq!(backends.merge(&new, true, 0), Ok(created));
    let stored = backends.find(ip(1)).expect("known now");
    assert_eq!((stored.vhosts, stored.down), (0, false));
    assert_eq!(stored.last_updown_change, Wall(0), "T13");
    assert_eq!(stored.name.as_deref(), Some("mail1"));
    assert_eq!(backends.tag_name(stored.tag), b"east");
    assert!(stored.desynced);
    backends.merge(&down(line(2, 7), 500), false, 0).unwrap();
    let stored = backends.find(ip(2)).expect("known now");
    assert_eq!(stored.last_updown_change, Wall(500));
    assert!(stored.down && !stored.desynced, "nobody else to agree with");
}

#[test]
fn recorded_a_line_that_says_nothing_new_goes_no_further() {
    let mut backends = two();
    let newer = HostLine {
        changed: Wall(900),
        name: Some("another"),
        ..line(1, 100)
    };
    assert_eq!(backends.merge(&newer, true, 0), Ok(Merged::Unchanged));
    let stored = backends.find(ip(1)).expect("known");
    assert_eq!(stored.last_updown_change, Wall(0));
    assert!(stored.name.is_none() && !stored.desynced);
}

#[test]
fn recorded_changes_that_cross_end_on_the_lower_weight() {
    let mut backends = two();
    let first = backends.merge(&line(10, 7), true, 0);
    assert_eq!(first, Ok(changed(Teller::Origin)));
    let crossing = backends.merge(&line(10, 20), true, 0);
    assert_eq!(crossing, Ok(changed(Teller::Ourselves)));
    assert_eq!(backends.find(ip(10)).expect("known").vhosts, 7);
    backends.all_synced();
    let later = backends.merge(&line(10, 20), true, 0);
    assert_eq!(later, Ok(changed(Teller::Origin)));
    assert_eq!(backends.find(ip(10)).expect("known").vhosts, 20);
}

#[test]
fn a_change_by_who_knew_of_the_last_one_crosses_nothing() {
    let mut backends = two();
    backends.merge(&line(10, 7), true, 0).unwrap();
    let before = backends.changes();
    backends.merge(&line(10, 9), true, before).unwrap();
    assert_eq!(backends.find(ip(10)).expect("known").vhosts, 9);
    // That one was not agreed to.
    let crossing = backends.merge(&line(10, 20), true, before);
    assert_eq!(crossing, Ok(changed(Teller::Ourselves)));
    assert_eq!(backends.find(ip(10)).expect("known").vhosts, 9);
    let now = backends.changes();
    let later = backends.merge(&line(10, 20), true, now);
    assert_eq!(later, Ok(changed(Teller::Origin)));
    assert_eq!(backends.find(ip(10)).expect("known").vhosts, 20);
    backends.mark_ordered(ip(10), true);
    let ours = backends.merge(&line(10, 30), true, now);
    assert_eq!(ours, Ok(changed(Teller::Ourselves)));
    assert_eq!(backends.find(ip(10)).expect("known").vhosts, 20);
}

#[test]
fn of_crossing_states_the_newer_wins_and_of_one_second_down() {
    for (when, is_down) in [(499, true), (500, true), (501, false)] {
        let mut backends = two();
        backends.merge(&down(line(1, 100), 500), true, 0).unwrap();
        let up = HostLine {
            changed: Wall(when),
            ..line(1, 100)
        };
        let merged = backends.merge(&up, true, 0);
        assert_eq!(merged, Ok(changed(Teller::Ourselves)), "{when}");
        let stored = backends.find(ip(1)).expect("known");
        assert_eq!(stored.down, is_down, "{when}");
        assert_eq!(stored.last_updown_change, Wall(when.max(500)));
    }
    // In sync the line counts, and the time still never goes back.
    let mut backends = two();
    backends.merge(&down(line(1, 100), 500), true, 0).unwrap();
    backends.all_synced();
    backends.merge(&line(1, 100), true, 0).unwrap();
    let stored = backends.find(ip(1)).expect("known");
    assert!(!stored.down && stored.last_updown_change == Wall(500));
}

#[test]
fn another_tag_forgets_the_users() {
    let mut backends = two();
    let old = backends.find(ip(1)).expect("known").slot;
    let tagged = HostLine {
        tag: b"east",
        ..line(1, 100)
    };
    let merged = backends.merge(&tagged, true, 0);
    let retired = Merged::Changed {
        teller: Teller::Origin,
        created: false,
        retired: Some(old),
    };
    assert_eq!(merged, Ok(retired));
    assert!(backends.by_slot(old).is_none());
    let stored = backends.find(ip(1)).expect("known");
    assert_eq!(backends.tag_name(stored.tag), b"east");
    assert_ne!(stored.slot, old);
    backends.release_slot(old).expect("retired");
}

#[test]
fn a_line_that_is_refused_changes_nothing() {
    let mut backends = two();
    let before = format!("{backends:?}");
    for vhosts in [super::super::MAX_VHOSTS + 1, u32::MAX] {
        for last in [1, 99] {
            assert!(backends.merge(&line(last, vhosts), true, 0).is_err());
            assert_eq!(format!("{backends:?}"), before);
        }
    }
    let tag = [b'x'; 1000];
    for last in [1, 99] {
        let long = HostLine {
            tag: &tag,
            ..line(last, 100)
        };
        let refused = BackendError::NamesTooLong(ip(last));
        assert_eq!(backends.merge(&long, true, 0), Err(refused));
        assert_eq!(format!("{backends:?}"), before);
    }
}

#[test]
fn a_name_that_would_break_replies_is_no_name() {
    for (name, taken) in [
        (&b"mail1.example.com"[..], true),
        (b"mail\thost=10.9.9.9", false),
        (b"mail\n", false),
        (b"ma il", false),
        (b"\xff", false),
        (&[b'x'; 255], true),
        (&[b'x'; 256], false),
    ] {
        let host = Host {
            ip: ip(1),
            vhosts: 1,
            tag: b"".as_slice().into(),
            down: false,
            changed: 5,
            name: Some(name.into()),
        };
        assert_eq!(HostLine::from(&host).name.is_some(), taken, "{name:?}");
    }
}

fn a_line() -> impl Strategy<Value = HostLine<'static>> {
    let tag = prop::sample::select(vec![&b""[..], b"east"]);
    (1u8..3, 0u32..5, tag, any::<bool>(), 0u64..4).prop_map(|(last, vhosts, tag, down, when)| {
        HostLine {
            tag,
            down,
            changed: Wall(when),
            ..line(last, vhosts)
        }
    })
}

proptest! {
    #[test]
    fn merging_keeps_the_list_whole(lines in prop::collection::vec((a_line(), any::<bool>()), 1..20)) {
        let mut backends = Backends::new();
        for (line, synced) in lines {
            let before = backends.hosts_hash();
            let stamp = backends.find(line.ip).map(|backend| backend.last_updown_change);
            let merged = backends.merge(&line, true, 0).unwrap();
            let stored = backends.find(line.ip).expect("known now");
            prop_assert!(stamp.is_none_or(|stamp| stored.last_updown_change >= stamp));
            if merged == Merged::Unchanged {
                prop_assert_eq!(before, backends.hosts_hash());
            } else {
                prop_assert!(stored.desynced);
            }
            if synced {
                backends.all_synced();
            }
        }
    }

    /// Two directors change one weight at the same time, and each hears of the other's.
    #[test]
    fn crossing_weights_agree(a in 0u32..200, b in 0u32..200) {
        let hear = |first: u32, second: u32| {
            let mut backends = two();
            backends.merge(&line(1, first), true, 0).unwrap();
            backends.merge(&line(1, second), true, 0).unwrap();
            backends.hosts_hash()
        };
        prop_assume!(a != 100 && b != 100);
        prop_assert_eq!(hear(a, b), hear(b, a));
    }
}
