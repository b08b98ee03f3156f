//! Real sockets and FIFOs in a temporary directory.

use std::fs;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use super::*;

fn listener(place: Place) -> Listener {
    crate::settings::Listener {
        kind: ListenerKind::Login,
        place,
        mode: 0o640,
        owner: None,
        group: None,
        allow: Vec::new(),
    }
}

fn unix(path: PathBuf) -> Listener {
    listener(Place::Unix(path))
}

fn fifo(path: PathBuf) -> Listener {
    listener(Place::Fifo(path))
}

#[test]
fn a_unix_socket_listens_with_its_mode_and_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("director/auth");
    let bound = bind(&unix(path.clone())).unwrap();
    assert!(is_listening(bound.as_fd()) && !bound.is_fifo && bound.in_place());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    let parent = fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(parent.permissions().mode() & 0o7777, 0o755);
    UnixStream::connect(&path).unwrap();
    bound.remove();
    assert!(!path.exists());
}

#[test]
fn only_one_directory_level_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = bind(&unix(dir.path().join("login/director/auth"))).unwrap_err();
    assert_eq!(error.class, BindClass::Waiting);
    assert!(error.sentence.contains("Dovecot"), "{error}");
    assert!(!dir.path().join("login").exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth");
    drop(UnixListener::bind(&path).unwrap());
    let first = bind(&unix(path.clone())).unwrap();
    let error = bind(&unix(path.clone())).unwrap_err();
    assert_eq!(error.class, BindClass::InUse);
    assert!(error.sentence.contains("already listens on") && error.sentence.contains("mode = 0"));
    UnixStream::connect(&path).unwrap();
    first.remove();
}

#[test]
fn other_files_are_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    fs::write(&path, "x").unwrap();
    for wanted in [unix(path.clone()), fifo(path.clone())] {
        assert_eq!(bind(&wanted).unwrap_err().class, BindClass::Config);
        remove_stale(&wanted);
    }
    assert_eq!(fs::read(&path).unwrap(), b"x");
}

#[test]
fn what_replaced_our_socket_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth");
    let bound = bind(&unix(path.clone())).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(!bound.in_place());
    let _other = UnixListener::bind(&path).unwrap();
    assert!(!bound.in_place());
    bound.remove();
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
}

#[test]
fn a_fifo_is_ours_alone_and_never_blocks_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let bound = bind(&fifo(path.clone())).unwrap();
    assert!(bound.is_fifo && is_fifo(bound.as_fd()));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    let writer = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path);
    writer.unwrap();
    assert_eq!(
        bind(&fifo(path.clone())).unwrap_err().class,
        BindClass::InUse
    );
    bound.remove();
    assert!(!path.exists());
}

#[test]
fn a_fifo_left_by_a_crash_is_used_again_so_that_its_waiting_writers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    let writer = std::thread::spawn({
        let path = path.clone();
        move || OpenOptions::new().write(true).open(path).map(drop)
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(!writer.is_finished());
    let bound = bind(&fifo(path)).unwrap();
    writer.join().unwrap().unwrap();
    bound.remove();
}

#[test]
fn stale_leftovers_are_removed_and_used_ones_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let bound = bind(&fifo(path.clone())).unwrap();
    remove_stale(&fifo(path.clone()));
    assert!(path.exists());
    drop(bound);
    remove_stale(&fifo(path.clone()));
    assert!(!path.exists());
}

#[test]
fn tcp_says_who_is_in_the_way() {
    let bound = bind(&listener(Place::Tcp("127.0.0.1:0".parse().unwrap()))).unwrap();
    assert!(is_listening(bound.as_fd()));
    let taken = socket2::SockRef::from(&bound.fd)
        .local_addr()
        .unwrap()
        .as_socket()
        .unwrap();
    let error = bind(&listener(Place::Tcp(taken))).unwrap_err();
    assert_eq!(error.class, BindClass::InUse);
    assert!(
        error.sentence.contains(&format!(":{}", taken.port())),
        "{error}"
    );
    let error = bind(&listener(Place::Tcp("192.0.2.1:9090".parse().unwrap()))).unwrap_err();
    assert!(error.sentence.contains("no interface"), "{error}");
}

#[test]
fn names_and_lengths_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = unix(dir.path().join("auth"));
    wanted.owner = Some("no-such-user-here".to_owned());
    let error = bind(&wanted).unwrap_err();
    assert_eq!(error.class, BindClass::Config);
    assert!(!dir.path().join("auth").exists());
    let error = bind(&unix(dir.path().join("x".repeat(108)))).unwrap_err();
    assert!(error.sentence.contains("107"), "{error}");
}

#[test]
fn words_of_classes_come_back() {
    for class in [
        BindClass::Config,
        BindClass::InUse,
        BindClass::Waiting,
        BindClass::Environment,
    ] {
        assert_eq!(BindClass::from_word(class.word()), Some(class));
    }
    assert_eq!(BindClass::from_word("x"), None);
    let error = BindError::file(
        "listen on",
        Path::new("/x"),
        &ErrorKind::PermissionDenied.into(),
    );
    assert!(error.sentence.contains("as root"), "{error}");
}
