//! How many sessions somebody has, and how many are left of them (docs/protocol/admin.md, sessions).

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::AdminIo;
use super::jobs::Count;
use crate::admin::{Census, Whose, census};
use crate::core::ring::Ticket;
use crate::core::user_hash::cut_master_user;
use crate::core::{Mono, UserHash};
use crate::shell::directory::Directory;
use crate::shell::sessions::{self, Listed, Unlisted};
use crate::wire::admin::Reply;

/// How long Dovecot may take to list its sessions.
const LIST_LIMIT: u64 = 10 * Mono::SECOND;

/// Counts what Dovecot lists by these settings, which a reload may change.
pub fn counter(config: Arc<ArcSwap<sessions::Config>>, directory: Arc<Directory>) -> Count {
    Arc::new(move |whose| {
        let snapshot = directory.snapshot();
        let (mut scratch, mut census) = (Vec::new(), Census::default());
        let mut each = |listed: Listed<'_>| {
            let name = cut_master_user(listed.name, snapshot.master_user_separator);
            let hash = match listed.hash {
                Some(hash) => UserHash(hash),
                None => snapshot.username_hash.hash(name, &mut scratch),
            };
            let session = census::Session {
                hash,
                name: listed.name,
                backend: listed.backend,
                id: listed.id,
            };
            if whose.has(&session) {
                census.add(&session);
            }
        };
        match sessions::list(&config.load(), LIST_LIMIT, &mut each) {
            Ok(()) => Ok(census),
            Err(Unlisted::Off) => Err(String::new()),
            Err(Unlisted::Nobody(why) | Unlisted::Cut(why)) => {
                Err(format!("sessions are not known: {why}"))
            }
        }
    })
}

impl AdminIo {
    pub(super) fn count(&mut self, id: u64, whose: Whose) {
        let ticket = self.ticket(id);
        if !self.jobs.count_sessions(ticket, whose) {
            self.redeem(ticket);
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.session.reply(Reply::TryAgain);
            }
        }
    }

    pub(super) fn count_left(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match &conn.watched_sessions {
            Some((whose, _)) => {
                let whose = whose.clone();
                self.count(id, whose);
            }
            None => conn.session.reply(Reply::NotFound),
        }
    }

    /// The first count is remembered, each later one is compared with it.
    pub(super) fn sessions(
        &mut self,
        ticket: Ticket,
        whose: Whose,
        counted: Result<Census, String>,
    ) {
        let Some(id) = self.redeem(ticket) else {
            return;
        };
        if let Some(conn) = self.conns.get_mut(&id) {
            let counted = counted.map(|now| match &conn.watched_sessions {
                Some((_, before)) => before.left(&now),
                None => {
                    let count = now.len();
                    conn.watched_sessions = Some((whose, now));
                    count
                }
            });
            conn.session.count(counted);
        }
        self.work(id);
    }
}
