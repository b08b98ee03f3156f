//! Directors in a ring, each of which is taken over in turn.

use std::path::PathBuf;

use loadgen::{Connections, Plan, StubAuth, StubConfig, Target};

use crate::line::Line;
use crate::load::{Logins, plan};
use crate::networks::Network;
use crate::rig::{Site, wait_until};

const PORT: u16 = 9090;
const ROUNDS: usize = 4;

fn start(network: &Network, host: u8) -> (Line, StubAuth) {
    let all: Vec<String> = (1..=3)
        .map(|host| format!("{}:{PORT}", network.address(host)))
        .collect();
    let own = network.address(host);
    let line = Line::start(
        Site::new()
            .set("log_level", "\"info\"")
            .set("director_servers", &format!("{:?}", all.join(" ")))
            .append(&format!(
                "[[listener]]\ntype = \"ring\"\naddress = \"{own}:{PORT}\"\n"
            )),
    );
    let auth = StubAuth::spawn(&StubConfig {
        login: Some(line.site.path("auth-login")),
        ..StubConfig::default()
    });
    (line, auth.expect("a stub auth"))
}

fn is_whole(line: &Line) -> bool {
    let ring = line.said("ring: ");
    ring.contains("members=3 ") && ring.contains(" synced=true alone=false ")
}

/// Logins come in through all three doors all the time.
#[test]
fn each_of_three_leaves_and_comes_back_while_logins_go_on() {
    let network = Network::claim();
    let mut ring: Vec<(Line, StubAuth)> = (1..=3).map(|host| start(&network, host)).collect();
    wait_until("the ring is whole", || {
        ring.iter().all(|(line, _)| is_whole(line))
    });
    let doors: Vec<PathBuf> = ring.iter().map(|(line, _)| line.login()).collect();
    let logins = [Connections::Kept, Connections::PerLogin].map(|lifetime| {
        let targets = doors.iter().cloned().map(Target::Login).collect();
        let first = plan(Target::Login(doors[0].clone()), lifetime);
        Logins::begin(Plan { targets, ..first })
    });
    for _ in 0..ROUNDS {
        for at in 0..ring.len() {
            logins.iter().for_each(Logins::go_on);
            ring[at].0.upgrade();
            wait_until("the ring is whole again", || {
                ring.iter().all(|(line, _)| is_whole(line))
            });
        }
    }
    logins.iter().for_each(Logins::go_on);
    logins.into_iter().for_each(Logins::end);
    let mut same = Vec::new();
    wait_until("all know all users", || {
        same = ring.iter().map(|(line, _)| line.said("users: ")).collect();
        let users = |said: &String| {
            said.split_once("users: ")
                .map(|(_, users)| users.to_owned())
        };
        same.iter().all(|said| users(said) == users(&same[0]))
    });
    for (line, auth) in ring {
        let log = line.stop();
        drop(auth);
        let never = log
            .lines()
            .filter(|line| line.contains("host lookup failed"));
        assert_eq!(never.count(), 0, "{log}");
        let still = log
            .lines()
            .filter_map(|line| line.split_once("has taken over "));
        still.for_each(|(_, text)| eprintln!("{text}"));
    }
}
