//! Reads the configuration language of Dovecot 2.3 into a tree of sections. What the values mean is
//! not known here (docs/protocol/configuration.md, Dovecot's files).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ImportError;

/// Deepest nesting of files and of sections; real ones have three of each.
const MAX_DEPTH: usize = 16;
/// Most files of one configuration.
const MAX_FILES: usize = 1_000;
/// Longest file in bytes.
const MAX_FILE: u64 = 16 << 20;

/// A value and where it was last set.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) value: String,
    /// `file:line`.
    pub(super) at: String,
}

/// A section with all its settings; sections of one kind and name are one, whatever their case.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) settings: BTreeMap<String, Set>,
    pub(super) sections: Vec<Section>,
}

impl Section {
    /// Value of a setting.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(|s| s.value.as_str())
    }

    /// Sections of one kind.
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(move |s| s.kind == kind)
    }

    fn at_path(&mut self, path: &[usize]) -> &mut Section {
        path.iter()
            .fold(self, |section, &n| &mut section.sections[n])
    }

    fn enter(&mut self, kind: &str, name: &str) -> usize {
        let same = |s: &Section| s.kind == kind && s.name.eq_ignore_ascii_case(name);
        let n = self.sections.iter().position(same).unwrap_or_else(|| {
            let section = Section {
                kind: kind.to_owned(),
                ..Section::default()
            };
            self.sections.push(section);
            self.sections.len() - 1
        });
        self.sections[n].name = name.to_owned();
        n
    }
}

/// Reads a file and what it includes.
pub(super) fn read_file(path: &Path) -> Result<Section, ImportError> {
    let mut reader = Reader::default();
    reader.file(path, 0)?;
    Ok(reader.root)
}

/// Reads a text; relative includes are taken from the current directory.
pub(super) fn read_text(name: &str, text: &str) -> Result<Section, ImportError> {
    let mut reader = Reader::default();
    reader.text(Path::new(name), text, 0)?;
    Ok(reader.root)
}

#[derive(Default)]
struct Reader {
    root: Section,
    files: usize,
}

impl Reader {
    fn file(&mut self, path: &Path, depth: usize) -> Result<(), ImportError> {
        let unreadable = |reason: String| ImportError::Read {
            file: path.to_owned(),
            reason,
        };
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            return Err(unreadable("too many files include each other".to_owned()));
        }
        let size = std::fs::metadata(path)
            .map_err(|e| unreadable(e.to_string()))?
            .len();
        if size > MAX_FILE {
            return Err(unreadable(format!("it is longer than {MAX_FILE} bytes")));
        }
        let bytes = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        self.text(path, &String::from_utf8_lossy(&bytes), depth)
    }

    fn text(&mut self, file: &Path, text: &str, depth: usize) -> Result<(), ImportError> {
        let mut open: Vec<usize> = Vec::new();
        let mut whole = String::new();
        for (n, line) in text.lines().enumerate() {
            let at = |what: String| ImportError::Syntax {
                file: file.to_owned(),
                line: n + 1,
                what,
            };
            let line = line.trim_matches([' ', '\t', '\r']);
            if line.starts_with('#') && whole.is_empty() {
                continue;
            }
            if let Some(start) = line.strip_suffix('\\') {
                whole.push_str(start.trim_end());
                whole.push(' ');
                continue;
            }
            whole.push_str(line);
            let line = without_comment(&std::mem::take(&mut whole));
            if let Some(include) = line.strip_prefix('!') {
                self.include(file, include, depth)
                    .map_err(|e| e.or_at(at))?;
            } else if line == "}" {
                open.pop().ok_or_else(|| at("Unexpected '}'".to_owned()))?;
            } else if let Some(head) = section_head(&line) {
                let (kind, name) = head.map_err(at)?;
                if open.len() >= MAX_DEPTH {
                    return Err(at("Sections are nested too deeply".to_owned()));
                }
                let n = self.root.at_path(&open).enter(kind, unquote(name).as_str());
                open.push(n);
            } else if let Some((key, value)) = line.split_once('=') {
                let place = format!("{}:{}", file.display(), n + 1);
                let set = Set {
                    value: unquote(value.trim()),
                    at: place,
                };
                self.root
                    .at_path(&open)
                    .settings
                    .insert(key.trim().to_owned(), set);
            } else if !line.is_empty() {
                return Err(at("Expecting '{'".to_owned()));
            }
        }
        match open.is_empty() {
            true => Ok(()),
            false => Err(ImportError::Syntax {
                file: file.to_owned(),
                line: text.lines().count(),
                what: "Missing '}'".to_owned(),
            }),
        }
    }

    fn include(&mut self, from: &Path, line: &str, depth: usize) -> Result<(), Fault> {
        let (word, pattern) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let must = match word {
            "include" => true,
            "include_try" => false,
            _ => return Err(Fault::Here(format!("Unknown directive !{word}"))),
        };
        let dir = from.parent().unwrap_or(Path::new("."));
        let pattern = dir.join(unquote(pattern.trim()));
        let found: Vec<PathBuf> = glob::glob(&pattern.to_string_lossy())
            .map_err(|e| Fault::Here(format!("Invalid pattern: {e}")))?
            .filter_map(Result::ok)
            .collect();
        if found.is_empty() && must {
            return Err(Fault::Here(format!(
                "No file matches {}",
                pattern.display()
            )));
        }
        for file in found {
            self.file(&file, depth + 1).map_err(Fault::There)?;
        }
        Ok(())
    }
}

/// A fault of an include: in the line itself, or in the file that it names.
enum Fault {
    Here(String),
    There(ImportError),
}

impl Fault {
    fn or_at(self, at: impl Fn(String) -> ImportError) -> ImportError {
        match self {
            Fault::Here(what) => at(what),
            Fault::There(error) => error,
        }
    }
}

/// Cuts a comment off: from a `#` outside quotes to the end of the line.
fn without_comment(line: &str) -> String {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(_), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(q), c) if c == q && !escaped => quote = None,
            // A quote counts only where a value begins, so that an apostrophe does no harm.
            (None, '"' | '\'') if line[..at].trim_end().ends_with('=') => quote = Some(c),
            (None, '#') => return line[..at].trim_end().to_owned(),
            _ => {}
        }
        escaped = false;
    }
    line.trim_end().to_owned()
}

/// Kind and name of a line that opens a section; `None` when it does not.
fn section_head(line: &str) -> Option<Result<(&str, &str), String>> {
    let brace = line.find('{')?;
    if line[..brace].contains('=') {
        return None;
    }
    if !line[brace + 1..].trim().is_empty() {
        return Some(Err("Garbage after '{'".to_owned()));
    }
    let head = line[..brace].trim();
    let (kind, name) = head.split_once([' ', '\t']).unwrap_or((head, ""));
    Some(Ok((kind, name.trim())))
}

fn unquote(text: &str) -> String {
    for quote in ['"', '\''] {
        let inner = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner
                .replace(&format!("\\{quote}"), &quote.to_string())
                .replace("\\\\", "\\");
        }
    }
    text.to_owned()
}
