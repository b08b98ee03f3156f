//! Kicks and flush scripts. Another thread carries them out ([`crate::shell::sessions`]), so that the
//! ring waits for none.
//!
//! The machine must hear nothing of an order that it has taken back: its user may be moved again. So
//! each order has a ticket, and only the answer with the last one of a user counts.

use std::collections::HashMap;

use crate::core::UserKey;
use crate::core::ring::{Flush, FlushResult, Input, Kick};
use crate::shell::sessions::{Answer, Config, Sessions, Ticket};

/// What is under way. As many as there are moves.
#[derive(Default)]
pub(super) struct Orders {
    /// `None`: nobody carries out anything, and all is over at once. Only in tests.
    sessions: Option<Sessions>,
    last: u64,
    kicks: HashMap<UserKey, Ticket>,
    flushes: HashMap<UserKey, Ticket>,
}

impl Orders {
    /// Orders go to this thread.
    pub fn carried_out_by(sessions: Sessions) -> Orders {
        Orders {
            sessions: Some(sessions),
            ..Orders::default()
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.last += 1;
        Ticket(self.last)
    }

    /// Ends sessions. Returns what the machine is to be told at once.
    pub fn kick(&mut self, kick: Kick) -> Option<Input<'static>> {
        let ticket = self.ticket();
        let Some(sessions) = &self.sessions else {
            return over(&kick);
        };
        if let Kick::Moved(key) = kick {
            self.kicks.insert(key, ticket);
        }
        sessions.kick(ticket, kick);
        None
    }

    /// Takes back the kick of a move.
    pub fn abort_kick(&mut self, key: UserKey) {
        if let (Some(ticket), Some(sessions)) = (self.kicks.remove(&key), &self.sessions) {
            sessions.abort_kick(ticket);
        }
    }

    /// Runs the flush script. Returns what the machine is to be told at once.
    pub fn flush(&mut self, flush: Flush) -> Option<Input<'static>> {
        let ticket = self.ticket();
        let Some(sessions) = &self.sessions else {
            return Some(Input::Flushed(flush.key, FlushResult::Failed));
        };
        self.flushes.insert(flush.key, ticket);
        sessions.flush(ticket, flush);
        None
    }

    /// Takes back a flush script.
    pub fn abort_flush(&mut self, key: UserKey) {
        if let (Some(ticket), Some(sessions)) = (self.flushes.remove(&key), &self.sessions) {
            sessions.abort_flush(ticket);
        }
    }

    /// Something is over. Returns what the machine is to be told of it.
    pub fn over(&mut self, answer: Answer) -> Option<Input<'static>> {
        match answer {
            Answer::Kick(ticket, kick) => {
                if let Kick::Moved(key) = kick {
                    (self.kicks.get(&key) == Some(&ticket)).then(|| self.kicks.remove(&key))?;
                }
                over(&kick)
            }
            Answer::Flush(ticket, key, result) => {
                (self.flushes.get(&key) == Some(&ticket)).then(|| self.flushes.remove(&key))?;
                Some(Input::Flushed(key, result))
            }
        }
    }

    /// After a reload.
    pub fn tune(&self, config: &Config) {
        if let Some(sessions) = &self.sessions {
            sessions.tune(config.clone());
        }
    }
}

/// What the machine hears of a kick that is over.
fn over(kick: &Kick) -> Option<Input<'static>> {
    match kick {
        Kick::Moved(key) => Some(Input::Kicked(*key)),
        Kick::Hash(..) | Kick::User(_) | Kick::Alt(..) => Some(Input::KickOver),
    }
}
