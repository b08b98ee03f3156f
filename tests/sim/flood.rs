//! One director says far more than it could have to say. docs/protocol/ring.md, floods.

use crate::node::backend_ip;
use crate::options::{MS, SECOND};
use crate::size::calm;
use crate::world::World;

const FLOODER: usize = 1;
/// What waits to be sent stays below this: the flooder's kernel takes no more.
const QUEUE: usize = 64 << 10;

/// 64 KiB of lines whenever there is room, on every connection of the flooder.
fn flood(world: &mut World, line: &str) -> u64 {
    let ends: Vec<(u64, usize)> = world
        .links
        .iter()
        .flat_map(|(id, link)| [(*id, 0, link), (*id, 1, link)])
        .filter(|(_, side, link)| {
            link.ends[*side].at.node == FLOODER
                && link.ends.iter().all(|end| end.open)
                && link.pipes[*side].queue.len() < QUEUE
        })
        .map(|(id, side, _)| (id, side))
        .collect();
    let lines = QUEUE / line.len();
    for (id, side) in &ends {
        world.send(*id, *side, line.repeat(lines).into_bytes());
    }
    (ends.len() * lines) as u64
}

/// Ten seconds in which the others have logins; lines that were told, without the flood.
fn told(line: impl Fn(&World) -> Option<String>) -> (u64, u64, World) {
    let mut world = calm(4);
    let before = std::mem::take(&mut world.stats).lines;
    assert!(before > 0, "the ring came together");
    let mut flooded = 0;
    for turn in 0..1000 {
        if let Some(line) = line(&world) {
            flooded += flood(&mut world, &line);
        }
        if turn % 10 == 0 {
            let at = [0, 2, 3][turn / 10 % 3];
            world.login(at, 0, turn / 10);
        }
        let next = world.now + 10 * MS;
        world.run_until(next);
    }
    let told = world.stats.lines - flooded;
    (flooded, told, world)
}

#[test]
fn one_that_floods_does_not_keep_the_others_from_anything() {
    let (_, quiet, _) = told(|_| None);
    for what in ["USER", "HOST", "USER-WEAK"] {
        let (flooded, loud, mut world) = told(|world| {
            let wall = world.nodes[FLOODER].clocks(world.now).wall.0;
            Some(match what {
                "USER" => format!("USER\t77\t{}\t{wall}\n", backend_ip(0)),
                "HOST" => format!(
                    "HOST\t192.0.2.2\t9090\t{wall}\t{}\t10\t\tU0\t\n",
                    backend_ip(0)
                ),
                _ => format!(
                    "USER-WEAK\t192.0.2.2\t9090\t{wall}\t78\t{}\n",
                    backend_ip(0)
                ),
            })
        });
        assert!(flooded > 1_000_000, "{what}: {flooded}");
        // Repetitions are told no further: what is new in them is, once a second.
        assert!(
            loud < 2 * quiet + 1000,
            "{what}: {loud} lines instead of {quiet}"
        );
        assert_eq!(world.violation, None, "{what}");
        assert_eq!(
            (world.stats.answered, world.stats.timed_out),
            (100, 0),
            "{what}"
        );
        world.run_until(world.now + 10 * SECOND);
        assert_eq!(world.disagreement(), None, "{what}");
    }
}
