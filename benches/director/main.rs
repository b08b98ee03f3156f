//! What one login costs inside the director: `cargo bench --bench director [NAME]`.
//!
//! | group | what is measured |
//! |---|---|
//! | `hash` | user name to user hash |
//! | `lookup` | the shared user table, alone and with two threads |
//! | `rewrite` | one reply of auth from bytes to bytes, and the tap on requests |
//! | `ring` | the machines of a ring of three directors |
//! | `snapshot` | reading and publishing what all cores share |
//! | `work` | all of it for the logins of one read, as the relay does it |
//!
//! Times are CPU time of the thread. Short by default, so that all groups take a minute; `-- --measurement-time 10` for figures to
//! compare.

use std::time::Duration;

use cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};

mod cpu_time;
mod hash;
mod lookup;
mod rewrite;
mod ring;
mod snapshot;
mod work;
mod world;

fn short() -> Criterion<CpuTime> {
    Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = director;
    config = short();
    targets = hash::bench, rewrite::bench, snapshot::bench, lookup::bench, ring::bench,
        work::bench
}
criterion_main!(director);
