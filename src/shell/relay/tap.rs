//! What a client asks, as far as the log and `director_proxy_maybe` will want to know.

use std::collections::VecDeque;

use crate::core::lookup::Local;
use crate::wire::auth::{About, MAX_LINE, Request, parse_about, parse_request};
use crate::wire::line::{Splitter, number};
use crate::wire::takeover::Unfinished;

/// Requests remembered per connection, so that a failure can be logged with its session and
/// `director_proxy_maybe` knows the client's local address. Login processes have at most as many
/// in flight as they have clients logging in; of more the oldest are forgotten.
const OPEN_MAX: usize = 1024;
/// Bytes remembered of one request; the fields wanted come early in the line.
const ABOUT_MAX: usize = 512;

/// The beginning of a request's text, cut between two fields: half an address would be another.
fn whole_fields(about: &[u8]) -> &[u8] {
    if about.len() <= ABOUT_MAX {
        return about;
    }
    &about[..memchr::memrchr(b'\t', &about[..=ABOUT_MAX]).unwrap_or(0)]
}

/// Bytes of remembered text from which on it is worth a look how much of it is of no use any more.
const TEXT_LOW: usize = 4096;

/// Watches what a client asks, without ever looking at passwords.
#[derive(Debug, Default)]
pub struct Tap {
    lines: Splitter,
    open: VecDeque<Open>,
    said: Said,
}

/// A request whose final reply has not come.
#[derive(Debug)]
struct Open {
    id: u32,
    asked: Asked,
}

/// What the open requests said, one behind the other, in the order of [`Tap`]'s: one piece of memory
/// that is used over and over stays in the cache, and need not be allocated.
#[derive(Debug, Default)]
struct Said {
    text: Vec<u8>,
    /// The length from which on requests that are over are taken out.
    high: usize,
}

/// Where [`Tap`] keeps what one request said about its client. Of no use once the tap was fed again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    from: u32,
    length: u32,
}

impl Tap {
    /// Looks at bytes on their way to auth.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Tap { lines, open, said } = self;
        said.make_room(open);
        lines.feed_skipping(bytes, MAX_LINE, |line| match parse_request(line) {
            Request::Begin { id, about } => {
                if open.len() >= OPEN_MAX {
                    open.pop_front();
                }
                let asked = said.keep(whole_fields(about));
                open.push_back(Open { id, asked });
            }
            Request::Cancel(id) => {
                if let Some(at) = open.iter().position(|open| open.id == id) {
                    open.remove(at);
                }
            }
            Request::Other => {}
        });
    }

    /// The line of which the rest has not come.
    pub fn unfinished(&self) -> Unfinished<'_> {
        Unfinished {
            bytes: self.lines.unfinished(),
            skipping: self.lines.is_skipping(),
        }
    }

    /// Requests that are not answered, and what each said.
    pub fn open(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let said = |open: &Open| (open.id, self.said.of(open.asked));
        self.open.iter().map(said)
    }

    /// Goes on where another tap of the same client has stopped.
    pub fn resume(&mut self, unfinished: Unfinished<'_>, open: &[(u32, &[u8])]) {
        self.lines.resume(unfinished.bytes, unfinished.skipping);
        for &(id, about) in open.iter().take(OPEN_MAX) {
            let asked = self.said.keep(whole_fields(about));
            self.open.push_back(Open { id, asked });
        }
    }

    /// Whether the bytes seen end with a complete line.
    pub fn at_boundary(&self) -> bool {
        self.lines.at_boundary()
    }

    /// Forgets a request, because its final reply has come.
    pub fn take(&mut self, id: &[u8]) -> Asked {
        let found = number(id)
            .and_then(|id| self.open.iter().position(|open| open.id == id))
            .and_then(|at| self.open.remove(at));
        found.map(|open| open.asked).unwrap_or_default()
    }

    fn about(&self, asked: Asked) -> About<'_> {
        parse_about(self.said.of(asked))
    }

    /// Where the client connected to.
    pub fn local(&self, asked: Asked) -> Local {
        Local::of(&self.about(asked))
    }

    /// Dovecot's session id, for the log; empty when not said.
    pub fn session(&self, asked: Asked) -> String {
        String::from_utf8_lossy(self.about(asked).session)
            .escape_debug()
            .to_string()
    }
}

impl Said {
    /// At most 2 MiB are kept of [`OPEN_MAX`] requests and one read.
    fn keep(&mut self, about: &[u8]) -> Asked {
        let from = self.text.len() as u32;
        self.text.extend_from_slice(about);
        let length = about.len() as u32;
        Asked { from, length }
    }

    fn of(&self, asked: Asked) -> &[u8] {
        let from = asked.from as usize;
        let text = self.text.get(from..from + asked.length as usize);
        text.unwrap_or_default()
    }

    /// Takes out what nobody will ask about any more: usually all, as clients mostly get all their
    /// answers before they ask again.
    fn make_room(&mut self, open: &mut VecDeque<Open>) {
        if open.is_empty() {
            self.text.clear();
        }
        if self.text.len() < self.high.max(TEXT_LOW) {
            return;
        }
        let mut end = 0;
        for Open { asked, .. } in open {
            let from = asked.from as usize;
            self.text
                .copy_within(from..from + asked.length as usize, end);
            asked.from = end as u32;
            end += asked.length as usize;
        }
        self.text.truncate(end);
        // At least as much comes as is copied.
        self.high = 2 * end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u32) -> String {
        format!("AUTH\t{id}\tPLAIN\tsession=s{id}\tlip=10.0.0.1\tresp=AAAA\n")
    }

    /// Whatever is answered when, each answer finds what its own request said.
    #[test]
    fn requests_are_remembered_until_they_are_answered() {
        let mut tap = Tap::default();
        let (mut next, mut open) = (1u32, Vec::new());
        for round in 0..3000u32 {
            for _ in 0..round % 5 {
                tap.feed(request(next).as_bytes());
                open.push(next);
                next += 1;
            }
            while open.len() > 60 {
                let id = open.remove((round as usize * 7) % open.len());
                let asked = tap.take(id.to_string().as_bytes());
                assert_eq!(tap.session(asked), format!("s{id}"));
            }
        }
        assert!(tap.said.text.capacity() <= 4 * TEXT_LOW);
        for id in open {
            let asked = tap.take(id.to_string().as_bytes());
            assert_eq!(tap.session(asked), format!("s{id}"));
        }
        let answered = tap.take(b"1");
        assert_eq!(tap.session(answered), "");
        tap.feed(b"");
        assert_eq!(tap.said.text.len(), 0);
    }
}
