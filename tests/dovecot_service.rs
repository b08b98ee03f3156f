//! Under the real master of Dovecot 2.3, and beside it. Needs root and dovecot-core
//! (`apt-get install dovecot-core`); each test has its own `base_dir` and loopback addresses.

#[path = "networks/mod.rs"]
mod networks;

use std::fs;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use homing::settings::{Listener, ListenerKind, Place};
use homing::shell::dovecot_log::{FATAL, INFO, LogPipe};
use homing::shell::dovecot_master::DovecotService;
use homing::shell::keeper::{Keeper, KeeperEvent};
use homing::shell::signals::{ControlSource, Notice, block};
use homing::shell::sockets::{BindClass, bind, is_fifo, is_listening};
use networks::Network;

const DOVECOT: &str = "/usr/sbin/dovecot";
const PROGRAM: &str = env!("CARGO_BIN_EXE_homing");

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

/// A running Dovecot in a directory of its own; killed at the end of the test.
struct Dovecot {
    dir: tempfile::TempDir,
    master: Child,
}

impl Dovecot {
    /// `service`: the body of `service director`.
    fn start(address: &str, service: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root: run it with sudo"
        );
        assert!(
            Path::new(DOVECOT).exists(),
            "this test needs Dovecot: apt-get install dovecot-core"
        );
        // /run: a path of a socket must be short, and login processes must get through to it.
        let dir = tempfile::Builder::new()
            .prefix("homing-")
            .tempdir_in("/run")
            .unwrap();
        fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let config = format!(
            "base_dir = {base}/b\nstate_dir = {base}/s\nlog_path = {base}/log\nprotocols =\nssl = no\n\
             listen = {address}\nservice director {{\n{service}\n}}\n\
             passdb {{\n  driver = static\n  args = proxy=y nopassword=y\n}}\n",
            base = dir.path().display()
        );
        fs::write(dir.path().join("conf"), config).unwrap();
        let master = Self::run(dir.path());
        let dovecot = Self { dir, master };
        dovecot.wait_until_up();
        dovecot
    }

    fn run(dir: &Path) -> Child {
        Command::new(DOVECOT)
            .arg("-F")
            .arg("-c")
            .arg(dir.join("conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn wait_until_up(&self) {
        eventually("Dovecot's start", || {
            UnixStream::connect(self.base().join("login/login")).ok()
        });
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("b")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn doveadm(&self, words: &[&str]) {
        let config = self.dir.path().join("conf");
        let status = Command::new("doveadm")
            .arg("-c")
            .arg(config)
            .args(words)
            .status()
            .unwrap();
        assert!(status.success(), "doveadm {words:?}: {status}");
    }

    fn end_of_master(&mut self) {
        eventually("the master's end", || self.master.try_wait().unwrap());
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Dovecot's log:\n{}", self.log());
        }
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// The body of `service director` with this test program in the place of the director.
fn service(role: &str, listeners: &str) -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "  executable = {} --exact {role} --nocapture\n  process_min_avail = 1\n{listeners}",
        program.display()
    )
}

fn listeners(address: &str) -> String {
    format!(
        "  unix_listener login/director {{\n    mode = 0666\n  }}\n\
         \x20 unix_listener director-userdb {{\n    mode = 0600\n  }}\n\
         \x20 fifo_listener login/proxy-notify {{\n    mode = 0666\n  }}\n\
         \x20 inet_listener {{\n    address = {address}\n    port = 19090\n  }}\n"
    )
}

/// Role: a director under the master. Reports what it got into `report` in the base directory,
/// logs, drops privileges, and finishes when the master says so.
#[test]
fn role_service() {
    let Some(mut service) = DovecotService::from_env().unwrap() else {
        return;
    };
    block().unwrap();
    let name = format!("report.{}", std::process::id());
    let mut report = File::create(service.base_dir.join(name)).unwrap();
    for listener in &service.listeners {
        let fd = listener.fd.as_fd();
        assert!(if listener.is_fifo {
            is_fifo(fd)
        } else {
            is_listening(fd)
        });
        writeln!(
            report,
            "{:?} {:?} {:?}",
            listener.name, listener.kind, listener.place
        )
        .unwrap();
    }
    assert_eq!(service.status.update(0, Duration::ZERO), Ok(None));
    service.restrict.apply(None).unwrap();
    let user = nix::unistd::getresuid().unwrap();
    let groups = nix::unistd::getgroups().unwrap();
    assert_eq!(
        nix::unistd::User::from_uid(user.saved)
            .unwrap()
            .unwrap()
            .name,
        "dovecot"
    );
    writeln!(
        report,
        "{} {} groups {}",
        service.service,
        service.version,
        groups.len()
    )
    .unwrap();
    let log = LogPipe::stderr();
    let mut control = ControlSource::new(Some(service.death_watch)).unwrap();
    let notice = eventually("the master's word", || {
        // Again and again: Dovecot's log process may show the lines of the first moments after
        // its start only when more arrive.
        log.log(INFO, "ready\nto serve");
        log.log(FATAL, "only a test");
        control.notice().unwrap()
    });
    writeln!(report, "{notice:?}").unwrap();
    assert_eq!(notice, Notice::MasterGone);
    // No destructors, no messages of the test harness.
    std::process::exit(0);
}

/// Whether what a service process says of itself is there, to the end of the last line.
fn has_all(report: &str) -> bool {
    let last = report.split_once(" groups ");
    last.is_some_and(|(_, number)| number.contains('\n'))
}

/// The reports of all service processes so far, oldest first, once there are `count`.
fn reports(dovecot: &Dovecot, count: usize, complete: impl Fn(&str) -> bool) -> Vec<String> {
    eventually("the service's report", || {
        let mut found: Vec<_> = fs::read_dir(dovecot.base())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("/report."))
            .map(|path| (fs::metadata(&path).unwrap().created().unwrap(), path))
            .collect();
        found.sort();
        let texts: Vec<_> = found
            .iter()
            .map(|(_, path)| fs::read_to_string(path).unwrap())
            .collect();
        (texts.len() == count && texts.iter().all(|text| complete(text))).then_some(texts)
    })
}

#[test]
fn a_service_of_2_3_gets_its_listeners_and_leaves_with_the_master() {
    let network = Network::claim();
    let address = network.address(1).to_string();
    let address = address.as_str();
    let body = service("role_service", &listeners(address));
    let mut dovecot = Dovecot::start(address, &(body + "  extra_groups = mail\n"));
    let first = reports(&dovecot, 1, has_all).remove(0);
    let base = dovecot.base();
    let base = base.display();
    for line in [
        format!("\"director\" Login Unix(\"{base}/login/director\")"),
        format!("\"director-admin\" Admin Unix(\"{base}/director-admin\")"),
        format!("\"director-userdb\" Userdb Unix(\"{base}/director-userdb\")"),
        "\"proxy-notify\" Notify Fifo(\"proxy-notify\")".to_owned(),
        format!("\"\" Ring Tcp({address}:19090)"),
        "director 2.3.19.1 groups 2".to_owned(),
    ] {
        assert!(first.contains(&line), "{line} is not in {first}");
    }
    let log = eventually("the log", || {
        Some(dovecot.log()).filter(|log| log.contains("only a test"))
    });
    assert!(log.contains("director: Info: ready to serve"), "{log}");
    assert!(log.contains("director: Fatal: only a test"), "{log}");
    // A reload starts a new process and tells the old one to go.
    let config = dovecot.dir.path().join("conf");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "# changed\n").unwrap();
    dovecot.doveadm(&["reload"]);
    reports(&dovecot, 2, has_all);
    eventually("the old process's end", || {
        reports(&dovecot, 2, |_| true)[0]
            .contains("MasterGone")
            .then_some(())
    });
    // So does a stop, and the end of a master that was killed.
    dovecot.doveadm(&["stop"]);
    dovecot.end_of_master();
    reports(&dovecot, 2, |text| text.contains("MasterGone"));
}

/// The child of `parent` with this name.
fn child_named(parent: u32, name: &str) -> Option<nix::unistd::Pid> {
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        let status = fs::read_to_string(path.join("status")).ok()?;
        let is = |line: String| status.lines().any(|other| other == line);
        let found = is(format!("Name:\t{name}")) && is(format!("PPid:\t{parent}"));
        found.then(|| nix::unistd::Pid::from_raw(pid))
    })
}

#[test]
fn a_reload_of_the_service_keeps_what_the_master_decided() {
    let network = Network::claim();
    let address = network.address(1).to_string();
    let address = address.as_str();
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(
        place.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let settings = place.path().join("homing.toml");
    fs::write(&settings, "director_mail_servers = \"10.2.0.1\"\n").unwrap();
    let body = format!(
        "  executable = {PROGRAM} dovecot-service --cores 1 --config {}\n  process_min_avail = 1\n\
         \x20 client_limit = 300\n  unix_listener login/director {{\n    mode = 0666\n  }}\n",
        settings.display()
    );
    let dovecot = Dovecot::start(address, &body);
    let homing = eventually("the service", || child_named(dovecot.master.id(), "homing"));
    eventually("it serves", || {
        dovecot.log().contains("serving cores").then_some(())
    });
    // Again and again, since Dovecot's log process may hold lines back until more arrive.
    let done = eventually("the reload", || {
        nix::sys::signal::kill(homing, nix::sys::signal::Signal::SIGHUP).unwrap();
        dovecot
            .log()
            .lines()
            .find(|line| line.contains("reload: "))
            .map(str::to_owned)
    });
    assert!(done.contains("reload: done, 0 differences"), "{done}");
}

/// The head of an answer.
fn http_get(mut stream: impl Read + Write, token: &str) -> String {
    let request =
        format!("GET /api/v1/status HTTP/1.1\r\nHost: homing\r\nConnection: close\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn http_listeners_of_the_master_are_served() {
    const TOKEN: &str = "a-token-that-may-only-read-0123456789";
    let network = Network::claim();
    let address = network.address(1).to_string();
    let place = tempfile::tempdir().unwrap();
    let set_mode = |path: &Path, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(path, mode).unwrap();
    };
    set_mode(place.path(), 0o755);
    let tokens = place.path().join("tokens");
    fs::write(&tokens, format!("prometheus read {TOKEN}\n")).unwrap();
    // The service gives up root before it reads it.
    set_mode(&tokens, 0o640);
    let group = Command::new("chgrp").arg("dovecot").arg(&tokens).status();
    assert!(group.unwrap().success());
    let settings = place.path().join("homing.toml");
    let text = format!("director_mail_servers = \"10.2.0.1\"\nhttp_tokens = {tokens:?}\n");
    fs::write(&settings, text).unwrap();
    let body = format!(
        "  executable = {PROGRAM} dovecot-service --cores 1 --config {}\n  process_min_avail = 1\n\
         \x20 client_limit = 300\n  unix_listener login/director {{\n    mode = 0666\n  }}\n\
         \x20 unix_listener director-http {{\n    mode = 0600\n  }}\n\
         \x20 inet_listener tcp-http {{\n    address = {address}\n    port = 18080\n  }}\n",
        settings.display()
    );
    let dovecot = Dovecot::start(&address, &body);
    eventually("it serves", || {
        dovecot.log().contains("serving cores").then_some(())
    });
    let path = dovecot.base().join("director-http");
    let answer = http_get(UnixStream::connect(path).unwrap(), "");
    assert!(
        answer.contains("200 OK") && answer.contains("\"role\":\"admin\""),
        "{answer}"
    );
    let tcp = || TcpStream::connect((address.as_str(), 18080)).unwrap();
    let answer = http_get(tcp(), "");
    assert!(answer.contains("401 Unauthorized"), "{answer}");
    let answer = http_get(tcp(), &format!("Authorization: Bearer {TOKEN}\r\n"));
    assert!(
        answer.contains("200 OK") && answer.contains("\"role\":\"read\""),
        "{answer}"
    );
}

#[test]
fn a_killed_2_3_master_takes_its_service_along() {
    let network = Network::claim();
    let address = network.address(1).to_string();
    let address = address.as_str();
    let mut dovecot = Dovecot::start(address, &service("role_service", &listeners(address)));
    reports(&dovecot, 1, has_all);
    dovecot.master.kill().unwrap();
    dovecot.end_of_master();
    reports(&dovecot, 1, |text| text.contains("MasterGone"));
}

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

#[test]
fn dovecots_own_director_is_not_pushed_aside() {
    let network = Network::claim();
    let address = network.address(1).to_string();
    let address = address.as_str();
    let dovecot = Dovecot::start(address, &listeners(address));
    let base = dovecot.base();
    for place in [
        Place::Unix(base.join("login/director")),
        Place::Fifo(base.join("login/proxy-notify")),
        Place::Tcp(format!("{address}:19090").parse().unwrap()),
    ] {
        let error = bind(&listener(ListenerKind::Login, place)).unwrap_err();
        assert_eq!(error.class, BindClass::InUse, "{error}");
    }
    assert!(
        fs::metadata(base.join("login/director"))
            .unwrap()
            .file_type()
            .is_socket()
    );
}

#[test]
fn beside_2_3_listeners_survive_its_restart_and_come_back_after_a_wipe() {
    let network = Network::claim();
    let mut dovecot = Dovecot::start(&network.address(1).to_string(), "");
    let director = dovecot.base().join("login/director");
    let wanted = [
        listener(ListenerKind::Login, Place::Unix(director.join("auth"))),
        listener(ListenerKind::Notify, Place::Fifo(director.join("notify"))),
    ];
    let keeper = Keeper::spawn_program(PROGRAM.as_ref(), &wanted).unwrap();
    let events = keeper.first_round().unwrap();
    assert!(
        events
            .iter()
            .all(|event| matches!(event, KeeperEvent::Made { .. })),
        "{events:?}"
    );
    // A restart leaves the subdirectory alone, and our sockets do not keep Dovecot from starting.
    dovecot.doveadm(&["stop"]);
    dovecot.end_of_master();
    dovecot.master = Dovecot::run(dovecot.dir.path());
    dovecot.wait_until_up();
    UnixStream::connect(director.join("auth")).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(
        keeper.recv().unwrap().is_none(),
        "something was remade without need"
    );
    // A wiped base directory (a RuntimeDirectory= of systemd, a tmpfs) is the other case.
    dovecot.doveadm(&["stop"]);
    dovecot.end_of_master();
    fs::remove_dir_all(dovecot.base()).unwrap();
    dovecot.master = Dovecot::run(dovecot.dir.path());
    dovecot.wait_until_up();
    let mut made = [false; 2];
    while made != [true; 2] {
        match eventually("the remade listeners", || keeper.recv().unwrap()) {
            KeeperEvent::Made { index, .. } => made[index] = true,
            KeeperEvent::Problem {
                class: BindClass::Waiting,
                ..
            } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(director.join("auth").exists() && director.join("notify").exists());
    keeper.stop();
    assert!(!director.join("auth").exists() && !director.join("notify").exists());
}
