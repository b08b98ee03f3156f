//! plan: what it says is what then happens.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::e2e::{DirectorKind, for_both};
use crate::stand::{Stand, USERS};

for_both!(
    a_plan_is_what_a_flush_then_does,
    super::a_plan_is_what_a_flush_then_does
);
for_both!(
    a_plan_tells_who_would_be_forgotten_and_what_a_flush_does_today,
    super::a_plan_tells_who_would_be_forgotten_and_what_a_flush_does_today
);

type Pairs = BTreeMap<(String, String), u64>;

/// Flows of a plan, from and to.
fn flows(plan: &Value, key: &str) -> Pairs {
    let name = |value: &Value| value.as_str().unwrap_or("nowhere").to_owned();
    let flows = plan[key].as_array().expect("a list").iter();
    flows
        .map(|flow| {
            let pair = (name(&flow["from"]), name(&flow["to"]));
            (pair, flow["users"].as_u64().expect("a number"))
        })
        .filter(|(_, users)| *users > 0)
        .collect()
}

/// Who was somewhere else before.
fn moved(before: &[(u64, String)], after: &[(u64, String)]) -> Pairs {
    let after: BTreeMap<_, _> = after.iter().cloned().collect();
    let mut pairs = Pairs::new();
    for (hash, from) in before {
        let to = after
            .get(hash)
            .cloned()
            .unwrap_or_else(|| "nowhere".to_owned());
        if *from != to {
            *pairs.entry((from.clone(), to)).or_default() += 1;
        }
    }
    pairs
}

fn loads(plan: &Value) -> BTreeMap<String, u64> {
    let loads = plan["backends"].as_array().expect("a list").iter();
    loads
        .map(|it| {
            let address = it["address"].as_str().expect("an address").to_owned();
            (address, it["users_after_flush"].as_u64().expect("a number"))
        })
        .collect()
}

/// Plans a change, makes it, flushes with doveadm, and compares.
fn plan_and_do(stand: &Stand, words: &[&str]) -> Value {
    let plan = stand.json(&[&["plan"], words].concat());
    let before = stand.users();
    stand.homing(words).ok();
    assert_eq!(stand.users(), before, "{words:?}: active users stay");
    let (said, status) = stand.doveadm(&["flush", "all"]);
    assert_eq!(status, Some(0), "{said}");
    let after = stand.users();
    assert_eq!(flows(&plan, "flush"), moved(&before, &after), "{words:?}");
    assert_eq!(plan["active_users"], before.len());
    let mut counted = loads(&plan);
    counted.retain(|_, users| *users > 0);
    let mut really = BTreeMap::new();
    after
        .iter()
        .for_each(|(_, at)| *really.entry(at.clone()).or_insert(0) += 1);
    assert_eq!(counted, really, "{words:?}");
    // Users that move are kicked first; only then can they be moved again. The director's delay is a second.
    std::thread::sleep(std::time::Duration::from_secs(3));
    plan
}

fn a_plan_is_what_a_flush_then_does(kind: DirectorKind) {
    let stand = Stand::new(kind);
    stand.log_in();
    let [first, second, tagged, fresh, other] = [11, 12, 13, 14, 15].map(|it| stand.backend(it));
    let plan = plan_and_do(&stand, &["add", &fresh, "150"]);
    assert!(flows(&plan, "flush").values().sum::<u64>() > 10, "{plan}");
    assert_eq!(flows(&plan, "flush"), flows(&plan, "new_users"));
    let plan = plan_and_do(&stand, &["add", "-t", "t1", &other]);
    assert!(
        flows(&plan, "flush")
            .keys()
            .all(|(from, to)| *from == tagged && *to == other)
    );
    assert_eq!(flows(&plan, "flush").len(), 1, "{plan}");
    plan_and_do(&stand, &["update", &fresh, "30"]);
    let plan = plan_and_do(&stand, &["down", &first]);
    assert!(flows(&plan, "flush").keys().all(|(from, _)| *from == first));
    plan_and_do(&stand, &["update", &second, "0"]);
    plan_and_do(&stand, &["up", &first]);
    plan_and_do(&stand, &["down", &other]);
    assert_eq!(stand.users().len(), USERS);
    // The last usable backend of the tag: its users would be nowhere.
    let plan = plan_and_do(&stand, &["down", &tagged]);
    assert!(flows(&plan, "flush").keys().all(|(_, to)| to == "nowhere"));
    assert!(stand.users().len() < USERS);
}

fn a_plan_tells_who_would_be_forgotten_and_what_a_flush_does_today(kind: DirectorKind) {
    let stand = Stand::new(kind);
    stand.log_in();
    let [first, second, unknown] = [11, 12, 99].map(|it| stand.backend(it));
    let before = stand.users();
    let on_first = before.iter().filter(|(_, at)| *at == first).count();
    let plan = stand.json(&["plan", "remove", &first]);
    assert_eq!(
        flows(&plan, "forgotten"),
        Pairs::from([((first.clone(), second.clone()), on_first as u64)])
    );
    assert_eq!(plan["flush_without_change"], 0);
    assert_eq!(plan["backends"][0]["share_after"], 0.0);
    stand.homing(&["remove", &first]).ok();
    assert_eq!(stand.users().len(), before.len() - on_first);
    // They come back: all of them to where the plan said.
    stand.log_in();
    let after = stand.users();
    assert_eq!(flows(&plan, "forgotten"), moved(&before, &after));

    // Now they are where a flush would find them wrong, should the first come back.
    stand.homing(&["add", &first]).ok();
    let plan = stand.json(&["plan", "add", &first]);
    assert_eq!(plan["flush_without_change"], on_first);
    assert_eq!(flows(&plan, "new_users"), Pairs::new());
    let text = stand.homing(&["plan", "down", &first]).ok();
    assert!(
        text.starts_with(&format!("Plan: down {first}. Nothing was changed.\n")),
        "{text}"
    );
    assert!(
        text.contains(&format!(
            "would move 0; without the change it would move {on_first}:"
        )),
        "{text}"
    );

    stand.homing(&["plan", "down", &unknown]).failed(68);
    stand.homing(&["plan", "add", &first, "1001"]).failed(75);
    stand.homing(&["plan", "add", "-t", "x", &first]).failed(75);
    assert_eq!(stand.users(), after);
}
