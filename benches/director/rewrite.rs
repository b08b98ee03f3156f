use homing::core::snapshot::Standing;
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use homing::core::lookup::{Local, Socket, answer, question, write_answer};
use homing::core::snapshot::Snapshot;
use homing::shell::relay::tap::Tap;
use homing::wire::auth::{Reply, parse_about, parse_reply, parse_request};

use crate::cpu_time::CpuTime;
use crate::world;

const REPLY: &[u8] = b"OK\t1\tuser=firstname.lastname@mail.example.org\tproxy\tport=143\t\
    lip=10.0.0.21\tlport=143\tpass=correct horse battery staple";
const REQUEST: &[u8] = b"AUTH\t1\tPLAIN\tservice=imap\tsecured=tls\tsession=jv8h3vVgeMN/AAAB\t\
    lip=10.0.0.21\trip=192.0.2.77\tlport=143\trport=50040\t\
    resp=AGZpcnN0bmFtZS5sYXN0bmFtZUBtYWlsLmV4YW1wbGUub3JnAHB3";

/// All that happens to a reply but for the user table.
fn rewritten(line: &[u8], snapshot: &Snapshot, names: &mut Vec<u8>, out: &mut Vec<u8>) {
    let Reply::Found(found) = parse_reply(line, false) else {
        panic!("a reply that asks");
    };
    let question = question(&found, Socket::Login, Local::default, snapshot, names);
    let question = question.expect("a reply that asks");
    let key = question.key(snapshot).expect("a known tag");
    let slot = snapshot.choose(key).expect("there are backends");
    let backend = snapshot.backend(slot).expect("there are backends");
    out.clear();
    write_answer(line, answer(&question, backend), backend, None, out);
}

pub fn bench(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("rewrite");
    let snapshot = world::director(20).snapshot(Standing::alone());
    let (mut names, mut out) = (Vec::new(), Vec::new());

    group.throughput(Throughput::Bytes(REPLY.len() as u64));
    group.bench_function("parse_reply", |b| {
        b.iter(|| matches!(parse_reply(black_box(REPLY), false), Reply::Found(_)));
    });
    group.bench_function("reply_to_answer", |b| {
        b.iter(|| rewritten(black_box(REPLY), &snapshot, &mut names, &mut out));
    });

    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("parse_request", |b| {
        b.iter(|| parse_request(black_box(REQUEST)));
    });
    group.bench_function("parse_about", |b| {
        b.iter(|| parse_about(black_box(REQUEST)));
    });
    let line = [REQUEST, b"\n"].concat();
    group.bench_function("tap_feed_and_take", |b| {
        let mut tap = Tap::default();
        b.iter(|| {
            tap.feed(black_box(&line));
            tap.take(b"1")
        });
    });
    group.finish();
}
