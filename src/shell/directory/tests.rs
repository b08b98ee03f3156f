use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::*;
use crate::core::director::{Config, Director, Seed};
use crate::core::snapshot::Standing;
use crate::core::user_hash::Template;

const NOW: u64 = 1_800_000_000;
const USER: UserKey = UserKey {
    tag: TagId(0),
    hash: UserHash(0x1234_5678),
};

fn director(backends: &[(IpAddr, &'static str)]) -> Director {
    let config = Config {
        expire_secs: 900,
        username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
        master_user_separator: None,
        hasher: ahash::RandomState::with_seed(1),
    };
    let seed = |&(ip, tag): &(IpAddr, &'static str)| Seed {
        ip,
        name: None,
        tag,
        vhosts: 100,
    };
    Director::new(config, backends.iter().map(seed)).unwrap()
}

fn tunables(users: u64) -> Tunables {
    let nowhere = || UnixAddress::new(Path::new("/nonexistent")).unwrap();
    Tunables {
        users,
        new_per_second: 0,
        auth_login: nowhere(),
        auth_userdb: nowhere(),
        lookup_timeout: 1,
        batch_delay: 0,
    }
}

/// A directory for two users, with a snapshot for each director that is to be told or not.
fn directory() -> (Directory, [Arc<Snapshot>; 2]) {
    let mut director = director(&[([10, 0, 0, 1].into(), ""), ([10, 0, 0, 2].into(), "t")]);
    let snapshots = [false, true].map(|tell| {
        let standing = Standing {
            tell,
            ..Standing::alone()
        };
        Arc::new(director.snapshot(standing))
    });
    let directory = Directory::new(Arc::clone(&snapshots[0]), tunables(2), 1).unwrap();
    (directory, snapshots)
}

/// An empty directory with room for many users, and backends 10.0.0.1 and so on.
pub(in crate::shell) fn with_backends(count: u8) -> Directory {
    let backends: Vec<_> = (1..=count).map(|n| ([10, 0, 0, n].into(), "")).collect();
    let mut director = director(&backends);
    let snapshot = Arc::new(director.snapshot(Standing::alone()));
    Directory::new(snapshot, tunables(1_000_000), 1).unwrap()
}

fn notes(directory: &Directory) -> Vec<UserKey> {
    let mut notes = Vec::new();
    directory.notes().drain(100, |key| notes.push(key));
    notes
}

#[test]
fn notes_are_left_only_while_somebody_is_to_be_told() {
    let (directory, [nobody, somebody]) = directory();
    let login = |at, snapshot: &Snapshot| {
        directory
            .login(USER, Wall(at), Mono(0), snapshot)
            .unwrap()
            .created
    };
    assert!(login(NOW, &nobody));
    directory.keep_alive(USER.hash, Wall(NOW + 101), &nobody);
    assert_eq!(notes(&directory), []);
    directory.publish(Arc::clone(&somebody));
    assert!(!login(NOW + 102, &somebody));
    directory.keep_alive(USER.hash, Wall(NOW + 103), &somebody);
    assert_eq!(notes(&directory), [USER], "one note that waits is enough");
    directory.with_shard(shard_of(USER.hash), |shard| {
        shard.announce(USER, Wall(NOW + 103), &somebody)
    });
    directory.keep_alive(USER.hash, Wall(NOW + 104), &somebody);
    assert_eq!(notes(&directory), [USER]);
}

#[test]
fn a_hash_under_two_tags_has_no_home() {
    let (directory, [snapshot, _]) = directory();
    let home = |at| directory.home_of(USER.hash, Wall(at));
    assert_eq!(home(NOW), None);
    let tag = snapshot.tag(b"t").unwrap();
    for (tag, expected) in [(TagId(0), Some([10, 0, 0, 1].into())), (tag, None)] {
        let key = UserKey { tag, ..USER };
        assert!(
            directory
                .login(key, Wall(NOW), Mono(0), &snapshot)
                .is_some()
        );
        assert_eq!(home(NOW + 1), expected);
    }
    assert_eq!(home(NOW + 5000), None);
}

#[test]
fn what_the_ring_does_to_a_shard_is_counted() {
    let (directory, [snapshot, _]) = directory();
    for hash in [USER.hash.0, USER.hash.0 + 1] {
        assert_eq!(directory.room(), Ok(()));
        let heard = crate::core::users::Heard {
            key: UserKey {
                hash: UserHash(hash),
                ..USER
            },
            backend: snapshot.choose(USER).unwrap(),
            stamp: None,
            weak: false,
            late: false,
            from: 0,
        };
        directory.with_shard(shard_of(USER.hash), |shard| {
            shard.hear(heard, Wall(NOW + 100), &snapshot, || directory.room())
        });
    }
    assert_eq!(directory.users(), 2);
    assert_eq!(directory.room(), Err(Refusal::TableFull));
    directory.check_invariants();
    let known = directory.with_shard(shard_of(USER.hash), |shard| {
        shard.entries().map(Entry::key).count()
    });
    assert_eq!(known, 2);
    assert_eq!(directory.sweep(SHARDS, Wall(NOW + 5000), &snapshot), 2);
    assert_eq!(directory.users(), 0);
}

/// Two backends that take users by turns: whenever a snapshot is published, whoever was placed by an
/// earlier one is known from a note.
#[test]
fn no_note_of_an_older_snapshot_comes_after_the_next_is_published() {
    const TURNS: u32 = 300;
    /// Enough that some are under way whenever a snapshot is published, and few enough to be looked
    /// through in every turn.
    const LOGINS_A_TURN: u64 = 1000;
    let both: [IpAddr; 2] = [1, 2].map(|n| [10, 0, 0, n].into());
    let mut director = director(&both.map(|ip| (ip, "")));
    let mut next = |turn: u32| {
        for (n, ip) in both.iter().enumerate() {
            let vhosts = u32::from(turn as usize % 2 == n);
            director.change_backends().set_vhosts(*ip, vhosts).unwrap();
        }
        let standing = Standing {
            tell: true,
            ..Standing::alone()
        };
        Arc::new(director.snapshot(standing))
    };
    let directory = Directory::new(next(0), tunables(u64::MAX), 1).unwrap();
    let (end, made, allowed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let goes_on = || {
        while made.load(Ordering::Relaxed) >= allowed.load(Ordering::Relaxed) {
            if end.load(Ordering::Relaxed) != 0 {
                return false;
            }
            std::thread::yield_now();
        }
        made.fetch_add(1, Ordering::Relaxed);
        end.load(Ordering::Relaxed) == 0
    };
    let log_in = |from: u32| {
        let mut cache = directory.cache();
        let hashes = (from..).step_by(3).map(|n| n.wrapping_mul(0x9e37_79b1) | 1);
        for hash in hashes.take_while(|_| goes_on()) {
            let key = UserKey {
                hash: UserHash(hash),
                ..USER
            };
            let mut login = || directory.login(key, Wall(NOW), Mono(0), cache.load());
            while login().is_none() {}
        }
    };
    /// Those who log in end when the others do, however that is.
    struct Ends<'a>(&'a AtomicU64);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(1, Ordering::Relaxed);
        }
    }
    let mut told = BTreeSet::new();
    std::thread::scope(|scope| {
        let _ends = Ends(&end);
        for from in 0..3 {
            scope.spawn(move || log_in(from));
        }
        for turn in 1..=TURNS {
            let snapshot = next(turn);
            allowed.fetch_add(LOGINS_A_TURN, Ordering::Relaxed);
            directory.publish(Arc::clone(&snapshot));
            let notes = directory.notes();
            notes.drain(usize::MAX, |key| {
                told.insert(key);
            });
            for shard in notes.take_lost(SHARDS) {
                let found = |shard: &mut Shard| told.extend(shard.entries().map(Entry::key));
                directory.with_shard(shard, found);
            }
            let takes = snapshot.choose(USER).unwrap();
            for shard in 0..SHARDS {
                directory.with_shard(shard, |shard| {
                    let older = shard.entries().filter(|entry| entry.backend() != takes);
                    for entry in older {
                        assert!(told.contains(&entry.key()), "turn {turn}: {entry:?}");
                    }
                    shard.sweep(Wall(NOW + 10_000), &snapshot);
                });
            }
            told.clear();
        }
    });
    assert!(told.is_empty());
}
