//! Who is left and right: accepting, dialling, CONNECT, closing, being alone
//! (docs/protocol/ring.md, left and right).

use std::net::IpAddr;

use super::conn::Conn;
use super::event::Level;
use super::{ConnId, Event, Output, Ring, Table, Tls};
use crate::core::Mono;
use crate::core::members::Unreachable;
use crate::wire::line::Splitter;
use crate::wire::ring::{Command, DirectorId, HOMING, MINOR, Role, Stage};

/// Connections whose peer has not said who it is. Only listed addresses get so far; a director needs
/// one, and a few more after it has lost some without our knowing.
const MAX_STRANGERS: usize = 64;
/// How often one director is dialled at most. One that takes a connection and closes it would be
/// dialled without a pause otherwise.
const DIAL_PAUSE: u64 = Mono::SECOND;
/// Pause between rounds of dialling in the first seconds.
const GRACE_PAUSE: u64 = Mono::SECOND;
/// A peer whose CONNECT was not followed is left after this long, so that it can close itself.
const REFUSED_CONNECT_PAUSE: u64 = Mono::SECOND;

impl Ring {
    pub(super) fn accepted(&mut self, id: ConnId, source: IpAddr) {
        let strangers = self.conns.map.values().filter(|conn| !conn.introduced());
        let refused = if !self.members.admits(source) {
            Some("it is not in the list of directors")
        } else if strangers.count() >= MAX_STRANGERS {
            Some("too many connections have not said who they are")
        } else {
            None
        };
        if let Some(why) = refused {
            self.say(Event::Refused(source, why));
            self.outputs.push(Output::Close(id, Vec::new()));
            return;
        }
        let conn = Conn::new(Role::Acceptor, source, None, self.now.mono);
        self.conns.map.insert(id, conn);
        self.introduce(id);
    }

    /// VERSION and ME: the first two lines of both sides.
    pub(super) fn introduce(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.greeted = true;
        }
        let me = Command::Me {
            id: self.members.me(),
            time: Some(self.now.wall.0),
        };
        let version = Command::Version {
            minor: MINOR,
            homing: HOMING,
            tls: self.limits.tls != Tls::Off && !self.is_secure(id),
            joining: !self.standing.handshaked,
        };
        self.send(id, &version);
        self.send(id, &me);
        self.stale = true;
        // What everybody is told must not go out plain when the dialler is about to begin TLS.
        let waits = self.limits.tls != Tls::Off;
        if let Some(conn) = self.conns.get_mut(id)
            && waits
            && !conn.is_dialler()
            && !conn.secure
        {
            conn.greeted = false;
        }
    }

    pub(super) fn connected(&mut self, id: ConnId) {
        if self.is_answered_probe(id) {
            return self.close(id, "Our right has answered meanwhile", Level::Debug);
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.connected = true;
        conn.last_input = self.now.mono;
        conn.progress = self.now.mono;
        // Whether the other side knows TLS is in its first line.
        if self.limits.tls == Tls::Off {
            self.introduce_as_dialler(id);
        }
    }

    /// VERSION, ME, and all directors that we know.
    pub(super) fn introduce_as_dialler(&mut self, id: ConnId) {
        self.introduce(id);
        let listed = self.members.iter().filter(|member| !member.removed);
        let listed: Vec<DirectorId> = listed.map(|member| member.id).collect();
        for director in listed {
            self.send(id, &Command::Director(director));
        }
    }

    /// TLS is there, with a director whose certificate was checked: both sides begin anew.
    pub(super) fn secured(&mut self, id: ConnId) {
        let now = self.now.mono;
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.securing = false;
        conn.secure = true;
        conn.stage = Stage::Version;
        conn.splitter = Splitter::default();
        conn.last_input = now;
        conn.progress = now;
        if conn.is_dialler() {
            self.introduce_as_dialler(id);
        } else {
            self.introduce(id);
        }
    }

    fn is_secure(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.secure)
    }

    pub(super) fn dial_failed(&mut self, id: ConnId) {
        let Some(conn) = self.conns.map.remove(&id) else {
            return;
        };
        if let Some(director) = conn.director {
            self.say(Event::Unreachable(director));
            self.stamp_unreached(director);
        }
    }

    /// Who takes a connection and ends it before the handshake is through will do so again.
    pub(super) fn turned_away(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if conn.is_dialler()
            && conn.established.is_none()
            && let Some(director) = conn.director
        {
            self.stamp_unreached(director);
        }
    }

    fn stamp_unreached(&mut self, director: DirectorId) {
        let now = self.now.mono;
        if let Some(member) = self.members.get_mut(director) {
            member.network_failed(now);
        }
    }

    /// Dials a director, unless that is being done or was done a moment ago.
    fn dial(&mut self, to: DirectorId) {
        let dialled = |conn: &Conn| conn.is_dialler() && conn.director == Some(to);
        if !self.conns.map.values().any(dialled) {
            self.dial_once(to);
        }
    }

    /// Dials a director, unless that was done a moment ago.
    fn dial_once(&mut self, to: DirectorId) {
        let now = self.now.mono;
        let Some(member) = self.members.get_mut(to) else {
            return;
        };
        if let Some(last) = member.last_dialled
            && now.since(last) < DIAL_PAUSE
        {
            self.timers.reconnect = Some(last.after(DIAL_PAUSE));
            return;
        }
        member.dialled(now);
        self.members.restarted(to);
        let id = self.next_conn();
        let conn = Conn::new(Role::Dialler, to.ip, Some(to), now);
        self.conns.map.insert(id, conn);
        self.outputs.push(Output::Dial(id, to));
    }

    /// Our right, or who is to be it, is silent. Whether its director is gone or only the connection, a
    /// second one tells: at its ME the director gives up the first one, and at its DONE it is our right.
    /// Nothing changes as long as that does not come.
    pub(super) fn probe(&mut self, id: ConnId) {
        let now = self.now.mono;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.probed = Some(now);
        }
        let Some(to) = self.conns.director(id) else {
            return;
        };
        let dialled = |(&other, conn): (&ConnId, &Conn)| {
            other != id && conn.is_dialler() && conn.director == Some(to)
        };
        if !self.conns.map.iter().any(dialled) {
            self.dial_once(to);
        }
    }

    /// Whether this connection was only to find out about one that has spoken since.
    fn is_answered_probe(&self, id: ConnId) -> bool {
        self.right.is_some_and(|right| {
            right != id
                && self.conns.director(right) == self.conns.director(id)
                && self
                    .conns
                    .get(right)
                    .is_some_and(|conn| conn.probed.is_none())
        })
    }

    /// Looks for a right: the best that did not fail lately.
    pub(super) fn connect(&mut self) {
        self.timers.reconnect = None;
        let best = self.members.candidates(self.now.mono).next();
        if let Some(best) = best {
            return self.dial(best);
        }
        // Somebody may count as not reached for what became of another connection to it.
        if self.conns.map.values().any(Conn::is_dialler) {
            return;
        }
        match self.members.unreachable(self.now.mono) {
            Unreachable::TryAgain => {
                self.timers.reconnect = Some(self.now.mono.after(GRACE_PAUSE));
            }
            Unreachable::Alone => self.go_alone(),
        }
    }

    /// Nobody can be dialled. Whoever dialled us is presumed to be gone as well: a ring that is
    /// passed on in one direction only would never be synced.
    fn go_alone(&mut self) {
        for id in self.conns.ids(|conn| conn.established.is_some()) {
            self.close(id, "No right connection", Level::Info);
        }
        if !self.standing.synced || !self.standing.handshaked {
            self.say(Event::Alone);
        }
        self.standing.min_version = MINOR;
        self.become_synced();
    }

    /// The best right is dialled now and then while another one has its place.
    pub(super) fn dial_preferred(&mut self) {
        self.timers.preferred = None;
        if let Some(preferred) = self.members.preferred_right()
            && self.right() != Some(preferred)
        {
            self.dial(preferred);
        }
        self.arm_preferred();
    }

    pub(super) fn arm_preferred(&mut self) {
        let preferred = self.members.preferred_right();
        let wanted = preferred.filter(|&preferred| self.right() != Some(preferred));
        let now = self.now.mono;
        self.timers.preferred = wanted.map(|preferred| {
            let member = self.members.get(preferred);
            let at = member.map_or(now, |member| member.try_again_at(now));
            self.timers.preferred.unwrap_or(at)
        });
    }

    /// ME on a connection that was accepted.
    pub(super) fn met(&mut self, id: ConnId, who: DirectorId) {
        let now = self.now.mono;
        let Some(address) = self.conns.get(id).map(|conn| conn.address) else {
            return;
        };
        if let Err(error) = self.members.check_me(who, address, now) {
            return self.close(id, &error.to_string(), Level::Warning);
        }
        self.members.restarted(who);
        if let Some(member) = self.members.get_mut(who) {
            member.removed = false;
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.director = Some(who);
            let homing = conn.homing;
            self.note_program(who, homing);
        }
        self.close_older(id, who);
        match self
            .left
            .and_then(|left| Some((left, self.conns.director(left)?)))
        {
            None => {
                if let Some(member) = self.members.get_mut(who) {
                    member.reached();
                }
                // What is about to be closed does not count.
                let stays = |conn: &Conn| conn.is_dialler() && conn.close_at.is_none();
                if !self.conns.map.values().any(stays) {
                    self.connect();
                }
            }
            Some((left, old)) if old == who => {
                self.close(left, "Replacing with new incoming connection", Level::Info);
            }
            Some((left, old)) if self.members.is_better_left(who, old) => {
                self.send(left, &Command::Connect(who));
            }
            Some((left, _)) => {
                if let Some(conn) = self.conns.get_mut(left) {
                    conn.verifying = true;
                }
                self.ping(left);
            }
        }
    }

    /// A director dials another one once at a time: what waits of it is of no use to anybody any more. It
    /// would stay for 40 s, and a director that dials and is killed all the time would fill the memory.
    fn close_older(&mut self, id: ConnId, who: DirectorId) {
        let older = self.conns.map.iter().filter(|&(&other, conn)| {
            other != id
                && self.left != Some(other)
                && !conn.is_dialler()
                && conn.director == Some(who)
        });
        let older: Vec<ConnId> = older.map(|(&other, _)| other).collect();
        for other in older {
            self.close(other, "Replacing with new incoming connection", Level::Info);
        }
    }

    /// The left has answered although another director wants its place: the others go to it.
    pub(super) fn left_is_there(&mut self, left: ConnId) {
        let Some(director) = self.conns.director(left) else {
            return;
        };
        let members = &self.members;
        let worse = |conn: &Conn| {
            !conn.is_dialler()
                && conn.leaves_by.is_none()
                && conn
                    .director
                    .is_some_and(|other| members.is_better_left(director, other))
        };
        for id in self.conns.ids(worse) {
            self.send_away(id, director);
        }
    }

    fn send_away(&mut self, id: ConnId, to: DirectorId) {
        self.send(id, &Command::Connect(to));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.told_to_leave(self.now.mono);
        }
    }

    /// DONE on a connection that was accepted, or the left is gone and this one has waited.
    pub(super) fn assign_left(&mut self, id: ConnId) {
        let Some(who) = self.conns.director(id) else {
            return;
        };
        let Some(left) = self.left else {
            return self.take_left(id, who);
        };
        let Some(old) = self.conns.director(left) else {
            return;
        };
        if left == id {
        } else if old == who {
            self.close(left, "Replacing with new incoming connection", Level::Info);
            self.take_left(id, who);
        } else if self.conns.get(left).is_some_and(|conn| conn.verifying) {
            // What comes of it decides.
        } else if self.members.is_better_left(old, who) {
            self.send_away(id, old);
        } else if let Some(conn) = self.conns.get_mut(left) {
            // It waits: the present left was told to go to it.
            conn.displaced(self.now.mono);
        }
    }

    /// Our left was told to leave for another one, and is there still: it has not heard.
    pub(super) fn displace(&mut self, id: ConnId) {
        let left = self.conns.director(id);
        let waits = |conn: &Conn| {
            !conn.is_dialler()
                && conn.established.is_some()
                && conn
                    .director
                    .zip(left)
                    .is_some_and(|(other, left)| self.members.is_better_left(other, left))
        };
        if self.left == Some(id) && self.conns.map.values().any(waits) {
            self.close(id, "CONNECT requested, but it stayed", Level::Info);
        } else if let Some(conn) = self.conns.get_mut(id) {
            conn.displaced_at = None;
        }
    }

    fn take_left(&mut self, id: ConnId, who: DirectorId) {
        self.left = Some(id);
        self.say(Event::Left(who));
        self.assigned(id);
    }

    /// DONE on a connection that was dialled.
    pub(super) fn assign_right<T: Table>(&mut self, id: ConnId, table: &T) {
        let Some(who) = self.conns.director(id) else {
            return;
        };
        if let Some(old) = self.right {
            // The same once more: a second connection to it is only made when the first is silent.
            let better = self
                .conns
                .director(old)
                .is_none_or(|old| old == who || self.members.is_better_right(who, old));
            if !better {
                return self.close(id, "We have a better right", Level::Info);
            }
            self.close(old, "Replacing with better right", Level::Info);
        }
        self.right = Some(id);
        self.say(Event::Right(who));
        self.release_syncs(table);
        self.assigned(id);
    }

    fn assigned(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.synced = false;
            conn.last_input = self.now.mono;
        }
        self.stale = true;
        if self.left.is_some() && self.right.is_some() {
            self.new_round();
        }
    }

    /// CONNECT: the peer knows a director that should be our right rather than it.
    pub(super) fn connect_requested(&mut self, id: ConnId, to: DirectorId) {
        if self.add_member(to).is_err() {
            return self.close_soon(id, REFUSED_CONNECT_PAUSE);
        }
        let removed = self.members.get(to).is_none_or(|member| member.removed);
        let right = self.right();
        let better = right.is_none_or(|right| self.members.is_better_right(to, right));
        if to == self.members.me() || !better || removed {
            return self.close_soon(id, REFUSED_CONNECT_PAUSE);
        }
        if let Some(member) = self.members.get_mut(to) {
            member.reached();
        }
        match self.right {
            Some(right) if right == id => self.close_soon(id, 0),
            Some(right) => self.close(right, "CONNECT requested", Level::Info),
            None => {}
        }
        self.dial(to);
    }

    fn close_soon(&mut self, id: ConnId, pause: u64) {
        let at = self.now.mono.after(pause);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.close_at.get_or_insert(at);
        }
    }

    /// The other end is gone.
    pub(super) fn ended(&mut self, id: ConnId) {
        let Some(conn) = self.conns.map.remove(&id) else {
            return;
        };
        self.say(Event::Lost {
            director: conn.director,
            address: conn.address,
            neighbour: self.left == Some(id) || self.right == Some(id),
        });
        self.lost(conn.director, conn.established);
        self.gone(id);
    }

    /// A connection ended by itself or by a timeout.
    pub(super) fn lost(&mut self, director: Option<DirectorId>, established: Option<Mono>) {
        let now = self.now.mono;
        if let Some(member) = director.and_then(|id| self.members.get_mut(id)) {
            member.connection_lost(established, now);
        }
    }

    /// Closes a connection, with a QUIT that says why.
    pub(super) fn close(&mut self, id: ConnId, why: &str, level: Level) {
        self.tell_news();
        let Some(mut conn) = self.conns.map.remove(&id) else {
            return;
        };
        // A QUIT always fits: its text is cut.
        let _ = conn.write(
            &Command::Quit(why.as_bytes().into()),
            self.standing.min_version,
        );
        self.say(Event::Closed {
            director: conn.director,
            address: conn.address,
            why: why.to_owned(),
            level,
        });
        self.outputs.push(Output::Close(id, conn.out));
        self.gone(id);
    }

    fn gone(&mut self, id: ConnId) {
        self.stale = true;
        if self.left == Some(id) {
            self.left = None;
        } else if self.right == Some(id) {
            self.right = None;
        } else {
            return;
        }
        self.next_round();
        self.become_unsynced();
    }

    /// After every input: a left among those that wait, and a right.
    pub(super) fn find_neighbours(&mut self) {
        if self.left.is_none() {
            let waits = |conn: &Conn| {
                !conn.is_dialler() && conn.established.is_some() && conn.leaves_by.is_none()
            };
            let mut waiting = self.conns.ids(waits);
            // The best first: it then sends the others to where they belong.
            waiting.sort_by(
                |&a, &b| match (self.conns.director(a), self.conns.director(b)) {
                    (Some(a), Some(b)) => self.members.order(a, b),
                    _ => std::cmp::Ordering::Equal,
                },
            );
            for id in waiting {
                self.assign_left(id);
            }
        }
        let wanted = self.right.is_none() && !self.is_settled_alone();
        if wanted
            && self.timers.reconnect.is_none()
            && !self.conns.map.values().any(Conn::is_dialler)
        {
            self.connect();
        }
    }

    /// Serving alone, and nothing has happened since that would be a reason to dial.
    fn is_settled_alone(&self) -> bool {
        self.standing.synced && self.standing.handshaked && self.left.is_none()
    }
}
