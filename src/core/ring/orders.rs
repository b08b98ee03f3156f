//! What operators order (docs/protocol/ring.md, hosts).

use std::net::IpAddr;
use std::num::NonZeroU32;

use thiserror::Error;

use super::{Deed, Event, Kick, Ring, Table};
use crate::core::backends::{BackendError, NewBackend};
use crate::core::ip_text::ip_text;
use crate::core::users::{Ordered, shard_of};
use crate::core::{UserHash, UserKey};
use crate::wire::admin::MAX_VHOSTS;
use crate::wire::ring::{Command, DirectorId, Hash, Order as Line};

/// An operator's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Adds a backend, or gives a known one another weight.
    SetBackend {
        /// Its address.
        ip: IpAddr,
        /// Tag of a new one; a known one keeps its tag, which must be this one if it is given.
        tag: Option<Vec<u8>>,
        /// Weight; `None`: as it is, 100 for a new one.
        vhosts: Option<u32>,
    },
    /// Adds a backend of a host name; nothing happens if it is known.
    AddNamed {
        /// Its address.
        ip: IpAddr,
        /// The host name.
        name: String,
        /// Its tag; empty for none.
        tag: Vec<u8>,
        /// Its weight.
        vhosts: u32,
    },
    /// Gives a known backend another weight.
    UpdateBackend {
        /// Its address.
        ip: IpAddr,
        /// Must be its tag if it is given.
        tag: Option<Vec<u8>>,
        /// Weight; `None`: as it is, but the others are told of it.
        vhosts: Option<u32>,
    },
    /// Puts a backend into service.
    Up(IpAddr),
    /// Takes a backend out of service; its users stay.
    Down(IpAddr),
    /// Removes a backend, and forgets its users.
    Remove(IpAddr),
    /// Forgets the users of a backend. Ends no sessions.
    ForgetUsers(IpAddr),
    /// Gives a backend no new users, and has its users leave it, so many a second, [`super::MAX_RATE`]
    /// at most. Of a backend that is being drained, only the rate changes.
    Drain(IpAddr, NonZeroU32),
    /// Ends a drain, and gives the backend the weight that it had before.
    CancelDrain(IpAddr),
    /// Sends a user to another backend.
    Move(UserHash, IpAddr),
    /// Ends the sessions of a login name.
    KickUser(Vec<u8>),
    /// Ends the sessions whose passdb field has a value.
    KickAlt(Vec<u8>, Vec<u8>),
    /// Ends the sessions of a user hash on all backends but one.
    KickHash(UserHash, IpAddr),
    /// Adds a director to the ring, if it is not there. It is not dialled.
    AddDirector(DirectorId),
    /// Removes a director from the ring.
    RemoveDirector(DirectorId),
    /// Removes the first director in the list that has this address.
    RemoveDirectorAt(IpAddr),
}

impl Order {
    /// The backend to which it gives another weight or state. Such changes can cross; that a backend
    /// goes, or its users, cannot.
    pub(super) fn changes_backend(&self) -> Option<IpAddr> {
        match self {
            Order::SetBackend { ip, .. }
            | Order::UpdateBackend { ip, .. }
            | Order::Up(ip)
            | Order::Down(ip) => Some(*ip),
            _ => None,
        }
    }

    /// Whether it is one of those that end sessions and change nothing.
    pub fn is_kick(&self) -> bool {
        matches!(
            self,
            Order::KickUser(_) | Order::KickAlt(..) | Order::KickHash(..)
        )
    }
}

/// Why an order was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OrderError {
    /// The backend is not in the list, or does not fit.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// [`MAX_VHOSTS`].
    #[error("vhost count {0} is above {MAX_VHOSTS}")]
    TooManyVhosts(u32),
    /// The last change of this backend is still on its way round the ring.
    #[error("backend {} is being updated: try again later", ip_text(*.0))]
    Updating(IpAddr),
    /// A backend's tag cannot be changed.
    #[error("backend {} has another tag", ip_text(*.0))]
    OtherTag(IpAddr),
    /// The user is being moved.
    #[error("user is being moved: try again later")]
    Moving,
    /// There is no such director.
    #[error("director is not in the ring")]
    UnknownDirector,
    /// [`crate::core::members::MAX_MEMBERS`].
    #[error("no room for another director")]
    TooManyDirectors,
    /// A backend cannot be drained.
    #[error("no other backend of its tag can take the users of backend {}", ip_text(*.0))]
    NobodyElse(IpAddr),
    /// There is no drain of this backend.
    #[error("backend {} is not being drained", ip_text(*.0))]
    NotDraining(IpAddr),
    /// [`super::MAX_DRAINS`].
    #[error("too many backends are being drained")]
    TooManyDrains,
    /// Names so long that some director could not read the line.
    #[error("the name is too long for the ring")]
    TooLong,
}

/// Weight of a backend that is added without one.
const DEFAULT_VHOSTS: u32 = 100;

impl Ring {
    /// Carries out an operator's order, and tells the others. The checks of an order come in the order
    /// in which Dovecot makes them (docs/protocol/admin.md, commands).
    pub(super) fn carry_out_order<T: Table>(
        &mut self,
        order: &Order,
        table: &mut T,
    ) -> Result<(), OrderError> {
        match order {
            Order::SetBackend { ip, tag, vhosts } => {
                self.set_backend(*ip, tag.as_deref(), *vhosts, true)
            }
            Order::AddNamed {
                ip,
                name,
                tag,
                vhosts,
            } => self.add_named(NewBackend {
                ip: *ip,
                name: Some(name),
                tag,
                vhosts: *vhosts,
            }),
            Order::UpdateBackend { ip, tag, vhosts } => {
                self.set_backend(*ip, tag.as_deref(), *vhosts, false)
            }
            Order::Up(ip) => self.set_down(*ip, false),
            Order::Down(ip) => self.set_down(*ip, true),
            Order::Remove(ip) => self.drop_backend(*ip, true),
            Order::ForgetUsers(ip) => self.drop_backend(*ip, false),
            Order::Drain(ip, rate) => self.begin_drain(*ip, *rate),
            Order::CancelDrain(ip) => self.cancel_drain(*ip),
            Order::Move(hash, host) => self.move_user(*hash, *host, table),
            Order::KickUser(name) => self.kick(
                Line::UserKick(name.as_slice().into()),
                Kick::User(name.clone()),
            ),
            Order::KickAlt(field, value) => {
                let line = Line::UserKickAlt {
                    field: field.as_slice().into(),
                    value: value.as_slice().into(),
                };
                self.kick(line, Kick::Alt(field.clone(), value.clone()))
            }
            Order::KickHash(hash, except) => match Hash::new(hash.0) {
                None => Ok(()),
                Some(on_wire) => self.kick(
                    Line::UserKickHash {
                        hash: on_wire,
                        except: *except,
                    },
                    Kick::Hash(*hash, *except),
                ),
            },
            Order::AddDirector(id) => self.add_director(*id),
            Order::RemoveDirector(id) => self.remove_director(*id),
            Order::RemoveDirectorAt(ip) => {
                let first = self.members.iter().find(|member| member.id.ip == *ip);
                let id = first.map(|member| member.id);
                self.remove_director(id.ok_or(OrderError::UnknownDirector)?)
            }
        }
    }

    fn changeable(&self, ip: IpAddr) -> Result<(), OrderError> {
        match self.director.backends().find(ip) {
            None => Err(BackendError::Unknown(ip).into()),
            Some(backend) if backend.desynced => Err(OrderError::Updating(ip)),
            Some(_) => Ok(()),
        }
    }

    /// A backend was changed here: the others are told, and asked whether they agree.
    fn changed(&mut self, ip: IpAddr) {
        self.stale = true;
        let in_ring = self.left.is_some() || self.right.is_some();
        self.director.mark_backends().mark_ordered(ip, in_ring);
        let own = self.own_origin();
        self.tell_host(ip, own, None);
        self.sync_ring();
    }

    /// `add`: one that is not there is added.
    pub(super) fn set_backend(
        &mut self,
        ip: IpAddr,
        tag: Option<&[u8]>,
        vhosts: Option<u32>,
        add: bool,
    ) -> Result<(), OrderError> {
        if let Some(vhosts) = vhosts.filter(|vhosts| *vhosts > MAX_VHOSTS) {
            return Err(OrderError::TooManyVhosts(vhosts));
        }
        let backends = self.director.backends();
        let before = if let Some(backend) = backends.find(ip) {
            let before = backend.vhosts;
            if tag.is_some_and(|tag| tag != backends.tag_name(backend.tag)) {
                return Err(OrderError::OtherTag(ip));
            }
            self.changeable(ip)?;
            if let Some(vhosts) = vhosts {
                self.director.change_backends().set_vhosts(ip, vhosts)?;
            }
            before
        } else if add {
            self.director.change_backends().add(NewBackend {
                ip,
                name: None,
                tag: tag.unwrap_or_default(),
                vhosts: vhosts.unwrap_or(DEFAULT_VHOSTS),
            })?;
            DEFAULT_VHOSTS
        } else {
            return Err(BackendError::Unknown(ip).into());
        };
        if let Some(vhosts) = vhosts {
            let (from, to) = (before, vhosts);
            self.say(Event::Ordered(Deed::Vhosts { ip, from, to }));
        }
        self.changed(ip);
        Ok(())
    }

    fn add_named(&mut self, new: NewBackend<'_>) -> Result<(), OrderError> {
        if self.director.backends().find(new.ip).is_none() {
            self.director.change_backends().add(new)?;
            self.changed(new.ip);
        }
        Ok(())
    }

    fn set_down(&mut self, ip: IpAddr, down: bool) -> Result<(), OrderError> {
        let backend = self.director.backends().find(ip);
        let backend = backend.ok_or(BackendError::Unknown(ip))?;
        if backend.down == down {
            return Ok(());
        }
        let (vhosts, since) = (backend.vhosts, backend.last_updown_change);
        self.changeable(ip)?;
        let when = self.now.wall;
        let backends = self.director.change_backends();
        if down {
            backends.down(ip, when)?;
        } else {
            backends.up(ip, when)?;
        }
        self.say(Event::Ordered(Deed::UpDown {
            ip,
            down,
            vhosts,
            since,
        }));
        self.changed(ip);
        Ok(())
    }

    /// Forgets the users of a backend, and perhaps the backend itself; a change of it that is still on its
    /// way does not matter then.
    pub(super) fn drop_backend(&mut self, ip: IpAddr, remove: bool) -> Result<(), OrderError> {
        if self.director.backends().find(ip).is_none() {
            return Err(BackendError::Unknown(ip).into());
        }
        let own = self.own_origin();
        self.drop_host(ip, remove, own, None);
        Ok(())
    }

    fn move_user<T: Table>(
        &mut self,
        hash: UserHash,
        host: IpAddr,
        table: &mut T,
    ) -> Result<(), OrderError> {
        let snapshot = self.fresh(table);
        let backend = self.director.backends().find(host);
        let backend = backend.ok_or(BackendError::Unknown(host))?;
        let (slot, tag) = (backend.slot, backend.tag);
        let key = UserKey { tag, hash };
        let now = self.now.wall;
        let ordered = table.with(shard_of(hash), |shard| {
            shard.order_move(key, slot, now, &snapshot)
        });
        match ordered {
            Ordered::Busy => return Err(OrderError::Moving),
            Ordered::There(entry) => self.tell_user(&entry, None),
            Ordered::Move => {
                let own = self.own_origin();
                self.start_move(key, host, own, None, table);
            }
        }
        Ok(())
    }

    fn kick(&mut self, line: Line<'_>, kick: Kick) -> Result<(), OrderError> {
        if !line.fits() {
            return Err(OrderError::TooLong);
        }
        let own = self.own_origin();
        self.broadcast(&Command::Order(own, line), None);
        self.begin_kick(kick);
        Ok(())
    }

    fn add_director(&mut self, id: DirectorId) -> Result<(), OrderError> {
        if self.members.get(id).is_some_and(|member| !member.removed) {
            return Ok(());
        }
        self.members
            .add(id)
            .map_err(|_| OrderError::TooManyDirectors)?;
        if let Some(member) = self.members.get_mut(id) {
            member.removed = false;
        }
        self.say(Event::Ordered(Deed::Added(id)));
        // Who serves alone would not look for it otherwise.
        if self.standing.synced {
            self.arm_preferred();
        }
        self.broadcast(&Command::Director(id), None);
        Ok(())
    }

    fn remove_director(&mut self, id: DirectorId) -> Result<(), OrderError> {
        if id == self.members.me() {
            // The others leave us; nothing changes here before they do.
            self.say(Event::Ordered(Deed::Removed(id)));
            self.broadcast(&Command::DirectorRemove(id), None);
            self.sync_ring();
            return Ok(());
        }
        if !self.members.remove(id) {
            return Err(OrderError::UnknownDirector);
        }
        self.say(Event::Ordered(Deed::Removed(id)));
        self.member_removed(id, None);
        Ok(())
    }

    /// The process ends: every neighbour is told so.
    pub(super) fn leave(&mut self) {
        self.left = None;
        self.right = None;
        self.leaving = true;
        let all: Vec<super::ConnId> = self.conns.map.keys().copied().collect();
        for id in all {
            self.close(id, "Shutting down", super::event::Level::Debug);
        }
    }
}
