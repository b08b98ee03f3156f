//! What is decided once for all cores: the backends, and the snapshot that lookups read.

use std::net::IpAddr;
use std::sync::Arc;

use super::backends::{BackendError, Backends, NewBackend};
use super::hash_ring::HashRing;
use super::ip_text::ip_text;
use super::lookup::suffix;
use super::snapshot::{BackendState, BackendView, Snapshot, Standing, TagIds, tag_ids};
use super::state::SavedBackend;
use super::user_hash::Template;
use super::users::Expiry;
use super::{TagId, Wall};

/// What the director needs of the settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// `director_user_expire`, in seconds.
    pub expire_secs: u32,
    /// `director_username_hash`.
    pub username_hash: Arc<Template>,
    /// First byte of `auth_master_user_separator`.
    pub master_user_separator: Option<u8>,
    /// Hasher of tag names, seeded at random.
    pub hasher: ahash::RandomState,
}

/// A backend of the settings.
#[derive(Clone, Debug)]
pub struct Seed<'a> {
    /// Address.
    pub ip: IpAddr,
    /// Host name it was configured by.
    pub name: Option<&'a str>,
    /// Tag; empty for none.
    pub tag: &'a str,
    /// Virtual nodes.
    pub vhosts: u32,
}

/// The backends and what of them every snapshot shows.
#[derive(Debug)]
pub struct Director {
    config: Config,
    backends: Backends,
    generation: u64,
    /// What snapshots show of `backends`; `None`: they have changed since.
    shown: Option<Shown>,
}

/// Parts of a snapshot that are made anew only when a backend has changed.
#[derive(Clone, Debug)]
struct Shown {
    backends: Arc<[Option<BackendView>]>,
    rings: Arc<[HashRing]>,
    tags: Arc<TagIds>,
}

impl Director {
    /// A director with the backends of the settings.
    ///
    /// # Errors
    /// The backend that cannot be taken, and why.
    pub fn new<'a>(
        config: Config,
        seeds: impl Iterator<Item = Seed<'a>>,
    ) -> Result<Director, BackendError> {
        let mut backends = Backends::new();
        for seed in seeds {
            backends.add(NewBackend {
                ip: seed.ip,
                name: seed.name,
                tag: seed.tag.as_bytes(),
                vhosts: seed.vhosts,
            })?;
        }
        Ok(Director {
            config,
            backends,
            generation: 0,
            shown: None,
        })
    }

    /// Takes backends that were saved instead of those of the settings. For a director that has no users
    /// yet. Changes that the clock says are to come count as made `now`: they would win against all others.
    ///
    /// # Errors
    /// The backend that cannot be taken, and why. Those of the settings are then kept.
    pub fn recall(&mut self, saved: &[SavedBackend], now: Wall) -> Result<(), BackendError> {
        let mut backends = Backends::new();
        for backend in saved {
            backends.recall(&backend.as_line(), now)?;
        }
        self.backends = backends;
        self.shown = None;
        Ok(())
    }

    /// The backends.
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// The backends, to be changed; the next snapshot will look at all of them again.
    pub fn change_backends(&mut self) -> &mut Backends {
        self.shown = None;
        &mut self.backends
    }

    /// The backends, for changes that no snapshot shows.
    pub(super) fn mark_backends(&mut self) -> &mut Backends {
        &mut self.backends
    }

    /// Whether the next snapshot will show other backends than the last one.
    pub fn has_changed(&self) -> bool {
        self.shown.is_none()
    }

    /// Expiry times of users.
    pub fn expiry(&self) -> Expiry {
        Expiry::new(self.config.expire_secs)
    }

    /// A snapshot of the present state, with the next generation.
    pub fn snapshot(&mut self, standing: Standing) -> Snapshot {
        self.generation += 1;
        let shown = match self.shown.take() {
            Some(shown) => shown,
            None => self.show(),
        };
        self.shown = Some(shown.clone());
        Snapshot {
            generation: self.generation,
            handshaked: standing.handshaked,
            synced: standing.synced,
            sync_since: standing.sync_since,
            alone: standing.alone,
            tell: standing.tell,
            asks: standing.asks,
            ring_min_version: standing.min_version,
            expiry: self.expiry(),
            username_hash: Arc::clone(&self.config.username_hash),
            master_user_separator: self.config.master_user_separator,
            backends: shown.backends,
            rings: shown.rings,
            tags: shown.tags,
        }
    }

    fn show(&self) -> Shown {
        let slots = self
            .backends
            .iter()
            .map(|backend| usize::from(backend.slot.0) + 1)
            .max();
        let mut views = vec![None; slots.unwrap_or(0)];
        for backend in self.backends.iter() {
            let text = ip_text(backend.ip);
            let suffix = suffix(&text, backend.name.as_deref(), self.expiry().seconds());
            views[usize::from(backend.slot.0)] = Some(BackendView {
                ip: backend.ip,
                name: backend.name.as_deref().map(Box::from),
                suffix,
                shown: BackendState {
                    tag: backend.tag,
                    vhosts: backend.vhosts,
                    down: backend.down,
                    last_updown_change: backend.last_updown_change,
                },
            });
        }
        let rings = self.backends.rings();
        let names = (1..rings.len()).filter_map(|tag| u16::try_from(tag).ok());
        let names = names.map(|tag| self.backends.tag_name(TagId(tag)));
        let tags = tag_ids(names, self.config.hasher.clone());
        Shown {
            backends: views.into(),
            rings: rings.into(),
            tags: Arc::new(tags),
        }
    }
}
