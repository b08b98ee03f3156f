//! The fields of a line, one after the other, each with its type's rule.

use std::borrow::Cow;
use std::net::IpAddr;

use memchr::{memchr, memchr_iter};

use super::error::shown;
use super::{DirectorId, Hash, Origin, RingError};
use crate::wire::ip_text::parse_lenient;
use crate::wire::line::unescape;

/// What is left of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    /// For errors.
    command: &'static str,
    /// `None`: no field; empty: one empty field.
    rest: Option<&'a [u8]>,
}

/// The first field of a line, and those behind it.
pub(super) fn split_word(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'\t', line) {
        Some(end) => (&line[..end], Some(&line[end + 1..])),
        None => (line, None),
    }
}

impl<'a> Fields<'a> {
    pub(super) fn new(command: &'static str, rest: Option<&'a [u8]>) -> Self {
        Fields { command, rest }
    }

    pub(super) fn count(&self) -> usize {
        self.rest
            .map_or(0, |rest| 1 + memchr_iter(b'\t', rest).count())
    }

    pub(super) fn exactly(self, count: usize) -> Result<Self, RingError> {
        self.checked(self.count() == count)
    }

    pub(super) fn at_least(self, count: usize) -> Result<Self, RingError> {
        self.checked(self.count() >= count)
    }

    fn checked(self, right: bool) -> Result<Self, RingError> {
        if right {
            return Ok(self);
        }
        Err(RingError::FieldCount {
            command: self.command,
            got: self.count(),
        })
    }

    /// The next field without its escapes; a NUL that comes out of them ends it.
    pub(super) fn optional(&mut self) -> Option<Cow<'a, [u8]>> {
        let (field, rest) = split_word(self.rest?);
        self.rest = rest;
        Some(text(field))
    }

    /// The next field, empty when there is none.
    pub(super) fn string(&mut self) -> Cow<'a, [u8]> {
        self.optional().unwrap_or_default()
    }

    fn typed<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, RingError> {
        let value = self.string();
        read(&value).ok_or_else(|| self.bad(field, &value))
    }

    pub(super) fn bad(&self, field: &'static str, value: &[u8]) -> RingError {
        RingError::BadField {
            command: self.command,
            field,
            value: shown(value),
        }
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, RingError> {
        self.typed(field, u32_of)
    }

    /// A number that may be absent, with what it is then.
    pub(super) fn u32_or(&mut self, field: &'static str, absent: u32) -> Result<u32, RingError> {
        if self.rest.is_none() {
            return Ok(absent);
        }
        self.u32(field)
    }

    pub(super) fn optional_time(&mut self) -> Result<Option<u64>, RingError> {
        if self.rest.is_none() {
            return Ok(None);
        }
        self.typed("time", time_of).map(Some)
    }

    pub(super) fn hash(&mut self) -> Result<Hash, RingError> {
        let hash = self.u32("user hash")?;
        Hash::new(hash).ok_or(RingError::ZeroHash(self.command))
    }

    pub(super) fn ip(&mut self, field: &'static str) -> Result<IpAddr, RingError> {
        self.typed(field, ip_of)
    }

    pub(super) fn director(&mut self) -> Result<DirectorId, RingError> {
        Ok(DirectorId {
            ip: self.ip("director's address")?,
            port: self.typed("director's port", port_of)?,
        })
    }

    pub(super) fn origin(&mut self) -> Result<Origin, RingError> {
        Ok(Origin {
            director: self.director()?,
            seq: self.u32("sequence number")?,
        })
    }
}

/// A field's value: without escapes, up to a NUL.
pub(super) fn text(field: &[u8]) -> Cow<'_, [u8]> {
    match unescape(field) {
        Cow::Borrowed(value) => Cow::Borrowed(value),
        Cow::Owned(mut value) => {
            if let Some(end) = memchr(0, &value) {
                value.truncate(end);
            }
            Cow::Owned(value)
        }
    }
}

/// Digits only, any number of leading zeros.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn u32_of(text: &[u8]) -> Option<u32> {
    digits(text)?.try_into().ok()
}

pub(super) fn u64_of(text: &[u8]) -> Option<u64> {
    digits(text)
}

/// A signed 64-bit number; what is before 1970 is as good as 1970.
pub(super) fn time_of(text: &[u8]) -> Option<u64> {
    const MOST: u64 = i64::MAX as u64;
    match text.strip_prefix(b"-") {
        Some(negative) => digits(negative).filter(|n| *n <= MOST + 1).map(|_| 0),
        None => digits(text).filter(|n| *n <= MOST),
    }
}

fn port_of(text: &[u8]) -> Option<u16> {
    digits(text)?.try_into().ok().filter(|port| *port > 0)
}

fn ip_of(text: &[u8]) -> Option<IpAddr> {
    parse_lenient(std::str::from_utf8(text).ok()?)
}
