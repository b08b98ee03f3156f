//! Users are told of together.

use super::scripted::{Scripted, between, from};
use super::*;
use crate::wire::ring::HOMING_USERS;

/// Logins at a node, of which the ring hears at once.
fn login_all(world: &mut World, node: usize, hashes: &[u32]) {
    let now = world.now();
    let Node { ring, users, .. } = &mut world.nodes[node];
    let snapshot = Arc::clone(ring.snapshot());
    let mut noted = Vec::new();
    for key in hashes.iter().map(|&hash| key(hash)) {
        let shard = &mut users.shards[shard_of(key.hash)];
        let login = shard.login(key, now.wall, &snapshot, || Ok(()));
        assert_eq!(login.note, Note::Announce);
        noted.push(key);
    }
    world.lines.clear();
    world.input(node, Input::Notes(&noted));
    world.settle();
}

fn words<'a>(world: &'a World, word: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = world.lines.iter().map(|(_, _, line)| &**line);
    lines.filter(move |line| line.split('\t').next() == Some(word))
}

#[test]
fn many_users_take_few_lines_and_reach_everybody() {
    let hashes: Vec<u32> = (1..=500).map(|n| n * 8_000_011).collect();
    let mut bytes = Vec::new();
    for plain in [true, false] {
        let mut world = World::new(4, 3);
        world.plain = plain;
        for node in 0..4 {
            world.start(node);
        }
        world.pass(30);
        login_all(&mut world, 0, &hashes);
        for &hash in &hashes {
            let home = world.home(0, hash);
            assert!(home.is_some());
            for node in 1..4 {
                assert_eq!(world.home(node, hash), home, "user {hash} at {node}");
            }
        }
        let (wanted, other) = match plain {
            true => ("USER", "USERS"),
            false => ("USERS", "USER"),
        };
        assert_eq!(words(&world, other).count(), 0);
        let lines: Vec<&str> = words(&world, wanted).collect();
        bytes.push(lines.iter().map(|line| line.len()).sum::<usize>());
        if !plain {
            // 500 users are told four at a time of 128, each for three backends, to and fro in a ring of four.
            assert!(lines.len() <= 4 * 3 * 6, "{} lines", lines.len());
        }
    }
    assert!(bytes[1] * 3 < bytes[0], "{bytes:?}");
}

#[test]
fn who_does_not_know_the_form_gets_lines_of_one_user() {
    let (mut s, left, right) = between();
    let mut hashes = 100..;
    for (level, wanted) in [(0, 20), (HOMING_USERS - 1, 20), (HOMING_USERS, 1)] {
        s.ring.conns.get_mut(right).unwrap().homing = level;
        let lines: Vec<String> = { &mut hashes }.take(20).map(|n| s.user(n, 1, 0)).collect();
        let read: Vec<&str> = lines.iter().map(String::as_str).collect();
        s.batch(left, &read);
        let told = s.told(right);
        assert_eq!(told.len(), wanted, "{level}: {told:?}");
        if level < HOMING_USERS {
            assert_eq!(told, lines);
        }
        assert!(s.told(left).is_empty(), "it has said so itself");
    }
}

#[test]
fn nothing_overtakes_what_is_told_of_users() {
    let (mut s, left, right) = between();
    s.ring.conns.get_mut(right).unwrap().homing = HOMING_USERS;
    let (first, last) = (s.user(1, 1, 0), s.user(2, 2, 0));
    let kick = from("USER-KICK", 31, 1, "a");
    s.batch(left, &[&first, &kick, &last, "NONSENSE"]);
    let told = s.told(right);
    let words = told.iter().map(|line| line.split('\t').next().unwrap());
    let words: Vec<&str> = words.take(3).collect();
    assert_eq!(words, ["USERS", "USER-KICK", "USERS"]);
    assert!(told[0].contains("10.0.0.1") && told[2].contains("10.0.0.2"));
}

#[test]
fn lines_of_many_users_are_checked() {
    let (mut s, left, right) = between();
    let users = |s: &mut Scripted, packed: &str| {
        let line = format!("USERS\t10.0.0.1\t{}\t{packed}", s.clock());
        s.say(left, &line);
    };
    users(&mut s, "\"!!!!!!$!!!!!!");
    assert!(s.known(1).is_some() && s.known(3).is_some());
    assert_eq!(s.told(right).len(), 2, "they are passed on");
    users(&mut s, "\"!!!!!!$!!!!!!");
    assert!(s.told(right).is_empty(), "they are known");
    s.say(left, &format!("USERS\t10.9.9.9\t{}\t\"!!!!!!", s.clock()));
    assert!(!s.is_closed(left), "a backend that is not known here");
    users(&mut s, "\"!!!!!!$!!!!!");
    assert!(s.is_closed(left) && s.garbage(31));
}
