//! A connection to one login process of Dovecot 2.4's (docs/protocol/kicks.md, processes that serve one
//! connection).

use std::os::fd::{AsFd, OwnedFd};

use crate::core::Mono;
use crate::core::sessions::Target;
use crate::shell::io::{Read, receive, write};
use crate::wire::anvil::{MAX_LINE, check_admin_greeting, parse_admin_reply, write_admin_kick};
use crate::wire::line::Splitter;

/// How long a process may take. Most of them have nothing else to do.
const LIMIT: u64 = 3 * Mono::SECOND;

/// From a process's greeting to what it is told. A Dovecot 2.4.1 that serves one connection crashes if it
/// is told within 100 ms (docs/protocol/kicks.md, processes that serve one connection); on a busy machine
/// it notices late that these are over.
const PAUSE: u64 = Mono::SECOND / 4;

/// One process, one session.
pub(super) struct Tell {
    fd: OwnedFd,
    lines: Splitter,
    greeted: bool,
    /// What it is told.
    bytes: Vec<u8>,
    /// When: it has greeted us, and not been told yet.
    say_at: Option<Mono>,
    /// An answer must have come by then.
    pub until: Mono,
}

/// How far it is.
pub(super) enum Progress {
    /// More must come.
    More,
    /// How many sessions it has ended, or why none.
    Over(Result<u32, String>),
}

impl Tell {
    /// Nothing is said before the process has greeted us.
    pub fn begin(fd: OwnedFd, target: &Target, now: Mono) -> Tell {
        let mut bytes = Vec::new();
        write_admin_kick(&target.user, &target.guid, &mut bytes);
        Tell {
            fd,
            lines: Splitter::default(),
            greeted: false,
            bytes,
            say_at: None,
            until: now.after(LIMIT),
        }
    }

    /// When something is to be done that no event tells of.
    pub fn next(&self) -> Mono {
        self.say_at.map_or(self.until, |at| at.min(self.until))
    }

    /// Tells it if it is time; that always fits into an empty socket. Of one that has gone
    /// [`Self::read`] says so.
    pub fn say(&mut self, now: Mono) {
        if self.say_at.take_if(|at| *at <= now).is_some() {
            let _ = write(self.fd.as_fd(), &self.bytes);
        }
    }

    pub fn read(&mut self, buffer: &mut [u8], now: Mono) -> Progress {
        let count = match receive(self.fd.as_fd(), buffer) {
            Read::Bytes(count) => count,
            Read::Empty => return Progress::More,
            // It has ended, and its sessions with it.
            Read::End => return Progress::Over(Ok(0)),
        };
        let (greeted, say_at, mut over) = (&mut self.greeted, &mut self.say_at, None);
        let cut = self.lines.feed(&buffer[..count], MAX_LINE, |line| {
            if over.is_some() {
                return;
            }
            if *greeted {
                let reply = parse_admin_reply(line);
                over = Some(reply.map_err(|error| String::from_utf8_lossy(error).into_owned()));
            } else if let Err(error) = check_admin_greeting(line) {
                over = Some(Err(error.to_string()));
            } else {
                *greeted = true;
                *say_at = Some(now.after(PAUSE));
            }
        });
        match (over, cut) {
            (Some(over), _) => Progress::Over(over),
            (None, Err(error)) => Progress::Over(Err(error.to_string())),
            (None, Ok(())) => Progress::More,
        }
    }
}
