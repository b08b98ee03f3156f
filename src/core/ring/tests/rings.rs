//! Rings of our own: they come together, agree, and mend themselves.

use super::*;
use crate::core::backends::BackendError;

fn ring(nodes: usize) -> World {
    let mut world = World::new(nodes, 3);
    for node in 0..nodes {
        world.start(node);
    }
    world.pass(5);
    world
}

#[test]
fn a_director_without_others_serves_at_once() {
    let mut world = World::new(1, 3);
    world.start(0);
    world.assert_whole();
    assert!(matches!(world.login(0, 7), Decision::Go(_)));
}

#[test]
fn rings_of_any_size_come_together() {
    for nodes in 2..=10 {
        ring(nodes).assert_whole();
    }
}

#[test]
fn a_ring_comes_together_in_every_order() {
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let mut world = World::new(3, 3);
        for node in order {
            world.start(node);
            world.pass(2);
        }
        world.pass(60);
        world.assert_whole();
    }
}

#[test]
fn a_director_whose_neighbours_do_not_come_is_alone_after_the_grace() {
    let mut world = World::new(3, 3);
    world.start(1);
    world.pass(19);
    assert_eq!(waits(world.login(1, 7)), Some(DelayReason::NotHandshaked));
    world.pass(3);
    assert!(matches!(world.login(1, 7), Decision::Go(_)));
}

#[test]
fn users_are_known_everywhere() {
    let mut world = ring(4);
    for hash in 1..200 {
        world.login(hash as usize % 4, hash * 20_000_003);
    }
    for hash in 1..200 {
        let homes: Vec<_> = (0..4)
            .map(|node| world.home(node, hash * 20_000_003))
            .collect();
        assert!(homes[0].is_some() && homes.iter().all(|home| *home == homes[0]));
    }
}

#[test]
fn one_that_joins_hears_of_all_users_and_hosts() {
    let mut world = World::new(3, 3);
    world.start(0);
    world.start(1);
    world.pass(80);
    world.assert_whole();
    world
        .order(
            0,
            Order::SetBackend {
                ip: backend(9),
                tag: None,
                vhosts: Some(50),
            },
        )
        .unwrap();
    world.pass(1);
    world.login(0, 77);
    let home = world.home(0, 77);
    world.start(2);
    world.pass(61);
    world.assert_whole();
    assert_eq!(world.home(2, 77), home);
    assert_eq!(
        world.nodes[2]
            .ring
            .backends()
            .find(backend(9))
            .unwrap()
            .vhosts,
        50
    );
}

#[test]
fn a_ring_heals_when_one_dies_and_returns() {
    for nodes in 2..6 {
        let mut world = ring(nodes);
        for hash in 1..50 {
            world.login(0, hash * 80_000_001);
        }
        let homes: Vec<_> = (1..50)
            .map(|hash| world.home(0, hash * 80_000_001))
            .collect();
        world.kill(nodes - 1);
        world.pass(25);
        world.assert_whole();
        world.restart_empty(nodes - 1, 3);
        world.pass(30);
        for hash in 1..50u32 {
            let home = world.home(nodes - 1, hash * 80_000_001);
            assert_eq!(home, homes[hash as usize - 1], "{nodes} nodes, user {hash}");
            world.login(1, hash * 80_000_001);
        }
        world.pass(70);
        world.assert_whole();
    }
}

#[test]
fn backends_change_everywhere() {
    let mut world = ring(3);
    world.order(1, Order::Down(backend(2))).unwrap();
    world
        .order(
            1,
            Order::SetBackend {
                ip: backend(1),
                tag: None,
                vhosts: Some(7),
            },
        )
        .unwrap();
    world.order(2, Order::Remove(backend(3))).unwrap();
    world.pass(1);
    world.assert_whole();
    for node in 0..3 {
        let backends = world.nodes[node].ring.backends();
        assert!(backends.find(backend(2)).unwrap().down);
        assert_eq!(backends.find(backend(1)).unwrap().vhosts, 7);
        assert!(backends.find(backend(3)).is_none());
    }
}

#[test]
fn a_user_near_its_end_is_confirmed() {
    for nodes in [2, 3, 5] {
        let mut world = ring(nodes);
        let hash = 3_000_000_001;
        world.login(0, hash);
        let home = world.home(0, hash).unwrap();
        world.order(0, Order::Down(home)).unwrap();
        world.pass(880);
        assert_eq!(waits(world.login(0, hash)), Some(DelayReason::Weak));
        assert!(world.nodes[0].wakes.contains(&key(hash)));
        assert!(matches!(world.login(0, hash), Decision::Go(_)), "{nodes}");
        for node in 0..nodes {
            assert_eq!(world.home(node, hash), Some(home));
        }
    }
}

#[test]
fn a_move_goes_round_and_ends() {
    for nodes in [1, 2, 3, 5] {
        let mut world = ring(nodes);
        let hash = 3_000_000_001;
        world.login(0, hash);
        let home = world.home(0, hash).unwrap();
        let to = (1..=3).map(backend).find(|ip| *ip != home).unwrap();
        world.order(0, Order::Move(UserHash(hash), to)).unwrap();
        assert_eq!(waits(world.login(0, hash)), Some(DelayReason::Killing));
        world.pass(3);
        for node in 0..nodes {
            assert_eq!(world.home(node, hash), Some(to));
            assert!(
                matches!(world.login(node, hash), Decision::Go(_)),
                "{nodes}, {node}"
            );
            assert_eq!(world.nodes[node].kicks, [Kick::Moved(key(hash))]);
        }
    }
}

#[test]
fn a_quiet_ring_says_nothing_but_ping() {
    let mut world = ring(5);
    world.pass(10);
    world.lines.clear();
    world.pass(120);
    let others = |(_, _, line): &&(usize, usize, String)| {
        !line.starts_with("PING\t") && !line.starts_with("PONG\t")
    };
    assert_eq!(world.lines.iter().find(others), None);
    assert!(world.lines.len() < 5 * 4 * 120 / 2 + 40);
}

#[test]
fn a_director_that_is_removed_is_left_and_forgotten() {
    let mut world = ring(4);
    world.order(0, Order::RemoveDirector(id(2))).unwrap();
    world.nodes[2].up = false;
    world.pass(5);
    world.assert_whole();
    for node in [0, 1, 3] {
        assert!(world.nodes[node].ring.members().get(id(2)).is_none());
    }
}

/// What the nodes know of a lone node's users after it was joined, and the lines that told them.
fn joined(homing: bool) -> World {
    let mut world = World::new(2, 3);
    world.start(0);
    world.pass(25);
    for hash in 1..=5000 {
        world.login(0, hash * 800_011);
    }
    world.plain = !homing;
    world.start(1);
    world.pass(10);
    world.assert_whole();
    for hash in 1..=5000 {
        let home = world.home(0, hash * 800_011);
        assert!(
            home.is_some() && home == world.home(1, hash * 800_011),
            "user {hash}"
        );
    }
    world
}

#[test]
fn homing_directors_hand_over_users_densely_and_others_do_not_see_it() {
    let count = |world: &World, word: &str| {
        let lines = world
            .lines
            .iter()
            .filter(|(_, _, line)| line.split('\t').next() == Some(word));
        lines.map(|(_, _, line)| line.len()).sum::<usize>()
    };
    let (dense, plain) = (joined(true), joined(false));
    assert_eq!((count(&dense, "U"), count(&plain, "UU")), (0, 0));
    let (short, long) = (count(&dense, "UU"), count(&plain, "U"));
    assert!(short * 2 < long, "{short} bytes, {long} bytes");
}

#[test]
fn a_joining_director_asks_for_users_that_it_does_not_know() {
    let mut world = World::new(3, 3);
    world.start(0);
    world.start(1);
    // Node 1 has not dialled it in vain a moment before it starts.
    world.nodes[1].ring.members.note_program(id(2), false);
    world.pass(60);
    world.login(0, 77);
    // Node 2 hears of the backends, and nothing more for the time being.
    world.held_back = Some((2, &["UU", "U", "DONE"]));
    world.start(2);
    assert!(!world.nodes[2].ring.standing().handshaked);
    for hash in [77, 1_234_567] {
        assert_eq!(
            waits(world.login(2, hash)),
            Some(DelayReason::NotHandshaked)
        );
        assert!(
            matches!(world.login(2, hash), Decision::Go(_)),
            "it was asked for"
        );
        assert_eq!(world.home(2, hash), world.home(0, hash));
        assert_eq!(world.home(2, hash), world.home(1, hash));
    }
}

fn with_tls(kinds: &[Tls]) -> World {
    let mut world = World::new(kinds.len(), 3);
    for (node, &tls) in kinds.iter().enumerate() {
        let limits = Limits {
            tls,
            ..limits(node)
        };
        world.nodes[node].ring.set_limits(limits);
    }
    for node in 0..kinds.len() {
        world.start(node);
    }
    world.pass(30);
    world
}

#[test]
fn tls_is_used_where_both_sides_have_it() {
    let secured = |world: &World| world.secured.len();
    let all = with_tls(&[Tls::Required; 3]);
    all.assert_whole();
    assert!(secured(&all) >= 3);
    let some = with_tls(&[Tls::Offered, Tls::Offered, Tls::Off]);
    some.assert_whole();
    assert!(some.secured.iter().all(|&(a, b)| a < 2 && b < 2) && secured(&some) >= 1);
}

#[test]
fn who_demands_tls_stays_away_from_who_has_none() {
    let world = with_tls(&[Tls::Required, Tls::Off]);
    for node in 0..2 {
        assert_eq!(world.nodes[node].ring.right(), None);
        assert!(world.nodes[node].ring.standing().synced, "each is alone");
    }
    let says = |event: &Event| event.to_string().contains("director_ring_tls_required");
    assert!(world.nodes[0].events.iter().any(says));
}

#[test]
fn a_backend_is_emptied_a_few_users_at_a_time() {
    let mut world = ring(3);
    for hash in 1..=300 {
        world.login(0, hash * 14_000_029);
    }
    let from = backend(2);
    let there = |world: &World, node| {
        let of = |hash: &u32| world.home(node, hash * 14_000_029) == Some(from);
        (1..=300).filter(of).count()
    };
    let before = there(&world, 0);
    assert!(before > 50);
    world
        .order(
            0,
            Order::SetBackend {
                ip: from,
                tag: None,
                vhosts: Some(0),
            },
        )
        .unwrap();
    world.pass(1);
    let reset = |host| Request::ResetUsers {
        host: Some(host),
        max: Some(10),
    };
    world.request(0, 1, &reset(from));
    let unknown = OrderError::Backend(BackendError::Unknown(backend(99)));
    world.request(0, 2, &reset(backend(99)));
    let refused = Answer::Failed(RequestError::Order(unknown));
    assert_eq!(world.nodes[0].answers, [(Ticket(2), refused)]);
    assert!(there(&world, 0) <= before - 10 && there(&world, 0) > 0);
    world.pass(100);
    assert_eq!(world.nodes[0].answers[1..], [(Ticket(1), Answer::Done)]);
    for node in 0..3 {
        assert_eq!(there(&world, node), 0);
    }
    assert_eq!(world.nodes[1].kicks.len(), before);
}

#[test]
fn users_without_a_usable_backend_are_forgotten_everywhere() {
    let mut world = ring(3);
    for hash in 1..=50 {
        world.login(1, hash * 80_000_023);
    }
    for n in 1..=3 {
        world.order(0, Order::Down(backend(n))).unwrap();
        world.pass(1);
    }
    let all = Request::ResetUsers {
        host: None,
        max: None,
    };
    world.request(0, 1, &all);
    world.pass(40);
    assert_eq!(world.nodes[0].answers, [(Ticket(1), Answer::Done)]);
    let moved = |kick: &&Kick| matches!(kick, Kick::Moved(_));
    assert_eq!(world.nodes[0].kicks.iter().filter(moved).count(), 50);
    for node in 0..3 {
        assert!((1..=50).all(|hash| world.home(node, hash * 80_000_023).is_none()));
        // Whose user is forgotten has no session left, wherever it is.
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        let kicks = &world.nodes[node].kicks;
        let ended = |hash: u32| kicks.contains(&Kick::Hash(UserHash(hash * 80_000_023), nowhere));
        assert!((1..=50).all(ended), "{node}");
    }
}

/// One director that demands TLS, and a dialled and an accepted connection of it.
fn demanding() -> (World, ConnId, ConnId) {
    let mut world = World::new(2, 3);
    let tls = Limits {
        tls: Tls::Required,
        ..limits(0)
    };
    world.nodes[0].ring.set_limits(tls);
    world.input(0, Input::Start);
    let outputs = world.nodes[0].ring.take_outputs();
    let dialled = outputs.iter().find_map(|output| match output {
        Output::Dial(conn, _) => Some(*conn),
        _ => None,
    });
    let dialled = dialled.expect("somebody is dialled");
    world.input(0, Input::Connected(dialled));
    let conn = world.nodes[0].ring.next_conn();
    let source = id(1).ip;
    world.input(0, Input::Accepted { conn, source });
    (world, dialled, conn)
}

fn written(world: &mut World, of: ConnId) -> String {
    let all = world.nodes[0].ring.unwritten();
    let bytes = all.filter(|(conn, _)| *conn == of).map(|(_, bytes)| bytes);
    let bytes = bytes.flat_map(std::mem::take);
    String::from_utf8(bytes.collect()).unwrap()
}

#[test]
fn nothing_plain_counts_once_tls_was_offered() {
    let (mut world, dialled, _) = demanding();
    // Somebody has put lines behind the first one, into the same read.
    let lines = "VERSION\tdirector\t1\t9\thoming=2\ttls\nME\t127.0.0.2\t9090\t1\n\
                 DIRECTOR\t10.9.9.9\t9090\nHOST-HAND-START\t1\nHOST-HAND-END\t1\nDONE\n";
    world.input(0, Input::Received(dialled, lines.as_bytes()));
    let ring = &mut world.nodes[0].ring;
    assert!(ring.take_outputs().contains(&Output::Secure(dialled)));
    assert_eq!(ring.members().iter().count(), 2);
    assert_eq!(ring.right(), None);
    assert_eq!(ring.snapshot().backends.iter().flatten().count(), 3);
    assert_eq!(written(&mut world, dialled), "");
    // Inside it begins with VERSION.
    world.input(0, Input::Secured(dialled));
    let greeting = written(&mut world, dialled);
    assert!(
        greeting.starts_with("VERSION\tdirector\t1\t9\thoming=2\tjoining\nME\t"),
        "{greeting}"
    );
    world.input(
        0,
        Input::Received(dialled, lines.replace("\ttls", "").as_bytes()),
    );
    assert_eq!(world.nodes[0].ring.members().iter().count(), 3);
}

#[test]
fn nobody_hears_of_the_ring_before_tls_was_chosen() {
    let (mut world, dialled, accepted) = demanding();
    let greeting = written(&mut world, accepted);
    assert_eq!(greeting.lines().count(), 2, "{greeting}");
    world.input(0, Input::Secured(dialled));
    let lines = "VERSION\tdirector\t1\t9\thoming=2\nME\t127.0.0.2\t9090\t1\n\
                 DIRECTOR\t10.9.9.9\t9090\n";
    world.input(0, Input::Received(dialled, lines.as_bytes()));
    assert_eq!(world.nodes[0].ring.members().iter().count(), 3);
    assert_eq!(written(&mut world, accepted), "", "it may be anybody");
    world.input(0, Input::Secured(accepted));
    let greeting = written(&mut world, accepted);
    assert!(
        greeting.starts_with("VERSION\tdirector\t1\t9\thoming=2\tjoining\nME\t"),
        "{greeting}"
    );
}

#[test]
fn a_director_that_dials_again_and_again_has_one_connection() {
    let mut world = World::new(2, 3);
    world.nodes[1].up = true;
    world.input(1, Input::Start);
    for _ in 0..300 {
        let conn = world.nodes[1].ring.next_conn();
        let source = id(0).ip;
        world.input(1, Input::Accepted { conn, source });
        let greeting = b"VERSION\tdirector\t1\t9\nME\t127.0.0.1\t9090\n";
        world.input(1, Input::Received(conn, greeting));
        let conns = world.nodes[1].ring.conns.map.values();
        let taken = conns.filter(|conn| !conn.is_dialler());
        assert_eq!(taken.count(), 1);
    }
}

#[test]
fn a_lookup_that_waits_for_a_confirmation_hears_that_none_is_needed() {
    let mut world = ring(2);
    let hash = 3_000_000_001;
    world.login(0, hash);
    let home = world.home(0, hash).unwrap();
    world.order(0, Order::Down(home)).unwrap();
    world.pass(880);
    // The lookup notes that it waits; before the note is read another director refreshes the user.
    let now = world.now();
    let Node { ring, users, .. } = &mut world.nodes[0];
    let snapshot = Arc::clone(ring.snapshot());
    let shard = &mut users.shards[shard_of(UserHash(hash))];
    let login = shard.login(key(hash), now.wall, &snapshot, || Ok(()));
    assert_eq!(
        (waits(login.decision), login.note),
        (Some(DelayReason::Weak), Note::Confirm)
    );
    let line = format!("USER\t{hash}\t{home}\t{}\n", now.wall.0);
    let right = world.nodes[0].ring.right.unwrap();
    world.input(0, Input::Received(right, line.as_bytes()));
    world.input(0, Input::Notes(&[key(hash)]));
    world.settle();
    assert!(world.nodes[0].wakes.contains(&key(hash)));
    assert!(matches!(world.login(0, hash), Decision::Go(_)));
}

fn saved(n: u8, vhosts: u32, down: bool) -> crate::core::state::SavedBackend {
    crate::core::state::SavedBackend {
        ip: backend(n),
        name: None,
        tag: Vec::new(),
        vhosts,
        down,
        mark: None,
        last_updown_change: Wall(if down { START - 50 } else { 0 }),
    }
}

/// As after a start with saved backends: 1 has more weight, 2 is down, 3 had been removed, 7 added.
fn recall(world: &mut World, node: usize) {
    let all = vec![
        saved(1, 150, false),
        saved(2, 100, true),
        saved(7, 30, false),
    ];
    let now = world.now();
    let ring = &mut world.nodes[node].ring;
    ring.director.recall(&all, now.wall).unwrap();
    ring.recall_backends(all, vec![backend(3)]);
}

fn weights(world: &World, node: usize) -> Vec<(IpAddr, u32, bool)> {
    let backends = world.nodes[node].ring.backends().iter();
    backends.map(|it| (it.ip, it.vhosts, it.down)).collect()
}

#[test]
fn saved_backends_win_against_the_settings_of_others_that_start_too() {
    let as_saved = [
        (backend(1), 150, false),
        (backend(2), 100, true),
        (backend(7), 30, false),
    ];
    for plain in [false, true] {
        for who in [&[0][..], &[1], &[0, 1], &[0, 1, 2]] {
            let mut world = World::new(3, 3);
            world.plain = plain;
            for &node in who {
                recall(&mut world, node);
            }
            for node in 0..3 {
                world.start(node);
            }
            world.pass(90);
            world.assert_whole();
            for node in 0..3 {
                assert_eq!(weights(&world, node), as_saved, "{who:?} {plain} at {node}");
                assert_eq!(world.nodes[node].ring.recall(), Recall::Now);
            }
        }
    }
}

#[test]
fn a_complete_ring_knows_better_than_what_was_saved() {
    let mut world = World::new(3, 3);
    world.start(0);
    world.start(1);
    world.pass(80);
    let before = weights(&world, 0);
    recall(&mut world, 2);
    world.start(2);
    world.pass(61);
    world.assert_whole();
    for node in 0..3 {
        assert_eq!(weights(&world, node), before, "at {node}");
    }
    assert_eq!(world.nodes[2].ring.recall(), Recall::Never);
}
