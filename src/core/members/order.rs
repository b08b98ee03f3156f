//! Who stands where: the walk round the ring, better neighbours, and whom to dial
//! (docs/protocol/ring.md, left and right).

use std::cmp::Ordering;

use super::{Member, Members};
use crate::core::Mono;
use crate::wire::ring::DirectorId;

/// All other directors in the order in which a walk upwards meets them: from the one behind this
/// director to the end of the list, then from its beginning.
pub type Walk<'a> = std::iter::Chain<std::slice::Iter<'a, Member>, std::slice::Iter<'a, Member>>;

impl Members {
    /// The others, removed ones too.
    pub fn walk(&self) -> Walk<'_> {
        let me = self.list.partition_point(|member| member.id < self.me);
        let after = self.list.get(me + 1..).unwrap_or_default();
        after.iter().chain(&self.list[..me])
    }

    /// Which of two directors the walk meets earlier: `Greater` if `a`, the sign that the rules of
    /// the protocol use. This director is met last.
    pub fn order(&self, a: DirectorId, b: DirectorId) -> Ordering {
        let place = |id: DirectorId| {
            let lap = match id.cmp(&self.me) {
                Ordering::Greater => 0,
                Ordering::Less => 1,
                Ordering::Equal => 2,
            };
            (lap, id)
        };
        place(b).cmp(&place(a))
    }

    /// Whether `a` should be this director's right rather than `b`.
    pub fn is_better_right(&self, a: DirectorId, b: DirectorId) -> bool {
        self.order(a, b).is_gt()
    }

    /// Whether `a` should be this director's left rather than `b`.
    pub fn is_better_left(&self, a: DirectorId, b: DirectorId) -> bool {
        self.order(a, b).is_lt()
    }

    /// Who should be this director's right; `None`: there is no other.
    pub fn preferred_right(&self) -> Option<DirectorId> {
        self.walk()
            .find(|member| !member.removed)
            .map(|member| member.id)
    }

    /// Who should be this director's left; `None`: there is no other.
    pub fn preferred_left(&self) -> Option<DirectorId> {
        self.walk()
            .rfind(|member| !member.removed)
            .map(|member| member.id)
    }

    /// Whom to dial for a right, the best first: not who was removed, nor who failed in the last
    /// minute.
    pub fn candidates(&self, now: Mono) -> impl Iterator<Item = DirectorId> {
        self.walk()
            .filter(move |member| member.may_be_dialled(now))
            .map(|member| member.id)
    }

    /// Whether a DIRECTOR line that names `named` goes no further: it should be our right and is
    /// not, so it is presumed dead, and nobody else would stop the line.
    pub fn ends_director_line(&self, named: DirectorId, right: Option<DirectorId>) -> bool {
        right.is_some_and(|right| self.is_better_right(named, right))
    }
}
