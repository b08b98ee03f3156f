//! A Dovecot director in the ring: health is told and orders nothing, and Dovecot hears of none of it.

use std::thread::sleep;
use std::time::Duration;

use crate::backends::{Mock, Mood};
use crate::e2e::seat::Seat;
use crate::e2e::{
    Director, DirectorKind, DirectorPlacement, DirectorSpec, PATIENCE, Site, Sockets, StubAuth,
    wait_until,
};
use crate::homing::{Homing, Spec};
use crate::operators::quick;

/// Longer than health takes for anything.
const A_WHILE: Duration = Duration::from_secs(10);
const BACKENDS: [u8; 4] = [11, 12, 13, 14];

#[test]
fn with_a_dovecot_in_the_ring_it_is_only_told() {
    let site = Site::new();
    let mocks = BACKENDS.map(|host| Mock::start(site.address(host)));
    let directors: Vec<_> = (41..=43).map(|host| site.address(host)).collect();
    let backends: Vec<_> = BACKENDS.iter().map(|&host| site.address(host)).collect();
    let homings = [41, 42].map(|host| {
        Homing::start(&Spec {
            site: &site,
            address: site.address(host),
            directors: directors.clone(),
            backends: backends.clone(),
            settings: String::new(),
            checks: quick(),
        })
    });
    let socket = |name: &str| site.path().join(format!("dovecot-{name}"));
    let auth = socket("auth");
    StubAuth::start(&auth);
    let names: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let dovecot = Director::start(
        &site,
        DirectorSpec {
            kind: DirectorKind::Dovecot23,
            placement: DirectorPlacement::Standalone,
            name: "dovecot".to_owned(),
            address: site.address(43),
            backends: names.join(" "),
            expire: 900,
            sockets: Sockets {
                login: socket("login"),
                userdb: socket("userdb"),
                notify: socket("notify"),
                authreply: None,
            },
            auth_login: auth.clone(),
            auth_userdb: auth,
            director_settings: String::new(),
            seat: Some(Seat {
                directors: directors.clone(),
                port: 9090,
                ping_idle: 30,
                ipv6: false,
            }),
        },
    );
    let first = backends[0];
    let stranger = site.address(43);
    mocks[0].be(Mood::Wedged);
    for homing in &homings {
        wait_until("it is told", PATIENCE, || {
            let health = homing.health(first, "imap");
            health.failed == 2
                && health.reason == format!("should be down: director {stranger}:9090 has no vote")
        });
    }
    sleep(A_WHILE);
    for homing in &homings {
        assert!(homing.down().is_empty());
    }
    // poolmon, or an operator, does it instead.
    homings[1].say_and_leave(&format!("HOST-DOWN\t{first}\nHOST-FLUSH\t{first}\n"));
    homings[0].wait_down(first, true);
    let log = std::fs::read_to_string(dovecot.log()).unwrap();
    assert!(
        !log.contains("HOMING-HEALTH") && !log.contains("nvalid"),
        "{log}"
    );
}
