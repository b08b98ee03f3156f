//! Consistent hashing of users over backends (docs/protocol/placement.md, hash ring).
//!
//! A ring is built once, whenever the backend list changes, and then only read.

use std::net::IpAddr;

use md5::{Digest, Md5};

use super::ip_text::{ip_order, ip_text};
use super::{BackendSlot, UserHash};

/// The virtual nodes of one tag's usable backends.
///
/// Six bytes a point, and about four bytes more for the jump table that makes a lookup a short walk
/// instead of a full binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashRing {
    /// Ascending, without duplicates.
    points: Box<[u32]>,
    /// `slots[i]` serves the hashes above `points[i - 1]` up to `points[i]`.
    slots: Box<[BackendSlot]>,
    /// Where Dovecot's search ends on a point that several backends share, when that is another
    /// backend than the one in `slots`. Ascending; nearly always empty.
    collisions: Box<[(u32, BackendSlot)]>,
    /// `jumps[h >> shift]` is the first index whose point is not below the bucket of `h`. One entry
    /// more than there are buckets.
    jumps: Box<[u32]>,
    /// 32 minus the binary logarithm of the number of buckets, 1..=31.
    shift: u32,
}

/// A point while the ring is built.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    point: u32,
    /// Place of the backend in address order: equal points are sorted by it.
    rank: u32,
}

impl HashRing {
    /// Builds the ring of one tag from its usable backends: address, virtual nodes, slot. The order
    /// of `backends` does not matter. The caller leaves out what is down and bounds the sum of the
    /// virtual nodes ([`super::backends::MAX_POINTS`]), to which time and memory are proportional.
    pub fn build(backends: impl Iterator<Item = (IpAddr, u32, BackendSlot)>) -> HashRing {
        let mut backends: Vec<_> = backends.collect();
        backends.sort_by(|a, b| ip_order(a.0, b.0));
        let total = backends.iter().map(|(_, vhosts, _)| *vhosts as usize).sum();
        let mut nodes = Vec::with_capacity(total);
        for (rank, (ip, vhosts, _)) in backends.iter().enumerate() {
            let label = ip_text(*ip);
            let rank = rank as u32;
            nodes.extend((0..*vhosts).map(|i| Node {
                point: point(&label, i),
                rank,
            }));
        }
        nodes.sort_unstable();
        let slot_of = |node: &Node| backends[node.rank as usize].2;
        let collisions = collisions(&nodes, slot_of);
        // Stable: keeps the first of equal points, the backend with the lowest address.
        nodes.dedup_by_key(|node| node.point);
        let points: Box<[u32]> = nodes.iter().map(|node| node.point).collect();
        let (jumps, shift) = jump_table(&points);
        HashRing {
            slots: nodes.iter().map(slot_of).collect(),
            points,
            collisions,
            jumps,
            shift,
        }
    }

    /// The backend a new user with this hash goes to. `None`: the ring is empty.
    #[inline]
    pub fn lookup(&self, hash: UserHash) -> Option<BackendSlot> {
        let first = *self.slots.first()?;
        let UserHash(hash) = hash;
        let bucket = (hash >> self.shift) as usize;
        let (from, to) = (self.jumps[bucket] as usize, self.jumps[bucket + 1] as usize);
        let index = from + self.points[from..to].partition_point(|point| *point < hash);
        if !self.collisions.is_empty()
            && let Ok(i) = self
                .collisions
                .binary_search_by_key(&hash, |(point, _)| *point)
        {
            return Some(self.collisions[i].1);
        }
        // Past the last point the ring begins again.
        Some(self.slots.get(index).copied().unwrap_or(first))
    }

    /// Number of different points.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// True if no backend is usable: every lookup gives `None`.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The points, ascending, each with the backend that serves the hashes just below it.
    pub fn iter(&self) -> impl Iterator<Item = (u32, BackendSlot)> + '_ {
        self.points.iter().copied().zip(self.slots.iter().copied())
    }
}

/// Point of a backend's virtual node `index`: the first 32 bits of MD5 over `address-index`.
fn point(label: &str, index: u32) -> u32 {
    let mut digits = [0; 10];
    let mut first = digits.len();
    let mut rest = index;
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digest = Md5::new()
        .chain_update(label.as_bytes())
        .chain_update(b"-")
        .chain_update(&digits[first..])
        .finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// The points that several backends share and for which the search below ends on another backend
/// than the one with the lowest address.
///
/// Which of the equal points a director answers with, for a hash equal to them, follows from how it
/// halves the list; that is decided here once, so that lookups are free to search differently.
fn collisions(nodes: &[Node], slot_of: impl Fn(&Node) -> BackendSlot) -> Box<[(u32, BackendSlot)]> {
    nodes
        .chunk_by(|a, b| a.point == b.point)
        .filter(|equal| equal.len() > 1)
        .filter_map(|equal| {
            let point = equal[0].point;
            let hit = slot_of(&nodes[halving_search(nodes, point)?]);
            (hit != slot_of(&equal[0])).then_some((point, hit))
        })
        .collect()
}

/// The index at which Dovecot's binary search meets `point`; `None` if there is no such point.
fn halving_search(nodes: &[Node], point: u32) -> Option<usize> {
    let (mut low, mut high) = (0, nodes.len());
    while low < high {
        let middle = (low + high) / 2;
        match point.cmp(&nodes[middle].point) {
            std::cmp::Ordering::Greater => low = middle + 1,
            std::cmp::Ordering::Less => high = middle,
            std::cmp::Ordering::Equal => return Some(middle),
        }
    }
    None
}

/// About one bucket for every point: MD5 spreads the points evenly, so a lookup compares with one or
/// two of them. At least two buckets, because a shift by 32 is not defined; at most 2^22 (16 MiB).
fn jump_table(points: &[u32]) -> (Box<[u32]>, u32) {
    if points.is_empty() {
        return (Box::default(), 0);
    }
    let bits = points
        .len()
        .next_power_of_two()
        .trailing_zeros()
        .clamp(1, 22);
    let shift = 32 - bits;
    let mut jumps = Vec::with_capacity((1 << bits) + 1);
    let mut index = 0;
    for bucket in 0..1u64 << bits {
        while index < points.len() && u64::from(points[index]) < bucket << shift {
            index += 1;
        }
        jumps.push(index as u32);
    }
    jumps.push(points.len() as u32);
    (jumps.into(), shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word: all points in order, halving search, wrap.
    struct Naive {
        nodes: Vec<Node>,
        slots: Vec<BackendSlot>,
    }

    impl Naive {
        fn new(backends: &[(IpAddr, u32, BackendSlot)]) -> Naive {
            let mut backends = backends.to_vec();
            backends.sort_by(|a, b| ip_order(a.0, b.0));
            let mut nodes = Vec::new();
            for (rank, (ip, vhosts, _)) in backends.iter().enumerate() {
                for i in 0..*vhosts {
                    let digest = Md5::digest(format!("{}-{i}", ip_text(*ip)));
                    let point = u32::from_be_bytes(digest[..4].try_into().expect("four bytes"));
                    nodes.push(Node {
                        point,
                        rank: rank as u32,
                    });
                }
            }
            nodes.sort();
            Naive {
                nodes,
                slots: backends.iter().map(|b| b.2).collect(),
            }
        }

        fn lookup(&self, hash: u32) -> Option<BackendSlot> {
            let above = self.nodes.iter().position(|node| node.point >= hash);
            let index = halving_search(&self.nodes, hash).or(above);
            let node = self.nodes.get(index.unwrap_or(0))?;
            Some(self.slots[node.rank as usize])
        }
    }

    fn ring(backends: &[(IpAddr, u32, BackendSlot)]) -> HashRing {
        HashRing::build(backends.iter().copied())
    }

    #[test]
    fn an_empty_ring_has_no_backend() {
        let ip = IpAddr::from([10, 0, 0, 1]);
        for ring in [
            ring(&[]),
            ring(&[(ip, 0, BackendSlot(1))]),
            HashRing::default(),
        ] {
            assert!(ring.is_empty());
            assert_eq!(ring.lookup(UserHash(1)), None);
        }
    }

    #[test]
    fn one_point_serves_everybody() {
        let ring = ring(&[(IpAddr::from([10, 0, 0, 1]), 1, BackendSlot(7))]);
        for hash in [1, 0x3c78_9421, 0x3c78_9422, u32::MAX] {
            assert_eq!(ring.lookup(UserHash(hash)), Some(BackendSlot(7)));
        }
        assert_eq!(
            ring.iter().collect::<Vec<_>>(),
            [(0x3c78_9421, BackendSlot(7))]
        );
    }

    fn any_backends() -> impl Strategy<Value = Vec<(IpAddr, u32, BackendSlot)>> {
        prop::collection::btree_map(any::<IpAddr>(), 0..60u32, 0..12).prop_map(|map| {
            let numbered = map.into_iter().enumerate();
            numbered
                .map(|(i, (ip, vhosts))| (ip, vhosts, BackendSlot(i as u16)))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn lookup_agrees_with_the_definition(
            backends in any_backends(),
            hashes in prop::collection::vec(any::<u32>(), 20),
        ) {
            let (ring, naive) = (ring(&backends), Naive::new(&backends));
            let near = ring.points.iter().flat_map(|p| [p.wrapping_sub(1), *p, p.wrapping_add(1)]);
            for hash in near.chain(hashes).chain([1, u32::MAX]) {
                prop_assert_eq!(ring.lookup(UserHash(hash)), naive.lookup(hash), "{}", hash);
            }
        }

        #[test]
        fn the_order_of_backends_does_not_matter(backends in any_backends()) {
            let mut reversed = backends.clone();
            reversed.reverse();
            prop_assert_eq!(ring(&backends), ring(&reversed));
        }

        #[test]
        fn taking_a_backend_away_moves_only_its_users(
            backends in any_backends(),
            hash: u32,
        ) {
            let before = ring(&backends).lookup(UserHash(hash));
            let others: Vec<_> = backends.iter().copied().skip(1).collect();
            if before.is_some() && before != backends.first().map(|b| b.2) {
                prop_assert_eq!(ring(&others).lookup(UserHash(hash)), before);
            }
        }
    }
}
