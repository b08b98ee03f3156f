//! Writes the settings file of an import.

use std::fmt::Write;

use super::listeners::{At, Found};
use super::{Import, NoteKind};
use crate::settings::listener::kind_name;

/// Longest comment line.
const WIDTH: usize = 98;

/// A TOML string.
pub(super) fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A TOML array of a blank-separated list: one line, or one item a line.
pub(super) fn list(text: &str) -> String {
    let items: Vec<_> = text
        .split(' ')
        .filter(|t| !t.is_empty())
        .map(string)
        .collect();
    let line = format!("[{}]", items.join(", "));
    if line.len() <= WIDTH - 24 {
        return line;
    }
    let lines: String = items.iter().map(|item| format!("    {item},\n")).collect();
    format!("[\n{lines}]")
}

/// The whole file.
pub(super) fn settings_file(import: &Import<'_>, listeners: &[Found]) -> String {
    let mut out = String::from("# Settings of Homing, made from a configuration of Dovecot 2.3.\n");
    let parts = [
        (NoteKind::Notice, "To know:"),
        (NoteKind::Dropped, "Not carried over:"),
        (NoteKind::Change, "To change in Dovecot's configuration:"),
    ];
    for (kind, title) in parts {
        let mut notes = import.notes.iter().filter(|n| n.kind == kind).peekable();
        if notes.peek().is_some() {
            let _ = writeln!(out, "#\n# {title}");
        }
        for note in notes {
            comment(&note.text, &mut out);
        }
    }
    out.push('\n');
    for (key, value) in &import.settings {
        let _ = writeln!(out, "{key} = {value}");
    }
    for found in listeners {
        listener(found, &mut out);
    }
    out
}

fn listener(found: &Found, out: &mut String) {
    let _ = writeln!(out, "\n# was {}", printable(&found.was));
    let _ = writeln!(out, "[[listener]]\ntype = \"{}\"", kind_name(found.kind));
    match &found.at {
        At::Path {
            path,
            fifo,
            mode,
            owner,
            group,
        } => {
            let _ = writeln!(out, "path = {}\nmode = \"{mode:04o}\"", string(path));
            for (key, name) in [("owner", owner), ("group", group)] {
                if let Some(name) = name {
                    let _ = writeln!(out, "{key} = {}", string(name));
                }
            }
            if let Some(fifo) = fifo {
                let _ = writeln!(out, "fifo = {fifo}");
            }
        }
        At::Tcp { address, allow } => {
            let _ = writeln!(out, "address = {}", string(address));
            if *allow {
                let _ = writeln!(out, "allow = [\"127.0.0.0/8\", \"::1\"]");
            }
        }
    }
}

/// A text that may stand in a comment, which TOML does not let control characters do.
fn printable(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// One note, wrapped; lines after a line break keep their indentation.
fn comment(text: &str, out: &mut String) {
    for (n, paragraph) in text.lines().map(printable).enumerate() {
        if n > 0 {
            let _ = writeln!(out, "#   {paragraph}");
            continue;
        }
        let mut line = String::from("# -");
        for word in paragraph.split(' ') {
            if line.len() + 1 + word.len() > WIDTH && line.len() > 3 {
                let _ = writeln!(out, "{line}");
                line = String::from("#  ");
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(out, "{line}");
    }
}
