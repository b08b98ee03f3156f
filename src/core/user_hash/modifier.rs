//! What stands between `%` and the name of a variable: offset, width and modifier letters.

use std::io::Write;

use md5::{Digest, Md5};

use crate::core::backends::fold;

/// One letter. All work on bytes and change ASCII letters only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Modifier {
    /// `L`
    Lower,
    /// `U`
    Upper,
    /// `R`: bytes in reverse order
    Reverse,
    /// `T`: white space at the end removed
    Trim,
    /// `M`: MD5, 32 hexadecimal digits
    Md5,
    /// `D`: dots become `,dc=`
    Dn,
    /// `E`: backslash before quotes and backslashes
    Escape,
    /// `X`: a decimal number as hexadecimal; anything else is 0
    Hex,
    /// `H`: the ELF hash of the text, as a hexadecimal number
    OldHash,
    /// `N`: the same with MD5
    NewHash,
}

impl Modifier {
    pub(super) fn of_letter(letter: char) -> Option<Modifier> {
        Some(match letter {
            'L' => Modifier::Lower,
            'U' => Modifier::Upper,
            'R' => Modifier::Reverse,
            'T' => Modifier::Trim,
            'M' => Modifier::Md5,
            'D' => Modifier::Dn,
            'E' => Modifier::Escape,
            'X' => Modifier::Hex,
            'H' => Modifier::OldHash,
            'N' => Modifier::NewHash,
            _ => return None,
        })
    }
}

/// Everything that is done to the value of one variable: the modifiers in order, then the cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shaping {
    pub(super) modifiers: Vec<Modifier>,
    pub(super) cut: Cut,
}

/// `%offset.width`. The first `H` or `N` takes both for itself, as smallest number of digits and as
/// modulus, and leaves nothing to cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes left out at the beginning; negative: counted from the end.
    pub(super) offset: i32,
    /// Bytes kept; 0: all.
    pub(super) width: u32,
    /// The width was written with a leading zero: fill up with zeros on the left, keep what is longer.
    pub(super) zero_fill: bool,
}

impl Shaping {
    /// `Some(lower)` if this does nothing but, perhaps, lower-casing.
    pub(super) fn is_at_most_lower(&self) -> Option<bool> {
        if self.cut != Cut::default() {
            return None;
        }
        match self.modifiers[..] {
            [] => Some(false),
            [Modifier::Lower] => Some(true),
            _ => None,
        }
    }

    /// Reshapes `out[start..]`.
    pub(super) fn apply(&self, out: &mut Vec<u8>, start: usize) {
        let mut cut = self.cut;
        for modifier in &self.modifiers {
            let text = &mut out[start..];
            match modifier {
                Modifier::Lower => text.make_ascii_lowercase(),
                Modifier::Upper => text.make_ascii_uppercase(),
                Modifier::Reverse => text.reverse(),
                Modifier::Trim => trim(out, start),
                Modifier::Md5 => {
                    let digest = Md5::digest(&*text);
                    out.truncate(start);
                    append_hex(&digest, out);
                }
                Modifier::Dn => replace(out, start, |byte| (byte == b'.').then_some(b",dc=")),
                Modifier::Escape => replace(out, start, escaped),
                Modifier::Hex => {
                    let number = decimal(text);
                    append_number(number, 0, out, start);
                }
                Modifier::OldHash => {
                    let number = u64::from(fold(text));
                    append_reduced(number, std::mem::take(&mut cut), out, start);
                }
                Modifier::NewHash => {
                    let [a, b, c, d, e, f, g, h, ..] = <[u8; 16]>::from(Md5::digest(&*text));
                    let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                    append_reduced(number, std::mem::take(&mut cut), out, start);
                }
            }
        }
        cut.apply(out, start);
    }
}

impl Cut {
    fn apply(self, out: &mut Vec<u8>, start: usize) {
        let len = out.len() - start;
        let skip = match usize::try_from(self.offset) {
            Ok(offset) => offset.min(len),
            Err(_) => len.saturating_sub(self.offset.unsigned_abs() as usize),
        };
        if skip > 0 {
            out.drain(start..start + skip);
        }
        let (len, width) = (len - skip, self.width as usize);
        if self.zero_fill {
            let missing = width.saturating_sub(len);
            out.splice(start..start, std::iter::repeat_n(b'0', missing));
        } else if width > 0 {
            out.truncate(start + width.min(len));
        }
    }
}

/// White space as C's `isspace` has it.
fn trim(out: &mut Vec<u8>, start: usize) {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let kept = out[start..]
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(0, |last| last + 1);
    out.truncate(start + kept);
}

/// Replaces some bytes by longer texts: the new text is written behind the old one, which then goes.
fn replace<const N: usize>(
    out: &mut Vec<u8>,
    start: usize,
    text_of: impl Fn(u8) -> Option<&'static [u8; N]>,
) {
    let end = out.len();
    for i in start..end {
        let byte = out[i];
        match text_of(byte) {
            Some(text) => out.extend_from_slice(text),
            None => out.push(byte),
        }
    }
    out.drain(start..end);
}

fn escaped(byte: u8) -> Option<&'static [u8; 2]> {
    match byte {
        b'"' => Some(b"\\\""),
        b'\'' => Some(b"\\'"),
        b'\\' => Some(b"\\\\"),
        _ => None,
    }
}

fn decimal(text: &[u8]) -> u64 {
    let digits_only = text.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(text).ok().filter(|_| digits_only);
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The number modulo `cut.width`, its low 32 bits in hexadecimal, with at least `cut.offset` digits.
fn append_reduced(number: u64, cut: Cut, out: &mut Vec<u8>, start: usize) {
    let reduced = if cut.width == 0 {
        number
    } else {
        number % u64::from(cut.width)
    };
    let digits = usize::try_from(cut.offset).unwrap_or(0);
    append_number(reduced & u64::from(u32::MAX), digits, out, start);
}

/// Replaces `out[start..]` by `number` in hexadecimal, with at least `digits` digits.
fn append_number(number: u64, digits: usize, out: &mut Vec<u8>, start: usize) {
    out.truncate(start);
    write!(out, "{number:0digits$x}").expect("writing to memory");
}

/// Lower-case hexadecimal, two digits a byte.
pub(super) fn append_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}
