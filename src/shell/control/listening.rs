//! Who accepts from which listener; a descriptor of each is kept, for the process that takes over.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use glommio::timer::Timer;

use super::{STATUS_PAUSE, Shared};
use crate::settings::{ListenerKind, Place, place_text};
use crate::shell::admin_io::serve::Gate;
use crate::shell::keeper::{KeeperError, KeeperEvent};
use crate::shell::readable::socket_readable;
use crate::shell::relay::carry::Carried;

/// A listener that somebody else has made: systemd or Dovecot's master.
#[derive(Debug)]
pub struct Handed {
    /// What it speaks.
    pub kind: ListenerKind,
    /// The listening socket, or the FIFO.
    pub fd: OwnedFd,
    /// Where it is.
    pub place: Place,
    /// `fd` is a FIFO.
    pub is_fifo: bool,
    /// Who may connect.
    pub gate: Gate,
}

/// Which listener it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// By its place in the keeper's list.
    Kept(usize),
    /// By its place among those that others have made.
    Handed(usize),
}

/// A listener that somebody accepts from.
pub(super) enum InUse {
    /// The serving cores.
    Cores(Arc<OwnedFd>),
    /// The ring, under this number.
    Ring(usize),
    /// The thread of the admin listeners, under this number.
    Admin(usize),
    /// The thread of the HTTP listeners, under this number.
    Http(usize),
    /// The thread of the health checks, under this number.
    Health(usize),
}

impl Shared {
    /// Begins to accept. A FIFO that one of `carried` reads already is read by nobody else.
    pub(super) fn begin_listening(
        &self,
        made: Vec<KeeperEvent>,
        handed: Vec<Handed>,
        carried: &[Carried],
    ) {
        let is_read = |fd: &OwnedFd| carried.iter().any(|relay| relay.is_fifo(fd));
        for event in made {
            match event {
                KeeperEvent::Made { index, fd } if is_read(&fd) => {
                    self.hold(Which::Kept(index), fd);
                }
                event => self.keeper_said(event),
            }
        }
        for (at, it) in handed.into_iter().enumerate() {
            self.places.borrow_mut().push(place_text(&it.place));
            let Ok(fd) = it.fd.try_clone() else {
                tracing::error!("cannot accept from {}", place_text(&it.place));
                continue;
            };
            if !is_read(&fd) {
                self.listen(fd, it.kind, it.gate, it.is_fifo);
            }
            self.hold(Which::Handed(at), it.fd);
        }
    }

    fn hold(&self, which: Which, fd: OwnedFd) {
        self.held.borrow_mut().insert(which, fd);
    }

    pub(super) fn keeper_said(&self, event: KeeperEvent) {
        match event {
            KeeperEvent::Made { index, fd } => {
                let Some(listener) = self.kept.get(index) else {
                    return;
                };
                let place = place_text(&listener.place);
                match fd.try_clone() {
                    Ok(own) => self.hold(Which::Kept(index), own),
                    Err(error) => return tracing::error!("cannot listen on {place}: {error}"),
                }
                tracing::info!("listening on {place}");
                let is_fifo = matches!(listener.place, Place::Fifo(_));
                let gate = Gate(listener.allow.clone());
                let Some(used) = self.listen(fd, listener.kind, gate, is_fifo) else {
                    return;
                };
                match self.listening.borrow_mut().insert(index, used) {
                    Some(InUse::Cores(old)) => self.tier.unlisten(&old),
                    Some(InUse::Ring(old)) => self.ring.unlisten(old),
                    Some(InUse::Admin(old)) => self.admin.unlisten(old),
                    Some(InUse::Http(old)) => self.http.unlisten(old),
                    Some(InUse::Health(old)) => self.health.unlisten(old),
                    None => {}
                }
            }
            KeeperEvent::Problem { text, .. } => tracing::warn!("{text}"),
            KeeperEvent::FirstRoundDone => {}
        }
    }

    fn listen(&self, fd: OwnedFd, kind: ListenerKind, gate: Gate, is_fifo: bool) -> Option<InUse> {
        match kind {
            ListenerKind::Ring => Some(InUse::Ring(self.ring.listen(fd))),
            ListenerKind::Admin => Some(InUse::Admin(self.admin.listen(fd, gate))),
            ListenerKind::Http => Some(InUse::Http(self.http.listen(fd, gate))),
            ListenerKind::Health => Some(InUse::Health(self.health.listen(fd))),
            kind => self.tier.listen(fd, kind, is_fifo).map(InUse::Cores),
        }
    }

    fn next_from_keeper(&self) -> Option<Result<KeeperEvent, KeeperError>> {
        self.keeper.borrow().as_ref()?.recv().transpose()
    }

    /// Hears what the keeper says, until the end.
    pub(super) async fn watch_keeper(&self) {
        let socket = match &*self.keeper.borrow() {
            Some(keeper) => keeper.as_fd().try_clone_to_owned(),
            None => return,
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => return tracing::error!("cannot watch the keeper process: {error}"),
        };
        loop {
            if socket_readable(socket.as_fd()).await.is_err() {
                Timer::new(STATUS_PAUSE).await;
            }
            while let Some(event) = self.next_from_keeper() {
                match event {
                    Ok(event) => self.keeper_said(event),
                    Err(error) => return tracing::error!("{error}"),
                }
            }
            if self.stop.get() {
                return;
            }
        }
    }
}
