//! All that Homing does for a login and a relay that looks at nothing does not: the tap on requests,
//! auth's reply read, MD5, the user table, the answer. As the relay does it, for as many logins as
//! one read brings: benches/floor.py adds this to what such a relay costs.

use std::ops::Range;

use criterion::{BatchSize, Criterion, Throughput};
use homing::core::lookup::{Answer, Demand, Local, Socket, answer, write_answer};
use homing::core::snapshot::Snapshot;
use homing::core::user_hash::Together;
use homing::core::users::Decision;
use homing::core::{Mono, UserHash, Wall};
use homing::shell::directory::Directory;
use homing::shell::relay::tap::Tap;
use homing::wire::auth::{MAX_LINE, Reply, parse_reply};
use homing::wire::line::Splitter;

use crate::cpu_time::CpuTime;
use crate::world;

/// As many as benches/side_by_side.py has.
const USERS: u32 = 100_000;
const STRIDE: u32 = 61_193;
const NOW: Wall = Wall(1_795_459_438);

/// What the relay keeps of a connection and of its turn.
struct Relay {
    directory: Directory,
    tap: Tap,
    replies: Splitter,
    names: Together,
    lines: Vec<u8>,
    found: Vec<(Range<usize>, Demand)>,
    out: Vec<u8>,
}

/// Requests and replies of `count` logins, as loadgen and its stub write them.
fn dialogue(from: u32, count: u32) -> (Vec<u8>, Vec<u8>) {
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for at in 0..count {
        let (id, user) = (at + 1, from.wrapping_add(at).wrapping_mul(STRIDE) % USERS);
        let request = format!(
            "AUTH\t{id}\tPLAIN\tservice=imap\tsession=aYAz1RSdHJ9/AAAB\tlip=127.0.0.1\t\
             rip=127.0.0.1\tlport=143\trport=50000\tresp=AHVzZXIxMjM0NTYAcHc=\n"
        );
        requests.extend_from_slice(request.as_bytes());
        let reply = format!("OK\t{id}\tuser=user{user}\tproxy\tpass=pw\n");
        replies.extend_from_slice(reply.as_bytes());
    }
    (requests, replies)
}

impl Relay {
    fn new() -> Relay {
        let mut relay = Relay {
            directory: world::directory(20),
            tap: Tap::default(),
            replies: Splitter::default(),
            names: Together::default(),
            lines: Vec::new(),
            found: Vec::new(),
            out: Vec::new(),
        };
        let snapshot = relay.directory.snapshot();
        for from in 0..USERS / 32 {
            let (requests, replies) = dialogue(from * 32, 32);
            relay.work(&requests, &replies, &snapshot);
        }
        relay
    }

    fn work(&mut self, requests: &[u8], replies: &[u8], snapshot: &Snapshot) {
        self.tap.feed(requests);
        let (tap, names, lines) = (&mut self.tap, &mut self.names, &mut self.lines);
        let fed = self.replies.feed(replies, MAX_LINE, |line| {
            let Reply::Found(found) = parse_reply(line, false) else {
                panic!("a reply that asks");
            };
            tap.take(found.id);
            let demand = Demand::of(&found, Socket::Login, Local::default, snapshot);
            let (name, demand) = demand.expect("a reply that asks");
            names.push(name, &snapshot.username_hash);
            let from = lines.len();
            lines.extend_from_slice(line);
            self.found.push((from..lines.len(), demand));
        });
        fed.expect("short lines");
        let hashes = self.names.hashes();
        if hashes.len() > 1 {
            let keys = self.found.iter().zip(hashes);
            let key = |((_, demand), &hash): (&(_, Demand), &UserHash)| demand.key(hash, snapshot);
            let keys: Vec<_> = keys.filter_map(key).collect();
            keys.iter()
                .for_each(|key| self.directory.fetch_shard(key.hash));
            keys.iter().for_each(|&key| self.directory.fetch_entry(key));
        }
        self.out.clear();
        for ((line, demand), &hash) in self.found.drain(..).zip(hashes) {
            let question = demand.about(hash);
            let key = question.key(snapshot).expect("a known tag");
            let login = self.directory.login(key, NOW, Mono(0), snapshot);
            let Decision::Go(slot) = login.expect("the newest snapshot").decision else {
                panic!("a user that can log in");
            };
            let backend = snapshot.backend(slot).expect("there are backends");
            let answer = answer(&question, backend);
            assert_eq!(answer, Answer::Proxy);
            let line = &self.lines[line];
            write_answer(line, answer, backend, None, &mut self.out);
        }
        self.names.clear();
        self.lines.clear();
    }
}

pub fn bench(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("work");
    let mut relay = Relay::new();
    let snapshot = relay.directory.snapshot();
    let mut next = 0;
    for together in [1, 4, 32] {
        group.throughput(Throughput::Elements(together.into()));
        group.bench_function(format!("logins_{together}_together"), |b| {
            let texts = || {
                next += together;
                dialogue(next, together)
            };
            let work = |(requests, replies): (Vec<u8>, Vec<u8>)| {
                relay.work(&requests, &replies, &snapshot);
            };
            b.iter_batched(texts, work, BatchSize::LargeInput);
        });
    }
    group.finish();
}
