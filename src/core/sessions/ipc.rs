//! A connection to Dovecot 2.3's ipc: commands are sent without waiting, and answered in order.

use std::collections::VecDeque;

use super::{Common, KickId, Output, Sent};
use crate::core::Mono;
use crate::core::ring::{Kick, Level};
use crate::wire::ipc::{Command, Reply, process_has_ended};

/// Commands sent and not answered. More would wait in ipc, which works on one at a time.
const PIPELINE: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Ipc {
    sent: VecDeque<Sent>,
}

fn command(kick: &Kick) -> Command<'_> {
    match kick {
        Kick::Moved(key) => Command::KickHash {
            hash: key.hash.0,
            except: None,
        },
        Kick::Hash(hash, except) => Command::KickHash {
            hash: hash.0,
            except: Some(*except),
        },
        Kick::User(name) => Command::KickUser(name),
        Kick::Alt(field, value) => Command::KickAlt { field, value },
    }
}

impl Ipc {
    pub fn deadline(&self) -> Option<Mono> {
        self.sent.front().map(|sent| sent.until)
    }

    /// Something is not answered.
    pub fn is_busy(&self) -> bool {
        !self.sent.is_empty()
    }

    pub fn abort(&mut self, id: KickId) {
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.id == id) {
            sent.aborted = true;
        }
    }

    pub fn unanswered(self) -> Vec<Sent> {
        self.sent.into()
    }

    pub fn go_on(&mut self, now: Mono, common: &mut Common) {
        let mut bytes = Vec::new();
        while self.sent.len() < PIPELINE
            && let Some((id, kick)) = common.waiting.pop_front()
        {
            command(&kick).write(&mut bytes);
            self.sent.push_back(Sent {
                id,
                kick,
                until: now.after(common.reply_limit),
                aborted: false,
            });
        }
        if !bytes.is_empty() {
            common.outputs.push(Output::Send(bytes));
        }
    }

    /// One line. Errors: it makes no sense, and nothing that follows would.
    pub fn line(&mut self, line: &[u8], common: &mut Common) -> Result<(), String> {
        let reply = Reply::parse(line).map_err(|error| error.to_string())?;
        if matches!(reply, Reply::Row(_)) {
            let text = "a kick was answered with a list".to_owned();
            common.log(Level::Warning, "kick row", text);
            return Ok(());
        }
        let Some(sent) = self.sent.pop_front() else {
            return Err("ipc answers what nobody asked".to_owned());
        };
        match reply {
            // Its sessions have ended with it (docs/protocol/kicks.md, ipc).
            Reply::Failed(error) if process_has_ended(error) => {
                if !sent.aborted {
                    common.over(sent.id);
                }
            }
            Reply::Failed(error) if !sent.aborted => {
                let error = String::from_utf8_lossy(error).escape_debug().to_string();
                common.give_up(sent.id, &sent.kick, &error);
            }
            Reply::Done(count) => {
                common.counts.ended += count.unwrap_or(0);
                if !sent.aborted {
                    common.over(sent.id);
                }
            }
            Reply::Failed(_) | Reply::Row(_) => {}
        }
        Ok(())
    }
}
