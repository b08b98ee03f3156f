//! First step of loading: a TOML text to one value for every setting. Keys and types are checked
//! here, each value against its own row of the table; what belongs together is `resolve`'s.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::HealthCheck;
use super::health;
use super::kinds::{self, Kind, Value};
use super::listener::{self, Listed};
use super::problem::Problems;
use super::table::{self, Spec, TABLE};

/// One item of a list and its byte offset in the file.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) text: String,
    pub(crate) at: usize,
}

/// All values of a file, defaults filled in.
#[derive(Default)]
pub(crate) struct Document {
    values: BTreeMap<&'static str, Value>,
    lists: BTreeMap<&'static str, Vec<Item>>,
    places: BTreeMap<&'static str, usize>,
    pub(crate) listeners: Vec<Listed>,
    pub(crate) health_checks: Vec<HealthCheck>,
}

/// Reads a text. `None` when it is not TOML; the problems say why.
pub(crate) fn read(text: &str, problems: &mut Problems<'_>) -> Option<Document> {
    let (root, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        let at = fault.span().map(|s| s.start);
        problems.error(at, "", first_line(fault.message()), "TOML, see toml.io");
    }
    if !faults.is_empty() {
        return None;
    }
    let mut document = defaults();
    for (key, value) in root.get_ref() {
        let at = key.span().start;
        let name = key.get_ref().as_ref();
        if name == "listener" {
            document.listeners = listener::read(value.get_ref(), at, problems);
        } else if name == "health_check" {
            document.health_checks = health::read(value.get_ref(), at, problems);
        } else if let Some(spec) = table::find(name) {
            document.places.insert(spec.name, at);
            setting(spec, value.get_ref(), value.span(), &mut document, problems);
        } else {
            unknown(name, value.get_ref(), at, problems);
        }
    }
    Some(document)
}

/// Every default of the table.
pub(crate) fn defaults() -> Document {
    let mut document = Document::default();
    for spec in TABLE.iter().filter(|s| s.kind != Kind::List) {
        let value = kinds::parse(spec.kind, spec.default, spec.max).expect("defaults are valid");
        document.values.insert(spec.name, value);
    }
    document
}

impl Document {
    /// The value of a setting that is no list.
    pub(crate) fn value(&self, name: &str) -> &Value {
        self.values
            .get(name)
            .expect("every setting of the table has a value")
    }

    /// Items of a list; empty when it is not set.
    pub(crate) fn list(&self, name: &str) -> &[Item] {
        self.lists.get(name).map_or(&[], Vec::as_slice)
    }

    /// Byte offset of the setting's key; `None` when the file does not set it.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }
}

fn first_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join("; ")
}

fn setting(
    spec: &'static Spec,
    value: &DeValue<'_>,
    span: Range<usize>,
    document: &mut Document,
    problems: &mut Problems<'_>,
) {
    if spec.kind == Kind::List {
        let items = list(spec, value, span, problems);
        document.lists.insert(spec.name, items);
        return;
    }
    let text = match as_text(spec.kind, value) {
        Ok(text) => text,
        Err(what) => return problems.error(Some(span.start), spec.name, what, spec.accepts()),
    };
    match kinds::parse(spec.kind, &text, spec.max).and_then(|v| in_range(spec, v)) {
        Ok(value) => {
            document.values.insert(spec.name, value);
        }
        Err(what) => problems.error(Some(span.start), spec.name, what, spec.accepts()),
    }
}

/// The text of a string; of an integer too, where numbers are accepted.
fn as_text(kind: Kind, value: &DeValue<'_>) -> Result<String, String> {
    match (kind, value) {
        (_, DeValue::String(text)) => Ok(text.to_string()),
        (Kind::Bool, DeValue::Boolean(yes)) => Ok(yes.to_string()),
        (Kind::Time | Kind::Uint | Kind::Size, DeValue::Integer(number)) => Ok(integer(number)),
        (Kind::Bool, other) => Err(format!("{} is not a boolean", article(other))),
        (_, other) => Err(format!("{} is not a string", article(other))),
    }
}

fn integer(number: &toml::de::DeInteger<'_>) -> String {
    match number.radix() {
        10 => number.as_str().trim_start_matches('+').to_owned(),
        radix => u64::from_str_radix(number.as_str(), radix)
            .map_or_else(|_| number.to_string(), |n| n.to_string()),
    }
}

fn article(value: &DeValue<'_>) -> String {
    match value.type_str() {
        kind @ ("integer" | "array") => format!("An {kind}"),
        kind => format!("A {kind}"),
    }
}

/// Checks a value against its row's range.
pub(crate) fn in_range(spec: &Spec, value: Value) -> Result<Value, String> {
    let number = match value {
        Value::Time(n) => n.into(),
        Value::Uint(n) | Value::Size(n) => n,
        Value::Bool(_) | Value::Text(_) | Value::Path(_) => return Ok(value),
    };
    match number {
        n if n < spec.min => Err(format!("{} is too low", spec.name)),
        n if n > spec.max => Err(format!("{} is too high", spec.name)),
        _ => Ok(value),
    }
}

fn list(
    spec: &Spec,
    value: &DeValue<'_>,
    span: Range<usize>,
    problems: &mut Problems<'_>,
) -> Vec<Item> {
    let mut items = Vec::new();
    match value {
        DeValue::String(text) => split(spec, text, span, &mut items, problems),
        DeValue::Array(array) => {
            for element in array.iter() {
                let at = element.span();
                match element.get_ref() {
                    DeValue::String(text) => split(spec, text, at, &mut items, problems),
                    other => {
                        let what = format!("{} in the list is not a string", article(other));
                        problems.error(Some(at.start), spec.name, what, spec.accepts());
                    }
                }
            }
        }
        other => {
            let what = format!("{} is neither a string nor an array", article(other));
            problems.error(Some(span.start), spec.name, what, spec.accepts());
        }
    }
    items
}

/// Cuts a string at its blanks. Other separators are refused: Dovecot would take a comma as part of
/// a name, and drop what follows a tab.
fn split(
    spec: &Spec,
    text: &str,
    span: Range<usize>,
    items: &mut Vec<Item>,
    problems: &mut Problems<'_>,
) {
    // Where the string is written without escapes, an item's place is known to the column.
    let written = &problems.text()[span.clone()];
    let offset = written.find(text).filter(|_| !text.is_empty());
    let place = |at: usize| span.start + offset.map_or(0, |o| o + at);
    let separator = |c: &char| matches!(c, ',' | ';') || c.is_control();
    if let Some((at, c)) = text.char_indices().find(|(_, c)| separator(c)) {
        let found = match c {
            '\t' => "a tab",
            ',' => "a comma",
            ';' => "a semicolon",
            '\n' => "a line break",
            _ => "a control character",
        };
        let what = format!("Items are separated by blanks only, here is {found}");
        problems.error(Some(place(at)), spec.name, what, spec.accepts());
        return;
    }
    let mut at = 0;
    for part in text.split(' ') {
        if !part.is_empty() {
            items.push(Item {
                text: part.to_owned(),
                at: place(at),
            });
        }
        at += part.len() + 1;
    }
}

fn unknown(name: &str, value: &DeValue<'_>, at: usize, problems: &mut Problems<'_>) {
    let what = format!("Unknown setting: {name}");
    let hint = match name {
        "director_consistent_hashing" => return consistent_hashing(value, at, problems),
        "director_doveadm_port" => {
            "a [[listener]] of type \"admin\" with an address and an allow list".to_owned()
        }
        "master_user_separator" => "auth_master_user_separator".to_owned(),
        "listeners" => "[[listener]]".to_owned(),
        "health_checks" => "[[health_check]]".to_owned(),
        _ => {
            let tables = ["listener", "health_check"];
            nearest(name, TABLE.iter().map(|s| s.name).chain(tables))
        }
    };
    problems.error(Some(at), name, what, hint);
}

fn consistent_hashing(value: &DeValue<'_>, at: usize, problems: &mut Problems<'_>) {
    let key = "director_consistent_hashing";
    let yes = value.as_bool() == Some(true) || value.as_str() == Some("yes");
    if yes {
        problems.warning(
            Some(at),
            key,
            "has been removed: consistent hashing is always on",
        );
    } else {
        problems.error(
            Some(at),
            key,
            "Consistent hashing is always on",
            "nothing: remove the line",
        );
    }
}

/// "did you mean", or all names when none is near.
pub(crate) fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    let known: Vec<_> = known.collect();
    let distance = |k: &str| strsim::damerau_levenshtein(name, k);
    let best = known
        .iter()
        .min_by_key(|k| distance(k))
        .copied()
        .unwrap_or_default();
    match distance(best) <= 1 + name.chars().count() / 4 {
        true => format!("did you mean {best}?"),
        false => known.join(", "),
    }
}
