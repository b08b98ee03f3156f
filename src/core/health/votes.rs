//! What the other directors say of backends and of the ring.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{MAX_BACKENDS, Verdict};
use crate::core::Mono;
use crate::wire::health::Line;
use crate::wire::ring::DirectorId;

/// Directors say something every second ([`Line::Beat`]). Who has said nothing for so long does not count any
/// more: its votes may be old, and it may have lost its network.
pub const FRESH: u64 = 5 * Mono::SECOND;

/// Another director.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// When all that it had to say was said last; `None`: not on this connection.
    beat: Option<Mono>,
    votes: BTreeMap<IpAddr, Verdict>,
    joined: bool,
    neighbours: Vec<(DirectorId, bool)>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Votes {
    peers: BTreeMap<DirectorId, Peer>,
}

/// How many directors say what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// It has failed.
    pub failed: u32,
    /// It is good.
    pub good: u32,
}

impl Votes {
    /// A director has said something.
    pub fn heard(&mut self, from: DirectorId, line: &Line, now: Mono) {
        let peer = self.peers.entry(from).or_default();
        match line {
            Line::Hello { .. } => *peer = Peer::default(),
            Line::Vote { ip, verdict, .. } => {
                if peer.votes.len() < MAX_BACKENDS || peer.votes.contains_key(ip) {
                    peer.votes.insert(*ip, *verdict);
                }
            }
            Line::Gone(ip) => drop(peer.votes.remove(ip)),
            Line::Ring { joined, neighbours } => {
                peer.joined = *joined;
                peer.neighbours.clone_from(neighbours);
            }
            Line::Beat(_) => peer.beat = Some(now),
            Line::Mark(_) | Line::Heard(_) => {}
        }
    }

    /// A director's connection has ended. It stays known as a voter.
    pub fn lost(&mut self, from: DirectorId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            *peer = Peer::default();
        }
    }

    /// Directors that have been removed from the ring do not count any more.
    pub fn forget_strangers(&mut self, directors: &BTreeSet<DirectorId>) {
        self.peers.retain(|id, _| directors.contains(id));
    }

    fn fresh(&self, now: Mono) -> impl Iterator<Item = (DirectorId, &Peer)> {
        let is_fresh = move |peer: &Peer| peer.beat.is_some_and(|at| now.since(at) < FRESH);
        self.peers
            .iter()
            .filter(move |(_, peer)| is_fresh(peer))
            .map(|(id, peer)| (*id, peer))
    }

    /// Directors whose votes count now, and whether they have both neighbours.
    pub fn voters(&self, now: Mono) -> impl Iterator<Item = (DirectorId, bool)> {
        self.fresh(now).map(|(id, peer)| (id, peer.joined))
    }

    /// Whether a director has ever voted, in the life of this process.
    pub fn has_voted(&self, id: DirectorId) -> bool {
        self.peers.contains_key(&id)
    }

    /// What those whose votes count say of a backend.
    pub fn tally(&self, ip: IpAddr, now: Mono) -> Tally {
        let mut tally = Tally::default();
        for (_, peer) in self.fresh(now) {
            tally.add(peer.votes.get(&ip).copied().unwrap_or_default());
        }
        tally
    }

    /// The neighbours of those whose votes count, and whether they have said that they are Homing.
    pub fn neighbours(&self, now: Mono) -> impl Iterator<Item = (DirectorId, bool)> {
        self.fresh(now)
            .flat_map(|(_, peer)| peer.neighbours.iter().copied())
    }
}

impl Tally {
    /// One more vote.
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Failed => self.failed += 1,
            Verdict::Good => self.good += 1,
            Verdict::Unknown => {}
        }
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

    fn vote(verdict: Verdict) -> Line {
        Line::Vote {
            ip: [10, 1, 0, 1].into(),
            verdict,
            since: 0,
            why: String::new(),
        }
    }

    #[test]
    fn a_vote_counts_from_the_first_beat_until_five_seconds_after_the_last() {
        let mut votes = Votes::default();
        let ip = [10, 1, 0, 1].into();
        let failed = Tally { failed: 1, good: 0 };
        votes.heard(director(1), &vote(Verdict::Failed), Mono(0));
        assert_eq!(
            votes.tally(ip, Mono(0)),
            Tally::default(),
            "it has not said all yet"
        );
        votes.heard(director(1), &Line::Beat(1), Mono(10));
        assert_eq!(votes.tally(ip, Mono(10)), failed);
        assert_eq!(votes.tally(ip, Mono(9 + FRESH)), failed);
        assert_eq!(votes.tally(ip, Mono(10 + FRESH)), Tally::default());
        votes.heard(director(1), &Line::Beat(2), Mono(11 + FRESH));
        assert_eq!(votes.tally(ip, Mono(11 + FRESH)), failed);
        votes.lost(director(1));
        assert_eq!(votes.tally(ip, Mono(11 + FRESH)), Tally::default());
        assert!(votes.has_voted(director(1)));
        votes.forget_strangers(&BTreeSet::new());
        assert!(!votes.has_voted(director(1)));
    }

    #[test]
    fn a_new_connection_begins_anew() {
        let mut votes = Votes::default();
        let ip = [10, 1, 0, 1].into();
        let hello = Line::Hello {
            minor: 0,
            me: director(1),
        };
        for line in [
            hello.clone(),
            vote(Verdict::Failed),
            Line::Beat(0),
            hello,
            Line::Beat(0),
        ] {
            votes.heard(director(1), &line, Mono(0));
        }
        assert_eq!(votes.tally(ip, Mono(0)), Tally::default());
        votes.heard(director(1), &vote(Verdict::Good), Mono(0));
        assert_eq!(votes.tally(ip, Mono(0)), Tally { failed: 0, good: 1 });
        votes.heard(director(1), &Line::Gone(ip), Mono(0));
        assert_eq!(votes.tally(ip, Mono(0)), Tally::default());
    }
}
