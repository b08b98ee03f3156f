//! Logins without a break, while one process after the other takes over.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use loadgen::{
    Amount, Connections, Load, Plan, Progress, Report, StubAuth, StubConfig, Target, Users,
};

use crate::line::Line;
use crate::rig::peer::host;
use crate::rig::{Peer, Site, wait_until};

const ROUNDS: usize = 20;
const USERS: u32 = 2_000;

/// Logins from one thread, of which none may fail, and whose users must never be seen on two backends.
pub struct Logins {
    stop: Arc<AtomicBool>,
    replies: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Logins {
    pub fn begin(plan: Plan) -> Logins {
        let (stop, replies) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&replies));
        let thread = std::thread::spawn(move || {
            let mut before = 0;
            while !told.load(Ordering::SeqCst) {
                let count = |progress: &Progress| {
                    counted.store(before + progress.replies, Ordering::SeqCst);
                };
                let report: Report = loadgen::run(&plan, count).expect("a run");
                assert!(report.passed(), "{report}");
                assert_eq!(report.users_moved, 0, "{report}");
                before += report.lookups;
            }
        });
        Logins {
            stop,
            replies,
            thread,
        }
    }

    /// Waits until there were some more.
    pub fn go_on(&self) {
        let seen = self.replies.load(Ordering::SeqCst);
        wait_until("logins go on", || {
            // Whoever ends has seen something wrong.
            assert!(!self.thread.is_finished(), "see above");
            self.replies.load(Ordering::SeqCst) > seen + 20
        });
    }

    pub fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("no failed login");
    }
}

pub fn plan(target: Target, lifetime: Connections) -> Plan {
    Plan {
        connections: 8,
        in_flight: if lifetime == Connections::Kept { 4 } else { 1 },
        load: Load::Open { rate: 400.0 },
        lifetime,
        users: Users::Known {
            count: USERS,
            preload: false,
        },
        prefix: "user".to_owned(),
        amount: Amount::Time(Duration::from_secs(4)),
        warm_up: Duration::ZERO,
        reply_timeout: Duration::from_secs(30),
        ..Plan::new(target)
    }
}

/// Where every hundredth user is.
fn places(login: &Path) -> Vec<String> {
    let mut client = Peer::login(login);
    let users = (0..USERS).step_by(100);
    let asks = users.map(|user| {
        client.send(format!(
            "AUTH\t{}\tPLAIN\tservice=imap\tresp={}\n",
            user + 1,
            base64(&format!("\0user{user}\0pass"))
        ));
        let reply = client.line();
        host(&reply).unwrap_or_else(|| panic!("{reply}")).to_owned()
    });
    asks.collect()
}

/// For SASL PLAIN.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for piece in text.as_bytes().chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(*piece.get(at).unwrap_or(&0)));
        let bits = a << 16 | b << 8 | c;
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= piece.len() {
                digit as char
            } else {
                '='
            });
        }
    }
    out
}

#[test]
fn twenty_times_under_load_no_login_fails_and_no_user_moves() {
    let mut line = Line::start(Site::new().set("log_level", "\"info\""));
    let at = |name| line.site.path(name);
    let _auth = StubAuth::spawn(&StubConfig {
        login: Some(at("auth-login")),
        userdb: Some(at("auth-userdb")),
        ..StubConfig::default()
    })
    .expect("a stub auth");
    let before = places(&line.login());
    let login = Target::Login(line.login());
    let loads = [
        plan(login.clone(), Connections::Kept),
        plan(login, Connections::PerLogin),
        plan(Target::Userdb(at("userdb-socket")), Connections::Kept),
        plan(Target::Authreply(at("authreply-socket")), Connections::Kept),
    ];
    let loads = loads.map(Logins::begin);
    for _ in 0..ROUNDS {
        loads.iter().for_each(Logins::go_on);
        line.upgrade();
    }
    loads.iter().for_each(Logins::go_on);
    loads.into_iter().for_each(Logins::end);
    assert_eq!(places(&line.login()), before);
    let log = line.stop();
    let told = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(told("logins stood still for"), ROUNDS, "{log}");
    let still = log
        .lines()
        .filter_map(|line| line.split_once("has taken over "));
    still.for_each(|(_, text)| eprintln!("{text}"));
}
