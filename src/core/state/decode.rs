//! Bytes into a state. Any bytes: what is wrong is said, and no more is held than the bytes themselves
//! could have told of.

use std::net::IpAddr;

use thiserror::Error;

use super::{BACKENDS, DOWN, HEAD, Head, LAST, MAGIC, MARKED, Saved, SavedBackend, SavedUser};
use super::{MAX_SECTION, NO_WEIGHT, RISING, USERS, VERSION};
use crate::core::Wall;
use crate::core::backends::MAX_BACKENDS;
use crate::wire::health::{Kind, Mark, MarkLine, STEPS};
use crate::wire::ring::DirectorId;

/// Kind and length.
const SECTION_HEAD: usize = 8;
const CRC: usize = 4;

/// Why bytes are no state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Something else altogether.
    #[error("it does not begin as a state of Homing does")]
    Foreign,
    /// Of another program.
    #[error("it is of version {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// The bytes are not those that were written.
    #[error("its bytes {from} to {to} are damaged: their checksum is wrong")]
    Damaged {
        /// Where the section begins.
        from: u64,
        /// The first byte behind it.
        to: u64,
    },
    /// [`MAX_SECTION`].
    #[error("it is damaged: a section at byte {0} is longer than any that is written")]
    TooLong(u64),
    /// There is no end.
    #[error("it is cut off at byte {0}")]
    Cut(u64),
    /// The checksum is right and the content cannot be.
    #[error("its section at byte {at} is wrong: {what}")]
    Wrong {
        /// Where the section begins.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// More than the reader wants.
    #[error("it has more than {0} users")]
    TooManyUsers(u64),
}

/// Reads a state, from pieces of any size.
#[derive(Debug)]
pub struct Decoder {
    /// Bytes that are no whole section yet.
    rest: Vec<u8>,
    /// How many bytes there were so far.
    seen: u64,
    /// The first bytes are there.
    begun: bool,
    head: Option<Head>,
    backends: Vec<SavedBackend>,
    users: Vec<Vec<SavedUser>>,
    user_count: u64,
    max_users: u64,
    ended: bool,
}

impl Decoder {
    /// Refuses states with more users than `max_users`; each takes 8 bytes.
    pub fn new(max_users: u64) -> Decoder {
        Decoder {
            rest: Vec::new(),
            seen: 0,
            begun: false,
            head: None,
            backends: Vec::new(),
            users: Vec::new(),
            user_count: 0,
            max_users,
            ended: false,
        }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// They are none of a state. More of them will not make it one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.rest.extend_from_slice(bytes);
        self.seen += bytes.len() as u64;
        let rest = std::mem::take(&mut self.rest);
        let mut left = rest.as_slice();
        if !self.begun {
            left = self.begin(left)?;
        }
        while self.begun
            && let Some(behind) = self.section(left)?
        {
            left = behind;
        }
        let used = rest.len() - left.len();
        self.rest = rest;
        self.rest.drain(..used);
        Ok(())
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// There should be.
    pub fn finish(self) -> Result<Saved, Fault> {
        match self.head {
            Some(head) if self.ended => Ok(Saved {
                head,
                backends: self.backends,
                users: self.users,
            }),
            _ => Err(Fault::Cut(self.seen)),
        }
    }

    fn begin<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let count = bytes.len().min(MAGIC.len());
        if bytes[..count] != MAGIC[..count] {
            return Err(Fault::Foreign);
        }
        let Some((version, behind)) = bytes[count..].split_first_chunk() else {
            return Ok(bytes);
        };
        match u32::from_le_bytes(*version) {
            VERSION => {
                self.begun = true;
                Ok(behind)
            }
            version => Err(Fault::Version(version)),
        }
    }

    /// One whole section; `None`: there is none yet.
    fn section<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
        let at = self.position(bytes);
        if self.ended {
            return match bytes {
                [] => Ok(None),
                _ => Err(wrong(at, "there is something behind the end")),
            };
        }
        let Some((head, _)) = bytes.split_first_chunk::<SECTION_HEAD>() else {
            return Ok(None);
        };
        let [k0, k1, k2, k3, l0, l1, l2, l3] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_SECTION {
            return Err(Fault::TooLong(at));
        }
        let Some((whole, behind)) = bytes.split_at_checked(SECTION_HEAD + length) else {
            return Ok(None);
        };
        let Some((crc, behind)) = behind.split_first_chunk::<CRC>() else {
            return Ok(None);
        };
        if crc32fast::hash(whole) != u32::from_le_bytes(*crc) {
            let to = at + (SECTION_HEAD + length + CRC) as u64;
            return Err(Fault::Damaged { from: at, to });
        }
        let mut payload = Payload(&whole[SECTION_HEAD..]);
        let done = self.content([k0, k1, k2, k3], &mut payload);
        if self.user_count > self.max_users {
            return Err(Fault::TooManyUsers(self.max_users));
        }
        done.map_err(|what| wrong(at, what))?;
        Ok(Some(behind))
    }

    /// Where `left`, the last of the bytes that are there, begins.
    fn position(&self, left: &[u8]) -> u64 {
        self.seen - left.len() as u64
    }

    fn content(&mut self, kind: [u8; 4], payload: &mut Payload<'_>) -> Result<(), &'static str> {
        match (kind, &self.head) {
            (HEAD, None) => {
                self.head = Some(payload.head().ok_or("its head is too short")?);
                Ok(())
            }
            (HEAD, Some(_)) => Err("there is a second head"),
            (_, None) => Err("its head is missing"),
            (BACKENDS, _) => self.read_backends(payload),
            (USERS, _) => self.read_users(payload),
            (LAST, _) => {
                let (Some(backends), Some(users)) = (payload.u32(), payload.u64()) else {
                    return Err("its end is too short");
                };
                if (backends as usize, users) != (self.backends.len(), self.user_count) {
                    return Err("its end counts others than there are");
                }
                self.ended = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn read_backends(&mut self, payload: &mut Payload<'_>) -> Result<(), &'static str> {
        if self.user_count > 0 {
            return Err("there are backends behind users");
        }
        while !payload.0.is_empty() {
            if self.backends.len() == MAX_BACKENDS {
                return Err("there are more backends than a director can have");
            }
            let record = payload.text().ok_or("a backend is cut off")?;
            let backend = Payload(record).backend();
            self.backends.push(backend.ok_or("a backend is none")?);
            self.users.push(Vec::new());
        }
        Ok(())
    }

    fn read_users(&mut self, payload: &mut Payload<'_>) -> Result<(), &'static str> {
        while !payload.0.is_empty() {
            let (Some(backend), Some(count)) = (payload.u16(), payload.u16()) else {
                return Err("a group of users is cut off");
            };
            let users = payload.take(usize::from(count) * 8);
            let users = users.ok_or("a group of users is shorter than it says")?;
            let of_backend = self.users.get_mut(usize::from(backend));
            let of_backend = of_backend.ok_or("users have a backend that is not there")?;
            self.user_count += u64::from(count);
            if self.user_count > self.max_users {
                return Ok(());
            }
            for user in users.chunks_exact(8) {
                let mut user = Payload(user);
                let (Some(hash @ 1..), Some(stamp)) = (user.u32(), user.u32()) else {
                    return Err("a user has the hash 0");
                };
                of_backend.push(SavedUser { hash, stamp });
            }
        }
        Ok(())
    }
}

fn wrong(at: u64, what: &'static str) -> Fault {
    Fault::Wrong { at, what }
}

/// Bytes of a section that were not read yet.
struct Payload<'a>(&'a [u8]);

impl<'a> Payload<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn head(&mut self) -> Option<Head> {
        let created = Wall(self.u64()?);
        let expire_secs = self.u32()?;
        let separator = self.u16()?;
        let username_hash = String::from_utf8(self.text()?.to_owned()).ok()?;
        Some(Head {
            created,
            expire_secs,
            username_hash,
            master_user_separator: u8::try_from(separator.wrapping_sub(256)).ok(),
        })
    }

    fn backend(&mut self) -> Option<SavedBackend> {
        let vhosts = self.u32()?;
        let flags = self.u8()?;
        let last_updown_change = Wall(self.u64()?);
        let ip = self.address()?;
        let tag = self.text()?.to_owned();
        let name = String::from_utf8(self.text()?.to_owned()).ok()?;
        // It would be part of every login's reply.
        if name.contains(|c: char| c.is_control() || c == ' ') {
            return None;
        }
        let mark = match flags & MARKED != 0 {
            true => Some(self.mark(ip)?),
            false => None,
        };
        Some(SavedBackend {
            ip,
            name: Some(name).filter(|name| !name.is_empty()),
            tag,
            vhosts,
            down: flags & DOWN != 0,
            mark,
            last_updown_change,
        })
    }

    fn address(&mut self) -> Option<IpAddr> {
        Some(match self.u8()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return None,
        })
    }

    fn mark(&mut self, ip: IpAddr) -> Option<MarkLine> {
        let kind = match self.u8()? {
            0 => Kind::Auto,
            1 => Kind::Held,
            2 => Kind::Falling,
            3 => Kind::Down,
            step => Kind::Rising((step - RISING).min(STEPS - 1)),
        };
        let weight = Some(self.u32()?).filter(|weight| *weight != NO_WEIGHT);
        let (at, version) = (self.u64()?, self.u64()?);
        let by = DirectorId {
            ip: self.address()?,
            port: self.u16()?,
        };
        Some(MarkLine {
            ip,
            version,
            by,
            mark: Mark { kind, weight, at },
        })
    }
}
