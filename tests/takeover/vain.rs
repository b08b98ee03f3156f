//! Those who should take over and do not: the running process goes on, and nobody notices.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::line::Line;
use crate::rig::homing::PROGRAM;
use crate::rig::peer::host;
use crate::rig::{EchoAuth, Peer, Site, wait_until};

/// One in which lookups wait as long as this test takes.
fn site() -> Site {
    Site::new().set("lookup_timeout", "\"10 min\"")
}

/// A director with a login, a lookup that waits, and half a request.
struct Stand {
    line: Line,
    client: Peer,
    waits: Peer,
    half: Peer,
    home: String,
    next: u32,
}

impl Stand {
    fn start(line: Line) -> Stand {
        EchoAuth::spawn(&line.site.path("auth-login"), false);
        let mut client = Peer::login(&line.login());
        let reply = client.ask(1, "user=ann|proxy");
        let home = host(&reply).expect("a backend").to_owned();
        let mut waits = Peer::login(&line.login());
        waits.request(1, "user=bob|proxy|director_tag=nowhere");
        let mut half = Peer::login(&line.login());
        half.send("AUTH\t1\tPLAIN\tservi");
        wait_until("one waits", || line.total("parked") == 1);
        Stand {
            line,
            client,
            waits,
            half,
            home,
            next: 2,
        }
    }

    /// Everything is as it was.
    fn goes_on(&mut self) {
        self.next += 1;
        let reply = self.client.ask(self.next, "user=ann|proxy");
        assert_eq!(host(&reply), Some(&*self.home), "{reply}");
        let mut new = Peer::login(&self.line.login());
        let reply = new.ask(1, "user=ann|proxy");
        assert_eq!(host(&reply), Some(&*self.home), "{reply}");
        assert_eq!(self.line.total("parked"), 1);
    }

    /// And at last somebody takes over.
    fn end(mut self) {
        self.line.upgrade();
        self.goes_on();
        self.half.send("ce=imap\tsay=user=ann|proxy\n");
        let reply = self.half.line();
        assert_eq!(host(&reply), Some(&*self.home), "{reply}");
        drop(self.waits);
        self.line.stop();
    }
}

#[test]
fn wrong_settings_and_other_listeners_change_nothing() {
    let mut stand = Stand::start(Line::start(site()));
    let right = stand.line.site.text();
    let write = |stand: &Stand, text: &str| std::fs::write(stand.line.site.config(), text).unwrap();
    write(&stand, &format!("nonsense = 1\n{right}"));
    let why = stand.line.upgrade_in_vain();
    assert!(why.contains("nonsense"), "{why}");
    stand.goes_on();
    let more = stand.line.site.path("another");
    write(
        &stand,
        &format!("{right}\n[[listener]]\ntype = \"login\"\npath = {more:?}\n"),
    );
    let why = stand.line.upgrade_in_vain();
    assert!(why.contains("listeners of the settings"), "{why}");
    stand.goes_on();
    write(&stand, &right);
    stand.end();
}

/// A program in the place of the next one: it says so much of what one says, and ends or is silent.
const STRANGER: &str = r#"#!/usr/bin/env python3
import array, os, socket, struct, sys, time
says = "@SAYS@"
sock = socket.socket(fileno=os.dup(0))
sock.setblocking(True)
def take(count):
    data = b""
    while len(data) < count:
        piece, fds, _, _ = socket.recv_fds(sock, count - len(data), 250)
        for fd in fds:
            os.close(fd)
        if not piece:
            sys.exit(7)
        data += piece
    return data
def frame():
    kind, fds, _, length = struct.unpack("<BBHI", take(8))
    take(length)
    return kind
def say(kind, payload=b""):
    sock.sendall(struct.pack("<BBHI", kind, 0, 0, len(payload)) + payload)
if says == "nothing":
    sys.exit(3)
assert frame() == 0
if says == "slow":
    frame()
if says == "garbage":
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    time.sleep(600)
version = 999 if says == "version" else 1
say(0, b"HOMING TAKEOVER\n" + struct.pack("<I", version))
if says == "version":
    time.sleep(600)
assert frame() == 1
say(2)
if says == "willing":
    sys.exit(4)
while frame() != 7:
    pass
if says == "refused":
    say(11, b"I would rather not")
    sys.exit(5)
if says == "silent":
    time.sleep(600)
if says == "hung up":
    sock.close()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    time.sleep(600)
"#;

/// Puts a program where another one was, as a package manager does.
fn put(text: &[u8], at: &Path) {
    let new = at.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(new, at).unwrap();
}

#[test]
fn whoever_dies_or_hangs_in_the_midst_of_it_changes_nothing() {
    let site = site();
    let program = site.path("homing");
    std::fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("run").arg("--config").arg(site.config());
    let mut stand = Stand::start(Line::start_with(site, command));
    let reasons = [
        ("nothing", "the new process has ended (exit status: 3)"),
        ("garbage", "says something that is no takeover"),
        (
            "version",
            "hands over in form 999, and this program knows form 1",
        ),
        ("willing", "the new process has ended (exit status: 4)"),
        ("all", "the new process has ended (exit status: 0)"),
        ("refused", "I would rather not"),
        ("silent", "did not answer in time"),
        ("hung up", "the new process has hung up"),
    ];
    for (says, reason) in reasons {
        put(STRANGER.replace("@SAYS@", says).as_bytes(), &program);
        let why = stand.line.upgrade_in_vain();
        assert!(why.contains(reason), "{says}: {why}");
        stand.goes_on();
    }
    put(&std::fs::read(PROGRAM).unwrap(), &program);
    stand.end();
}

/// Whoever is told to end while the next process starts ends, and that one too.
#[test]
fn a_director_that_waits_for_the_next_one_can_be_stopped() {
    let site = site();
    let program = site.path("homing");
    std::fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("run").arg("--config").arg(site.config());
    let line = Line::start_with(site, command);
    put(STRANGER.replace("@SAYS@", "slow").as_bytes(), &program);
    line.signal(Signal::SIGUSR2);
    line.hear("STATUS=upgrade: starting");
    let log = line.stop();
    assert!(
        log.contains("given up, this process goes on: it was told to end"),
        "{log}"
    );
    assert!(log.contains("stopping: SIGTERM"), "{log}");
}

#[test]
fn the_option_is_refused_by_hand() {
    let mut command = Command::new(PROGRAM);
    let site = Site::new();
    site.write();
    command
        .arg("run")
        .arg("--take-over")
        .arg("--config")
        .arg(site.config());
    let (status, _, said) = crate::rig::homing::run(command, &site.path(""));
    assert_eq!(status, 64, "{said}");
    assert!(said.contains("for a running director"), "{said}");
}
