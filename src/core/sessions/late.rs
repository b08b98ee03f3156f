//! Logins that were under way when their user moved, or was found on two backends (docs/protocol/kicks.md,
//! logins under way).
//!
//! A backend was named to them before, and whoever ends sessions does not know them yet. So what
//! the user has elsewhere is ended again a few times, until such a login has failed or its session was found.

use std::collections::VecDeque;

use crate::core::{Mono, UserHash};

/// After the order, when its sessions are ended again. A login process gives a backend
/// 30 s to let a user in.
const AGAIN: [u64; 4] = [
    3 * Mono::SECOND,
    8 * Mono::SECOND,
    18 * Mono::SECOND,
    35 * Mono::SECOND,
];
/// Most users that are remembered; where there are more in half a minute, the first ones.
const USERS_MAX: usize = 65_536;

/// Users that may have sessions elsewhere a moment later.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Users and when that was ordered, by how often they were looked after.
    rounds: [VecDeque<(Mono, UserHash)>; AGAIN.len()],
    /// One is being looked after.
    pub busy: bool,
    /// It is asked where this one is.
    pub asked: Option<UserHash>,
}

impl Late {
    /// A user's sessions at other backends than its own are to end.
    pub fn begin(&mut self, user: UserHash, now: Mono) {
        let users: usize = self.rounds.iter().map(VecDeque::len).sum();
        if users < USERS_MAX {
            self.rounds[0].push_back((now, user));
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Mono> {
        let first = |(round, after): (&VecDeque<(Mono, UserHash)>, &u64)| {
            round.front().map(|(begun, _)| begun.after(*after))
        };
        self.rounds.iter().zip(&AGAIN).filter_map(first).min()
    }

    /// One that is due. The longest that have waited come first, and one look makes up for all that are
    /// overdue: each may have a thousand processes wake up.
    pub fn take(&mut self, now: Mono) -> Option<UserHash> {
        for at in (0..AGAIN.len()).rev() {
            if let Some(&(begun, user)) = self.rounds[at].front()
                && begun.after(AGAIN[at]) <= now
            {
                self.rounds[at].pop_front();
                let is_to_come = |after: &u64| begun.after(*after) > now;
                if let Some(next) = AGAIN.iter().position(is_to_come) {
                    // Behind all that have begun before: they have been taken before.
                    self.rounds[next].push_back((begun, user));
                }
                return Some(user);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(1_000_000_000_000);

    fn at(seconds: u64) -> Mono {
        NOW.after(seconds * Mono::SECOND)
    }

    #[test]
    fn one_look_makes_up_for_all_that_are_overdue() {
        let mut late = Late::default();
        let [first, second] = [7, 8].map(UserHash);
        late.begin(first, at(0));
        late.begin(second, at(4));
        assert_eq!((late.take(at(2)), late.next()), (None, Some(at(3))));
        assert_eq!(late.take(at(20)), Some(first));
        assert_eq!(late.take(at(20)), Some(second));
        assert_eq!((late.take(at(20)), late.next()), (None, Some(at(22))));
        assert_eq!(late.take(at(40)), Some(first));
        assert_eq!(late.take(at(40)), Some(second));
        assert_eq!((late.take(at(90)), late.next()), (None, None));
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let mut late = Late::default();
        for n in 0..=USERS_MAX {
            late.begin(UserHash(n as u32), at(0));
        }
        let mut taken = 0;
        while late.take(at(60)).is_some() {
            taken += 1;
        }
        assert_eq!(taken, USERS_MAX);
    }
}
