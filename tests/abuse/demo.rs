//! The demo, on a machine with nothing installed and without root.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::homing::{PROGRAM, end_with_us, run, wait_end};
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

fn homing(args: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn operators_commands_can_be_tried_on_it() {
    let dir = scratch();
    let mut command = demo(dir.path(), 1000);
    command.args(["--users=10", "--serve"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    end_with_us(&mut command);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let shown =
        lines.find_map(|line| Some(line.unwrap().split_once("homing status -a ")?.1.to_owned()));
    let Some(admin) = shown else {
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        panic!("it names no admin socket: {said}");
    };
    let status = homing(&["status", "-a", &admin]);
    assert!(status.contains("10.0.0.20"), "{status}");
    // Its auth server has no list of users.
    let names = dir.path().join("names");
    std::fs::write(&names, "").unwrap();
    let map = homing(&["map", "-a", &admin, "-f", names.to_str().unwrap()]);
    assert_eq!(map.matches(" 10.0.0.").count(), 10, "{map}");
    let moved = homing(&["move", "-a", &admin, "somebody", "10.0.0.7"]);
    assert!(moved.contains("was nowhere, now on 10.0.0.7"), "{moved}");
    let found = homing(&["status", "-a", &admin, "somebody"]);
    assert!(found.contains("10.0.0.7"), "{found}");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(wait_end(&mut child).code(), Some(0));
    assert!(!Path::new(&admin).exists(), "{admin} is left behind");
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
