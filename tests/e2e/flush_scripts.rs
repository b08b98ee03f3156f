//! What is run when a user has been moved: Dovecot's `script` service, and programs.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::{self, sleep};
use std::time::Duration;

use md5::{Digest, Md5};
use serde_json::json;

use crate::rig::{
    BACKENDS, Case, Client, DirectorKind, Heartbeat, PATIENCE, Tier, TierSpec, User, now,
    wait_until,
};

/// `director_user_kick_delay` in the settings below, in seconds.
const DELAY: Duration = Duration::from_secs(12);
/// How long a move may take.
const MOVE_LIMIT: Duration = Duration::from_secs(30);
/// For what is not measured: a login may fail shortly before the user can land, and is then tried again.
const SLACK: Duration = Duration::from_secs(30);

const SOCKET: &str = "director_flush_socket = \"unix:director-flush\"\n\
    director_user_kick_delay = \"12 s\"\n";
const EXEC: &str = "director_flush_socket = \"exec:@SITE@/flush.sh\"\n\
    director_user_kick_delay = \"12 s\"\n";
const COMMAND: &str = "director_flush_command = \"@SITE@/flush.sh\"\n\
    director_user_kick_delay = \"12 s\"\n";
const OF_DOVECOT: &str = "director_flush_socket = unix:director-flush\n\
    director_user_kick_delay = 12s\n";

/// Notes its arguments, and does what the file beside it says.
const SCRIPT: &str = r#"#!/bin/sh
site=${0%/*}
read mode < "$site/flush.mode"
echo "$#: $*" > "$site/flush.new"
/bin/mv "$site/flush.new" "$site/flush.args"
case $mode in
wait) while [ ! -e "$site/flush.go" ]; do /bin/sleep 0.05; done ;;
fail) echo "nothing to flush here"; exit 1 ;;
hang) exec /bin/sleep 1000 ;;
esac
"#;

mod a_moved_user_waits_for_the_flush_script {
    use super::{COMMAND, EXEC, OF_DOVECOT, SOCKET};
    use crate::rig::DirectorPlacement::{Standalone, SystemdLike};

    #[test]
    fn dovecot23_script_service() {
        super::flushes(crate::cases::ALL_23.built_in(), OF_DOVECOT);
    }
    #[test]
    fn homing_script_service() {
        super::flushes(crate::cases::ALL_23.homing(Standalone), SOCKET);
    }
    #[test]
    fn homing_script_service_without_root() {
        super::flushes(crate::cases::PROXY_23.homing(SystemdLike), SOCKET);
    }
    #[test]
    fn dovecot23_over_tcp() {
        super::flushes_over_tcp(crate::cases::ALL_23.built_in(), |address| {
            format!("director_flush_socket = tcp:{address}\ndirector_user_kick_delay = 12s\n")
        });
    }
    #[test]
    fn homing_over_tcp() {
        super::flushes_over_tcp(crate::cases::PROXY_24.homing(Standalone), |address| {
            format!(
                "director_flush_socket = \"tcp:{address}\"\ndirector_user_kick_delay = \"12 s\"\n"
            )
        });
    }
    #[test]
    fn homing_exec() {
        super::flushes(crate::cases::ALL_24.homing(Standalone), EXEC);
    }
    #[test]
    fn homing_command() {
        super::flushes(crate::cases::PROXY_24.homing(Standalone), COMMAND);
    }
}

/// A script service at another host: there is none in Dovecot, whose own speaks without the dots
/// (docs/protocol/kicks.md, flush scripts). It runs until the test ends.
fn serve(listener: TcpListener, program: impl Fn() -> Option<PathBuf> + Send + Sync + 'static) {
    let program = Arc::new(program);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let program = Arc::clone(&program);
            thread::spawn(move || {
                if let Some(program) = program() {
                    answer(stream, &program).expect("a connection");
                }
            });
        }
    });
}

fn answer(mut stream: TcpStream, program: &Path) -> io::Result<()> {
    let mut request = String::new();
    stream.read_to_string(&mut request)?;
    let lines = request
        .strip_prefix("VERSION\tscript\t4\t0\n-\n")
        .and_then(|rest| rest.strip_suffix("\n\r\n.\r\n"));
    let lines = lines.unwrap_or_else(|| panic!("{request:?} is no request over TCP"));
    let mut child = Command::new(program)
        .args(lines.lines())
        .stdout(Stdio::piped())
        .spawn()?;
    let until = now() + 3 * MOVE_LIMIT;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if now() > until => child.kill()?,
            None => sleep(Duration::from_millis(20)),
        }
    };
    let mut said = Vec::new();
    child
        .stdout
        .take()
        .expect("a pipe")
        .read_to_end(&mut said)?;
    said.extend_from_slice(b".\r\n");
    said.extend_from_slice(if status.success() { b"+\n" } else { b"-\n" });
    // A director that has given up is not there any more.
    let _gone = stream.write_all(&said);
    Ok(())
}

struct Stage {
    // The tier has the site, which is looked through when it is dropped: last.
    _script: crate::rig::dovecot::Dovecot,
    tier: Tier,
}

impl Stage {
    fn start(case: Case, settings: &'static str, names: &[&str]) -> Self {
        let tier = Tier::start(&TierSpec {
            director_settings: settings,
            ..TierSpec::new(case, names.iter().copied().map(User::proxied).collect())
        });
        let program = tier.site.path().join("flush.sh");
        fs::write(&program, SCRIPT).expect("a script");
        for (path, mode) in [(program.as_path(), 0o755), (tier.site.path(), 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
        let socket = tier.proxy.base().join("director-flush");
        let script = crate::rig::start_script_service(&tier.site, &program, &socket);
        let script_is_there = || socket.exists();
        wait_until("the script's socket is there", PATIENCE, script_is_there);
        Self {
            _script: script,
            tier,
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.tier.site.path().join(name), text).expect("a file");
    }

    fn arguments(&self) -> Option<String> {
        fs::read_to_string(self.tier.site.path().join("flush.args")).ok()
    }

    /// Has the script do this, moves the user to another backend, and waits for the end of its session
    /// and the beginning of the script. Returns the backend's name.
    fn order(&self, mode: &str, user: &str) -> &'static str {
        let mut client = Client::new();
        self.write("flush.mode", &format!("{mode}\n"));
        self.tier.open(&mut client, user);
        let home = client.session("imap.whereami", user)["backend"].clone();
        let is_home = |name: &&str| home == **name;
        let home = BACKENDS.iter().position(is_home).expect("a backend");
        let target = (home + 1) % BACKENDS.len();
        let address = self.tier.backend_address(target);
        let (said, status) = self.tier.order_director(&["move", user, &address]);
        assert_eq!(status, Some(0), "{said}");
        let end = json!({"do": "imap.wait_end", "session": user, "seconds": PATIENCE.as_secs()});
        assert_eq!(client.ask(&end)["ok"], true, "its session goes on");
        let digest = Md5::digest(user.as_bytes());
        let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let old = self.tier.backend_address(home);
        let wanted = format!("6: FLUSH {hash} {old} {address} up 100\n");
        wait_until("the script runs", PATIENCE, || {
            self.arguments().is_some_and(|said| said == wanted)
        });
        BACKENDS[target]
    }
}

const USERS: [&str; 3] = ["waits", "fails", "hangs"];

fn flushes(case: Case, settings: &'static str) {
    are_flushed(case, &Stage::start(case, settings, &USERS));
}

fn flushes_over_tcp(case: Case, settings: impl FnOnce(SocketAddr) -> String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let settings = settings(listener.local_addr().expect("its address"));
    let program = Arc::new(OnceLock::new());
    let theirs = Arc::clone(&program);
    serve(listener, move || theirs.get().cloned());
    let stage = Stage::start(case, Box::leak(settings.into_boxed_str()), &USERS);
    let path = stage.tier.site.path().join("flush.sh");
    program.set(path).expect("once");
    are_flushed(case, &stage);
}

fn are_flushed(case: Case, stage: &Stage) {
    let is_homing = case.director == DirectorKind::Homing;
    let mut client = Client::new();

    let heartbeat = Heartbeat::start();
    let target = stage.order("wait", "waits");
    let visit = stage.tier.order("imap.visit", "waits");
    client.send(&visit);
    // Less than the delay: without the script the user would still wait, and does it because of it.
    sleep(Duration::from_secs(2));
    assert!(!client.has_answered(), "the script has not ended");
    let began = now();
    stage.write("flush.go", "");
    let answer = client.answer(&visit);
    assert_eq!(answer["backend"], target, "{answer}");
    heartbeat.in_time("landing after the script", now() - began, DELAY / 2);

    let began = now();
    let target = stage.order("fail", "fails");
    assert_eq!(stage.tier.visit(&mut client, "imap", "fails"), target);
    let took = now() - began;
    assert!(took >= DELAY, "landed after {took:?}");
    heartbeat.in_time("landing after a script that fails", took, MOVE_LIMIT);
    if is_homing {
        stage.tier.director.wait_log("nothing to flush here");
    }

    let began = now();
    let target = stage.order("hang", "hangs");
    let visit = stage.tier.order("imap.visit", "hangs");
    let answer = loop {
        let answer = client.ask(&visit);
        if answer["ok"] == true || now() - began > MOVE_LIMIT + 2 * PATIENCE {
            break answer;
        }
    };
    assert_eq!(answer["backend"], target, "{answer}");
    let took = now() - began;
    // Directors look at it once a second.
    let least = MOVE_LIMIT - Duration::from_secs(1);
    assert!(took >= least, "landed after {took:?}");
    let what = "landing although a script hangs";
    heartbeat.in_time(what, took, MOVE_LIMIT + SLACK);
    if is_homing {
        stage.tier.director.wait_log("the move has taken too long");
    }
}
