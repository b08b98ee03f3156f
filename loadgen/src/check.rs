//! Whether what came back is right, and where the users are.

use ahash::{HashMap, RandomState};
use serde::Serialize;

use crate::names::Names;
use crate::plan::{Plan, Users};

/// Backends that are told apart; more than any tier has.
const MAX_BACKENDS: usize = 0x7ffe;
/// In a user's entry: was seen on more than one backend.
const MOVED: u16 = 0x8000;

/// What went wrong, by kind. Everything here makes a run fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// `user=` is missing or is not the user that was asked for.
    pub wrong_user: u64,
    /// The user was on another backend before.
    pub other_backend: u64,
    /// No `host=`: a login process would not know where to go.
    pub no_host: u64,
    /// A reply to nothing that was asked, or a second one.
    pub unknown_id: u64,
    /// A line that is no reply.
    pub malformed: u64,
    /// The director gave a temporary failure.
    pub temporary_failure: u64,
    /// Auth refused a login that should have succeeded.
    pub refused: u64,
    /// The director closed a connection, or broke it, with requests on it.
    pub disconnected: u64,
    /// A connection could not be made or finished in the midst of the run.
    pub not_connected: u64,
    /// No reply came before the run ended.
    pub unanswered: u64,
    /// A mail session's login took longer than a client waits.
    pub timed_out: u64,
    /// A login with a wrong password succeeded.
    pub wrong_password_taken: u64,
}

impl Errors {
    /// Name and number of each kind.
    pub fn by_kind(&self) -> [(&'static str, u64); 12] {
        [
            ("wrong user", self.wrong_user),
            ("other backend", self.other_backend),
            ("no host", self.no_host),
            ("unknown id", self.unknown_id),
            ("malformed reply", self.malformed),
            ("temporary failure", self.temporary_failure),
            ("refused by auth", self.refused),
            ("disconnected", self.disconnected),
            ("not connected", self.not_connected),
            ("unanswered", self.unanswered),
            ("timed out", self.timed_out),
            ("wrong password taken", self.wrong_password_taken),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_kind().iter().map(|(_, count)| count).sum()
    }
}

/// One backend, as seen in replies.
#[derive(Clone, Debug, Serialize)]
pub struct Backend {
    /// Its address, as the director gave it.
    pub host: String,
    /// Users whose last reply named it.
    pub users: u64,
    /// Replies that named it, unmeasured ones included.
    pub lookups: u64,
}

/// Remembers for every user where it was.
pub(crate) struct Checker {
    pub(crate) errors: Errors,
    /// Logins that auth refused as the plan wanted.
    pub(crate) refused_as_planned: u64,
    names: Names,
    expect_host: bool,
    expect_refusals: bool,
    any_user: bool,
    first_user: u32,
    /// By user: 1 + index of its backend, 0 if it was not seen yet; and `MOVED`.
    seen: Vec<u16>,
    backends: Vec<(Box<[u8]>, u64)>,
    numbers: HashMap<Box<[u8]>, u16>,
    users_seen: u64,
    users_moved: u64,
}

impl Checker {
    pub(crate) fn new(plan: &Plan) -> Self {
        let stub = plan.stub_auth.as_ref();
        let first_user = match plan.users {
            Users::Known { .. } => 0,
            Users::New { first } => first,
        };
        Self {
            errors: Errors::default(),
            refused_as_planned: 0,
            names: Names::new(plan),
            expect_host: plan.expects_host(),
            expect_refusals: stub.is_some_and(|stub| stub.fail_share > 0.0),
            any_user: plan.any_reply_user,
            first_user,
            seen: Vec::new(),
            backends: Vec::new(),
            numbers: HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4)),
            users_seen: 0,
            users_moved: 0,
        }
    }

    /// A successful reply to a question for `user`.
    pub(crate) fn found(&mut self, user: u32, name: Option<&[u8]>, host: Option<&[u8]>) {
        if name != Some(self.names.of(user)) && !(self.any_user && name.is_some()) {
            self.errors.wrong_user += 1;
            return; // whoever was answered for, it says nothing about this user's backend
        }
        self.entered(user, host);
    }

    /// A mail session began; `host` is where, if its backend said it.
    pub(crate) fn entered(&mut self, user: u32, host: Option<&[u8]>) {
        match host {
            Some(host) => self.placed(user, host),
            None if self.expect_host => self.errors.no_host += 1,
            None => {}
        }
    }

    /// A login with a wrong password was answered.
    pub(crate) fn wrong_password(&mut self, refused: bool) {
        if refused {
            self.refused_as_planned += 1;
        } else {
            self.errors.wrong_password_taken += 1;
        }
    }

    /// A failure in reply to a question.
    pub(crate) fn failed(&mut self, temporary: bool) {
        if temporary {
            self.errors.temporary_failure += 1;
        } else if self.expect_refusals {
            self.refused_as_planned += 1;
        } else {
            self.errors.refused += 1;
        }
    }

    fn placed(&mut self, user: u32, host: &[u8]) {
        let index = user.wrapping_sub(self.first_user) as usize;
        if index >= self.seen.len() {
            self.seen
                .resize((index + 1).next_power_of_two().max(1024), 0);
        }
        let entry = self.seen[index];
        let before = usize::from(entry & !MOVED);
        if before != 0
            && let Some((known, lookups)) = self.backends.get_mut(before - 1)
            && **known == *host
        {
            *lookups += 1;
            return;
        }
        let Some(backend) = self.number_of(host) else {
            self.errors.malformed += 1; // 32,766 backends: these are not addresses
            return;
        };
        self.seen[index] = (backend + 1) | (entry & MOVED);
        if before == 0 {
            self.users_seen += 1;
        } else {
            self.errors.other_backend += 1;
            if entry & MOVED == 0 {
                self.users_moved += 1;
                self.seen[index] |= MOVED;
            }
        }
    }

    fn number_of(&mut self, host: &[u8]) -> Option<u16> {
        if let Some(number) = self.numbers.get(host) {
            self.backends[usize::from(*number)].1 += 1;
            return Some(*number);
        }
        if self.backends.len() == MAX_BACKENDS {
            return None;
        }
        let number = self.backends.len() as u16;
        self.backends.push((host.into(), 1));
        self.numbers.insert(host.into(), number);
        Some(number)
    }

    /// Users that were answered with a backend, and those among them that had more than one.
    pub(crate) fn users(&self) -> (u64, u64) {
        (self.users_seen, self.users_moved)
    }

    /// Users and lookups by backend, in the order of their addresses.
    pub(crate) fn backends(&self) -> Vec<Backend> {
        let mut users = vec![0u64; self.backends.len()];
        for entry in self.seen.iter().map(|entry| usize::from(entry & !MOVED)) {
            if entry != 0 {
                users[entry - 1] += 1;
            }
        }
        let mut list: Vec<_> = self.backends.iter().zip(users).collect();
        list.sort_by_key(|((host, _), _)| {
            let text = String::from_utf8_lossy(host).into_owned();
            (text.parse::<std::net::IpAddr>().ok(), text)
        });
        list.into_iter()
            .map(|((host, lookups), users)| Backend {
                host: String::from_utf8_lossy(host).into_owned(),
                users,
                lookups: *lookups,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_wrong_reply_is_told_apart() {
        let mut checker = Checker::new(&Plan {
            prefix: "u".to_owned(),
            users: Users::New { first: 5 },
            ..Plan::new(crate::plan::Target::Login("/a".into()))
        });
        checker.found(5, Some(b"u5"), Some(b"10.0.0.10"));
        checker.found(6, Some(b"u6"), Some(b"10.0.0.9"));
        checker.found(5, Some(b"u5"), Some(b"10.0.0.10"));
        assert_eq!(checker.errors, Errors::default());
        checker.found(5, Some(b"u6"), Some(b"10.0.0.10"));
        checker.found(5, None, Some(b"10.0.0.10"));
        checker.found(5, Some(b"u5"), None);
        checker.found(5, Some(b"u5"), Some(b"10.0.0.9"));
        checker.found(5, Some(b"u5"), Some(b"10.0.0.10"));
        checker.failed(true);
        checker.failed(false);
        let errors = Errors {
            wrong_user: 2,
            no_host: 1,
            other_backend: 2,
            temporary_failure: 1,
            refused: 1,
            ..Errors::default()
        };
        assert_eq!(checker.errors, errors);
        assert_eq!(errors.total(), 7);
        assert_eq!(checker.users(), (2, 1));
        let hosts: Vec<_> = checker.backends();
        let hosts: Vec<_> = hosts
            .iter()
            .map(|b| (b.host.as_str(), b.users, b.lookups))
            .collect();
        assert_eq!(hosts, [("10.0.0.9", 1, 2), ("10.0.0.10", 1, 3)]);
    }
}
