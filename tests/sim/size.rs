//! What a ring costs by its size: lines and bytes on all connections together, and how long changes
//! and repairs take. L4: a user's login is told at most twice over each connection, and a backend's
//! change makes at most a round of SYNC for each director and each of its two sendings.

use homing::core::ring::Order;

use crate::node::backend_ip;
use crate::options::{MS, Options, SECOND, Split};
use crate::rng::Rng;
use crate::world::{Stats, World};

const SIZES: [usize; 6] = [2, 3, 5, 10, 20, 30];
const LOGINS: u64 = 200;
const STEP: u64 = 10 * MS;

/// A ring without faults in which nobody does anything by himself. Every packet takes 0.1 to 2 ms.
pub fn calm(directors: usize) -> World {
    let mut rng = Rng::new(1);
    let options = Options {
        directors,
        cores: 1,
        users: 300,
        tags: 1,
        backends: 5,
        expire_secs: 900,
        run: u64::MAX / 2,
        login_every: u64::MAX / 8,
        strict: true,
        latency: (MS / 10, 2 * MS),
        split: Split::Whole,
        window: 65536,
        skew: 0,
        note_capacity: 1000,
        note_delay: 0,
        snapshot_lag: 0,
        kick_time: MS,
        output_buffer: 10 << 20,
        flush_script: false,
        user_limit: 1 << 20,
        shared_ip: false,
        faults: Vec::new(),
        fault_every: SECOND,
        order_every: 0,
        forced_orders: false,
        ..Options::draw(&mut rng)
    };
    let mut world = World::of(options, (rng, Rng::new(2)), None, false);
    world.run_until(120 * SECOND);
    assert_eq!(world.disagreement(), None, "{directors} directors");
    world
}

/// Until all agree; nanoseconds.
fn until_whole(world: &mut World) -> u64 {
    let begun = world.now;
    for _ in 0..60 * SECOND / STEP {
        let next = world.now + STEP;
        world.run_until(next);
        if world.disagreement().is_none() {
            return world.now - begun;
        }
    }
    panic!("not whole after a minute: {:?}", world.disagreement());
}

fn since(world: &World, before: &Stats) -> (u64, u64, u64) {
    let now = &world.stats;
    (
        now.lines - before.lines,
        now.bytes - before.bytes,
        now.syncs - before.syncs,
    )
}

#[test]
fn size() {
    println!("directors  lines a login  bytes a login  lines a change  SYNC  change ms  return ms");
    for directors in SIZES {
        let mut world = calm(directors);
        let n = directors as u64;

        let before = world.stats.clone();
        for user in 0..LOGINS {
            let at = world.rng.index(directors);
            world.login(at, 0, usize::try_from(user).unwrap());
            let next = world.now + 50 * MS;
            world.run_until(next);
        }
        let (lines, bytes, _) = since(&world, &before);
        assert!(lines <= LOGINS * 2 * n, "L4: {lines} lines of {n}");
        let (login_lines, login_bytes) = (lines as f64 / LOGINS as f64, bytes / LOGINS);

        world.run_until(world.now + 60 * SECOND);
        let before = world.stats.clone();
        assert!(world.give_order(0, Order::Down(backend_ip(0))));
        let change = until_whole(&mut world);
        let (lines, _, syncs) = since(&world, &before);
        assert!(syncs <= 2 * n * n, "L4: {syncs} SYNC lines of {n}");

        world.run_until(world.now + 60 * SECOND);
        world.stop(directors / 2, false);
        world.run_until(world.now + 60 * SECOND);
        world.boot(directors / 2);
        let returned = until_whole(&mut world);
        println!(
            "{directors:>9}  {login_lines:>13.1}  {login_bytes:>13}  {lines:>14}  {syncs:>4}  {:>9}  {:>9}",
            change / MS,
            returned / MS
        );
        assert_eq!(world.violation, None);
    }
}
