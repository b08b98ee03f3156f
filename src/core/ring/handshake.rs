//! What two directors tell each other when they meet (docs/protocol/ring.md, connections).

use super::event::Level;
use super::{ConnId, Event, Output, Ring, Table, Tls};
use crate::core::backends::{HostLine, Merged, Teller};

use crate::wire::ring::{Command, DirectorId, Host, MINOR_TAGS, Role};

/// A clock that differs by more is worth a line in the log: users' expiry depends on it.
const CLOCK_DIFFERENCE: u64 = 1;

impl Ring {
    pub(super) fn version_received(
        &mut self,
        id: ConnId,
        minor: u32,
        homing: u32,
        (tls, joining): (bool, bool),
    ) {
        if !self.begins(id, tls) {
            return;
        }
        let tags = self.director.backends();
        let tagged = tags
            .iter()
            .filter(|backend| !backend.down && backend.vhosts > 0)
            .any(|backend| !tags.tag_name(backend.tag).is_empty());
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.peer_minor = minor;
        conn.homing = homing;
        conn.joining = joining;
        let (dialler, director) = (conn.is_dialler(), conn.director);
        if let Some(director) = director {
            self.note_program(director, homing);
        }
        if minor < MINOR_TAGS && tagged {
            return self.close(
                id,
                "Director version is too old for tags: there are backends with tags",
                Level::Error,
            );
        }
        if dialler {
            self.offer(id);
        }
    }

    /// What to do about TLS now that the peer's first line is there; `false`: the handshake does not go
    /// on for the time being.
    fn begins(&mut self, id: ConnId, offered: bool) -> bool {
        let Some(conn) = self.conns.get(id) else {
            return false;
        };
        if conn.secure {
            return true;
        }
        // A dialler that has spoken, since TLS was off when it connected, cannot begin TLS any more.
        let (dialler, greeted) = (conn.is_dialler(), conn.greeted);
        if dialler && offered && !greeted && self.limits.tls != Tls::Off {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.securing = true;
            }
            self.outputs.push(Output::Secure(id));
            return false;
        }
        if self.limits.tls == Tls::Required {
            let why = "no TLS, which director_ring_tls_required demands";
            self.turned_away(id);
            self.close(id, why, Level::Error);
            return false;
        }
        if dialler && !greeted {
            self.introduce_as_dialler(id);
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.greeted = true;
        }
        true
    }

    /// Which program a director is decides how soon it is dialled again.
    pub(super) fn note_program(&mut self, director: DirectorId, homing: u32) {
        self.members.note_program(director, homing > 0);
    }

    /// The backends, in one go: no other line may come between them. Users follow by and by.
    fn offer(&mut self, id: ConnId) {
        let ring = self.standing.min_version;
        let flag = self.standing.handshaked;
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let backends = self.director.backends();
        let mut lines = vec![Command::HostHandStart(flag)];
        lines.extend(
            backends
                .iter()
                .map(|backend| Command::HandHost(super::hosts::as_host(backends, backend))),
        );
        lines.push(Command::HostHandEnd(flag));
        for line in &lines {
            // Names that do not fit a line are refused when backends are added.
            let written = conn.write(line, ring);
            debug_assert!(written.is_ok());
        }
        conn.cursor = Some(0);
        conn.offered = true;
        self.feeding = true;
    }

    pub(super) fn me_received(&mut self, id: ConnId, who: DirectorId, time: Option<u64>) {
        let Some((role, dialled)) = self.conns.get(id).map(|conn| (conn.role, conn.director))
        else {
            return;
        };
        if let Some(time) = time {
            let apart = time.abs_diff(self.now.wall.0);
            if apart > CLOCK_DIFFERENCE {
                self.say(Event::Clock(who, apart));
            }
        }
        match role {
            Role::Acceptor => self.met(id, who),
            Role::Dialler if dialled == Some(who) => {}
            Role::Dialler => {
                // Who answers at an address under another name will do so again.
                let now = self.now.mono;
                if let Some(member) = dialled.and_then(|id| self.members.get_mut(id)) {
                    member.network_failed(now);
                }
                self.close(
                    id,
                    "Remote director says that it is another one",
                    Level::Error,
                );
            }
        }
    }

    /// HOST-HAND-START: who of us was in a complete ring knows better than who was not.
    pub(super) fn hosts_begin(&mut self, id: ConnId, they_handshaked: bool) {
        let we_handshaked = self.standing.handshaked;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.ignores_hosts = we_handshaked && !they_handshaked;
            conn.gives_hosts = they_handshaked && !we_handshaked;
        }
        if they_handshaked && !we_handshaked {
            self.forget_recalled();
            self.drop_all_hosts();
            // Gone with them is what orders of others have done here: a second copy is no duplicate, and
            // may be on its way behind these hosts.
            self.members.forget_orders();
        }
    }

    pub(super) fn hosts_end(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.ignores_hosts = false;
            conn.gave_hosts = conn.gives_hosts;
        }
        // Perhaps it can be asked from now on.
        self.stale = true;
    }

    /// HOST in the block.
    pub(super) fn hand_host(&mut self, id: ConnId, host: &Host<'_>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if conn.ignores_hosts {
            return;
        }
        if let Err(error) = host.check_tag(conn.peer_minor) {
            return self.refuse(id, &error);
        }
        let merged = self.merge_host(&HostLine::from(host), 0);
        if let Some(Merged::Changed { teller, .. }) = merged {
            let own = self.own_origin();
            let sender = match teller {
                Teller::Origin => self.conns.director(id),
                Teller::Ourselves => None,
            };
            self.tell_host(host.ip, own, sender);
            self.sync_ring();
        }
    }

    pub(super) fn done_received<T: Table>(&mut self, id: ConnId, table: &mut T) {
        let now = self.now.mono;
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.established = Some(now);
        let (role, who) = (conn.role, conn.director);
        if let Some(member) = who.and_then(|who| self.members.get_mut(who)) {
            member.reached();
        }
        match role {
            Role::Dialler => self.assign_right(id, table),
            Role::Acceptor => {
                // What it told of is in the table before it hears that we are done.
                self.fresh(table);
                self.feed_again(id);
                self.send(id, &Command::Done);
                if let Some(who) = who {
                    self.broadcast(&Command::Director(who), Some(who));
                }
                self.assign_left(id);
            }
        }
    }
}
