//! The grammar of `director_username_hash`.

use thiserror::Error;

use super::digest::{DigestSpec, Method};
use super::modifier::{Cut, Modifier, Shaping};
use super::{NamePart, Piece, Value};

/// Most modifier letters of one variable; Dovecot takes an eleventh for the variable's name.
const MAX_MODIFIERS: usize = 10;

/// Most zeros that one variable may fill up with, so that a slip of the finger does not hash
/// megabytes for every login. No name is that long: lines of the auth protocol end at 8192 bytes.
const MAX_FILL: u32 = 1024;

/// Most rounds of a digest: it is computed for every login. 1000 of MD5 take about 0.2 ms.
const MAX_ROUNDS: u32 = 1000;

/// Why a `director_username_hash` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// Neither a variable nor a modifier.
    #[error(
        "unknown variable '%{0}': use %u %n %d (or %{{user}} %{{username}} %{{domain}}), \
         %{{env:NAME}}, %{{md5:user}} or sha1, sha256, sha384, sha512; with modifiers before it: \
         D E H L M N R T U X, and [-][offset.][width] before those; %% is a percent sign"
    )]
    UnknownVariable(String),
    /// The text ends within a variable.
    #[error("'%{0}' at the end is not complete: the variable is missing; %% is a percent sign")]
    Incomplete(String),
    /// `%{` without `}`.
    #[error("'%{{{0}' has no closing brace")]
    Unclosed(String),
    /// More modifier letters than Dovecot takes.
    #[error("'%{0}' has more than {MAX_MODIFIERS} modifiers")]
    TooManyModifiers(String),
    /// An offset or width that is too large.
    #[error(
        "number '{0}' is too large: offset and width are at most {max}, and at most {MAX_FILL} \
         where they fill up with zeros",
        max = i32::MAX
    )]
    BadNumber(String),
    /// An option of a digest.
    #[error(
        "option '{option}' of '%{{{variable}}}': use rounds=1..{MAX_ROUNDS}, salt=TEXT, \
         truncate=BITS, format=hex"
    )]
    BadOption {
        /// The option.
        option: String,
        /// What stands between the braces.
        variable: String,
    },
    /// An option behind the salt. Dovecot ignores it without a word; whoever wrote it did not know.
    #[error(
        "option '{option}' of '%{{{variable}}}' has no effect in Dovecot because it follows salt=; \
         leave it out to keep the hashes as they are"
    )]
    AfterSalt {
        /// The option.
        option: String,
        /// What stands between the braces.
        variable: String,
    },
}

type Env<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// The literal texts and variables of `text`, in order.
pub(super) fn pieces(text: &str, env: Env<'_>) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(percent) = rest.find('%') {
        if percent > 0 {
            pieces.push(Piece::Literal(rest.as_bytes()[..percent].into()));
        }
        let (piece, tail) = variable(&rest[percent + 1..], env)?;
        pieces.push(piece);
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.as_bytes().into()));
    }
    Ok(pieces)
}

/// What follows a `%`, and the text after it.
fn variable<'a>(text: &'a str, env: Env<'_>) -> Result<(Piece, &'a str), TemplateError> {
    let (cut, after_cut) = cut(text)?;
    let mut modifiers = Vec::new();
    let mut rest = after_cut.chars();
    let letter = loop {
        let letter = rest
            .next()
            .ok_or_else(|| TemplateError::Incomplete(text.into()))?;
        match Modifier::of_letter(letter) {
            Some(_) if modifiers.len() == MAX_MODIFIERS => {
                return Err(TemplateError::TooManyModifiers(text.into()));
            }
            Some(modifier) => modifiers.push(modifier),
            None => break letter,
        }
    };
    let mut rest = rest.as_str();
    let value = match letter {
        'u' => Value::Name(NamePart::Whole),
        'n' => Value::Name(NamePart::Local),
        'd' => Value::Name(NamePart::Domain),
        '%' => Value::Fixed(b"%".as_slice().into()),
        '{' => {
            let (name, tail) = rest
                .split_once('}')
                .ok_or_else(|| TemplateError::Unclosed(rest.into()))?;
            rest = tail;
            long_name(name, env)?
        }
        other => return Err(TemplateError::UnknownVariable(other.into())),
    };
    let shaping = Shaping { modifiers, cut };
    check_fill(&shaping, text)?;
    Ok((Piece::Variable { value, shaping }, rest))
}

/// `[-][offset.][width]`: a single number is the width, and its sign means nothing.
fn cut(text: &str) -> Result<(Cut, &str), TemplateError> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (first, rest) = digits(rest);
    let Some((second, rest)) = rest.strip_prefix('.').map(digits) else {
        let width = width(first)?;
        return Ok((
            Cut {
                offset: 0,
                width,
                zero_fill: first.starts_with('0'),
            },
            rest,
        ));
    };
    let offset = width(first)? as i32;
    let cut = Cut {
        offset: if negative { -offset } else { offset },
        width: width(second)?,
        zero_fill: second.starts_with('0'),
    };
    Ok((cut, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// 0 if there are no digits; fits into an `i32`.
fn width(digits: &str) -> Result<u32, TemplateError> {
    if digits.is_empty() {
        return Ok(0);
    }
    let number = digits.parse::<i32>();
    number
        .map(|n| n as u32)
        .map_err(|_| TemplateError::BadNumber(digits.into()))
}

/// Bounds the zeros that are put in front: by `H` and `N` as many as the offset says, else as many
/// as a zero-filled width.
fn check_fill(shaping: &Shaping, text: &str) -> Result<(), TemplateError> {
    let is_number = |m: &Modifier| matches!(m, Modifier::OldHash | Modifier::NewHash);
    let cut = shaping.cut;
    let fill = match shaping.modifiers.iter().any(is_number) {
        true => cut.offset.max(0) as u32,
        false if cut.zero_fill => cut.width,
        false => 0,
    };
    if fill > MAX_FILL {
        Err(TemplateError::BadNumber(text.into()))
    } else {
        Ok(())
    }
}

/// What stands between braces.
fn long_name(name: &str, env: Env<'_>) -> Result<Value, TemplateError> {
    if let Some(value) = plain_name(name, env) {
        return Ok(value);
    }
    let unknown = || TemplateError::UnknownVariable(format!("{{{name}}}"));
    let (function, field) = name.split_once(':').ok_or_else(unknown)?;
    let (method, options) = function.split_once(';').unwrap_or((function, ""));
    let method = Method::of_name(method).ok_or_else(unknown)?;
    let of = plain_name(field, env).ok_or_else(unknown)?;
    let mut spec = DigestSpec {
        method,
        salt: Box::default(),
        rounds: 1,
        truncate: 0,
        of,
    };
    let mut salted = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (option_text, variable) = (option.to_owned(), name.to_owned());
        if salted {
            return Err(TemplateError::AfterSalt {
                option: option_text,
                variable,
            });
        }
        set_option(&mut spec, option).ok_or(TemplateError::BadOption {
            option: option_text,
            variable,
        })?;
        salted = option.starts_with("salt=");
    }
    Ok(Value::Digest(Box::new(spec)))
}

fn plain_name(name: &str, env: Env<'_>) -> Option<Value> {
    Some(match name {
        "user" => Value::Name(NamePart::Whole),
        "username" => Value::Name(NamePart::Local),
        "domain" => Value::Name(NamePart::Domain),
        _ => Value::Fixed(env(name.strip_prefix("env:")?).unwrap_or_default().into()),
    })
}

/// `None`: not an option, or not a value for it.
fn set_option(spec: &mut DigestSpec, option: &str) -> Option<()> {
    match option.split_once('=')? {
        ("rounds", rounds) => {
            spec.rounds = rounds
                .parse()
                .ok()
                .filter(|n| (1..=MAX_ROUNDS).contains(n))?;
        }
        ("salt", salt) => spec.salt = salt.as_bytes().into(),
        ("truncate", bits) => spec.truncate = bits.parse::<u32>().ok()? as usize,
        ("format", "hex") => {}
        _ => return None,
    }
    Some(())
}
