//! A director alone, with HTTP on an address and on a path.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::client::{Answer, At, Request};
use crate::e2e::seat::Seat;
use crate::e2e::{
    Director, DirectorKind, DirectorPlacement, DirectorSpec, PATIENCE, Site, Sockets, StubAuth,
    wait_until,
};

pub const READ: &str = "a-token-that-may-only-read-0123456789";
pub const ADMIN: &str = "a-token-that-may-do-everything-0123456789";
pub const WRONG: &str = "a-token-that-nobody-has-0123456789";
const PORT: u16 = 8080;

/// A director without others, and what belongs to it. Its backends are only names.
pub struct Stage {
    // Before the site, which looks at the logs when it is dropped.
    pub director: Director,
    pub site: Site,
}

impl Stage {
    /// Backends 127.61.0.11 to 127.61.0.13 and, with tag t1, 127.61.0.14.
    pub fn start() -> Stage {
        Stage::with("")
    }

    /// The same with more settings.
    pub fn with(settings: &str) -> Stage {
        let site = Site::new();
        prepare(&site);
        let director = Director::start(&site, spec(&site, 1, settings, None));
        Stage { director, site }
    }

    /// The first of three directors, and the others. The backends are six; those that `settings` checks are
    /// checked by all.
    pub fn in_ring(settings: &str) -> (Stage, Vec<Director>) {
        let site = Site::new();
        prepare(&site);
        let seat = Seat {
            directors: (1..=3).map(|number| site.address(number)).collect(),
            port: 9090,
            ping_idle: 30,
            ipv6: false,
        };
        let start = |number| {
            let health = format!(
                "{settings}[[listener]]\ntype = \"health\"\naddress = \"{}:9092\"\n",
                site.address(number)
            );
            let mut spec = spec(&site, number, &health, Some(seat.clone()));
            spec.backends = "127.61.0.11-127.61.0.15 127.61.0.16@archive".to_owned();
            Director::start(&site, spec)
        };
        let director = start(1);
        let others = vec![start(2), start(3)];
        let stage = Stage { director, site };
        wait_until("the ring is synced", PATIENCE, || {
            let status = stage.get("/api/v1/status");
            status["synced"] == true && status["alone"] == false
        });
        (stage, others)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.site.address(1).into(), PORT)
    }

    pub fn tcp(&self) -> At {
        At::Tcp(self.address())
    }

    pub fn path(&self) -> At {
        At::Unix(self.site.path().join("http"))
    }

    /// Has users `user0` and so on looked up.
    pub fn log_in(&self, count: usize) {
        let names: Vec<_> = (0..count).map(|at| format!("user{at}")).collect();
        let users: Vec<_> = names.iter().map(|name| (name.as_bytes(), "")).collect();
        let hosts = StubAuth::ask(&self.director.sockets().login, &users);
        assert!(hosts.iter().all(Option::is_some), "{hosts:?}");
    }

    /// Asks over TCP with the token of an administrator.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        Request::new(method, path)
            .token(ADMIN)
            .body(body)
            .send(&self.tcp())
    }

    /// A document that must be there.
    #[track_caller]
    pub fn get(&self, path: &str) -> serde_json::Value {
        self.admin("GET", path, "").expect(200).json()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.director.log()).expect("the log")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.site.path().join(name)
    }
}

fn prepare(site: &Site) {
    StubAuth::start(&site.path().join("auth"));
    let tokens = site.path().join("tokens");
    let file = format!("# who\nscraper read {READ}\nann admin {ADMIN}\n");
    fs::write(&tokens, file).expect("a file of tokens");
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).expect("its mode");
}

fn spec(site: &Site, number: u8, settings: &str, seat: Option<Seat>) -> DirectorSpec {
    let socket = |name: &str| match number {
        1 => site.path().join(name),
        number => site.path().join(format!("{name}{number}")),
    };
    let auth = site.path().join("auth");
    DirectorSpec {
        kind: DirectorKind::Homing,
        placement: DirectorPlacement::Standalone,
        name: format!("director{number}"),
        address: site.address(number),
        backends: "127.61.0.11 127.61.0.12 127.61.0.13 127.61.0.14@t1".to_owned(),
        expire: 900,
        sockets: Sockets {
            login: socket("login"),
            userdb: socket("userdb"),
            notify: socket("notify"),
            authreply: None,
        },
        auth_login: auth.clone(),
        auth_userdb: auth,
        director_settings: format!(
            "http_tokens = {:?}\n{settings}\n\
             [[listener]]\ntype = \"http\"\naddress = \"{}:{PORT}\"\nallow = [\"127.0.0.0/8\"]\n\
             [[listener]]\ntype = \"http\"\npath = {:?}\n",
            site.path().join("tokens"),
            site.address(number),
            socket("http"),
        ),
        seat,
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let log = self.log();
            for token in [READ, ADMIN, WRONG] {
                assert!(!log.contains(token), "a token is in the log");
            }
        }
    }
}
