//! Lines in, bytes out: one read for many lines, one write for many requests.

use std::io::{self, Read, Write};

use crate::clock;

/// One read takes at most this much: some 600 replies.
pub(crate) const READ_SIZE: usize = 64 * 1024;
/// A line that is longer than this is nobody's protocol: Dovecot ends at 16,384 bytes.
const LINE_MAX: usize = READ_SIZE;
/// Output that is kept for a peer that does not read.
const OUT_MAX: usize = 16 * 1024 * 1024;

/// How a series of reads ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Everything that is there was read.
    Drained,
    /// The peer closed.
    Ended,
}

/// The unfinished line of a connection.
#[derive(Default)]
pub(crate) struct Inbox {
    start_of_line: Vec<u8>,
}

impl Inbox {
    /// Reads until nothing is left and hands over every whole line, without its end, with the time
    /// it was read. `each` answers whether the connection is still wanted.
    ///
    /// With edge-triggered readiness a short read means that nothing is left, unless the peer has
    /// closed by then (`until_end`): that gives no further event.
    pub(crate) fn read(
        &mut self,
        stream: &mut impl Read,
        scratch: &mut [u8],
        until_end: bool,
        mut each: impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<Reading> {
        loop {
            let count = match stream.read(scratch) {
                Ok(0) => return Ok(Reading::Ended),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Reading::Drained);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let now = clock::now();
            if !self.split(&scratch[..count], now, &mut each) {
                return Ok(Reading::Ended);
            }
            if self.start_of_line.len() > LINE_MAX {
                return Err(io::Error::other("the peer sent an endless line"));
            }
            if count < scratch.len() && !until_end {
                return Ok(Reading::Drained);
            }
        }
    }

    fn split(
        &mut self,
        mut bytes: &[u8],
        now: u64,
        each: &mut impl FnMut(u64, &[u8]) -> bool,
    ) -> bool {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            let wanted = if self.start_of_line.is_empty() {
                each(now, line)
            } else {
                self.start_of_line.extend_from_slice(line);
                let wanted = each(now, &self.start_of_line);
                self.start_of_line.clear();
                wanted
            };
            if !wanted {
                return false;
            }
        }
        self.start_of_line.extend_from_slice(bytes);
        true
    }

    /// Forgets an unfinished line.
    pub(crate) fn clear(&mut self) {
        self.start_of_line.clear();
    }
}

/// Bytes to be written.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// Where to append what is to be sent.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Writes as much as the peer takes. True if everything is out.
    pub(crate) fn flush(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        while self.written < self.bytes.len() {
            match stream.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.bytes.len() > OUT_MAX {
                        return Err(io::Error::other("the peer does not read"));
                    }
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(true)
    }

    /// Forgets everything not yet written.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&str]) -> Vec<String> {
        let (mut inbox, mut lines) = (Inbox::default(), Vec::new());
        for chunk in chunks {
            let mut each = |_: u64, line: &[u8]| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                true
            };
            assert!(inbox.split(chunk.as_bytes(), 0, &mut each));
        }
        lines
    }

    #[test]
    fn lines_cut_anywhere() {
        assert_eq!(lines_of(&["a\nb", "", "c", "\n\nd"]), ["a", "bc", ""]);
        assert_eq!(lines_of(&["\n", "x\n"]), ["", "x"]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let endless = vec![b'x'; LINE_MAX + 2];
        let read = Inbox::default().read(&mut &endless[..], &mut [0; 512], true, |_, _| true);
        assert!(read.is_err());
    }
}
