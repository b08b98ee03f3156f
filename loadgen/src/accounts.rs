//! Users and passwords from a file.

use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::error::Error;

/// A file of accounts larger than this is the wrong file: some ten million users.
const FILE_MAX: u64 = 1 << 30;
const RIGHT: &str = "lines of NAME:PASSWORD or NAME, a tab, PASSWORD; printable ASCII";

/// Names and passwords of real users. Passwords are never written anywhere but to the target.
#[derive(Clone)]
pub struct Accounts {
    list: Arc<Vec<(Box<str>, Box<str>)>>,
}

impl Accounts {
    /// Reads a file: one user a line, name and password with a tab or else a colon between them.
    /// Empty lines and those that begin with `#` are skipped.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Plan {
            setting: "--accounts",
            problem: format!("{}: {problem}", path.display()),
            right: RIGHT,
        };
        let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
        if size.len() > FILE_MAX {
            return Err(wrong(format!("{} bytes", size.len())));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    /// Reads the text of such a file. The error says which line is wrong, not what is in it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut list = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let pair = line.split_once('\t').or_else(|| line.split_once(':'));
            let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            match pair {
                Some((name, password))
                    if !name.is_empty()
                        && name.bytes().all(|byte| byte.is_ascii_graphic())
                        && password.bytes().all(printable) =>
                {
                    list.push((name.into(), password.into()));
                }
                _ => return Err(format!("line {} is no account", at + 1)),
            }
        }
        if list.is_empty() {
            return Err("no account in it".to_owned());
        }
        let list = Arc::new(list);
        Ok(Self { list })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Never: a file without accounts is refused.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The plan was checked: it has no users beyond the list.
    pub(crate) fn name(&self, user: u32) -> &[u8] {
        self.list[user as usize].0.as_bytes()
    }

    pub(crate) fn password(&self, user: u32) -> &[u8] {
        self.list[user as usize].1.as_bytes()
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} accounts", self.len())
    }
}

impl Serialize for Accounts {
    /// How many, and a checksum of the names to tell two files apart.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut sum = 0xcbf2_9ce4_8422_2325u64; // FNV-1a
        for (name, _) in self.list.iter() {
            for byte in name.bytes().chain([b'\n']) {
                sum = (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        let mut fields = to.serialize_struct("Accounts", 2)?;
        fields.serialize_field("users", &self.len())?;
        fields.serialize_field("names", &format!("{sum:016x}"))?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_and_passwords_not_told() {
        let accounts = Accounts::parse("# x\na:b:c\n\nd:e\tf g\n").unwrap();
        assert_eq!(
            (accounts.name(0), accounts.password(0)),
            (&b"a"[..], &b"b:c"[..])
        );
        assert_eq!(
            (accounts.name(1), accounts.password(1)),
            (&b"d:e"[..], &b"f g"[..])
        );
        assert!(!format!("{accounts:?}").contains("b:c"));
        let json = serde_json::to_string(&accounts).unwrap();
        assert!(
            json.contains("\"users\":2") && !json.contains("b:c"),
            "{json}"
        );
        for wrong in ["", "a", ":b", "a b:c", "ok:x\nsecret\u{e9}:y"] {
            let error = Accounts::parse(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        let missing = Accounts::read(Path::new("/nonexistent")).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent"), "{missing}");
    }
}
