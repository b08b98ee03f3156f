//! Which line does what (docs/protocol/ring.md, commands).

use super::event::Level;
use super::users::Ahead;
use super::{ConnId, Event, Kick, Ring, Table};
use crate::core::UserHash;
use crate::core::members::{Seen, TooManyMembers};
use crate::wire::ring::{
    Command, DirectorId, Line, Load, MAX_LINE, Order, Origin, Received, RingError, Verdict, parse,
};

impl Ring {
    /// What one read gave: one batch, with one SYNC behind everything that it caused.
    pub(super) fn received<T: Table>(&mut self, id: ConnId, bytes: &[u8], table: &mut T) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.last_input = now.mono;
        conn.progress = now.mono;
        conn.tally.read(bytes.len(), now.wall);
        conn.probed = None;
        if conn.leaves_by.is_some() {
            return;
        }
        let mut splitter = std::mem::take(&mut conn.splitter);
        self.round.frozen = true;
        let mut ahead = Ahead::default();
        let each = |line: &[u8]| self.line(id, line, &mut ahead, table);
        let fed = splitter.feed(bytes, MAX_LINE + 1, each);
        self.users_received(id, &mut ahead, table);
        if fed.is_err() {
            self.refuse(id, &RingError::TooLong);
        }
        self.thaw();
        if let Some(conn) = self.conns.get_mut(id) {
            conn.splitter = splitter;
        }
        self.settle_account(id);
    }

    fn line<T: Table>(&mut self, id: ConnId, line: &[u8], ahead: &mut Ahead, table: &mut T) {
        // Closed by a line before this one, told to leave since, or about to begin TLS.
        let Some(conn) = self.conns.get(id).filter(|conn| conn.is_heard()) else {
            return;
        };
        let line = parse(line, conn.context());
        if let Ok(Line::Command(Command::User { hash, host, time })) = line {
            self.user_read(ahead, (hash, host), time);
            if ahead.is_full() {
                self.users_received(id, ahead, table);
            }
            return;
        }
        if !ahead.is_empty() {
            self.users_received(id, ahead, table);
        }
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.is_heard()) else {
            return;
        };
        match line {
            Ok(Line::Command(command)) => {
                conn.stage = conn.stage.after(&command);
                self.count_line(&command);
                self.command(id, &command, table);
            }
            Ok(Line::Received(received)) => {
                if let Err(error) = self.order_received(id, &received, table) {
                    self.refuse(id, &error);
                }
            }
            Err(error) => self.refuse(id, &error),
        }
    }

    /// A line that nobody can follow: its sender is at fault, and is left alone for a while.
    pub(super) fn refuse(&mut self, id: ConnId, error: &RingError) {
        let now = self.now.mono;
        let director = self.conns.director(id);
        if error.verdict() == Verdict::Garbage
            && let Some(member) = director.and_then(|id| self.members.get_mut(id))
        {
            member.protocol_failed(now);
        }
        self.close(id, &format!("Invalid input: {error}"), Level::Error);
    }

    fn command<T: Table>(&mut self, id: ConnId, command: &Command<'_>, table: &mut T) {
        match command {
            Command::Version {
                minor,
                homing,
                tls,
                joining,
            } => {
                self.version_received(id, *minor, *homing, (*tls, *joining));
            }
            Command::Me { id: who, time } => self.me_received(id, *who, *time),
            Command::Options => {}
            Command::HostHandStart(handshaked) => self.hosts_begin(id, *handshaked),
            Command::HostHandEnd(_) => self.hosts_end(id),
            Command::HandHost(host) => self.hand_host(id, host),
            Command::HandUser(user) => self.hand_user(id, user, table),
            Command::HandUsers(users) => self.hand_users(id, users, table),
            Command::Users(users) => self.users_told(id, users, table),
            Command::Done => self.done_received(id, table),
            Command::Ask { hash, tag } => self.asked(*hash, tag, table),
            Command::Ping(_) => self.ping_received(id),
            Command::Pong(_) => self.pong_received(id),
            Command::Connect(to) => self.connect_requested(id, *to),
            Command::Quit(text) => self.quit_received(id, text),
            Command::Director(named) => self.director_received(id, *named),
            Command::DirectorRemove(named) => self.removal_received(id, *named),
            Command::Sync(sync) => self.sync_received(*sync, table),
            Command::UserKilled(hash) => self.killed_received(UserHash(hash.get()), table),
            Command::User { .. } => unreachable!("several are followed together"),
            Command::Order(..) => unreachable!("orders come with their origin read first"),
        }
    }

    fn order_received<T: Table>(
        &mut self,
        id: ConnId,
        received: &Received<'_>,
        table: &mut T,
    ) -> Result<(), RingError> {
        let Origin { director, seq } = received.origin;
        let seen = self.members.take_seq(director, seq);
        if seen == Seen::Duplicate && !received.is_read_when_duplicate() {
            self.count_duplicate();
            return Ok(());
        }
        let origin = (seen != Seen::NoOrigin).then_some(received.origin);
        let order = received.order()?;
        self.count_order(id, seen, received.origin, &order);
        match &order {
            Order::UserWeak { hash, host } => {
                self.weak_received(id, (seen, received.origin), (*hash, *host), table);
            }
            Order::Host(host) => self.host_received(id, host, origin),
            Order::HostRemove(ip) => self.host_gone(id, *ip, origin, true),
            Order::HostFlush(ip) => self.host_gone(id, *ip, origin, false),
            Order::UserMove { hash, host } => {
                self.move_received(id, origin, (*hash, *host), table);
            }
            Order::UserKilledEverywhere(hash) => {
                if seen != Seen::Duplicate {
                    self.killed_everywhere_received(id, origin, *hash, table);
                }
            }
            Order::UserKick(name) => {
                self.kick_received(id, origin, &order, Kick::User(name.to_vec()));
            }
            Order::UserKickAlt { field, value } => {
                let kick = Kick::Alt(field.to_vec(), value.to_vec());
                self.kick_received(id, origin, &order, kick);
            }
            Order::UserKickHash { hash, except } => {
                let kick = Kick::Hash(UserHash(hash.get()), *except);
                self.kick_received(id, origin, &order, kick);
            }
        }
        Ok(())
    }

    fn kick_received(&mut self, id: ConnId, origin: Option<Origin>, order: &Order<'_>, kick: Kick) {
        let origin = self.or_own(origin);
        let sender = self.conns.director(id);
        self.broadcast(&Command::Order(origin, order.clone()), sender);
        self.begin_kick(kick);
    }

    pub(super) fn load(&self, id: ConnId) -> Option<Load> {
        let waiting = self.conns.get(id).map_or(0, super::Conn::waiting);
        Some(Load {
            time: self.now.wall.0,
            waiting: waiting as u64,
        })
    }

    fn ping_received(&mut self, id: ConnId) {
        let load = self.load(id);
        self.send(id, &Command::Pong(load));
    }

    fn pong_received(&mut self, id: ConnId) {
        let now = self.now.mono;
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(since) = conn.ping.take() else {
            return;
        };
        conn.tally.ping = now.since(since);
        let verifying = std::mem::take(&mut conn.verifying);
        if let Some(director) = conn.director
            && now.since(since) > super::timers::SLOW_PONG
        {
            self.say(Event::SlowPong(director, now.since(since)));
        }
        if verifying && self.left == Some(id) {
            self.left_is_there(id);
        }
    }

    fn quit_received(&mut self, id: ConnId, text: &[u8]) {
        let director = self.conns.director(id);
        let text = String::from_utf8_lossy(text);
        let clean: String = text.chars().filter(|c| !c.is_control()).collect();
        self.say(Event::Quit(director, clean));
        self.turned_away(id);
        self.close(id, "it has quit", Level::Debug);
    }

    pub(super) fn add_member(&mut self, id: DirectorId) -> Result<(), TooManyMembers> {
        match self.members.add(id) {
            Ok(true) => {
                self.say(Event::Member(id, true));
                if self.standing.synced {
                    self.arm_preferred();
                }
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => {
                self.say(Event::Ignored(error.to_string()));
                Err(error)
            }
        }
    }

    fn director_received(&mut self, id: ConnId, named: DirectorId) {
        if named == self.members.me() {
            return;
        }
        let shaken = self
            .conns
            .get(id)
            .is_some_and(|it| it.established.is_some());
        match self.members.get_mut(named) {
            Some(member) if member.removed => return,
            Some(member) => {
                if shaken {
                    member.reached();
                }
                self.members.restarted(named);
            }
            None => {
                if self.add_member(named).is_err() {
                    return;
                }
            }
        }
        if self.members.ends_director_line(named, self.right()) {
            return;
        }
        let now = self.now.mono;
        if !self
            .members
            .get_mut(named)
            .is_some_and(|it| it.pass_name(now))
        {
            return;
        }
        self.round.changes += 1;
        let sender = self.conns.director(id);
        self.broadcast(&Command::Director(named), sender);
    }

    fn removal_received(&mut self, id: ConnId, named: DirectorId) {
        let sender = self.conns.director(id);
        if self.members.remove(named) {
            self.say(Event::Member(named, false));
            self.member_removed(named, sender);
        }
    }

    /// A director has just been marked as removed.
    pub(super) fn member_removed(&mut self, named: DirectorId, sender: Option<DirectorId>) {
        self.arm_purge();
        // The one that is removed hears of it too: else it would not know why it is cut off.
        self.broadcast(&Command::DirectorRemove(named), sender);
        for id in self.conns.ids(|conn| conn.director == Some(named)) {
            self.close(id, "Removing from ring", Level::Info);
        }
        self.find_neighbours();
        self.sync_ring();
    }
}
