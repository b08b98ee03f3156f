//! status USER, map, move, kick.

use serde_json::json;

use crate::e2e::{DirectorKind, PATIENCE, for_both, wait_until};
use crate::stand::{Stand, TAGGED, USERS, names};

for_both!(
    a_user_is_looked_up_under_every_tag,
    super::a_user_is_looked_up_under_every_tag
);
for_both!(
    users_are_mapped_by_a_file_and_by_auth,
    super::users_are_mapped_by_a_file_and_by_auth
);
for_both!(
    a_move_says_from_where_to_where,
    super::a_move_says_from_where_to_where
);
for_both!(kicks_are_passed_on, super::kicks_are_passed_on);

fn a_user_is_looked_up_under_every_tag(kind: DirectorKind) {
    let stand = Stand::new(kind);
    stand.log_in();
    let name = &names()[0];
    let (said, _) = stand.doveadm(&["status", name]);
    let theirs = said.split_whitespace().nth(1).expect(&said).to_owned();
    let own = stand.json(&["status", name]);
    assert_eq!(own.as_array().map(Vec::len), Some(2), "{own}");
    assert_eq!(own[0]["tag"], "");
    assert_eq!(own[0]["current"], json!(theirs));
    assert_eq!(own[0]["hashed"], json!(theirs));
    assert!(own[0]["expires"].is_u64());
    assert_eq!(own[1]["tag"], "t1");
    assert_eq!(own[1]["current"], json!(null));
    assert_eq!(own[1]["expires"], json!(null));
    assert_eq!(own[1]["initial_config"], json!(stand.backend(13)));
    // One tag, in both ways; no tag at all; one that nobody has.
    for words in [&["status", name, "-t", "t1"][..], &["status", name, "t1"]] {
        assert_eq!(stand.json(words), json!([own[1]]));
    }
    assert_eq!(stand.json(&["status", name, "-t", ""]), json!([own[0]]));
    assert_eq!(
        stand.json(&["status", name, "zz"])[0]["hashed"],
        json!(null)
    );
    let table = stand.homing(&["status", name]).ok();
    assert!(table.starts_with("tag  current"), "{table}");
    assert_eq!(table.lines().count(), 3);
    // A name with a TAB is one name.
    assert_eq!(stand.json(&["status", "a\tb", "-t", ""])[0]["user"], "a\tb");
    stand.homing(&["status", ""]).failed(64);
}

fn users_are_mapped_by_a_file_and_by_auth(kind: DirectorKind) {
    let stand = Stand::new(kind);
    stand.log_in();
    let config = stand.settings("");
    let mapped = stand.json(&["map", "-c", &config]);
    let mapped = mapped.as_array().expect("a list");
    assert_eq!(mapped.len(), USERS);
    let mut found: Vec<_> = mapped
        .iter()
        .map(|it| it["user"].as_str().expect("a name"))
        .collect();
    found.sort_unstable();
    let mut all = names();
    all.sort_unstable();
    assert_eq!(found, all);
    let mut places: Vec<_> = mapped
        .iter()
        .map(|it| {
            (
                it["hash"].as_u64().expect("a hash"),
                it["backend"].as_str().expect("one").to_owned(),
            )
        })
        .collect();
    places.sort();
    assert_eq!(places, stand.users());

    // doveadm knows the same pairs.
    let (said, status) = stand.doveadm(&["map"]);
    assert_eq!(status, Some(0), "{said}");
    for user in mapped {
        let line = said
            .lines()
            .find(|line| line.starts_with(&format!("{} ", user["user"].as_str().expect("a name"))));
        let words: Vec<_> = line.expect("in doveadm's map").split_whitespace().collect();
        assert_eq!(json!(words[1]), json!(user["hash"].to_string()));
        assert_eq!(json!(words[2]), user["backend"]);
    }

    // One name of a file; the others are unknown. Only one backend.
    let name = &names()[USERS - 1];
    let tagged = stand.backend(13);
    let said = stand
        .fed(&["map", "-f", "-", &tagged], &format!("{name}\n\nnobody\n"))
        .ok();
    assert_eq!(said.lines().count(), TAGGED + 1);
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with(name.as_str()))
            .count(),
        1
    );
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("<unknown>"))
            .count(),
        TAGGED - 1
    );

    let hash = stand.homing(&["map", "-u", name]).ok();
    let (theirs, _) = stand.doveadm(&["map", "-u", name]);
    assert_eq!(hash.trim(), theirs.trim());
    let by_hash = stand
        .homing(&["map", "-c", &config, "-h", hash.trim()])
        .ok();
    assert_eq!(by_hash, format!("{name}\n"));
    let none = stand.homing(&["map", "-c", &config, "-h", "1"]).ok();
    assert_eq!(none, "");
    let upper = name.to_uppercase();
    let hash_of = |template: &[&str]| stand.homing(&[&["map", "-u", &upper], template].concat());
    assert_eq!(hash_of(&[]).ok(), hash);
    assert_ne!(hash_of(&["--username-hash", "%u"]).ok(), hash);

    stand.homing(&["map", "-f", "/nowhere"]).failed(75);
    stand.homing(&["map", "-h", "notnum"]).failed(64);
    let lost = stand.settings("auth_userdb_path = \"/nowhere/auth-userdb\"\n");
    let said = stand.homing(&["map", "-c", &lost]);
    assert_eq!(
        said.out
            .lines()
            .filter(|line| line.starts_with("<unknown>"))
            .count(),
        USERS
    );
    assert!(said.failed(75).contains("/nowhere/auth-userdb"));
}

fn a_move_says_from_where_to_where(kind: DirectorKind) {
    let stand = Stand::new(kind);
    let [first, second] = [11, 12].map(|number| stand.backend(number));
    let hash = stand.homing(&["map", "-u", "alice"]).ok();
    let user = format!("alice (hash {})", hash.trim());
    let said = stand.homing(&["move", "alice", &first]).ok();
    assert_eq!(said, format!("{user}: was nowhere, now on {first}\n"));
    // To Dovecot a user whom it did not know moves as well.
    let said = stand.homing(&["move", "alice", &second]).failed(75);
    assert!(said.contains("is already being moved"), "{said}");
    let hash = hash.trim();
    let mut said = String::new();
    wait_until("the move ends", PATIENCE, || {
        let again = stand.homing(&["move", "Alice", &first]);
        said = again.out;
        again.status == Some(0)
    });
    assert_eq!(
        said,
        format!("Alice (hash {hash}): is on {first} already\n")
    );
    let moved = stand.json(&["move", "alice", &second]);
    assert_eq!(
        moved,
        json!({
            "user": "alice", "hash": hash.parse::<u32>().expect("a hash"), "tag": "",
            "from": first, "to": second, "reply": "OK",
            "sessions_ended": null, "sessions_survived": null,
        })
    );
    assert_eq!(stand.users(), [(hash.parse().expect("a hash"), second)]);
}

fn kicks_are_passed_on(kind: DirectorKind) {
    let stand = Stand::new(kind);
    let said = stand.homing(&["kick", "alice"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    said.ok();
    let said = stand.homing(&["kick", "-v", "-f", "altname", "al\tice"]);
    assert_eq!(said.err, "al\tice: kicked\n");
    said.ok();
    assert_eq!(
        stand.json(&["kick", "bob"]),
        json!({
            "user": "bob", "reply": "OK", "sessions_ended": null, "sessions_survived": null,
        })
    );
    stand.homing(&["kick", ""]).failed(64);
    stand.homing(&["kick"]).failed(64);
}
