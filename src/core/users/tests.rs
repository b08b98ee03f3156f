//! The user table against a plain map, and a shard against the documented rules.

mod table;

use super::*;
use crate::core::{BackendSlot, TagId, UserHash, UserKey, Wall};

/// A time well behind the base of the stamps.
const NOW: u64 = 1_795_459_438;

fn key(tag: u16, hash: u32) -> UserKey {
    UserKey {
        tag: TagId(tag),
        hash: UserHash(hash),
    }
}
