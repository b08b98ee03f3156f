//! What people and programs read.
//!
//! Tables are plain: titles, then rows, columns two blanks apart, so that `awk` and `grep` can work
//! on them. On a terminal, cells that would make a line wrap are cut; elsewhere nothing is.

use std::io::{self, IsTerminal, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use terminal_size::{Width, terminal_size};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::failure::Failure;

/// Blanks between columns.
const GAP: usize = 2;
/// A column is not cut below this.
const NARROWEST: usize = 8;

/// Which side a column's text is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}
use Side::{Left, Right};

/// Rows under titles.
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table. A title that ends in `#` has numbers, on the right; the `#` is not shown.
    pub(super) fn new(titles: &[&'static str]) -> Table {
        let column = |title: &&'static str| match title.strip_suffix('#') {
            Some(title) => (title, Right),
            None => (*title, Left),
        };
        let columns = titles.iter().map(column).collect();
        let rows = Vec::new();
        Table { columns, rows }
    }

    /// One more row, with a cell for every column. An empty cell shows as `-`, so that it is seen.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.columns.len(), "cells of a row");
        self.rows.push(cells.map(shown).to_vec());
    }

    /// Lines, each with its LF. `room`: columns of the terminal; `None` when it is none.
    pub(super) fn render(&self, room: Option<usize>) -> String {
        let widths = self.widths(room);
        let mut text = String::new();
        let titles = self.columns.iter().map(|(title, _)| *title).collect();
        let rows = self
            .rows
            .iter()
            .map(|row| row.iter().map(String::as_str).collect());
        for row in std::iter::once(titles).chain(rows) {
            let row: Vec<&str> = row;
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let side = self.columns[at].1;
                add_cell(cell, widths[at], side, &mut line);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Widest cells, cut evenly from the widest column on until the lines fit.
    fn widths(&self, room: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<_> = self
            .columns
            .iter()
            .map(|(title, _)| title.width())
            .collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let gaps = GAP * widths.len().saturating_sub(1);
        while let Some(room) = room
            && widths.iter().sum::<usize>() + gaps > room
            && let Some(widest) = widths.iter_mut().max()
            && *widest > NARROWEST
        {
            *widest -= 1;
        }
        widths
    }
}

/// What a cell shows.
fn shown(cell: String) -> String {
    match cell.as_str() {
        "" => "-".to_owned(),
        _ => safe(&cell),
    }
}

/// Text without characters that a terminal would act on.
pub(super) fn safe(text: &str) -> String {
    let safe = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(safe).collect()
}

fn add_cell(cell: &str, width: usize, side: Side, line: &mut String) {
    if !line.is_empty() {
        line.push_str(&" ".repeat(GAP));
    }
    let cut = cut(cell, width);
    let blanks = " ".repeat(width.saturating_sub(cut.width()));
    match side {
        Left => line.extend([cut.as_str(), &blanks]),
        Right => line.extend([&blanks, cut.as_str()]),
    }
}

/// At most `width` columns; an ellipsis says that something is missing.
fn cut(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let mut text = String::new();
    for c in cell.chars() {
        let needs = c.width().unwrap_or(0);
        if needs > left {
            break;
        }
        left -= needs;
        text.push(c);
    }
    text + "…"
}

/// Prints a table, or the same as JSON.
pub(super) fn list<T: Serialize>(
    json: bool,
    rows: &[T],
    table: impl FnOnce() -> Table,
) -> Result<(), Failure> {
    if json {
        return self::json(&rows);
    }
    print(&table().render(terminal()))
}

/// Prints one JSON document.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::temporary(format!("JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Prints text. A reader that has gone away, such as `head`, is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::temporary(
            format!("standard output cannot be written: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Columns of the terminal; `None`: the output goes elsewhere.
pub(super) fn terminal() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let (Width(width), _) = terminal_size()?;
    (width > 0).then_some(usize::from(width))
}

/// A time for people, local; 0 is `never`.
pub(super) fn time(seconds: u64) -> String {
    if seconds == 0 {
        return "never".to_owned();
    }
    in_zone(seconds, TimeZone::system())
}

fn in_zone(seconds: u64, zone: TimeZone) -> String {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    match time {
        Some(time) => {
            let time = time.to_zoned(zone);
            time.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        // Beyond the year 9999: a director may say so all the same.
        None => format!("@{seconds}"),
    }
}

/// A length of time for people, with three digits.
pub(super) fn duration(nanos: u64) -> String {
    let [micros, millis, seconds] = [1e3, 1e6, 1e9].map(|unit| nanos as f64 / unit);
    let (number, unit) = match nanos {
        // From where it would be rounded to a thousand of its unit.
        0..=999 => return format!("{nanos} ns"),
        1_000..=999_499 => (micros, "µs"),
        999_500..=999_499_999 => (millis, "ms"),
        _ => (seconds, "s"),
    };
    let digits = match number {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

/// A time for programs: seconds since 1970, nothing for never.
pub(super) fn stamp(seconds: u64) -> Option<u64> {
    (seconds > 0).then_some(seconds)
}

/// Bytes that are meant to be text, e.g. a tag.
pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> Table {
        let mut table = Table::new(&["address", "users#", "tag"]);
        table.row(["10.0.0.1".to_owned(), "5".to_owned(), String::new()]);
        table.row([
            "2001:db8::1:2".to_owned(),
            "1200".to_owned(),
            "t1".to_owned(),
        ]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(
            table().render(None),
            "address        users  tag\n\
             10.0.0.1           5  -\n\
             2001:db8::1:2   1200  t1\n"
        );
        assert_eq!(table().render(Some(80)), table().render(None));
        assert_eq!(Table::new(&["a", "b#"]).render(None), "a  b\n");
    }

    #[test]
    fn a_terminal_cuts_the_widest() {
        assert_eq!(
            table().render(Some(21)),
            "address    users  tag\n\
             10.0.0.1       5  -\n\
             2001:db8…   1200  t1\n"
        );
        // Nothing is cut to nothing.
        assert_eq!(table().render(Some(1)).lines().count(), 3);
    }

    #[test]
    fn names_do_not_act_on_the_terminal_and_wide_ones_are_counted_as_such() {
        let mut table = Table::new(&["user", "n"]);
        table.row(["a\u{1b}[31mb".to_owned(), "1".to_owned()]);
        table.row(["日本".to_owned(), "2".to_owned()]);
        assert_eq!(
            table.render(None),
            "user     n\na\u{fffd}[31mb  1\n日本     2\n"
        );
        assert_eq!(cut("日本語日本", 6), "日本…");
    }

    #[test]
    fn times() {
        assert_eq!(time(0), "never");
        assert_eq!(in_zone(1_795_459_103, TimeZone::UTC), "2026-11-23 18:38:23");
        assert_eq!(in_zone(u64::MAX, TimeZone::UTC), "@18446744073709551615");
        assert_eq!((stamp(0), stamp(7)), (None, Some(7)));
    }

    #[test]
    fn lengths_of_time() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (999_600_000, "1.00 s"),
            (61_200_000_000, "61.2 s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(
            cells in prop::collection::vec(("\\PC{0,30}", "[0-9]{0,8}"), 0..5), room in 20..120usize,
        ) {
            let mut table = Table::new(&["text", "number#"]);
            for (text, number) in cells {
                table.row([text, number]);
            }
            for line in table.render(Some(room)).lines() {
                prop_assert!(line.width() <= room, "{line:?}");
            }
        }
    }
}
