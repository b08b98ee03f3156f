//! Health of backends in every form in which it is told. One backend takes connections, three refuse.

use std::net::TcpListener;

use serde_json::Value;

use crate::browser::Browser;
use crate::client::Request;
use crate::e2e::{PATIENCE, wait_until};
use crate::stage::{READ, Stage};

/// The stage with a check, which is answered at 127.61.0.12.
fn checked() -> Stage {
    let good = TcpListener::bind("127.61.0.12:0").expect("a port");
    let port = good.local_addr().expect("its address").port();
    std::thread::spawn(move || good.incoming().for_each(drop));
    let settings = format!(
        "[[health_check]]\nname = \"door\"\nprotocol = \"tcp\"\nport = {port}\ninterval = \"1 s\"\nfall = 2\n"
    );
    Stage::with(&settings)
}

fn health(stage: &Stage, ip: &str) -> Value {
    stage.get(&format!("/api/v1/backends/{ip}"))["health"].clone()
}

/// Of the two without a tag that refuse: the one that was taken down, and the one that the floor keeps.
fn decided(stage: &Stage) -> (&'static str, &'static str) {
    let (one, other) = ("127.61.0.11", "127.61.0.13");
    let decision = |ip| health(stage, ip)["decision"].clone();
    let mut found = None;
    wait_until("one of them is down, the other kept", PATIENCE, || {
        found = [(one, other), (other, one)]
            .into_iter()
            .find(|(down, kept)| decision(down) == "down" && decision(kept) == "floor");
        found.is_some()
    });
    found.expect("waited for")
}

#[test]
fn it_is_told_in_documents_and_metrics_and_backends_can_be_held_and_released() {
    let stage = checked();
    let (down, kept) = decided(&stage);
    let bad = health(&stage, down);
    assert_eq!(
        (&bad["state"], &bad["set_by"]),
        (&"down".into(), &"health".into())
    );
    let failing = bad["failing"][0].as_str().expect("a check");
    assert!(failing.starts_with("door: "), "{failing}");
    assert_eq!(
        stage.get(&format!("/api/v1/backends/{down}"))["state"],
        "down"
    );
    let rows = stage.get(&format!("/api/v1/backends/{down}/health"));
    assert_eq!(rows["items"][0]["check"], "door");
    wait_until("the good one is good", PATIENCE, || {
        health(&stage, "127.61.0.12")["state"] == "up"
    });
    let first = stage.get("/api/v1/health?limit=3");
    assert_eq!(first["items"].as_array().expect("rows").len(), 3);
    let next = first["next"].as_str().expect("there is a fourth");
    let last = stage.get(&format!("/api/v1/health?limit=3&cursor={next}"));
    assert_eq!(last["items"][0]["address"], "127.61.0.14");
    assert_eq!(last["next"], Value::Null);

    let metrics = stage.admin("GET", "/metrics", "").expect(200).body;
    for line in [
        format!("homing_backend_check_up{{backend=\"{down}\",tag=\"\",check=\"door\"}} 0.0"),
        "homing_backend_check_up{backend=\"127.61.0.12\",tag=\"\",check=\"door\"} 1.0".to_owned(),
        format!("homing_backend_down_by_health{{backend=\"{down}\",tag=\"\"}} 1.0"),
        format!("homing_backend_kept{{backend=\"{kept}\",tag=\"\"}} 1.0"),
        format!("homing_backend_votes_failed{{backend=\"{kept}\",tag=\"\"}} 1.0"),
        "homing_health_quorum 1.0".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }

    let order = |ip: &str, what: &str| {
        let path = format!("/api/v1/backends/{ip}/{what}");
        stage.admin("POST", &path, "").expect(200);
    };
    order(down, "hold");
    wait_until("it is held", PATIENCE, || {
        health(&stage, down)["set_by"] == "hand"
    });
    let held = format!("homing_backend_held{{backend=\"{down}\",tag=\"\"}} 1.0");
    let metrics = stage.admin("GET", "/metrics", "").expect(200).body;
    assert!(metrics.contains(&held), "{metrics}");
    order(down, "release");
    wait_until("it is health's again", PATIENCE, || {
        health(&stage, down)["set_by"] == "health"
    });
    let hold = Request::new("POST", &format!("/api/v1/backends/{down}/hold"));
    hold.token(READ).send(&stage.tcp()).expect(403);
    stage
        .admin("POST", "/api/v1/backends/127.61.0.99/hold", "")
        .expect(404);
}

#[test]
fn the_page_shows_it_where_there_are_checks() {
    let unchecked = Stage::start();
    let stage = checked();
    let (down, kept) = decided(&stage);
    let open = |stage: &Stage| {
        let browser = Browser::start();
        browser.look((1280, 900), false);
        browser.open(&format!("http://{}/", stage.address()));
        browser.wait_text("#door-title", "Token");
        browser.type_into("#token", READ);
        browser.click("#door-form button");
        browser.wait_text("#backends", "127.61.0.14");
        browser
    };
    let row = |ip: &str| match ip {
        "127.61.0.11" => "#backends tr:nth-child(1)",
        _ => "#backends tr:nth-child(3)",
    };
    let browser = open(&stage);
    browser.wait_text(row(down), "fails");
    browser.wait_text(row(down), "down by health");
    browser.wait_text(row(kept), "should be down");
    browser.wait_text("#backends tr:nth-child(2)", "passes");
    let browser = open(&unchecked);
    let shown = "return getComputedStyle(document.querySelector('#backends .health')).display";
    assert_eq!(browser.script(shown), "none");
}
