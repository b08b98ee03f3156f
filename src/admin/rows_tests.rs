//! Rows from a snapshot and a user table.

use super::*;
use crate::core::director::{Config, Director, Seed};
use crate::core::snapshot::Standing;
use crate::core::user_hash::Template;
use crate::core::{TagId, Wall};

const NOW: u64 = 1_800_000_000;

fn director(tags: [&str; 3]) -> Director {
    let config = Config {
        expire_secs: 900,
        username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
        master_user_separator: None,
        hasher: ahash::RandomState::with_seed(1),
    };
    let seeds = [3, 1, 2].into_iter().zip(tags).map(|(n, tag)| Seed {
        ip: [10, 0, 0, n].into(),
        name: None,
        tag,
        vhosts: 100,
    });
    Director::new(config, seeds).unwrap()
}

fn snapshot(director: &mut Director) -> Arc<Snapshot> {
    Arc::new(director.snapshot(Standing::alone()))
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn ip(n: u8) -> IpAddr {
    [10, 0, 0, n].into()
}

fn entry(tag: u16, hash: u32, slot: u16, stamp: u64) -> Entry {
    let (tag, hash) = (TagId(tag), UserHash(hash));
    Entry::new(UserKey { tag, hash }, BackendSlot(slot), Wall(stamp))
}

#[test]
fn hosts_are_listed_in_the_order_of_addresses_with_their_users() {
    let mut director = director(["", "t", ""]);
    let backends = director.change_backends();
    backends.down(ip(2), Wall(NOW)).unwrap();
    backends.set_vhosts(ip(3), 7).unwrap();
    let snapshot = snapshot(&mut director);
    // Slots are in the order of the settings: 3, 1, 2.
    let list = text(|out| write_hosts(&snapshot, &[5, 6], out));
    assert_eq!(
        list,
        format!(
            "10.0.0.1\t100\t6\tt\tU\t0\n10.0.0.2\t100\t0\t\tD\t{NOW}\n10.0.0.3\t7\t5\t\tU\t0\n"
        )
    );
}

#[test]
fn only_what_is_gone_is_listed_as_removed() {
    let mut director = director(["", "", ""]);
    director.change_backends().remove(ip(1)).unwrap();
    let snapshot = snapshot(&mut director);
    let list = text(|out| write_removed_hosts(&[ip(3), ip(9), ip(1), ip(2)], &snapshot, out));
    assert_eq!(list, "10.0.0.9\n10.0.0.1\n");
}

#[test]
fn a_lookup_tells_what_is_what_would_be_and_what_was_to_be() {
    let mut director = director(["", "t", ""]);
    let initial = snapshot(&mut director);
    director.change_backends().remove(ip(3)).unwrap();
    let now = snapshot(&mut director);
    let hash = (1..)
        .map(UserHash)
        .find(|&hash| {
            let slot = initial.choose(UserKey {
                tag: TagId(0),
                hash,
            });
            slot == Some(BackendSlot(0))
        })
        .unwrap();
    let look = |tag: &str, known: Option<Entry>| {
        text(|out| {
            let peek = |key: UserKey| known.filter(|entry| entry.key() == key);
            write_lookup((hash, tag.as_bytes()), &now, &initial, peek, &[], out);
        })
    };
    let known = entry(0, hash.0, 2, NOW);
    let expires = NOW + 900;
    assert_eq!(
        look("", Some(known)),
        format!("10.0.0.2\t{expires}\t10.0.0.2\t10.0.0.3\n")
    );
    assert_eq!(look("", None), "\t0\t10.0.0.2\t10.0.0.3\n");
    assert_eq!(look("t", Some(known)), "\t0\t10.0.0.1\t10.0.0.1\n");
    assert_eq!(look("zz", Some(known)), "\t0\t\t\n");
    // Its backend is gone, and so is the user.
    assert_eq!(
        look("", Some(entry(0, hash.0, 0, NOW))),
        "\t0\t10.0.0.2\t10.0.0.3\n"
    );
}

#[test]
fn users_are_listed_by_tag_and_age() {
    let mut director = director(["", "t", ""]);
    let snapshot = snapshot(&mut director);
    let users = [
        entry(1, 9, 1, NOW - 50),
        entry(0, 8, 0, NOW),
        entry(0, 7, 2, NOW - 10),
        entry(0, 6, 0, NOW),
        // On a backend that is gone.
        entry(0, 5, 77, NOW - 99),
    ];
    let list = |host: Option<IpAddr>, most: usize| {
        let mut list = UserList::new(Arc::clone(&snapshot), host, 0);
        list.add(&users);
        list.sort();
        text(|out| while list.write(most, out) {})
    };
    let row = |hash, stamp: u64, n: u8| format!("{hash}\t{}\t10.0.0.{n}\n", stamp + 900);
    let all = [
        row(7, NOW - 10, 2),
        row(6, NOW, 3),
        row(8, NOW, 3),
        row(9, NOW - 50, 1),
    ];
    assert_eq!(list(None, 100), all.concat());
    assert_eq!(list(None, 1), all.concat(), "in steps");
    assert_eq!(list(Some(ip(3)), 2), all[1..3].concat());
    assert_eq!(list(Some(ip(9)), 2), "");
}
