//! Lines of TAB-separated, escaped fields: the framing of all of Dovecot's internal protocols
//! (docs/protocol/login.md, framing).

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use zeroize::Zeroize;

/// Undoes the escaping of one field: 0x01 followed by `0`, `1`, `t`, `r`, `n` stands for NUL,
/// 0x01, TAB, CR, LF; followed by anything else for that byte; alone at the end for nothing.
pub fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(1, field) else {
        return Cow::Borrowed(field);
    };
    let mut text = field[..first].to_vec();
    let mut bytes = field[first..].iter();
    while let Some(&byte) = bytes.next() {
        if byte != 1 {
            text.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'0') => text.push(0),
            Some(b'1') => text.push(1),
            Some(b't') => text.push(b'\t'),
            Some(b'r') => text.push(b'\r'),
            Some(b'n') => text.push(b'\n'),
            Some(&other) => text.push(other),
            None => {}
        }
    }
    Cow::Owned(text)
}

/// Appends `field` escaped, so that [`unescape`] gives it back.
pub fn escape_into(field: &[u8], out: &mut Vec<u8>) {
    for &byte in field {
        let code = match byte {
            0 => b'0',
            1 => b'1',
            b'\t' => b't',
            b'\r' => b'r',
            b'\n' => b'n',
            other => {
                out.push(other);
                continue;
            }
        };
        out.extend_from_slice(&[1, code]);
    }
}

/// Takes a CR off the end of a line: Dovecot's readers accept CRLF.
pub fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Cuts a byte stream into lines, holding only what is unfinished. Held bytes are wiped when
/// freed, since auth lines carry passwords.
#[derive(Debug, Default)]
pub struct Splitter {
    unfinished: Vec<u8>,
    skipping: bool,
}

/// A line was longer than the protocol allows; the sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line longer than {limit} bytes")]
pub struct TooLong {
    /// Most bytes of a line, its LF included.
    pub limit: usize,
}

impl Splitter {
    /// Whether the stream stands at the beginning of a line.
    pub fn at_boundary(&self) -> bool {
        self.unfinished.is_empty() && !self.skipping
    }

    /// Bytes of the unfinished line.
    pub fn unfinished(&self) -> &[u8] {
        &self.unfinished
    }

    /// Whether the unfinished line is too long, and skipped.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Goes on where another splitter of the same stream has stopped.
    pub fn resume(&mut self, unfinished: &[u8], skipping: bool) {
        self.clear();
        self.keep(unfinished);
        self.skipping = skipping;
    }

    /// Calls `each` with every complete line of the stream, without LF and CR. `limit` counts the
    /// LF. After an error the stream is of no further use.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        limit: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        let mut rest = bytes;
        if !self.unfinished.is_empty() {
            let Some(end) = memchr(b'\n', rest) else {
                return self.hold(rest, limit);
            };
            self.hold(&rest[..end], limit)?;
            rest = &rest[end + 1..];
            each(strip_cr(&self.unfinished));
            self.clear();
        }
        while let Some(end) = memchr(b'\n', rest) {
            if end >= limit {
                return Err(TooLong { limit });
            }
            each(strip_cr(&rest[..end]));
            rest = &rest[end + 1..];
        }
        self.hold(rest, limit)
    }

    /// As [`Splitter::feed`], but an over-long line is skipped up to its LF; returns how many were
    /// skipped.
    pub fn feed_skipping(
        &mut self,
        bytes: &[u8],
        limit: usize,
        mut each: impl FnMut(&[u8]),
    ) -> usize {
        let mut skipped = 0;
        let mut rest = bytes;
        loop {
            let end = memchr(b'\n', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            if self.skipping {
                // The line was counted when it became too long.
            } else if self.unfinished.len() + piece.len() >= limit {
                self.clear();
                self.skipping = true;
                skipped += 1;
            } else if end.is_some() && self.unfinished.is_empty() {
                each(strip_cr(piece));
            } else {
                self.keep(piece);
                if end.is_some() {
                    each(strip_cr(&self.unfinished));
                }
            }
            let Some(end) = end else {
                return skipped;
            };
            self.clear();
            self.skipping = false;
            rest = &rest[end + 1..];
        }
    }

    fn hold(&mut self, bytes: &[u8], limit: usize) -> Result<(), TooLong> {
        if self.unfinished.len() + bytes.len() >= limit {
            return Err(TooLong { limit });
        }
        self.keep(bytes);
        Ok(())
    }

    /// Appends to the unfinished line. A vector that grows by itself frees its old buffer as it is.
    fn keep(&mut self, bytes: &[u8]) {
        let length = self.unfinished.len() + bytes.len();
        if length > self.unfinished.capacity() {
            let mut larger = Vec::with_capacity(length.next_power_of_two());
            larger.extend_from_slice(&self.unfinished);
            self.unfinished.zeroize();
            self.unfinished = larger;
        }
        self.unfinished.extend_from_slice(bytes);
    }

    fn clear(&mut self) {
        // Wiping nothing is not free: it would be a tenth of the work on a line.
        if self.unfinished.is_empty() {
            return;
        }
        self.unfinished.zeroize();
        // A buffer that one long line made large is not kept for the short ones to come.
        if self.unfinished.capacity() > 1024 {
            self.unfinished = Vec::new();
        }
    }
}

impl Drop for Splitter {
    fn drop(&mut self) {
        if self.unfinished.capacity() > 0 {
            self.unfinished.zeroize();
        }
    }
}

/// Where the first TAB is. Fields are short: eight bytes at a time, in line, are faster here than the
/// widest instructions behind a call.
#[inline]
pub fn tab(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let (words, rest) = text.as_chunks();
    for (at, word) in words.iter().enumerate() {
        // Zero where a TAB was. Of the bytes whose high bit is found set, the first is right.
        let word = u64::from_le_bytes(*word) ^ (ONES * b'\t' as u64);
        let found = word.wrapping_sub(ONES) & !word & HIGH;
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte == b'\t')?;
    Some(words.len() * 8 + at)
}

/// Splits at TAB, leaving the fields escaped.
#[inline]
pub fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let current = rest?;
        match tab(current) {
            Some(end) => {
                rest = Some(&current[end + 1..]);
                Some(&current[..end])
            }
            None => {
                rest = None;
                Some(current)
            }
        }
    })
}

/// Whether a field's value would need [`unescape`] or end the line; for fields that are copied raw.
pub fn has_control(field: &[u8]) -> bool {
    memchr2(1, b'\t', field).is_some() || memchr2(b'\r', b'\n', field).is_some()
}

/// A number as the protocols write it: decimal digits only, at most `u32::MAX`.
pub fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    let mut value: u64 = 0;
    for &digit in text {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    u32::try_from(value).ok()
}

/// Appends a number in decimal.
pub fn push_number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // The remainder of a division by ten is a digit.
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]], limit: usize) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, limit, |line| out.push(line.to_vec()))?;
        }
        Ok(out)
    }

    #[test]
    fn a_line_may_be_cut_anywhere() {
        let text = b"first\r\nsecond\n\nlast\n";
        for cut in 0..=text.len() {
            let got = lines(&[&text[..cut], &text[cut..]], 100).unwrap();
            assert_eq!(got, [&b"first"[..], b"second", b"", b"last"]);
        }
    }

    #[test]
    fn the_limit_counts_the_line_feed() {
        assert!(lines(&[b"1234567\n"], 8).is_ok());
        assert_eq!(lines(&[b"12345678\n"], 8), Err(TooLong { limit: 8 }));
        assert_eq!(lines(&[b"1234", b"5678"], 8), Err(TooLong { limit: 8 }));
        assert_eq!(lines(&[b"1234", b"5678\n"], 8), Err(TooLong { limit: 8 }));
    }

    #[test]
    fn over_long_lines_are_skipped_to_their_end() {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        let mut skipped = 0;
        for chunk in [&b"ab\n123"[..], b"4567890", b"12\ncd\n", b"12345678\nef\n"] {
            skipped += splitter.feed_skipping(chunk, 8, |line| out.push(line.to_vec()));
        }
        assert_eq!(out, [b"ab", b"cd", b"ef"]);
        assert_eq!(skipped, 2);
    }

    #[test]
    fn numbers() {
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        assert_eq!(number(b"007"), Some(7));
        for bad in [&b""[..], b"4294967296", b"-1", b"1 ", b"99999999999"] {
            assert_eq!(number(bad), None);
        }
        let mut out = Vec::new();
        push_number(u64::MAX, &mut out);
        push_number(0, &mut out);
        assert_eq!(out, b"184467440737095516150");
    }

    proptest! {
        #[test]
        fn the_first_tab_is_found(text in proptest::collection::vec(7u8..12, 0..40), other: u8) {
            let text: Vec<u8> = text.iter().map(|&byte| match byte {
                7 => other,
                11 => other ^ 0x80,
                byte => byte,
            }).collect();
            prop_assert_eq!(tab(&text), memchr(b'\t', &text));
        }

        #[test]
        fn unescape_undoes_escape(field: Vec<u8>) {
            let mut out = Vec::new();
            escape_into(&field, &mut out);
            prop_assert!(!out.contains(&b'\t') && !out.contains(&b'\n') && !out.contains(&0));
            prop_assert_eq!(&*unescape(&out), &*field);
        }

        #[test]
        fn skipping_equals_plain_where_nothing_is_too_long(text: Vec<u8>, cut in 0usize..64) {
            let cut = cut.min(text.len());
            let mut plain = Vec::new();
            let mut splitter = Splitter::default();
            for part in [&text[..cut], &text[cut..]] {
                splitter.feed(part, 1 << 20, |line| plain.push(line.to_vec())).unwrap();
            }
            let mut skipping = Vec::new();
            let mut splitter = Splitter::default();
            for part in [&text[..cut], &text[cut..]] {
                splitter.feed_skipping(part, 1 << 20, |line| skipping.push(line.to_vec()));
            }
            prop_assert_eq!(plain, skipping);
        }
    }
}
