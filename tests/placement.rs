//! Replays the placement of real Dovecot directors (docs/protocol/placement.md): what user names
//! hash to, where the hash ring sends them, how addresses read and print, what identifies a host
//! list. tests/golden/README.md tells where the data comes from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use homing::core::backends::{Backends, NewBackend};
use homing::core::hash_ring::HashRing;
use homing::core::ip_text::{ip_text, parse_lenient};
use homing::core::user_hash::Template;
use homing::core::{TagId, UserHash, Wall};
use sha2::{Digest, Sha256};

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(golden(file)).expect(file)
}

/// Header and rows of a table; columns are separated by tabs and may be empty.
fn table(file: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let text = read(file);
    let cells = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let mut rows = text
        .lines()
        .skip_while(|line| line.starts_with('#'))
        .map(cells);
    let header = rows.next().expect(file);
    let rows: Vec<_> = rows.collect();
    assert!(!rows.is_empty(), "{file} is empty");
    assert!(
        rows.iter().all(|row| row.len() == header.len()),
        "{file} has a torn row"
    );
    (header, rows)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// The value that record_placement.py gives to the environment variable of its templates.
fn env(name: &str) -> Option<Vec<u8>> {
    (name == "PLACEMENT").then(|| b"Some Value@x".to_vec())
}

fn hash(template: &str, name: &str) -> UserHash {
    let template = Template::parse(template, &env).expect(template);
    template.hash(name.as_bytes(), &mut Vec::new())
}

/// The backend lists of a table with the columns list, ip, vhosts, tag, state.
fn lists(file: &str) -> BTreeMap<String, Backends> {
    let mut lists = BTreeMap::<String, Backends>::new();
    for row in table(file).1 {
        let list = lists.entry(row[0].clone()).or_default();
        let (ip, tag, vhosts) = (
            ip(&row[1]),
            row[3].as_bytes(),
            row[2].parse().expect("vhosts"),
        );
        list.add(NewBackend {
            ip,
            name: None,
            tag,
            vhosts,
        })
        .expect("a valid backend");
        if row[4] == "D" {
            list.down(ip, Wall(1)).expect("just added");
        }
    }
    lists
}

fn ring(list: &Backends, tag: &str) -> HashRing {
    list.tag_id(tag.as_bytes())
        .map(|tag| list.ring(tag))
        .unwrap_or_default()
}

/// Text of the backend that `hash` goes to, empty for none.
fn placed(list: &Backends, ring: &HashRing, hash: UserHash) -> String {
    let backend = ring
        .lookup(hash)
        .map(|slot| list.by_slot(slot).expect("a slot of the list"));
    backend
        .map(|backend| ip_text(backend.ip))
        .unwrap_or_default()
}

fn points(list: &Backends) -> Vec<(u32, String)> {
    let text_of = |slot| ip_text(list.by_slot(slot).expect("a slot of the list").ip);
    list.ring(TagId(0))
        .iter()
        .map(|(point, slot)| (point, text_of(slot)))
        .collect()
}

#[test]
fn user_hashes() {
    for row in table("user_hash.tsv").1 {
        assert_eq!(
            hash(&row[0], &row[1]).0.to_string(),
            row[2],
            "{} of {:?}",
            row[0],
            row[1]
        );
    }
}

#[test]
fn recorded_templates() {
    let rows = table("recorded_templates.tsv").1;
    assert!(rows.len() > 1000);
    let mut wrong = String::new();
    for row in rows {
        let ours = hash(&row[0], &row[1]).0;
        if ours.to_string() != row[2] {
            writeln!(
                wrong,
                "{} of {:?}: {ours}, Dovecot {}",
                row[0], row[1], row[2]
            )
            .expect("text");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn placements_of_every_host_list() {
    let lists = lists("host_lists.tsv");
    let (header, rows) = table("placements.tsv");
    for row in rows {
        let list = &lists[&row[0]];
        let ring = ring(list, &row[1]);
        for (name, expected) in header.iter().zip(&row).skip(2) {
            let ours = placed(list, &ring, hash("%Lu", name));
            assert_eq!(
                ours, *expected,
                "{name} in list {} tag {:?}",
                row[0], row[1]
            );
        }
    }
}

#[test]
fn single_lookups_and_collisions() {
    let lists = lists("host_lists.tsv");
    for row in table("lookups.tsv").1 {
        let list = &lists[&row[0]];
        let hash = UserHash(row[1].parse().expect("hash"));
        assert_eq!(
            placed(list, &ring(list, ""), hash),
            row[2],
            "{hash:?} in list {}",
            row[0]
        );
    }
}

#[test]
fn points_of_small_rings() {
    let lists = lists("host_lists.tsv");
    let mut expected = BTreeMap::<String, Vec<(u32, String)>>::new();
    for row in table("points.tsv").1 {
        let point = row[1].parse().expect("point");
        expected
            .entry(row[0].clone())
            .or_default()
            .push((point, row[2].clone()));
    }
    for (label, expected) in expected {
        assert_eq!(points(&lists[&label]), expected, "list {label}");
    }
}

#[derive(serde::Deserialize)]
struct ListA {
    points: usize,
    first: Vec<(u32, String)>,
    last: (u32, String),
    sha256: String,
    users: BTreeMap<String, u32>,
}

#[test]
fn points_and_distribution_of_list_a() {
    let expected: ListA = toml::from_str(&read("list_a.toml")).expect("list_a.toml");
    let list = &lists("host_lists.tsv")["A"];
    let points = points(list);
    assert_eq!(points.len(), expected.points);
    assert_eq!(points[..expected.first.len()], expected.first);
    assert_eq!(points.last(), Some(&expected.last));
    let lines: Vec<_> = points
        .iter()
        .map(|(point, ip)| format!("{point} {ip}"))
        .collect();
    let digest = Sha256::digest(lines.join("\n"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected.sha256);

    let ring = ring(list, "");
    let mut users = BTreeMap::new();
    for n in 1..=10_000 {
        let backend = placed(list, &ring, hash("%Lu", &format!("user{n}")));
        *users.entry(backend).or_insert(0) += 1;
    }
    assert_eq!(users, expected.users);
}

#[test]
fn hosts_hashes() {
    let lists = lists("host_lists.tsv");
    for row in table("hosts_hash.tsv").1 {
        assert_eq!(
            lists[&row[0]].hosts_hash().to_string(),
            row[1],
            "list {}",
            row[0]
        );
    }
}

#[test]
fn bytes_under_the_hosts_hash() {
    let lists = lists("host_lists.tsv");
    for row in table("hosts_hash_bytes.tsv").1 {
        let digits = |i| u8::from_str_radix(&row[1][i..i + 2], 16).expect("hexadecimal");
        let bytes: Vec<u8> = (0..row[1].len()).step_by(2).map(digits).collect();
        assert_eq!(
            crc32fast::hash(&bytes).to_string(),
            row[2],
            "list {}",
            row[0]
        );
        assert_eq!(
            lists[&row[0]].hosts_hash().to_string(),
            row[2],
            "list {}",
            row[0]
        );
    }
}

#[test]
fn recorded_users_name_by_name() {
    let lists = lists("recorded_hosts.tsv");
    let (header, rows) = table("recorded_users.tsv");
    assert_eq!(rows.len(), 1000);
    for (column, label) in header.iter().enumerate().skip(1) {
        let (list, tag) = label.split_once(':').expect("list:tag");
        let ring = ring(&lists[list], tag);
        for row in &rows {
            let ours = placed(&lists[list], &ring, hash("%Lu", &row[0]));
            assert_eq!(ours, row[column], "{:?} in {label}", row[0]);
        }
    }
}

#[test]
fn recorded_addresses_print_alike() {
    for row in table("recorded_addresses.tsv").1 {
        assert_eq!(ip_text(ip(&row[0])), row[1]);
    }
}

#[test]
fn recorded_addresses_read_alike() {
    for row in table("recorded_lenient.tsv").1 {
        let ours = parse_lenient(&row[0]).map(ip_text).unwrap_or_default();
        assert_eq!(ours, row[1], "{:?}", row[0]);
    }
}
