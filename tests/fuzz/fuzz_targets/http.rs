//! Any bytes as what a client of the HTTP interface sends, as far as it is ours to read: the header with the token,
//! every document of every route, a dump; and as the file of tokens, and as labels of metrics. The heads of requests
//! are read by hyper. No panic; a token is found where it is and nowhere else; an order is one line to the director,
//! whatever is in it; a sample is one line to Prometheus.

#![no_main]

use std::net::IpAddr;

use homing::admin::dump::Dump;
use homing::core::Mono;
use homing::http::documents::{
    DrainOrder, FlushOrder, KickOrder, MoveOrder, NewBackend, NewWeight,
};
use homing::http::exposition::{Exposition, Format, Kind};
use homing::http::rate::Rates;
use homing::http::tokens::{Tokens, bearer};
use homing::wire::admin::read::Host;
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    tokens(data);
    documents(data);
    dump(data);
    labels(data);
    rates(data);
});

fn tokens(data: &[u8]) {
    const FILE: &[u8] = b"ann admin a-token-that-is-as-long-as-it-must-be-0123456789\n";
    const TOKEN: &[u8] = b"a-token-that-is-as-long-as-it-must-be-0123456789";
    let known = Tokens::parse(FILE).expect("a file");
    if let Some(token) = bearer(data) {
        assert!(data.len() > token.len(), "a scheme is before it");
        assert_eq!(known.find(token).is_some(), token == TOKEN);
    }
    match Tokens::parse(data) {
        Err(fault) => assert!(fault.line > 0 && !fault.what.is_empty()),
        Ok(tokens) => {
            assert_eq!(tokens.find(b"no such token, since it has blanks"), None);
            // What is read is found by its last word, unless only its digest is there.
            for line in data.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
                let last = line.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
                if !line.is_empty() && line[0] != b'#' && !last.starts_with(b"sha256:") {
                    assert!(tokens.find(last).is_some());
                }
            }
        }
    }
}

fn documents(data: &[u8]) {
    read::<NewBackend>(data);
    read::<NewWeight>(data);
    read::<FlushOrder>(data);
    read::<DrainOrder>(data);
    read::<MoveOrder>(data);
    read::<KickOrder>(data);
}

fn read<T: DeserializeOwned>(data: &[u8]) {
    if let Err(error) = serde_json::from_slice::<T>(data) {
        assert!(!error.to_string().is_empty());
    }
}

fn dump(data: &[u8]) {
    let Ok(dump) = Dump::parse_json(data) else {
        return;
    };
    let host = |last: u8| Host {
        ip: IpAddr::from([10, 0, 0, last]),
        vhosts: 100,
        users: 0,
        tag: Vec::new(),
        down: last == 2,
        last_updown_change: 0,
    };
    let now = [host(1), host(2), host(3)];
    let steps = dump.steps(&now, true).expect("it was looked at");
    for step in &steps {
        if let Some(command) = step.command() {
            let mut line = Vec::new();
            command.write(&mut line);
            let ends = line.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!((ends, line.last()), (1, Some(&b'\n')), "{step}");
        }
    }
    assert!(dump.others(&now).expect("it was looked at") <= now.len());
    // The file of the command line says the same.
    let again = Dump::parse(&dump.text()).expect("we read what we write");
    assert_eq!(again.text(), dump.text());
    assert_eq!(again.steps(&now, true).expect("the same"), steps);
}

fn labels(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for format in [Format::of(&text), Format::OpenMetrics, Format::Prometheus] {
        let mut out = Exposition::new(format);
        out.family("homing_x", Kind::Gauge, "Something.");
        out.sample(&[("tag", &text), ("other", "x")], 1.0);
        let shown = out.finish();
        let samples = shown.lines().filter(|line| !line.starts_with('#'));
        let samples: Vec<_> = samples.collect();
        assert_eq!(samples.len(), 1, "{shown}");
        assert!(samples[0].ends_with("\",other=\"x\"} 1.0"), "{shown}");
    }
}

/// Whoever asks, and how often: nobody is remembered for ever, and nobody gets more than a second's share at once.
fn rates(data: &[u8]) {
    let mut rates = Rates::default();
    let mut allowed = 0;
    for byte in data {
        let peer = IpAddr::from([10, 0, 0, byte % 4]);
        if byte % 7 == 0 {
            rates.was_wrong(Some(peer), Mono(1));
        }
        allowed += u32::from(rates.allow(Some(peer), Mono(1)));
    }
    assert!(allowed <= 4 * 200, "{allowed}");
}
