use std::hint::black_box;
use std::sync::Barrier;
use std::time::Duration;

use criterion::Criterion;
use homing::core::snapshot::Snapshot;
use homing::core::{Mono, Wall};
use homing::shell::directory::Directory;

use crate::cpu_time::{CpuTime, now};
use crate::world;

/// Users of a large site; their table does not fit into any cache.
const USERS: u32 = 1_000_000;
const NOW: Wall = Wall(1_795_459_438);
/// A stride that visits all users in an order of no use to the cache.
const STRIDE: u32 = 611_953;

fn log_in(directory: &Directory, snapshot: &Snapshot, user: u32, second: u64) {
    let wall = Wall(NOW.0 + second);
    let login = directory.login(world::user(user), wall, Mono(second), snapshot);
    black_box(login.expect("the snapshot is the newest"));
}

fn filled() -> Directory {
    let directory = world::directory(20);
    let snapshot = directory.snapshot();
    (0..USERS).for_each(|user| log_in(&directory, &snapshot, user, 0));
    assert_eq!(directory.users(), u64::from(USERS));
    let per_user = directory.memory() as f64 / f64::from(USERS);
    println!("the table takes {per_user:.1} bytes a user");
    directory
}

/// CPU time in which threads look up `count` known users each, one thread for each of `directories`,
/// which may be one and the same: the longest.
fn contended(directories: &[&Directory], count: u64) -> Duration {
    let barrier = Barrier::new(directories.len());
    let work = |thread: u32, directory: &Directory| {
        let snapshot = directory.snapshot();
        let mut user = thread * (USERS / 2);
        barrier.wait();
        let start = now();
        for _ in 0..count {
            user = (user + STRIDE) % USERS;
            log_in(directory, &snapshot, user, 1);
        }
        now() - start
    };
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..)
            .zip(directories)
            .map(|(thread, directory)| scope.spawn(move || work(thread, directory)))
            .collect();
        let times = running
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        times.max().expect("at least one thread")
    })
}

pub fn bench(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("lookup");
    let directory = filled();
    let apart = filled();
    for (name, directories) in [
        ("known_user_1_threads", &[&directory][..]),
        ("known_user_2_threads", &[&directory, &directory]),
        // What two threads cost each other that share nothing but the machine.
        ("known_user_2_apart", &[&directory, &apart]),
    ] {
        group.bench_function(name, |b| {
            b.iter_custom(|count| contended(directories, count));
        });
    }
    drop(apart);
    let snapshot = directory.snapshot();
    group.bench_function("known_user_again", |b| {
        b.iter(|| log_in(&directory, &snapshot, black_box(7), 1));
    });
    drop(directory);
    group.bench_function("new_user", |b| {
        b.iter_custom(|count| {
            let directory = world::directory(20);
            let snapshot = directory.snapshot();
            let start = now();
            (0..count).for_each(|user| log_in(&directory, &snapshot, user as u32, 0));
            now() - start
        });
    });
    group.finish();
}
