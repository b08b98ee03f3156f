//! Replies that ask for a backend: answered at once, parked, woken, failed at their deadline.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::conn::{Conn, Greeting, Role};
use super::pump::is_authreply_version;
use super::tap::{Asked, Tap};
use super::{ConnId, Context, Relay};
use crate::core::lookup::{Answer, Demand, Question, Socket, answer, write_answer, write_failure};
use crate::core::parking::{Parked, Place};
use crate::core::user_hash::cut_master_user;
use crate::core::users::Decision;
use crate::core::{BackendSlot, DelayReason, Mono, Refusal, UserHash};
use crate::wire::auth::{Found, Reply, parse_reply};
use crate::wire::line::{number, unescape};

/// First minor version of auth's protocol whose login processes can be told the user's hash, and
/// end sessions by it.
pub(super) const MINOR_WITH_USER_FIELDS: u32 = 3;
/// A lookup that finds a new snapshot starts again with it. Snapshots change a few times a second
/// at most, so a second try is enough; a third means a bug, and waiting is then the safe answer.
const TRIES: usize = 3;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It goes to the client as it is.
    Passed,
    /// Its answer comes with the batch's.
    Collected,
    /// Nothing goes to the client now.
    Kept,
}

/// A lookup that waits.
#[derive(Debug)]
pub struct Waiting {
    pub(super) id: ConnId,
    pub(super) socket: Socket,
    pub(super) line: Zeroizing<Vec<u8>>,
    pub(super) question: Question,
    pub(super) add_hash: bool,
    pub(super) about: LogAbout,
}

/// What the log says about a lookup: never the line itself, which holds the password.
#[derive(Debug)]
pub struct LogAbout {
    pub(super) user: Vec<u8>,
    pub(super) session: String,
}

impl LogAbout {
    fn of(line: &[u8], socket: Socket, tap: &Tap, asked: Asked) -> LogAbout {
        LogAbout::with_session(line, socket, tap.session(asked))
    }

    pub(super) fn with_session(line: &[u8], socket: Socket, session: String) -> LogAbout {
        let user = match parse_reply(line, socket == Socket::Userdb) {
            Reply::Found(found) => found.name().unwrap_or_default().to_vec(),
            _ => Vec::new(),
        };
        LogAbout { user, session }
    }
}

/// What a lookup came to.
enum Outcome {
    Backend(BackendSlot),
    Wait(DelayReason),
    Refuse(Refusal),
}

/// Handles one line from auth, or from the client of an authreply connection.
pub fn reply(line: &[u8], conn: &mut Conn, cx: &mut Context) -> Line {
    if conn.role == Role::Authreply(Greeting::Awaited) {
        let accepted = is_authreply_version(line);
        conn.role = Role::Authreply(if accepted {
            Greeting::Accepted
        } else {
            Greeting::Refused
        });
        if !accepted {
            cx.report_authreply_version();
        }
        return Line::Kept;
    }
    if conn.role == Role::Authreply(Greeting::Refused) {
        return Line::Kept;
    }
    match parse_reply(line, conn.socket() == Socket::Userdb) {
        Reply::Found(found) => found_reply(line, &found, conn, cx),
        Reply::Final(request) => {
            conn.tap.take(request);
            Line::Passed
        }
        Reply::Version(minor) => {
            conn.auth_minor = minor;
            Line::Passed
        }
        Reply::Cancelled(request) => swallow_cancelled(request, conn),
        Reply::Other => Line::Passed,
    }
}

/// Auth's confirmation of a CANCEL that the client did not send.
fn swallow_cancelled(request: &[u8], conn: &mut Conn) -> Line {
    let at = number(request).and_then(|id| conn.cancelled.iter().position(|&our| our == id));
    match at {
        Some(at) => {
            conn.cancelled.remove(at);
            Line::Kept
        }
        None => Line::Passed,
    }
}

fn found_reply(line: &[u8], found: &Found<'_>, conn: &mut Conn, cx: &mut Context) -> Line {
    let asked = conn.tap.take(found.id);
    let local = || conn.tap.local(asked);
    let Some(demand) = Demand::of(found, conn.socket(), local, &cx.snapshot) else {
        return Line::Passed;
    };
    if let (Some(user), Some(destuser)) = (&found.user, &found.destuser) {
        let session = || conn.tap.session(asked);
        cx.compare_names(user, destuser, session);
    }
    cx.batch.push(line, demand, asked, &cx.snapshot);
    Line::Collected
}

/// Answers the lookup that auth's `line` asked for. False: it waits.
pub(super) fn answer_found(
    line: &[u8],
    question: Question,
    asked: Asked,
    conn: &mut Conn,
    id: ConnId,
    cx: &mut Context,
) -> bool {
    let socket = conn.socket();
    let add_hash = socket == Socket::Login && conn.auth_minor >= MINOR_WITH_USER_FIELDS;
    match cx.look_up(&question) {
        Outcome::Backend(slot) => {
            let about = || LogAbout::of(line, socket, &conn.tap, asked);
            let mut out = std::mem::take(&mut cx.out);
            let answer = cx.write(line, &question, slot, add_hash, socket, &mut out, about);
            cx.out = out;
            if answer != Answer::Here {
                conn.cancels.extend(to_cancel(socket, &question, line));
            }
            true
        }
        Outcome::Refuse(refusal) => {
            cx.refuse(refusal, &LogAbout::of(line, socket, &conn.tap, asked));
            write_failure(line, &mut cx.out);
            conn.cancels.extend(to_cancel(socket, &question, line));
            true
        }
        Outcome::Wait(reason) => {
            let waiting = Waiting {
                id,
                socket,
                line: Zeroizing::new(line.to_vec()),
                question,
                add_hash,
                about: LogAbout::of(line, socket, &conn.tap, asked),
            };
            cx.park(waiting, reason, conn)
        }
    }
}

/// The request that auth is to forget, when `line` is not passed on as it came.
fn to_cancel(socket: Socket, question: &Question, line: &[u8]) -> Option<u32> {
    let waits = socket == Socket::Login && question.auth_waits();
    let id = line.split(|&byte| byte == b'\t').nth(1).filter(|_| waits);
    id.and_then(number)
}

impl Context {
    fn look_up(&mut self, question: &Question) -> Outcome {
        for _ in 0..TRIES {
            let Some(key) = question.key(&self.snapshot) else {
                return Outcome::Wait(DelayReason::NoBackend);
            };
            let directory = &self.directory;
            match directory.login(key, self.wall, self.now, &self.snapshot) {
                Some(login) => {
                    self.stats.created += u64::from(login.created);
                    return match login.decision {
                        Decision::Go(slot) => Outcome::Backend(slot),
                        Decision::Wait(reason) => Outcome::Wait(reason),
                        Decision::Refuse(refusal) => Outcome::Refuse(refusal),
                    };
                }
                None => {
                    self.snapshot = directory.snapshot();
                    self.parking.wake_all();
                }
            }
        }
        Outcome::Wait(DelayReason::NotSynced)
    }

    /// Writes the answer of a lookup whose backend is known, counts it, and says which it was.
    #[allow(clippy::too_many_arguments)]
    fn write(
        &mut self,
        line: &[u8],
        question: &Question,
        slot: BackendSlot,
        add_hash: bool,
        socket: Socket,
        out: &mut Vec<u8>,
        about: impl FnOnce() -> LogAbout,
    ) -> Answer {
        let Some(backend) = self.snapshot.backend(slot) else {
            unreachable!("a lookup answered with a backend that its snapshot does not have");
        };
        let answer = answer(question, backend);
        let hash: Option<UserHash> = add_hash.then_some(question.hash);
        write_answer(line, answer, backend, hash, out);
        match answer {
            Answer::Misconfigured(why) => {
                self.stats.misconfigured += 1;
                self.report_failure(&about(), why);
            }
            _ => self.stats.answered[socket.index()] += 1,
        }
        answer
    }

    /// A kick finds a session by the hash of `user`, while its backend was chosen by that of
    /// `destuser`: where they differ, moves will not end the session.
    fn compare_names(&mut self, user: &[u8], destuser: &[u8], session: impl FnOnce() -> String) {
        let separator = self.snapshot.master_user_separator;
        let template = Arc::clone(&self.snapshot.username_hash);
        let [by_user, by_destuser] = [user, destuser]
            .map(|name| template.hash(cut_master_user(name, separator), &mut self.names));
        if by_user != by_destuser {
            self.report_names_differ(user, destuser, session);
        }
    }

    fn refuse(&mut self, refusal: Refusal, about: &LogAbout) {
        self.stats.refused[refusal.index()] += 1;
        self.report_failure(about, &refusal.to_string());
    }

    /// True: there is no room, and it was answered with a failure.
    fn park(&mut self, waiting: Waiting, reason: DelayReason, conn: &mut Conn) -> bool {
        let deadline = Mono(
            self.now
                .0
                .saturating_add(self.tunables.load().lookup_timeout),
        );
        let parked = Parked {
            reason,
            since: self.now,
            deadline,
            key: waiting.question.key(&self.snapshot),
            bytes: waiting.line.len(),
            lookup: waiting,
        };
        match self.parking.park(parked) {
            Ok(place) => {
                conn.parked.push_back(place);
                if !self.said_waits {
                    self.said_waits = true;
                    self.waits.set(true);
                    // News may have come since it was decided, and passed this core by.
                    self.parking.wake_one(place);
                }
                false
            }
            Err(full) => {
                self.stats.timed_out[reason.index()] += 1;
                let Waiting {
                    socket,
                    question,
                    line,
                    ..
                } = &full.lookup;
                write_failure(line, &mut self.out);
                conn.cancels.extend(to_cancel(*socket, question, line));
                self.report_failure(&full.lookup.about, "too many lookups are waiting");
                true
            }
        }
    }

    /// A keep-alive line: the escaped name of a user with a live session.
    pub(super) fn keep_alive(&mut self, line: &[u8]) {
        self.stats.keep_alives += 1;
        let name = unescape(line);
        // As in the lookup, or a session of a master user (`destuser=user*master`) would not count.
        let name = cut_master_user(&name, self.snapshot.master_user_separator);
        let hash = self.snapshot.username_hash.hash(name, &mut self.names);
        self.directory.keep_alive(hash, self.wall, &self.snapshot);
    }
}

impl Relay {
    /// Tries woken lookups again, in order of arrival, `most` at most.
    pub(super) fn retry_woken(&mut self, most: usize) {
        for _ in 0..most {
            let Some((place, parked)) = self.cx.parking.next_woken() else {
                return;
            };
            let question = parked.lookup.question.clone();
            match self.cx.look_up(&question) {
                Outcome::Wait(reason) => {
                    let key = question.key(&self.cx.snapshot);
                    self.cx.parking.waits_on(place, reason, key);
                }
                outcome => {
                    if let Some(parked) = self.cx.parking.remove(place) {
                        self.answer_parked(place, parked, &outcome);
                    }
                }
            }
        }
    }

    fn answer_parked(&mut self, place: Place, parked: Parked<Waiting>, outcome: &Outcome) {
        let Parked {
            reason,
            since,
            lookup,
            ..
        } = parked;
        self.cx.stats.waited(reason, self.cx.now.since(since));
        let Waiting {
            id,
            socket,
            line,
            question,
            add_hash,
            about,
        } = lookup;
        let mut out = Zeroizing::new(Vec::new());
        let mut cancel = None;
        match *outcome {
            Outcome::Backend(slot) => {
                let cx = &mut self.cx;
                let answer = cx.write(&line, &question, slot, add_hash, socket, &mut out, || about);
                if answer != Answer::Here {
                    cancel = to_cancel(socket, &question, &line);
                }
            }
            Outcome::Refuse(refusal) => {
                self.cx.refuse(refusal, &about);
                write_failure(&line, &mut out);
                cancel = to_cancel(socket, &question, &line);
            }
            Outcome::Wait(_) => unreachable!("only answered lookups come here"),
        }
        self.deliver(id, place, &out, cancel);
    }

    /// Sends a late answer, and lets the connection go on with whatever it has.
    fn deliver(&mut self, id: ConnId, place: Place, out: &[u8], cancel: Option<u32>) {
        let Some(conn) = self.get(id) else {
            return;
        };
        conn.unpark(place);
        conn.cancels.extend(cancel);
        conn.client.send(out);
        self.pump(id);
    }

    /// Answers lookups whose deadline has come with a temporary failure, `most` at most.
    pub(super) fn fail_expired(&mut self, most: usize) {
        for _ in 0..most {
            let Some((place, parked)) = self.cx.parking.pop_expired(self.cx.now) else {
                return;
            };
            self.cx.stats.timed_out[parked.reason.index()] += 1;
            self.cx
                .stats
                .waited(parked.reason, self.cx.now.since(parked.since));
            self.cx.report_timeout(&parked);
            let mut out = Vec::new();
            let Waiting {
                id,
                socket,
                question,
                line,
                ..
            } = &parked.lookup;
            write_failure(line, &mut out);
            self.deliver(*id, place, &out, to_cancel(*socket, question, line));
        }
    }
}

impl Waiting {
    /// What is being looked up.
    pub(super) fn question(&self) -> &Question {
        &self.question
    }
}
