//! The demo, on a machine with nothing installed and without root.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::rig::homing::{PROGRAM, run};
use crate::rig::many_descriptors;

fn demo(dir: &Path, logins: u32) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["demo", &format!("--logins={logins}")]);
    command.env_remove("XDG_RUNTIME_DIR").env("TMPDIR", dir);
    command
}

fn scratch() -> tempfile::TempDir {
    many_descriptors();
    let dir = tempfile::Builder::new().prefix("hab").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    dir
}

#[test]
fn the_demo_holds_for_an_unprivileged_user_and_leaves_nothing() {
    let dir = scratch();
    let mut command = demo(dir.path(), 5000);
    command.arg("--users=500");
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let (status, out, err) = run(command, dir.path());
    assert_eq!(status, 0, "{out}\n{err}");
    for text in ["p99.9", "Every check held.", "same backend"] {
        assert!(out.contains(text), "{text}: {out}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with("homing"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn names_that_share_a_hash_are_no_failure() {
    let dir = scratch();
    let mut command = demo(dir.path(), 1000);
    command.arg("--users=200000");
    let (status, out, err) = run(command, dir.path());
    assert_eq!(status, 0, "{out}\n{err}");
    assert!(out.contains("Every check held."), "{out}");
}

#[test]
fn the_demo_fails_where_it_cannot_work() {
    let dir = scratch();
    let inner = demo(dir.path(), 1000);
    let mut command = Command::new("sh");
    let script = "ulimit -l 64 && exec \"$0\" \"$@\"";
    command.arg("-c").arg(script).arg(inner.get_program());
    command.args(inner.get_args());
    let (status, _, err) = run(command, dir.path());
    assert_eq!(status, 69, "{err}");
    assert!(
        err.starts_with("homing: ") && err.lines().count() == 1,
        "{err}"
    );
    let nowhere = dir.path().join("missing");
    let (status, _, err) = run(demo(&nowhere, 1000), dir.path());
    assert_eq!(status, 69, "{err}");
    assert!(err.contains("no directory for the demo's sockets"), "{err}");
}
