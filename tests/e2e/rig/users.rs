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
    /// On the proxy itself or on a backend, as the director says. The password for the backend is
    /// in the passdb (`pass=`), unless it is forgotten. The text is further passdb fields.
    Maybe { pass: bool, fields: &'static str },
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
    let write = |service: &str, port: Option<u16>| {
        let lines = users.iter().map(|user| passdb_line(user, password, port));
        fs::write(directory.join(service), lines.collect::<String>()).expect("a passwd-file");
    };
    for (protocol, port) in ports.ports.by_protocol() {
        write(protocol, (protocol != "lmtp" || ports.lmtp).then_some(port));
    }
    // doveadm takes the port of the setting doveadm_port.
    write("doveadm", None);
    // Of the proxied ones only the name is used: doveadm -A works through this list.
    let lines = users
        .iter()
        .map(|user| format!("{}::{MAIL_IDS}:{MAIL_IDS}:::\n", user.name));
    fs::write(directory.join("local"), lines.collect::<String>()).expect("a passwd-file");
}

fn passdb_line(user: &User, password: &str, port: Option<u16>) -> String {
    let port = port.map_or(String::new(), |port| format!(" port={port}"));
    let extra = match user.home {
        Home::Proxied => format!("proxy=y{port}"),
        Home::Tagged(tag) => format!("proxy=y director_tag={tag}{port}"),
        Home::Local => String::new(),
        Home::Maybe { pass, fields } => {
            let pass = if pass {
                format!(" pass={password}")
            } else {
                String::new()
            };
            format!("director_proxy_maybe=y{port}{pass} {fields}")
        }
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
        // doveadm sees where it is by the name of a folder.
        let folder = maildir.join(format!(".at-{backend}"));
        make_mail_dir(&folder);
        for part in ["cur", "new", "tmp"] {
            make_mail_dir(&maildir.join(part));
            make_mail_dir(&folder.join(part));
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
