//! Many users of one backend in one line: seven bytes a user where a `U` line takes some 35
//! or a USER line 37 (docs/protocol/ring.md, between Homing directors).

use std::borrow::Cow;
use std::net::IpAddr;

use super::{Hash, MAX_LINE};

/// Digits are the printable ASCII characters but the blank.
const FIRST: u8 = b'!';
const BASE: u32 = 94;
/// Digits of a hash: 94^5 is above 2^32.
const HASH_DIGITS: usize = 5;
/// Digits of an age.
const AGE_DIGITS: usize = 2;
const USER: usize = HASH_DIGITS + AGE_DIGITS;
/// The word, the longest address, the time, and the separators between them.
const HEAD: usize = b"USERS\t0000:0000:0000:0000:0000:ffff:255.255.255.255\t4294967295\t".len();

/// Users for which a line has room before it grows.
const FIRST_ROOM: usize = 32;

/// Seconds that a user of a line may be younger than its `since`, at most.
pub const MAX_AGE: u32 = BASE * BASE - 1;
/// Most users of a line.
pub const MAX_USERS: usize = (MAX_LINE - HEAD) / USER;

/// Users that live on one backend and are not weak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandUsers<'a> {
    /// The backend.
    pub host: IpAddr,
    /// The earliest of their times.
    pub since: u32,
    packed: Cow<'a, [u8]>,
}

impl<'a> HandUsers<'a> {
    /// A line without users yet.
    pub fn new(host: IpAddr, since: u32) -> HandUsers<'static> {
        HandUsers {
            host,
            since,
            packed: Cow::Owned(Vec::with_capacity(FIRST_ROOM * USER)),
        }
    }

    /// Reads what a line has; `None`: it is not made of whole users.
    pub(super) fn read(host: IpAddr, since: u32, packed: Cow<'a, [u8]>) -> Option<HandUsers<'a>> {
        let digits = |byte: &u8| (FIRST..FIRST + BASE as u8).contains(byte);
        let whole = packed.len().is_multiple_of(USER) && packed.iter().all(digits);
        let users = HandUsers {
            host,
            since,
            packed,
        };
        (whole && users.chunks().all(|user| unpack(user).is_some())).then_some(users)
    }

    /// Adds a user; `false`: it has no place here, because the line is full or its time is too far from
    /// [`HandUsers::since`].
    pub fn push(&mut self, hash: Hash, time: u32) -> bool {
        let Some(age) = time.checked_sub(self.since).filter(|age| *age <= MAX_AGE) else {
            return false;
        };
        if self.packed.len() + USER > MAX_USERS * USER {
            return false;
        }
        let packed = self.packed.to_mut();
        push_digits(hash.get(), HASH_DIGITS, packed);
        push_digits(age, AGE_DIGITS, packed);
        true
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.packed.len() / USER
    }

    /// Whether there is no user.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// The users with their times.
    pub fn iter(&self) -> impl Iterator<Item = (Hash, u32)> {
        self.chunks()
            .filter_map(unpack)
            .map(|(hash, age)| (hash, self.since.saturating_add(age)))
    }

    /// The same, to be written once more.
    pub fn borrowed(&self) -> HandUsers<'_> {
        HandUsers {
            host: self.host,
            since: self.since,
            packed: Cow::Borrowed(&self.packed),
        }
    }

    pub(super) fn packed(&self) -> &[u8] {
        &self.packed
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.packed.chunks_exact(USER)
    }
}

fn push_digits(mut value: u32, digits: usize, out: &mut Vec<u8>) {
    for _ in 0..digits {
        out.push(FIRST + (value % BASE) as u8);
        value /= BASE;
    }
}

fn value_of(digits: &[u8]) -> Option<u32> {
    let value = digits.iter().rev().fold(0u64, |value, digit| {
        value * u64::from(BASE) + u64::from(digit - FIRST)
    });
    u32::try_from(value).ok()
}

fn unpack(user: &[u8]) -> Option<(Hash, u32)> {
    let (hash, age) = user.split_at(HASH_DIGITS);
    Some((Hash::new(value_of(hash)?)?, value_of(age)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn users_come_back_as_they_were() {
        let mut users = HandUsers::new(HOST, 1_790_000_000);
        let all = [(1, 0), (u32::MAX, MAX_AGE), (3_000_000_001, 900), (94, 93)];
        for (hash, age) in all {
            assert!(users.push(Hash::new(hash).unwrap(), 1_790_000_000 + age));
        }
        let read = HandUsers::read(HOST, users.since, users.packed().into()).unwrap();
        let back: Vec<_> = read
            .iter()
            .map(|(hash, time)| (hash.get(), time - 1_790_000_000))
            .collect();
        assert_eq!(back, all);
    }

    #[test]
    fn a_line_takes_so_many_and_no_strangers_in_time() {
        let mut users = HandUsers::new(HOST, 100);
        assert!(!users.push(Hash::MIN, 99));
        assert!(!users.push(Hash::MIN, 101 + MAX_AGE));
        let fit = (0..1000).filter(|_| users.push(Hash::MIN, 100)).count();
        assert_eq!(fit, MAX_USERS);
        const { assert!(MAX_USERS > 100) };
    }

    #[test]
    fn what_is_no_user_is_refused() {
        let read = |packed: &'static [u8]| HandUsers::read(HOST, 0, packed.into()).is_some();
        assert!(read(b""));
        assert!(read(b"\"!!!!!!"));
        assert!(!read(b"!!!!!!!"), "hash 0");
        assert!(!read(b"\"!!!!!"), "six bytes");
        assert!(!read(b"\" !!!!!"), "a blank");
        assert!(!read(b"~~~~~!!"), "above 32 bits");
    }
}
