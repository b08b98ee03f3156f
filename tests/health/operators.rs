//! What operators and their tools set, health leaves alone.

use std::thread::sleep;
use std::time::Duration;

use crate::backends::{Mock, Mood, PORTS};
use crate::checks::spec;
use crate::e2e::{PATIENCE, Site, wait_until};
use crate::homing::Homing;

pub fn quick() -> String {
    format!(
        "[[health_check]]\nname = \"imap\"\nprotocol = \"imap\"\nport = {}\ninterval = \"1 s\"\n\
         timeout = \"1 s\"\nrise = 1\nfall = 2\n",
        PORTS.imap
    )
}

/// Longer than health takes for anything.
const A_WHILE: Duration = Duration::from_secs(6);

#[test]
fn states_that_were_set_by_hand_stay_until_they_are_released() {
    let site = Site::new();
    let mocks: Vec<Mock> = (11..=14)
        .map(|host| Mock::start(site.address(host)))
        .collect();
    let homing = Homing::start(&spec(&site, &[11, 12, 13, 14], quick()));
    let [first, second] = [11, 12].map(|host| site.address(host));
    homing.wait_state(second, "imap", "up");
    // Held up, and bad.
    homing.command(&["health", "hold", &first.to_string()]);
    mocks[0].be(Mood::Wedged);
    homing.wait_state(first, "imap", "down");
    sleep(A_WHILE);
    assert!(homing.down().is_empty());
    assert_eq!(homing.health(first, "imap").reason, "held by hand");
    homing.command(&["health", "release", &first.to_string()]);
    homing.wait_down(first, true);
    // Down by poolmon while health has it down already: its state is poolmon's from then on.
    homing.say_and_leave(&format!("HOST-DOWN\t{first}\nHOST-FLUSH\t{first}\n"));
    mocks[0].be(Mood::Good);
    homing.wait_state(first, "imap", "up");
    sleep(A_WHILE);
    assert!(homing.is_down(first));
    homing.say_and_leave(&format!("HOST-UP\t{first}\n"));
    homing.wait_down(first, false);
    mocks[0].be(Mood::Wedged);
    homing.wait_state(first, "imap", "down");
    sleep(A_WHILE);
    assert!(!homing.is_down(first));
    // By our own command, and good.
    homing.command(&["down", &second.to_string()]);
    sleep(A_WHILE);
    assert!(homing.is_down(second));
    homing.command(&["health", "release", &second.to_string()]);
    homing.wait_down(second, false);
}

#[test]
fn rows_say_what_is_so() {
    let site = Site::new();
    let mocks: Vec<Mock> = (11..=14)
        .map(|host| Mock::start(site.address(host)))
        .collect();
    let homing = Homing::start(&spec(&site, &[11, 12, 13, 14], quick()));
    let first = site.address(11);
    mocks[0].be(Mood::Busy);
    homing.wait_down(first, true);
    wait_until("it says so", PATIENCE, || {
        homing.health(first, "imap").decision == "down"
    });
    let text = homing.command(&["health"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    for word in ["down by health", "* BYE", "1 bad, 0 good of 1"] {
        assert!(lines[1].contains(word), "{word}: {text}");
    }
    assert!(lines[2].contains("in service"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&homing.command(&["health", "--json"])).unwrap();
    let row = &json[0];
    assert_eq!(row["address"], first.to_string());
    assert_eq!(
        (&row["state"], &row["decision"]),
        (&"down".into(), &"down".into())
    );
    assert_eq!(
        (&row["votes_failed"], &row["quorum"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        (&row["weight"], &row["set_by"]),
        (&100.into(), &"health".into())
    );
    assert_eq!(json.as_array().unwrap().len(), 4);
}

#[test]
fn a_reload_changes_checks_and_limits() {
    let site = Site::new();
    let mocks: Vec<Mock> = (11..=14)
        .map(|host| Mock::start(site.address(host)))
        .collect();
    let mut spec = spec(&site, &[11, 12, 13, 14], quick());
    spec.settings.push_str("health_act = false\n");
    let homing = Homing::start(&spec);
    let first = site.address(11);
    mocks[0].be(Mood::Wedged);
    wait_until("it is told", PATIENCE, || {
        homing.health(first, "imap").reason == "should be down: health_act is off"
    });
    assert!(!homing.is_down(first));
    spec.settings = "health_slow_start = \"0\"\n".to_owned();
    homing.write(&spec);
    homing.signal(libc::SIGHUP);
    homing.wait_down(first, true);
    spec.checks = String::new();
    homing.write(&spec);
    homing.signal(libc::SIGHUP);
    wait_until("nothing is checked", PATIENCE, || {
        homing.health(first, "imap").state.is_empty()
    });
    assert!(
        homing.is_down(first),
        "without checks nobody knows that it is good"
    );
}
