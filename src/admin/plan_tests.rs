//! Plans against the definition, on lists and users of any kind.

use super::*;
use proptest::prelude::*;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn host(last: u8, vhosts: u32, tag: &str, down: bool) -> Host {
    Host {
        ip: ip(last),
        vhosts,
        users: 0,
        tag: tag.as_bytes().to_vec(),
        down,
        last_updown_change: 0,
    }
}

fn user(hash: u32, last: u8) -> UserRow {
    UserRow {
        hash,
        expires: 1,
        ip: ip(last),
    }
}

fn add(tag: Option<&str>, vhosts: Option<u32>) -> Change {
    let tag = tag.map(|tag| tag.as_bytes().to_vec());
    Change::Add { tag, vhosts }
}

#[test]
fn changes_are_those_of_a_director() {
    let now = [host(1, 50, "a", true)];
    let made = |last, change| changed(&now, ip(last), &change);
    let only = |vhosts, down| Ok(vec![host(1, vhosts, "a", down)]);
    assert_eq!(made(1, Change::Up), only(50, false));
    assert_eq!(made(1, Change::Update(7)), only(7, true));
    assert_eq!(made(1, add(None, None)), only(50, true));
    assert_eq!(made(1, add(Some("a"), Some(8))), only(8, true));
    assert!(matches!(
        made(1, add(Some("b"), None)),
        Err(Refused::Not(_))
    ));
    assert_eq!(made(1, Change::Remove), Ok(Vec::new()));
    assert_eq!(made(2, Change::Down), Err(Refused::Unknown));
    let two = made(2, add(Some("b"), None)).expect("a new one");
    assert_eq!(two[1], host(2, 100, "b", false));
}

#[test]
fn a_removed_backends_users_are_forgotten_and_others_move_only_by_a_flush() {
    let now = [host(1, 100, "", false), host(2, 100, "", false)];
    let rings = Rings::new(&now).expect("small");
    // One user of each backend where the ring wants it, and one of the second on the first.
    let hash = |last| {
        (1..)
            .find(|h| rings.place(b"", *h) == Some(ip(last)))
            .expect("half of all")
    };
    let users = [user(hash(1), 1), user(hash(2), 2), user(hash(2), 1)];
    let then = changed(&now, ip(1), &Change::Remove).expect("known");
    let plan = plan(&now, &then, &users).expect("small");
    assert_eq!((plan.active, plan.flush_today), (3, 1));
    assert_eq!(plan.flush, []);
    assert_eq!(plan.forgotten.len(), 1);
    assert_eq!(plan.forgotten[0].users, 2);
    assert_eq!(plan.forgotten[0].to, Some(ip(2)));
    assert_eq!(plan.placement[0].users, 1);
    assert!((plan.loads[1].share_after - 1.0).abs() < 1e-9);
    assert_eq!((plan.loads[1].users, plan.loads[1].flushed), (1, 3));
}

#[test]
fn a_tag_without_a_usable_backend_places_nobody() {
    let now = [host(1, 100, "", false), host(2, 100, "t", false)];
    let users = [user(5, 1), user(5, 2), user(6, 2), user(7, 99)];
    let then = changed(&now, ip(2), &Change::Down).expect("known");
    let plan = plan(&now, &then, &users).expect("small");
    // The one on 10.0.0.99 is on a backend that nobody knows.
    assert_eq!(plan.active, 3);
    assert_eq!(plan.flush.len(), 1);
    assert_eq!((plan.flush[0].to, plan.flush[0].users), (None, 2));
    assert_eq!(plan.flush[0].tag, b"t");
    assert!((plan.placement[0].share - 1.0).abs() < 1e-9);
}

#[test]
fn too_large_a_list_is_refused() {
    let now = [host(1, u32::MAX, "", false)];
    assert!(plan(&now, &now, &[]).is_err());
}

fn any_hosts() -> impl Strategy<Value = Vec<Host>> {
    let one = (0..40u32, prop::sample::select(vec!["", "t"]), any::<bool>());
    prop::collection::btree_map(1..9u8, one, 0..8).prop_map(|map| {
        let of =
            |(last, (vhosts, tag, down)): (u8, (u32, &str, bool))| host(last, vhosts, tag, down);
        map.into_iter().map(of).collect()
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        prop::option::of(0..40u32).prop_map(|vhosts| add(None, vhosts)),
        (0..40u32).prop_map(Change::Update),
        Just(Change::Up),
        Just(Change::Down),
        Just(Change::Remove),
    ]
}

proptest! {
    #[test]
    fn every_user_is_counted_where_it_belongs(
        now in any_hosts(),
        change in any_change(),
        at in 1..9u8,
        users in prop::collection::vec((any::<u32>(), 1..9u8), 0..60),
    ) {
        let Ok(then) = changed(&now, ip(at), &change) else { return Ok(()) };
        let users: Vec<_> = users.into_iter().map(|(hash, last)| user(hash, last)).collect();
        let plan = plan(&now, &then, &users).expect("small");
        let (before, after) = (Rings::new(&now).expect("small"), Rings::new(&then).expect("small"));
        let mut counted = [0; 5];
        for user in &users {
            let Some(host) = now.iter().find(|host| host.ip == user.ip) else { continue };
            let was = before.place(&host.tag, user.hash);
            let will = after.place(&host.tag, user.hash);
            let gone = !then.iter().any(|host| host.ip == user.ip);
            counted[0] += 1;
            counted[1] += u64::from(was != will);
            counted[2] += u64::from(!gone && will != Some(user.ip));
            counted[3] += u64::from(gone);
            counted[4] += u64::from(was != Some(user.ip));
        }
        let sum = |flows: &[Flow]| flows.iter().map(|flow| flow.users).sum::<u64>();
        prop_assert_eq!(counted, [
            plan.active, sum(&plan.placement), sum(&plan.flush), sum(&plan.forgotten), plan.flush_today,
        ]);
        prop_assert_eq!(plan.loads.iter().map(|load| load.users).sum::<u64>(), plan.active);
        for tag in [&b""[..], b"t"] {
            let total = |share: fn(&Load) -> f64| {
                plan.loads.iter().filter(|load| load.tag == tag).map(share).sum::<f64>()
            };
            for (total, ring) in [
                (total(|load| load.share), &before),
                (total(|load| load.share_after), &after),
            ] {
                let expected = if ring.place(tag, 1).is_some() { 1.0 } else { 0.0 };
                prop_assert!((total - expected).abs() < 1e-9, "{total}");
            }
        }
    }
}

proptest! {
    // Each looks up thousands of users.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn shares_are_what_many_users_would_show(now in any_hosts(), at in 1..9u8) {
        let Ok(then) = changed(&now, ip(at), &Change::Down) else { return Ok(()) };
        // Evenly spread hashes stand for all users.
        const STEP: usize = 1 << 18;
        let tag = now.iter().find(|host| host.ip == ip(at)).expect("known").tag.clone();
        let (before, after) = (Rings::new(&now).expect("small"), Rings::new(&then).expect("small"));
        let hashes = (0..=u32::MAX).step_by(STEP);
        let moved = hashes.filter(|h| before.place(&tag, *h) != after.place(&tag, *h)).count();
        let moved = moved as f64 * STEP as f64 / ALL_HASHES as f64;
        let plan = plan(&now, &then, &[]).expect("small");
        let share: f64 = plan.placement.iter().map(|flow| flow.share).sum();
        prop_assert!((share - moved).abs() < 0.02, "{share} {moved}");
    }
}
