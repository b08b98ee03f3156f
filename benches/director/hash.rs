use std::hint::black_box;

use criterion::Criterion;
use homing::core::user_hash::{Template, cut_master_user};

use crate::cpu_time::CpuTime;
use crate::world;

const NAME: &[u8] = b"Firstname.Lastname@mail.example.org";

pub fn bench(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("hash");
    let mut scratch = Vec::new();
    let usual = world::template();
    group.bench_function("usual_template", |b| {
        b.iter(|| usual.hash(black_box(NAME), &mut scratch));
    });
    let general = Template::parse("%Ln-%Ld", &|_| None).expect("a valid template");
    group.bench_function("general_template", |b| {
        b.iter(|| general.hash(black_box(NAME), &mut scratch));
    });
    group.bench_function("cut_master_user", |b| {
        b.iter(|| cut_master_user(black_box(NAME), black_box(Some(b'*'))));
    });
    group.finish();
}
