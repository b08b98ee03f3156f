//! Backends and users outlive the process in a file, and nothing about the file prevents a start.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use crate::rig::homing::{PROGRAM, run};
use crate::rig::peer::host;
use crate::rig::{EchoAuth, Homing, Peer, Site, wait_until};

const USERS: usize = 60;

fn site() -> Site {
    let site = Site::new();
    let admin = site.path("admin-socket");
    let path = format!("{:?}", site.path("state"));
    site.set("state_path", &path)
        .set("state_interval", "\"1 s\"")
        .append(&format!(
            "[[listener]]\ntype = \"admin\"\npath = {admin:?}\n"
        ))
}

fn start(site: Site) -> Homing {
    let homing = site.start();
    EchoAuth::spawn(&homing.site.path("auth-login"), false);
    homing
}

fn order(homing: &Homing, line: &str) -> String {
    let mut stream = UnixStream::connect(homing.site.path("admin-socket")).unwrap();
    let text = format!("VERSION\tdirector-doveadm\t1\t0\n{line}\n");
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn places(homing: &Homing) -> Vec<String> {
    let mut client = Peer::login(&homing.login());
    let place = |user| {
        let reply = client.ask(1, &format!("user=user{user}|proxy"));
        host(&reply).expect("a backend").to_owned()
    };
    (0..USERS).map(place).collect()
}

fn state_file(homing: &Homing) -> PathBuf {
    homing.site.path("state")
}

/// Waits for a file that was begun after now.
fn written(homing: &Homing) {
    let before = homing.count("state:", "written");
    wait_until("the state is written twice", || {
        homing.count("state:", "written") >= before + 2
    });
}

fn shown(homing: &Homing) -> serde_json::Value {
    let mut command = Command::new(PROGRAM);
    command.arg("state").arg("--json").arg(state_file(homing));
    let (code, out, said) = run(command, &homing.site.path(""));
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn after_a_kill_every_user_and_backend_is_as_before() {
    let mut homing = start(site());
    let before = places(&homing);
    // Where they would go now is elsewhere.
    for line in [
        "HOST-SET\t10.2.0.1\t5",
        "HOST-SET\t10.2.0.9\t300",
        "HOST-REMOVE\t10.2.0.4",
    ] {
        assert!(order(&homing, line).contains("OK"), "{line}");
    }
    assert!(order(&homing, "HOST-DOWN\t10.2.0.2").contains("OK"));
    let list = order(&homing, "HOST-LIST");
    written(&homing);
    let file = shown(&homing);
    assert_eq!(file["backends"].as_array().unwrap().len(), 4, "{file}");
    let mode = std::fs::metadata(state_file(&homing))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    homing.start_again();
    assert_eq!(order(&homing, "HOST-LIST"), list);
    let log = homing.log();
    for said in [
        "10.2.0.4 had been removed",
        "10.2.0.9 had been added",
        "10.2.0.2 is down",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    // Users of the backend that was removed had been forgotten with it.
    let after = places(&homing);
    let mut kept = 0;
    for (before, after) in before.iter().zip(&after).filter(|it| it.0 != "10.2.0.4") {
        assert_eq!(before, after);
        kept += 1;
    }
    assert!(kept > USERS / 2, "{before:?}");
    // Without the file the settings count.
    homing.site.change("state_interval", "0");
    homing.kill();
    std::fs::remove_file(state_file(&homing)).unwrap();
    homing.start_again();
    assert!(homing.log().contains("there is none yet"));
    assert!(order(&homing, "HOST-LIST").contains("10.2.0.4"));
}

#[test]
fn an_orderly_end_writes_what_no_interval_has() {
    let homing = start(site().set("state_interval", "0"));
    places(&homing);
    let path = state_file(&homing);
    assert!(!path.exists());
    homing.signal(nix::sys::signal::Signal::SIGTERM);
    homing.wait_said("stopped");
    assert_eq!(shown(&homing)["users"], USERS);
}

#[test]
fn damage_is_said_and_prevents_nothing() {
    let mut homing = start(site());
    let list = order(&homing, "HOST-LIST");
    places(&homing);
    written(&homing);
    homing.site.change("state_interval", "0");
    homing.kill();
    let good = std::fs::read(state_file(&homing)).unwrap();
    let mut bad: Vec<(Vec<u8>, &str)> = Vec::new();
    for at in [13, 40, good.len() / 2, good.len() - 3] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        bad.push((bytes, "is not used: it"));
    }
    bad.push((good[..good.len() - 1].to_vec(), "it is cut off"));
    bad.push((Vec::new(), "it is cut off at byte 0"));
    bad.push((b"something else".to_vec(), "does not begin as"));
    for (bytes, why) in bad {
        std::fs::write(state_file(&homing), &bytes).unwrap();
        homing.start_again();
        let log = homing.log();
        assert!(log.contains(why), "{why}: {log}");
        assert_eq!(homing.users(), 0);
        assert_eq!(
            order(&homing, "HOST-LIST").lines().count(),
            list.lines().count()
        );
    }
}

#[test]
fn what_others_could_have_written_is_not_read() {
    let mut homing = start(site());
    places(&homing);
    written(&homing);
    homing.site.change("state_interval", "0");
    homing.kill();
    let path = state_file(&homing);
    let elsewhere = homing.site.path("elsewhere");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    homing.start_again();
    homing.wait_said("others may write to it (mode 666)");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(&path, Some(12_345), None).unwrap();
        homing.start_again();
        homing.wait_said("it belongs to user 12345");
        chown(&path, Some(0), None).unwrap();
    }
    homing.kill();
    std::fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    homing.start_again();
    homing.wait_said("it is no plain file");
    homing.kill();
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    homing.start_again();
    homing.wait_said("it is no plain file");
}

/// Starts it in mounts of its own, where the state's directory is a disk of 64 KiB.
fn on_a_small_disk(options: &str) -> Homing {
    let mut site = site();
    let disk = site.path("disk");
    std::fs::create_dir(&disk).unwrap();
    site.change("state_path", &format!("{:?}", disk.join("state")));
    site.write();
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let script = format!("mount -t tmpfs -o size=64k,{options} disk \"$0\" && exec \"$@\"");
    command.args(["--mount", "sh", "-c", &script]).arg(&disk);
    let inner = site.command();
    command.arg(inner.get_program()).args(inner.get_args());
    let homing = Homing::start(site, command);
    EchoAuth::spawn(&homing.site.path("auth-login"), false);
    homing
}

fn inside(homing: &Homing, name: &str) -> PathBuf {
    let disk = homing.site.path("disk");
    let root = format!("/proc/{}/root", homing.pid());
    PathBuf::from(root + disk.to_str().unwrap()).join(name)
}

#[test]
fn a_full_disk_leaves_the_file_as_it_was() {
    let homing = on_a_small_disk("mode=700");
    written(&homing);
    let file = inside(&homing, "state");
    let mut ballast = File::create(inside(&homing, "ballast")).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
    places(&homing);
    let failed = homing.count("state:", "failed");
    // A file may have been under way.
    let before = std::fs::read(&file).unwrap();
    homing.wait_said("cannot be written: No space left on device");
    wait_until("it has failed again", || {
        homing.count("state:", "failed") >= failed + 2
    });
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(!inside(&homing, "state.new").exists());
    places(&homing);
    std::fs::remove_file(inside(&homing, "ballast")).unwrap();
    drop(ballast);
    homing.wait_said("state: written again, 60 users");
}

#[test]
fn a_disk_that_cannot_be_written_prevents_nothing() {
    let homing = on_a_small_disk("ro");
    homing.wait_said("cannot be written: Read-only file system");
    assert_eq!(places(&homing).len(), USERS);
    homing.signal(nix::sys::signal::Signal::SIGTERM);
    homing.wait_said("stopped");
}
