//! What moves, kicks and flushes say of sessions, with a stand-in for Dovecot's ipc.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use homing::core::user_hash::Template;
use parking_lot::Mutex;
use serde_json::json;

use crate::client::{At, Request};
use crate::e2e::dovecot::HOMING;
use crate::e2e::process::Proc;
use crate::e2e::{PATIENCE, Site, StubAuth, wait_until};

/// Users and their backends.
type Sessions = Arc<Mutex<Vec<(&'static str, String)>>>;

fn serve_ipc(socket: &Path, sessions: &Sessions) {
    let listener = UnixListener::bind(socket).expect("a socket for ipc");
    let sessions = Arc::clone(sessions);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sessions = Arc::clone(&sessions);
            thread::spawn(move || {
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    let _ = (&stream).write_all(answer(&line, &mut sessions.lock()).as_bytes());
                }
            });
        }
    });
}

fn answer(line: &str, sessions: &mut Vec<(&'static str, String)>) -> String {
    let template = Template::parse("%Lu", &|_| None).expect("the default");
    let hash = |user: &str| {
        template
            .hash(user.as_bytes(), &mut Vec::new())
            .0
            .to_string()
    };
    match line.split('\t').collect::<Vec<_>>()[..] {
        ["proxy", "*", "LIST-FULL"] => {
            let mut rows = ":username\tservice\tsrc-ip\tdest-ip\tdest-port\n".to_owned();
            for (user, backend) in sessions {
                rows += &format!(":{user}\timap\t127.0.0.1\t{backend}\t143\n");
            }
            return rows + "+\n";
        }
        ["proxy", "*", "KICK", user] => sessions.retain(|it| it.0 != user),
        ["proxy", "*", "KICK-DIRECTOR-HASH", number, ref except @ ..] => {
            sessions.retain(|it| hash(it.0) != number || except.first() == Some(&it.1.as_str()));
        }
        _ => panic!("a command that ipc does not know: {line}"),
    }
    "+1\n".to_owned()
}

#[test]
fn moves_kicks_and_flushes_say_how_many_sessions_have_ended() {
    let site = Site::new();
    let file = |name: &str| site.path().join(name);
    StubAuth::start(&file("auth"));
    let sessions = Sessions::default();
    serve_ipc(&file("ipc"), &sessions);
    let mut settings = format!(
        "director_mail_servers = \"10.2.0.1 10.2.0.2\"\nbase_dir = {:?}\nauth_login_path = {:?}\n\
         client_limit = 100\ncores = 1\nkick_service = \"ipc\"\ndirector_user_kick_delay = \"0\"\n",
        site.path(),
        file("auth"),
    );
    for (kind, name) in [("login", "login"), ("http", "http")] {
        settings += &format!("[[listener]]\ntype = \"{kind}\"\npath = {:?}\n", file(name));
    }
    fs::write(file("homing.toml"), settings).expect("settings");
    let config = file("homing.toml").display().to_string();
    let mut homing = Proc::start(HOMING, &["run", "--config", &config], &file("homing.log"));
    wait_until("it is ready", PATIENCE, || {
        assert!(
            homing.is_running(),
            "{:?}",
            fs::read_to_string(file("homing.log"))
        );
        fs::read_to_string(file("homing.log")).is_ok_and(|log| log.contains("ready: "))
    });
    let order = |path: &str, body: &str| {
        let request = Request::new("POST", &format!("/api/v1/{path}")).body(body);
        request.send(&At::Unix(file("http"))).expect(200).json()
    };
    let log_in = |user: &'static str, count: usize| {
        let hosts = StubAuth::ask(&file("login"), &[(user.as_bytes(), "")]);
        let backend = hosts[0].clone().expect("a backend");
        let mut sessions = sessions.lock();
        (0..count).for_each(|_| sessions.push((user, backend.clone())));
        backend
    };
    let fate = |done: &serde_json::Value| {
        (
            done["sessions_ended"].as_u64(),
            done["sessions_survived"].as_u64(),
        )
    };

    log_in("bob", 1);
    let from = log_in("ann", 2);
    let to = if from == "10.2.0.1" {
        "10.2.0.2"
    } else {
        "10.2.0.1"
    };
    let moved = order("users/ann/move", &json!({ "backend": to }).to_string());
    assert_eq!((&moved["from"], &moved["to"]), (&json!(from), &json!(to)));
    assert_eq!(fate(&moved), (Some(2), Some(0)));
    assert_eq!(sessions.lock().len(), 1, "bob's");

    wait_until("ann may log in", PATIENCE, || log_in("ann", 3) == to);
    let uncounted = order("users/nobody/kick?count=false", "");
    assert_eq!(fate(&uncounted), (None, None));
    let kicked = order("users/ann/kick", "");
    assert_eq!(fate(&kicked), (Some(3), Some(0)));

    // Who belongs there stays; ann, who was moved there, does not.
    assert_eq!(log_in("bob", 1), to);
    let flushed = order(&format!("backends/{to}/flush"), "");
    assert_eq!(
        (&flushed["users_before"], &flushed["users_after"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(fate(&flushed), (Some(0), Some(2)));
}
