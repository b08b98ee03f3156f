//! Any bytes of another director about the health of backends: no panic, what was read is written and read again
//! as the same, and what is kept of it is bounded.

#![no_main]

use std::collections::BTreeSet;

use homing::core::Mono;
use homing::core::health::{Health, Policy};
use homing::wire::health::{Line, MAX_LINE};
use homing::wire::line::Splitter;
use homing::wire::ring::DirectorId;
use libfuzzer_sys::fuzz_target;

// Input: the stream of a director, its greeting included.
fuzz_target!(|data: &[u8]| {
    let mut health = Health::new(Policy {
        checks: Vec::new(),
        quorum: 0,
        floor: 50,
        slow_start: 0,
        act: true,
    });
    let from = DirectorId {
        ip: [10, 0, 0, 1].into(),
        port: 9090,
    };
    let mut now = 0;
    let mut backends = BTreeSet::new();
    let _ = Splitter::default().feed(data, MAX_LINE, |line| {
        now += 1;
        let line = match Line::parse(line) {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(error) => return assert!(error.to_string().len() < 600),
        };
        let mut out = Vec::new();
        line.write(&mut out);
        assert!(out.len() <= MAX_LINE && out.pop() == Some(b'\n') && !out.contains(&b'\n'));
        assert_eq!(Line::parse(&out), Ok(Some(line.clone())));
        if let Line::Mark(mark) = &line {
            backends.insert(mark.ip);
        }
        health.heard(from, &line, Mono(now));
    });
    assert_eq!(health.marks().iter().count(), backends.len());
    let _ = Line::parse_hello(data);
});
