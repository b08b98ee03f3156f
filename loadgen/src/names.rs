//! User names, decimal numbers and base64, written without allocating.

use crate::accounts::Accounts;
use crate::plan::Plan;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const NOT_BASE64: u8 = 0xff;
const VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut table = [NOT_BASE64; 256];
    let mut index = 0;
    while index < 64 {
        table[ALPHABET[index] as usize] = index as u8;
        index += 1;
    }
    table
}

/// Writes names and passwords: from a pattern, or from a list.
pub(crate) struct Names {
    buffer: Vec<u8>,
    prefix: usize,
    suffix: Box<[u8]>,
    /// The password before and after the user's number; `None` after: no number in it.
    password: (Box<[u8]>, Option<Box<[u8]>>),
    accounts: Option<Accounts>,
}

impl Names {
    pub(crate) fn new(plan: &Plan) -> Self {
        let password = match plan.password.split_once("{n}") {
            Some((before, after)) => (before.as_bytes().into(), Some(after.as_bytes().into())),
            None => (plan.password.as_bytes().into(), None),
        };
        Self {
            buffer: plan.prefix.clone().into_bytes(),
            prefix: plan.prefix.len(),
            suffix: plan.suffix.as_bytes().into(),
            password,
            accounts: plan.accounts.clone(),
        }
    }

    /// The name of one user.
    pub(crate) fn of(&mut self, user: u32) -> &[u8] {
        if let Some(accounts) = &self.accounts {
            return accounts.name(user);
        }
        self.buffer.truncate(self.prefix);
        self.buffer.extend_from_slice(decimal(user, &mut [0; 10]));
        self.buffer.extend_from_slice(&self.suffix);
        &self.buffer
    }

    /// Appends the user's password, or one that is not his.
    pub(crate) fn password(&self, user: u32, wrong: bool, out: &mut Vec<u8>) {
        match (&self.accounts, &self.password) {
            (Some(accounts), _) => out.extend_from_slice(accounts.password(user)),
            (None, (before, after)) => {
                out.extend_from_slice(before);
                if let Some(after) = after {
                    out.extend_from_slice(decimal(user, &mut [0; 10]));
                    out.extend_from_slice(after);
                }
            }
        }
        if wrong {
            out.extend_from_slice(b"-wrong");
        }
    }
}

/// `number` in decimal, at the end of `buffer`.
pub(crate) fn decimal(mut number: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}

/// Reads a decimal number without sign; `None` if it is not one or does not fit.
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    let mut number = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    u32::try_from(number).ok()
}

/// Appends `input` in base64.
pub(crate) fn encode(input: &[u8], output: &mut Vec<u8>) {
    let letter = |bits: u32| ALPHABET[(bits & 63) as usize];
    let mut groups = input.chunks_exact(3);
    for group in &mut groups {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        let text = [
            letter(bits >> 18),
            letter(bits >> 12),
            letter(bits >> 6),
            letter(bits),
        ];
        output.extend_from_slice(&text);
    }
    match *groups.remainder() {
        [a] => {
            let bits = u32::from_be_bytes([0, a, 0, 0]);
            output.extend_from_slice(&[letter(bits >> 18), letter(bits >> 12), b'=', b'=']);
        }
        [a, b] => {
            let bits = u32::from_be_bytes([0, a, b, 0]);
            let text = [
                letter(bits >> 18),
                letter(bits >> 12),
                letter(bits >> 6),
                b'=',
            ];
            output.extend_from_slice(&text);
        }
        _ => {}
    }
}

/// Decodes base64 into `output`, replacing what it held. False if `input` is not base64.
pub(crate) fn decode(input: &[u8], output: &mut Vec<u8>) -> bool {
    output.clear();
    if !input.len().is_multiple_of(4) {
        return false;
    }
    let padding = input
        .iter()
        .rev()
        .take(2)
        .take_while(|byte| **byte == b'=')
        .count();
    let mut wrong = 0u8;
    for group in input[..input.len() - padding].chunks(4) {
        let mut bits = 0u32;
        for index in 0..4 {
            let value = group
                .get(index)
                .map_or(0, |byte| VALUES[usize::from(*byte)]);
            wrong |= value;
            bits = bits << 6 | u32::from(value);
        }
        let bytes = bits.to_be_bytes();
        output.extend_from_slice(&bytes[1..group.len()]); // 4 letters: 3 bytes, 3: 2, 2: 1
    }
    wrong & 0x80 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Target;

    #[test]
    fn base64_of_the_standard() {
        let pairs = [
            "",
            "f Zg==",
            "fo Zm8=",
            "foo Zm9v",
            "foob Zm9vYg==",
            "fooba Zm9vYmE=",
        ];
        for pair in pairs {
            let (plain, text) = pair.split_once(' ').unwrap_or_default();
            let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
            encode(plain.as_bytes(), &mut encoded);
            assert_eq!(encoded, text.as_bytes());
            assert!(decode(text.as_bytes(), &mut decoded));
            assert_eq!(decoded, plain.as_bytes());
        }
        for wrong in ["a", "ab", "abc", "ab!=", "====", "a==="] {
            assert!(!decode(wrong.as_bytes(), &mut Vec::new()), "{wrong}");
        }
    }

    #[test]
    fn numbers_and_names() {
        let mut plan = Plan::new(Target::Login("/a".into()));
        plan.suffix = "@b.c".to_owned();
        let mut names = Names::new(&plan);
        assert_eq!(names.of(4_294_967_295), b"user4294967295@b.c");
        assert_eq!(names.of(0), b"user0@b.c");
        let mut password = Vec::new();
        names.password(7, true, &mut password);
        assert_eq!(password, b"pw-wrong");
        plan.password = "a{n}b".to_owned();
        password.clear();
        Names::new(&plan).password(7, false, &mut password);
        assert_eq!(password, b"a7b");
        plan.accounts = Some(Accounts::parse("x:1\ny:2").unwrap());
        let mut names = Names::new(&plan);
        assert_eq!(names.of(1), b"y");
        password.clear();
        names.password(1, false, &mut password);
        assert_eq!(password, b"2");
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for wrong in ["", "4294967296", "-1", "1a", "00000000001"] {
            assert_eq!(number(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
