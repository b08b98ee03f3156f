//! Sessions that an order is about to end, and which of them are still there afterwards
//! (docs/protocol/admin.md, sessions).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use crate::core::UserHash;
use crate::wire::admin;

/// Which sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of users with this hash, but for those at one backend.
    User(UserHash, Option<IpAddr>),
    /// Of this login name.
    Name(Vec<u8>),
    /// At this backend, or at any.
    Backend(Option<IpAddr>),
}

/// One session at a login process, as Dovecot lists it.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// The user's hash.
    pub hash: UserHash,
    /// The login name.
    pub name: &'a [u8],
    /// Where it is.
    pub backend: IpAddr,
    /// What tells it from others of its user, as far as Dovecot does.
    pub id: &'a [u8],
}

impl Whose {
    /// Whether a session is one of them.
    pub fn has(&self, session: &Session<'_>) -> bool {
        match self {
            Whose::User(hash, except) => session.hash == *hash && Some(session.backend) != *except,
            Whose::Name(name) => session.name == name,
            Whose::Backend(backend) => backend.is_none_or(|it| session.backend == it),
        }
    }

    /// From the words of a client.
    pub fn of(whose: admin::Whose<'_>, hash: impl FnOnce(&admin::User<'_>) -> UserHash) -> Whose {
        match whose {
            admin::Whose::User { user, except } => Whose::User(hash(&user), except),
            admin::Whose::Name(name) => Whose::Name(name.into_owned()),
            admin::Whose::Backend(backend) => Whose::Backend(backend),
        }
    }
}

/// The sessions of somebody at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many there are of those that nothing tells from each other.
    seen: HashMap<u64, u64>,
}

impl Census {
    /// One more.
    pub fn add(&mut self, session: &Session<'_>) {
        let mut hasher = DefaultHasher::new();
        (session.name, session.backend, session.id).hash(&mut hasher);
        *self.seen.entry(hasher.finish()).or_default() += 1;
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.seen.values().sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// How many of them are still there later.
    pub fn left(&self, later: &Census) -> u64 {
        let seen = self.seen.iter();
        seen.map(|(key, count)| *count.min(later.seen.get(key).unwrap_or(&0)))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn backend(n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
    }

    fn session(name: &'static str, on: u8, id: &'static str) -> Session<'static> {
        Session {
            hash: UserHash(name.len() as u32),
            name: name.as_bytes(),
            backend: backend(on),
            id: id.as_bytes(),
        }
    }

    fn census(all: &[Session<'_>]) -> Census {
        let mut census = Census::default();
        all.iter().for_each(|session| census.add(session));
        census
    }

    #[test]
    fn each_is_meant_or_not() {
        let ann = session("ann", 1, "");
        assert!(Whose::User(UserHash(3), None).has(&ann));
        assert!(Whose::User(UserHash(3), Some(backend(2))).has(&ann));
        assert!(!Whose::User(UserHash(3), Some(backend(1))).has(&ann));
        assert!(!Whose::User(UserHash(4), None).has(&ann));
        assert!(Whose::Name(b"ann".to_vec()).has(&ann));
        assert!(!Whose::Name(b"bob".to_vec()).has(&ann), "of the same hash");
        assert!(Whose::Backend(None).has(&ann) && Whose::Backend(Some(backend(1))).has(&ann));
        assert!(!Whose::Backend(Some(backend(2))).has(&ann));
    }

    #[test]
    fn one_that_has_come_back_is_another_where_sessions_have_names() {
        let before = census(&[session("ann", 1, "x"), session("ann", 1, "y")]);
        assert_eq!(before.len(), 2);
        let after = census(&[session("ann", 1, "y"), session("ann", 1, "z")]);
        assert_eq!(before.left(&after), 1);
        assert_eq!(before.left(&Census::default()), 0);
    }

    #[test]
    fn without_names_they_are_counted() {
        let before = census(&[
            session("ann", 1, ""),
            session("ann", 1, ""),
            session("bob", 1, ""),
        ]);
        let after = census(&[
            session("ann", 1, ""),
            session("ann", 2, ""),
            session("eve", 1, ""),
        ]);
        assert_eq!((before.len(), before.left(&after)), (3, 1));
        let more = census(&[session("bob", 1, ""), session("bob", 1, "")]);
        assert_eq!(before.left(&more), 1, "no more than there were");
    }
}
