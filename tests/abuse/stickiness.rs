//! How long a user keeps its place.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::homing::{PROGRAM, run};
use crate::rig::peer::host;
use crate::rig::{EchoAuth, Homing, Peer, Site, wait_until};

fn start() -> Homing {
    let homing = Site::new()
        .set("director_user_expire", "\"10 s\"")
        .set("auth_master_user_separator", "\"*\"")
        .start();
    EchoAuth::spawn(&homing.site.path("auth-login"), false);
    homing
}

#[test]
fn users_stay_while_sessions_are_alive_and_go_when_not() {
    let homing = start();
    let mut client = Peer::login(&homing.login());
    let names = [
        "fifo",
        "sock",
        "t\x01tab",
        "cut",
        "behind-long",
        "owner*boss",
        "left1",
        "left2",
    ];
    let ask = |client: &mut Peer, name: &str| {
        let reply = client.ask(1, &format!("user={name}|proxy"));
        host(&reply).expect("a backend").to_owned()
    };
    let before: Vec<String> = names.iter().map(|name| ask(&mut client, name)).collect();
    assert_eq!(homing.users(), 8);
    let mut fifo = OpenOptions::new()
        .write(true)
        .open(homing.site.path("notify-fifo"))
        .unwrap();
    let mut sock = Peer::connect(&homing.site.path("notify-socket"));
    let mut long = Peer::connect(&homing.site.path("notify-socket"));
    for second in 0..14 {
        std::thread::sleep(Duration::from_secs(1));
        fifo.write_all(b"fifo\nnobody\nowner*boss\n").unwrap();
        sock.send("sock\nt\x01tab\n");
        // Every writer has its own half lines.
        long.send(if second % 2 == 0 { "c" } else { "ut\n" });
        let mut writer = Peer::connect(&homing.site.path("notify-socket"));
        writer.send([&vec![b'x'; 3000][..], b"\nbehind-long\n"].concat());
    }
    assert_eq!(homing.users(), 6, "nobody else is left");
    wait_until("all that is too long is skipped", || {
        homing.total("keep_alives_skipped") >= 14
    });
    for (name, before) in names.iter().zip(&before).take(6) {
        assert_eq!(&ask(&mut client, name), before);
    }
    // Nobody keeps them alive any more.
    std::thread::sleep(Duration::from_secs(12));
    wait_until("all have expired", || homing.users() == 0);
    let state = homing.state();
    let users = state.iter().find(|line| line.contains("users:")).unwrap();
    assert!(
        users.contains("users: total=0 backend 10.2.0.1=0 backend 10.2.0.2=0"),
        "{users}"
    );
    homing.stop();
}

/// Not even the keeper is left, as when a whole control group is killed: dist/homing.service has `homing clean` run then.
#[test]
fn clean_frees_writers_that_wait_for_killed_processes() {
    let mut homing = start();
    let children = format!("/proc/{0}/task/{0}/children", homing.pid());
    let keeper = std::fs::read_to_string(children).unwrap();
    let keeper = Pid::from_raw(keeper.trim().parse().expect("one child"));
    kill(keeper, Signal::SIGKILL).unwrap();
    homing.kill();
    let fifo = homing.site.path("notify-fifo");
    let writer = std::thread::spawn(move || {
        let mut fifo = OpenOptions::new().write(true).open(fifo)?;
        // Nobody reads any more, which ends in a broken pipe, or it is gone: both are answers.
        fifo.write_all(b"ann\n")
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!writer.is_finished(), "it waits for a reader");
    let mut clean = Command::new(PROGRAM);
    clean.arg("clean").arg("--config").arg(homing.site.config());
    let (status, _, said) = run(clean, &homing.site.path(""));
    assert_eq!(status, 0, "{said}");
    wait_until("the writer goes on", || writer.is_finished());
    for name in [
        "login-socket",
        "userdb-socket",
        "notify-fifo",
        "notify-socket",
    ] {
        assert!(!homing.site.path(name).exists(), "{name} is left behind");
    }
}

#[test]
fn keep_alive_lines_may_be_cut_anywhere_by_any_number_of_writers() {
    let homing = start();
    let text = b"\x01tname\nan\x011n\n\n\x01\n";
    let count = || homing.total("keep_alives");
    let mut expected = 0;
    let mut writers: Vec<Peer> = (0..50)
        .map(|_| Peer::connect(&homing.site.path("notify-socket")))
        .collect();
    for byte in text {
        for writer in &mut writers {
            writer.send([*byte]);
        }
    }
    expected += 50 * 4;
    wait_until("all lines are counted", || count() == expected);
    for cut in 1..text.len() {
        let writer = &mut writers[cut % 50];
        writer.send(&text[..cut]);
        std::thread::sleep(Duration::from_millis(1));
        writer.send(&text[cut..]);
        expected += 4;
    }
    wait_until("all lines are counted", || count() == expected);
    // 1023 bytes and the LF fit, one more is skipped, wherever it is cut.
    for (length, good) in [(1023, 1), (1024, 0), (200_000, 0)] {
        let line = [&vec![b'x'; length][..], b"\nann\n"].concat();
        for piece in [line.len(), 1000] {
            for part in line.chunks(piece) {
                writers[0].send(part);
            }
            expected += good + 1;
        }
    }
    wait_until("all lines are counted", || count() == expected);
    homing.wait_total("keep_alives_skipped", 4);
    let log = homing.stop();
    assert!(log.contains("longer than 1024 bytes skipped"));
}

#[test]
fn a_fifo_written_in_packets_is_read_to_its_end() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let homing = start();
    let mut fifo = OpenOptions::new()
        .write(true)
        .open(homing.site.path("notify-fifo"))
        .unwrap();
    fcntl(&fifo, FcntlArg::F_SETFL(OFlag::O_DIRECT)).unwrap();
    for round in 1..=50 {
        for _ in 0..10 {
            fifo.write_all(b"ann\n").unwrap();
        }
        wait_until("all packets are read", || {
            homing.total("keep_alives") == round * 10
        });
    }
    // Writers come and go; no process blocks in opening it.
    for _ in 0..100 {
        let mut fifo = OpenOptions::new()
            .write(true)
            .open(homing.site.path("notify-fifo"))
            .unwrap();
        fifo.write_all(b"ann\n").unwrap();
    }
    wait_until("all lines are read", || homing.total("keep_alives") == 600);
    homing.stop();
}
