//! `homing check`, settings that cannot be run with, and what SIGHUP changes.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::rig::homing::{PROGRAM, run};
use crate::rig::peer::{HELLO, host};
use crate::rig::{EchoAuth, Homing, Peer, Site, clock, wait_until};

const CONFIG: i32 = 78;

fn check(site: &Site) -> (i32, String, String) {
    let mut command = Command::new(PROGRAM);
    command.arg("check").arg("--config").arg(site.config());
    run(command, &site.path(""))
}

/// `homing run` with this file refuses; what it says.
fn refused(site: &Site, text: &str) -> String {
    std::fs::write(site.config(), text).unwrap();
    let (status, _, err) = run(site.command(), &site.path(""));
    assert_eq!(status, CONFIG, "{err}");
    err
}

#[test]
fn check_names_file_line_and_key() {
    let site = Site::new();
    site.write();
    let (status, out, err) = check(&site);
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.contains("valid, 4 backends, 5 listeners"), "{out}");
    let file = site.config();
    let file = file.display();
    for (line, expected) in [
        ("lookup_timeout = \"soon\"", "lookup_timeout:"),
        ("lookup_timout = \"5 s\"", "lookup_timout:"),
        ("cores = 5000", "cores:"),
        ("director_user_expire = \"1 s\"", "director_user_expire:"),
        ("lookup_timeout = 0", "lookup_timeout:"),
        ("user = \"no-such-user-here\"", "user:"),
        ("group = \"no-such-group-here\"", "group:"),
        ("log_level", ""),
        ("\u{0}", ""),
    ] {
        std::fs::write(site.config(), format!("\n{line}\n{}", site.text())).unwrap();
        let (status, _, err) = check(&site);
        assert_eq!(status, CONFIG, "{line}: {err}");
        assert!(
            err.contains(&format!("{file}:2: {expected}")),
            "{line}: {err}"
        );
        assert!(err.contains("in the settings"), "{err}");
    }
    std::fs::write(site.config(), b"user = \"\xff\"\n").unwrap();
    assert_eq!(check(&site).0, CONFIG);
    std::fs::remove_file(site.config()).unwrap();
    let (status, _, err) = check(&site);
    assert!(status == CONFIG && err.contains("homing.toml"), "{err}");
}

#[test]
fn what_cannot_be_served_is_refused_before_anything_listens() {
    let site = Site::new();
    let whole = site.text();
    let without = whole.split("[[listener]]").next().unwrap();
    let err = refused(&site, without);
    assert!(err.contains("no [[listener]]"), "{err}");
    let path = site.path("http");
    let more = format!("[[listener]]\ntype = \"http\"\npath = {path:?}\n");
    let err = refused(&site, &format!("{whole}{more}"));
    assert!(err.contains("type http"), "{err}");
    assert!(!site.path("login-socket").exists());
    let tls = ["cert", "key", "ca"].map(|it| format!("director_ring_tls_{it} = \"/{it}.pem\"\n"));
    let err = refused(&site, &format!("{}{whole}", tls.concat()));
    assert!(
        err.contains("director_ring_tls_cert: /cert.pem: cannot be read"),
        "{err}"
    );
    let err = refused(
        &site,
        &format!("director_servers = \"127.0.0.1 127.0.0.2\"\n{whole}"),
    );
    assert!(err.contains("director_servers"), "{err}");
}

fn reload(homing: &mut Homing, done: &str) -> String {
    let seen = homing.log().len();
    homing.signal(Signal::SIGHUP);
    wait_until("the reload", || homing.log()[seen..].contains(done));
    homing.log()[seen..].to_owned()
}

#[test]
fn sighup_changes_what_can_be_changed_and_names_the_rest() {
    let mut homing = Site::new().arg("--cores=1").start();
    EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let mut client = Peer::login(&homing.login());
    assert!(host(&client.ask(1, "user=ann|proxy")).is_some());
    let said = reload(&mut homing, "reload: done");
    assert!(said.contains("reload: done, 0 differences"), "{said}");

    let other = homing.site.path("auth-other");
    EchoAuth::spawn(&other, false);
    std::fs::remove_file(homing.site.path("auth-login")).unwrap();
    let site = &mut homing.site;
    site.change("lookup_timeout", "\"1 s\"");
    site.change("auth_login_path", &format!("{other:?}"));
    site.change("user_table_limit", "1");
    site.change("client_limit", "400");
    site.change("director_mail_servers", "\"10.2.0.1 10.9.9.9\"");
    site.write();
    let said = reload(&mut homing, "reload: done");
    for name in ["lookup_timeout", "auth_login_path", "user_table_limit"] {
        let line = said.lines().find(|line| line.contains(name));
        assert!(
            line.is_some_and(|line| line.contains("INFO")),
            "{name}: {said}"
        );
    }
    let line = said
        .lines()
        .find(|line| line.contains("client_limit"))
        .unwrap();
    assert!(line.contains("WARN") && line.contains("restart"), "{line}");
    for backend in ["10.9.9.9", "10.2.0.4"] {
        assert!(said.contains(backend), "{said}");
    }
    let state = homing.state();
    let users = state.iter().find(|line| line.contains("users:")).unwrap();
    assert!(
        users.contains("10.2.0.4=") && !users.contains("10.9.9.9"),
        "{users}"
    );

    let mut client = Peer::login(&homing.login());
    assert!(host(&client.ask(1, "user=ann|proxy")).is_some(), "known");
    assert_eq!(client.ask(2, "user=new|proxy"), "FAIL\t2\tcode=temp_fail");
    let begin = clock::now();
    let reply = client.ask(3, "user=new|proxy|director_tag=none");
    assert_eq!(reply, "FAIL\t3\tcode=temp_fail");
    assert!(begin.elapsed() < Duration::from_secs(24), "not 25 s");

    // What needs a restart is told of again and again, what was taken over is not.
    let said = reload(&mut homing, "reload: done");
    assert!(
        said.contains("client_limit") && !said.contains("lookup_timeout"),
        "{said}"
    );
    homing.stop();
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut homing = Site::new().arg("--cores=1").start();
    EchoAuth::spawn(&homing.site.path("auth-login"), false);
    homing.site.change("user_table_limit", "1");
    homing.site.change("lookup_timeout", "\"never\"");
    homing.site.write();
    let said = reload(&mut homing, "nothing was changed");
    assert!(
        said.contains("homing.toml:") && said.contains("lookup_timeout"),
        "{said}"
    );
    std::fs::remove_file(homing.site.config()).unwrap();
    reload(&mut homing, "nothing was changed");
    let mut client = Peer::login(&homing.login());
    for id in 1..5 {
        assert!(host(&client.ask(id, &format!("user=u{id}|proxy"))).is_some());
    }
    homing.stop();
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let mut homing = Site::new().set("log_level", "\"error\"").arg("--cores=1");
    homing.write();
    let log = std::fs::File::create(homing.path("log")).unwrap();
    let mut command = homing.command();
    crate::rig::homing::end_with_us(&mut command);
    let mut child = command.stderr(log).spawn().unwrap();
    let auth = homing.path("auth-login");
    EchoAuth::spawn(&auth, false);
    let mut client = Peer::connect(&homing.path("login-socket"));
    client.send(HELLO);
    client.until("DONE");
    let log = || std::fs::read_to_string(homing.path("log")).unwrap();
    assert_eq!(log(), "", "nothing is wrong");
    homing.change("log_level", "\"info\"");
    homing.write();
    let log = || std::fs::read_to_string(homing.path("log")).unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
    wait_until("it is logged at info", || log().contains("reload: done"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert!(crate::rig::homing::wait_end(&mut child).success());
}
