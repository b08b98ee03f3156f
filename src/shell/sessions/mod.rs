//! Sessions are ended and flush scripts are run here, away from the thread of the ring, which must
//! wait for nobody (docs/protocol/kicks.md).
//!
//! | module | what it does |
//! |---|---|
//! | `serve` | the thread: a connection to Dovecot's service, and what [`core::sessions`](crate::core::sessions) wants |
//! | `tell` | a connection to one login process |
//! | `learn` | which sessions there are |
//! | `flush` | flush scripts, each on a thread of its own |
//! | `program` | a program and its children |

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::clock;
use super::mailbox::Mailbox;
use crate::core::ring::{Flush, FlushResult, Kick};
use crate::core::{UserHash, UserKey};
use crate::settings::{FlushUri, KickService, Settings};

mod flush;
mod learn;
mod program;
mod serve;
mod tell;
#[cfg(test)]
mod tests;

pub use learn::{Learnt, Listed, Unlisted, User, learn, list};

/// How sessions are ended and scripts are run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Dovecot's run directory.
    pub base_dir: PathBuf,
    /// Who is asked.
    pub service: KickService,
    /// What is run when a user has been moved.
    pub script: Option<FlushUri>,
    /// `kick_timeout`, nanoseconds.
    pub reply_limit: u64,
    /// `move_timeout`, nanoseconds.
    pub move_limit: u64,
}

impl Config {
    /// From the settings.
    pub fn of(settings: &Settings) -> Config {
        let command = settings.director_flush_command.as_ref();
        // A percent sign in a program's name is one.
        let command = command.map(|path| path.display().to_string().replace('%', "%%"));
        Config {
            base_dir: settings.base_dir.clone(),
            service: settings.kick_service,
            script: settings
                .director_flush_socket
                .clone()
                .or(command.map(FlushUri::Exec)),
            reply_limit: clock::nanos(settings.kick_timeout),
            move_limit: clock::nanos(settings.move_timeout),
        }
    }
}

/// Tells an order from an earlier one about the same user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An order to end sessions, whatever came of it.
    Kick(Ticket, Kick),
    /// A flush script.
    Flush(Ticket, UserKey, FlushResult),
}

/// Takes answers, on any thread.
pub type Answers = Arc<dyn Fn(Answer) + Send + Sync>;

/// Says where a user is. `None`: nowhere, or its hash is known under several tags.
pub type Homes = Arc<dyn Fn(UserHash) -> Option<IpAddr> + Send + Sync>;

enum Message {
    Kick(Ticket, Kick),
    AbortKick(Ticket),
    Flush(Ticket, Flush),
    AbortFlush(Ticket),
    Tune(Config),
    Stop,
}

/// The thread, as seen by the ring. It ends when this is dropped; nobody waits for it, and scripts that
/// run go on by themselves.
pub struct Sessions {
    mailbox: Arc<Mailbox<Message>>,
}

impl Sessions {
    /// Starts it, on any of these CPUs.
    ///
    /// # Errors
    /// Out of descriptors or threads.
    pub fn start(
        config: Config,
        answers: Answers,
        homes: Homes,
        cpus: &[usize],
    ) -> io::Result<Sessions> {
        let mailbox = Arc::new(Mailbox::new()?);
        let thread = serve::Thread::new(config, answers, homes, Arc::clone(&mailbox))?;
        let mut set = CpuSet::new();
        for &cpu in cpus {
            set.set(cpu)?;
        }
        std::thread::Builder::new()
            .name("sessions".to_owned())
            .spawn(move || {
                // Or scripts would share the CPU of whoever started this thread.
                if let Err(error) = sched_setaffinity(Pid::from_raw(0), &set) {
                    tracing::warn!("the sessions thread stays on one CPU: {error}");
                }
                thread.run();
            })?;
        Ok(Sessions { mailbox })
    }

    /// Ends sessions; the answer has the same ticket.
    pub fn kick(&self, ticket: Ticket, kick: Kick) {
        self.mailbox.send(Message::Kick(ticket, kick));
    }

    /// Nobody waits for this answer any more. It may come all the same.
    pub fn abort_kick(&self, ticket: Ticket) {
        self.mailbox.send(Message::AbortKick(ticket));
    }

    /// Runs the flush script; the answer has the same ticket.
    pub fn flush(&self, ticket: Ticket, flush: Flush) {
        self.mailbox.send(Message::Flush(ticket, flush));
    }

    /// Ends a flush script. An answer may come all the same.
    pub fn abort_flush(&self, ticket: Ticket) {
        self.mailbox.send(Message::AbortFlush(ticket));
    }

    /// After a reload; what is under way is not changed by it.
    pub fn tune(&self, config: Config) {
        self.mailbox.send(Message::Tune(config));
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.mailbox.send(Message::Stop);
    }
}
