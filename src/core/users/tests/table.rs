use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// Inserts, or changes in place what is there.
    Put(UserKey, u64),
    Get(UserKey),
    Remove(UserKey),
    /// Keeps the entries whose hash is not a multiple of this.
    Retain(u32),
    /// Inserts that many neighbours, so that runs become long.
    Fill(UserKey, u32, u32),
}

/// Hashes as MD5 makes them, and as somebody would choose them who wants long runs.
fn any_hash() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        1..300u32,
        (0..300u32).prop_map(|n| u32::MAX - n),
        (0..300u32).prop_map(|n| n << 10 | 3),
        (0..300u32).prop_map(|n| n << 22 | 0x3f_ffff),
        (0..300u32).prop_map(|n| n.wrapping_mul(0x9e37_79b1)),
    ]
    .prop_map(|hash| hash.max(1))
}

fn any_key() -> impl Strategy<Value = UserKey> {
    (prop_oneof![Just(0), 0..4u16, Just(u16::MAX)], any_hash())
        .prop_map(|(tag, hash)| super::key(tag, hash))
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (any_key(), 0..1000u64).prop_map(|(key, age)| Op::Put(key, age)),
        3 => any_key().prop_map(Op::Get),
        5 => any_key().prop_map(Op::Remove),
        1 => (2..5u32).prop_map(Op::Retain),
        1 => (any_key(), 1..200u32, prop_oneof![Just(1u32), any::<u32>()])
            .prop_map(|(key, count, step)| Op::Fill(key, count, step)),
    ]
}

fn any_seed() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u32::MAX),
        Just(1 << 31),
        any::<u32>()
    ]
}

type Model = BTreeMap<UserKey, Entry>;

fn put(table: &mut Table, model: &mut Model, key: UserKey, age: u64) {
    let stamp = Wall(NOW - age);
    match table.get_mut(key) {
        Some(entry) => entry.set_stamp(stamp),
        None => table.insert(Entry::new(key, BackendSlot(7), stamp)),
    }
    let entry = Entry::new(key, BackendSlot(7), stamp);
    model.insert(key, entry);
}

fn apply(table: &mut Table, model: &mut Model, op: &Op) {
    match *op {
        Op::Put(key, age) => put(table, model, key, age),
        Op::Get(key) => assert_eq!(table.get(key), model.get(&key)),
        Op::Remove(key) => assert_eq!(table.remove(key), model.remove(&key)),
        Op::Retain(n) => {
            let mut asked = Vec::new();
            table.retain(|entry| {
                asked.push(entry.key());
                entry.key().hash.0 % n != 0
            });
            asked.sort_unstable();
            assert!(
                asked.iter().eq(model.keys()),
                "each entry is asked about once"
            );
            model.retain(|key, _| key.hash.0 % n != 0);
        }
        Op::Fill(key, count, step) => {
            for n in 0..count {
                let hash = key.hash.0.wrapping_add(n.wrapping_mul(step)).max(1);
                put(table, model, super::key(key.tag.0, hash), 0);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_table_is_a_map(seed in any_seed(), ops in prop::collection::vec(any_op(), 1..120)) {
        let mut table = Table::new(seed);
        let mut model = Model::new();
        for op in &ops {
            apply(&mut table, &mut model, op);
            table.check_invariants();
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.is_empty(), model.is_empty());
        }
        let mut entries: Vec<_> = table.iter().copied().collect();
        entries.sort_by_key(Entry::key);
        prop_assert!(entries.iter().eq(model.values()));
        for key in model.keys() {
            prop_assert_eq!(table.get(*key), model.get(key));
        }
    }
}

/// As MD5 would spread them (splitmix64), all in one shard.
fn hashes_of_shard(shard: u32, count: usize) -> impl Iterator<Item = u32> {
    let mut state = 0u64;
    let random = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 42) as u32
    });
    let mut seen = std::collections::BTreeSet::new();
    random
        .filter(move |&low| seen.insert(low))
        .map(move |low| (shard << 22 | low).max(1))
        .take(count)
}

#[test]
fn a_user_costs_less_than_28_bytes_at_any_number_of_users() {
    let mut table = Table::new(0x5bd1_e995);
    for (n, hash) in hashes_of_shard(5, 200_000).enumerate() {
        table.insert(Entry::new(super::key(0, hash), BackendSlot(0), Wall(NOW)));
        if n + 1 >= 1000 {
            let per_user = table.memory() as f64 / (n + 1) as f64;
            assert!(per_user < 28.0, "{per_user} bytes at {} users", n + 1);
        }
    }
    table.check_invariants();
}

#[test]
fn no_seed_and_no_shard_makes_memory_grow() {
    // Seeds that spread badly if they met the bits that all users of a shard share.
    for seed in [0, 1, 3, 0x8000_0001, 0x4000_0001, 0x5555_5555, u32::MAX] {
        for shard in [0, 1, 511, 1023] {
            let mut table = Table::new(seed);
            for hash in hashes_of_shard(shard, 10_000) {
                table.insert(Entry::new(super::key(0, hash), BackendSlot(0), Wall(NOW)));
            }
            let per_user = table.memory() as f64 / 10_000.0;
            assert!(
                per_user < 28.0,
                "{per_user} bytes, seed {seed}, shard {shard}"
            );
        }
    }
}

#[test]
fn users_who_share_a_place_cost_what_others_cost() {
    // Neighbouring hashes, which all want the last places of the table with one seed or another.
    for seed in [1, u32::MAX] {
        for from in [1, (1 << 22) - 5000, u32::MAX - 5000] {
            let mut table = Table::new(seed);
            for hash in from..from + 5000 {
                table.insert(Entry::new(super::key(0, hash), BackendSlot(0), Wall(NOW)));
            }
            table.check_invariants();
            let per_user = table.memory() as f64 / 5000.0;
            assert!(
                per_user < 48.0,
                "{per_user} bytes, seed {seed}, from {from}"
            );
        }
    }
}

#[test]
fn memory_comes_back() {
    let mut table = Table::new(9);
    let hashes: Vec<_> = hashes_of_shard(2, 20_000).collect();
    for &hash in &hashes {
        table.insert(Entry::new(super::key(0, hash), BackendSlot(0), Wall(NOW)));
    }
    let full = table.memory();
    let kept: std::collections::BTreeSet<_> = hashes[..2000].iter().collect();
    table.retain(|entry| kept.contains(&entry.key().hash.0));
    table.check_invariants();
    assert!(table.memory() < full / 7, "{} of {full}", table.memory());
    assert!(
        hashes[..2000]
            .iter()
            .all(|&h| table.get(super::key(0, h)).is_some())
    );
    table.retain(|_| false);
    assert_eq!((table.memory(), table.len()), (0, 0));
    assert!(table.get(super::key(0, 1)).is_none());
}

#[test]
fn an_entry_takes_16_bytes_and_clamps_its_stamp() {
    assert_eq!(size_of::<Entry>(), 16);
    let stamp = |seconds| {
        Entry::new(super::key(0, 1), BackendSlot(0), Wall(seconds))
            .stamp()
            .0
    };
    assert_eq!(stamp(NOW), NOW);
    assert_eq!(stamp(0), 1_700_000_000);
    assert_eq!(stamp(u64::MAX), 1_700_000_000 + u64::from(u32::MAX));
}

#[test]
fn flags_of_an_entry_do_not_touch_each_other() {
    let mut entry = Entry::new(super::key(3, 9), BackendSlot(4), Wall(NOW));
    entry.set_weak(true);
    entry.set_killing(true);
    entry.set_queued(true);
    entry.set_decided_by(12);
    entry.set_backend(BackendSlot(5));
    entry.set_killing(false);
    assert!(entry.is_weak() && !entry.is_killing() && entry.is_queued());
    assert_eq!((entry.decided_by(), entry.backend()), (12, BackendSlot(5)));
    assert_eq!((entry.key(), entry.stamp()), (super::key(3, 9), Wall(NOW)));
}
