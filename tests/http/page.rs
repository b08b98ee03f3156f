//! The page, in a real browser.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use crate::browser::Browser;
use crate::e2e::{PATIENCE, StubAuth, wait_until};
use crate::stage::{ADMIN, READ, Stage, WRONG};

const DESK: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);

/// Opens the page and gives it a token.
fn open(stage: &Stage, token: &str) -> Browser {
    let browser = Browser::start();
    browser.look(DESK, false);
    browser.open(&format!("http://{}/", stage.address()));
    browser.wait_text("#door-title", "Token");
    browser.type_into("#token", token);
    browser.click("#door-form button");
    browser
}

/// Nothing that the policy forbids was tried, and no script failed.
#[track_caller]
fn no_complaints(browser: &Browser) {
    for line in browser.console() {
        let refused = line.contains("401");
        assert!(refused, "the console says: {line}");
    }
    let foreign = browser.script(
        "return performance.getEntriesByType('resource').map((it) => it.name)
            .filter((it) => !it.startsWith(location.origin))",
    );
    assert_eq!(foreign, serde_json::json!([]), "requests to other sites");
}

#[test]
fn a_wrong_token_is_refused_and_the_right_one_shows_the_tier() {
    let stage = Stage::start();
    stage.log_in(60);
    let browser = open(&stage, WRONG);
    browser.wait_text("#door-fault", "in no line of http_tokens");
    browser.type_into("#token", READ);
    browser.click("#door-form button");
    browser.wait_text("#state", "serving alone");
    browser.wait_text("#users", "60");
    browser.wait_text("#backends", "127.61.0.14");
    browser.wait_text("#up", "4 of 4");
    assert_eq!(
        browser.script("return document.querySelectorAll('#backends tr').length"),
        4
    );
    // What changes is seen without a reload of the page.
    stage
        .admin("POST", "/api/v1/backends/127.61.0.12/down", "")
        .expect(200);
    browser.wait_text("#up", "3 of 4");
    browser.wait_text("#backends tr:nth-child(2)", "down");
    browser.wait_text("#events", "backend 127.61.0.12 is down");
    wait_until("logins are drawn", PATIENCE, || {
        stage.log_in(60);
        browser.text("#latency").contains("99 of 100")
    });
    browser.click("#leave");
    browser.wait_text("#state", "token needed");
    no_complaints(&browser);
}

#[test]
fn a_user_is_searched_and_names_are_never_markup() {
    let stage = Stage::start();
    stage.log_in(5);
    let browser = open(&stage, READ);
    browser.wait_text("#state", "serving alone");
    browser.type_into("#user", "user3");
    browser.click("#why-form button");
    browser.wait_text("#why", "where the hash ring says");
    browser.wait_text("#why", "127.61.0.1");
    let odd = "<img src=x onerror=alert(1)>/../ü@example.org";
    browser.script("document.getElementById('user').value = ''");
    browser.type_into("#user", odd);
    browser.click("#why-form button");
    browser.wait_text("#why", "the next login goes where the hash ring says");
    let tag = r#"{"tag": "<b>bold</b>", "vhosts": 1}"#;
    stage
        .admin("PUT", "/api/v1/backends/127.61.0.66", tag)
        .expect(200);
    browser.wait_text("#backends", "<b>bold</b>");
    assert_eq!(
        browser.script("return document.querySelectorAll('main img, main b b').length"),
        0
    );
    no_complaints(&browser);
}

#[test]
fn it_is_usable_on_a_phone_by_day_and_by_night() {
    let port = answering([11, 13, 14, 15, 16]);
    let (stage, others) = Stage::in_ring(&format!(
        "[[health_check]]\nprotocol = \"tcp\"\nport = {port}\ninterval = \"1 s\"\n"
    ));
    let browser = open(&stage, ADMIN);
    browser.wait_text("#state", "ring synced");
    wait_until("all directors are drawn", PATIENCE, || {
        browser.script("return document.querySelectorAll('#ring circle').length") == 3
    });
    let names: Vec<_> = (0..900).map(|at| format!("user{at}")).collect();
    let tag = |at: usize| if at.is_multiple_of(9) { "archive" } else { "" };
    let users: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (name.as_bytes(), tag(at)))
        .collect();
    stage
        .admin("POST", "/api/v1/backends/127.61.0.13/down", "")
        .expect(200);
    stage
        .admin("PATCH", "/api/v1/backends/127.61.0.14", r#"{"vhosts": 50}"#)
        .expect(200);
    // Logins come and go like waves, while somebody looks.
    let mut part = 0;
    // For a picture that people look at, two minutes.
    let samples = match std::env::var_os("HOMING_SCREENSHOTS") {
        Some(_) => 60,
        None => 5,
    };
    wait_until("there is something to be seen", 4 * PATIENCE, || {
        part += 1;
        let count = 200 + (part * part * 97) % 700;
        StubAuth::ask(&stage.director.sockets().login, &users[..count]);
        browser.script("return samples.length").as_u64() > Some(samples)
    });
    stage
        .admin(
            "PUT",
            "/api/v1/backends/127.61.0.15/drain",
            r#"{"rate": 3}"#,
        )
        .expect(200);
    browser.type_into("#user", "user7");
    browser.click("#why-form button");
    browser.wait_text("#why", "hash ring says");
    browser.wait_text("#backends", "draining");
    browser.wait_text("#backends tr:nth-child(2)", "down by health");
    browser.wait_text("#backends tr:nth-child(3)", "held by hand");
    let ground = || browser.script("return getComputedStyle(document.body).backgroundColor");
    let mut grounds = Vec::new();
    for (name, size, dark) in [
        ("page-light", DESK, false),
        ("page-dark", DESK, true),
        ("page-phone", PHONE, false),
        ("page-phone-dark", PHONE, true),
    ] {
        browser.look(size, dark);
        let too_wide = browser.script("return document.documentElement.scrollWidth - innerWidth");
        assert!(
            too_wide.as_i64() <= Some(0),
            "{name}: {too_wide} pixels too wide"
        );
        browser.wait_text("#state", "ring synced");
        grounds.push(ground());
        keep(name, &browser);
    }
    assert_ne!(grounds[0], grounds[1]);
    assert_eq!(grounds[0], grounds[2]);
    no_complaints(&browser);
    drop(others);
}

/// Takes the connections of a check at these backends, at one port.
fn answering(backends: [u8; 5]) -> u16 {
    let mut port = 0;
    for last in backends {
        let address = (Ipv4Addr::from([127, 61, 0, last]), port);
        let listener = TcpListener::bind(address).expect("the same port at all");
        port = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || listener.incoming().for_each(drop));
    }
    port
}

/// Keeps a picture for the documentation, where `make screenshots` wants it.
fn keep(name: &str, browser: &Browser) {
    let picture = browser.picture();
    assert!(picture.starts_with(b"\x89PNG"), "a picture");
    if let Some(dir) = std::env::var_os("HOMING_SCREENSHOTS") {
        let path = PathBuf::from(dir).join(format!("{name}.png"));
        std::fs::write(path, picture).expect("a picture is written");
    }
}
