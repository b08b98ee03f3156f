//! Both directors send the same user to the same backend.

use std::path::Path;

use crate::rig::{
    Director, DirectorKind, DirectorPlacement, DirectorSpec, Site, Sockets, StubAuth,
};

/// Names asked for each host list.
const NAMES: usize = 1000;

#[test]
fn known_answers_dovecot23() {
    known_answers(DirectorKind::Dovecot23);
}

#[test]
fn known_answers_homing() {
    known_answers(DirectorKind::Homing);
}

#[test]
fn homing_agrees_on_plain_list() {
    same_answers("10.0.0.1 10.0.0.2 10.0.0.3", &[""]);
}

#[test]
fn homing_agrees_on_unsorted_list_of_both_families() {
    same_answers(
        "192.0.2.7 2001:db8::2 10.255.0.9 2001:db8::1 10.0.0.1",
        &[""],
    );
}

#[test]
fn homing_agrees_on_ranges() {
    same_answers("10.1.0.1-10.1.0.40 [2001:db8::a0]-[2001:db8::a9]", &[""]);
}

#[test]
fn homing_agrees_on_one_backend() {
    same_answers("10.0.0.1", &[""]);
}

#[test]
fn homing_agrees_on_tags() {
    let servers =
        "10.0.0.1@east 10.0.0.2@west 10.0.0.3@east 10.0.0.4 10.0.0.5-10.0.0.9@a@b 10.0.0.10";
    same_answers(servers, &["", "east", "west", "a@b"]);
}

#[test]
fn homing_agrees_on_weights_and_states() {
    let orders: [&[&str]; 6] = [
        &["update", "10.0.0.1", "7"],
        &["update", "10.0.0.2", "300"],
        &["update", "10.0.0.3", "0"],
        &["down", "10.0.0.4"],
        &["update", "10.0.0.7", "1"],
        &["add", "2001:db8::7", "55"],
    ];
    let servers = "10.0.0.1-10.0.0.6 10.0.0.7-10.0.0.9@east";
    same_answers_after(servers, &orders, &["", "east"]);
}

/// Recorded from Dovecot 2.3.19.1.
fn known_answers(kind: DirectorKind) {
    let site = Site::new();
    StubAuth::start(&site.path().join("auth"));
    let users = [
        "alice",
        "bob@example.com",
        "user1",
        "dave",
        "erin",
        "ALICE",
        "ERIN",
    ];
    let ask = |servers: &str, name: &str, tag: &str| {
        let director = start(&site, kind, name, servers);
        let users = users.map(|user| (user.as_bytes(), tag));
        let hosts = StubAuth::ask(&director.sockets().login, &users);
        hosts
            .into_iter()
            .map(|host| host.expect("a host"))
            .collect::<Vec<_>>()
    };
    let plain = ask("10.0.0.1 10.0.0.2 10.0.0.3", "plain", "");
    assert_eq!(plain, [2, 3, 3, 2, 1, 2, 1].map(|n| format!("10.0.0.{n}")));
    let tagged = ask(
        "10.0.0.1@east 10.0.0.2@west 10.0.0.3@east 10.0.0.4",
        "tagged",
        "east",
    );
    assert_eq!(tagged, [3, 3, 3, 3, 1, 3, 1].map(|n| format!("10.0.0.{n}")));
}

fn same_answers(servers: &str, tags: &[&str]) {
    same_answers_after(servers, &[], tags);
}

/// Both directors get the same orders from doveadm before they are asked.
fn same_answers_after(servers: &str, orders: &[&[&str]], tags: &[&str]) {
    let site = Site::new();
    StubAuth::start(&site.path().join("auth"));
    let names = random_names(NAMES);
    let dovecot = start(&site, DirectorKind::Dovecot23, "dovecot", servers);
    let homing = start(&site, DirectorKind::Homing, "homing", servers);
    for order in orders {
        for director in [&dovecot, &homing] {
            let (said, status) = director.doveadm(&[&["director"], *order].concat());
            assert_eq!(status, Some(0), "{order:?}: {said}");
        }
    }
    for tag in tags {
        let users: Vec<_> = names.iter().map(|name| (name.as_slice(), *tag)).collect();
        let theirs = StubAuth::ask(&dovecot.sockets().login, &users);
        let ours = StubAuth::ask(&homing.sockets().login, &users);
        for ((name, theirs), ours) in names.iter().zip(theirs).zip(ours) {
            assert!(theirs.is_some());
            assert_eq!(ours, theirs, "{} with tag {tag:?}", name.escape_ascii());
        }
    }
}

fn start(site: &Site, kind: DirectorKind, name: &str, servers: &str) -> Director {
    let socket = |end: &str| site.path().join(format!("{name}-{end}"));
    let auth: &Path = &site.path().join("auth");
    Director::start(
        site,
        DirectorSpec {
            kind,
            placement: DirectorPlacement::Standalone,
            name: name.to_owned(),
            address: site.address(31),
            backends: servers.to_owned(),
            expire: 900,
            sockets: Sockets {
                login: socket("auth"),
                userdb: socket("userdb"),
                notify: socket("notify"),
                authreply: None,
            },
            auth_login: auth.to_owned(),
            auth_userdb: auth.to_owned(),
            director_settings: String::new(),
            seat: None,
        },
    )
}

/// The same names in every run: mail addresses in both cases, short and long ones, UTF-8, blanks,
/// and escaped tabs.
fn random_names(count: usize) -> Vec<Vec<u8>> {
    const LETTERS: [&[u8]; 20] = [
        b"a",
        b"b",
        b"e",
        b"o",
        b"u",
        b"n",
        b"r",
        b"s",
        b"A",
        b"Z",
        b"0",
        b"7",
        b".",
        b"-",
        b"_",
        b"+",
        b" ",
        b"%",
        "\u{e4}".as_bytes(),
        b"\x01t",
    ];
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = |limit: u64| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from((state >> 11) % limit).expect("small")
    };
    let mut name = || {
        let length = 1 + random(20);
        let mut name: Vec<u8> = (0..length)
            .flat_map(|_| LETTERS[random(20)])
            .copied()
            .collect();
        if random(2) == 0 {
            name.extend(b"@Example.org");
        }
        name
    };
    (0..count).map(|_| name()).collect()
}
