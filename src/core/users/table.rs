//! The storage of one shard: a compact open-addressing table of user entries.
//!
//! Linear probing in which the entries of a run are kept in order of their mixed key, so a search
//! for an absent user ends at the first larger key and the table can be 7/8 full. It grows by a
//! quarter instead of doubling: 16-byte entries then cost 18 to 23 bytes a user at any number of
//! users, and a shard's growth copies a few hundred kilobytes at most. Growing needs no rehash,
//! since the new array is filled in the order of the old one.

use super::SHARD_BITS;
use super::entry::Entry;
use crate::core::UserKey;

/// Slots behind the last home position, where a run at the end goes on without wrapping round.
/// Runs of a table 7/8 full are rarely longer; when one is, the array becomes longer, but not the
/// capacity: however the hashes lie, memory stays proportional to their number.
const OVERFLOW: usize = 96;
/// Home positions of a table that holds its first entry.
const FIRST_CAPACITY: usize = 8;

/// Entries by key. `seed` must be odd; it is drawn per process so that nobody can choose user
/// names that collide.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Entry>,
    capacity: usize,
    len: usize,
    seed: u32,
}

impl Table {
    /// An empty table; allocates nothing.
    pub fn new(seed: u32) -> Table {
        Table {
            slots: Vec::new(),
            capacity: 0,
            len: 0,
            seed: seed | 1,
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Entry>()
    }

    /// The high bits of the result choose the home position. The bits that all users of a shard
    /// share go to the other end first; multiplication by any odd number then only permutes the
    /// rest, so that hashes of MD5 are spread evenly with every seed.
    fn mix(&self, key: UserKey) -> u32 {
        let tag = u32::from(key.tag.0).wrapping_mul(0x9e37_79b1);
        (key.hash.0.rotate_left(SHARD_BITS) ^ tag).wrapping_mul(self.seed)
    }

    fn home(&self, mixed: u32) -> usize {
        home_among(self.capacity, mixed)
    }

    /// Position of the entry, or the position where it belongs.
    fn search(&self, key: UserKey) -> Result<usize, usize> {
        if self.capacity == 0 {
            return Err(0);
        }
        let mixed = self.mix(key);
        let mut at = self.home(mixed);
        loop {
            let entry = &self.slots[at];
            if entry.is_empty() {
                return Err(at);
            }
            if entry.key() == key {
                return Ok(at);
            }
            if self.mix(entry.key()) > mixed {
                return Err(at);
            }
            at += 1;
        }
    }

    /// Where the search for `key` begins, whatever is there; `None`: nowhere.
    pub fn home_of(&self, key: UserKey) -> Option<&Entry> {
        self.slots.get(self.home(self.mix(key)))
    }

    /// The entry of `key`.
    pub fn get(&self, key: UserKey) -> Option<&Entry> {
        self.search(key).ok().map(|at| &self.slots[at])
    }

    /// The entry of `key`, to be changed in place. Its key must stay the same.
    pub fn get_mut(&mut self, key: UserKey) -> Option<&mut Entry> {
        self.search(key).ok().map(|at| &mut self.slots[at])
    }

    /// Adds an entry whose key must not be present yet.
    pub fn insert(&mut self, entry: Entry) {
        assert!(!entry.is_empty(), "an entry needs a hash other than 0");
        if (self.len + 1) * 8 > self.capacity * 7 {
            self.resize((self.capacity * 5 / 4).max(FIRST_CAPACITY));
        }
        let at = match self.search(entry.key()) {
            Ok(_) => unreachable!("inserted twice"),
            Err(at) => at,
        };
        // Searches end at the last slot at the latest: it always stays empty.
        let Some(run) = self.slots[at..].iter().position(Entry::is_empty) else {
            unreachable!("no empty slot at the end");
        };
        let free = at + run;
        if free + 1 == self.slots.len() {
            lengthen(&mut self.slots, self.capacity);
        }
        self.slots.copy_within(at..free, at + 1);
        self.slots[at] = entry;
        self.len += 1;
    }

    /// Removes and returns the entry of `key`.
    pub fn remove(&mut self, key: UserKey) -> Option<Entry> {
        let at = self.search(key).ok()?;
        Some(self.remove_at(at))
    }

    fn remove_at(&mut self, at: usize) -> Entry {
        let removed = self.slots[at];
        let mut end = at + 1;
        while !self.slots[end].is_empty() && self.home(self.mix(self.slots[end].key())) < end {
            end += 1;
        }
        self.slots.copy_within(at + 1..end, at);
        self.slots[end - 1] = Entry::EMPTY;
        self.len -= 1;
        removed
    }

    /// Keeps the entries for which `keep` says so, then gives memory back when the table has
    /// become much too large.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut Entry) -> bool) {
        let mut at = 0;
        while at < self.slots.len() {
            if !self.slots[at].is_empty() && !keep(&mut self.slots[at]) {
                self.remove_at(at);
            } else {
                at += 1;
            }
        }
        if self.len == 0 {
            self.slots = Vec::new();
            self.capacity = 0;
        } else if self.capacity > FIRST_CAPACITY && self.len * 5 < self.capacity * 2 {
            self.resize((self.len * 5 / 4).max(FIRST_CAPACITY));
        }
    }

    /// All entries, in no useful order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter(|entry| !entry.is_empty())
    }

    /// Lays the entries out for another capacity. Their order stays, so none is looked for.
    fn resize(&mut self, capacity: usize) {
        let length = capacity + (capacity / 8 + 8).min(OVERFLOW);
        let mut slots = Vec::with_capacity(length);
        slots.resize(length, Entry::EMPTY);
        let mut next = 0;
        for entry in self.iter() {
            let at = next.max(home_among(capacity, self.mix(entry.key())));
            if at + 1 >= slots.len() {
                lengthen(&mut slots, capacity);
            }
            slots[at] = *entry;
            next = at + 1;
        }
        self.slots = slots;
        self.capacity = capacity;
    }

    /// Order, reachability and count of all entries; for debug and simulation builds.
    pub fn check_invariants(&self) {
        let mut seen = 0;
        let mut last: Option<(usize, u32)> = None;
        for (at, entry) in self.slots.iter().enumerate() {
            if entry.is_empty() {
                last = None;
                continue;
            }
            seen += 1;
            let mixed = self.mix(entry.key());
            let home = self.home(mixed);
            assert!(home <= at, "an entry stands before its home");
            assert!(
                home == at || last.is_some(),
                "a gap between an entry and its home"
            );
            if let Some((_, before)) = last {
                assert!(before <= mixed, "a run is out of order");
            }
            last = Some((at, mixed));
        }
        assert_eq!(seen, self.len, "the count is wrong");
        assert!(
            self.slots.last().is_none_or(Entry::is_empty),
            "a search could pass the end"
        );
    }
}

fn home_among(capacity: usize, mixed: u32) -> usize {
    ((u64::from(mixed) * capacity as u64) >> 32) as usize
}

/// Makes room for a run that has reached the end; by a share of the table, so that even a run of
/// all entries is copied a bounded number of times.
fn lengthen(slots: &mut Vec<Entry>, capacity: usize) {
    let more = OVERFLOW.max(capacity / 8);
    slots.reserve_exact(more);
    slots.resize(slots.len() + more, Entry::EMPTY);
}
