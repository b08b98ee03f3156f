//! Any line from auth: read, asked about, answered. What goes to the client begins with the line
//! as it came and is exactly one line, or is the one failure.

#![no_main]

use std::sync::{Arc, LazyLock};

use homing::core::hash_ring::HashRing;
use homing::core::lookup::{
    Answer, Local, Socket, answer, question, suffix, write_answer, write_failure,
};
use homing::core::snapshot::{BackendView, Snapshot, tag_ids};
use homing::core::user_hash::Template;
use homing::core::users::Expiry;
use homing::core::{BackendSlot, UserHash};
use homing::wire::auth::{Reply, parse_about, parse_reply};
use libfuzzer_sys::fuzz_target;

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| Snapshot {
    generation: 1,
    handshaked: true,
    synced: true,
    sync_since: None,
    alone: true,
    tell: false,
    asks: false,
    ring_min_version: 2,
    expiry: Expiry::new(900),
    username_hash: Arc::new(Template::parse("%Lu", &|_| None).expect("a valid template")),
    master_user_separator: Some(b'*'),
    backends: [Some(BackendView {
        ip: [127, 0, 0, 1].into(),
        name: Some("vm".into()),
        suffix: suffix("127.0.0.1", Some("vm"), 900),
        shown: Default::default(),
    })]
    .into(),
    rings: [HashRing::build(
        [([127, 0, 0, 1].into(), 1, BackendSlot(0))].into_iter(),
    )]
    .into(),
    tags: Arc::new(tag_ids(
        std::iter::empty(),
        ahash::RandomState::with_seeds(1, 2, 3, 4),
    )),
});

// Input: the socket type in one byte, what the request said, LF, the reply.
fuzz_target!(|data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else {
        return;
    };
    let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (about, line) = (&rest[..end], &rest[(end + 1).min(rest.len())..]);
    let socket = Socket::ALL[usize::from(kind) % Socket::ALL.len()];
    if line.contains(&b'\n') {
        return;
    }
    let Reply::Found(found) = parse_reply(line, socket == Socket::Userdb) else {
        return;
    };
    let local = || Local::of(&parse_about(about));
    let Some(question) = question(&found, socket, local, &SNAPSHOT, &mut Vec::new()) else {
        return;
    };
    assert!(found.proxy || found.proxy_maybe);
    assert!(!found.host && found.name().is_some());
    assert_eq!(question.key(&SNAPSHOT).is_some(), found.tag.is_empty());

    let backend = SNAPSHOT.backend(BackendSlot(0)).expect("there is one");
    let answer = answer(&question, backend);
    let hash = (kind >= 128).then_some(UserHash(7));
    let mut out = Vec::new();
    write_answer(line, answer, backend, hash, &mut out);
    assert_eq!(
        out.iter().position(|&byte| byte == b'\n'),
        Some(out.len() - 1)
    );
    let mut failure = Vec::new();
    write_failure(line, &mut failure);
    assert!(failure.starts_with(b"FAIL\t") && failure.ends_with(b"\tcode=temp_fail\n"));
    match answer {
        Answer::Misconfigured(_) => assert_eq!(out, failure),
        Answer::Here => assert_eq!(&out[..out.len() - 1], line),
        Answer::Proxy | Answer::ProxyAdded => {
            let added = out.strip_prefix(line).expect("nothing is taken out");
            assert!(
                added
                    .windows(backend.suffix.len())
                    .any(|at| *at == *backend.suffix)
            );
        }
    }
});
