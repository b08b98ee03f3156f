//! Everything that happens because time passes (docs/protocol/ring.md, connections).

use super::conn::Due;
use super::event::Level;
use super::{ConnId, Ring, Table};
use crate::core::Mono;

/// A PONG that took longer is worth a line in the log.
pub(super) const SLOW_PONG: u64 = 5 * Mono::SECOND;
/// How long a removed director is remembered at most.
const PURGE: u64 = 30 * Mono::SECOND;

/// Deadlines that belong to no connection.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Look for a right again.
    pub reconnect: Option<Mono>,
    /// Dial the preferred right.
    pub preferred: Option<Mono>,
    /// Go on with bulk resets.
    pub reset: Option<Mono>,
    /// Go on with drains.
    pub drain: Option<Mono>,
    /// Forget removed directors.
    pub purge: Option<Mono>,
}

impl Ring {
    /// When [`super::Input::Tick`] is due; `None`: nothing will happen by itself.
    pub fn next_deadline(&self) -> Option<Mono> {
        let conns = self.conns.map.iter();
        let conns = conns.map(|(&id, _)| self.due(id).map(|(at, _)| at));
        let own = [
            self.timers.reconnect,
            self.timers.preferred,
            self.timers.purge,
            self.timers.reset,
            self.timers.drain,
            self.round.resend_at,
            self.round.further_until(),
            self.weak.front().map(|&(at, _)| at),
            self.moves.next_deadline(),
            self.requests.next_deadline(),
        ];
        conns.chain(own).flatten().min()
    }

    fn due(&self, id: ConnId) -> Option<(Mono, Due)> {
        let conn = self.conns.get(id)?;
        let neighbour = self.left == Some(id) || self.right == Some(id);
        Some(conn.deadline(neighbour, self.limits.ping_idle, self.limits.ping_max))
    }

    pub(super) fn arm_purge(&mut self) {
        let at = self.now.mono.after(PURGE);
        self.timers.purge.get_or_insert(at);
    }

    pub(super) fn tick<T: Table>(&mut self, table: &mut T) {
        let now = self.now.mono;
        let over = |timer: Option<Mono>| timer.is_some_and(|at| at <= now);
        let ids: Vec<ConnId> = self.conns.map.keys().copied().collect();
        for id in ids {
            match self.due(id) {
                Some((at, due)) if at <= now => self.connection_due(id, due),
                _ => {}
            }
        }
        if over(self.timers.purge) {
            self.timers.purge = None;
            self.members.purge();
        }
        if over(self.timers.preferred) {
            self.dial_preferred();
        }
        if over(self.timers.reconnect) {
            self.timers.reconnect = None;
            // CONNECT may have brought one meanwhile.
            if self.right.is_none() {
                self.connect();
            }
        }
        if over(self.round.resend_at) {
            self.resend_sync();
        }
        if over(self.round.further_until()) {
            self.end_further_rounds();
        }
        self.give_up_confirmations(table);
        self.moves_tick(table);
        self.give_up_requests();
    }

    fn connection_due(&mut self, id: ConnId, due: Due) {
        match due {
            Due::Ping => self.ping(id),
            Due::Probe => self.probe(id),
            Due::Displaced => self.displace(id),
            Due::Close(why, unreached) => {
                let level = if unreached {
                    Level::Warning
                } else {
                    Level::Info
                };
                if unreached && let Some(conn) = self.conns.get(id) {
                    self.lost(conn.director, conn.established);
                }
                self.close(id, why, level);
            }
        }
    }
}
