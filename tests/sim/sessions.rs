//! Users and their sessions: who is logged in where, and S1, which all of this is for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use homing::core::UserKey;
use homing::core::ring::{FlushResult, Input, Kick};
use homing::core::{DelayReason, Mono};

use crate::heal::Phase;
use crate::options::{MS, SECOND};
use crate::trace::say;
use crate::world::{At, Event, World};

#[derive(Clone, Copy, Debug)]
pub struct User {
    pub hash: u32,
    pub tag: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Session {
    pub user: usize,
    pub at: At,
    pub backend: IpAddr,
    pub since: u64,
    /// Its end has been ordered and is under way.
    pub doomed: bool,
}

/// How long a forced order takes to reach all, and logins that were decided before it to arrive. Where
/// it crosses another one for the same backend, directors differ until they have found that out twice,
/// 5 s apart, and told all again.
pub const FORCED: u64 = 10 * SECOND;

impl World {
    pub fn invent_users(&mut self) {
        for _ in 0..self.options.users {
            let hash = match self.users.last() {
                // The same hash under two tags is two identities.
                Some(last) if self.rng.percent(10) => last.hash,
                _ => u32::try_from(self.rng.between(1, u32::MAX.into())).unwrap(),
            };
            let tag = self.rng.index(self.options.tags);
            if !self
                .users
                .iter()
                .any(|user| (user.hash, user.tag) == (hash, tag))
            {
                self.users.push(User { hash, tag });
            }
        }
    }

    pub fn somebody_logs_in(&mut self) {
        if self.is_ebbing() {
            return;
        }
        let user = self.rng.index(self.users.len());
        self.user_logs_in(user);
        let next = self.rng.about(self.options.login_every) + MS;
        self.after(next, Event::Login);
    }

    /// At any director that takes logins: balancers do not know users.
    pub fn user_logs_in(&mut self, user: usize) {
        if self.is_ebbing() {
            return;
        }
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|&n| self.nodes[n].process.is_some() && self.nodes[n].paused_until <= self.now)
            .collect();
        if !up.is_empty() {
            let n = self.rng.pick(&up);
            let core = self.rng.index(self.options.cores);
            self.login(n, core, user);
        }
    }

    pub fn open_session(&mut self, n: usize, user: usize, backend: IpAddr) {
        let id = self.next_session;
        self.next_session += 1;
        let expire = u64::from(self.options.expire_secs) * SECOND;
        let session = Session {
            user,
            at: self.nodes[n].at(n),
            backend,
            since: self.now,
            doomed: false,
        };
        self.trace.number(id);
        say!(self, "[{n}] user {user} session {id} on {backend}");
        self.sessions.insert(id, session);
        let length = if self.rng.percent(50) {
            self.rng.below(2 * SECOND)
        } else {
            self.rng.about(expire)
        };
        self.after(length, Event::SessionEnds(id));
        self.after(expire / 2, Event::KeepAlive(id));
        // Back again around the time at which the directors forget the user: that is where
        // confirmations are needed.
        if self.rng.percent(30) {
            let back = length + expire - self.rng.below(expire / 4);
            self.after(back, Event::Return(user));
        }
        self.check_spread(user);
    }

    /// The backends that a user's sessions are on. Sessions that are being ended do not count, nor
    /// those on a backend whose users an operator had forgotten by force.
    pub fn spread(&self, user: usize) -> BTreeSet<IpAddr> {
        let counts = |session: &&Session| {
            let later = |forced: &u64| session.since > forced + FORCED;
            session.user == user
                && !session.doomed
                && self.forced.get(&session.backend).is_none_or(later)
                && self
                    .forced_users
                    .get(&self.users[user].hash)
                    .is_none_or(|until| session.since > *until)
        };
        self.sessions
            .values()
            .filter(counts)
            .map(|session| session.backend)
            .collect()
    }

    /// S1. While directors are separated, or have been so lately, two backends are excused, and
    /// counted; L5 then asks whether they are gone in the end.
    fn check_spread(&mut self, user: usize) {
        let spread = self.spread(user);
        if spread.len() < 2 {
            return;
        }
        self.stats.doubles += 1;
        say!(self, "user {user} is on {spread:?}");
        if self.is_calm() {
            let all = self.sessions.iter();
            for (id, session) in all.filter(|(_, session)| session.user == user) {
                let from = session.since / SECOND;
                say!(self, "session {id} since {from} s: {session:?}");
            }
            self.fail("S1 one backend", format!("user {user} is on {spread:?}"));
        }
    }

    pub fn keep_alive(&mut self, id: u64) {
        let Some(session) = self.sessions.get(&id).copied() else {
            return;
        };
        if self.is_ebbing() {
            return;
        }
        self.refresh(session.at.node, session.user);
        // One that nobody heard, as its director was away or did not know the user yet: the next one comes
        // just when the user is forgotten.
        let process = self.nodes[session.at.node].process.as_ref();
        let heard = process.is_some_and(|process| process.ring.standing().handshaked);
        if self.options.strict
            && !heard
            && let Some(session) = self.sessions.get_mut(&id)
        {
            session.doomed = true;
        }
        let half = u64::from(self.options.expire_secs) * SECOND / 2;
        self.after(half, Event::KeepAlive(id));
    }

    pub fn session_ends(&mut self, id: u64) {
        self.sessions.remove(&id);
    }

    /// A process took its proxies' sessions with it.
    pub fn end_sessions_of(&mut self, at: At) {
        self.sessions.retain(|_, session| session.at != at);
    }

    /// A process has come back to the proxies that it left.
    pub fn adopt_sessions(&mut self, n: usize) {
        let at = self.nodes[n].at(n);
        for session in self.sessions.values_mut() {
            if session.at.node == n {
                session.at = at;
            }
        }
    }

    /// Sessions that a move would end live on where no director is there to end them, or only one that does
    /// not know the backends yet and so ignores the move.
    /// `begun`: whose move begins just now.
    pub fn doom_moving(&mut self, begun: Option<u32>) {
        let mut moving: BTreeSet<u32> = begun.into_iter().collect();
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            let killed = process
                .flags
                .iter()
                .filter(|(_, flags)| flags.killing.is_some());
            moving.extend(killed.map(|(key, _)| key.hash.0));
        }
        for session in self.sessions.values_mut() {
            let process = self.nodes[session.at.node].process.as_ref();
            let gone = process.is_none_or(|process| !process.ring.standing().handshaked);
            session.doomed |=
                self.options.strict && gone && moving.contains(&self.users[session.user].hash);
        }
    }

    /// Who a kick is for.
    fn is_meant(&self, n: usize, kick: &Kick, session: &Session) -> bool {
        let hash = self.users[session.user].hash;
        session.at == self.nodes[n].at(n)
            && match kick {
                Kick::Moved(key) => key.hash.0 == hash,
                Kick::Hash(of, except) => of.0 == hash && session.backend != *except,
                Kick::User(name) => *name == format!("user{hash}").into_bytes(),
                Kick::Alt(..) => false,
            }
    }

    /// From the order to its being carried out, sessions live on; they no longer count.
    pub fn doom(&mut self, n: usize, kick: &Kick) {
        let meant: Vec<u64> = self.meant(n, kick);
        for id in meant {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.doomed = true;
            }
        }
    }

    fn meant(&self, n: usize, kick: &Kick) -> Vec<u64> {
        let meant = self
            .sessions
            .iter()
            .filter(|(_, session)| self.is_meant(n, kick, session));
        meant.map(|(id, _)| *id).collect()
    }

    pub fn carry_out_kick(&mut self, n: usize, kick: &Kick, serial: u64) {
        if !self.is_left_out(kick) {
            for id in self.meant(n, kick) {
                self.sessions.remove(&id);
            }
        }
        let Kick::Moved(key) = kick else {
            return self.feed(n, Input::KickOver);
        };
        if self.more.percent(self.options.unanswered_kicks) {
            return;
        }
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        if process.kicks.get(key) == Some(&serial) {
            process.kicks.remove(key);
            self.feed(n, Input::Kicked(*key));
        }
    }

    pub fn flushed(&mut self, n: usize, key: UserKey, result: FlushResult, serial: u64) {
        let Some(process) = self.nodes[n].process.as_mut() else {
            return;
        };
        if process.flushes.get(&key) == Some(&serial) {
            process.flushes.remove(&key);
            self.feed(n, Input::Flushed(key, result));
        }
    }

    /// L2: in a ring that has been well for a while nobody waits until the deadline.
    pub fn timed_out(&mut self, n: usize, user: usize, reason: DelayReason, since: Mono) {
        let since = self.nodes[n].simulated(since);
        if let Phase::Settled { ordered, .. } = self.phase
            && self.to_order.is_empty()
            && self.skewed == 0
            // A flush script may take as long as a move may.
            && !(self.options.moves_may_hang() && reason == DelayReason::Killing)
            // A director without room for a user does not pass on what another one says of it.
            && !(self.options.user_limit <= self.users.len() as u64 && reason == DelayReason::Weak)
            && since > ordered + 5 * SECOND
        {
            let text = format!("[{n}] user {user} waited 25 s in a whole ring: {reason}");
            self.fail("L2 answered", text);
        }
    }
}
