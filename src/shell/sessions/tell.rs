//! A connection to one login process of Dovecot 2.4's (docs/protocol/kicks.md, processes that serve one
//! connection).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::core::Mono;
use crate::core::sessions::Target;
use crate::shell::io::{Read, receive, write};
use crate::wire::anvil::{MAX_LINE, check_admin_greeting, parse_admin_reply, write_admin_kick};
use crate::wire::line::Splitter;

/// How long a process may take. Most of them have nothing else to do.
const LIMIT: u64 = 3 * Mono::SECOND;

/// One process, one session.
pub(super) struct Tell {
    fd: OwnedFd,
    lines: Splitter,
    greeted: bool,
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
    /// Says what is to be said; it always fits into an empty socket.
    pub fn begin(fd: OwnedFd, target: &Target, now: Mono) -> io::Result<Tell> {
        let mut bytes = Vec::new();
        write_admin_kick(&target.user, &target.guid, &mut bytes);
        if write(fd.as_fd(), &bytes) != Some(bytes.len()) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Tell {
            fd,
            lines: Splitter::default(),
            greeted: false,
            until: now.after(LIMIT),
        })
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> Progress {
        let count = match receive(self.fd.as_fd(), buffer) {
            Read::Bytes(count) => count,
            Read::Empty => return Progress::More,
            // It has ended, and its sessions with it.
            Read::End => return Progress::Over(Ok(0)),
        };
        let (greeted, mut over) = (&mut self.greeted, None);
        let cut = self.lines.feed(&buffer[..count], MAX_LINE, |line| {
            if over.is_some() {
                return;
            }
            if *greeted {
                let reply = parse_admin_reply(line);
                over = Some(reply.map_err(|error| String::from_utf8_lossy(error).into_owned()));
            } else if let Err(error) = check_admin_greeting(line) {
                over = Some(Err(error.to_string()));
            }
            *greeted = true;
        });
        match (over, cut) {
            (Some(over), _) => Progress::Over(over),
            (None, Err(error)) => Progress::Over(Err(error.to_string())),
            (None, Ok(())) => Progress::More,
        }
    }
}
