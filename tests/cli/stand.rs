//! A director with users, Homing or Dovecot 2.3's, and Homing's command line beside it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::e2e::config::render;
use crate::e2e::dovecot::{Dovecot, HOMING, Version};
use crate::e2e::seat::Seat;
use crate::e2e::{Director, DirectorKind, DirectorPlacement, DirectorSpec, Site, Sockets};

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
    // Before the site, whose directory they use.
    /// The director, unless it is Dovecot's.
    homing: Option<Director>,
    /// Has auth and its users; and a director, which runs only when somebody connects to it.
    dovecot: Dovecot,
    pub site: Site,
    /// Takes the director's connections and never says a word.
    _mute: Option<TcpListener>,
}

/// Of which director.
struct Plan {
    kind: DirectorKind,
    backends: &'static [&'static str],
    /// In a ring of two.
    ring: bool,
}

impl Stand {
    /// Three backends, of which the last has the tag `t1`.
    pub fn new(kind: DirectorKind) -> Stand {
        Stand::on(
            Site::new(),
            Plan {
                kind,
                backends: &["11", "12", "13@t1"],
                ring: false,
            },
        )
    }

    /// A director in a ring whose other member is mute, so that the ring is never synced.
    pub fn unsynced(kind: DirectorKind) -> Stand {
        let site = Site::new();
        let mute = TcpListener::bind((site.address(2), RING_PORT)).expect("a free port");
        let plan = Plan {
            kind,
            backends: &["11"],
            ring: true,
        };
        Stand {
            _mute: Some(mute),
            ..Stand::on(site, plan)
        }
    }

    fn on(site: Site, plan: Plan) -> Stand {
        let users = site.path().join("users");
        fs::write(&users, passwd_file()).expect("a passwd file");
        let backend = |it: &&str| match it.split_once('@') {
            Some((host, tag)) => format!("{}@{tag}", site.address(host.parse().expect("a byte"))),
            None => site.address(it.parse().expect("a byte")).to_string(),
        };
        let backends: Vec<_> = plan.backends.iter().map(backend).collect();
        let backends = backends.join(" ");
        let seat = plan.ring.then(|| Seat {
            directors: vec![site.address(1), site.address(2)],
            port: RING_PORT,
            ping_idle: 30,
            ipv6: false,
        });
        let in_ring = |text: &dyn Fn(&Seat) -> String| seat.as_ref().map_or_else(String::new, text);
        let dovecot = Dovecot::start(&site, "dovecot", Version::V23, |dovecot| {
            let mut values = dovecot.values();
            values.extend([
                ("ADDRESS", site.address(1).to_string()),
                ("DIRECTORS", in_ring(&Seat::directors)),
                ("BACKENDS", backends.clone()),
                ("USERS", users.display().to_string()),
                (
                    "LISTENERS",
                    match plan.kind {
                        DirectorKind::Dovecot23 => listeners(&site, &seat),
                        DirectorKind::Homing => String::new(),
                    },
                ),
            ]);
            render(include_str!("director-2.3.conf"), &values)
        });
        let homing = (plan.kind == DirectorKind::Homing).then(|| {
            let homing = homing_beside(&site, &dovecot, backends, seat);
            // Where doveadm, and a settings file with this base_dir, ask for users.
            let own = homing.base().join("auth-userdb");
            symlink(dovecot.base().join("auth-userdb"), own).expect("a link to auth");
            homing
        });
        Stand {
            homing,
            dovecot,
            site,
            _mute: None,
        }
    }

    /// The director's base_dir.
    fn base(&self) -> PathBuf {
        let homing = self.homing.as_ref().map(Director::base);
        homing.unwrap_or_else(|| self.dovecot.base())
    }

    pub fn kind(&self) -> DirectorKind {
        match self.homing {
            Some(_) => DirectorKind::Homing,
            None => DirectorKind::Dovecot23,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.base().join("director-admin")
    }

    /// Has it listen on [`ADMIN_PORT`], as Dovecot does from the beginning.
    pub fn listen_on_tcp(&mut self) {
        let Some(homing) = &mut self.homing else {
            return;
        };
        let address = self.site.address(1);
        let listener = format!(
            "\n[[listener]]\ntype = \"admin\"\naddress = \"{address}:{ADMIN_PORT}\"\nallow = [\"127.0.0.0/8\"]\n"
        );
        homing.stop();
        let settings = fs::read_to_string(homing.settings()).expect("settings");
        fs::write(homing.settings(), settings + &listener).expect("settings");
        homing.run();
    }

    /// What the director has logged so far.
    pub fn log_text(&self) -> String {
        match &self.homing {
            Some(homing) => fs::read_to_string(homing.log()).expect("a log"),
            None => self.dovecot.log_text(),
        }
    }

    /// Address of a backend.
    pub fn backend(&self, number: u8) -> String {
        self.site.address(number).to_string()
    }

    /// Has all users looked up, so that each is assigned.
    pub fn log_in(&self) {
        let path = match &self.homing {
            Some(homing) => homing.sockets().userdb.clone(),
            None => self.dovecot.base().join("director-userdb"),
        };
        let stream = UnixStream::connect(path);
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
        let words = [&["director"], words].concat();
        match &self.homing {
            Some(homing) => homing.doveadm(&words),
            None => self.dovecot.doveadm(&words),
        }
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
        let base = self.base().display().to_string();
        let text = format!(
            "director_mail_servers = \"{}\"\nbase_dir = \"{base}\"\ndirector_user_expire = \"900 s\"\n{further}",
            self.backend(11)
        );
        fs::write(&file, text).expect("settings");
        file.display().to_string()
    }
}

/// Dovecot's listeners for others than this machine.
fn listeners(site: &Site, seat: &Option<Seat>) -> String {
    let address = site.address(1);
    let admin = format!(
        "  inet_listener tcp-admin {{\n    address = {address}\n    port = {ADMIN_PORT}\n  }}\n"
    );
    let ring = seat.as_ref().map(|seat| seat.dovecot_listener(address));
    admin + &ring.unwrap_or_default()
}

/// Homing with the auth of this Dovecot. Nobody counts or ends sessions, so that its commands print what they
/// print of a Dovecot.
fn homing_beside(site: &Site, dovecot: &Dovecot, backends: String, seat: Option<Seat>) -> Director {
    let socket = |name: &str| site.path().join(name);
    // Not by the name that has the rig look for the services that end sessions beside it.
    let auth_login = socket("auth");
    symlink(dovecot.base().join("auth-login"), &auth_login).expect("a link to auth");
    Director::start(
        site,
        DirectorSpec {
            kind: DirectorKind::Homing,
            placement: DirectorPlacement::Standalone,
            name: "homing".to_owned(),
            address: site.address(1),
            backends,
            expire: 900,
            sockets: Sockets {
                login: socket("login"),
                userdb: socket("userdb"),
                notify: socket("notify"),
                authreply: None,
            },
            auth_login,
            auth_userdb: dovecot.base().join("auth-userdb"),
            director_settings: "director_user_kick_delay = \"1 s\"\n".to_owned(),
            seat,
        },
    )
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
