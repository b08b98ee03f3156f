//! Where sockets are, and who the processes are.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::line::Line;
use crate::rig::homing::PROGRAM;
use crate::rig::peer::host;
use crate::rig::{EchoAuth, Peer, Site, wait_for, wait_until};

/// What systemd does for a service with a socket unit: listens, and hands over what it listens on.
const SYSTEMD: &str = r#"
import fcntl, os, socket, sys
path, *command = sys.argv[1:]
login = socket.socket(socket.AF_UNIX)
login.bind(path)
login.listen()
os.dup2(fcntl.fcntl(login, fcntl.F_DUPFD, 10), 3)
names = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execve(command[0], command, os.environ | names)
"#;

#[test]
fn a_listener_of_systemd_is_handed_on() {
    let site = Site::new();
    let homing = site.command();
    let mut command = Command::new("python3");
    command.args(["-c", SYSTEMD]).arg(site.path("login-socket"));
    command.arg(homing.get_program()).args(homing.get_args());
    let mut line = Line::start_with(site, command);
    EchoAuth::spawn(&line.site.path("auth-login"), false);
    let mut client = Peer::login(&line.login());
    for id in 1..4 {
        line.upgrade();
        assert!(host(&client.ask(id, "user=ann|proxy")).is_some());
        let mut new = Peer::login(&line.login());
        assert!(host(&new.ask(1, "user=bob|proxy")).is_some());
    }
    line.signal(Signal::SIGTERM);
    wait_until("the end", || !line.is_running());
    // It is systemd's.
    assert!(line.login().exists());
}

/// Only the process that serves writes the state, before and after.
#[test]
fn the_state_on_the_disk_is_that_of_the_process_that_serves() {
    let site = Site::new().set("state_interval", "\"1 hour\"");
    let path = site.path("state");
    let mut line = Line::start(site.set("state_path", &format!("{path:?}")));
    EchoAuth::spawn(&line.site.path("auth-login"), false);
    let mut client = Peer::login(&line.login());
    client.ask(1, "user=ann|proxy");
    line.upgrade();
    assert!(!path.exists(), "the old process has left it to the new one");
    client.ask(2, "user=bob|proxy");
    line.upgrade();
    let log = line.log();
    line.signal(Signal::SIGTERM);
    wait_until("the end", || !line.is_running());
    let said = Command::new(PROGRAM)
        .arg("state")
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains(", 2 users\n"), "{said}{log}");
}

/// What operators have changed stays, as do the weights that they have given.
#[test]
fn backends_stay_as_operators_have_made_them() {
    let site = Site::new().set("kick_service", "\"none\"");
    let admin = site.path("admin");
    let listener = format!("[[listener]]\ntype = \"admin\"\npath = {admin:?}\n");
    let mut line = Line::start(site.append(&listener));
    let operator = || {
        let mut operator = Peer::connect(&admin);
        operator.send("VERSION\tdirector-doveadm\t1\t0\n");
        operator.line();
        operator
    };
    for order in [
        "HOST-SET\t10.9.9.9@tag\t70",
        "HOST-DOWN\t10.2.0.1",
        "HOST-REMOVE\t10.2.0.2",
    ] {
        let mut operator = operator();
        operator.send(format!("{order}\n"));
        assert_eq!(operator.line(), "OK", "{order}");
    }
    let list = || {
        let mut operator = operator();
        operator.send("HOST-LIST\n");
        operator.until("")
    };
    let before = list();
    assert_eq!(before.len(), 5, "{before:?}");
    line.upgrade();
    line.upgrade();
    assert_eq!(list(), before);
    line.stop();
}

/// The keeper of the first process makes what is wiped, for the last one too, and ends with it.
#[test]
fn the_keeper_goes_on_and_ends_with_the_last_process() {
    let mut line = Line::start(Site::new());
    EchoAuth::spawn(&line.site.path("auth-login"), false);
    let keeper = keeper(&line);
    for _ in 0..2 {
        line.upgrade();
        fs::remove_file(line.login()).unwrap();
        fs::remove_file(line.site.path("notify-fifo")).unwrap();
        wait_until("they are made again", || {
            line.login().exists() && line.site.path("notify-fifo").exists()
        });
        let mut client = Peer::login(&line.login());
        assert!(host(&client.ask(1, "user=ann|proxy")).is_some());
        let before = line.total("keep_alives");
        fs::write(line.site.path("notify-fifo"), "ann\n").unwrap();
        wait_until("a keep-alive", || line.total("keep_alives") > before);
    }
    line.upgrade();
    assert!(fs::exists(format!("/proc/{keeper}")).unwrap());
    line.signal(Signal::SIGKILL);
    wait_until("everything is removed", || {
        !line.login().exists() && !line.site.path("notify-fifo").exists()
    });
}

/// The keeper: a child of the first main process, and ours once that has ended.
fn keeper(line: &Line) -> u32 {
    let children = format!("/proc/{0}/task/{0}/children", line.main());
    let children = fs::read_to_string(children).unwrap();
    let mut all = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    all.next().expect("a keeper")
}

/// Needs root.
#[test]
fn an_unprivileged_process_is_taken_over_by_another() {
    let site = Site::new().set("user", "\"nobody\"");
    let open = |path: &std::path::Path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).unwrap();
    };
    // Where nobody may start it.
    open(&site.path(""));
    let program = site.path("homing");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("run").arg("--config").arg(site.config());
    let mut line = Line::start_with(site, command);
    EchoAuth::spawn(&line.site.path("auth-login"), false);
    let socket = line.site.path("auth-login");
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let mut client = Peer::login(&line.login());
    assert!(host(&client.ask(1, "user=ann|proxy")).is_some());
    let keeper = keeper(&line);
    line.upgrade();
    let uid = |pid: u32| {
        wait_for("its status", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("Uid:"))?;
            line.split_whitespace().nth(1)?.parse::<u32>().ok()
        })
    };
    assert_eq!(uid(keeper), 0, "this test needs root");
    assert_ne!(uid(line.main()), 0);
    assert!(host(&client.ask(2, "user=ann|proxy")).is_some());
    let mut new = Peer::login(&line.login());
    assert!(host(&new.ask(1, "user=bob|proxy")).is_some());
    line.stop();
}
