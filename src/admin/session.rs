//! One client of the admin socket.
//!
//! What it says is kept until it is worked on, one command at a time and in order: commands that arrive
//! together are all carried out, also those of a client that hangs up without reading (poolmon does).
//! Dovecot throws away what arrives while a command waits.

use memchr::memchr;

use super::work::write_answer;
use super::{Context, Work};
use crate::core::ring::Answer;
use crate::wire::admin::{
    AdminError, GREETING, MAX_LINE, Reply, handshake, parse, write_count, write_end_of_list,
};
use crate::wire::line::{TooLong, strip_cr};

/// Bytes that may wait to be worked on: some hundred commands. More are left in the socket.
const INPUT_MAX: usize = 16 * 1024;

/// Why a client is sent away, without a reply. The client is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line that is no command.
    #[error(transparent)]
    Line(#[from] AdminError),
    /// [`MAX_LINE`].
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A user hash that no user has.
    #[error("USER-MOVE: user hash 0 belongs to nobody")]
    NoUser,
}

/// The machine of one client.
#[derive(Debug)]
pub struct Session {
    context: Context,
    /// What the client said, from `at` on not worked on yet.
    input: Vec<u8>,
    at: usize,
    /// The client has said which protocol it speaks.
    greeted: bool,
    /// The line that was last worked on.
    line: Vec<u8>,
    /// Something is under way.
    busy: bool,
    ended: bool,
    fault: Option<Fault>,
    /// For the client.
    out: Vec<u8>,
}

impl Session {
    /// A client that has just connected. The greeting waits in [`Session::out`].
    pub fn new(context: Context) -> Session {
        Session {
            context,
            input: Vec::new(),
            at: 0,
            greeted: false,
            line: Vec::new(),
            busy: false,
            ended: false,
            fault: None,
            out: GREETING.to_vec(),
        }
    }

    /// How many bytes may be read now; 0: none, for want of room or since nothing more counts.
    pub fn room(&self) -> usize {
        if self.ended || self.fault.is_some() {
            return 0;
        }
        INPUT_MAX.saturating_sub(self.input.len() - self.at)
    }

    /// The client said something, of at most [`Session::room`] bytes.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.ended || self.fault.is_some() {
            return;
        }
        self.input.drain(..self.at);
        self.at = 0;
        self.input.extend_from_slice(bytes);
    }

    /// The client has hung up. What it said is still carried out, an unfinished line is not.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// How many bytes there are for the client.
    pub fn out_len(&self) -> usize {
        self.out.len()
    }

    /// Bytes for the client, to be taken out.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// What is to be done next. `None`: nothing before something is answered or received.
    pub fn next_work(&mut self) -> Option<Work> {
        if self.busy || self.fault.is_some() {
            return None;
        }
        match self.next_command() {
            Ok(work) => work,
            Err(fault) => {
                self.fault = Some(fault);
                self.input = Vec::new();
                self.at = 0;
                None
            }
        }
    }

    fn next_command(&mut self) -> Result<Option<Work>, Fault> {
        loop {
            let rest = &self.input[self.at..];
            let line = match memchr(b'\n', rest) {
                Some(end) if end < MAX_LINE => &rest[..end],
                None if rest.len() < MAX_LINE => return Ok(None),
                _ => return Err(TooLong { limit: MAX_LINE }.into()),
            };
            self.at += line.len() + 1;
            let line = strip_cr(line);
            if !self.greeted {
                handshake(line)?;
                self.greeted = true;
                continue;
            }
            self.line.clear();
            self.line.extend_from_slice(line);
            let work = Work::of(parse(line)?, &self.context).ok_or(Fault::NoUser)?;
            self.busy = true;
            return Ok(Some(work));
        }
    }

    /// The answer to [`Work::Ask`].
    pub fn answer(&mut self, answer: &Answer) {
        write_answer(answer, &mut self.out);
        self.busy = false;
    }

    /// A reply of one line to any other work; nothing more comes.
    pub fn reply(&mut self, reply: Reply) {
        reply.write(&mut self.out);
        self.busy = false;
    }

    /// The number that was asked for, or why it is not known; empty: it never is.
    pub fn count(&mut self, counted: Result<u64, String>) {
        match counted {
            Ok(count) => write_count(count, &mut self.out),
            Err(why) if why.is_empty() => Reply::NotFound.write(&mut self.out),
            Err(why) => {
                // Words of others are in it.
                let line = why.replace(['\r', '\n'], " ");
                self.out.extend_from_slice(line.as_bytes());
                self.out.push(b'\n');
            }
        }
        self.busy = false;
    }

    /// All rows of a list were put into [`Session::out`].
    pub fn end_list(&mut self) {
        write_end_of_list(&mut self.out);
        self.busy = false;
    }

    /// The one row of a lookup was put into [`Session::out`].
    pub fn end_row(&mut self) {
        self.busy = false;
    }

    /// The command that [`Session::next_work`] gave last, in the client's words, for the log.
    pub fn command(&self) -> String {
        self.line.escape_ascii().to_string()
    }

    /// Whether something is under way.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether the connection can be closed when all is written. To be asked when [`Session::next_work`] had
    /// nothing.
    pub fn is_over(&self) -> bool {
        !self.busy && (self.ended || self.fault.is_some())
    }

    /// Why the client is sent away.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
