//! Values of single settings: text to value, with Dovecot's grammar and error texts
//! (docs/protocol/configuration.md, values).

use std::path::{Path, PathBuf};

/// The type of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole seconds, written with a unit.
    Time,
    /// Unsigned number.
    Uint,
    /// Bytes, with or without a unit.
    Size,
    /// Yes or no.
    Bool,
    /// Text.
    Text,
    /// Path; relative ones are taken from `base_dir`.
    Path,
    /// Path that must be absolute.
    AbsolutePath,
    /// Items, as a TOML array or in one blank-separated string.
    List,
}

impl Kind {
    /// Its name in the settings reference.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Time => "time",
            Kind::Uint => "number",
            Kind::Size => "size",
            Kind::Bool => "yes or no",
            Kind::Text => "text",
            Kind::Path => "path",
            Kind::AbsolutePath => "absolute path",
            Kind::List => "list",
        }
    }

    /// What a value looks like.
    pub fn accepts(self) -> &'static str {
        match self {
            Kind::Time => "a time with a unit (s, min, hours, days, weeks), e.g. \"15 min\", or 0",
            Kind::Uint => "a whole number without sign",
            Kind::Size => "a size in bytes, or with K, M, G or T, e.g. \"10 M\"",
            Kind::Bool => "true or false, also \"yes\" or \"no\"",
            Kind::Text => "a string",
            Kind::Path => "a path; a relative one is taken from base_dir",
            Kind::AbsolutePath => "an absolute path",
            Kind::List => "an array of strings, or one string with items separated by blanks",
        }
    }
}

/// A setting's value before anything is looked up or compared with other settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Seconds.
    Time(u32),
    /// Number.
    Uint(u64),
    /// Bytes.
    Size(u64),
    /// Yes.
    Bool(bool),
    /// Text.
    Text(String),
    /// Path; empty for none.
    Path(PathBuf),
}

fn yes(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("Invalid boolean value: {text} (use yes or no)")),
    }
}

/// Reads a value of any kind but [`Kind::List`]. `max` bounds numbers while they are read; ranges
/// are the caller's. Errors are one sentence, Dovecot's where it has one.
pub fn parse(kind: Kind, text: &str, max: u64) -> Result<Value, String> {
    match kind {
        Kind::Time => time(text).map(Value::Time),
        Kind::Uint => uint(text, max).map(Value::Uint),
        Kind::Size => size(text).map(Value::Size),
        Kind::Bool => yes(text).map(Value::Bool),
        Kind::Text => plain(text).map(Value::Text),
        Kind::Path => plain(text).map(|t| Value::Path(t.into())),
        Kind::AbsolutePath => absolute(text).map(Value::Path),
        Kind::List => unreachable!("lists are read item by item"),
    }
}

/// The number of a setting that is written as a bare number.
pub(crate) fn parse_number(kind: Kind, text: &str) -> Option<u64> {
    (kind == Kind::Uint)
        .then(|| text.trim().parse().ok())
        .flatten()
}

fn plain(text: &str) -> Result<String, String> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("The control character {c:?} is not accepted")),
        None => Ok(text.to_owned()),
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let text = plain(text)?;
    if !text.is_empty() && !Path::new(&text).is_absolute() {
        return Err(format!("The path '{text}' is not absolute"));
    }
    Ok(text.into())
}

/// Units of time in seconds, each name allowing any of its beginnings. Order decides: `m` is
/// minutes.
const TIME_UNITS: [(&str, u64); 9] = [
    ("secs", 1),
    ("seconds", 1),
    ("mins", 60),
    ("minutes", 60),
    ("hours", 3600),
    ("days", 86_400),
    ("weeks", 604_800),
    ("msecs", 0),
    ("mseconds", 0),
];
const MILLISECOND_UNITS: [&str; 2] = ["millisecs", "milliseconds"];

/// Seconds: a number and a unit, or 0. Fits in 32 bits.
pub fn time(text: &str) -> Result<u32, String> {
    let text = text.trim();
    let (digits, unit) = split_number(text);
    let invalid = || format!("Invalid time interval: {text}");
    let too_large = || format!("Time interval is too large: {text}");
    if digits.is_empty() {
        return Err(invalid());
    }
    let number: u64 = digits.parse().map_err(|_| too_large())?;
    if unit.is_empty() {
        return match number {
            0 => Ok(0),
            _ => Err(format!(
                "Time interval '{text}' is missing units (add e.g. 's' for seconds)"
            )),
        };
    }
    let unit = unit.to_ascii_lowercase();
    let factor = TIME_UNITS
        .iter()
        .find(|(name, _)| name.starts_with(&unit))
        .map(|(_, f)| *f);
    let seconds = match factor {
        Some(0) | None => {
            if factor.is_none() && !MILLISECOND_UNITS.iter().any(|n| n.starts_with(&unit)) {
                return Err(invalid());
            }
            if !number.is_multiple_of(1000) {
                return Err(format!(
                    "Milliseconds not supported for this setting: {text}"
                ));
            }
            number / 1000
        }
        Some(factor) => number.checked_mul(factor).ok_or_else(too_large)?,
    };
    u32::try_from(seconds).map_err(|_| too_large())
}

/// A number of 0 to `max`.
pub fn uint(text: &str, max: u64) -> Result<u64, String> {
    let text = text.trim();
    let problem = |what: &str| Err(format!("Invalid number {text}: {what}"));
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return problem("Not a valid number");
    }
    if text.starts_with('-') {
        return problem("Number too small");
    }
    match digits.parse::<u64>() {
        Ok(number) if number <= max => Ok(number),
        _ => problem("Number too large"),
    }
}

/// Bytes: a number, then perhaps `B`, or `K M G T` with an optional `i` and `B`; powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, unit) = split_number(text);
    let invalid = || format!("Invalid size: {text}");
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        "t" | "tb" | "ti" | "tib" => 40,
        _ => return Err(invalid()),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("Size is too large: {text}"))
}

/// A TCP port of 1 to 65535.
pub fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("Invalid port number {text}")),
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start_matches(' '))
}

/// A number of seconds as it would be written in a settings file.
pub fn show_time(seconds: u64) -> String {
    match seconds {
        0 => "0".to_owned(),
        s if s.is_multiple_of(3600) => format!("{} hours", s / 3600),
        s if s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// A number of bytes as it would be written in a settings file.
pub fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let good = [
            ("0", 0),
            ("15 min", 900),
            ("15min", 900),
            ("15 MINUTES", 900),
            ("1m", 60),
            ("1 M", 60),
            ("2h", 7200),
            ("1 day", 86_400),
            ("1w", 604_800),
            ("30 s", 30),
            ("30 sec", 30),
            ("2000ms", 2),
            ("2000 milli", 2),
            ("007 s", 7),
        ];
        for (text, want) in good {
            assert_eq!(time(text), Ok(want), "{text}");
        }
        let bad = [
            (
                "15",
                "Time interval '15' is missing units (add e.g. 's' for seconds)",
            ),
            ("1 x", "Invalid time interval: 1 x"),
            ("", "Invalid time interval: "),
            ("-1 s", "Invalid time interval: -1 s"),
            ("1.5 s", "Invalid time interval: 1.5 s"),
            (
                "500ms",
                "Milliseconds not supported for this setting: 500ms",
            ),
            ("5000000000s", "Time interval is too large: 5000000000s"),
            (
                "99999999999999999999 w",
                "Time interval is too large: 99999999999999999999 w",
            ),
        ];
        for (text, want) in bad {
            assert_eq!(time(text), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn numbers_sizes_ports() {
        assert_eq!(uint("007", 10), Ok(7));
        for (text, why) in [
            ("5x", "Not a valid number"),
            ("", "Not a valid number"),
            ("+1", "Not a valid number"),
            ("-1", "Number too small"),
            ("4294967296", "Number too large"),
            ("99999999999999999999999", "Number too large"),
        ] {
            assert_eq!(
                uint(text, u32::MAX.into()),
                Err(format!("Invalid number {text}: {why}"))
            );
        }
        for (text, want) in [
            ("10", 10),
            ("10 B", 10),
            ("10M", 10 << 20),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(want));
        }
        for text in ["x", "", "10 Q", "-1"] {
            assert_eq!(size(text), Err(format!("Invalid size: {text}")));
        }
        assert_eq!(
            size("99999999 T"),
            Err("Size is too large: 99999999 T".to_owned())
        );
        assert_eq!(port("9090"), Ok(9090));
        for text in ["0", "65536", "+1", ""] {
            assert_eq!(port(text), Err(format!("Invalid port number {text}")));
        }
    }

    #[test]
    fn shown_values_read_back() {
        for seconds in [0, 1, 59, 60, 90, 900, 3600, 86_400] {
            assert_eq!(time(&show_time(seconds)), Ok(seconds as u32));
        }
        for bytes in [0, 1, 1024, 1500, 10 << 20, 1 << 40] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
    }
}
