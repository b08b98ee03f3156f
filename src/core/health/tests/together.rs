//! Several directors, some of which lose their network.

use super::*;

fn three() -> World {
    let mut world = World::new(3, 4, &policy());
    world.run(5);
    world
}

/// A director loses all of its network.
fn cut_off(world: &mut World, at: usize) {
    world.nodes[at].ring = 1;
    world.nodes[at].net = 1;
    world.nodes[at].blind = (1..=10).map(ip).collect();
}

/// It comes back, and takes over the list of the others.
fn bring_back(world: &mut World, at: usize, beside: usize) {
    let list = world.nodes[beside].list.clone();
    let node = &mut world.nodes[at];
    (node.ring, node.net, node.list) = (0, 0, list);
    node.blind.clear();
}

#[test]
fn the_lowest_decides_and_nobody_else() {
    let mut world = three();
    world.fail(2);
    world.run(SOON);
    for at in 0..3 {
        assert_eq!(world.down(at), [2]);
    }
    assert_eq!(world.nodes[0].ordered.len(), 2);
    assert_eq!(world.orders(), 2);
    assert_eq!(world.decision(2, 2), "down by health");
}

#[test]
fn one_director_of_three_sees_a_backend_fail_and_nothing_happens() {
    let mut world = three();
    world.nodes[0].blind.insert(ip(1));
    world.run(60);
    assert_eq!(world.orders(), 0);
    let rows = world.nodes[1].health.rows(world.now);
    assert_eq!(
        (rows[0].tally.failed, rows[0].tally.good, rows[0].quorum),
        (1, 2, 2)
    );
    // Another one sees it too.
    world.nodes[2].blind.insert(ip(1));
    world.run(SOON);
    assert_eq!(world.down(1), [1]);
    // It takes two to bring it back as well.
    world.nodes[2].blind.clear();
    world.run(SOON);
    assert_eq!(world.down(1), [0u8; 0]);
}

#[test]
fn a_director_that_is_cut_off_empties_nothing_and_the_others_go_on() {
    let mut world = three();
    cut_off(&mut world, 0);
    world.run(60);
    assert_eq!(world.orders(), 0);
    assert_eq!(
        world.decision(0, 1),
        "should be down: only 1 directors are heard, 2 must agree"
    );
    assert_eq!(world.decision(1, 1), "in service");
    world.fail(3);
    world.run(SOON);
    assert_eq!((world.down(1), world.down(0)), (vec![3], vec![]));
    assert!(world.nodes[0].ordered.is_empty());
    bring_back(&mut world, 0, 1);
    world.nodes[0].blind.insert(ip(3));
    world.run(SOON);
    assert_eq!(
        world.decision(0, 3),
        "down by health",
        "it has learnt the mark"
    );
    world.mend(3);
    world.run(SOON);
    assert_eq!(world.down(0), [0u8; 0]);
}

/// It comes back, and the ring takes over what it has: up and down as they were, with the later of both times.
fn bring_back_old_news(world: &mut World, at: usize) {
    let old = world.nodes[at].list.clone();
    let others = world.nodes[(at + 1) % 3].list.clone();
    let mut list = old;
    for (ip, backend) in &mut list {
        backend.changed = backend.changed.max(others[ip].changed);
    }
    for node in &mut world.nodes {
        (node.ring, node.net, node.list) = (0, 0, list.clone());
    }
    world.nodes[at].blind.clear();
}

#[test]
fn old_news_of_one_that_was_away_are_no_operators() {
    let mut world = three();
    cut_off(&mut world, 0);
    world.run(10);
    world.fail(3);
    world.run(SOON);
    assert_eq!(world.down(1), [3]);
    bring_back_old_news(&mut world, 0);
    world.nodes[0].blind.insert(ip(3));
    assert_eq!(world.down(1), [0u8; 0]);
    world.run(SOON);
    assert_eq!((world.down(0), world.down(1)), (vec![3], vec![3]));
    assert_eq!(world.decision(1, 3), "down by health");
    // The other way round: it has been brought back meanwhile.
    cut_off(&mut world, 0);
    world.run(10);
    world.mend(3);
    world.run(SOON);
    assert_eq!((world.down(0), world.down(1)), (vec![3], vec![]));
    bring_back_old_news(&mut world, 0);
    assert_eq!(world.down(1), [3]);
    world.run(2 * SOON);
    assert_eq!((world.down(0), world.down(1)), (vec![], vec![]));
    assert_eq!(world.decision(1, 3), "in service");
}

#[test]
fn one_without_a_way_to_the_backends_is_outvoted() {
    let mut world = three();
    world.nodes[0].blind = (1..=4).map(ip).collect();
    world.run(60);
    assert_eq!(world.orders(), 0);
}

#[test]
fn two_without_a_way_to_the_backends_are_stopped_by_the_floor() {
    let mut world = three();
    for at in 0..2 {
        world.nodes[at].blind = (1..=4).map(ip).collect();
    }
    world.run(60);
    assert_eq!(world.down(2).len(), 2);
    for at in 0..2 {
        world.nodes[at].blind.clear();
    }
    world.run(60);
    assert_eq!(world.down(2), [0u8; 0]);
}

#[test]
fn whoever_comes_next_goes_on_where_the_decider_died() {
    let mut policy = slow(40);
    policy.quorum = 2;
    // Wherever it dies.
    for after in (0..280).step_by(9) {
        let mut world = World::new(3, 4, &policy);
        world.run(5);
        world.fail(1);
        if after < 40 {
            world.run_ticks(after);
            world.kill(0);
            world.run(2 * SOON);
            assert_eq!(world.down(1), [1], "died {after} ticks after the failure");
            world.mend(1);
        } else {
            world.run(SOON);
            world.mend(1);
            world.run_ticks(after - 40);
            world.kill(0);
        }
        world.run(120);
        assert_eq!(world.down(1), [0u8; 0], "died after {after} ticks");
        assert_eq!(
            world.nodes[1].list[&ip(1)].vhosts,
            100,
            "died after {after} ticks"
        );
        assert_eq!(
            world.decision(1, 1),
            "in service",
            "died after {after} ticks"
        );
    }
}

#[test]
fn one_that_starts_again_learns_the_marks() {
    let mut world = three();
    world.nodes[2].health.hold(ip(4));
    world.fail(1);
    world.fail(4);
    world.run(SOON);
    assert_eq!(world.down(0), [1]);
    world.kill(0);
    world.run(10);
    world.start(0, 1);
    world.run(SOON);
    assert_eq!(world.decision(0, 1), "down by health");
    assert_eq!(world.decision(0, 4), "held by hand");
    world.mend(1);
    world.run(SOON);
    assert_eq!(world.down(0), [0u8; 0]);
}

#[test]
fn after_a_power_cut_everybody_knows_who_has_set_what() {
    let mut world = World::new(3, 6, &slow(40));
    world.run(5);
    world.nodes[1].health.hold(ip(5));
    world.nodes[0].list.get_mut(&ip(6)).unwrap().down = true;
    let list = world.nodes[0].list.clone();
    world.nodes.iter_mut().for_each(|it| it.list = list.clone());
    world.nodes[2].health.hold(ip(6));
    world.fail(1);
    world.run(SOON);
    world.fail(5);
    assert_eq!(world.down(0), [1, 6]);
    world.power_cut();
    // Once more, before anything was taken from the file.
    world.run(2);
    world.power_cut();
    world.mend(1);
    world.run(4 * SOON);
    for at in 0..3 {
        assert_eq!(
            world.down(at),
            [6],
            "down by health is up again, by hand is not"
        );
        assert_eq!(world.decision(at, 5), "held by hand");
        assert_eq!(world.decision(at, 6), "held by hand");
    }
    // In the middle of a slow start the operator's weight is not forgotten.
    let is_rising = |world: &World| world.weight(1) < 100;
    assert!(is_rising(&world), "{}", world.weight(1));
    world.power_cut();
    world.run(90);
    assert_eq!((world.weight(1), world.down(0)), (100, vec![6]));
}

#[test]
fn what_the_others_say_counts_more_than_the_disk() {
    let mut world = three();
    world.fail(1);
    world.run(SOON);
    world.nodes[0].health.hold(ip(2));
    world.run(2);
    let old = world.nodes[0].health.all_marks();
    world.kill(0);
    // Meanwhile both are released, and good.
    world.mend(1);
    world.nodes[1].health.release(ip(2));
    world.run(2 * SOON);
    assert_eq!(world.down(1), [0u8; 0]);
    // What is on disk is later by its version, as of directors who have lost theirs.
    let later = |line: MarkLine| MarkLine {
        version: line.version + 100,
        ..line
    };
    world.start(0, 1);
    let policy = world.nodes[0].health.policy().clone();
    let marks = old.into_iter().map(later).collect();
    world.nodes[0].health = Health::new(policy).recalling(marks);
    world.run(SOON);
    for at in 0..3 {
        assert_eq!(world.down(at), [0u8; 0]);
        assert_eq!(world.decision(at, 1), "in service");
        assert_eq!(world.decision(at, 2), "in service");
    }
}

#[test]
fn a_hand_at_any_director_counts_everywhere() {
    let mut world = three();
    world.nodes[2].health.hold(ip(1));
    world.run(2);
    world.fail(1);
    world.run(60);
    assert_eq!(world.orders(), 0);
    world.nodes[1].health.release(ip(1));
    world.run(SOON);
    assert_eq!(world.down(0), [1]);
}

#[test]
fn with_a_dovecot_in_the_ring_it_is_only_told() {
    let mut world = World::new(3, 4, &policy());
    world.dovecot = true;
    world.run(5);
    world.fail(1);
    world.run(60);
    assert_eq!(world.orders(), 0);
    assert_eq!(
        world.decision(1, 1),
        "should be down: director 10.0.0.241:9090 has no vote"
    );
    world.dovecot = false;
    world.run(SOON);
    assert_eq!(world.down(0), [1]);
}

#[test]
fn of_two_both_must_agree_unless_the_settings_say_otherwise() {
    let mut world = World::new(2, 4, &policy());
    world.run(5);
    world.kill(1);
    world.fail(1);
    world.run(60);
    assert_eq!(world.orders(), 0);
    let mut world = World::new(
        2,
        4,
        &Policy {
            quorum: 1,
            ..policy()
        },
    );
    world.run(5);
    world.kill(1);
    world.fail(1);
    world.run(SOON);
    assert_eq!(world.down(0), [1]);
}

#[derive(Clone, Debug)]
enum Deed {
    Blind(usize, u8, bool),
    CutOff(usize),
    BringBack(usize),
    Hold(usize, u8),
    Release(usize, u8),
    Wait(u64),
}

fn any_deed() -> impl Strategy<Value = Deed> {
    let backend = || 1u8..=5;
    prop_oneof![
        4 => (0usize..3, backend(), any::<bool>()).prop_map(|(a, b, c)| Deed::Blind(a, b, c)),
        1 => (0usize..3).prop_map(Deed::CutOff),
        1 => (0usize..3).prop_map(Deed::BringBack),
        1 => (0usize..3, backend()).prop_map(|(a, b)| Deed::Hold(a, b)),
        1 => (0usize..3, backend()).prop_map(|(a, b)| Deed::Release(a, b)),
        3 => (0u64..12).prop_map(Deed::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// At most one director is cut off at a time. Whatever else happens: enough backends stay in service, no
    /// director orders anything alone, and when all is well again all backends serve that nobody holds.
    #[test]
    fn whatever_happens_enough_backends_serve(
        deeds in prop::collection::vec(any_deed(), 1..25),
        slow_start in prop::sample::select(vec![0u64, 20]),
    ) {
        let mut world = World::new(3, 5, &slow(slow_start));
        world.run(3);
        let mut away = None;
        for deed in deeds {
            match deed {
                Deed::Blind(at, backend, true) => {
                    world.nodes[at].blind.insert(ip(backend));
                }
                Deed::Blind(at, backend, false) => {
                    world.nodes[at].blind.remove(&ip(backend));
                }
                Deed::CutOff(at) if away.is_none() => {
                    cut_off(&mut world, at);
                    away = Some(at);
                }
                Deed::BringBack(at) if away == Some(at) => {
                    bring_back(&mut world, at, (at + 1) % 3);
                    away = None;
                }
                Deed::CutOff(_) | Deed::BringBack(_) => {}
                Deed::Hold(at, backend) => {
                    world.nodes[at].health.hold(ip(backend));
                }
                Deed::Release(at, backend) => {
                    world.nodes[at].health.release(ip(backend));
                }
                Deed::Wait(seconds) => world.run(seconds),
            }
            for at in 0..3 {
                prop_assert!(world.down(at).len() <= 2, "three of five must serve");
            }
            if let Some(at) = away {
                let before = world.nodes[at].ordered.len();
                world.run(1);
                // What it had begun may have been on its way.
                prop_assert!(world.nodes[at].ordered.len() <= before + 5);
            }
        }
        if let Some(at) = away {
            bring_back(&mut world, at, (at + 1) % 3);
        }
        for at in 0..3 {
            world.nodes[at].blind.clear();
        }
        world.run(3);
        for backend in 1..=5 {
            world.nodes[0].health.release(ip(backend));
        }
        world.run(120);
        for at in 0..3 {
            prop_assert_eq!(world.down(at), Vec::<u8>::new());
            for backend in 1..=5 {
                prop_assert_eq!(world.nodes[at].list[&ip(backend)].vhosts, 100);
                prop_assert_eq!(world.decision(at, backend), "in service".to_owned());
            }
        }
    }
}
