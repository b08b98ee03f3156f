use homing::core::snapshot::Standing;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion};

use crate::cpu_time::CpuTime;
use crate::world;

pub fn bench(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("snapshot");
    let directory = world::directory(20);
    let mut cache = directory.cache();
    group.bench_function("load_unchanged", |b| {
        b.iter(|| black_box(cache.load().generation));
    });
    for backends in [20, 1000] {
        let mut director = world::director(backends);
        group.bench_function(format!("build_{backends}_backends"), |b| {
            b.iter(|| director.snapshot(Standing::alone()));
        });
        let directory = world::directory(backends);
        // Its first snapshot has the generation that the directory began with.
        director.snapshot(Standing::alone());
        group.bench_function(format!("publish_{backends}_backends"), |b| {
            let next = || Arc::new(director.snapshot(Standing::alone()));
            b.iter_batched(
                next,
                |snapshot| directory.publish(snapshot),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}
