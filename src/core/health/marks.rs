//! What is remembered of a backend's state besides what the director ring says: who has set it, and which
//! weight it is to have. All Homing directors have the same marks; the last word counts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::core::Mono;
use crate::wire::health::{Kind, Mark, MarkLine};
use crate::wire::ring::DirectorId;

/// A mark and when it was set here or came from another director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is remembered.
    pub mark: Mark,
    /// Counts up with each change, at whichever director.
    pub version: u64,
    /// Who made the change; of two with one version the higher director's counts.
    pub by: DirectorId,
    /// Since when this director has it.
    pub since: Mono,
}

/// The marks of all backends; one that has none is left to health.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    map: BTreeMap<IpAddr, Entry>,
    /// Backends that are not in the list, and since when.
    absent: BTreeMap<IpAddr, Mono>,
}

/// How long the mark of a backend is kept that is not in the list: a director that starts hears of the marks
/// before it hears of the backends.
const KEEP: u64 = 120 * Mono::SECOND;

impl Marks {
    /// The mark of a backend.
    pub fn get(&self, ip: IpAddr) -> Mark {
        self.map.get(&ip).map_or(Mark::AUTO, |entry| entry.mark)
    }

    /// The mark, with what belongs to it.
    pub fn entry(&self, ip: IpAddr) -> Option<&Entry> {
        self.map.get(&ip)
    }

    /// For how long the mark has been what it is, nanoseconds.
    pub fn age(&self, ip: IpAddr, now: Mono) -> u64 {
        self.map
            .get(&ip)
            .map_or(u64::MAX, |entry| now.since(entry.since))
    }

    /// All marks, as they are told.
    pub fn iter(&self) -> impl Iterator<Item = MarkLine> {
        self.map.iter().map(|(&ip, entry)| MarkLine {
            ip,
            version: entry.version,
            by: entry.by,
            mark: entry.mark,
        })
    }

    /// Sets a mark here. `false`: it is the same already.
    pub fn set(&mut self, ip: IpAddr, mark: Mark, me: DirectorId, now: Mono) -> bool {
        let known = self.map.get(&ip);
        if known.map_or(Mark::AUTO, |known| known.mark) == mark {
            return false;
        }
        let version = known.map_or(0, |known| known.version).saturating_add(1);
        let entry = Entry {
            mark,
            version,
            by: me,
            since: now,
        };
        self.map.insert(ip, entry);
        true
    }

    /// Takes what another director tells. `false`: it was known, or older. At most `limit` backends have marks.
    pub fn merge(&mut self, line: &MarkLine, limit: usize, now: Mono) -> bool {
        let known = self.map.get(&line.ip);
        let is_newer =
            known.is_none_or(|known| (known.version, known.by) < (line.version, line.by));
        if !is_newer || (known.is_none() && self.map.len() >= limit) {
            return false;
        }
        let entry = Entry {
            mark: line.mark,
            version: line.version,
            by: line.by,
            since: now,
        };
        self.map.insert(line.ip, entry);
        true
    }

    /// Forgets the marks of backends that have long been gone.
    pub fn forget_absent(&mut self, is_there: impl Fn(IpAddr) -> bool, now: Mono) {
        self.absent.retain(|&ip, _| !is_there(ip));
        for &ip in self.map.keys() {
            if !is_there(ip) {
                self.absent.entry(ip).or_insert(now);
            }
        }
        let gone = self
            .absent
            .extract_if(.., |_, since| now.since(*since) >= KEEP);
        for (ip, _) in gone {
            self.map.remove(&ip);
        }
    }
}

impl Mark {
    /// Whether health has taken the backend down, or is about to.
    pub fn is_down_by_health(self) -> bool {
        matches!(self.kind, Kind::Falling | Kind::Down | Kind::Rising(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn director(n: u8) -> DirectorId {
        DirectorId {
            ip: [10, 0, 0, n].into(),
            port: 9090,
        }
    }

    fn ip(n: u8) -> IpAddr {
        [10, 1, 0, n].into()
    }

    fn mark(kind: Kind) -> Mark {
        Mark { kind, ..Mark::AUTO }
    }

    #[test]
    fn the_last_word_counts_wherever_it_was_said() {
        let (mut a, mut b) = (Marks::default(), Marks::default());
        assert!(a.set(ip(1), mark(Kind::Falling), director(1), Mono(1)));
        assert!(!a.set(ip(1), mark(Kind::Falling), director(1), Mono(2)));
        let told: Vec<MarkLine> = a.iter().collect();
        assert!(b.merge(&told[0], 10, Mono(5)));
        assert!(!b.merge(&told[0], 10, Mono(6)));
        assert_eq!(b.age(ip(1), Mono(8)), 3);
        // Both say something at a time: the higher director's word counts at both.
        assert!(a.set(ip(1), mark(Kind::Held), director(1), Mono(9)));
        assert!(b.set(ip(1), mark(Kind::Down), director(2), Mono(9)));
        let (of_a, of_b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
        assert!(a.merge(&of_b[0], 10, Mono(9)));
        assert!(!b.merge(&of_a[0], 10, Mono(9)));
        assert_eq!(
            (a.get(ip(1)), b.get(ip(1))),
            (mark(Kind::Down), mark(Kind::Down))
        );
        // What is said afterwards is later than both.
        assert!(a.set(ip(1), Mark::AUTO, director(1), Mono(10)));
        let of_a: Vec<_> = a.iter().collect();
        assert!(b.merge(&of_a[0], 10, Mono(10)));
        assert_eq!(b.get(ip(1)), Mark::AUTO);
    }

    #[test]
    fn there_is_a_limit_and_what_is_gone_is_forgotten() {
        let mut marks = Marks::default();
        for n in 0..5 {
            let line = MarkLine {
                ip: ip(n),
                version: 1,
                by: director(1),
                mark: mark(Kind::Held),
            };
            assert_eq!(marks.merge(&line, 3, Mono(0)), n < 3);
        }
        let is_there = |it: IpAddr| it == ip(0);
        marks.forget_absent(is_there, Mono(0));
        marks.forget_absent(is_there, Mono(KEEP - 1));
        assert_eq!(marks.iter().count(), 3);
        // One that comes back in between counts anew.
        marks.forget_absent(|it| it != ip(1), Mono(KEEP - 1));
        marks.forget_absent(is_there, Mono(KEEP));
        assert_eq!(marks.iter().count(), 2, "ip(1)");
        marks.forget_absent(is_there, Mono(2 * KEEP));
        assert_eq!(marks.iter().count(), 1, "ip(0)");
    }
}
