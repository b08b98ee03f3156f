//! A state into bytes, piece by piece.

use std::net::IpAddr;

use super::{BACKENDS, DOWN, HEAD, Head, LAST, MAGIC, MARKED, SavedBackend, SavedUser, USERS};
use super::{MAX_SECTION, NO_WEIGHT, RISING, VERSION};
use crate::wire::health::{Kind, MarkLine};

/// Users of one section: so many of them fit into [`MAX_SECTION`] even if each has a backend of its own.
const SECTION_USERS: usize = 32 * 1024;

/// A user, and the place of its backend among those given to [`Encoder::backends`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// Place of the backend.
    pub backend: u16,
    /// The user.
    pub user: SavedUser,
}

/// Writes a state: its beginning, the backends, users as often as there are some, the end.
#[derive(Debug)]
pub struct Encoder {
    backends: u32,
    users: u64,
}

impl Encoder {
    /// Appends the beginning.
    pub fn begin(head: &Head, out: &mut Vec<u8>) -> Encoder {
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        let separator = head.master_user_separator;
        section(HEAD, out, |out| {
            out.extend(head.created.0.to_le_bytes());
            out.extend(head.expire_secs.to_le_bytes());
            out.extend(
                separator
                    .map_or(0, |byte| 256 + u16::from(byte))
                    .to_le_bytes(),
            );
            text(head.username_hash.as_bytes(), out);
        });
        Encoder {
            backends: 0,
            users: 0,
        }
    }

    /// Appends backends: all of them, before any users. The first one has place 0; those beyond place
    /// 65535 could have no users and are left out, but there are never so many.
    pub fn backends<'a>(
        &mut self,
        backends: impl IntoIterator<Item = &'a SavedBackend>,
        out: &mut Vec<u8>,
    ) {
        let mut record = Vec::new();
        let mut backends = backends
            .into_iter()
            .take(usize::from(u16::MAX) + 1)
            .peekable();
        while backends.peek().is_some() {
            section(BACKENDS, out, |out| {
                let end = out.len() + MAX_SECTION - usize::from(u16::MAX) - 2;
                while out.len() < end
                    && let Some(backend) = backends.next()
                {
                    record.clear();
                    write_backend(backend, &mut record);
                    text(&record, out);
                    self.backends += 1;
                }
            });
        }
    }

    /// Appends users, which are sorted for that.
    pub fn users(&mut self, users: &mut [Placed], out: &mut Vec<u8>) {
        users.sort_unstable();
        self.users += users.len() as u64;
        for users in users.chunks(SECTION_USERS) {
            section(USERS, out, |out| {
                for group in users.chunk_by(|a, b| a.backend == b.backend) {
                    let count = u16::try_from(group.len()).unwrap_or(u16::MAX);
                    out.extend(group[0].backend.to_le_bytes());
                    out.extend(count.to_le_bytes());
                    for Placed { user, .. } in group {
                        out.extend(user.hash.to_le_bytes());
                        out.extend(user.stamp.to_le_bytes());
                    }
                }
            });
        }
    }

    /// How many users were written.
    pub fn user_count(&self) -> u64 {
        self.users
    }

    /// Appends the end.
    pub fn end(self, out: &mut Vec<u8>) {
        section(LAST, out, |out| {
            out.extend(self.backends.to_le_bytes());
            out.extend(self.users.to_le_bytes());
        });
    }
}

fn section(kind: [u8; 4], out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    out.extend(kind);
    out.extend([0; 4]);
    payload(out);
    let length = out.len() - from - 8;
    debug_assert!(length <= MAX_SECTION, "a section that nobody would read");
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out[from + 4..from + 8].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&out[from..]);
    out.extend(crc.to_le_bytes());
}

/// What does not fit is cut off; no text of a director is so long.
fn text(bytes: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_le_bytes());
    out.extend(&bytes[..usize::from(length)]);
}

fn write_backend(backend: &SavedBackend, out: &mut Vec<u8>) {
    let down = if backend.down { DOWN } else { 0 };
    let marked = if backend.mark.is_some() { MARKED } else { 0 };
    out.extend(backend.vhosts.to_le_bytes());
    out.push(down | marked);
    out.extend(backend.last_updown_change.0.to_le_bytes());
    address(backend.ip, out);
    text(&backend.tag, out);
    text(backend.name.as_deref().unwrap_or_default().as_bytes(), out);
    if let Some(line) = &backend.mark {
        write_mark(line, out);
    }
}

fn address(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
}

fn write_mark(line: &MarkLine, out: &mut Vec<u8>) {
    out.push(match line.mark.kind {
        Kind::Auto => 0,
        Kind::Held => 1,
        Kind::Falling => 2,
        Kind::Down => 3,
        Kind::Rising(step) => step.saturating_add(RISING),
    });
    out.extend(line.mark.weight.unwrap_or(NO_WEIGHT).to_le_bytes());
    out.extend(line.mark.at.to_le_bytes());
    out.extend(line.version.to_le_bytes());
    address(line.by.ip, out);
    out.extend(line.by.port.to_le_bytes());
}
