//! Which 32-bit number a user name has (docs/protocol/placement.md, user hash).
//!
//! The template of `director_username_hash` is parsed once, at start; what Dovecot would refuse at
//! every login is then refused at start.

mod digest;
mod lanes;
mod modifier;
mod parse;
mod together;

pub use parse::TemplateError;
pub use together::Together;

use md5::{Digest, Md5};

use self::digest::DigestSpec;
use self::modifier::Shaping;
use super::UserHash;

/// A parsed `director_username_hash`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// One part of the name, as it is or in lower case: nearly every installation.
    Simple {
        part: NamePart,
        lower: bool,
    },
    General(Box<[Piece]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<[u8]>),
    Variable { value: Value, shaping: Shaping },
}

/// What a variable stands for, before its modifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Name(NamePart),
    /// Content of an environment variable, or a literal percent sign that modifiers apply to.
    Fixed(Box<[u8]>),
    Digest(Box<DigestSpec>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamePart {
    /// `%u`
    Whole,
    /// `%n`: up to the first `@`
    Local,
    /// `%d`: after the first `@`; empty without one
    Domain,
}

impl NamePart {
    fn of(self, user: &[u8]) -> &[u8] {
        let at = match self {
            NamePart::Whole => return user,
            NamePart::Local | NamePart::Domain => memchr::memchr(b'@', user),
        };
        match (self, at) {
            (NamePart::Domain, Some(at)) => &user[at + 1..],
            (NamePart::Domain, None) => &[],
            (_, Some(at)) => &user[..at],
            (_, None) => user,
        }
    }
}

impl Template {
    /// Reads a template. `env` gives the value of an environment variable; a variable that is not
    /// set is empty, as in Dovecot.
    ///
    /// # Errors
    /// Names the variable, modifier or option that is not understood, and what is.
    pub fn parse(
        text: &str,
        env: &dyn Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Template, TemplateError> {
        let pieces = parse::pieces(text, env)?;
        let form = match &pieces[..] {
            [
                Piece::Variable {
                    value: Value::Name(part),
                    shaping,
                },
            ] => shaping
                .is_at_most_lower()
                .map(|lower| Form::Simple { part: *part, lower })
                .unwrap_or(Form::General(pieces.into())),
            _ => Form::General(pieces.into()),
        };
        Ok(Template(form))
    }

    /// The hash of a user name, 1..=u32::MAX. `scratch` is overwritten; keeping it between calls
    /// saves the allocation. It then holds what was hashed: wipe it where names are secret.
    #[inline]
    pub fn hash(&self, user: &[u8], scratch: &mut Vec<u8>) -> UserHash {
        scratch.clear();
        self.expand(user, scratch);
        hash_of(scratch)
    }

    /// Appends what is hashed of a user name.
    fn expand(&self, user: &[u8], out: &mut Vec<u8>) {
        match &self.0 {
            Form::Simple { part, lower } => {
                let from = out.len();
                out.extend_from_slice(part.of(user));
                if *lower {
                    out[from..].make_ascii_lowercase();
                }
            }
            Form::General(pieces) => pieces.iter().for_each(|piece| piece.append(user, out)),
        }
    }
}

impl Piece {
    fn append(&self, user: &[u8], out: &mut Vec<u8>) {
        match self {
            Piece::Literal(text) => out.extend_from_slice(text),
            Piece::Variable { value, shaping } => {
                let start = out.len();
                value.append(user, out);
                shaping.apply(out, start);
            }
        }
    }
}

impl Value {
    fn append(&self, user: &[u8], out: &mut Vec<u8>) {
        match self {
            Value::Name(part) => out.extend_from_slice(part.of(user)),
            Value::Fixed(text) => out.extend_from_slice(text),
            Value::Digest(spec) => {
                let start = out.len();
                spec.of.append(user, out);
                spec.apply(out, start);
            }
        }
    }
}

fn hash_of(expanded: &[u8]) -> UserHash {
    let digest = Md5::digest(expanded);
    never_zero(u32::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3],
    ]))
}

/// Directors cannot say 0 to each other (a Dovecot that hears it dies), so it counts as 1.
fn never_zero(first_word: u32) -> UserHash {
    UserHash(first_word.max(1))
}

/// The part of a login name that is hashed when master users are in use: what stands before the
/// first `separator`. Without a separator the whole name.
pub fn cut_master_user(user: &[u8], separator: Option<u8>) -> &[u8] {
    match separator.and_then(|separator| memchr::memchr(separator, user)) {
        Some(end) => &user[..end],
        None => user,
    }
}

#[cfg(test)]
mod tests;
