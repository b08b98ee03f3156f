//! The users a proxy knows.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use super::config::Ports;

/// `nobody` and `nogroup`, the same on all Debians; mail belongs to them.
const MAIL_IDS: u32 = 65534;

/// Where a user's mail is.
#[derive(Clone, Debug)]
pub enum Home {
    /// On the backend that the director says.
    Proxied,
    /// On a backend with this director tag.
    Tagged(&'static str),
    /// On the proxy itself.
    Local,
}

/// A user of a proxy.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub home: Home,
}

impl User {
    /// A user whose backend the director chooses.
    pub fn proxied(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            home: Home::Proxied,
        }
    }
}

/// Which ports the proxy's passdb names.
#[derive(Clone, Copy, Debug)]
pub struct PassdbPorts {
    /// Ports of the backends.
    pub ports: Ports,
    /// Whether lmtp is told one too; without, it keeps the port its own client came to.
    pub lmtp: bool,
}

/// Writes the passwd-files of a proxy: one for each protocol, and `local` for the userdb.
pub fn write(directory: &Path, users: &[User], password: &str, ports: PassdbPorts) {
    fs::create_dir_all(directory).expect("a directory for passwd-files");
    for (protocol, port) in ports.ports.by_protocol() {
        let port = (protocol != "lmtp" || ports.lmtp).then_some(port);
        let lines = users.iter().map(|user| passdb_line(user, password, port));
        fs::write(directory.join(protocol), lines.collect::<String>()).expect("a passwd-file");
    }
    let local = users.iter().filter(|user| matches!(user.home, Home::Local));
    let lines = local.map(|user| format!("{}::{MAIL_IDS}:{MAIL_IDS}:::\n", user.name));
    fs::write(directory.join("local"), lines.collect::<String>()).expect("a passwd-file");
}

fn passdb_line(user: &User, password: &str, port: Option<u16>) -> String {
    let port = port.map_or(String::new(), |port| format!(" port={port}"));
    let extra = match user.home {
        Home::Proxied => format!("proxy=y{port}"),
        Home::Tagged(tag) => format!("proxy=y director_tag={tag}{port}"),
        Home::Local => String::new(),
    };
    format!("{}:{password}::::::{extra}\n", user.name)
}

/// Puts one message into every user's mailbox, whose header says whose mailbox this is: a client
/// that finds it knows which backend it has reached.
pub fn seed_mail(mail: &Path, users: &[User], backend: &str) {
    make_mail_dir(mail);
    for user in users {
        let maildir = mail.join(&user.name);
        make_mail_dir(&maildir);
        for part in ["cur", "new", "tmp"] {
            make_mail_dir(&maildir.join(part));
        }
        let message = format!("Subject: seed\nX-Backend: {backend}\n\nHello.\n");
        let path = maildir.join("new/1.seed");
        fs::write(&path, message).expect("a message");
        chown(&path, Some(MAIL_IDS), Some(MAIL_IDS)).expect("chown");
    }
}

/// Makes a directory that mail processes may write to.
pub fn make_mail_dir(path: &Path) {
    fs::create_dir_all(path).expect("a mail directory");
    chown(path, Some(MAIL_IDS), Some(MAIL_IDS)).expect("chown");
}
