//! A simulated ring of directors: the real machine and the real user table under a network, clocks,
//! users, operators and faults that all come from one seed. docs/testing.md tells how to use it.

use std::panic::{AssertUnwindSafe, catch_unwind};

mod bugs;
mod check;
mod cores;
mod drive;
mod faults;
mod flood;
mod heal;
mod museum;
mod net;
mod node;
mod options;
mod orders;
mod report;
mod rng;
mod sessions;
mod size;
mod trace;
mod world;

use bugs::Bug;
use report::Report;
use world::{Stats, Violation, World};

/// Seeds of a run that says nothing else.
const SEEDS: u64 = 256;

/// What became of one seed.
struct Outcome {
    seed: u64,
    hash: u64,
    stats: Stats,
    violation: Option<Violation>,
    directors: usize,
    strict: bool,
    /// Some member is no Homing director to the others.
    mixed: bool,
}

/// Runs one seed to its end. A panic in the machine is a violation like others.
fn run(seed: u64, bug: Option<Bug>, print: bool) -> Outcome {
    let mut world = World::new(seed, bug, print);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ended {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.fail("S7 panic", text.unwrap_or_default());
    }
    Outcome {
        seed,
        hash: world.trace.hash(),
        directors: world.options.directors,
        strict: world.options.strict,
        mixed: world.options.old.is_some(),
        stats: world.stats,
        violation: world.violation,
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => otherwise,
    }
}

/// Runs seeds on all processors; `each` says whether to go on.
fn run_all(seeds: std::ops::Range<u64>, bug: Option<Bug>, stop_early: bool) -> Vec<Outcome> {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = run(seed, bug, false);
            if stop_early && outcome.violation.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
            done.push(outcome);
        }
        done
    };
    let mut all: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join().unwrap());
        done.flatten().collect()
    });
    all.sort_by_key(|outcome| outcome.seed);
    all
}

/// A fixed range of seeds, or HOMING_SIM_SEEDS of them from HOMING_SIM_FROM; or HOMING_SIM_SEED alone,
/// with everything that happens.
#[test]
fn seeds() {
    if std::env::var("HOMING_SIM_SEED").is_ok() {
        let outcome = run(number("HOMING_SIM_SEED", 0), None, true);
        println!("{:#?}\ntrace {:016x}", outcome.stats, outcome.hash);
        assert_eq!(outcome.violation, None);
        return;
    }
    let from = number("HOMING_SIM_FROM", 0);
    let seeds = from..from + number("HOMING_SIM_SEEDS", SEEDS);
    let report = Report::of(|| run_all(seeds, None, false));
    println!("{report}");
    assert!(report.is_clean(), "{}", report.failures());
    assert!(
        report.heals_in_time(),
        "L1: p99 or the longest is above the limit"
    );
}

/// Seeds that have found something, by what was broken.
const REGRESSIONS: [(&str, &[u64]); 11] = [
    (
        "users that were asked about were never announced again",
        &[14, 15, 22],
    ),
    (
        "states of one second changed places for ever",
        &[2754, 2663, 1335],
    ),
    ("DIRECTOR lines multiplied", &[405, 590, 450]),
    (
        "a move and the removal of its backend met",
        &[626, 1334, 613],
    ),
    (
        "SYNC lines of a process that had started again were old news",
        &[393, 2401, 978],
    ),
    (
        "a confirmation by a slower clock was asked for again and again",
        &[440, 1034],
    ),
    ("half a block of hosts was enough to ask", &[673]),
    (
        "users for whom a bulk reset found no backend had sessions elsewhere, and took 30 s each",
        &[543, 1310, 1519],
    ),
    (
        "SYNC lines overtook users that had been placed by the backends before",
        &[1009],
    ),
    ("who lost a conflict in a ring of two was not told", &[1523]),
    (
        "a user whose move took longer than users live was placed anew",
        &[2574],
    ),
];

#[test]
fn what_was_found_stays_mended() {
    for (what, seeds) in REGRESSIONS {
        for seed in seeds {
            assert_eq!(
                run(*seed, None, false).violation,
                None,
                "seed {seed}: {what}"
            );
        }
    }
}

/// S8.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..16 {
        let (a, b) = (run(seed, None, false), run(seed, None, false));
        assert_eq!(a.hash, b.hash, "seed {seed}");
        assert_eq!(a.stats.events, b.stats.events, "seed {seed}");
    }
}
