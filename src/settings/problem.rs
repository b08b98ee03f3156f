//! What is wrong with a settings file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// One fault (or, among the warnings, one oddity) of a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The settings file, as it was named to the loader.
    pub file: PathBuf,
    /// Line, counted from 1; 0 when it concerns no line (a missing setting, an unreadable file).
    pub line: usize,
    /// Column in characters, counted from 1; 0 with line 0.
    pub column: usize,
    /// The setting; `listener.mode` for a key inside a `[[listener]]`; empty for syntax.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What is accepted instead; may be empty.
    pub accepted: String,
}

impl Problem {
    /// One that shows only outside of the file, e.g. in a file that it names.
    pub fn of_file(file: &Path, key: String, what: String) -> Problem {
        Problem {
            file: file.to_owned(),
            line: 0,
            column: 0,
            key,
            what,
            accepted: String::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.what)?;
        if !self.accepted.is_empty() {
            write!(f, "\n    accepted: {}", self.accepted)?;
        }
        Ok(())
    }
}

/// Collects problems while one file is read; knows where its lines begin.
pub(crate) struct Problems<'a> {
    file: &'a Path,
    text: &'a str,
    pub(crate) errors: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Problems<'a> {
        Problems {
            file,
            text,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Text of the file, for finding an item inside a string.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Adds an error at a byte offset of the file.
    pub(crate) fn error(
        &mut self,
        at: Option<usize>,
        key: &str,
        what: impl Into<String>,
        accepted: impl Into<String>,
    ) {
        let problem = self.problem(at, key, what.into(), accepted.into());
        self.errors.push(problem);
    }

    /// Adds a warning at a byte offset of the file.
    pub(crate) fn warning(&mut self, at: Option<usize>, key: &str, what: impl Into<String>) {
        let problem = self.problem(at, key, what.into(), String::new());
        self.warnings.push(problem);
    }

    fn problem(&self, at: Option<usize>, key: &str, what: String, accepted: String) -> Problem {
        let (line, column) = at.map_or((0, 0), |at| self.position(at));
        Problem {
            file: self.file.to_owned(),
            line,
            column,
            key: key.to_owned(),
            what,
            accepted,
        }
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }

    /// In order of the file; what concerns no line comes last.
    pub(crate) fn sort(&mut self) {
        for list in [&mut self.errors, &mut self.warnings] {
            list.sort_by_key(|p| (p.line == 0, p.line, p.column));
        }
    }
}
