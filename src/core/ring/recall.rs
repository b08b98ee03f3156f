//! Backends and users of before a power cut: what a complete ring says counts more, the settings count
//! less (docs/protocol/ring.md, a start with saved backends).

use std::net::IpAddr;

use super::{Event, Ring};
use crate::core::backends::{Backends, Merged};
use crate::core::state::SavedBackend;

/// Whether users that were saved are to be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// Perhaps a complete ring is found.
    NotYet,
    /// Nobody knows better.
    Now,
    /// A complete ring was found: what it does not know was forgotten for a reason.
    Never,
}

/// What the ring is to be told of.
#[derive(Debug)]
pub(super) struct Recalled {
    backends: Vec<SavedBackend>,
    /// Backends of the settings that had been removed.
    gone: Vec<IpAddr>,
}

/// Told after each other in any case, so that a backend which crosses is not lost among them.
const SURE: u64 = u64::MAX;

impl Ring {
    /// The director's backends are these, which were saved ([`crate::core::director::Director::recall`]);
    /// `gone` were in the settings and had been removed. Before [`super::Input::Start`].
    pub fn recall_backends(&mut self, backends: Vec<SavedBackend>, gone: Vec<IpAddr>) {
        if self.standing.handshaked {
            return;
        }
        // Others may begin with their settings: as if both had been changed a moment ago, the later
        // change counts until the ring is told.
        for backend in &backends {
            self.director.mark_backends().mark_ordered(backend.ip, true);
        }
        self.recalled = Some(Recalled { backends, gone });
    }

    /// Whether users that were saved are to be taken in.
    pub fn recall(&self) -> Recall {
        self.recall
    }

    /// Somebody who is in a complete ring tells its backends.
    pub(super) fn forget_recalled(&mut self) {
        self.recall = Recall::Never;
        self.recalled = None;
    }

    /// We are in a complete ring, or alone.
    pub(super) fn recall_if_nobody_knows_better(&mut self) {
        if self.recall == Recall::NotYet {
            self.recall = Recall::Now;
        }
    }

    /// Tells a new ring of backends as they were, where those who had only their settings have made them
    /// something else.
    pub(super) fn insist(&mut self) {
        if self.recalled.is_none() || !self.standing.handshaked || !self.standing.synced {
            return;
        }
        let Some(Recalled { backends, gone }) = self.recalled.take() else {
            return;
        };
        let list = self.director.backends();
        let differs = |it: &SavedBackend| !list.is_as_told(&it.as_line());
        let (other, _): (Vec<_>, Vec<_>) = backends.into_iter().partition(differs);
        let gone: Vec<_> = gone.into_iter().filter(|ip| knows(list, *ip)).collect();
        if other.iter().any(|backend| !self.may_change(backend.ip)) {
            // Changes in a row could undo each other.
            self.recalled = Some(Recalled {
                backends: other,
                gone,
            });
            return;
        }
        let count = other.len() + gone.len();
        if count > 0 {
            self.say(Event::Recalled(count));
        }
        for backend in other {
            if let Some(Merged::Changed { .. }) = self.merge_host(&backend.as_line(), SURE) {
                let own = self.own_origin();
                self.tell_host(backend.ip, own, None);
                self.sync_ring();
            }
        }
        for ip in gone {
            let own = self.own_origin();
            self.drop_host(ip, true, own, None);
        }
    }
}

fn knows(list: &Backends, ip: IpAddr) -> bool {
    list.find(ip).is_some()
}
