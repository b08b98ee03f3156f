//! The user table against a plain map, and a shard against the documented rules.

mod expiry;
mod hear;
mod login;
mod moving;
mod sessions;
mod table;

use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::core::backends::{Backends, NewBackend};
use crate::core::snapshot::{BackendView, Snapshot, tag_ids};
use crate::core::user_hash::Template;
use crate::core::{BackendSlot, TagId, UserHash, UserKey, Wall};

/// A time well behind the base of the stamps.
const NOW: u64 = 1_795_459_438;

/// A complete, synced ring of several directors with backends 10.0.0.1 to 10.0.0.3 in slots 0 to 2
/// without a tag, 10.0.1.1 in slot 3 with tag `t`, and tag `none` without backends.
fn ring() -> Snapshot {
    let mut backends = Backends::new();
    let all: [(IpAddr, &[u8]); 4] = [
        ([10, 0, 0, 1].into(), b""),
        ([10, 0, 0, 2].into(), b""),
        ([10, 0, 0, 3].into(), b""),
        ([10, 0, 1, 1].into(), b"t"),
    ];
    for (ip, tag) in all {
        backends
            .add(NewBackend {
                ip,
                name: None,
                tag,
                vhosts: 100,
            })
            .unwrap();
    }
    backends.intern_tag(b"none").unwrap();
    let view = |ip| {
        Some(BackendView {
            ip,
            name: None,
            suffix: Box::default(),
            shown: Default::default(),
        })
    };
    Snapshot {
        generation: 1,
        handshaked: true,
        synced: true,
        sync_since: Some(Wall(NOW)),
        alone: false,
        tell: true,
        asks: false,
        ring_min_version: 2,
        expiry: Expiry::new(900),
        username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
        master_user_separator: None,
        backends: all.iter().map(|&(ip, _)| view(ip)).collect(),
        rings: backends.rings().into(),
        tags: Arc::new(tag_ids(
            [&b"t"[..], b"none"].into_iter(),
            ahash::RandomState::with_seed(1),
        )),
    }
}

fn key(tag: u16, hash: u32) -> UserKey {
    UserKey {
        tag: TagId(tag),
        hash: UserHash(hash),
    }
}

/// A user of shard 0 without a tag.
const USER: UserKey = UserKey {
    tag: TagId(0),
    hash: UserHash(77),
};

/// A backend that the hash ring would not choose for [`USER`].
fn other_backend(snapshot: &Snapshot) -> BackendSlot {
    let chosen = snapshot.choose(USER).unwrap();
    BackendSlot((chosen.0 + 1) % 3)
}

/// A shard that knows one user, last refreshed `age` seconds before [`NOW`].
fn shard_with(entry: Entry) -> Shard {
    let mut shard = Shard::new(5);
    shard.insert(entry);
    shard
}

/// [`USER`] on the hash ring's backend, aged.
fn aged(snapshot: &Snapshot, age: u64) -> Entry {
    Entry::new(USER, snapshot.choose(USER).unwrap(), Wall(NOW - age))
}
