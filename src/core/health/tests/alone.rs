//! One director.

use super::*;

fn world(backends: u8) -> World {
    World::new(1, backends, &policy())
}

#[test]
fn a_backend_that_fails_is_taken_down_emptied_and_brought_back() {
    let mut world = world(4);
    world.run(5);
    assert_eq!(world.orders(), 0);
    world.fail(2);
    world.run(SOON);
    assert_eq!(world.down(0), [2]);
    let down = Request::Order(Order::Down(ip(2)));
    let flush = Request::ResetUsers {
        host: Some(ip(2)),
        max: None,
    };
    assert_eq!(world.nodes[0].ordered, [down, flush], "in this order");
    assert_eq!(world.decision(0, 2), "down by health");
    world.mend(2);
    world.run(SOON);
    assert_eq!(world.down(0), [0u8; 0]);
    assert_eq!(world.decision(0, 2), "in service");
    assert_eq!(world.nodes[0].health.marks().get(ip(2)).kind, Kind::Auto);
    assert_eq!(world.orders(), 3);
}

#[test]
fn one_that_only_stumbles_is_left_alone() {
    let mut world = world(4);
    for _ in 0..10 {
        world.fail(1);
        world.run(2);
        world.mend(1);
        world.run(2);
    }
    assert_eq!(world.orders(), 0);
}

#[test]
fn users_that_stay_are_ordered_to_leave_again() {
    let mut world = world(4);
    world.fail(1);
    world.run(SOON);
    assert_eq!(world.orders(), 2);
    world.nodes[0].list.get_mut(&ip(1)).unwrap().users = 3;
    world.run(FLUSH_AGAIN / Mono::SECOND / 2);
    assert_eq!(world.orders(), 2, "not at once");
    world.run(FLUSH_AGAIN / Mono::SECOND);
    assert_eq!(world.orders(), 3);
}

#[test]
fn the_floor_keeps_a_share_of_each_tag_in_service() {
    let mut world = world(4);
    for (n, backend) in world.nodes[0].list.values_mut().enumerate() {
        backend.tag = if n < 2 { b"a".to_vec() } else { b"b".to_vec() };
    }
    world.run(2);
    world.fail(1);
    world.run(SOON);
    world.fail(2);
    world.fail(3);
    world.run(SOON);
    assert_eq!(world.down(0), [1, 3], "one of each tag");
    assert_eq!(
        world.decision(0, 2),
        "should be down: 1 serve, 1 must (health_floor)"
    );
    // Whoever is good again makes room for the other.
    world.mend(1);
    world.run(2 * SOON);
    assert_eq!(world.down(0), [2, 3]);
}

#[test]
fn everything_fails_and_half_stays() {
    let mut world = world(5);
    world.run(2);
    (1..=5).for_each(|n| world.fail(n));
    world.run(60);
    assert_eq!(world.down(0).len(), 2, "three of five are needed");
}

#[test]
fn the_last_one_stays_even_without_a_floor() {
    let mut world = World::new(
        1,
        3,
        &Policy {
            floor: 0,
            ..policy()
        },
    );
    world.run(2);
    (1..=3).for_each(|n| world.fail(n));
    world.run(60);
    assert_eq!(world.down(0).len(), 2);
}

#[test]
fn backends_that_an_operator_has_taken_out_do_not_count_for_the_floor() {
    let mut world = world(6);
    for n in 1..=4 {
        world.nodes[0].list.get_mut(&ip(n)).unwrap().down = true;
    }
    world.run(2);
    world.fail(5);
    world.run(SOON);
    assert_eq!(world.down(0), [1, 2, 3, 4, 5], "one of two serving is half");
    world.fail(6);
    world.run(SOON);
    assert!(!world.down(0).contains(&6));
}

#[test]
fn what_was_set_by_hand_stays_until_it_is_released() {
    let mut world = world(4);
    world.run(2);
    // Up by hand, and bad.
    world.nodes[0].health.hold(ip(1));
    world.fail(1);
    world.run(4 * SOON);
    assert_eq!(world.orders(), 0);
    assert_eq!(world.decision(0, 1), "held by hand");
    world.nodes[0].health.release(ip(1));
    world.run(SOON);
    assert_eq!(world.down(0), [1]);
    // Down by hand although it is down already: good, and not brought back.
    world.nodes[0].health.hold(ip(1));
    world.mend(1);
    world.run(4 * SOON);
    assert_eq!(world.down(0), [1]);
    world.nodes[0].health.release(ip(1));
    world.run(SOON);
    assert_eq!(world.down(0), [0u8; 0]);
}

#[test]
fn one_that_was_found_down_is_not_touched_before_it_is_released() {
    let mut world = world(4);
    world.nodes[0].list.get_mut(&ip(3)).unwrap().down = true;
    world.run(30);
    assert_eq!((world.orders(), world.down(0)), (0, vec![3]));
    assert_eq!(world.decision(0, 3), "down by hand");
    world.nodes[0].health.release(ip(3));
    world.run(SOON);
    assert_eq!(world.down(0), [0u8; 0]);
}

#[test]
fn one_that_somebody_has_taken_up_while_it_is_bad_stays_up() {
    let mut world = world(4);
    world.run(2);
    world.fail(1);
    world.run(SOON);
    assert_eq!(world.down(0), [1]);
    // By a tool that this process hears nothing of.
    let wall = world.wall();
    let backend = world.nodes[0].list.get_mut(&ip(1)).unwrap();
    (backend.down, backend.changed) = (false, wall);
    world.run(60);
    assert_eq!(world.down(0), [0u8; 0]);
    assert_eq!(world.decision(0, 1), "held by hand");
}

#[test]
fn slow_start_gives_the_weight_back_in_steps() {
    let mut world = World::new(1, 4, &slow(40));
    world.run(2);
    world.fail(1);
    world.run(SOON);
    world.mend(1);
    let mut seen = vec![world.weight(1)];
    for _ in 0..60 {
        world.run(1);
        let up = !world.down(0).contains(&1);
        if up && seen.last() != Some(&world.weight(1)) {
            seen.push(world.weight(1));
        }
    }
    assert_eq!(
        seen,
        [100, 20, 40, 60, 80, 100],
        "never up with more than a step"
    );
    assert_eq!(world.nodes[0].health.marks().get(ip(1)).weight, None);
    let first = world.nodes[0].ordered.iter().position(|it| {
        matches!(
            it,
            Request::Order(Order::UpdateBackend {
                vhosts: Some(20),
                ..
            })
        )
    });
    let up = world.nodes[0]
        .ordered
        .iter()
        .position(|it| *it == Request::Order(Order::Up(ip(1))));
    assert!(first < up, "the weight is small before it is up");
}

#[test]
fn a_weight_given_during_a_slow_start_is_the_operators_and_ends_it() {
    let mut world = World::new(1, 4, &slow(40));
    world.run(2);
    world.fail(1);
    world.run(SOON);
    world.mend(1);
    world.run(15);
    assert!((20..100).contains(&world.weight(1)));
    let before = world.orders();
    world.nodes[0].list.get_mut(&ip(1)).unwrap().vhosts = 50;
    world.run(60);
    assert_eq!((world.weight(1), world.orders()), (50, before));
    assert_eq!(world.decision(0, 1), "in service");
}

#[test]
fn one_that_fails_during_its_slow_start_keeps_the_operators_weight() {
    let mut world = World::new(1, 4, &slow(40));
    world.run(2);
    world.fail(1);
    world.run(SOON);
    world.mend(1);
    world.run(15);
    assert!(world.weight(1) < 100);
    world.fail(1);
    world.run(SOON + 2);
    assert_eq!((world.down(0), world.weight(1)), (vec![1], 100));
    world.mend(1);
    world.run(80);
    assert_eq!((world.down(0), world.weight(1)), (vec![], 100));
}

#[test]
fn holding_a_backend_in_its_slow_start_gives_it_the_operators_weight() {
    let mut world = World::new(1, 4, &slow(400));
    world.run(2);
    world.fail(1);
    world.run(SOON);
    world.mend(1);
    world.run(SOON);
    assert_eq!(world.weight(1), 20);
    world.nodes[0].health.hold(ip(1));
    world.run(5);
    assert_eq!(world.weight(1), 100);
    assert_eq!(world.decision(0, 1), "held by hand");
}

#[test]
fn a_drain_stops_a_slow_start_and_its_end_resumes_it() {
    let mut world = World::new(1, 4, &slow(40));
    world.run(2);
    world.fail(1);
    world.run(SOON);
    world.mend(1);
    world.run(SOON);
    let before = world.weight(1);
    world.nodes[0].list.get_mut(&ip(1)).unwrap().vhosts = 0;
    world.run(60);
    assert_eq!(world.weight(1), 0);
    world.nodes[0].list.get_mut(&ip(1)).unwrap().vhosts = before;
    world.run(60);
    assert_eq!(world.weight(1), 100);
}

#[test]
fn without_leave_to_act_it_only_tells() {
    let mut world = World::new(
        1,
        4,
        &Policy {
            act: false,
            ..policy()
        },
    );
    world.run(2);
    world.fail(1);
    world.run(60);
    assert_eq!(world.orders(), 0);
    assert_eq!(world.decision(0, 1), "should be down: health_act is off");
    let told = |what: &str| {
        let said = &world.nodes[0].said;
        said.iter().filter(|(_, text)| text.contains(what)).count()
    };
    assert_eq!(told("10.1.0.1 fails check imap: refused"), 1);
    assert_eq!(told("should be down"), 1, "once");
}

#[test]
fn checks_are_for_their_tag_and_their_backends() {
    let mut policy = policy();
    policy.checks[0].tag = Some(b"a".to_vec());
    policy.checks.push(Plan {
        name: "only".to_owned(),
        rhythm: RHYTHM,
        tag: None,
        backends: [ip(4)].into(),
    });
    let mut world = World::new(1, 6, &policy);
    for n in 1..=2 {
        world.nodes[0].list.get_mut(&ip(n)).unwrap().tag = b"a".to_vec();
    }
    world.run(2);
    let rows: Vec<(IpAddr, String)> = world.nodes[0]
        .health
        .rows(world.now)
        .into_iter()
        .map(|row| (row.ip, row.check))
        .collect();
    let expected = [(ip(1), "imap"), (ip(2), "imap"), (ip(4), "only")];
    assert_eq!(rows, expected.map(|(ip, check)| (ip, check.to_owned())));
    // What is not checked is never touched.
    (1..=6).for_each(|n| world.fail(n));
    world.run(60);
    let down = world.down(0);
    assert!(
        down.contains(&4) && down.len() == 2,
        "and one of the two with the tag: {down:?}"
    );
}

#[test]
fn a_reload_with_other_checks_begins_anew_and_with_the_same_goes_on() {
    let mut world = world(4);
    world.run(2);
    world.fail(1);
    world.run(SOON);
    let state = |world: &World| world.nodes[0].health.verdict(ip(1)).0;
    world.nodes[0].health.tune(slow(10));
    assert_eq!(state(&world), Verdict::Failed);
    let mut other = policy();
    other.checks[0].rhythm.fall = 4;
    world.nodes[0].health.tune(other);
    assert_eq!(state(&world), Verdict::Unknown);
    world.run(60);
    assert_eq!(world.down(0), [1], "nobody is brought back by it");
}

#[test]
fn numbers() {
    let needed_of = [
        (1, 50, 1),
        (2, 50, 1),
        (3, 50, 2),
        (10, 0, 1),
        (10, 33, 4),
        (7, 100, 7),
    ];
    for (total, floor, expected) in needed_of {
        assert_eq!(needed(total, floor), expected, "{floor} % of {total}");
    }
    let shares: Vec<u32> = (0..STEPS).map(|step| share(100, step)).collect();
    assert_eq!(shares, [20, 40, 60, 80, 100]);
    assert_eq!(share(1, 0), 1);
    assert_eq!(share(0, 0), 0);
    assert_eq!(share(u32::MAX, STEPS - 1), u32::MAX);
    const { assert!(TELL < Mono::SECOND) };
}

proptest! {
    #[test]
    fn a_share_never_goes_back(weight in 0u32..1_000_001, step in 0..STEPS) {
        let now = share(weight, step);
        prop_assert!(now <= weight && (weight == 0 || now > 0));
        if step + 1 < STEPS {
            prop_assert!(share(weight, step + 1) >= now);
        } else {
            prop_assert_eq!(now, weight);
        }
    }
}
