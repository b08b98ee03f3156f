//! What lookups read and rarely changes: backends, hash rings, ring state. One immutable value
//! with a generation; the ring's machine is the only one that makes new ones.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::hash_ring::HashRing;
use super::users::Expiry;
use super::{BackendSlot, TagId, UserKey, Wall};
use crate::core::user_hash::Template;
use crate::wire::ring::MINOR;

/// One backend as lookups see it.
#[derive(Clone, Debug)]
pub struct BackendView {
    /// Address.
    pub ip: IpAddr,
    /// Host name it was configured by.
    pub name: Option<Box<str>>,
    /// `\tproxy_refresh=<n>\thost=<ip>`, or with host name and `hostip`: what a reply gets
    /// appended (docs/protocol/login.md, the appended fields).
    pub suffix: Box<[u8]>,
    /// What an operator sees of it.
    pub shown: BackendState,
}

/// What lookups do not need of a backend, but operators want to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendState {
    /// Tag whose users it serves.
    pub tag: TagId,
    /// Its weight.
    pub vhosts: u32,
    /// Out of service.
    pub down: bool,
    /// When `down` last changed; 0: never.
    pub last_updown_change: Wall,
}

/// Tags by name. The hash is seeded, so that nobody can choose names that collide.
pub type TagIds = HashMap<Box<[u8]>, TagId, ahash::RandomState>;

/// One immutable state of everything that lookups share.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with every published snapshot.
    pub generation: u64,
    /// The ring was complete at least once since start.
    pub handshaked: bool,
    /// All directors agree on the backends.
    pub synced: bool,
    /// When `synced` last changed; `None`: never.
    pub sync_since: Option<Wall>,
    /// There is no right: nobody to ask whether a user's assignment still holds.
    pub alone: bool,
    /// A director is connected: the ring's machine hears of every change of a user.
    pub tell: bool,
    /// Not handshaked, but a Homing director that is can be asked for users we do not know.
    pub asks: bool,
    /// Lowest protocol minor version in the ring.
    pub ring_min_version: u32,
    /// Expiry times of users.
    pub expiry: Expiry,
    /// `director_username_hash`.
    pub username_hash: Arc<Template>,
    /// First byte of `auth_master_user_separator`.
    pub master_user_separator: Option<u8>,
    /// By slot; `None`: no backend has this slot.
    pub backends: Arc<[Option<BackendView>]>,
    /// By tag.
    pub rings: Arc<[HashRing]>,
    /// Tags by name; without the empty one.
    pub tags: Arc<TagIds>,
}

/// How the ring is; what of a snapshot changes without the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// [`Snapshot::handshaked`].
    pub handshaked: bool,
    /// [`Snapshot::synced`].
    pub synced: bool,
    /// [`Snapshot::sync_since`].
    pub sync_since: Option<Wall>,
    /// [`Snapshot::alone`].
    pub alone: bool,
    /// [`Snapshot::tell`].
    pub tell: bool,
    /// [`Snapshot::asks`].
    pub asks: bool,
    /// [`Snapshot::ring_min_version`].
    pub min_version: u32,
}

impl Standing {
    /// That of a director without others.
    pub fn alone() -> Standing {
        Standing {
            handshaked: true,
            synced: true,
            sync_since: None,
            alone: true,
            tell: false,
            asks: false,
            min_version: MINOR,
        }
    }

    /// That of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Standing {
        Standing {
            handshaked: snapshot.handshaked,
            synced: snapshot.synced,
            sync_since: snapshot.sync_since,
            alone: snapshot.alone,
            tell: snapshot.tell,
            asks: snapshot.asks,
            min_version: snapshot.ring_min_version,
        }
    }
}

/// Numbers tag names from 1 in their order; 0 is the empty tag.
pub fn tag_ids<'a>(names: impl Iterator<Item = &'a [u8]>, hasher: ahash::RandomState) -> TagIds {
    let mut tags = TagIds::with_hasher(hasher);
    for (name, tag) in names.zip(1..=u16::MAX) {
        tags.insert(Box::from(name), TagId(tag));
    }
    tags
}

impl Snapshot {
    /// The hash ring's backend for a user; `None` when its tag has no usable backend.
    pub fn choose(&self, key: UserKey) -> Option<BackendSlot> {
        self.rings.get(usize::from(key.tag.0))?.lookup(key.hash)
    }

    /// Whether `slot` names a backend.
    pub fn has_backend(&self, slot: BackendSlot) -> bool {
        matches!(self.backends.get(usize::from(slot.0)), Some(Some(_)))
    }

    /// The backend at `slot`.
    pub fn backend(&self, slot: BackendSlot) -> Option<&BackendView> {
        self.backends.get(usize::from(slot.0))?.as_ref()
    }

    /// The tag called `name`; `None` when no backend ever had it.
    pub fn tag(&self, name: &[u8]) -> Option<TagId> {
        if name.is_empty() {
            return Some(TagId(0));
        }
        self.tags.get(name).copied()
    }

    /// How many tags there are, the empty one included.
    pub fn tag_count(&self) -> usize {
        self.tags.len() + 1
    }

    /// The ring's state in the words of Dovecot's log.
    pub fn ring_state(&self, now: Wall) -> String {
        match self.sync_since {
            None => "Ring has never been synced".to_owned(),
            Some(since) => {
                let synced = if self.synced { "synced" } else { "not synced" };
                format!("Ring {synced} for {} secs", now.0.saturating_sub(since.0))
            }
        }
    }
}
