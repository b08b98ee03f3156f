//! The backend list, as core 0 keeps it (docs/protocol/placement.md, hosts hash).
//!
//! Pure bookkeeping: what a change means for users and for the other directors is decided by the
//! caller, which then publishes [`Backends::rings`] to the cores that serve lookups.

use std::net::IpAddr;

use thiserror::Error;

use super::hash_ring::HashRing;
use super::ip_text::{ip_order, ip_text};
use super::{BackendSlot, TagId, Wall};
use crate::wire::ring::{Host, Order};

/// Most backends, slots that wait for [`Backends::release_slot`] included. A slot is 16 bits and
/// user entries keep the last value for themselves.
pub const MAX_BACKENDS: usize = 65_534;

/// Most virtual nodes of one backend. Dovecot's administrators can set 1000; what other directors
/// send has no limit there, and one line could make the ring take gigabytes.
pub const MAX_VHOSTS: u32 = crate::wire::ring::MAX_VHOSTS;

/// Most virtual nodes of all backends together, for the same reason: about 240 MiB while rings are
/// built, 110 MiB afterwards. It is what 16,000 backends with 1000 each need.
pub const MAX_POINTS: u64 = 16_000_000;

/// Most different tags in the life of the process, the empty one included: a tag keeps its id for
/// ever, because user entries are filed under it. Real tiers have a handful.
pub const MAX_TAGS: usize = 4096;

/// Why a change was refused. The list is then as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackendError {
    /// [`Backends::add`] of an address that is in the list.
    #[error("backend {} is already in the list", ip_text(*.0))]
    Exists(IpAddr),
    /// A change to an address that is not in the list.
    #[error("backend {} is not in the list", ip_text(*.0))]
    Unknown(IpAddr),
    /// [`MAX_VHOSTS`].
    #[error("vhost count {vhosts} of backend {} is above {MAX_VHOSTS}", ip_text(*.ip))]
    TooManyVhosts {
        /// The backend.
        ip: IpAddr,
        /// What was asked for.
        vhosts: u32,
    },
    /// [`MAX_POINTS`].
    #[error(
        "vhost count {vhosts} of backend {}: all backends together would have {total}, \
         more than {MAX_POINTS}",
        ip_text(*.ip)
    )]
    TooManyPoints {
        /// The backend.
        ip: IpAddr,
        /// What was asked for.
        vhosts: u32,
        /// The sum it would make.
        total: u64,
    },
    /// [`MAX_BACKENDS`].
    #[error("no room for backend {}: {MAX_BACKENDS} are present or being forgotten", ip_text(*.0))]
    TooManyBackends(IpAddr),
    /// [`MAX_TAGS`].
    #[error("no room for tag {:?}: {MAX_TAGS} tags were seen", String::from_utf8_lossy(.0))]
    TooManyTags(Vec<u8>),
    /// No HOST line could tell of the backend.
    #[error("tag and name of backend {} are together too long for the ring", ip_text(*.0))]
    NamesTooLong(IpAddr),
    /// [`Backends::release_slot`] of a slot that no removed backend left behind.
    #[error("slot {} does not wait for its release", .0.0)]
    NotRetired(BackendSlot),
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its identity.
    pub ip: IpAddr,
    /// Host name it was configured by; never changes.
    pub name: Option<String>,
    /// Tag whose users it serves.
    pub tag: TagId,
    /// Weight: virtual nodes on the hash ring, 0..=[`MAX_VHOSTS`]. With 0 it gets no new users.
    pub vhosts: u32,
    /// Taken out by an operator or a health check: gets no new users.
    pub down: bool,
    /// When `down` last changed; 0: never.
    pub last_updown_change: Wall,
    /// Changed since the ring was last synced: another change meanwhile may cross this one.
    pub desynced: bool,
    /// Which change of the list its last one was, see [`Backends::changes`].
    pub changed: u64,
    /// What user entries and hash rings call it.
    pub slot: BackendSlot,
}

/// A backend to [`Backends::add`]: it starts up, with `last_updown_change` 0.
#[derive(Clone, Copy, Debug)]
pub struct NewBackend<'a> {
    /// Address.
    pub ip: IpAddr,
    /// Host name it was configured by.
    pub name: Option<&'a str>,
    /// Tag, any bytes; empty for none.
    pub tag: &'a [u8],
    /// 0..=[`MAX_VHOSTS`].
    pub vhosts: u32,
}

/// Who has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Used(IpAddr),
    /// Its backend was removed; user entries may still name it.
    Retired,
    Free,
}

/// All backends of all tags.
#[derive(Clone, Debug)]
pub struct Backends {
    /// By [`ip_order`].
    list: Vec<Backend>,
    /// By slot number.
    slots: Vec<SlotState>,
    /// The free ones among `slots`, last freed on top.
    free: Vec<BackendSlot>,
    /// By [`TagId`]; the first is the empty tag.
    tags: Vec<Box<[u8]>>,
    /// Sum of `vhosts` over `list`, at most [`MAX_POINTS`].
    points: u64,
    /// See [`Backends::changes`].
    changes: u64,
}

impl Default for Backends {
    fn default() -> Self {
        Self::new()
    }
}

impl Backends {
    /// An empty list that knows only the empty tag.
    pub fn new() -> Self {
        let tags = vec![Box::default()];
        Backends {
            list: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            tags,
            points: 0,
            changes: 0,
        }
    }

    /// Adds a backend and gives it a slot.
    ///
    /// # Errors
    /// `Exists`, `NamesTooLong`, `TooManyVhosts`, `TooManyPoints`, `TooManyBackends`, `TooManyTags`.
    pub fn add(&mut self, new: NewBackend<'_>) -> Result<BackendSlot, BackendError> {
        let Err(index) = self.position(new.ip) else {
            return Err(BackendError::Exists(new.ip));
        };
        names_fit(new.ip, new.tag, new.name)?;
        let points = self.points_with(new.ip, 0, new.vhosts)?;
        if !self.has_free_slot() {
            return Err(BackendError::TooManyBackends(new.ip));
        }
        let tag = self.intern_tag(new.tag)?;
        let slot = self.allocate_slot(new.ip);
        let backend = Backend {
            ip: new.ip,
            name: new.name.map(str::to_owned),
            tag,
            vhosts: new.vhosts,
            down: false,
            last_updown_change: Wall(0),
            desynced: false,
            changed: 0,
            slot,
        };
        self.list.insert(index, backend);
        self.points = points;
        self.check_invariants();
        Ok(slot)
    }

    /// Sets the weight. `true`: it changed.
    ///
    /// # Errors
    /// `Unknown`, `TooManyVhosts`, `TooManyPoints`.
    pub fn set_vhosts(&mut self, ip: IpAddr, vhosts: u32) -> Result<bool, BackendError> {
        let index = self.known(ip)?;
        let old = self.list[index].vhosts;
        self.points = self.points_with(ip, old, vhosts)?;
        self.list[index].vhosts = vhosts;
        self.check_invariants();
        Ok(old != vhosts)
    }

    /// Puts the backend into service. `true`: it was down, and `when` is its change time now. The
    /// time of a backend that was up stays.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn up(&mut self, ip: IpAddr, when: Wall) -> Result<bool, BackendError> {
        self.set_down(ip, false, when)
    }

    /// Takes the backend out of service; users that it has stay until they expire or are moved.
    /// `true`: it was up, and `when` is its change time now.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn down(&mut self, ip: IpAddr, when: Wall) -> Result<bool, BackendError> {
        self.set_down(ip, true, when)
    }

    /// Gives the backend to another tag. `true`: it changed; the users of the backend are then filed
    /// under the wrong tag, and the caller drops them.
    ///
    /// # Errors
    /// `Unknown`, `NamesTooLong`, `TooManyTags`.
    pub fn set_tag(&mut self, ip: IpAddr, tag: &[u8]) -> Result<bool, BackendError> {
        let index = self.known(ip)?;
        names_fit(ip, tag, self.list[index].name.as_deref())?;
        let tag = self.intern_tag(tag)?;
        let old = std::mem::replace(&mut self.list[index].tag, tag);
        self.check_invariants();
        Ok(old != tag)
    }

    /// Takes the backend off the list. Its slot is retired: no new backend gets it before
    /// [`Backends::release_slot`].
    ///
    /// # Errors
    /// `Unknown`.
    pub fn remove(&mut self, ip: IpAddr) -> Result<Backend, BackendError> {
        let index = self.known(ip)?;
        let backend = self.list.remove(index);
        self.slots[usize::from(backend.slot.0)] = SlotState::Retired;
        self.points -= u64::from(backend.vhosts);
        self.check_invariants();
        Ok(backend)
    }

    /// Gives the backend another slot, and so forgets all its users at once, under whatever tag they
    /// are filed. The old slot is returned; it is retired as after [`Backends::remove`].
    ///
    /// # Errors
    /// `Unknown`, `TooManyBackends`.
    pub fn drop_users(&mut self, ip: IpAddr) -> Result<BackendSlot, BackendError> {
        let index = self.known(ip)?;
        if !self.has_free_slot() {
            return Err(BackendError::TooManyBackends(ip));
        }
        let slot = self.allocate_slot(ip);
        let old = std::mem::replace(&mut self.list[index].slot, slot);
        self.slots[usize::from(old.0)] = SlotState::Retired;
        self.check_invariants();
        Ok(old)
    }

    /// The backend was changed here; `in_ring`: so that the change is on its way for a while.
    pub fn mark_ordered(&mut self, ip: IpAddr, in_ring: bool) {
        if let Ok(index) = self.position(ip) {
            self.list[index].desynced |= in_ring;
            self.mark_changed(index);
        }
    }

    fn mark_changed(&mut self, index: usize) {
        self.changes += 1;
        self.list[index].changed = self.changes;
    }

    /// How many changes there were, by lines and by orders; what the settings say is none. Who agrees with the list as it is now knows of
    /// every change up to this one.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The ring is synced: no change is under way any more.
    pub fn all_synced(&mut self) {
        for backend in &mut self.list {
            backend.desynced = false;
        }
    }

    /// Lets a new backend have the slot of a removed one. For the caller to call when no user entry
    /// names it any more.
    ///
    /// # Errors
    /// `NotRetired`.
    pub fn release_slot(&mut self, slot: BackendSlot) -> Result<(), BackendError> {
        match self.slots.get_mut(usize::from(slot.0)) {
            Some(state @ SlotState::Retired) => *state = SlotState::Free,
            _ => return Err(BackendError::NotRetired(slot)),
        }
        self.free.push(slot);
        self.check_invariants();
        Ok(())
    }

    /// The backend with this address.
    pub fn find(&self, ip: IpAddr) -> Option<&Backend> {
        self.position(ip).ok().map(|index| &self.list[index])
    }

    /// The backend that has this slot. `None` also for a retired slot.
    pub fn by_slot(&self, slot: BackendSlot) -> Option<&Backend> {
        match self.slots.get(usize::from(slot.0))? {
            SlotState::Used(ip) => self.find(*ip),
            SlotState::Retired | SlotState::Free => None,
        }
    }

    /// All backends: IPv4 before IPv6, then by address bytes.
    pub fn iter(&self) -> std::slice::Iter<'_, Backend> {
        self.list.iter()
    }

    /// Number of backends, up and down.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True if there is no backend at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The id of a tag, a new one if it has none yet.
    ///
    /// # Errors
    /// `TooManyTags`.
    pub fn intern_tag(&mut self, tag: &[u8]) -> Result<TagId, BackendError> {
        if let Some(id) = self.tag_id(tag) {
            return Ok(id);
        }
        if self.tags.len() == MAX_TAGS {
            return Err(BackendError::TooManyTags(tag.to_vec()));
        }
        self.tags.push(tag.into());
        Ok(TagId((self.tags.len() - 1) as u16))
    }

    /// The id of a tag that was seen before.
    pub fn tag_id(&self, tag: &[u8]) -> Option<TagId> {
        self.tags
            .iter()
            .position(|known| **known == *tag)
            .map(|index| TagId(index as u16))
    }

    /// The bytes of a tag; empty for an id that this list did not give.
    pub fn tag_name(&self, tag: TagId) -> &[u8] {
        self.tags.get(usize::from(tag.0)).map_or(&[], |name| name)
    }

    /// The number by which directors find out that their lists differ: over address, weight, state
    /// and tag of every backend, never 0. Names and change times are not in it.
    pub fn hosts_hash(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        for backend in &self.list {
            crc.update(&(backend.vhosts ^ u32::from(backend.down)).to_le_bytes());
            match backend.ip {
                IpAddr::V4(ip) => crc.update(&ip.octets()),
                IpAddr::V6(ip) => crc.update(&fold(&ip.octets()).to_le_bytes()),
            }
            crc.update(self.tag_name(backend.tag));
        }
        crc.finalize().max(1)
    }

    /// The hash ring of every tag, by `TagId.0`. Tags without a usable backend have an empty ring.
    pub fn rings(&self) -> Vec<HashRing> {
        (0..self.tags.len())
            .map(|tag| self.ring(TagId(tag as u16)))
            .collect()
    }

    /// The hash ring of one tag.
    pub fn ring(&self, tag: TagId) -> HashRing {
        let usable = self
            .list
            .iter()
            .filter(|backend| backend.tag == tag && !backend.down);
        HashRing::build(usable.map(|backend| (backend.ip, backend.vhosts, backend.slot)))
    }

    /// Panics where the list contradicts itself. Debug builds only.
    pub fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let in_order = |pair: &[Backend]| ip_order(pair[0].ip, pair[1].ip).is_lt();
        assert!(
            self.list.windows(2).all(in_order),
            "backends are sorted, without duplicates"
        );
        for backend in &self.list {
            let slot = self.slots[usize::from(backend.slot.0)];
            assert_eq!(slot, SlotState::Used(backend.ip), "a backend owns its slot");
            assert!(
                usize::from(backend.tag.0) < self.tags.len(),
                "a backend's tag is known"
            );
            assert!(backend.vhosts <= MAX_VHOSTS);
        }
        let count = |state: fn(&SlotState) -> bool| self.slots.iter().filter(|s| state(s)).count();
        assert_eq!(count(|s| matches!(s, SlotState::Used(_))), self.list.len());
        assert_eq!(count(|s| matches!(s, SlotState::Free)), self.free.len());
        assert!(self.slots.len() <= MAX_BACKENDS && self.tags.len() <= MAX_TAGS);
        let points: u64 = self
            .list
            .iter()
            .map(|backend| u64::from(backend.vhosts))
            .sum();
        assert_eq!(points, self.points);
        assert!(points <= MAX_POINTS);
    }

    fn has_free_slot(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < MAX_BACKENDS
    }

    fn position(&self, ip: IpAddr) -> Result<usize, usize> {
        self.list
            .binary_search_by(|backend| ip_order(backend.ip, ip))
    }

    fn known(&self, ip: IpAddr) -> Result<usize, BackendError> {
        self.position(ip).map_err(|_| BackendError::Unknown(ip))
    }

    fn set_down(&mut self, ip: IpAddr, down: bool, when: Wall) -> Result<bool, BackendError> {
        let index = self.known(ip)?;
        let backend = &mut self.list[index];
        let changed = backend.down != down;
        if changed {
            backend.down = down;
            backend.last_updown_change = when;
        }
        self.check_invariants();
        Ok(changed)
    }

    /// The sum of all weights when `ip` goes from `old` to `vhosts`, if both limits allow it.
    fn points_with(&self, ip: IpAddr, old: u32, vhosts: u32) -> Result<u64, BackendError> {
        if vhosts > MAX_VHOSTS {
            return Err(BackendError::TooManyVhosts { ip, vhosts });
        }
        let total = self.points - u64::from(old) + u64::from(vhosts);
        if total > MAX_POINTS {
            return Err(BackendError::TooManyPoints { ip, vhosts, total });
        }
        Ok(total)
    }

    /// The caller has checked that there is one.
    fn allocate_slot(&mut self, ip: IpAddr) -> BackendSlot {
        if let Some(slot) = self.free.pop() {
            self.slots[usize::from(slot.0)] = SlotState::Used(ip);
            return slot;
        }
        self.slots.push(SlotState::Used(ip));
        BackendSlot((self.slots.len() - 1) as u16)
    }
}

impl<'a> IntoIterator for &'a Backends {
    type Item = &'a Backend;
    type IntoIter = std::slice::Iter<'a, Backend>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The classic ELF string hash: how an IPv6 address enters the hosts hash, and what the `H` modifier
/// of `director_username_hash` shows.
pub(super) fn fold(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(*byte));
        let top = hash & 0xf000_0000;
        hash ^ (top >> 24) ^ top
    })
}

/// Every backend has to be told of, by every director, whatever becomes of its weight and state. A line
/// that does not fit is not written, and the ring would never agree on its backends.
fn names_fit(ip: IpAddr, tag: &[u8], name: Option<&str>) -> Result<(), BackendError> {
    let longest = Host {
        ip,
        vhosts: MAX_VHOSTS,
        tag: tag.into(),
        down: true,
        changed: u64::MAX,
        name: name.map(|name| name.as_bytes().into()),
    };
    if Order::Host(longest).fits() {
        return Ok(());
    }
    Err(BackendError::NamesTooLong(ip))
}

mod merge;

pub use merge::{HostLine, Merged, Teller};

#[cfg(test)]
#[path = "backends_tests.rs"]
mod tests;
