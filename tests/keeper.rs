//! The keeper as a real process of the built binary.
//!
//! Tests that need a second process run this test program again, with one "role" test and an
//! environment variable that says it is meant.

use std::fs;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use homing::settings::{Listener, ListenerKind, Place};
use homing::shell::keeper::{Keeper, KeeperError, KeeperEvent};
use homing::shell::privileges;
use homing::shell::sockets::{BindClass, is_fifo, is_listening};

const PROGRAM: &str = env!("CARGO_BIN_EXE_homing");
/// Where a role finds its directory; unset: the role has nothing to do.
const ROLE_DIR: &str = "HOMING_TEST_ROLE_DIR";

fn listener(kind: ListenerKind, place: Place) -> Listener {
    Listener {
        kind,
        place,
        mode: 0o666,
        owner: None,
        group: None,
        allow: Vec::new(),
    }
}

fn auth(dir: &Path) -> PathBuf {
    dir.join("login/director/auth")
}

fn notify(dir: &Path) -> PathBuf {
    dir.join("login/director/notify")
}

/// A socket and a FIFO, as in front of Dovecot.
fn listeners(dir: &Path) -> Vec<Listener> {
    vec![
        listener(ListenerKind::Login, Place::Unix(auth(dir))),
        listener(ListenerKind::Notify, Place::Fifo(notify(dir))),
    ]
}

fn spawn(listeners: &[Listener]) -> Keeper {
    Keeper::spawn_program(PROGRAM.as_ref(), listeners).unwrap()
}

/// Tries for a minute.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(value) = attempt() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: not within a minute");
}

fn next(keeper: &Keeper) -> KeeperEvent {
    eventually("the keeper's next word", || keeper.recv().unwrap())
}

/// Runs one of the roles below as a process of its own.
fn role(name: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ROLE_DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn role_dir() -> Option<PathBuf> {
    std::env::var_os(ROLE_DIR).map(PathBuf::from)
}

fn login_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("login")).unwrap();
    dir
}

#[test]
fn descriptors_arrive_and_files_go_at_the_end() {
    let dir = login_dir();
    let mut wanted = listeners(dir.path());
    wanted.push(listener(
        ListenerKind::Ring,
        Place::Tcp("127.0.0.1:0".parse().unwrap()),
    ));
    let keeper = spawn(&wanted);
    // As whoever waits for the keeper's words has one: it must not keep the keeper from leaving.
    let _duplicate = keeper.as_fd().try_clone_to_owned().unwrap();
    let pid = keeper.pid().unwrap();
    let events = keeper.first_round().unwrap();
    let fds: Vec<_> = events
        .into_iter()
        .enumerate()
        .map(|(n, event)| match event {
            KeeperEvent::Made { index, fd } if index == n => fd,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(fds.len(), 3);
    assert!(
        is_listening(fds[0].as_fd()) && is_fifo(fds[1].as_fd()) && is_listening(fds[2].as_fd())
    );
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(auth(dir.path())), 0o666);
    assert_eq!(mode(notify(dir.path())), 0o666);
    assert_eq!(mode(dir.path().join("login/director")), 0o755);

    let accepting = UnixListener::from(fds.into_iter().next().unwrap());
    let mut client = UnixStream::connect(auth(dir.path())).unwrap();
    client.write_all(b"x").unwrap();
    let (mut server, _) = accepting.accept().unwrap();
    let mut byte = [0];
    server.read_exact(&mut byte).unwrap();

    keeper.stop();
    assert!(!auth(dir.path()).exists() && !notify(dir.path()).exists());
    // It is not waited for; nobody fetches its exit status before this process ends.
    let has_ended = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    eventually("the keeper's end", || has_ended().then_some(()));
}

#[test]
fn a_wiped_directory_is_remade() {
    let dir = login_dir();
    let keeper = spawn(&listeners(dir.path()));
    keeper.first_round().unwrap();
    for wiped in ["login/director", "login"] {
        // The keeper may make something anew in the middle of it.
        eventually("the directory is wiped", || {
            fs::remove_dir_all(dir.path().join(wiped)).ok()
        });
        if wiped == "login" {
            eventually("it waits for the directory", || match next(&keeper) {
                KeeperEvent::Problem {
                    class: BindClass::Waiting,
                    ..
                } => Some(()),
                KeeperEvent::Made { .. } => None,
                other => panic!("{other:?}"),
            });
            fs::create_dir(dir.path().join("login")).unwrap();
        }
        let mut fds = [None, None];
        while fds.iter().any(Option::is_none) {
            match next(&keeper) {
                KeeperEvent::Made { index, fd } => fds[index] = Some(fd),
                KeeperEvent::Problem {
                    class: BindClass::Waiting,
                    ..
                } => {}
                other => panic!("{other:?}"),
            }
        }
        eventually("both are there", || {
            let answers = UnixStream::connect(auth(dir.path())).is_ok();
            (answers && notify(dir.path()).exists()).then_some(())
        });
    }
}

#[test]
fn a_base_directory_that_does_not_exist_yet_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = spawn(&listeners(dir.path()));
    for event in keeper.first_round().unwrap() {
        let KeeperEvent::Problem {
            class: BindClass::Waiting,
            text,
            ..
        } = event
        else {
            panic!("{event:?}");
        };
        assert!(text.contains("does not exist"), "{text}");
    }
    fs::create_dir(dir.path().join("login")).unwrap();
    for _ in 0..2 {
        assert!(matches!(next(&keeper), KeeperEvent::Made { .. }));
    }
}

#[test]
fn another_director_in_the_way_is_reported_and_taken_over_when_it_leaves() {
    let dir = login_dir();
    fs::create_dir(dir.path().join("login/director")).unwrap();
    let other = UnixListener::bind(auth(dir.path())).unwrap();
    let keeper = spawn(&listeners(dir.path())[..1]);
    let events = keeper.first_round().unwrap();
    let [
        KeeperEvent::Problem {
            index: 0,
            class: BindClass::InUse,
            text,
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert!(text.contains("already listens"), "{text}");
    drop(other);
    assert!(matches!(next(&keeper), KeeperEvent::Made { index: 0, .. }));
}

#[test]
fn a_keeper_that_died_is_noticed() {
    let keeper = Keeper::spawn_program("/bin/true".as_ref(), &[]).unwrap();
    assert!(matches!(keeper.first_round(), Err(KeeperError::Gone)));
    assert!(matches!(keeper.recv(), Err(KeeperError::Gone)));
}

/// Role: the main process. Says `ready` by a file, and waits to be killed.
#[test]
fn role_main_process() {
    let Some(dir) = role_dir() else { return };
    let keeper = spawn(&listeners(&dir));
    let events = keeper.first_round().unwrap();
    assert_eq!(events.len(), 2);
    fs::write(dir.join("ready"), "").unwrap();
    std::thread::sleep(Duration::from_secs(180));
}

/// Role: a login process. Opens the FIFO for writing, blocking, and writes, again and again, until
/// the FIFO is gone.
#[test]
fn role_login_process() {
    let Some(dir) = role_dir() else { return };
    loop {
        match OpenOptions::new().write(true).open(notify(&dir)) {
            Ok(mut fifo) => {
                // Nobody reads: the pipe fills slowly enough for the seconds that this runs.
                let _ = fifo.write(b"u");
                std::thread::sleep(Duration::from_micros(500));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                return;
            }
        }
    }
}

#[test]
fn after_kill_9_nothing_is_left_and_no_writer_hangs() {
    for _ in 0..3 {
        let dir = login_dir();
        let mut main = role("role_main_process", dir.path());
        eventually("the main process", || {
            dir.path().join("ready").exists().then_some(())
        });
        let mut writers: Vec<Child> = (0..4)
            .map(|_| role("role_login_process", dir.path()))
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        for writer in &mut writers {
            assert!(
                writer.try_wait().unwrap().is_none(),
                "the writer ended too early"
            );
        }
        main.kill().unwrap();
        main.wait().unwrap();
        for writer in &mut writers {
            let status = eventually("a writer's end", || writer.try_wait().unwrap());
            assert!(status.success(), "{status}");
        }
        let is_gone = || !auth(dir.path()).exists() && !notify(dir.path()).exists();
        eventually("the end of both", || is_gone().then_some(()));
    }
}

fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: run it with sudo"
    );
}

/// Role: a main process that starts the keeper as root and becomes `nobody`.
#[test]
fn role_drops_privileges() {
    let Some(dir) = role_dir() else { return };
    let keeper = spawn(&listeners(&dir));
    keeper.first_round().unwrap();
    privileges::drop("nobody", Some("mail")).unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let mail = nix::unistd::Group::from_name("mail").unwrap().unwrap().gid;
    let uid = nix::unistd::getresuid().unwrap();
    assert_eq!([uid.real, uid.effective, uid.saved], [nobody.uid; 3]);
    let gid = nix::unistd::getresgid().unwrap();
    assert_eq!([gid.real, gid.effective, gid.saved], [mail; 3]);
    assert_eq!(nix::unistd::getgroups().unwrap(), [mail]);
    assert!(nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).is_err());
    assert!(nix::unistd::setegid(nix::unistd::Gid::from_raw(0)).is_err());
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for set in ["CapPrm", "CapEff"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000")),
            "{status}"
        );
    }
    assert!(
        fs::create_dir(dir.join("login/mine")).is_err(),
        "not unprivileged"
    );
    assert!(
        fs::symlink_metadata(dir.join("login")).is_err(),
        "the directory is not closed"
    );
    // The keeper still may: the test removes a socket, and it comes back.
    let event = next(&keeper);
    assert!(matches!(event, KeeperEvent::Made { .. }), "{event:?}");
    keeper.stop();
}

#[test]
fn root_makes_listeners_where_the_main_process_may_not_go() {
    require_root();
    let dir = login_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut main = role("role_drops_privileges", dir.path());
    eventually("the FIFO", || notify(dir.path()).exists().then_some(()));
    std::thread::sleep(Duration::from_millis(500));
    fs::remove_file(auth(dir.path())).unwrap();
    let status = eventually("the main process", || main.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert!(!auth(dir.path()).exists() && !notify(dir.path()).exists());
}

/// Role: a login process, to whom the mode alone gives access. It may find nothing, or nobody who listens
/// yet; it must never be told that it may not, after which Dovecot's would give up for a while.
#[test]
fn role_stranger() {
    let Some(dir) = role_dir() else { return };
    privileges::drop("nobody", Some("mail")).unwrap();
    while !dir.join("enough").exists() {
        for _ in 0..100 {
            if let Err(error) = UnixStream::connect(auth(&dir)) {
                let kind = error.kind();
                let allowed = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
                assert!(allowed.contains(&kind), "auth: {error}");
            }
            let mut fifo = OpenOptions::new();
            fifo.write(true).custom_flags(libc::O_NONBLOCK);
            if let Err(error) = fifo.open(notify(&dir)) {
                assert_eq!(error.kind(), ErrorKind::NotFound, "notify: {error}");
            }
        }
    }
}

#[test]
fn nobody_is_turned_away_while_listeners_are_made() {
    require_root();
    let dir = login_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let keeper = spawn(&listeners(dir.path()));
    keeper.first_round().unwrap();
    let mut strangers = [0; 2].map(|_| role("role_stranger", dir.path()));
    for _ in 0..60 {
        for path in [auth(dir.path()), notify(dir.path())] {
            fs::remove_file(path).unwrap();
            let event = next(&keeper);
            assert!(matches!(event, KeeperEvent::Made { .. }), "{event:?}");
        }
    }
    let made: Vec<_> = fs::read_dir(dir.path().join("login/director"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(made.len(), 2, "nothing else is left: {made:?}");
    fs::write(dir.path().join("enough"), "").unwrap();
    // A stranger may be waiting for room in the backlog.
    keeper.stop();
    for stranger in &mut strangers {
        let status = eventually("a stranger's end", || stranger.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

#[test]
fn owner_group_and_mode_are_as_wanted() {
    require_root();
    let dir = login_dir();
    let wanted = listeners(dir.path()).into_iter().map(|it| Listener {
        mode: 0o620,
        owner: Some("nobody".to_owned()),
        group: Some("mail".to_owned()),
        ..it
    });
    let keeper = spawn(&wanted.collect::<Vec<_>>());
    keeper.first_round().unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let mail = nix::unistd::Group::from_name("mail").unwrap().unwrap().gid;
    for path in [auth(dir.path()), notify(dir.path())] {
        let made = fs::metadata(&path).unwrap();
        let access = (made.uid(), made.gid(), made.mode() & 0o7777);
        assert_eq!(access, (nobody.uid.as_raw(), mail.as_raw(), 0o620));
    }
}

#[test]
fn the_keeper_keeps_four_capabilities() {
    require_root();
    let dir = login_dir();
    let keeper = spawn(&listeners(dir.path()));
    keeper.first_round().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", keeper.pid().unwrap())).unwrap();
    for line in [
        "CapPrm:\t000000000000040b",
        "CapEff:\t000000000000040b",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    assert!(status.starts_with("Name:\thoming-keeper"), "{status}");
}
