//! What Homing directors tell each other of the health of backends (docs/protocol/health.md).
//!
//! Lines are cut by [`super::line::Splitter`] with [`MAX_LINE`]. The first one in each direction is
//! [`Line::Hello`]. A word that is not known is of a later version, and no error.

use std::net::IpAddr;

use super::ip_text::{ip_text, parse_lenient};
use super::line::{escape_into, fields, number, push_number, unescape};
use super::ring::DirectorId;

/// Major version; another one is refused.
pub const MAJOR: u32 = 1;
/// Minor version; another one is understood.
pub const MINOR: u32 = 0;
/// Most bytes of a line, LF included.
pub const MAX_LINE: usize = 1024;
/// Most bytes of an error's text; the rest is cut off.
pub const MAX_TEXT: usize = 256;
/// Most neighbours of a director.
pub const MAX_NEIGHBOURS: usize = 2;
/// Into so many steps a slow start is cut; [`Kind::Rising`] counts them from 0.
pub const STEPS: u8 = 5;

/// What a director says of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    #[default]
    Unknown,
    /// All of its checks are good.
    Good,
    /// One of its checks is bad.
    Failed,
}

/// Who has set the state of a backend, and what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Health may take it down.
    Auto,
    /// It stays as it is until it is released.
    Held,
    /// Health has ordered it down.
    Falling,
    /// Health has taken it down.
    Down,
    /// Health brings it back, and is at this step of the slow start.
    Rising(u8),
}

/// What all directors remember of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Who, and what.
    pub kind: Kind,
    /// The weight that it is to have, where slow start has given it another one.
    pub weight: Option<u32>,
    /// Since when it is up or down by health, as the ring has it, seconds since 1970; 0: not said.
    pub at: u64,
}

impl Mark {
    /// That of a backend of which nothing is remembered.
    pub const AUTO: Mark = Mark {
        kind: Kind::Auto,
        weight: None,
        at: 0,
    };
}

/// A mark as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkLine {
    /// The backend.
    pub ip: IpAddr,
    /// Counts up with each change.
    pub version: u64,
    /// Who has made the change.
    pub by: DirectorId,
    /// What is remembered.
    pub mark: Mark,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The first one.
    Hello {
        /// [`MINOR`] of the sender.
        minor: u32,
        /// Who it is in the director ring.
        me: DirectorId,
    },
    /// What the sender says of a backend.
    Vote {
        /// The backend.
        ip: IpAddr,
        /// What.
        verdict: Verdict,
        /// Since when, seconds since 1970.
        since: u64,
        /// Why it failed; empty otherwise.
        why: String,
    },
    /// The sender says nothing of a backend any more.
    Gone(IpAddr),
    /// What is remembered of a backend.
    Mark(MarkLine),
    /// Where the sender stands in the director ring.
    Ring {
        /// It has both neighbours, or there are no others.
        joined: bool,
        /// Its neighbours, and whether they have said that they are Homing: [`MAX_NEIGHBOURS`] at most.
        neighbours: Vec<(DirectorId, bool)>,
    },
    /// Everything that the sender has to say was said; to be answered by [`Line::Heard`].
    Beat(u64),
    /// The beat of this number has come.
    Heard(u64),
}

/// Why a line cannot be read; the sender is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// The first line is no greeting of this protocol.
    #[error("not the health port of a Homing: {0}")]
    NoHello(String),
    /// Another major version.
    #[error("version {0} of the health protocol, and not {MAJOR}")]
    OtherVersion(u32),
    /// A known word with wrong fields.
    #[error("wrong {0} line: {1}")]
    Wrong(&'static str, String),
}

const HELLO: &[u8] = b"HOMING-HEALTH";

impl Line {
    /// Appends the line, LF included. It is never longer than [`MAX_LINE`].
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Line::Hello { minor, me } => {
                out.extend_from_slice(HELLO);
                push(MAJOR.into(), out);
                push((*minor).into(), out);
                director(*me, out);
            }
            Line::Vote {
                ip,
                verdict,
                since,
                why,
            } => {
                out.extend_from_slice(b"VOTE");
                address(*ip, out);
                text(verdict.word(), out);
                push(*since, out);
                text(cut(why), out);
            }
            Line::Gone(ip) => {
                out.extend_from_slice(b"GONE");
                address(*ip, out);
            }
            Line::Mark(line) => {
                out.extend_from_slice(b"MARK");
                address(line.ip, out);
                push(line.version, out);
                director(line.by, out);
                let (word, step) = line.mark.kind.words();
                text(word, out);
                push(step.into(), out);
                match line.mark.weight {
                    Some(weight) => push(weight.into(), out),
                    None => text("", out),
                }
                push(line.mark.at, out);
            }
            Line::Ring { joined, neighbours } => {
                out.extend_from_slice(b"RING");
                push(u64::from(*joined), out);
                for (id, homing) in neighbours.iter().take(MAX_NEIGHBOURS) {
                    director(*id, out);
                    push(u64::from(*homing), out);
                }
            }
            Line::Beat(number) => {
                out.extend_from_slice(b"BEAT");
                push(*number, out);
            }
            Line::Heard(number) => {
                out.extend_from_slice(b"HEARD");
                push(*number, out);
            }
        }
        out.push(b'\n');
    }

    /// Reads a line without LF and CR. `None`: a word of a later version. Fields behind those that are known
    /// are not looked at.
    ///
    /// # Errors
    /// [`HealthError`].
    pub fn parse(line: &[u8]) -> Result<Option<Line>, HealthError> {
        let mut fields = Fields {
            word: "",
            line,
            rest: Box::new(fields(line)),
        };
        let word = fields.rest.next().unwrap_or_default();
        let known = WORDS.iter().find(|known| known.as_bytes() == word);
        let Some(&known) = known else {
            return Ok(None);
        };
        fields.word = known;
        Ok(Some(match known {
            "HOMING-HEALTH" => return fields.hello().map(Some),
            "VOTE" => Line::Vote {
                ip: fields.address()?,
                verdict: fields.verdict()?,
                since: fields.number()?,
                why: cut(&fields.text()?).to_owned(),
            },
            "GONE" => Line::Gone(fields.address()?),
            "MARK" => Line::Mark(fields.mark()?),
            "RING" => fields.ring()?,
            "BEAT" => Line::Beat(fields.number()?),
            _ => Line::Heard(fields.number()?),
        }))
    }

    /// Reads the first line of a connection.
    ///
    /// # Errors
    /// [`HealthError`].
    pub fn parse_hello(line: &[u8]) -> Result<(u32, DirectorId), HealthError> {
        match Line::parse(line) {
            Ok(Some(Line::Hello { minor, me })) => Ok((minor, me)),
            Err(error) => Err(error),
            Ok(_) => Err(HealthError::NoHello(shown(line))),
        }
    }
}

const WORDS: [&str; 7] = [
    "HOMING-HEALTH",
    "VOTE",
    "GONE",
    "MARK",
    "RING",
    "BEAT",
    "HEARD",
];

impl Verdict {
    /// Its name in lines and in tables.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Unknown => "unknown",
            Verdict::Good => "good",
            Verdict::Failed => "failed",
        }
    }
}

impl Kind {
    fn words(self) -> (&'static str, u8) {
        match self {
            Kind::Auto => ("auto", 0),
            Kind::Held => ("held", 0),
            Kind::Falling => ("falling", 0),
            Kind::Down => ("down", 0),
            Kind::Rising(step) => ("rising", step),
        }
    }
}

struct Fields<'a> {
    word: &'static str,
    line: &'a [u8],
    rest: Box<dyn Iterator<Item = &'a [u8]> + 'a>,
}

impl Fields<'_> {
    fn wrong(&self) -> HealthError {
        HealthError::Wrong(self.word, shown(self.line))
    }

    fn next(&mut self) -> Result<&[u8], HealthError> {
        match self.rest.next() {
            Some(field) => Ok(field),
            None => Err(HealthError::Wrong(self.word, shown(self.line))),
        }
    }

    fn number(&mut self) -> Result<u64, HealthError> {
        let parsed = wide(self.next()?);
        parsed.ok_or_else(|| self.wrong())
    }

    fn short(&mut self) -> Result<u32, HealthError> {
        let parsed = number(self.next()?);
        parsed.ok_or_else(|| self.wrong())
    }

    fn flag(&mut self) -> Result<bool, HealthError> {
        match self.next()? {
            b"0" => Ok(false),
            b"1" => Ok(true),
            _ => Err(self.wrong()),
        }
    }

    fn text(&mut self) -> Result<String, HealthError> {
        let bytes = unescape(self.next()?).into_owned();
        let text = String::from_utf8_lossy(&bytes);
        Ok(text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect())
    }

    fn address(&mut self) -> Result<IpAddr, HealthError> {
        let parsed = std::str::from_utf8(self.next()?)
            .ok()
            .and_then(parse_lenient);
        parsed.ok_or_else(|| self.wrong())
    }

    fn director(&mut self) -> Result<DirectorId, HealthError> {
        let ip = self.address()?;
        let port = u16::try_from(self.short()?).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| self.wrong())?;
        Ok(DirectorId { ip, port })
    }

    fn hello(mut self) -> Result<Line, HealthError> {
        match self.short()? {
            MAJOR => {}
            other => return Err(HealthError::OtherVersion(other)),
        }
        Ok(Line::Hello {
            minor: self.short()?,
            me: self.director()?,
        })
    }

    fn verdict(&mut self) -> Result<Verdict, HealthError> {
        let all = [Verdict::Unknown, Verdict::Good, Verdict::Failed];
        let word = self.next()?;
        let found = all.into_iter().find(|it| it.word().as_bytes() == word);
        found.ok_or_else(|| self.wrong())
    }

    fn mark(&mut self) -> Result<MarkLine, HealthError> {
        let (ip, version, by) = (self.address()?, self.number()?, self.director()?);
        let word = self.next()?.to_vec();
        let step = self.short()?;
        let kind = match word.as_slice() {
            b"auto" => Kind::Auto,
            b"held" => Kind::Held,
            b"falling" => Kind::Falling,
            b"down" => Kind::Down,
            b"rising" => match u8::try_from(step) {
                Ok(step) if step < STEPS => Kind::Rising(step),
                _ => return Err(self.wrong()),
            },
            _ => return Err(self.wrong()),
        };
        let field = self.next()?;
        let weight = if field.is_empty() {
            None
        } else {
            number(field)
        };
        if weight.is_none() && !field.is_empty() {
            return Err(self.wrong());
        }
        let at = self.number()?;
        let mark = Mark { kind, weight, at };
        Ok(MarkLine {
            ip,
            version,
            by,
            mark,
        })
    }

    fn ring(&mut self) -> Result<Line, HealthError> {
        let joined = self.flag()?;
        let mut neighbours = Vec::new();
        while let Some(field) = self.rest.next() {
            if neighbours.len() == MAX_NEIGHBOURS {
                return Err(self.wrong());
            }
            let ip = std::str::from_utf8(field).ok().and_then(parse_lenient);
            let ip = ip.ok_or_else(|| self.wrong())?;
            let port = u16::try_from(self.short()?).ok().filter(|port| *port > 0);
            let port = port.ok_or_else(|| self.wrong())?;
            neighbours.push((DirectorId { ip, port }, self.flag()?));
        }
        Ok(Line::Ring { joined, neighbours })
    }
}

fn wide(field: &[u8]) -> Option<u64> {
    let is_number = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(field).ok().filter(|_| is_number)?;
    text.parse().ok()
}

fn push(number: u64, out: &mut Vec<u8>) {
    out.push(b'\t');
    push_number(number, out);
}

fn text(value: &str, out: &mut Vec<u8>) {
    out.push(b'\t');
    escape_into(value.as_bytes(), out);
}

fn address(ip: IpAddr, out: &mut Vec<u8>) {
    text(&ip_text(ip), out);
}

fn director(id: DirectorId, out: &mut Vec<u8>) {
    address(id.ip, out);
    push(id.port.into(), out);
}

/// What fits of a text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn shown(line: &[u8]) -> String {
    line[..line.len().min(80)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_director() -> impl Strategy<Value = DirectorId> {
        (any::<IpAddr>(), 1..=u16::MAX).prop_map(|(ip, port)| DirectorId { ip, port })
    }

    fn any_line() -> impl Strategy<Value = Line> {
        let verdict = prop::sample::select(vec![Verdict::Unknown, Verdict::Good, Verdict::Failed]);
        let kind = prop_oneof![
            Just(Kind::Auto),
            Just(Kind::Held),
            Just(Kind::Falling),
            Just(Kind::Down),
            (0..STEPS).prop_map(Kind::Rising),
        ];
        let neighbours = prop::collection::vec((any_director(), any::<bool>()), 0..=MAX_NEIGHBOURS);
        prop_oneof![
            (any::<u32>(), any_director()).prop_map(|(minor, me)| Line::Hello { minor, me }),
            (any::<IpAddr>(), verdict, any::<u64>(), "[ -~é]{0,60}").prop_map(
                |(ip, verdict, since, why)| Line::Vote {
                    ip,
                    verdict,
                    since,
                    why
                }
            ),
            any::<IpAddr>().prop_map(Line::Gone),
            (
                any::<IpAddr>(),
                any::<u64>(),
                any_director(),
                kind,
                (any::<Option<u32>>(), any::<u64>())
            )
                .prop_map(|(ip, version, by, kind, (weight, at))| {
                    let mark = Mark { kind, weight, at };
                    Line::Mark(MarkLine {
                        ip,
                        version,
                        by,
                        mark,
                    })
                }),
            (any::<bool>(), neighbours)
                .prop_map(|(joined, neighbours)| Line::Ring { joined, neighbours }),
            any::<u64>().prop_map(Line::Beat),
            any::<u64>().prop_map(Line::Heard),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(line in any_line()) {
            let mut out = Vec::new();
            line.write(&mut out);
            prop_assert!(out.len() <= MAX_LINE);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(Line::parse(&out), Ok(Some(line)));
        }

        #[test]
        fn anything_is_read_or_refused(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Line::parse(&line);
            let _ = Line::parse_hello(&line);
        }
    }

    #[test]
    fn the_lines_of_the_page() {
        let bytes = |line: &Line| {
            let mut out = Vec::new();
            line.write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let me = DirectorId {
            ip: [10, 1, 0, 2].into(),
            port: 9090,
        };
        let hello = Line::Hello { minor: 0, me };
        assert_eq!(bytes(&hello), "HOMING-HEALTH\t1\t0\t10.1.0.2\t9090\n");
        let mark = MarkLine {
            ip: [10, 2, 0, 11].into(),
            version: 7,
            by: me,
            mark: Mark {
                kind: Kind::Rising(2),
                weight: Some(100),
                at: 1_764_538_300,
            },
        };
        assert_eq!(
            bytes(&Line::Mark(mark)),
            "MARK\t10.2.0.11\t7\t10.1.0.2\t9090\trising\t2\t100\t1764538300\n"
        );
    }

    #[test]
    fn versions_and_words() {
        assert_eq!(Line::parse(b"LATER\tx"), Ok(None));
        assert_eq!(
            Line::parse(b"BEAT\t5\tmore"),
            Ok(Some(Line::Beat(5))),
            "later versions may say more"
        );
        assert_eq!(
            Line::parse_hello(b"HOMING-HEALTH\t2\t0\t10.0.0.1\t1"),
            Err(HealthError::OtherVersion(2))
        );
        assert!(matches!(
            Line::parse_hello(b"VERSION\tdirector\t1\t9"),
            Err(HealthError::NoHello(_))
        ));
        for wrong in [
            "VOTE\t10.0.0.1\tbad\t0\t",
            "MARK\t10.0.0.1\t1\t10.0.0.2\t9090\trising\t5\t\t0",
            "RING\t2",
            "RING\t1\t10.0.0.1\t9090",
            "BEAT\t",
        ] {
            assert!(Line::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let line = Line::Vote {
            ip: [10, 0, 0, 1].into(),
            verdict: Verdict::Failed,
            since: u64::MAX,
            why: "\t".repeat(5000),
        };
        let mut out = Vec::new();
        line.write(&mut out);
        assert!(out.len() <= MAX_LINE);
    }
}
