//! A connection to Dovecot 2.4's anvil: one command at a time.
//!
//! A kick that has found sessions is looked after: those that a dump still shows are told to their
//! processes one by one. One dump serves all kicks that came before it.

use std::collections::VecDeque;

use super::{Common, KickId, Output, Sent, Target, TellId, whose};
use crate::core::Mono;
use crate::core::ring::{Kick, Level};
use crate::wire::anvil::{
    Command, Dump, GREETING, HASH_FIELD, Line, MAX_COMMAND, Session, check_greeting,
};
use crate::wire::line::number;

/// How long anvil may take to say which protocol it speaks; it does so at once.
const GREETING_LIMIT: u64 = Mono::SECOND;
/// Kicks that one dump may serve; with more it is not put off any longer.
const BATCH: usize = 100;
/// Processes told at a time.
const TELLING_MAX: usize = 32;
/// Sessions of one dump that may wait to be told. A user has few, and a batch few users.
const TARGETS_MAX: usize = 10_000;

#[derive(Debug)]
enum Doing {
    /// Anvil has not greeted us, and must have by then: that of Dovecot 2.3 never does.
    Greeting(Mono),
    Nothing,
    Kick(Sent),
    Dump(Dump, Mono),
}

/// How far a kick is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No dump shows how things are after it.
    New,
    /// The dump under way does.
    Dumping,
    /// Processes are being told.
    Telling,
}

/// A kick whose sessions may not all have ended.
#[derive(Debug)]
struct Check {
    sent: Sent,
    phase: Phase,
    /// Sessions that are being told, or wait for it.
    left: usize,
}

#[derive(Debug)]
pub(super) struct Anvil {
    doing: Doing,
    checks: Vec<Check>,
    targets: VecDeque<(KickId, Target)>,
    telling: Vec<(TellId, KickId)>,
}

fn write(kick: &Kick, out: &mut Vec<u8>) {
    let mut digits = Vec::new();
    let command = match kick {
        Kick::User(name) => Command::KickUser(name),
        Kick::Alt(field, value) => Command::KickAlt {
            field,
            value,
            except: None,
        },
        Kick::Moved(_) | Kick::Hash(..) => {
            let (hash, except) = match kick {
                Kick::Hash(hash, except) => (hash.0, Some(*except)),
                Kick::Moved(key) => (key.hash.0, None),
                _ => return,
            };
            crate::wire::line::push_number(u64::from(hash), &mut digits);
            Command::KickAlt {
                field: HASH_FIELD.as_bytes(),
                value: &digits,
                except,
            }
        }
    };
    command.write(out);
}

/// Whether a session of a dump is one of those that a kick is for.
fn is_meant(kick: &Kick, dump: &Dump, session: &Session<'_>) -> bool {
    let has_hash = |hash: u32| {
        let field = dump.field(session, HASH_FIELD.as_bytes());
        number(&field) == Some(hash)
    };
    match kick {
        Kick::Moved(key) => has_hash(key.hash.0),
        Kick::Hash(hash, except) => session.backend != Some(*except) && has_hash(hash.0),
        Kick::User(name) => *session.user == **name,
        Kick::Alt(field, value) => *dump.field(session, field) == **value,
    }
}

/// The session's process, if its name can be part of a path. Only login processes need to be told.
fn target(session: &Session<'_>) -> Option<Target> {
    let service = std::str::from_utf8(&session.service).ok()?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_login = service.ends_with("-login") && service.chars().all(is_word);
    is_login.then(|| Target {
        service: service.to_owned(),
        pid: session.pid,
        user: session.user.to_vec(),
        guid: session.guid.to_vec(),
    })
}

impl Anvil {
    pub fn new(now: Mono, common: &mut Common) -> Anvil {
        common.outputs.push(Output::Send(GREETING.to_vec()));
        Anvil {
            doing: Doing::Greeting(now.after(GREETING_LIMIT)),
            checks: Vec::new(),
            targets: VecDeque::new(),
            telling: Vec::new(),
        }
    }

    /// Anvil has said nothing yet.
    pub fn is_new(&self) -> bool {
        matches!(self.doing, Doing::Greeting(_))
    }

    /// Something is not answered, or looked after.
    pub fn is_busy(&self) -> bool {
        !matches!(self.doing, Doing::Nothing) || !self.checks.is_empty()
    }

    pub fn deadline(&self) -> Option<Mono> {
        let checks = self.checks.iter().map(|check| check.sent.until).min();
        let doing = match &self.doing {
            Doing::Nothing => None,
            Doing::Greeting(until) => Some(*until),
            Doing::Kick(sent) => Some(sent.until),
            Doing::Dump(_, until) => Some(*until),
        };
        doing.into_iter().chain(checks).min()
    }

    pub fn abort(&mut self, id: KickId) {
        self.targets.retain(|(of, _)| *of != id);
        let checks = self.checks.iter_mut().map(|check| &mut check.sent);
        let doing = match &mut self.doing {
            Doing::Kick(sent) => Some(sent),
            _ => None,
        };
        if let Some(sent) = doing.into_iter().chain(checks).find(|sent| sent.id == id) {
            sent.aborted = true;
        }
        // What is being told to a process already is not taken back.
        self.checks.retain(|check| check.sent.id != id);
    }

    pub fn unanswered(self) -> Vec<Sent> {
        let mut sent: Vec<Sent> = self.checks.into_iter().map(|check| check.sent).collect();
        if let Doing::Kick(kick) = self.doing {
            sent.push(kick);
        }
        sent
    }

    pub fn go_on(&mut self, now: Mono, common: &mut Common) {
        self.tell(common);
        if !matches!(self.doing, Doing::Nothing) {
            return;
        }
        let until = now.after(common.reply_limit);
        let new = |check: &&Check| check.phase == Phase::New;
        let undumped = self.checks.iter().filter(new).count();
        let mut bytes = Vec::new();
        if undumped > 0 && (undumped >= BATCH || common.waiting.is_empty()) {
            for check in &mut self.checks {
                if check.phase == Phase::New {
                    check.phase = Phase::Dumping;
                }
            }
            Command::Dump.write(&mut bytes);
            self.doing = Doing::Dump(Dump::default(), until);
        } else {
            while let Some((id, kick)) = common.waiting.pop_front() {
                write(&kick, &mut bytes);
                if bytes.len() > MAX_COMMAND {
                    // Anvil would end the connection.
                    bytes.clear();
                    common.give_up(id, &kick, "the name is too long for anvil");
                    continue;
                }
                self.doing = Doing::Kick(Sent {
                    id,
                    kick,
                    until,
                    aborted: false,
                });
                break;
            }
        }
        if !bytes.is_empty() {
            common.outputs.push(Output::Send(bytes));
        }
    }

    fn tell(&mut self, common: &mut Common) {
        while self.telling.len() < TELLING_MAX
            && let Some((of, target)) = self.targets.pop_front()
        {
            let id = common.next_tell();
            common.outputs.push(Output::Tell(id, target));
            self.telling.push((id, of));
        }
    }

    /// A process has answered, or not.
    pub fn told(&mut self, id: TellId, result: Result<u32, String>, common: &mut Common) {
        let Some(at) = self.telling.iter().position(|(it, _)| *it == id) else {
            return;
        };
        let (_, of) = self.telling.swap_remove(at);
        let Some(at) = self.checks.iter().position(|check| check.sent.id == of) else {
            return;
        };
        let check = &mut self.checks[at];
        check.left -= 1;
        if let Err(why) = result {
            common.counts.failed += 1;
            let whose = whose(&check.sent.kick);
            let text = format!("a session of {whose} could not be ended: {why}");
            common.log(Level::Error, "tell", text);
        }
        if check.left == 0 && check.phase == Phase::Telling {
            common.over(self.checks.swap_remove(at).sent.id);
        }
    }

    /// One line. Errors: it makes no sense, and nothing that follows would.
    pub fn line(&mut self, line: &[u8], common: &mut Common) -> Result<(), String> {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Greeting(_) => check_greeting(line).map_err(|error| error.to_string()),
            Doing::Nothing => Err("anvil answers what nobody asked".to_owned()),
            Doing::Kick(sent) => self.kicked(sent, line, common),
            Doing::Dump(mut dump, until) => {
                match dump.line(line) {
                    Line::End => self.end_of_dump(common),
                    Line::Nothing => self.doing = Doing::Dump(dump, until),
                    Line::Session(session) => {
                        self.look_at(&dump, &session, common);
                        self.doing = Doing::Dump(dump, until);
                    }
                }
                Ok(())
            }
        }
    }

    fn kicked(&mut self, sent: Sent, line: &[u8], common: &mut Common) -> Result<(), String> {
        let Some(count) = number(line) else {
            let text = String::from_utf8_lossy(line).escape_debug().to_string();
            self.doing = Doing::Kick(sent);
            return Err(format!("anvil answers a kick with {text}"));
        };
        if sent.aborted {
            return Ok(());
        }
        if count == 0 {
            common.over(sent.id);
            return Ok(());
        }
        common.counts.ended += u64::from(count);
        self.checks.push(Check {
            sent,
            phase: Phase::New,
            left: 0,
        });
        Ok(())
    }

    fn look_at(&mut self, dump: &Dump, session: &Session<'_>, common: &mut Common) {
        let meant = self.checks.iter().position(|check| {
            check.phase == Phase::Dumping && is_meant(&check.sent.kick, dump, session)
        });
        let (Some(at), Some(target)) = (meant, target(session)) else {
            return;
        };
        if self.targets.len() >= TARGETS_MAX {
            let text = "too many sessions are to be ended, some stay".to_owned();
            return common.log(Level::Error, "too many", text);
        }
        let check = &mut self.checks[at];
        check.left += 1;
        self.targets.push_back((check.sent.id, target));
    }

    fn end_of_dump(&mut self, common: &mut Common) {
        self.checks.retain_mut(|check| {
            if check.phase != Phase::Dumping {
                return true;
            }
            check.phase = Phase::Telling;
            if check.left == 0 {
                common.over(check.sent.id);
            }
            check.left > 0
        });
    }
}
