//! A real Dovecot director with users, and Homing's command line beside it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::e2e::Site;
use crate::e2e::config::render;
use crate::e2e::dovecot::{Dovecot, HOMING, Version};

/// Users of [`Stand`]; the last few have the tag `t1`.
pub const USERS: usize = 200;
/// Users with the tag.
pub const TAGGED: usize = 40;
pub const ADMIN_PORT: u16 = 9191;
const RING_PORT: u16 = 9190;

/// What a command printed, and its exit status.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub status: Option<i32>,
}

impl Said {
    /// Standard output of a command that succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.out
    }

    /// Standard error of a command that failed with this status.
    #[track_caller]
    pub fn failed(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        self.err
    }
}

/// A stand-alone director, or one in a ring with somebody mute.
pub struct Stand {
    // Before the site, whose directory it uses.
    pub dovecot: Dovecot,
    pub site: Site,
    /// Takes the director's connections and never says a word.
    _mute: Option<TcpListener>,
}

impl Stand {
    /// Three backends, of which the last has the tag `t1`.
    pub fn new() -> Stand {
        Stand::on(Site::new(), &["11", "12", "13@t1"], "", "")
    }

    /// A director in a ring whose other member is mute, so that the ring is never synced.
    pub fn unsynced() -> Stand {
        let site = Site::new();
        let mute = TcpListener::bind((site.address(2), RING_PORT)).expect("a free port");
        let listener = format!("  inet_listener ring {{\n    port = {RING_PORT}\n  }}");
        let stand = Stand::on(site, &["11"], "@1 @2", &listener);
        Stand {
            _mute: Some(mute),
            ..stand
        }
    }

    fn on(site: Site, backends: &[&str], directors: &str, listener: &str) -> Stand {
        let users = site.path().join("users");
        fs::write(&users, passwd_file()).expect("a passwd file");
        let backend = |it: &&str| match it.split_once('@') {
            Some((host, tag)) => format!("{}@{tag}", site.address(host.parse().expect("a byte"))),
            None => site.address(it.parse().expect("a byte")).to_string(),
        };
        let backends: Vec<_> = backends.iter().map(backend).collect();
        let director = |number| format!("{}:{RING_PORT}", site.address(number));
        let directors = directors
            .replace("@1", &director(1))
            .replace("@2", &director(2));
        let dovecot = Dovecot::start(&site, "director", Version::V23, |dovecot| {
            let mut values = dovecot.values();
            values.extend([
                ("ADDRESS", site.address(1).to_string()),
                ("DIRECTORS", directors.clone()),
                ("BACKENDS", backends.join(" ")),
                ("USERS", users.display().to_string()),
                ("ADMIN_PORT", ADMIN_PORT.to_string()),
                ("RING_LISTENER", listener.to_owned()),
            ]);
            render(include_str!("director-2.3.conf"), &values)
        });
        Stand {
            dovecot,
            site,
            _mute: None,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dovecot.base().join("director-admin")
    }

    /// Address of a backend.
    pub fn backend(&self, number: u8) -> String {
        self.site.address(number).to_string()
    }

    /// Has all users looked up, so that each is assigned.
    pub fn log_in(&self) {
        let stream = UnixStream::connect(self.dovecot.base().join("director-userdb"));
        let mut stream = stream.expect("the director's userdb socket");
        stream.write_all(b"VERSION\t1\t0\n").expect("a greeting");
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        for (at, user) in names().iter().enumerate() {
            let pass = format!("PASS\t{}\t{user}\tservice=lmtp\n", at + 1);
            stream.write_all(pass.as_bytes()).expect("a request");
            let reply = lines.by_ref().map(|line| line.expect("a line"));
            let reply =
                { reply }.find(|line| !line.starts_with("VERSION") && !line.starts_with("SPID"));
            let reply = reply.expect("a reply");
            assert!(
                reply.starts_with("PASS\t") && reply.contains("\thost="),
                "{reply}"
            );
        }
    }

    /// Runs homing with `-a` on the director's socket.
    pub fn homing(&self, words: &[&str]) -> Said {
        self.fed(words, "")
    }

    /// The same with standard input.
    pub fn fed(&self, words: &[&str], input: &str) -> Said {
        let socket = self.socket().display().to_string();
        homing(&[words, &["-a", &socket]].concat(), input)
    }

    /// What a command prints with `--json`.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> Value {
        let text = self.homing(&[words, &["--json"]].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Runs `doveadm director`; what it printed, and its exit status.
    pub fn doveadm(&self, words: &[&str]) -> (String, Option<i32>) {
        self.dovecot.doveadm(&[&["director"], words].concat())
    }

    /// Where the director has each user now, by hash, and its tag with it.
    pub fn users(&self) -> Vec<(u64, String)> {
        let rows = crate::e2e::admin::rows(&self.socket(), "USER-LIST");
        let user = |row: &Vec<String>| (row[0].parse().expect("a hash"), row[2].clone());
        let mut users: Vec<_> = rows.iter().map(user).collect();
        users.sort();
        users
    }

    /// A settings file for Homing that names this director's sockets.
    pub fn settings(&self, further: &str) -> String {
        let file = self.site.path().join("homing.toml");
        let base = self.dovecot.base().display().to_string();
        let text = format!(
            "director_mail_servers = \"{}\"\nbase_dir = \"{base}\"\ndirector_user_expire = \"900 s\"\n{further}",
            self.backend(11)
        );
        fs::write(&file, text).expect("settings");
        file.display().to_string()
    }
}

/// Login names.
pub fn names() -> Vec<String> {
    (0..USERS)
        .map(|number| format!("user{number}@example.org"))
        .collect()
}

fn passwd_file() -> String {
    let line = |(at, name): (usize, &String)| {
        let tag = if at >= USERS - TAGGED {
            " director_tag=t1"
        } else {
            ""
        };
        format!("{name}:secret:1000:1000::/nowhere::proxy=y{tag}\n")
    };
    names().iter().enumerate().map(line).collect()
}

/// Runs homing.
pub fn homing(words: &[&str], input: &str) -> Said {
    let mut child = Command::new(HOMING)
        .args(words)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("homing");
    let mut stdin = child.stdin.take().expect("piped");
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("its output");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said {
        out: text(output.stdout),
        err: text(output.stderr),
        status: output.status.code(),
    }
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
