//! What is decided once for all cores: the backends, and the snapshot that lookups read.

use std::net::IpAddr;
use std::sync::Arc;

use super::TagId;
use super::backends::{BackendError, Backends, NewBackend};
use super::ip_text::ip_text;
use super::lookup::suffix;
use super::snapshot::{BackendView, Snapshot, tag_ids};
use super::user_hash::Template;
use super::users::Expiry;

/// Minor version of the ring protocol that this director speaks, and the lowest in a ring of one.
pub const RING_MINOR: u32 = 9;

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

/// The control core's state of a director without a ring: handshaked and synced from the start.
#[derive(Debug)]
pub struct Director {
    config: Config,
    backends: Backends,
    generation: u64,
}

impl Director {
    /// A director that is alone.
    ///
    /// # Errors
    /// The backend that cannot be taken, and why.
    pub fn alone<'a>(
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
        })
    }

    /// The backends.
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// A snapshot of the present state, with the next generation.
    pub fn snapshot(&mut self) -> Snapshot {
        self.generation += 1;
        let expiry = Expiry::new(self.config.expire_secs);
        let slots = self
            .backends
            .iter()
            .map(|backend| usize::from(backend.slot.0) + 1)
            .max();
        let mut views = vec![None; slots.unwrap_or(0)];
        for backend in self.backends.iter() {
            let text = ip_text(backend.ip);
            let suffix = suffix(&text, backend.name.as_deref(), expiry.seconds());
            views[usize::from(backend.slot.0)] = Some(BackendView {
                ip: backend.ip,
                suffix,
            });
        }
        let rings = self.backends.rings();
        let names = (1..rings.len()).filter_map(|tag| u16::try_from(tag).ok());
        let names = names.map(|tag| self.backends.tag_name(TagId(tag)));
        let tags = tag_ids(names, self.config.hasher.clone());
        Snapshot {
            generation: self.generation,
            handshaked: true,
            synced: true,
            sync_since: None,
            alone: true,
            ring_min_version: RING_MINOR,
            expiry,
            username_hash: Arc::clone(&self.config.username_hash),
            master_user_separator: self.config.master_user_separator,
            backends: views,
            rings,
            tags,
        }
    }
}
