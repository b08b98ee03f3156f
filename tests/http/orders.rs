//! What is ordered is done, and the log says by whom.

use std::fs;

use serde_json::json;

use crate::client::Request;
use crate::e2e::{PATIENCE, wait_until};
use crate::stage::{ADMIN, READ, Stage};

#[test]
fn orders_are_carried_out_and_the_log_says_who_gave_them() {
    let stage = Stage::start();
    let backend = || stage.get("/api/v1/backends/127.61.0.11");
    stage
        .admin("POST", "/api/v1/backends/127.61.0.11/down", "")
        .expect(200);
    assert_eq!(backend()["state"], "down");
    stage
        .director
        .wait_log("admin client http token ann at 127.");
    stage.director.wait_log("HOST-DOWN\\t127.61.0.11");
    let up = Request::new("POST", "/api/v1/backends/127.61.0.11/up");
    up.send(&stage.path()).expect(200);
    assert_eq!(backend()["state"], "up");
    stage.director.wait_log("admin client http pid ");
    stage
        .admin("PATCH", "/api/v1/backends/127.61.0.11", r#"{"vhosts": 7}"#)
        .expect(200);
    assert_eq!(backend()["vhosts"], 7);
    stage
        .admin(
            "PUT",
            "/api/v1/backends/127.61.0.21",
            r#"{"tag": "t2", "vhosts": 5}"#,
        )
        .expect(200);
    assert_eq!(stage.get("/api/v1/backends/127.61.0.21")["tag"], "t2");
    stage
        .admin("DELETE", "/api/v1/backends/127.61.0.21", "")
        .expect(200);
    stage
        .admin("GET", "/api/v1/backends/127.61.0.21", "")
        .expect(404);
    // The page's events are made of what lookups see.
    wait_until("the events tell of it", PATIENCE, || {
        let events = stage.get("/api/v1/events").to_string();
        events.contains("backend 127.61.0.11 has 7 vhosts, after 100")
    });
}

#[test]
fn a_user_is_found_moved_and_explained() {
    let stage = Stage::start();
    stage.log_in(20);
    let at = |user: &str| stage.get(&format!("/api/v1/users/{user}"));
    let before = at("user3")["places"][0]["current"].clone();
    let other = ["127.61.0.11", "127.61.0.12"]
        .into_iter()
        .find(|ip| before != *ip)
        .expect("another backend");
    let order = json!({ "backend": other }).to_string();
    let done = stage
        .admin("POST", "/api/v1/users/user3/move", &order)
        .expect(200);
    let done = done.json();
    assert_eq!(done["state"], "done");
    assert_eq!((&done["from"], &done["to"]), (&before, &json!(other)));
    assert_eq!(at("user3")["places"][0]["current"], other);
    let why = stage.get("/api/v1/users/user3/why?tag=");
    let why = &why["items"][0];
    assert!(
        why["reason"]
            .as_str()
            .expect("a sentence")
            .contains("moved by an administrator")
    );
    assert_eq!(why["current"], other);
    // A name of any characters is one part of the path.
    let odd = stage.get("/api/v1/users/a%2Fb%20c%40d");
    assert_eq!(odd["user"], "a/b c@d");
    stage
        .admin("POST", "/api/v1/users/user3/kick", "")
        .expect(200);
    stage
        .admin(
            "POST",
            "/api/v1/users/user3/kick",
            r#"{"passdb_field": "x"}"#,
        )
        .expect(200);
    let long = format!("/api/v1/users/{}", "a".repeat(2000));
    stage.admin("POST", &format!("{long}/kick"), "").expect(422);
    wait_until("the move is told of", PATIENCE, || {
        let metrics = stage.admin("GET", "/metrics", "").expect(200).body;
        metrics.contains("\nhoming_moves_total 1.0\n")
            && metrics.contains("homing_kicks_total{of=\"user\"} 1.0")
    });
}

#[test]
fn names_are_those_that_auth_lists() {
    let stage = Stage::start();
    stage.log_in(25);
    // Auth knows user0 to user19.
    let users = stage.get("/api/v1/users?names=true");
    let users = users["items"].as_array().expect("users");
    let named = users.iter().filter(|it| it["user"].is_string()).count();
    assert_eq!((users.len(), named), (25, 20));
    let user = stage.get("/api/v1/users/user7");
    let hash = user["hash"].as_u64().expect("a hash");
    let of_hash = stage.get(&format!("/api/v1/hashes/{hash}"));
    assert_eq!(of_hash["names"], json!(["user7"]));
    let row = users.iter().find(|it| it["hash"] == hash).expect("a row");
    assert_eq!(row["user"], "user7");
    let unnamed = stage.get("/api/v1/users?limit=1");
    assert_eq!(unnamed["items"][0]["user"], serde_json::Value::Null);
    let wrong = stage.admin("GET", "/api/v1/hashes/4294967296", "");
    wrong.expect(400).problem("client");
}

#[test]
fn a_flush_says_how_many_users_have_left() {
    let stage = Stage::start();
    stage.log_in(30);
    let before = stage.get("/api/v1/backends/127.61.0.11")["users"].clone();
    stage
        .admin("POST", "/api/v1/backends/127.61.0.11/down", "")
        .expect(200);
    let flush = stage.admin("POST", "/api/v1/backends/127.61.0.11/flush", "");
    let done = flush.expect(200).json();
    assert_eq!(
        (&done["users_before"], &done["users_after"]),
        (&before, &json!(0))
    );
    assert!(before.as_u64() > Some(0), "{before}");
}

#[test]
fn lists_come_in_parts() {
    let stage = Stage::start();
    stage.log_in(250);
    let walk = |path: &str, limit: usize| {
        let (mut items, mut cursor, mut parts) = (Vec::new(), String::new(), 0);
        loop {
            let part = stage.get(&format!("{path}limit={limit}{cursor}"));
            let found = part["items"].as_array().expect("items");
            assert!(found.len() <= limit);
            items.extend(found.clone());
            parts += 1;
            assert!(parts < 100, "a list without end");
            match part["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return (items, parts),
            }
        }
    };
    let (users, parts) = walk("/api/v1/users?", 100);
    assert_eq!((users.len(), parts), (250, 3));
    let of = |ip: &str| walk(&format!("/api/v1/users?backend={ip}&"), 40).0.len();
    let sum = of("127.61.0.11") + of("127.61.0.12") + of("127.61.0.13");
    assert_eq!(sum, 250);
    let (backends, parts) = walk("/api/v1/backends?", 2);
    assert_eq!((backends.len(), parts), (4, 2));
}

#[test]
fn a_dump_is_restored_and_a_flush_goes_on() {
    let stage = Stage::start();
    stage.log_in(100);
    let dump = stage.get("/api/v1/dump");
    stage
        .admin("DELETE", "/api/v1/backends/127.61.0.12", "")
        .expect(200);
    stage
        .admin("POST", "/api/v1/backends/127.61.0.11/down", "")
        .expect(200);
    let text = dump.to_string();
    let dry = stage
        .admin("POST", "/api/v1/restore?dry_run=true", &text)
        .expect(200)
        .json();
    let steps = dry["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 2, "{dry}");
    assert!(steps.iter().all(|step| step["reply"].is_null()), "{dry}");
    let done = stage
        .admin("POST", "/api/v1/restore", &text)
        .expect(200)
        .json();
    assert!(
        done["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .all(|it| it["reply"] == "OK"),
        "{done}"
    );
    assert_eq!(stage.get("/api/v1/dump"), dump);
    stage
        .admin("POST", "/api/v1/backends/127.61.0.11/down", "")
        .expect(200);
    let plan = stage.get("/api/v1/plan?change=up&backend=127.61.0.11");
    assert_eq!(plan["change"], "up");
    let flushed = stage.admin(
        "POST",
        "/api/v1/backends/127.61.0.11/flush",
        r#"{"max_parallel": 50}"#,
    );
    assert!([200, 202].contains(&flushed.status), "{flushed:?}");
    wait_until("nobody is left", PATIENCE, || {
        stage.get("/api/v1/backends/127.61.0.11")["users"] == 0
    });
    let settings = stage.get("/api/v1/settings").to_string();
    assert!(settings.contains("director_user_expire") && settings.contains("15 min"));
    let answered = |core: &str| {
        let histograms = stage.get(&format!("/api/v1/histograms?counts=true{core}"));
        let login = &histograms["latency"][0];
        let counts = login["counts"].as_array().expect("counts").clone();
        let sum: u64 = counts.iter().filter_map(|it| it[1].as_u64()).sum();
        assert_eq!(login["count"], sum, "{histograms}");
        sum
    };
    assert_eq!(answered("&core=0") + answered("&core=1"), answered(""));
    let none = stage.admin("GET", "/api/v1/histograms?core=77", "");
    none.expect(404).problem("client");
    let histograms = stage.get("/api/v1/histograms");
    assert_eq!(histograms["latency"][0]["counts"], serde_json::Value::Null);
    assert_eq!(histograms["latency"][0]["of"], "login");
    assert!(
        histograms["latency"][0]["count"].as_u64() >= Some(100),
        "{histograms}"
    );
}

#[test]
fn a_reload_changes_tokens_and_a_bad_file_changes_nothing() {
    let stage = Stage::start();
    let ask = |token: &str| {
        let request = Request::new("GET", "/api/v1/status").token(token);
        request.send(&stage.tcp()).status
    };
    assert_eq!((ask(READ), ask(ADMIN)), (200, 200));
    let status = Request::new("GET", "/api/v1/status")
        .token(READ)
        .send(&stage.tcp());
    assert_eq!(status.json()["role"], "read");
    let reload = |file: String, log: &str| {
        fs::write(stage.file("tokens"), file).expect("tokens");
        let pid = i32::try_from(stage.director.pid()).expect("a pid");
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("a signal");
        stage.director.wait_log(log);
    };
    reload(
        "scraper read short\n".to_owned(),
        "the files of http_* cannot be used",
    );
    assert_eq!((ask(READ), ask(ADMIN)), (200, 200));
    reload(format!("ann admin {ADMIN}\n"), "reload: done");
    assert_eq!((ask(READ), ask(ADMIN)), (401, 200));
}
