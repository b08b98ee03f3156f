//! Users: what is said of them, what is told, what the lookup cores note
//! (docs/protocol/ring.md, users).

use std::net::IpAddr;

use super::told::News;
use super::{ConnId, Event, Kick, Output, Ring, Table};
use crate::core::members::Seen;
use crate::core::users::{
    Announce, Audience, Entry, Heard, Hearing, Outcome, Tell, WeakCopy, shard_of,
};
use crate::core::{BackendSlot, Mono, UserHash, UserKey, Wall};
use crate::wire::ring::{Command, DirectorId, HandUser, HandUsers, Hash, Order, Origin};

/// A confirmation that has not come back by then will not.
const WEAK_LIMIT: u64 = 30 * Mono::SECOND;

/// USER lines of which a batch is made, so that the memory of one is fetched while others are looked
/// at: what they cost is mostly the wait for it.
const AHEAD: usize = 16;

/// A line about a user.
struct Said {
    hash: Hash,
    host: IpAddr,
    stamp: Option<Wall>,
    weak: bool,
}

/// A line about a user whose host is one of ours.
struct Placed {
    said: Said,
    key: UserKey,
    slot: BackendSlot,
}

/// USER lines that were read and not followed yet.
#[derive(Default)]
pub(super) struct Ahead(Vec<Placed>);

impl Ahead {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.0.len() >= AHEAD
    }
}

impl Ring {
    /// USER: it is followed by [`Ring::users_received`].
    pub(super) fn user_read(
        &mut self,
        ahead: &mut Ahead,
        (hash, host): (Hash, IpAddr),
        time: Option<u64>,
    ) {
        let said = Said {
            hash,
            host,
            stamp: time.map(Wall),
            weak: false,
        };
        match self.place(said) {
            Some(placed) => ahead.0.push(placed),
            None => self.count_user(None),
        }
    }

    /// The USER lines that were read. No line between them may be left for later.
    pub(super) fn users_received<T: Table>(
        &mut self,
        id: ConnId,
        ahead: &mut Ahead,
        table: &mut T,
    ) {
        let sender = self.conns.director(id);
        table.fetch(ahead.0.iter().map(|placed| placed.key));
        for placed in ahead.0.drain(..) {
            let hearing = self.hear_placed(&placed, sender, table);
            self.count_user(Some(&hearing));
            self.pass_on(&hearing, sender);
        }
    }

    /// `U`.
    pub(super) fn hand_user<T: Table>(&mut self, id: ConnId, user: &HandUser, table: &mut T) {
        let said = Said {
            hash: user.hash,
            host: user.host,
            stamp: Some(Wall(user.time.into())),
            weak: user.weak,
        };
        self.count_users(id, 1);
        let sender = self.conns.director(id);
        if let Some(hearing) = self.hear(said, sender, table) {
            self.handed(&hearing, sender);
        }
    }

    fn count_users(&mut self, id: ConnId, users: usize) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.tally.users += users as u64;
        }
    }

    /// `UU`.
    pub(super) fn hand_users<T: Table>(
        &mut self,
        id: ConnId,
        users: &HandUsers<'_>,
        table: &mut T,
    ) {
        self.count_users(id, users.len());
        self.hear_all(id, users, table, Ring::handed);
    }

    /// USERS.
    pub(super) fn users_told<T: Table>(
        &mut self,
        id: ConnId,
        users: &HandUsers<'_>,
        table: &mut T,
    ) {
        if self.director.backends().find(users.host).is_none() {
            return self.count_lost_users(users);
        }
        self.hear_all(id, users, table, |ring, hearing, sender| {
            ring.count_one_of_users(hearing);
            ring.pass_on(hearing, sender);
        });
    }

    /// Users of one backend.
    fn hear_all<T: Table>(
        &mut self,
        id: ConnId,
        users: &HandUsers<'_>,
        table: &mut T,
        mut then: impl FnMut(&mut Ring, &Hearing, Option<DirectorId>),
    ) {
        let Some(backend) = self.director.backends().find(users.host) else {
            return;
        };
        let (tag, slot) = (backend.tag, backend.slot);
        let sender = self.conns.director(id);
        let placed = |(hash, time): (Hash, u32)| Placed {
            said: Said {
                hash,
                host: users.host,
                stamp: Some(Wall(time.into())),
                weak: false,
            },
            key: UserKey {
                tag,
                hash: UserHash(hash.get()),
            },
            slot,
        };
        let mut ahead = Ahead(Vec::with_capacity(users.len().min(AHEAD)));
        let mut users = users.iter().map(placed).peekable();
        while users.peek().is_some() {
            ahead.0.extend(users.by_ref().take(AHEAD));
            table.fetch(ahead.0.iter().map(|placed| placed.key));
            for placed in ahead.0.drain(..) {
                let hearing = self.hear_placed(&placed, sender, table);
                then(self, &hearing, sender);
            }
        }
    }

    /// What was heard of a user in a handshake. The others know it from us or from its sender, or will be
    /// told in a handshake; but not how a conflict has ended.
    fn handed(&mut self, hearing: &Hearing, sender: Option<DirectorId>) {
        if hearing.kick.is_some() {
            self.pass_on(hearing, sender);
        }
    }

    /// What was heard of a user in a USER line, for the others.
    fn pass_on(&mut self, hearing: &Hearing, sender: Option<DirectorId>) {
        if let (Tell::User(audience), Some(entry)) = (hearing.after_user(), hearing.stored) {
            self.tell_user(&entry, except(audience, sender));
        }
    }

    /// USER-WEAK.
    pub(super) fn weak_received<T: Table>(
        &mut self,
        id: ConnId,
        (seen, origin): (Seen, Origin),
        (hash, host): (Hash, IpAddr),
        table: &mut T,
    ) {
        let ours = origin.director == self.members.me();
        let copy = WeakCopy::of(seen, ours);
        let said = Said {
            hash,
            host,
            stamp: None,
            weak: copy.is_weak(),
        };
        let sender = self.conns.director(id);
        let Some(hearing) = self.hear(said, sender, table) else {
            return;
        };
        match (hearing.after_weak(copy), hearing.stored) {
            (Tell::Nothing, _) => {}
            (Tell::User(audience), Some(entry)) => {
                // Copies are counted in this case too: somebody may repeat the question for ever.
                if copy != WeakCopy::Again || self.passes_weak(origin) {
                    self.tell_user(&entry, except(audience, sender));
                }
            }
            (Tell::User(_), None) => {}
            (Tell::Weak(audience), stored) => {
                let host = stored
                    .and_then(|entry| self.host_of(&entry))
                    .unwrap_or(host);
                let origin = match seen {
                    Seen::NoOrigin => self.own_origin(),
                    Seen::New | Seen::Duplicate => origin,
                };
                self.forward_weak(id, origin, (hash, host), except(audience, sender));
            }
        }
    }

    /// Whether this copy of a USER-WEAK line is one of those that are followed.
    fn passes_weak(&mut self, origin: Origin) -> bool {
        let member = self.members.get_mut(origin.director);
        member.is_none_or(|member| member.pass_weak(origin.seq))
    }

    fn forward_weak(
        &mut self,
        from: ConnId,
        origin: Origin,
        (hash, host): (Hash, IpAddr),
        except: Option<DirectorId>,
    ) {
        if !self.passes_weak(origin) {
            return;
        }
        let command = Command::Order(origin, Order::UserWeak { hash, host });
        // In a ring of two the sender is at both ends; the line must go on all the same.
        let two = self.left().is_some() && self.left() == self.right();
        let neighbours = [self.left, self.right];
        if two && except.is_some() && neighbours.contains(&Some(from)) {
            let other = neighbours.into_iter().flatten().find(|&id| id != from);
            if let Some(other) = other {
                return self.send(other, &command);
            }
        }
        self.broadcast(&command, except);
    }

    /// `None`: of an unknown host, which is ignored.
    fn place(&self, said: Said) -> Option<Placed> {
        let backend = self.director.backends().find(said.host)?;
        let key = UserKey {
            tag: backend.tag,
            hash: UserHash(said.hash.get()),
        };
        let slot = backend.slot;
        Some(Placed { said, key, slot })
    }

    /// Takes what is said of a user; `None`: of an unknown host, which is ignored.
    fn hear<T: Table>(
        &mut self,
        said: Said,
        sender: Option<DirectorId>,
        table: &mut T,
    ) -> Option<Hearing> {
        let placed = self.place(said)?;
        Some(self.hear_placed(&placed, sender, table))
    }

    fn hear_placed<T: Table>(
        &mut self,
        placed: &Placed,
        sender: Option<DirectorId>,
        table: &mut T,
    ) -> Hearing {
        self.refresh(table);
        let Placed { said, key, slot } = placed;
        let key = *key;
        let heard = Heard {
            key,
            backend: *slot,
            stamp: said.stamp,
            weak: said.weak,
            late: self.moves.has_settled(key, self.now.mono),
            from: sender.map_or(0, |sender| self.number_of(sender)),
        };
        let room = table.room();
        let (now, snapshot) = (self.now.wall, &*self.snapshot);
        let hearing = table.with(shard_of(key.hash), |shard| {
            shard.hear(heard, now, snapshot, || room)
        });
        if let Some(winner) = hearing.kick {
            self.two_backends(said, winner);
        }
        if hearing.wake {
            self.outputs.push(Output::Wake(key));
        }
        let weak = hearing.stored.is_some_and(|entry| entry.is_weak());
        if weak && hearing.outcome == Outcome::Changed {
            self.await_confirmation(key);
        }
        hearing
    }

    /// Two directors had placed a user differently: its sessions end everywhere but at the winner.
    fn two_backends(&mut self, said: &Said, winner: BackendSlot) {
        let Some(winner) = self.snapshot.backend(winner).map(|backend| backend.ip) else {
            return;
        };
        let hash = UserHash(said.hash.get());
        self.say(Event::TwoBackends {
            hash,
            theirs: said.host,
            winner,
        });
        let origin = self.own_origin();
        let order = Order::UserKickHash {
            hash: said.hash,
            except: winner,
        };
        self.broadcast(&Command::Order(origin, order), None);
        self.begin_kick(Kick::Hash(hash, winner));
    }

    fn host_of(&self, entry: &Entry) -> Option<IpAddr> {
        self.snapshot
            .backend(entry.backend())
            .map(|backend| backend.ip)
    }

    pub(super) fn tell_user(&mut self, entry: &Entry, except: Option<DirectorId>) {
        let (Some(host), Some(hash)) = (self.host_of(entry), Hash::new(entry.key().hash.0)) else {
            return;
        };
        let news = News {
            hash,
            host,
            time: entry.stamp(),
            except,
        };
        self.conns.tell(news, self.standing.min_version);
    }

    /// Lookup cores have noted something about users.
    pub(super) fn notes<T: Table>(&mut self, keys: &[UserKey], table: &mut T) {
        for keys in keys.chunks(AHEAD) {
            table.fetch(keys.iter().copied());
            for &key in keys {
                self.noted(key, table);
            }
        }
    }

    /// One of them.
    pub(super) fn noted<T: Table>(&mut self, key: UserKey, table: &mut T) {
        self.refresh(table);
        let (now, snapshot) = (self.now.wall, &*self.snapshot);
        let announce = table.with(shard_of(key.hash), |shard| {
            shard.announce(key, now, snapshot)
        });
        match announce {
            Announce::Nothing => {}
            Announce::Settled => self.outputs.push(Output::Wake(key)),
            Announce::Ask => self.ask(key),
            Announce::User(entry) => self.tell_user(&entry, None),
            Announce::Weak(entry) => {
                self.await_confirmation(key);
                let (Some(host), Some(hash)) = (self.host_of(&entry), Hash::new(key.hash.0)) else {
                    return;
                };
                let origin = self.own_origin();
                let order = Order::UserWeak { hash, host };
                self.broadcast(&Command::Order(origin, order), None);
            }
        }
    }

    /// Notes about users of a shard were lost.
    pub(super) fn notes_lost<T: Table>(&mut self, shard: usize, table: &mut T) {
        let noted: Vec<UserKey> = table.with(shard, |shard| {
            let noted = shard.entries().filter(|entry| entry.is_queued());
            noted.map(Entry::key).collect()
        });
        for key in noted {
            self.noted(key, table);
        }
    }

    fn await_confirmation(&mut self, key: UserKey) {
        self.weak.push_back((self.now.mono.after(WEAK_LIMIT), key));
    }

    /// Confirmations that are overdue: the users are as others again, and lookups go on.
    pub(super) fn give_up_confirmations<T: Table>(&mut self, table: &mut T) {
        while let Some(&(at, key)) = self.weak.front()
            && at <= self.now.mono
        {
            self.weak.pop_front();
            let was_weak = table.with(shard_of(key.hash), |shard| shard.give_up_confirmation(key));
            if was_weak {
                self.outputs.push(Output::Wake(key));
            }
        }
    }
}

fn except(audience: Audience, sender: Option<DirectorId>) -> Option<DirectorId> {
    match audience {
        Audience::NotTheSender => sender,
        Audience::Everybody => None,
    }
}
