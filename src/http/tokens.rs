//! Bearer tokens: a file with a line for each, and whose a token is.
//!
//! ```text
//! # name   role    token, or sha256: and its digest in hexadecimal
//! prometheus read  Y2hhbmdlLW1lLXBsZWFzZS0x
//! alice    admin   sha256:5e88…
//! ```
//!
//! Only digests are kept. Two digests are compared in constant time, and always all of them, so that
//! the time that an answer takes tells nothing of a token.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Most tokens in a file; each request is compared with all.
const TOKENS_MAX: usize = 256;
/// Shortest token: 20 letters and digits at random have over 100 bits.
pub const TOKEN_MIN: usize = 20;
/// Longest token.
const TOKEN_MAX: usize = 256;
/// Longest name; it is in log lines.
const NAME_MAX: usize = 64;

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Ask.
    Read,
    /// Ask and order.
    Admin,
}

impl Role {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Admin => "admin",
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Token {
    name: String,
    role: Role,
    digest: [u8; 32],
}

/// All tokens of a file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Token>);

/// Nothing of the tokens.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

/// A file that cannot be used. Says nothing of the tokens in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TokenFault {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it, and what would be right.
    pub what: String,
}

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &[u8]) -> Result<Tokens, TokenFault> {
        let mut tokens: Vec<Token> = Vec::new();
        for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let fault = |what: &str| TokenFault {
                line,
                what: what.to_owned(),
            };
            let Some(token) = read_line(text).map_err(|what| fault(&what))? else {
                continue;
            };
            if tokens.iter().any(|other| other.name == token.name) {
                return Err(fault("the name is there twice"));
            }
            if tokens.iter().any(|other| other.digest == token.digest) {
                return Err(fault(
                    "the token is there twice: nobody could tell who it was",
                ));
            }
            if tokens.len() == TOKENS_MAX {
                return Err(fault(&format!("more than {TOKENS_MAX} tokens")));
            }
            tokens.push(token);
        }
        Ok(Tokens(tokens))
    }

    /// Whose token it is; `None`: nobody's.
    pub fn find(&self, presented: &[u8]) -> Option<(&str, Role)> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let (mut found, mut at) = (Choice::from(0), 0u32);
        for (number, token) in (0..).zip(&self.0) {
            let same = token.digest.ct_eq(&digest);
            at = u32::conditional_select(&at, &number, same);
            found |= same;
        }
        if !bool::from(found) {
            return None;
        }
        let token = self.0.get(usize::try_from(at).ok()?)?;
        Some((&token.name, token.role))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `None`: a line without a token.
fn read_line(line: &[u8]) -> Result<Option<Token>, String> {
    let line = line.trim_ascii();
    if line.is_empty() || line[0] == b'#' {
        return Ok(None);
    }
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let (Some(name), Some(role), Some(token), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("not three words: a name, read or admin, and a token".to_owned());
    };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._@-".contains(byte);
    if name.len() > NAME_MAX || !name.iter().all(plain) {
        return Err(format!(
            "the name has other characters than letters, digits, '.', '_', '@' and '-', or more than \
             {NAME_MAX}"
        ));
    }
    let role = match role {
        b"read" => Role::Read,
        b"admin" => Role::Admin,
        _ => return Err("the second word is neither read nor admin".to_owned()),
    };
    let digest = match token.strip_prefix(b"sha256:") {
        Some(hex) => {
            digest_of(hex).ok_or("sha256: needs 64 hexadecimal digits behind it".to_owned())?
        }
        None if token.len() < TOKEN_MIN || token.len() > TOKEN_MAX => {
            return Err(format!(
                "the token has not {TOKEN_MIN} to {TOKEN_MAX} characters: `openssl rand -hex 32` makes one"
            ));
        }
        // What an Authorization header can hold.
        None if !token.iter().all(u8::is_ascii_graphic) => {
            return Err("the token has characters other than those of ASCII".to_owned());
        }
        None => Sha256::digest(token).into(),
    };
    Ok(Some(Token {
        name: String::from_utf8_lossy(name).into_owned(),
        role,
        digest,
    }))
}

fn digest_of(hex: &[u8]) -> Option<[u8; 32]> {
    if hex.len() != 64 {
        return None;
    }
    let nibble = |byte: u8| char::from(byte).to_digit(16);
    let mut digest = [0; 32];
    for (place, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        let byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        *place = u8::try_from(byte).ok()?;
    }
    Some(digest)
}

/// The token of an Authorization header; `None`: it is of another scheme.
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "0123456789abcdefghij";

    #[test]
    fn a_token_is_found_by_itself_or_by_its_digest() {
        let hex: String = Sha256::digest(b"another-long-enough-token")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let file = format!("# who\n\n scraper\tread {SECRET}\r\nann@x admin sha256:{hex}\n");
        let tokens = Tokens::parse(file.as_bytes()).expect("a file");
        assert_eq!(
            tokens.find(SECRET.as_bytes()),
            Some(("scraper", Role::Read))
        );
        let other = tokens.find(b"another-long-enough-token");
        assert_eq!(other, Some(("ann@x", Role::Admin)));
        for wrong in [&SECRET.as_bytes()[1..], b"", hex.as_bytes(), b"scraper"] {
            assert_eq!(tokens.find(wrong), None);
        }
        assert_eq!(format!("{tokens:?}"), "2 tokens");
        assert_eq!(Tokens::default().find(b""), None);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_token() {
        for (file, what) in [
            ("a read\n".to_owned(), "not three words"),
            (format!("a root {SECRET}"), "neither read nor admin"),
            (format!("a/b read {SECRET}"), "other characters"),
            (format!("a read {}", &SECRET[1..]), "20 to 256"),
            ("a read sha256:12".to_owned(), "64 hexadecimal"),
            (
                format!("a read {SECRET}\na admin {SECRET}x"),
                "line 2: the name",
            ),
            (
                format!("a read {SECRET}\nb admin {SECRET}"),
                "line 2: the token",
            ),
        ] {
            let said = Tokens::parse(file.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(what), "{said}");
            assert!(!said.contains(&SECRET[1..]), "{said}");
        }
        let many: String = (0..=TOKENS_MAX)
            .map(|at| format!("n{at} read {SECRET}{at}\n"))
            .collect();
        assert!(Tokens::parse(many.as_bytes()).is_err());
    }

    #[test]
    fn only_bearer_tokens_are_tokens() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bear"), None);
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(file: Vec<u8>, token: Vec<u8>) {
            if let Ok(tokens) = Tokens::parse(&file) {
                let _ = tokens.find(&token);
            }
            let _ = bearer(&token);
        }

        #[test]
        fn each_finds_its_own(names in prop::collection::btree_set("[a-z]{1,8}", 1..20)) {
            let file: String = names
                .iter()
                .map(|name| format!("{name} read {name}{SECRET}\n"))
                .collect();
            let tokens = Tokens::parse(file.as_bytes()).expect("a file");
            for name in &names {
                let token = format!("{name}{SECRET}");
                prop_assert_eq!(tokens.find(token.as_bytes()), Some((name.as_str(), Role::Read)));
            }
            prop_assert_eq!(tokens.find(SECRET.as_bytes()), None);
        }
    }
}
