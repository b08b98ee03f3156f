//! What Homing's admin socket offers beyond Dovecot's, and the commands for it: a running Homing, and
//! the same program as its client (docs/protocol/admin.md, questions to homing only; drains; histograms).
//!
//! Needs neither root nor a Dovecot; HdrHistogram's Python port, which `tests/setup.sh` installs.

mod histograms;
#[allow(
    dead_code,
    unused_imports,
    reason = "these tests need only a part of it"
)]
#[path = "../abuse/rig/mod.rs"]
mod rig;

use std::process::{Command, Stdio};
use std::time::Duration;

use rig::homing::PROGRAM;
use rig::{EchoAuth, Homing, Peer, Site, clock, wait_until};
use serde_json::{Value, json};

const USERS: usize = 60;

/// A director without others, with users on four backends.
struct Stand(Homing);

/// What a command printed, and its exit status.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    status: Option<i32>,
}

impl Stand {
    fn new() -> Stand {
        Stand::with_delay("2 s")
    }

    /// A moved user waits for so long.
    fn with_delay(delay: &str) -> Stand {
        Stand::of(Site::new(), delay)
    }

    fn of(site: Site, delay: &str) -> Stand {
        let path = site.path("admin-socket");
        let homing = site
            .set("kick_service", "\"none\"")
            .set("director_user_kick_delay", &format!("\"{delay}\""))
            .append(&format!(
                "[[listener]]\ntype = \"admin\"\npath = {path:?}\nmode = \"0666\"\n"
            ))
            .start();
        EchoAuth::spawn(&homing.site.path("auth-login"), false);
        let mut client = Peer::login(&homing.login());
        for user in 0..USERS {
            client.ask(2, &format!("user=user{user}|proxy"));
        }
        Stand(homing)
    }

    fn run(&self, words: &[&str]) -> Said {
        let socket = self.0.site.path("admin-socket").display().to_string();
        let output = Command::new(PROGRAM)
            .args(words)
            .args(["-a", &socket])
            .stdin(Stdio::null())
            .output()
            .expect("homing");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Said {
            out: text(output.stdout),
            err: text(output.stderr),
            status: output.status.code(),
        }
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let said = self.run(words);
        assert_eq!(said.status, Some(0), "{said:?}\n{}", self.0.log());
        said.out
    }

    #[track_caller]
    fn failed(&self, words: &[&str], status: i32) -> String {
        let said = self.run(words);
        assert_eq!(said.status, Some(status), "{said:?}");
        said.err
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let text = self.ok(&[words, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Vhosts and users of a backend.
    fn backend(&self, ip: &str) -> (u64, u64) {
        let hosts = self.json(&["status"]);
        let mut hosts = hosts.as_array().expect("a list").iter();
        let host = hosts.find(|host| host["address"] == ip).expect("known");
        let number = |key: &str| host[key].as_u64().expect("a number");
        (number("vhosts"), number("users"))
    }
}

#[test]
fn a_drain_takes_its_time_and_ends() {
    let stand = Stand::new();
    let (vhosts, users) = stand.backend("10.2.0.1");
    assert!(vhosts == 100 && users > 5, "{users}");
    let begun = clock::now();
    let said = stand.json(&["drain", "10.2.0.1", "--rate", "10", "--wait"]);
    // The first leaves at once; the last one's move takes the kick delay.
    let least = Duration::from_millis((users - 1) * 100);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    assert_eq!(
        said,
        json!([{
            "address": "10.2.0.1", "state": "done", "rate": 10, "users_moved": users,
            "users_left": 0, "vhosts_before": 100, "begun": said[0]["begun"],
        }])
    );
    assert_eq!(stand.backend("10.2.0.1"), (0, 0));
    assert_eq!(stand.0.users(), USERS as u64, "nobody is lost");
    // The machine is mended.
    stand.ok(&["drain", "10.2.0.1", "--cancel"]);
    assert_eq!(stand.backend("10.2.0.1"), (100, 0));
    assert_eq!(stand.json(&["drain", "--status"]), json!([]));
    let log = stand.0.stop();
    for line in [
        "an operator drains backend 10.2.0.1: 10 users a second",
        "backend 10.2.0.1 is drained",
        "an operator ends the drain of backend 10.2.0.1 (vhost count 100)",
    ] {
        assert!(log.contains(line), "no {line:?} in\n{log}");
    }
}

#[test]
fn a_drain_goes_on_without_its_client_and_can_be_changed_and_cancelled() {
    let stand = Stand::new();
    let (_, users) = stand.backend("10.2.0.2");
    stand.ok(&["drain", "10.2.0.2", "--rate", "2"]);
    let status = || stand.json(&["drain", "10.2.0.2", "--status"])[0].clone();
    let moved = || status()["users_moved"].as_u64().expect("a number");
    wait_until("the second user", || moved() >= 2);
    assert_eq!(
        (&status()["state"], &status()["rate"]),
        (&json!("draining"), &json!(2))
    );
    stand.ok(&["drain", "10.2.0.2", "--rate", "1"]);
    assert_eq!(status()["rate"], 1);
    stand.ok(&["drain", "10.2.0.2", "--cancel"]);
    let (vhosts, left) = stand.backend("10.2.0.2");
    assert_eq!(vhosts, 100);
    assert!(left > 0 && left < users, "{left} of {users}");
    assert_eq!(status()["state"], json!(null));
    // There is nothing to wait for or to cancel any more.
    let said = stand.failed(&["drain", "10.2.0.2", "--wait"], 75);
    assert!(said.contains("there is no drain of it"), "{said}");
    stand.failed(&["drain", "10.2.0.2", "--cancel"], 68);
    stand.failed(&["drain", "10.2.0.77", "--rate", "1", "--wait"], 68);
    stand.failed(&["drain", "10.2.0.2"], 64);
    stand.failed(&["drain", "10.2.0.2", "--rate", "0"], 64);
    stand.failed(&["drain", "--rate", "1"], 64);
    // Its weight was taken away by hand: then nobody knows what it was.
    stand.ok(&["update", "10.2.0.2", "0"]);
    stand.ok(&["drain", "10.2.0.2", "--rate", "100"]);
    assert_eq!(status()["vhosts_before"], json!(null));
    // Another one gives it a weight: whoever waits is told.
    stand.ok(&["drain", "10.2.0.2", "--rate", "1"]);
    stand.ok(&["update", "10.2.0.2", "50"]);
    stand.failed(&["drain", "10.2.0.2", "--wait"], 75);
    for last in [1, 3, 4] {
        stand.ok(&["down", &format!("10.2.0.{last}")]);
    }
    let said = stand.failed(&["drain", "10.2.0.2", "--rate", "1"], 75);
    assert!(
        said.contains("no other backend of its tag can take the users"),
        "{said}"
    );
    stand.0.stop();
}

#[test]
fn a_users_place_is_explained() {
    // Long enough to be asked for the place meanwhile, also on a busy machine.
    let stand = Stand::with_delay("8 s");
    let why = |user: &str| stand.json(&["why", user])[0].clone();
    let of = |why: &Value, name: &str| {
        let pairs = why["extra"].as_array().expect("a list");
        let pair = pairs.iter().find(|pair| pair[0] == name);
        pair.map(|pair| pair[1].as_str().expect("text").to_owned())
    };
    let known = why("user1");
    assert_eq!(of(&known, "state").as_deref(), Some("normal"));
    assert_eq!(of(&known, "decided by").as_deref(), Some("this director"));
    let [expires, seen] =
        ["expires", "last_refresh"].map(|key| known[key].as_u64().expect("a time"));
    assert_eq!(expires - seen, 900);
    let nobody = why("nobody");
    assert_eq!(of(&nobody, "state").as_deref(), Some("unknown"));
    let from = known["current"].as_str().expect("a backend").to_owned();
    let to = if from == "10.2.0.1" {
        "10.2.0.2"
    } else {
        "10.2.0.1"
    };
    stand.ok(&["move", "user1", to]);
    wait_until("the move's last part", || {
        of(&why("user1"), "move").as_deref() == Some("delay")
    });
    let moving = why("user1");
    let expected = [
        ("state", "moving"),
        ("move", "delay"),
        ("moves from", &from),
        ("moves to", to),
        ("moved by", "this director"),
    ];
    for (name, value) in expected {
        assert_eq!(of(&moving, name).as_deref(), Some(value), "{moving}");
    }
    assert_eq!(moving["current"], to);
    let text = stand.ok(&["why", "user1"]);
    assert!(
        text.contains("state:") && text.contains("moves from:"),
        "{text}"
    );
    wait_until("the move's end", || {
        of(&why("user1"), "state").as_deref() == Some("normal")
    });
    stand.ok(&["drain", to, "--rate", "1"]);
    let drained = stand.json(&["drain", "--status"])[0]["state"].clone();
    if why("user1")["current"] == to {
        assert_eq!(of(&why("user1"), "drain").as_deref(), drained.as_str());
    }
    stand.0.stop();
}

#[test]
fn where_sessions_cannot_be_listed_orders_are_carried_out_all_the_same() {
    let stand = Stand::new();
    let said = stand.run(&["move", "user1", "10.2.0.3"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(
        said.err.is_empty() && !said.out.contains("session"),
        "{said:?}"
    );
    let said = stand.run(&["kick", "user2", "--json"]);
    assert!(said.status == Some(0) && said.err.is_empty(), "{said:?}");
    assert_eq!(
        serde_json::from_str::<Value>(&said.out).expect("JSON"),
        json!({"user": "user2", "reply": "OK", "sessions_ended": null, "sessions_survived": null})
    );
    let said = stand.run(&["flush", "10.2.0.1"]);
    assert!(said.status == Some(0) && said.err.is_empty(), "{said:?}");
    // Whoever has remembered none has none left.
    let path = stand.0.site.path("admin-socket");
    let mut raw = std::os::unix::net::UnixStream::connect(path).expect("the admin socket");
    std::io::Write::write_all(
        &mut raw,
        b"VERSION\tdirector-doveadm\t1\t0\nHOMING-SESSIONS-LEFT\n",
    )
    .expect("a command");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(raw));
    let mut line = || lines.next().expect("a line").expect("a line");
    assert!(line().starts_with("VERSION\t"));
    assert_eq!(line(), "NOTFOUND");
    stand.0.stop();
}
