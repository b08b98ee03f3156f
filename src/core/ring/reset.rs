//! Bulk resets: the users of a backend are moved to where the hash ring would place them, a bounded
//! number at a time (docs/protocol/ring.md, moves).

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use super::{Event, Kick, OrderError, RequestError, Ring, Table, Ticket};
use crate::core::backends::BackendError;
use crate::core::moves::{Begin, Old};
use crate::core::users::{Entry, SHARDS, shard_of};
use crate::core::{Mono, UserHash, UserKey};
use crate::wire::ring::{Command, Hash, Order};

/// Shards that are looked through in one turn: at ten million users some 160,000 entries, a few
/// milliseconds in which the ring has to wait.
const SHARDS_PER_TURN: usize = 16;

/// Most bulk resets at a time. An operator runs one; each holds the users of a shard.
pub(super) const MAX_RESETS: usize = 16;

/// Users of a backend whose sessions are ended when it is flushed, since no other can take them: some
/// 60 bytes for each neighbour, which are written at once. Those of more are ended when they are found.
const MAX_STRANDED: usize = 10_000;

/// What USER-KICK-HASH spares there: no backend.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// One under way.
#[derive(Debug)]
pub(super) struct Reset {
    /// Whom to answer.
    ticket: Ticket,
    /// Backends whose users are still to be looked at, the first one just now.
    hosts: VecDeque<IpAddr>,
    /// Most users that move at a time, those of others included.
    max: usize,
    /// The next shard to be looked through.
    shard: usize,
    /// Users that were found there.
    found: Vec<UserKey>,
    /// Those who had nowhere to go.
    stranded: Vec<UserHash>,
    moved: u64,
    begun: Mono,
    count: usize,
}

impl Ring {
    /// Begins to move the users of a backend, or of all, to where they belong. What is to be done now is
    /// done at the end of the input.
    pub(super) fn begin_reset(
        &mut self,
        ticket: Ticket,
        host: Option<IpAddr>,
        max: usize,
    ) -> Result<(), RequestError> {
        let backends = self.director.backends();
        let hosts: VecDeque<IpAddr> = match host {
            Some(ip) if backends.find(ip).is_none() => {
                return Err(OrderError::from(BackendError::Unknown(ip)).into());
            }
            Some(ip) => [ip].into(),
            None => backends.iter().map(|backend| backend.ip).collect(),
        };
        if self.resets.len() == MAX_RESETS {
            return Err(RequestError::Busy);
        }
        let count = hosts.len();
        self.resets.push(Reset {
            ticket,
            hosts,
            max: max.max(1),
            shard: 0,
            found: Vec::new(),
            stranded: Vec::new(),
            moved: 0,
            begun: self.now.mono,
            count,
        });
        Ok(())
    }

    /// A turn of every reset.
    pub(super) fn go_on_resetting<T: Table>(&mut self, table: &mut T) {
        self.timers.reset = None;
        if !self.standing.synced {
            return;
        }
        let mut shards = SHARDS_PER_TURN;
        for mut reset in std::mem::take(&mut self.resets) {
            if self.reset_some(&mut reset, &mut shards, table) {
                let took = self.now.mono.since(reset.begun);
                self.say(Event::ResetOver(reset.moved, reset.count, took));
                self.answer(reset.ticket, Ok(()));
            } else {
                self.resets.push(reset);
            }
        }
        if !self.resets.is_empty() {
            // Another one comes first in the next turn.
            self.resets.rotate_left(1);
        }
    }

    /// Looks through so many shards at most. `true`: it is over.
    fn reset_some<T: Table>(
        &mut self,
        reset: &mut Reset,
        shards: &mut usize,
        table: &mut T,
    ) -> bool {
        while *shards > 0 {
            *shards -= 1;
            let Some(&host) = reset.hosts.front() else {
                return true;
            };
            while let Some(&key) = reset.found.last() {
                if self.moves.moving() >= reset.max {
                    // Goes on when one ends.
                    return false;
                }
                reset.found.pop();
                self.reset_one(reset, host, key, table);
            }
            if reset.shard < SHARDS {
                self.find_users(reset, host, table);
            } else {
                self.host_is_reset(reset, host);
            }
        }
        self.timers.reset = Some(self.now.mono);
        false
    }

    fn find_users<T: Table>(&mut self, reset: &mut Reset, host: IpAddr, table: &mut T) {
        let snapshot = self.fresh(table);
        let wanted =
            |entry: &Entry, slot| !entry.is_killing() && snapshot.choose(entry.key()) != Some(slot);
        reset.found = self.users_of(host, reset.shard, wanted, table);
        reset.shard += 1;
    }

    fn reset_one<T: Table>(
        &mut self,
        reset: &mut Reset,
        host: IpAddr,
        key: UserKey,
        table: &mut T,
    ) {
        // It may have gone, or come elsewhere, since it was found.
        if !self.is_still_on(host, key, table) {
            return;
        }
        let snapshot = self.fresh(table);
        reset.moved += 1;
        let choice = snapshot.choose(key).and_then(|slot| snapshot.backend(slot));
        match choice.map(|backend| backend.ip) {
            Some(ip) if ip == host => reset.moved -= 1,
            Some(ip) => {
                let own = self.own_origin();
                self.start_move(key, ip, own, None, table);
            }
            None => {
                if reset.stranded.len() == MAX_STRANDED {
                    self.kick_everywhere(key.hash);
                } else {
                    reset.stranded.push(key.hash);
                }
                self.kill_stranded(key, host, table);
            }
        }
    }

    /// Ends the sessions of a user that no backend can take, a bounded number of them at a time. The
    /// others are told nothing of it before HOST-FLUSH, and have the user on its backend until then.
    fn kill_stranded<T: Table>(&mut self, key: UserKey, host: IpAddr, table: &mut T) {
        let snapshot = self.fresh(table);
        let now = self.now.wall;
        let started = table.with(shard_of(key.hash), |shard| {
            shard.start_kill(key, now, &snapshot)
        });
        let Some(backend) = self
            .director
            .backends()
            .find(host)
            .filter(|_| started.is_some())
        else {
            return;
        };
        let begin = Begin {
            key,
            ours: true,
            old: Some(Old {
                ip: host,
                down: backend.down,
                vhosts: backend.vhosts,
            }),
            new: host,
            kick: true,
            alone: true,
        };
        self.begin_move(begin, table);
    }

    fn host_is_reset(&mut self, reset: &mut Reset, host: IpAddr) {
        let stranded = std::mem::take(&mut reset.stranded);
        if !stranded.is_empty() {
            // Sessions elsewhere, and new ones here, would be left behind when the user is forgotten; and
            // before SYNC, after which it may be placed anew.
            self.round.frozen = true;
            let _ = self.drop_backend(host, false);
            for hash in stranded {
                self.kick_everywhere(hash);
            }
            self.thaw();
        }
        reset.hosts.pop_front();
        reset.shard = 0;
    }

    /// Ends all sessions of a user hash, at all directors.
    fn kick_everywhere(&mut self, hash: UserHash) {
        let Some(on_wire) = Hash::new(hash.0) else {
            return;
        };
        let origin = self.own_origin();
        let order = Order::UserKickHash {
            hash: on_wire,
            except: NOWHERE,
        };
        self.broadcast(&Command::Order(origin, order), None);
        self.begin_kick(Kick::Hash(hash, NOWHERE));
    }
}
