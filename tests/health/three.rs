//! Three directors, of which one is cut off.

use std::net::Ipv4Addr;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::backends::{Mock, Mood, PORTS};
use crate::e2e::dovecot::HOMING;
use crate::e2e::{PATIENCE, Site, wait_until};
use crate::homing::{Homing, Spec};
use crate::own_network::{cut, enter};

/// Longer than health takes for anything.
const A_WHILE: Duration = Duration::from_secs(10);
const BACKENDS: [u8; 4] = [11, 12, 13, 14];
const DIRECTORS: [u8; 3] = [41, 42, 43];

struct Three {
    site: Site,
    mocks: Vec<Mock>,
    homings: Vec<Homing>,
}

impl Three {
    fn start(settings: &str) -> Three {
        let site = Site::new();
        let mocks = BACKENDS.map(|host| Mock::start(site.address(host)));
        let homings = DIRECTORS.map(|host| Homing::start(&three_spec(&site, host, settings)));
        let three = Three {
            mocks: mocks.into(),
            homings: homings.into(),
            site,
        };
        three.wait_votes();
        three
    }

    fn backend(&self, at: usize) -> Ipv4Addr {
        self.site.address(BACKENDS[at])
    }

    fn director(&self, at: usize) -> Ipv4Addr {
        self.site.address(DIRECTORS[at])
    }

    /// Everybody hears everybody's votes.
    fn wait_votes(&self) {
        for homing in &self.homings {
            wait_until("all three vote", PATIENCE, || {
                homing.health(self.backend(3), "imap").good == 3
            });
        }
    }

    /// The ways of a director to the backends.
    fn cut_from_backends(&self, at: usize, is_cut: bool) {
        for host in BACKENDS {
            cut(self.director(at), self.site.address(host), is_cut);
        }
    }

    /// And to the other directors.
    fn cut_off(&self, at: usize, is_cut: bool) {
        self.cut_from_backends(at, is_cut);
        for other in (0..3).filter(|other| *other != at) {
            cut(self.director(at), self.director(other), is_cut);
            cut(self.director(other), self.director(at), is_cut);
        }
    }

    #[track_caller]
    fn wait_down(&self, which: &[usize], down: &[usize]) {
        let down: Vec<Ipv4Addr> = down.iter().map(|&at| self.backend(at)).collect();
        for &at in which {
            let what = format!("at {} down are {down:?}", DIRECTORS[at]);
            wait_until(&what, PATIENCE, || self.homings[at].down() == down);
        }
    }
}

fn three_spec<'a>(site: &'a Site, host: u8, settings: &str) -> Spec<'a> {
    let checks = format!(
        "[[health_check]]\nname = \"imap\"\nprotocol = \"imap\"\nport = {}\ninterval = \"1 s\"\n\
         timeout = \"1 s\"\nrise = 1\nfall = 2\nsource = \"{}\"\n",
        PORTS.imap,
        site.address(host)
    );
    Spec {
        site,
        address: site.address(host),
        directors: DIRECTORS.iter().map(|&host| site.address(host)).collect(),
        backends: BACKENDS.iter().map(|&host| site.address(host)).collect(),
        settings: format!(
            "director_ping_idle_timeout = \"4 s\"\ndirector_ping_max_timeout = \"8 s\"\n{settings}"
        ),
        checks,
    }
}

#[test]
fn a_director_that_is_cut_off_empties_nothing() {
    if !enter("three::a_director_that_is_cut_off_empties_nothing") {
        return;
    }
    let three = Three::start("health_slow_start = \"0\"\n");
    // It sees all backends fail, and hears nobody. It would decide, were there a quorum.
    three.cut_off(0, true);
    for at in 0..4 {
        three.homings[0].wait_state(three.backend(at), "imap", "down");
    }
    sleep(A_WHILE);
    three.wait_down(&[0, 1, 2], &[]);
    let alone = three.homings[0].health(three.backend(0), "imap");
    assert_eq!(
        alone.reason,
        "should be down: only 1 directors are heard, 2 must agree"
    );
    // The others go on without it.
    three.mocks[2].be(Mood::Wedged);
    three.wait_down(&[1, 2], &[2]);
    assert!(three.homings[0].down().is_empty());
    let health = three.homings[1].health(three.backend(2), "imap");
    assert_eq!((health.failed, health.good), (2, 0));
    // It comes back, takes over what the others know, and decides again.
    three.cut_off(0, false);
    three.wait_down(&[0, 1, 2], &[2]);
    wait_until("it has learnt who has taken it down", PATIENCE, || {
        let health = three.homings[0].health(three.backend(2), "imap");
        health.by == "health" && health.failed == 3
    });
    three.mocks[2].be(Mood::Good);
    three.wait_down(&[0, 1, 2], &[]);
}

#[test]
fn a_quorum_and_the_floor_are_kept() {
    if !enter("three::a_quorum_and_the_floor_are_kept") {
        return;
    }
    let three = Three::start("health_slow_start = \"0\"\n");
    // One has no way to the backends, and is outvoted.
    three.cut_from_backends(1, true);
    for at in 0..4 {
        three.homings[1].wait_state(three.backend(at), "imap", "down");
    }
    sleep(A_WHILE);
    three.wait_down(&[0, 1, 2], &[]);
    // Two have none: they are a quorum, and half of the backends stay.
    three.cut_from_backends(2, true);
    wait_until("two of four are down", PATIENCE, || {
        three.homings[0].down().len() == 2
    });
    sleep(A_WHILE);
    for homing in &three.homings {
        assert_eq!(homing.down().len(), 2);
    }
    let up = (0..4).find(|&at| !three.homings[0].is_down(three.backend(at)));
    let kept = three.homings[0].health(three.backend(up.unwrap()), "imap");
    assert_eq!(
        kept.reason,
        "should be down: 2 serve, 2 must (health_floor)"
    );
    three.cut_from_backends(1, false);
    three.cut_from_backends(2, false);
    three.wait_down(&[0, 1, 2], &[]);
}

#[test]
fn marks_and_slow_starts_outlive_the_director_that_decides() {
    if !enter("three::marks_and_slow_starts_outlive_the_director_that_decides") {
        return;
    }
    let mut three = Three::start("health_slow_start = \"20 s\"\n");
    let (first, held) = (three.backend(0), three.backend(1));
    three.homings[2].command(&["health", "hold", &held.to_string()]);
    three.mocks[0].be(Mood::Wedged);
    three.mocks[1].be(Mood::Wedged);
    three.wait_down(&[0, 1, 2], &[0]);
    three.homings[0].kill();
    three.mocks[0].be(Mood::Good);
    // The next one decides, and brings it back in steps.
    three.wait_down(&[1, 2], &[]);
    let health = three.homings[2].health(first, "imap");
    assert!(health.vhosts < 100 && health.weight == 100, "{health:?}");
    // The first one is back in the middle of it, and knows what has been held and what is under way.
    three.homings[0].run();
    wait_until("it has learnt what is held", PATIENCE, || {
        three.homings[0].health(held, "imap").by == "hand"
    });
    for homing in &three.homings {
        wait_until("all of its weight is back", PATIENCE, || {
            homing.health(first, "imap").decision == "in-service" && homing.hosts()[&first].1 == 100
        });
        assert!(!homing.is_down(held));
    }
}

#[test]
fn after_a_power_cut_of_all_what_was_set_by_hand_stays_and_health_goes_on() {
    if !enter("three::after_a_power_cut_of_all_what_was_set_by_hand_stays_and_health_goes_on") {
        return;
    }
    let site = Site::new();
    let start = |host: u8| {
        let state = site.path().join(format!("state{host}"));
        let settings = format!(
            "health_slow_start = \"0\"\nstate_path = {state:?}\nstate_interval = \"1 s\"\n"
        );
        Homing::start(&three_spec(&site, host, &settings))
    };
    let mut three = Three {
        mocks: BACKENDS.map(|host| Mock::start(site.address(host))).into(),
        homings: DIRECTORS.map(start).into(),
        site,
    };
    three.wait_votes();
    let by_hand = three.backend(1).to_string();
    three.homings[1].command(&["down", &by_hand]);
    three.mocks[0].be(Mood::Wedged);
    three.wait_down(&[0, 1, 2], &[0, 1]);
    for host in DIRECTORS {
        let file = three.site.path().join(format!("state{host}"));
        let file = file.to_str().expect("a path");
        wait_until("the file says who has set what", PATIENCE, || {
            let said = homing(&["state", "--json", file]);
            let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
            said["backends"][0]["by_health"] == true && said["backends"][1]["by_hand"] == true
        });
    }
    three.homings.iter_mut().for_each(Homing::kill);
    three.homings.iter_mut().for_each(Homing::run);
    three.wait_down(&[0, 1, 2], &[0, 1]);
    three.mocks[0].be(Mood::Good);
    three.wait_down(&[0, 1, 2], &[1]);
    sleep(A_WHILE);
    for homing in &three.homings {
        assert_eq!(homing.down(), [three.backend(1)]);
        assert_eq!(homing.health(three.backend(1), "imap").by, "hand");
    }
    three.homings[2].command(&["health", "release", &by_hand]);
    three.wait_down(&[0, 1, 2], &[]);
}

/// What a command of ours prints that asks no director.
fn homing(words: &[&str]) -> String {
    let output = Command::new(HOMING).args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
