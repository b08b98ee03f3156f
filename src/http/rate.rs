//! How often one peer may ask, and how often it may be wrong about its token.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::core::Mono;

/// Requests of one peer in a second, for long. The page asks three times in two seconds, a script that
/// walks a large map some hundred times.
pub const REQUESTS_PER_SECOND: u64 = 100;
/// Requests that it may make at once after a pause.
pub const REQUESTS_AT_ONCE: u64 = 200;
/// Wrong tokens of one peer in a minute. A token cannot be guessed anyway; this keeps the log short.
pub const WRONG_PER_MINUTE: u64 = 30;
/// Peers that are remembered. Of more, those that were quiet for the longest are forgotten.
pub const PEERS_MAX: usize = 4096;

/// One allowance that fills up with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When it is full.
    full: Mono,
}

impl Bucket {
    /// Takes one out, each of which takes `each` nanoseconds to come back, of at most `most`.
    fn take(&mut self, now: Mono, each: u64, most: u64) -> bool {
        let from = self.full.max(now);
        if from.since(now) + each > each.saturating_mul(most) {
            return false;
        }
        self.full = from.after(each);
        true
    }

    fn is_empty(&self, now: Mono, each: u64, most: u64) -> bool {
        self.full.max(now).since(now) + each > each.saturating_mul(most)
    }
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    requests: Bucket,
    wrong: Bucket,
}

/// What is remembered of all peers. `None` as a peer: whoever uses a path.
#[derive(Debug, Default)]
pub struct Rates(HashMap<Option<IpAddr>, Peer>);

const REQUEST: u64 = Mono::SECOND / REQUESTS_PER_SECOND;
const WRONG: u64 = 60 * Mono::SECOND / WRONG_PER_MINUTE;

impl Rates {
    /// Whether a request of a peer may be looked at. One IPv6 network of 64 bits is one peer.
    pub fn allow(&mut self, peer: Option<IpAddr>, now: Mono) -> bool {
        let peer = self.peer(peer, now);
        !peer.wrong.is_empty(now, WRONG, WRONG_PER_MINUTE)
            && peer.requests.take(now, REQUEST, REQUESTS_AT_ONCE)
    }

    /// A token was wrong.
    pub fn was_wrong(&mut self, peer: Option<IpAddr>, now: Mono) {
        self.peer(peer, now)
            .wrong
            .take(now, WRONG, WRONG_PER_MINUTE);
    }

    fn peer(&mut self, peer: Option<IpAddr>, now: Mono) -> &mut Peer {
        let key = peer.map(network);
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&key) {
            self.forget(now);
        }
        let full = Bucket { full: now };
        self.0.entry(key).or_insert(Peer {
            requests: full,
            wrong: full,
        })
    }

    /// Those that have all of their allowance, or else the one that is nearest to it.
    fn forget(&mut self, now: Mono) {
        let due = |peer: &Peer| peer.requests.full.max(peer.wrong.full);
        self.0.retain(|_, peer| due(peer) > now);
        if self.0.len() >= PEERS_MAX {
            let nearest = self.0.iter().min_by_key(|(_, peer)| due(peer));
            let nearest = nearest.map(|(&key, _)| key);
            if let Some(key) = nearest {
                self.0.remove(&key);
            }
        }
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::from((u128::from(ip) >> 64 << 64).to_be_bytes()),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> Option<IpAddr> {
        Some(IpAddr::from(n.to_be_bytes()))
    }

    #[test]
    fn a_peer_has_its_share_and_no_more() {
        let mut rates = Rates::default();
        let now = Mono(1_000 * Mono::SECOND);
        let burst = (0..1000).filter(|_| rates.allow(ip(1), now)).count();
        assert_eq!(burst as u64, REQUESTS_AT_ONCE);
        assert!(rates.allow(ip(2), now), "another one");
        let later = now.after(Mono::SECOND);
        let then = (0..1000).filter(|_| rates.allow(ip(1), later)).count();
        assert_eq!(then as u64, REQUESTS_PER_SECOND);
    }

    #[test]
    fn one_that_guesses_waits() {
        let mut rates = Rates::default();
        let now = Mono(1_000 * Mono::SECOND);
        for _ in 0..WRONG_PER_MINUTE {
            assert!(rates.allow(ip(1), now));
            rates.was_wrong(ip(1), now);
        }
        assert!(!rates.allow(ip(1), now));
        assert!(rates.allow(ip(1), now.after(3 * Mono::SECOND)));
    }

    #[test]
    fn one_network_of_ipv6_is_one_peer_and_memory_is_bounded() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        let mut rates = Rates::default();
        let now = Mono(1_000 * Mono::SECOND);
        for n in 0..3 * PEERS_MAX as u32 {
            rates.allow(ip(n), now);
            assert!(rates.0.len() <= PEERS_MAX);
        }
    }
}
