//! Replies and rows from bytes: the client's half. Lines without LF and CR.

use std::net::IpAddr;

use thiserror::Error;

use super::error::shown;
use super::{DrainRow, Fact, LookupRow, Reply, UserRow};
use crate::wire::ip_text::parse_lenient;
use crate::wire::line::{fields, unescape};
use crate::wire::ring::DirectorId;

/// A line of a director that is not what the command's answer should be. The director is at fault, or
/// it is none. Its words are cut short and escaped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid {what} from the director: {line}")]
pub struct Unexpected {
    /// What it should have been.
    pub what: &'static str,
    /// The line.
    pub line: String,
}

impl Unexpected {
    pub(super) fn new(what: &'static str, line: &[u8]) -> Unexpected {
        let line = shown(line);
        Unexpected { what, line }
    }
}

/// The reply of one line; `None`: words that no director should say.
pub fn reply(line: &[u8]) -> Option<Reply> {
    [
        Reply::Ok,
        Reply::NotFound,
        Reply::TryAgain,
        Reply::SyncTimedOut,
        Reply::TooManyVhosts,
        Reply::TagCannotChange,
        Reply::BeingUpdated,
    ]
    .into_iter()
    .find(|reply| reply.text().as_bytes() == line)
}

/// A backend, as [`super::HostRow`] was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its address.
    pub ip: IpAddr,
    /// Its weight.
    pub vhosts: u32,
    /// Users on it now.
    pub users: u64,
    /// Its tag, empty for none.
    pub tag: Vec<u8>,
    /// It gets no new users.
    pub down: bool,
    /// When that last changed, seconds since 1970; 0: never.
    pub last_updown_change: u64,
}

/// A row of HOST-LIST. More fields than a director of today has are not looked at.
///
/// # Errors
/// A field is missing or is not what it should be.
pub fn host(line: &[u8]) -> Result<Host, Unexpected> {
    let read = || {
        let mut fields = fields(line);
        Some(Host {
            ip: ip(fields.next()?)?,
            vhosts: number(fields.next()?)?.try_into().ok()?,
            users: number(fields.next()?)?,
            tag: unescape(fields.next()?).into_owned(),
            down: match fields.next()? {
                b"U" => false,
                b"D" => true,
                _ => return None,
            },
            last_updown_change: number(fields.next()?)?,
        })
    };
    read().ok_or_else(|| Unexpected::new("row of HOST-LIST", line))
}

/// A row of HOST-LIST-REMOVED.
///
/// # Errors
/// It is no address.
pub fn removed_host(line: &[u8]) -> Result<IpAddr, Unexpected> {
    ip(line).ok_or_else(|| Unexpected::new("row of HOST-LIST-REMOVED", line))
}

/// A row of USER-LIST.
///
/// # Errors
/// A field is missing or is not what it should be.
pub fn user(line: &[u8]) -> Result<UserRow, Unexpected> {
    let read = || {
        let mut fields = fields(line);
        Some(UserRow {
            hash: number(fields.next()?)?.try_into().ok()?,
            expires: number(fields.next()?)?,
            ip: ip(fields.next()?)?,
        })
    };
    read().ok_or_else(|| Unexpected::new("row of USER-LIST", line))
}

/// The answer to USER-LOOKUP, unless it is [`Reply::TryAgain`].
///
/// # Errors
/// A field is missing or is not what it should be.
pub fn lookup(line: &[u8]) -> Result<LookupRow, Unexpected> {
    let read = || {
        let mut fields = fields(line);
        let current = optional_ip(fields.next()?)?;
        let expires = number(fields.next()?)?;
        Some(LookupRow {
            current: current.map(|ip| (ip, expires)),
            hashed: optional_ip(fields.next()?)?,
            initial: optional_ip(fields.next()?)?,
        })
    };
    read().ok_or_else(|| Unexpected::new("answer to USER-LOOKUP", line))
}

/// What a Homing tells besides in its answer to a USER-LOOKUP that asks why. Of Dovecot's: none.
pub fn facts(line: &[u8]) -> Vec<Fact> {
    let fact = |field: &[u8]| {
        let text = text(field);
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    fields(line).skip(4).filter_map(fact).collect()
}

/// The number of a reply that has one ([`super::write_count`]); `None`: other words.
pub fn count(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"OK\t")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A row of HOMING-DRAIN-LIST.
///
/// # Errors
/// A field is missing or is not what it should be.
pub fn drain(line: &[u8]) -> Result<DrainRow, Unexpected> {
    let read = || {
        let mut fields = fields(line);
        let u32_of = |field: &[u8]| u32::try_from(number(field)?).ok();
        Some(DrainRow {
            ip: ip(fields.next()?)?,
            rate: u32_of(fields.next()?)?,
            state: text(fields.next()?),
            moved: number(fields.next()?)?,
            vhosts: match fields.next()? {
                b"" => None,
                field => Some(u32_of(field)?),
            },
            begun: number(fields.next()?)?,
        })
    };
    read().ok_or_else(|| Unexpected::new("row of HOMING-DRAIN-LIST", line))
}

/// A row of DIRECTOR-LIST. What a row of its kind does not have is `None`. Times in seconds since
/// 1970; 0: never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Which director; `None`: somebody who has not said who it is.
    pub director: Option<DirectorId>,
    /// `self`, `left`, `right`, `in`, `out`, `removed`, or empty: no connection.
    pub kind: String,
    /// The later of its last failures of both kinds.
    pub last_failed: Option<u64>,
    /// How far the connection or the ring is, in the director's words; empty without a connection.
    pub status: String,
    /// Last PING to its PONG, or the last round of synchronisation; milliseconds.
    pub ping_ms: Option<u64>,
    /// Bytes read.
    pub bytes_in: Option<u64>,
    /// Bytes written.
    pub bytes_out: Option<u64>,
    /// Bytes that wait to be written.
    pub buffered: Option<u64>,
    /// Most bytes that ever waited.
    pub peak: Option<u64>,
    /// When something was last read.
    pub last_read: Option<u64>,
    /// When something was last written.
    pub last_write: Option<u64>,
}

/// A row of DIRECTOR-LIST, of any of the four kinds (docs/protocol/admin.md, rows).
///
/// # Errors
/// A field is missing or is not what it should be.
pub fn peer(line: &[u8]) -> Result<Peer, Unexpected> {
    let cut: Vec<_> = fields(line).collect();
    let read = || match cut[..] {
        // Somebody who has not said ME: eight fields, of which the first is no address.
        [status, _, _, _, _, _, _, _] => {
            let peer = Peer {
                status: text(status),
                ..Peer::default()
            };
            traffic(peer, &cut[1..])
        }
        [address, port, kind, failed, status, ref rest @ ..] => {
            let port = number(port)?.try_into().ok()?;
            let peer = Peer {
                director: Some(DirectorId {
                    ip: ip(address)?,
                    port,
                }),
                kind: text(kind),
                last_failed: Some(number(failed)?),
                status: text(status),
                ..Peer::default()
            };
            traffic(peer, rest)
        }
        _ => None,
    };
    read().ok_or_else(|| Unexpected::new("row of DIRECTOR-LIST", line))
}

/// The numbers behind the status; a row may end before any of them.
fn traffic(mut peer: Peer, numbers: &[&[u8]]) -> Option<Peer> {
    let places = [
        &mut peer.ping_ms,
        &mut peer.bytes_in,
        &mut peer.bytes_out,
        &mut peer.buffered,
        &mut peer.peak,
        &mut peer.last_read,
        &mut peer.last_write,
    ];
    for (place, text) in places.into_iter().zip(numbers) {
        *place = Some(number(text)?);
    }
    Some(peer)
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn number(field: &[u8]) -> Option<u64> {
    let is_number = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(field).ok().filter(|_| is_number)?;
    text.parse().ok()
}

fn ip(field: &[u8]) -> Option<IpAddr> {
    parse_lenient(std::str::from_utf8(field).ok()?)
}

/// An empty field is no backend.
fn optional_ip(field: &[u8]) -> Option<Option<IpAddr>> {
    if field.is_empty() {
        return Some(None);
    }
    ip(field).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::{ConnKind, ConnStatus, DirectorRow, HostRow, RingStatus, Traffic};
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut line = Vec::new();
        write(&mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    fn director() -> DirectorId {
        DirectorId {
            ip: IpAddr::from([127, 61, 0, 32]),
            port: 21090,
        }
    }

    const TRAFFIC: Traffic = Traffic {
        status: ConnStatus::Receiving(3),
        ping_ms: 1,
        bytes_in: 2,
        bytes_out: 3,
        buffered: 4,
        peak: 5,
        last_read: 6,
        last_write: 7,
    };

    fn seen() -> Peer {
        Peer {
            status: "handshaking - 3 USERs received".to_owned(),
            ping_ms: Some(1),
            bytes_in: Some(2),
            bytes_out: Some(3),
            buffered: Some(4),
            peak: Some(5),
            last_read: Some(6),
            last_write: Some(7),
            ..Peer::default()
        }
    }

    #[test]
    fn directors_of_all_four_kinds_come_back() {
        let known = |kind: &str, last_failed| Peer {
            director: Some(director()),
            kind: kind.to_owned(),
            last_failed: Some(last_failed),
            ..Peer::default()
        };
        let ourselves = DirectorRow::Ourselves {
            director: director(),
            last_failed: 9,
            ring: RingStatus::Syncing(6),
            sync_ms: 12,
        };
        let connection = DirectorRow::Connection {
            director: director(),
            kind: ConnKind::Left,
            last_failed: 9,
            traffic: TRAFFIC,
        };
        let gone = DirectorRow::Unconnected {
            director: director(),
            removed: true,
            last_failed: 9,
        };
        let status = "ring syncing - last sync 6 secs ago".to_owned();
        for (row, peer) in [
            (
                ourselves,
                Peer {
                    status,
                    ping_ms: Some(12),
                    ..known("self", 9)
                },
            ),
            (
                connection,
                Peer {
                    director: Some(director()),
                    kind: "left".to_owned(),
                    last_failed: Some(9),
                    ..seen()
                },
            ),
            (gone, known("removed", 9)),
            (DirectorRow::Stranger(TRAFFIC), seen()),
        ] {
            assert_eq!(super::peer(&written(|out| row.write(out))), Ok(peer));
        }
    }

    #[test]
    fn lines_of_something_else_are_refused_with_their_words() {
        let error = host(b"* OK IMAP ready").unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid row of HOST-LIST from the director: \"* OK IMAP ready\""
        );
        for line in [
            &b"10.0.0.1\t1\t0\t\tU"[..],
            b"10.0.0.1\t1\t0\t\tX\t0",
            b"10.0.0.1\t-1\t0\t\tU\t0",
            b"10.0.0.1\t4294967296\t0\t\tU\t0",
            b"host\t1\t0\t\tU\t0",
        ] {
            assert!(host(line).is_err());
        }
        assert!(user(b"4294967296\t0\t10.0.0.1").is_err());
        assert!(user(b"1\t0\t").is_err());
        assert!(lookup(b"TRYAGAIN").is_err());
        assert!(lookup(b"10.0.0.1\t5\t10.0.0.1").is_err());
        assert!(removed_host(b"a").is_err());
        assert!(peer(b"127.0.0.1\t0\tself\t0").is_err());
        assert!(peer(b"127.0.0.1\t70000\tself\t0\tring synced\t0").is_err());
        assert_eq!(reply(b"Ring sync timed out"), Some(Reply::SyncTimedOut));
        assert_eq!(reply(b"ok"), None);
    }

    #[test]
    fn fields_of_a_later_version_are_not_looked_at() {
        let row = b"10.0.0.1\t1\t2\t\tD\t3\tname";
        assert_eq!(host(row).map(|host| host.users), Ok(2));
        assert!(lookup(b"\t0\t\t\tmore").is_ok());
    }

    proptest! {
        #[test]
        fn backends_come_back(
            ip: IpAddr, vhosts: u32, users: u64, tag: Vec<u8>, down: bool, last_updown_change: u64,
        ) {
            let row = HostRow { ip, vhosts, users, tag: &tag, down, last_updown_change };
            let read = host(&written(|out| row.write(out)));
            let tag = tag.clone();
            prop_assert_eq!(read, Ok(Host { ip, vhosts, users, tag, down, last_updown_change }));
        }

        #[test]
        fn users_and_lookups_come_back(
            hash: u32, expires: u64, ip: IpAddr,
            current: Option<(IpAddr, u64)>, hashed: Option<IpAddr>, initial: Option<IpAddr>,
        ) {
            let row = UserRow { hash, expires, ip };
            prop_assert_eq!(user(&written(|out| row.write(out))), Ok(row));
            let row = LookupRow { current, hashed, initial };
            prop_assert_eq!(lookup(&written(|out| row.write(out))), Ok(row));
        }

        #[test]
        fn drains_and_facts_come_back(
            ip: IpAddr, rate: u32, state: String, moved: u64, vhosts: Option<u32>, begun: u64,
            facts in prop::collection::vec(("[a-z]{1,5}", any::<String>()), 0..4),
        ) {
            let row = DrainRow { ip, rate, state, moved, vhosts, begun };
            prop_assert_eq!(drain(&written(|out| row.write(out))), Ok(row));
            let row = LookupRow { current: None, hashed: Some(ip), initial: None };
            let line = written(|out| row.write_with(&facts, out));
            prop_assert_eq!(lookup(&line), Ok(row));
            prop_assert_eq!(super::facts(&line), facts);
        }

        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = (host(&line), user(&line), lookup(&line), peer(&line), removed_host(&line));
            let _ = (drain(&line), super::facts(&line));
        }
    }
}
