//! Ending sessions: what is said to the Dovecot whose login processes have them
//! (docs/protocol/kicks.md, what Homing sends).
//!
//! Orders go in ([`Input::Order`]), each is over once ([`Output::Over`]), whatever came of it: a move
//! must not hang because a session cannot be ended. Dovecot 2.3's ipc passes a command on to all
//! processes, and answers in order. Dovecot 2.4's anvil knows who has which session, and takes one
//! command at a time; processes that serve one connection each do not follow it, and are told
//! directly, by [`Output::Tell`].
//!
//! | module | what it is about |
//! |---|---|
//! | `ipc` | a connection to Dovecot 2.3's ipc |
//! | `anvil` | a connection to Dovecot 2.4's anvil |
//! | `late` | users that may have sessions elsewhere a moment later |

use std::collections::VecDeque;
use std::net::IpAddr;

use super::ring::{Kick, Level};
use super::{Mono, UserHash};
use crate::wire::line::Splitter;

mod anvil;
mod ipc;
mod late;
#[cfg(test)]
mod tests;

use anvil::Anvil;
use ipc::Ipc;
use late::Late;

/// Orders that may wait. Other directors may order as many as they like; an operator moves a hundred
/// users at a time.
pub const WAITING_MAX: usize = 65_536;
/// How long an answer may take before the connection is given up, the default of `kick_timeout`: a move
/// has thirty seconds in all.
pub const REPLY_LIMIT: u64 = 10 * Mono::SECOND;
/// After nobody was there, or somebody who spoke another language, this long nothing is tried.
pub const RETRY_PAUSE: u64 = Mono::SECOND;

/// Of orders of our own, of which there is one at a time.
const OWN: KickId = KickId(u64::MAX);

/// One order, by a number below the highest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KickId(pub u64);

/// One process that is told directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TellId(pub u64);

/// Who ends sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Dovecot 2.3's.
    Ipc,
    /// Dovecot 2.4's.
    Anvil,
}

/// A session at a login process of 2.4, to be ended at its admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the service: letters, digits, dashes and underscores.
    pub service: String,
    /// The process.
    pub pid: u32,
    /// Login name.
    pub user: Vec<u8>,
    /// Number of the session.
    pub guid: Vec<u8>,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// End these sessions.
    Order(KickId, Kick),
    /// An order that nobody waits for any more. If it was not carried out yet, it never is.
    Abort(KickId),
    /// [`Output::Connect`] has found this service.
    Connected(Service),
    /// It has found none, and this is why.
    Unreachable(String),
    /// Bytes from the service.
    Received(&'a [u8]),
    /// The connection has ended.
    Ended,
    /// Where the user of [`Output::Find`] is; `None`: nowhere, or known under several tags.
    Found(Option<IpAddr>),
    /// How many sessions a process has ended, or why it could not be told ([`Output::Tell`]).
    Told(TellId, Result<u32, String>),
    /// The time of [`Sessions::next_deadline`] has come, or any other time.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to the service; [`Input::Connected`] or [`Input::Unreachable`] is the answer.
    Connect,
    /// Send this to it.
    Send(Vec<u8>),
    /// Close the connection; [`Input::Ended`] is not to come.
    Close,
    /// Look where this user is; [`Input::Found`] is the answer, at once.
    Find(UserHash),
    /// Tell a process; [`Input::Told`] is the answer.
    Tell(TellId, Target),
    /// The order was carried out, or cannot be. Not for one that was aborted.
    Over(KickId),
    /// For the log: how bad, a word for what it is about, and the line.
    Log(Level, &'static str, String),
}

#[derive(Debug)]
enum Link {
    /// Nobody is connected.
    Down,
    /// [`Output::Connect`] is not answered yet.
    Connecting,
    /// To Dovecot 2.3.
    Ipc(Ipc),
    /// To Dovecot 2.4.
    Anvil(Anvil),
}

/// An order that has been sent.
#[derive(Debug)]
struct Sent {
    id: KickId,
    kick: Kick,
    /// An answer must have come by then.
    until: Mono,
    /// Nobody waits for it any more.
    aborted: bool,
}

/// Figures since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Orders.
    pub orders: u64,
    /// Orders that could not be carried out, or not completely.
    pub failed: u64,
    /// Sessions ended, as far as the services say: ipc only tells of one process.
    pub ended: u64,
}

/// What the links share.
#[derive(Debug, Default)]
struct Common {
    waiting: VecDeque<(KickId, Kick)>,
    outputs: Vec<Output>,
    counts: Counts,
    last_tell: u64,
    late: Late,
    /// How long an answer may take, nanoseconds.
    reply_limit: u64,
}

/// The machine. See the module's page.
#[derive(Debug)]
pub struct Sessions {
    link: Link,
    lines: Splitter,
    common: Common,
    /// Nothing is tried before.
    retry: Option<Mono>,
}

impl Sessions {
    /// With `kick_timeout`, nanoseconds.
    pub fn new(reply_limit: u64) -> Sessions {
        Sessions {
            link: Link::Down,
            lines: Splitter::default(),
            common: Common {
                reply_limit,
                ..Common::default()
            },
            retry: None,
        }
    }

    /// Another `kick_timeout`, for what is sent from now on.
    pub fn tune(&mut self, reply_limit: u64) {
        self.common.reply_limit = reply_limit;
    }

    /// Something has happened.
    pub fn handle(&mut self, input: Input<'_>, now: Mono) {
        match input {
            Input::Order(id, kick) => self.order(id, kick, now),
            Input::Abort(id) => self.abort(id),
            Input::Connected(service) => self.connected(service, now),
            Input::Unreachable(why) => {
                self.link = Link::Down;
                self.pause(&why, now);
            }
            Input::Received(bytes) => self.received(bytes, now),
            Input::Ended => self.ended(now),
            Input::Found(home) => self.found(home, now),
            Input::Told(id, result) => {
                if let Link::Anvil(anvil) = &mut self.link {
                    anvil.told(id, result, &mut self.common);
                }
            }
            Input::Tick => self.tick(now),
        }
        self.go_on(now);
    }

    /// What is to be done, in this order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.common.outputs)
    }

    /// When [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        let late = self.common.late.next().filter(|_| self.is_idle());
        let late = late.map(|at| self.retry.map_or(at, |retry| at.max(retry)));
        self.link_deadline().into_iter().chain(late).min()
    }

    /// When the connection is of no more use.
    fn link_deadline(&self) -> Option<Mono> {
        match &self.link {
            Link::Down | Link::Connecting => None,
            Link::Ipc(ipc) => ipc.deadline(),
            Link::Anvil(anvil) => anvil.deadline(),
        }
    }

    /// Figures since the start.
    pub fn counts(&self) -> Counts {
        self.common.counts
    }

    fn order(&mut self, id: KickId, kick: Kick, now: Mono) {
        self.common.counts.orders += 1;
        match &kick {
            Kick::Moved(key) => self.common.late.begin(key.hash, now),
            Kick::Hash(hash, _) if id != OWN => self.common.late.begin(*hash, now),
            Kick::Hash(..) | Kick::User(_) | Kick::Alt(..) => {}
        }
        if self.retry.is_some_and(|retry| now < retry) {
            // Why was said a moment ago.
            return self.common.fail(id);
        }
        if self.common.waiting.len() >= WAITING_MAX {
            return self.common.give_up(id, &kick, "too many orders wait");
        }
        self.common.waiting.push_back((id, kick));
    }

    fn abort(&mut self, id: KickId) {
        self.common.waiting.retain(|(waiting, _)| *waiting != id);
        match &mut self.link {
            Link::Down | Link::Connecting => {}
            Link::Ipc(ipc) => ipc.abort(id),
            Link::Anvil(anvil) => anvil.abort(id),
        }
    }

    fn connected(&mut self, service: Service, now: Mono) {
        self.retry = None;
        self.lines = Splitter::default();
        self.link = match service {
            Service::Ipc => Link::Ipc(Ipc::default()),
            Service::Anvil => Link::Anvil(Anvil::new(now, &mut self.common)),
        };
    }

    fn received(&mut self, bytes: &[u8], now: Mono) {
        let (link, common) = (&mut self.link, &mut self.common);
        let limit = match link {
            Link::Ipc(_) => crate::wire::ipc::MAX_LINE,
            _ => crate::wire::anvil::MAX_LINE,
        };
        let mut fault = None;
        let cut = self.lines.feed(bytes, limit, |line| {
            if fault.is_some() {
                return;
            }
            let read = match link {
                Link::Down | Link::Connecting => Ok(()),
                Link::Ipc(ipc) => ipc.line(line, common),
                Link::Anvil(anvil) => anvil.line(line, common),
            };
            fault = read.err();
        });
        let fault = fault.or(cut.err().map(|error| error.to_string()));
        if let Some(fault) = fault {
            self.drop_link(&fault, now);
        }
    }

    fn tick(&mut self, now: Mono) {
        if self.link_deadline().is_some_and(|at| at <= now) {
            self.drop_link("no answer", now);
        }
    }

    /// Ends a connection that is of no more use.
    fn drop_link(&mut self, why: &str, now: Mono) {
        self.common.outputs.push(Output::Close);
        self.lost(why);
        self.pause(why, now);
    }

    fn ended(&mut self, now: Mono) {
        let why = "the connection has ended";
        // What waits is sent on a new one; but not for ever, if nobody ever says anything.
        let is_new = matches!(&self.link, Link::Anvil(anvil) if anvil.is_new());
        self.lost(why);
        if is_new {
            self.pause(why, now);
        }
    }

    fn pause(&mut self, why: &str, now: Mono) {
        self.retry = Some(now.after(RETRY_PAUSE));
        self.common.give_up_waiting(why);
    }

    fn lost(&mut self, why: &str) {
        let sent = match std::mem::replace(&mut self.link, Link::Down) {
            Link::Down | Link::Connecting => Vec::new(),
            Link::Ipc(ipc) => ipc.unanswered(),
            Link::Anvil(anvil) => anvil.unanswered(),
        };
        for Sent { id, kick, .. } in sent.into_iter().filter(|sent| !sent.aborted) {
            self.common.give_up(id, &kick, why);
        }
    }

    /// Nothing is sent, and nothing waits.
    fn is_idle(&self) -> bool {
        let sent = match &self.link {
            Link::Down => false,
            Link::Connecting => true,
            Link::Ipc(ipc) => ipc.is_busy(),
            Link::Anvil(anvil) => anvil.is_busy(),
        };
        !sent && self.common.waiting.is_empty() && !self.common.late.busy
    }

    /// Has a user looked after when there is nothing else to be done.
    fn look_after(&mut self, now: Mono) {
        if self.is_idle()
            && self.retry.is_none_or(|retry| retry <= now)
            && let Some(user) = self.common.late.take(now)
        {
            self.common.late.busy = true;
            self.common.late.asked = Some(user);
            self.common.outputs.push(Output::Find(user));
        }
    }

    fn found(&mut self, home: Option<IpAddr>, now: Mono) {
        match (self.common.late.asked.take(), home) {
            (Some(user), Some(home)) => self.order(OWN, Kick::Hash(user, home), now),
            (Some(_), None) => self.common.late.busy = false,
            (None, _) => {}
        }
    }

    /// Sends what may be sent.
    fn go_on(&mut self, now: Mono) {
        self.look_after(now);
        match &mut self.link {
            Link::Down if !self.common.waiting.is_empty() => {
                self.link = Link::Connecting;
                self.common.outputs.push(Output::Connect);
            }
            Link::Down | Link::Connecting => {}
            Link::Ipc(ipc) => ipc.go_on(now, &mut self.common),
            Link::Anvil(anvil) => anvil.go_on(now, &mut self.common),
        }
    }
}

impl Common {
    fn log(&mut self, level: Level, cause: &'static str, text: String) {
        self.outputs.push(Output::Log(level, cause, text));
    }

    fn next_tell(&mut self) -> TellId {
        self.last_tell += 1;
        TellId(self.last_tell)
    }

    fn over(&mut self, id: KickId) {
        match id == OWN {
            true => self.late.busy = false,
            false => self.outputs.push(Output::Over(id)),
        }
    }

    fn fail(&mut self, id: KickId) {
        self.counts.failed += 1;
        self.over(id);
    }

    fn give_up(&mut self, id: KickId, kick: &Kick, why: &str) {
        self.complain(kick, why);
        self.fail(id);
    }

    fn complain(&mut self, kick: &Kick, why: &str) {
        let text = format!("sessions of {} could not be ended: {why}", whose(kick));
        self.log(Level::Error, "kick", text);
    }

    fn give_up_waiting(&mut self, why: &str) {
        for (id, kick) in std::mem::take(&mut self.waiting) {
            self.give_up(id, &kick, why);
        }
    }
}

/// Whose sessions, for the log.
fn whose(kick: &Kick) -> String {
    let text = |name: &[u8]| String::from_utf8_lossy(name).escape_debug().to_string();
    match kick {
        Kick::Moved(key) => format!("user hash {}", key.hash.0),
        Kick::Hash(hash, except) => format!(
            "user hash {} on other backends than {}",
            hash.0,
            crate::wire::ip_text::ip_text(*except)
        ),
        Kick::User(name) => format!("user {}", text(name)),
        Kick::Alt(field, value) => format!("users with {}={}", text(field), text(value)),
    }
}
