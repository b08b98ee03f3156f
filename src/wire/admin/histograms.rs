//! Rows of HOMING-HISTOGRAMS: how long lookups took (docs/protocol/admin.md, histograms).

use super::read::Unexpected;
use crate::wire::line::{escape_into, fields, push_number, unescape};

/// Most values of a row, so that a row stays far below what a client reads.
const VALUES_PER_ROW: usize = 128;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistogramRow {
    /// The first row.
    Cores {
        /// Serving cores of the director.
        total: u64,
        /// Those whose lookups are counted in the rows that follow.
        counted: u64,
    },
    /// A histogram, or a part of it: rows of the same kind and name belong together.
    Counts(Counts),
}

/// How often values were counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// `socket` or `delay`; there may be more one day.
    pub kind: String,
    /// Which socket type, or why lookups waited.
    pub name: String,
    /// Nanoseconds, and how many lookups took so long: the histogram's own steps, each told by its
    /// longest time.
    pub counts: Vec<(u64, u64)>,
}

impl HistogramRow {
    /// Appends it; long histograms become several rows.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            HistogramRow::Cores { total, counted } => {
                out.extend_from_slice(b"cores");
                number(*total, out);
                number(*counted, out);
                out.push(b'\n');
            }
            HistogramRow::Counts(row) => {
                // One without values has a row too: it is there, and empty.
                let parts = row.counts.chunks(VALUES_PER_ROW);
                let empty = row.counts.is_empty().then_some(&[][..]);
                for part in parts.chain(empty) {
                    escape_into(row.kind.as_bytes(), out);
                    out.push(b'\t');
                    escape_into(row.name.as_bytes(), out);
                    for &(nanos, count) in part {
                        number(nanos, out);
                        out.push(b':');
                        push_number(count, out);
                    }
                    out.push(b'\n');
                }
            }
        }
    }
}

fn number(number: u64, out: &mut Vec<u8>) {
    out.push(b'\t');
    push_number(number, out);
}

/// A row.
///
/// # Errors
/// A field is missing or is not what it should be.
pub fn histogram(line: &[u8]) -> Result<HistogramRow, Unexpected> {
    read(line).ok_or_else(|| Unexpected::new("row of HOMING-HISTOGRAMS", line))
}

fn read(line: &[u8]) -> Option<HistogramRow> {
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    let mut fields = fields(line);
    let kind = text(fields.next()?);
    let second = fields.next()?;
    if kind == "cores" {
        return Some(HistogramRow::Cores {
            total: digits(second)?,
            counted: digits(fields.next()?)?,
        });
    }
    let count = |field: &[u8]| {
        let at = memchr::memchr(b':', field)?;
        Some((digits(&field[..at])?, digits(&field[at + 1..])?))
    };
    Some(HistogramRow::Counts(Counts {
        kind,
        name: text(second),
        counts: fields.map(count).collect::<Option<_>>()?,
    }))
}

fn digits(field: &[u8]) -> Option<u64> {
    let is_number = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(field).ok().filter(|_| is_number)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(row: &HistogramRow) -> String {
        let mut out = Vec::new();
        row.write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn rows_as_they_are_described() {
        let (total, counted) = (4, 3);
        let cores = HistogramRow::Cores { total, counted };
        assert_eq!(written(&cores), "cores\t4\t3\n");
        let row = |counts: &[(u64, u64)]| {
            HistogramRow::Counts(Counts {
                kind: "delay".to_owned(),
                name: "weak user".to_owned(),
                counts: counts.to_vec(),
            })
        };
        assert_eq!(written(&row(&[])), "delay\tweak user\n");
        assert_eq!(
            written(&row(&[(1023, 5), (60_129_542_143, 1)])),
            "delay\tweak user\t1023:5\t60129542143:1\n"
        );
        for wrong in [
            "",
            "cores\t4",
            "socket",
            "socket\tlogin\t1",
            "socket\tlogin\t1:x",
        ] {
            assert!(histogram(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn histograms_come_back(
            kind: String, name: String, counts in prop::collection::vec(any::<(u64, u64)>(), 0..400),
        ) {
            prop_assume!(kind != "cores");
            let row = Counts { kind, name, counts };
            let text = written(&HistogramRow::Counts(row.clone()));
            let mut together = Counts { counts: Vec::new(), ..row.clone() };
            for line in text.lines() {
                // What a client of today reads as one line.
                prop_assert!(line.len() < 8192 - 2 * (row.kind.len() + row.name.len()));
                match histogram(line.as_bytes()) {
                    Ok(HistogramRow::Counts(part)) => {
                        prop_assert_eq!((&part.kind, &part.name), (&row.kind, &row.name));
                        together.counts.extend(part.counts);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert_eq!(together, row);
        }

        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = histogram(&line);
        }
    }
}
