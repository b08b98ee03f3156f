//! A director that is alone, as the running program builds it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use homing::core::director::{Config, Director, Seed};
use homing::core::snapshot::Standing;
use homing::core::user_hash::Template;
use homing::core::{TagId, UserHash, UserKey};
use homing::shell::directory::{Directory, Tunables};
use homing::shell::io::UnixAddress;

/// The default template.
pub fn template() -> Template {
    Template::parse("%Lu", &|_| None).expect("a valid template")
}

/// A director with that many backends of 100 virtual nodes.
pub fn director(backends: u16) -> Director {
    let config = Config {
        expire_secs: 900,
        username_hash: Arc::new(template()),
        master_user_separator: None,
        hasher: ahash::RandomState::with_seed(1),
    };
    let seed = |n: u16| {
        let [high, low] = n.to_be_bytes();
        Seed {
            ip: IpAddr::from([10, 1, high, low]),
            name: None,
            tag: "",
            vhosts: 100,
        }
    };
    Director::new(config, (1..=backends).map(seed)).expect("backends that can be taken")
}

/// The shared table of [`director`], empty and without limits that would matter.
pub fn directory(backends: u16) -> Directory {
    let nowhere = || UnixAddress::new(Path::new("/nonexistent")).expect("short enough");
    let tunables = Tunables {
        users: u64::MAX,
        new_per_second: 0,
        auth_login: nowhere(),
        auth_userdb: nowhere(),
        lookup_timeout: 25_000_000_000,
        batch_delay: 0,
    };
    let snapshot = director(backends).snapshot(Standing::alone());
    Directory::new(Arc::new(snapshot), tunables, 0x9e37_79b1).expect("a descriptor")
}

/// The `n`th user. Multiplication by an odd number: all different and spread like hashes.
pub fn user(n: u32) -> UserKey {
    let hash = n.wrapping_mul(0x9e37_79b1).max(1);
    UserKey {
        tag: TagId(0),
        hash: UserHash(hash),
    }
}
