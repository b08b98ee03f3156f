//! dump and restore.

use std::fs;

use serde_json::json;

use crate::e2e::{DirectorKind, for_both};
use crate::stand::{Stand, text};

for_both!(
    a_restore_brings_back_what_a_dump_has,
    super::a_restore_brings_back_what_a_dump_has
);
for_both!(
    what_cannot_be_restored_is_said,
    super::what_cannot_be_restored_is_said
);

fn a_restore_brings_back_what_a_dump_has(kind: DirectorKind) {
    let stand = Stand::new(kind);
    let [first, second, tagged, fresh, other] = [11, 12, 13, 14, 15].map(|it| stand.backend(it));
    for words in [
        &["add", "-t", "t2", &fresh, "20"][..],
        &["down", &fresh],
        &["update", &tagged, "0"],
        &["remove", &second],
    ] {
        stand.homing(words).ok();
    }
    let dump = stand.homing(&["dump"]).ok();
    assert_eq!(
        dump,
        format!(
            "format = 1\nbackends = [\n  \
             {{ address = \"{first}\", vhosts = 100, state = \"up\" }},\n  \
             {{ address = \"{tagged}\", vhosts = 0, state = \"up\", tag = \"t1\" }},\n  \
             {{ address = \"{fresh}\", vhosts = 20, state = \"down\", tag = \"t2\" }},\n\
             ]\nremoved = [\"{second}\"]\n"
        )
    );
    let file = stand.site.path().join("dump.toml");
    fs::write(&file, &dump).expect("a file");
    let file = text(&file);
    assert_eq!(stand.homing(&["restore", &file]).ok(), SAME);

    // Everything is made different.
    for words in [
        &["remove", &fresh][..],
        &["update", &tagged, "70"],
        &["down", &first],
        &["add", &second, "5"],
        &["add", &other, "6"],
    ] {
        stand.homing(words).ok();
    }
    let expected = [
        format!("up {first}"),
        format!("update {tagged} from 70 to 0 vhosts"),
        format!("add {fresh} with 0 vhosts and tag t2"),
        format!("down {fresh}"),
        format!("update {fresh} from 0 to 20 vhosts"),
        format!("remove {second}"),
    ];
    let before = stand.json(&["status"]);
    let said = stand.homing(&["restore", "--dry-run", &file]);
    let would: Vec<_> = said.out.lines().map(str::to_owned).collect();
    assert_eq!(
        would,
        expected.each_ref().map(|step| format!("would {step}"))
    );
    assert!(
        said.err.contains("1 backends are not in the dump"),
        "{said:?}"
    );
    said.ok();
    assert_eq!(stand.json(&["status"]), before);

    let said = stand.fed(&["restore", "-"], &dump).ok();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    assert_eq!(stand.homing(&["restore", &file]).ok(), SAME);
    let steps = stand.json(&["restore", "--remove-others", &file]);
    assert_eq!(
        steps,
        json!([{"address": other, "step": format!("remove {other}"), "reply": "OK"}])
    );
    assert_eq!(stand.homing(&["dump"]).ok(), dump);
    assert_eq!(stand.json(&["dump"])["backends"][1]["tag"], "t1");
}

const SAME: &str = "nothing to do: the backends are those of the dump\n";

fn what_cannot_be_restored_is_said(kind: DirectorKind) {
    let stand = Stand::new(kind);
    let [first, fresh] = [11, 14].map(|it| stand.backend(it));
    let one = |address: &str, vhosts: u32, tag: &str| {
        format!(
            "format = 1\nbackends = [{{ address = \"{address}\", vhosts = {vhosts}, state = \"up\", tag = \"{tag}\" }}]\n"
        )
    };
    let said = stand.fed(&["restore"], &one(&first, 100, "zz"));
    assert!(said.err.contains("a tag cannot be changed"), "{said:?}");
    said.failed(75);
    // A ring may know backends with more vhosts than an administrator can give.
    let said = stand.fed(&["restore"], &one(&fresh, 5000, ""));
    assert!(said.out.starts_with("failed: add"), "{said:?}");
    assert!(said.failed(75).contains("vhost count too large"));
    let said = stand
        .fed(&["restore"], "doveadm director add 10.0.0.1")
        .failed(64);
    assert!(
        said.contains("standard input") && said.contains("line 1"),
        "{said}"
    );
    stand.homing(&["restore", "/nowhere/dump"]).failed(75);
    assert_eq!(stand.json(&["status"]).as_array().map(Vec::len), Some(3));
}
