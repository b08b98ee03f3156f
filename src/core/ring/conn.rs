//! One connection, and all of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::flood::Meter;
use super::report::Tally;
use super::told::Told;
use super::{ConnId, Now};
use crate::core::Mono;
use crate::wire::line::Splitter;
use crate::wire::ring::{Command, Context, DirectorId, DoesNotFit, Role, Stage, Versions};

/// No TCP connection after this long.
const DIAL_LIMIT: u64 = 10 * Mono::SECOND;
/// No ME after this long without a byte.
const ME_LIMIT: u64 = 10 * Mono::SECOND;
/// No ME after this long, however many bytes come.
const ME_LIMIT_IN_ALL: u64 = 60 * Mono::SECOND;
/// No DONE of a director that dialled us after this long without a byte; also how long one may be
/// silent that waits to become our left.
const ACCEPTOR_LIMIT: u64 = 40 * Mono::SECOND;
/// No DONE of a director that we dialled after this long without a byte in either direction.
const DIALLER_LIMIT: u64 = 30 * Mono::SECOND;
/// No DONE of a director that we dialled after it was told all users, however much it says: nobody else is
/// dialled meanwhile. What kernels hold of them is taken in within seconds.
const DONE_LIMIT: u64 = 60 * Mono::SECOND;
/// How long a peer that was sent CONNECT may stay.
const LEAVE_LIMIT: u64 = 10 * Mono::SECOND;
/// How long a left may stay when a better one has its handshake behind it: one that lives is gone at
/// once or after a second, whatever CONNECT makes it do.
const DISPLACED_LIMIT: u64 = 4 * Mono::SECOND;
/// Silence before a neighbour is asked whether it is there.
const PING_SYNCED: u64 = 15 * Mono::SECOND;
const PING_NOT_SYNCED: u64 = Mono::SECOND;
/// The same for one that is a Homing director: a connection can vanish without a trace, and a PING
/// costs forty bytes.
const PING_HOMING: u64 = 2 * Mono::SECOND;
/// No byte after a PING: the connection may be dead though the director lives. A Homing director is
/// dialled once more then, and again after as long; it is not given up before the other limits.
const PROBE: u64 = 4 * Mono::SECOND;
/// The same for one that is being told of many users: PING is behind megabytes that its kernel has taken and it
/// has not, and a second connection would have it begin anew.
const PROBE_AFTER_MUCH: u64 = 20 * Mono::SECOND;
/// Bytes told from which on that is so: two directors are done with fewer in a moment.
const MUCH: u64 = 1 << 20;

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub role: Role,
    /// Where it comes from or goes to.
    pub address: IpAddr,
    /// Who is at the other end: who was dialled, or who says ME.
    pub director: Option<DirectorId>,
    /// TCP is through.
    pub connected: bool,
    pub stage: Stage,
    /// 0 before VERSION.
    pub peer_minor: u32,
    /// Extensions of Homing that the peer knows.
    pub homing: u32,
    /// The peer was not in a complete ring when it said VERSION.
    pub joining: bool,
    /// TLS is about to begin: lines that are not inside are nobody's.
    pub securing: bool,
    /// Inside TLS.
    pub secure: bool,
    /// Our VERSION and ME are out, and TLS has begun or will not, so that other lines may follow.
    pub greeted: bool,
    pub splitter: Splitter,
    /// To be taken by the driver.
    pub out: Vec<u8>,
    /// Taken by the driver and not written yet.
    pub unsent: usize,
    pub since: Mono,
    /// When its handshake was complete.
    pub established: Option<Mono>,
    pub last_input: Mono,
    /// The last time that something went in or, of our users, out.
    pub progress: Mono,
    /// Since when a PONG is due.
    pub ping: Option<Mono>,
    /// Silent for so long that its director was dialled once more, the last time then.
    pub probed: Option<Mono>,
    /// It is being asked whether it is there because another director wants its place.
    pub verifying: bool,
    /// The ring is synced as far as this neighbour is concerned.
    pub synced: bool,
    /// It was sent CONNECT; what it sends is discarded.
    pub leaves_by: Option<Mono>,
    pub close_at: Option<Mono>,
    /// A better left waits, and this one has been sent CONNECT.
    pub displaced_at: Option<Mono>,
    /// In a block of hosts that is not for us.
    pub ignores_hosts: bool,
    /// In a block of hosts that takes the place of ours.
    pub gives_hosts: bool,
    /// Such a block is through.
    pub gave_hosts: bool,
    /// It has been sent our backends, so that users follow.
    pub offered: bool,
    /// The next shard whose users it is sent; `None`: all were, or none are.
    pub cursor: Option<usize>,
    /// It is sent our users once more, after DONE. SYNCs wait for the last of them.
    pub again: bool,
    /// All users were written, the last of them then.
    pub all_told: Option<Mono>,
    /// What it has said lately.
    pub meter: Meter,
    /// For those who look at the ring.
    pub tally: Tally,
}

impl Conn {
    pub(super) fn new(
        role: Role,
        address: IpAddr,
        director: Option<DirectorId>,
        now: Mono,
    ) -> Conn {
        Conn {
            role,
            address,
            director,
            connected: role == Role::Acceptor,
            stage: Stage::Version,
            peer_minor: 0,
            homing: 0,
            joining: false,
            securing: false,
            secure: false,
            greeted: false,
            splitter: Splitter::default(),
            out: Vec::new(),
            unsent: 0,
            since: now,
            established: None,
            last_input: now,
            progress: now,
            ping: None,
            probed: None,
            verifying: false,
            synced: false,
            leaves_by: None,
            close_at: None,
            displaced_at: None,
            ignores_hosts: false,
            gives_hosts: false,
            gave_hosts: false,
            offered: false,
            cursor: None,
            again: false,
            all_told: None,
            meter: Meter::new(now),
            tally: Tally::default(),
        }
    }

    pub(super) fn context(&self) -> Context {
        Context {
            stage: self.stage,
            role: self.role,
            peer_minor: self.peer_minor,
        }
    }

    /// Bytes on their way to the other end, as far as this machine knows.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() + self.unsent
    }

    /// ME has come, so that ordinary commands may come and go.
    pub(super) fn introduced(&self) -> bool {
        !matches!(self.stage, Stage::Version | Stage::Me)
    }

    /// Its lines are followed: it was not told to leave, and is not about to begin TLS.
    pub(super) fn is_heard(&self) -> bool {
        self.leaves_by.is_none() && !self.securing
    }

    pub(super) fn is_dialler(&self) -> bool {
        self.role == Role::Dialler
    }

    /// Whether a command may be written: the peer understands it, and has our first lines.
    pub(super) fn takes(&self, min_minor: u32, min_homing: u32) -> bool {
        let understood = self.peer_minor >= min_minor && self.homing >= min_homing;
        self.connected && self.greeted && understood
    }

    /// Appends a line, if the peer understands it.
    pub(super) fn write(&mut self, command: &Command<'_>, ring: u32) -> Result<(), DoesNotFit> {
        if !self.takes(command.min_minor(), command.min_homing()) {
            return Ok(());
        }
        let versions = Versions {
            peer: self.peer_minor,
            ring,
        };
        let before = self.out.len();
        let written = command.write(versions, &mut self.out);
        self.added(self.out.len() - before);
        written
    }

    /// So many bytes have been put into `out`.
    fn added(&mut self, bytes: usize) {
        let waiting = self.waiting();
        self.tally.added(bytes, waiting);
    }

    /// The driver has written, and so many bytes still wait.
    pub(super) fn written(&mut self, unsent: usize, now: Now) {
        if self.unsent > 0 && self.all_told.is_some() {
            // Perhaps these were the last users.
            self.all_told = Some(now.mono);
        }
        if unsent < self.unsent {
            // The other end takes it in, however slowly.
            self.progress = now.mono;
        }
        self.unsent = unsent;
        let waiting = self.waiting();
        self.tally.written(waiting, now.wall);
    }

    /// From now on it is only waited for.
    pub(super) fn told_to_leave(&mut self, now: Mono) {
        self.leaves_by = Some(now.after(LEAVE_LIMIT));
    }

    /// Another one waits for its place.
    pub(super) fn displaced(&mut self, now: Mono) {
        self.displaced_at.get_or_insert(now.after(DISPLACED_LIMIT));
    }

    /// When something is due, and what.
    pub(super) fn deadline(&self, neighbour: bool, idle: u64, most: u64) -> (Mono, Due) {
        let own = self.own_deadline(neighbour, idle, most);
        let leave = self
            .leaves_by
            .map(|at| (at, Due::Close("CONNECT requested, but it stayed", false)));
        let close = self
            .close_at
            .map(|at| (at, Due::Close("CONNECT requested", false)));
        let displaced = self.displaced_at.map(|at| (at, Due::Displaced));
        [leave, close, displaced]
            .into_iter()
            .flatten()
            .fold(
                own,
                |first, next| if next.0 < first.0 { next } else { first },
            )
    }

    /// The handshake is not through, or it is and this is no neighbour.
    fn handshake_deadline(&self) -> (Mono, Due) {
        let limit = match self.role {
            Role::Acceptor => ACCEPTOR_LIMIT,
            Role::Dialler => DIALLER_LIMIT,
        };
        let silent = self.progress.after(limit);
        let done = self.all_told.filter(|_| self.established.is_none());
        let over = (
            done.map_or(silent, |at| silent.min(at.after(DONE_LIMIT))),
            Due::Close("Handshake timeout", true),
        );
        match self.ping {
            None if self.may_be_probed() => (self.progress.after(PING_HOMING), Due::Ping),
            None => over,
            Some(ping) => {
                let probe = match self.tally.told() {
                    ..MUCH => PROBE,
                    _ => PROBE_AFTER_MUCH,
                };
                self.sooner(self.progress.max(ping), probe, over)
            }
        }
    }

    /// Dialling a Homing director once more costs nothing but a handshake.
    fn may_be_probed(&self) -> bool {
        self.is_dialler() && self.homing > 0
    }

    /// The end of a silence, or a probe before it.
    fn sooner(&self, silent_since: Mono, probe: u64, over: (Mono, Due)) -> (Mono, Due) {
        let probe = self.probed.unwrap_or(silent_since).after(probe);
        if self.may_be_probed() && probe < over.0 {
            return (probe, Due::Probe);
        }
        over
    }

    fn own_deadline(&self, neighbour: bool, idle: u64, most: u64) -> (Mono, Due) {
        if !self.connected {
            return (
                self.since.after(DIAL_LIMIT),
                Due::Close("Connect timeout", true),
            );
        }
        if !self.introduced() {
            let at = self.last_input.after(ME_LIMIT);
            let at = at.min(self.since.after(ME_LIMIT_IN_ALL));
            return (at, Due::Close("Handshake timeout", true));
        }
        if !neighbour {
            return self.handshake_deadline();
        }
        let Some(ping) = self.ping else {
            let silence = match (self.synced, self.homing > 0) {
                (false, _) => PING_NOT_SYNCED,
                (true, true) => PING_HOMING,
                (true, false) => PING_SYNCED,
            };
            return (self.last_input.after(silence), Due::Ping);
        };
        let silent = self.last_input.max(ping).after(idle);
        let unanswered = ping.after(most);
        let over = if silent <= unanswered {
            (silent, Due::Close("Ping timeout", true))
        } else {
            (unanswered, Due::Close("Pong timeout", true))
        };
        self.sooner(self.last_input.max(ping), PROBE, over)
    }
}

/// What is to be done with a connection when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask whether it is there.
    Ping,
    /// Dial its director once more.
    Probe,
    /// Close it if a better left waits for its place.
    Displaced,
    /// Close it with this text; whether its director counts as not reached then.
    Close(&'static str, bool),
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Conns {
    pub map: BTreeMap<ConnId, Conn>,
    /// The line that is being told to many.
    line: Vec<u8>,
    /// Users that wait to be told of. Nothing is written before they are.
    pub(super) told: Told,
}

impl Conns {
    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.map.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.map.get_mut(&id)
    }

    /// Those that are as wanted, in the order in which they were made.
    pub(super) fn ids(&self, wanted: impl Fn(&Conn) -> bool) -> Vec<ConnId> {
        let wanted = self.map.iter().filter(|(_, conn)| wanted(conn));
        wanted.map(|(&id, _)| id).collect()
    }

    /// Who is at the other end.
    pub(super) fn director(&self, id: ConnId) -> Option<DirectorId> {
        self.map.get(&id)?.director
    }

    /// Writes a line to one connection.
    pub(super) fn send(&mut self, id: ConnId, command: &Command<'_>, ring: u32) {
        self.tell_news(ring);
        if let Some(conn) = self.map.get_mut(&id) {
            let written = conn.write(command, ring);
            debug_assert!(written.is_ok(), "lines of our own fit");
        }
    }

    /// Writes a line to every connection, whatever its stage, but those of one director. One whose
    /// peer has not said ME belongs to nobody yet. A line that does not fit is left out.
    pub(super) fn broadcast(
        &mut self,
        command: &Command<'_>,
        except: Option<DirectorId>,
        ring: u32,
    ) {
        self.tell_news(ring);
        let spared = |conn: &Conn| except.is_some() && conn.director == except;
        self.write_to(|conn| !spared(conn), command, ring);
    }

    /// Writes a line to all that are wanted and understand it.
    pub(super) fn write_to(
        &mut self,
        wanted: impl Fn(&Conn) -> bool,
        command: &Command<'_>,
        ring: u32,
    ) {
        let (min_minor, min_homing) = (command.min_minor(), command.min_homing());
        // Nearly always all peers have the same version, and so the same line.
        let mut written_for: Option<u32> = None;
        for conn in self.map.values_mut() {
            if !conn.takes(min_minor, min_homing) || !wanted(conn) {
                continue;
            }
            if written_for != Some(conn.peer_minor) {
                let versions = Versions {
                    peer: conn.peer_minor,
                    ring,
                };
                self.line.clear();
                let written = command.write(versions, &mut self.line);
                written_for = written.is_ok().then_some(conn.peer_minor);
            }
            if written_for.is_some() {
                conn.out.extend_from_slice(&self.line);
                conn.added(self.line.len());
            }
        }
    }
}
