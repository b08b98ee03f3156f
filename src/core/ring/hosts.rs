//! Backends: what is said of them, and what is told (docs/protocol/ring.md, hosts).

use std::borrow::Cow;
use std::net::IpAddr;

use super::{ConnId, Event, Ring};
use crate::core::BackendSlot;
use crate::core::backends::{Backend, BackendError, Backends, HostLine, Merged, Teller};
use crate::wire::ring::{Command, DirectorId, Host, Order, Origin};

/// A slot is free when every shard was swept since its backend went: after the sweep that was under
/// way, and the next one.
const SWEEPS: u8 = 2;

/// A backend as lines have it.
pub(super) fn as_host<'a>(backends: &'a Backends, backend: &'a Backend) -> Host<'a> {
    Host {
        ip: backend.ip,
        vhosts: backend.vhosts,
        tag: Cow::Borrowed(backends.tag_name(backend.tag)),
        down: backend.down,
        changed: backend.last_updown_change.0,
        name: backend
            .name
            .as_deref()
            .map(|name| Cow::Borrowed(name.as_bytes())),
    }
}

impl Ring {
    /// HOST with an origin; `None`: somebody unknown issued it, so we do.
    pub(super) fn host_received(&mut self, id: ConnId, host: &Host<'_>, origin: Option<Origin>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if let Err(error) = host.check_tag(conn.peer_minor) {
            return self.refuse(id, &error);
        }
        let sender = conn.director;
        // What it says after it has agreed with us follows on what we know, however long others are on
        // their way with that.
        let teller = origin.and_then(|origin| self.members.get(origin.director));
        let agreed = teller.map_or(0, |member| member.agreed);
        match self.merge_host(&HostLine::from(host), agreed) {
            None | Some(Merged::Unchanged) => {}
            Some(Merged::Changed {
                teller: Teller::Ourselves,
                ..
            }) => {
                let own = self.own_origin();
                self.tell_host(host.ip, own, None);
                self.sync_ring();
            }
            Some(Merged::Changed { .. }) => {
                let origin = self.or_own(origin);
                self.tell_host(host.ip, origin, sender);
                self.sync_ring();
            }
        }
    }

    /// HOST-REMOVE and HOST-FLUSH.
    pub(super) fn host_gone(
        &mut self,
        id: ConnId,
        ip: IpAddr,
        origin: Option<Origin>,
        remove: bool,
    ) {
        if self.director.backends().find(ip).is_none() {
            return;
        }
        let origin = self.or_own(origin);
        let sender = self.conns.director(id);
        self.drop_host(ip, remove, origin, sender);
    }

    /// Tells the others that a backend, or only its users, are gone, and forgets them here.
    pub(super) fn drop_host(
        &mut self,
        ip: IpAddr,
        remove: bool,
        origin: Origin,
        except: Option<DirectorId>,
    ) {
        let order = if remove {
            Order::HostRemove(ip)
        } else {
            Order::HostFlush(ip)
        };
        self.broadcast(&Command::Order(origin, order), except);
        self.forget_host(ip, remove);
        self.sync_ring();
    }

    /// Forgets the users of a backend, and perhaps the backend itself.
    pub(super) fn forget_host(&mut self, ip: IpAddr, remove: bool) {
        let backends = self.director.change_backends();
        let slot = if remove {
            backends.remove(ip).map(|backend| backend.slot)
        } else {
            backends.drop_users(ip)
        };
        match slot {
            Ok(slot) => self.retire(slot),
            Err(error) => self.say(Event::Ignored(error.to_string())),
        }
        self.stale = true;
    }

    /// Before the backends of a complete ring are taken over.
    pub(super) fn drop_all_hosts(&mut self) {
        let all: Vec<IpAddr> = self.director.backends().iter().map(|it| it.ip).collect();
        for ip in all {
            self.forget_host(ip, true);
        }
    }

    /// Takes what a line says of a backend; `None`: there is no room for it, which is logged.
    /// `agreed`: see [`Backends::merge`].
    pub(super) fn merge_host(&mut self, line: &HostLine<'_>, agreed: u64) -> Option<Merged> {
        match self.merge_unless_same(line, agreed) {
            Ok(merged) => {
                if let Merged::Changed { retired, .. } = merged {
                    self.stale = true;
                    if let Some(slot) = retired {
                        self.retire(slot);
                    }
                }
                Some(merged)
            }
            Err(error) => {
                self.say(Event::Ignored(format!("HOST line not followed: {error}")));
                None
            }
        }
    }

    /// Whether a line says nothing new of a backend.
    pub(super) fn is_known_as(&self, host: &Host<'_>) -> bool {
        let line = HostLine::from(host);
        self.director.backends().is_as_told(&line)
    }

    /// Repairs tell of hundreds of backends that are as they were: snapshots are then kept.
    fn merge_unless_same(
        &mut self,
        line: &HostLine<'_>,
        agreed: u64,
    ) -> Result<Merged, BackendError> {
        if self.director.backends().is_as_told(line) {
            return Ok(Merged::Unchanged);
        }
        let in_ring = self.left.is_some() || self.right.is_some();
        self.director.change_backends().merge(line, in_ring, agreed)
    }

    pub(super) fn retire(&mut self, slot: BackendSlot) {
        self.retired.push((slot, SWEEPS));
        self.hosts_gone = true;
        self.stale = true;
    }

    /// Every shard has been swept once more.
    pub(super) fn swept(&mut self) {
        for (_, left) in &mut self.retired {
            *left -= 1;
        }
        let (free, kept) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition(|(_, left)| *left == 0);
        self.retired = kept;
        let free: Vec<(BackendSlot, u8)> = free;
        for (slot, _) in free {
            let released = self.director.mark_backends().release_slot(slot);
            debug_assert!(released.is_ok(), "only retired slots are kept here");
        }
    }

    /// Tells a backend as it is stored.
    pub(super) fn tell_host(&mut self, ip: IpAddr, origin: Origin, except: Option<DirectorId>) {
        let backends = self.director.backends();
        let Some(backend) = backends.find(ip) else {
            return;
        };
        let order = Order::Host(as_host(backends, backend));
        let ring = self.standing.min_version;
        self.conns
            .broadcast(&Command::Order(origin, order), except, ring);
    }

    /// A repair: everything to everybody.
    pub(super) fn tell_all_hosts(&mut self) {
        let all: Vec<IpAddr> = self.director.backends().iter().map(|it| it.ip).collect();
        for ip in all {
            let own = self.own_origin();
            self.tell_host(ip, own, None);
        }
    }
}
