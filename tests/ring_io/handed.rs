//! Listeners that systemd made before Homing was there.

use std::process::Command;

use nix::sys::signal::Signal;

use super::neighbour::{Neighbour, PORT, Ring};
use super::rig::peer::host;
use super::rig::{EchoAuth, Homing, Peer, Site, wait_until};
use super::{hash, ring_line};

/// What systemd does for a service with a socket unit: listens, and hands over what it listens on.
const SYSTEMD: &str = r#"
import fcntl, os, socket, sys
address, port, path, *command = sys.argv[1:]
ring = socket.socket()
ring.bind((address, int(port)))
login = socket.socket(socket.AF_UNIX)
login.bind(path)
high = [fcntl.fcntl(it, fcntl.F_DUPFD, 10) for it in (login, ring)]
for number, fd in enumerate(high, 3):
    os.dup2(fd, number)
    socket.socket(fileno=os.dup(number)).listen()
    os.close(fd)
names = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "login:ring"}
os.execve(command[0], command, os.environ | names)
"#;

#[test]
fn a_ring_listener_of_systemd_is_served() {
    let ring = Ring::new(60);
    let (own, other) = (ring.homing, ring.other);
    let site = Site::new()
        .set(
            "director_servers",
            &format!("\"{own}:{PORT} {other}:{PORT}\""),
        )
        .append(&format!(
            "[[listener]]\ntype = \"ring\"\naddress = \"{own}:{PORT}\"\n"
        ));
    site.write();
    let homing = site.command();
    let mut command = Command::new("python3");
    command.args(["-c", SYSTEMD]);
    command.args([&own.to_string(), &PORT.to_string()]);
    command.arg(site.path("login-socket"));
    command.arg(homing.get_program()).args(homing.get_args());
    let mut homing = Homing::start(site, command);
    EchoAuth::spawn(&homing.site.path("auth-login"), false);

    let mut neighbour = Neighbour::join(&ring);
    neighbour.until_synced(&homing);
    let line = ring_line(&homing);
    assert!(line.contains("synced=true"), "{line}");
    let mut client = Peer::login(&homing.login());
    assert!(host(&client.ask(1, "user=ann|proxy")).is_some());
    let told = format!("USER\t{}\t", hash("ann"));
    neighbour.until("the user is told", |line| line.starts_with(&told));

    // They are systemd's, which goes on listening there.
    let path = homing.login();
    homing.signal(Signal::SIGHUP);
    homing.wait_log("reload: done");
    assert!(host(&Peer::login(&path).ask(1, "user=bob|proxy")).is_some());
    homing.signal(Signal::SIGTERM);
    let own = homing.site.path("userdb-socket");
    wait_until("its own socket is gone", || !own.exists());
    neighbour.until_the_end();
    assert!(path.exists(), "this one is not Homing's to remove");
}
