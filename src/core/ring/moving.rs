//! Moves, as far as lines and entries have to do with them (docs/protocol/ring.md, moves). What
//! becomes of one is decided by [`crate::core::moves`].

use std::net::IpAddr;

use super::{ConnId, Event, Flush, FlushResult, Kick, Output, Ring, Table};
use crate::core::moves::{Begin, Context, Effect, Old};
use crate::core::users::{Started, shard_of};
use crate::core::{UserHash, UserKey};
use crate::wire::ring::{Command, DirectorId, Hash, Order, Origin};

/// Where a move comes from, for what goes on.
struct Heard {
    origin: Option<Origin>,
    sender: Option<DirectorId>,
}

impl Ring {
    fn move_context(&self) -> Context {
        Context {
            now: self.now.mono,
            has_right: self.right.is_some(),
            kick_delay: self.limits.kick_delay,
            limit: self.limits.move_limit,
            flush_script: self.limits.flush_script,
        }
    }

    /// USER-MOVE.
    pub(super) fn move_received<T: Table>(
        &mut self,
        id: ConnId,
        origin: Option<Origin>,
        (hash, host): (Hash, IpAddr),
        table: &mut T,
    ) {
        let Some(tag) = self.director.backends().find(host).map(|it| it.tag) else {
            return;
        };
        let key = UserKey {
            tag,
            hash: UserHash(hash.get()),
        };
        let origin = self.or_own(origin);
        let sender = self.conns.director(id);
        self.start_move(key, host, origin, sender, table);
    }

    /// Points a user at another backend, tells the others, and has its sessions ended: in this order.
    pub(super) fn start_move<T: Table>(
        &mut self,
        key: UserKey,
        host: IpAddr,
        origin: Origin,
        sender: Option<DirectorId>,
        table: &mut T,
    ) {
        let snapshot = self.fresh(table);
        let (Some(backend), Some(hash)) =
            (self.director.backends().find(host), Hash::new(key.hash.0))
        else {
            return;
        };
        let slot = backend.slot;
        let from = sender.map_or(0, |sender| self.number_of(sender));
        let now = self.now.wall;
        let room = table.room();
        let started = table.with(shard_of(key.hash), |shard| {
            shard.start_move(key, slot, now, &snapshot, from, || room)
        });
        self.broadcast(
            &Command::Order(origin, Order::UserMove { hash, host }),
            sender,
        );
        // Without room for the user there is nothing to end here, but the others count on us.
        let started = started.unwrap_or(Started {
            kick: false,
            old: None,
            created: false,
            removed: 0,
        });
        let old = started.old.and_then(|slot| {
            let backend = self.director.backends().by_slot(slot)?;
            Some(Old {
                ip: backend.ip,
                down: backend.down,
                vhosts: backend.vhosts,
            })
        });
        let begin = Begin {
            key,
            // Ours only if nobody told us: a move whose issuer is unknown is passed on in our name,
            // but its sender leads it.
            ours: sender.is_none(),
            old,
            new: host,
            kick: started.kick,
            alone: false,
        };
        self.begin_move(begin, table);
    }

    pub(super) fn begin_move<T: Table>(&mut self, begin: Begin, table: &mut T) {
        let (context, mut effects) = (self.move_context(), Vec::new());
        self.moves.begin(begin, &context, &mut effects);
        self.carry_out(effects, None, table);
    }

    pub(super) fn kicked<T: Table>(&mut self, key: UserKey, table: &mut T) {
        let (context, mut effects) = (self.move_context(), Vec::new());
        self.moves.kicked(key, &context, &mut effects);
        self.carry_out(effects, None, table);
    }

    pub(super) fn flushed<T: Table>(&mut self, key: UserKey, result: FlushResult, table: &mut T) {
        let (context, mut effects) = (self.move_context(), Vec::new());
        let succeeded = result == FlushResult::Succeeded;
        self.moves.flushed(key, succeeded, &context, &mut effects);
        self.carry_out(effects, None, table);
    }

    /// USER-KILLED. It may come from either side.
    pub(super) fn killed_received<T: Table>(&mut self, hash: UserHash, table: &mut T) {
        let (context, mut effects) = (self.move_context(), Vec::new());
        self.moves.killed(hash, &context, &mut effects);
        self.carry_out(effects, None, table);
    }

    /// USER-KILLED-EVERYWHERE, for the first time.
    pub(super) fn killed_everywhere_received<T: Table>(
        &mut self,
        id: ConnId,
        origin: Option<Origin>,
        hash: Hash,
        table: &mut T,
    ) {
        let (context, mut effects) = (self.move_context(), Vec::new());
        self.moves
            .killed_everywhere(UserHash(hash.get()), &context, &mut effects);
        let heard = Heard {
            origin,
            sender: self.conns.director(id),
        };
        self.carry_out(effects, Some((hash, heard)), table);
    }

    pub(super) fn moves_tick<T: Table>(&mut self, table: &mut T) {
        let mut effects = Vec::new();
        self.moves.tick(self.now.mono, &mut effects);
        self.carry_out(effects, None, table);
    }

    /// Moves of users whose entries are gone, because their backend is.
    pub(super) fn forget_moves<T: Table>(&mut self, table: &mut T) {
        let snapshot = self.fresh(table);
        let now = self.now.wall;
        let moving: Vec<UserKey> = self.moves.iter().map(|moving| moving.key).collect();
        let mut effects = Vec::new();
        for key in moving {
            let known = table.with(shard_of(key.hash), |shard| {
                shard.peek(key, now, &snapshot).is_some()
            });
            if !known {
                self.moves.forget(key, &mut effects);
            }
        }
        self.carry_out(effects, None, table);
    }

    fn carry_out<T: Table>(
        &mut self,
        effects: Vec<Effect>,
        heard: Option<(Hash, Heard)>,
        table: &mut T,
    ) {
        let mut heard = heard;
        for effect in effects {
            match effect {
                Effect::Kick(key) => self.outputs.push(Output::Kick(Kick::Moved(key))),
                Effect::AbortKick(key) => self.outputs.push(Output::AbortKick(key)),
                Effect::AbortFlush(key) => self.outputs.push(Output::AbortFlush(key)),
                Effect::Killed(hash) => {
                    if let (Some(right), Some(hash)) = (self.right, Hash::new(hash.0)) {
                        self.send(right, &Command::UserKilled(hash));
                    }
                }
                Effect::KilledEverywhere(hash) => {
                    if let Some(hash) = Hash::new(hash.0) {
                        let own = self.own_origin();
                        let order = Order::UserKilledEverywhere(hash);
                        self.broadcast(&Command::Order(own, order), None);
                    }
                }
                Effect::ForwardKilledEverywhere => {
                    if let Some((hash, Heard { origin, sender })) = heard.take() {
                        let origin = self.or_own(origin);
                        let order = Order::UserKilledEverywhere(hash);
                        self.broadcast(&Command::Order(origin, order), sender);
                    }
                }
                Effect::Flush { key, old, new } => {
                    let backend = self.director.backends().find(new);
                    let new_name = backend.and_then(|backend| backend.name.clone());
                    self.outputs.push(Output::Flush(Flush {
                        key,
                        old: old.ip,
                        old_down: old.down,
                        old_vhosts: old.vhosts,
                        new,
                        new_name,
                    }));
                }
                Effect::Ended { key, timed_out } => {
                    if let Some(state) = timed_out {
                        self.say(Event::MoveTimedOut(key.hash, state.to_string()));
                    }
                    let (now, snapshot) = (self.now.wall, self.fresh(table));
                    table.with(shard_of(key.hash), |shard| {
                        shard.end_move(key, now, &snapshot)
                    });
                    self.outputs.push(Output::Wake(key));
                }
            }
        }
    }
}
