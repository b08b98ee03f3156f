//! ring status, ring add, ring remove; and a ring that is not synced.

use serde_json::json;

use crate::e2e::{DirectorKind, PATIENCE, for_both, wait_until};
use crate::stand::Stand;

for_both!(
    directors_are_shown_added_and_removed,
    super::directors_are_shown_added_and_removed
);
for_both!(
    a_ring_that_is_not_synced_is_said,
    super::a_ring_that_is_not_synced_is_said
);

fn directors_are_shown_added_and_removed(kind: DirectorKind) {
    let stand = Stand::new(kind);
    let alone = stand.json(&["ring", "status"]);
    assert_eq!(alone.as_array().map(Vec::len), Some(1));
    assert_eq!(alone[0]["type"], "self");
    assert_eq!(alone[0]["status"], "ring synced");
    assert_eq!(alone[0]["bytes_in"], json!(null));
    assert_eq!(alone[0]["last_failed"], json!(null));
    let table = stand.homing(&["ring", "status"]).ok();
    assert!(table.starts_with("director "), "{table}");
    assert!(table.contains("ring synced"), "{table}");

    let other = stand.backend(77);
    let said = stand.homing(&["ring", "add", &other, "9999"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    said.ok();
    let both = stand.json(&["ring", "status"]);
    let row = both
        .as_array()
        .expect("a list")
        .iter()
        .find(|it| it["address"] == json!(other));
    let row = row.expect("the new director");
    assert_eq!(row["port"], 9999);
    let said = stand
        .homing(&["ring", "remove", &stand.backend(78)])
        .failed(68);
    assert!(said.contains("no such director"), "{said}");
    for wrong in [
        &["ring", "add", "localhost"][..],
        &["ring", "add", &other, "0"],
    ] {
        stand.homing(wrong).failed(64);
    }
    let said = stand.homing(&["ring", "add", "-v", &other, "9998"]);
    assert_eq!(said.err, format!("{other}, port 9998: added\n"));
}

fn a_ring_that_is_not_synced_is_said(kind: DirectorKind) {
    let stand = Stand::unsynced(kind);
    let ring = stand.json(&["ring", "status"]);
    let rows = ring.as_array().expect("a list");
    let own = rows.iter().find(|it| it["type"] == "self");
    assert_eq!(own.expect("itself")["status"], "ring handshaking");
    wait_until("the other one is dialled", PATIENCE, || {
        let ring = stand.json(&["ring", "status"]);
        let rows = ring.as_array().expect("a list");
        let mut out = rows.iter().filter(|it| it["type"] == "out");
        out.any(|it| it["status"] == "handshaking - 0 USERs sent" && it["bytes_out"] != 0)
    });
    // Lists do not wait; a change does. Dovecot waits for the other one longer than 30 s, and the change is not
    // made; Homing gives it up before and is alone.
    let said = stand.homing(&["down", &stand.backend(11)]);
    let state = match kind {
        DirectorKind::Dovecot23 => {
            let said = said.failed(75);
            assert!(
                said.contains("Ring sync timed out: the directors did not agree"),
                "{said}"
            );
            "up"
        }
        DirectorKind::Homing => {
            assert_eq!(said.ok(), "");
            let log = stand.log_text();
            assert!(log.contains("serving alone"), "{log}");
            "down"
        }
    };
    assert_eq!(stand.json(&["status"])[0]["state"], state);
}
