//! Backends: real Dovecots, and mocks that fail in ways of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use crate::e2e::config::{Ports, login_mode, render};
use crate::e2e::dovecot::{Dovecot, LoginMode, Version};
use crate::e2e::process::{self, descendants};
use crate::e2e::{Site, status_field};

pub const PORTS: Ports = Ports::at(1000);

/// Else an address that fails often waits 15 s for the next answer.
const NO_PENALTY: &str = "\nauth_failure_delay = 0\nservice anvil {\n  unix_listener \
                          anvil-auth-penalty {\n    mode = 0\n  }\n}\n";

/// A Dovecot that lets any user in with the site's password. `more` is added to its configuration.
pub fn dovecot(site: &Site, host: u8, version: Version, more: &str) -> Dovecot {
    let name = format!("b{host}");
    let mail = site.path().join(format!("{name}.mail"));
    std::fs::create_dir_all(&mail).unwrap();
    // Users of this site's backends are nobody.
    let status = std::process::Command::new("chmod")
        .arg("0777")
        .arg(&mail)
        .status();
    assert!(status.unwrap().success());
    Dovecot::start(site, &name, version, |dovecot| {
        let mut values = dovecot.values();
        values.extend(PORTS.values());
        values.extend([
            ("ADDRESS", site.address(host).to_string()),
            ("MAIL", mail.display().to_string()),
            ("PASSWORD", site.password.clone()),
            ("RELAY_HOST", site.address(host).to_string()),
            ("RELAY_PORT", "25".to_owned()),
            ("DOVEADM_PASSWORD", "unused".to_owned()),
            ("LOGIN_MODE", login_mode(version, LoginMode::ManyPerProcess)),
        ]);
        let template = match version {
            Version::V23 => include_str!("../e2e/rig/conf/backend-2.3.conf"),
            Version::V24 => include_str!("../e2e/rig/conf/backend-2.4.conf"),
        };
        render(template, &values) + NO_PENALTY + more
    })
}

/// Stops all processes of a Dovecot, or has them go on: its kernel still takes connections.
pub fn freeze(dovecot: &Dovecot, frozen: bool) {
    let number = if frozen { libc::SIGSTOP } else { libc::SIGCONT };
    let master = dovecot.master();
    for _ in 0..2 {
        process::signal(master, number);
        for (pid, _) in descendants(master) {
            process::signal(pid, number);
        }
    }
    let state = status_field(master, "State:");
    assert_eq!(state[0] == "T", frozen, "{state:?}");
}

/// How a mock behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// It answers every line with OK.
    Good = 0,
    /// It greets, and then says nothing.
    Wedged = 1,
    /// It refuses whoever comes.
    Busy = 2,
}

/// An IMAP server that knows no mail.
pub struct Mock(Arc<AtomicU8>);

impl Mock {
    pub fn start(address: Ipv4Addr) -> Mock {
        let listener = TcpListener::bind((address, PORTS.imap)).unwrap();
        let mood = Arc::new(AtomicU8::new(Mood::Good as u8));
        let shared = Arc::clone(&mood);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mood = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &mood));
            }
        });
        Mock(mood)
    }

    pub fn be(&self, mood: Mood) {
        self.0.store(mood as u8, Ordering::SeqCst);
    }
}

/// Until the client hangs up; errors are just that.
fn serve(mut stream: &TcpStream, mood: &AtomicU8) {
    let is = |it: Mood| mood.load(Ordering::SeqCst) == it as u8;
    if is(Mood::Busy) {
        let _ = stream.write_all(b"* BYE [UNAVAILABLE] Too many connections\r\n");
        return;
    }
    let _ = stream.write_all(b"* OK ready\r\n");
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if is(Mood::Wedged) {
            continue;
        }
        let tag = line.split(' ').next().unwrap_or_default();
        let _ = stream.write_all(format!("{tag} OK done\r\n").as_bytes());
    }
}
