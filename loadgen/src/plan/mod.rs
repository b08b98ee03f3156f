//! What to do to whom: everything that is decided before a run begins.

mod check;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::accounts::Accounts;
use crate::stub_auth::StubConfig;
pub use target::{MailProtocol, MailTarget, Security, Target};

/// Requests in flight on one connection. Beyond this the slot number would eat into the bits that
/// tell a request id from its predecessors.
pub const MAX_IN_FLIGHT: u32 = 1 << 16;
/// Connections of one run; the usual descriptor limits end far below.
pub const MAX_CONNECTIONS: u32 = 1 << 17;
/// Targets of one run; more directors than any ring has.
pub const MAX_TARGETS: usize = 64;
/// Intervals of one run: a day of seconds.
pub const MAX_INTERVALS: u64 = 86_400;
/// Logins of one storm: the moment of each is kept.
pub const MAX_STORM: u32 = 1 << 24;
/// Users of one run: two bytes each are kept for the check that none moves.
pub const MAX_USERS: u32 = 1 << 30;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// As soon as a request in flight is answered.
    Closed,
    /// At a fixed rate, whatever the target does. Latency counts from the intended start, so a
    /// stall shows in every request that it delayed.
    Open {
        /// Arrivals per second, all connections together.
        rate: f64,
    },
    /// An open loop whose rate goes evenly from one to another in the measured time.
    Ramp {
        /// Arrivals per second at the beginning, and in the warm-up.
        from: f64,
        /// Arrivals per second at the end.
        to: f64,
    },
    /// Every known user comes back once, at a random moment within a time: what follows when a
    /// backend, a line or a proxy was gone.
    Storm {
        /// The time.
        within: Duration,
    },
}

/// Which of the known users logs in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Popularity {
    /// Each as often as any other.
    Uniform,
    /// The user at rank n logs in by 1/n^exponent as often as the first.
    Zipf {
        /// Above 0; 1 is the classic.
        exponent: f64,
    },
}

/// What a client does whose login failed by no fault of its own: a temporary failure, or a
/// connection that could not be made, was broken or did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// How often it tries again; 0 is never, and then every failure is an error.
    pub times: u8,
    /// The wait before the second try; it doubles with each, and is then varied by half.
    pub first: Duration,
    /// The wait grows no further.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            times: 0,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
        }
    }
}

/// What is done in a mail session.
#[derive(Clone, Debug, Serialize)]
pub struct Session {
    /// How long a session is held after the login; in IMAP in `IDLE`.
    pub hold: Duration,
    /// From the (intended) start of one attempt to the end of its login, at most.
    pub login_timeout: Duration,
    /// Text after which a backend's address stands in its replies after the login. With it the
    /// same-user-same-backend check is made: of a proxy nothing else tells where a session is.
    pub backend_mark: Option<String>,
    /// Certificates (PEM) that are trusted with TLS.
    pub tls_ca: Option<PathBuf>,
    /// With TLS: trust any certificate.
    pub tls_any: bool,
    /// With TLS: the server's name, if it is not the target's.
    pub tls_name: Option<String>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            hold: Duration::ZERO,
            login_timeout: Duration::from_secs(60),
            backend_mark: None,
            tls_ca: None,
            tls_any: false,
            tls_name: None,
        }
    }
}

/// How long the connections live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Connections {
    /// Opened once; each carries many logins.
    Kept,
    /// Handshake, one request, close. Latency includes connecting and the handshake.
    PerLogin,
}

/// Who logs in. Names are the prefix and a decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Users {
    /// Users `0..count`, at random.
    Known {
        /// How many there are.
        count: u32,
        /// Log each of them in once before anything is measured.
        preload: bool,
    },
    /// Each login is of a user never seen before: `first`, `first + 1`, and so on.
    New {
        /// The first number. A director that is driven again needs another.
        first: u32,
    },
}

/// When the measured part ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// After this time.
    Time(Duration),
    /// After this many lookups, or at the plan's time limit.
    Lookups(u64),
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// What is driven: several are several doors to one service, such as the directors of a ring,
    /// and a user must be on the same backend whichever he comes in by.
    pub targets: Vec<Target>,
    /// A stub auth server to run in the generator's own thread: the least overhead on a machine
    /// with few cores. `None`: an auth server runs elsewhere, or none is needed.
    pub stub_auth: Option<StubConfig>,
    /// Connections; with [`Connections::PerLogin`], how many logins at a time.
    pub connections: u32,
    /// Requests in flight on each connection; in an open loop, at most.
    pub in_flight: u32,
    /// When requests are sent.
    pub load: Load,
    /// How long connections live.
    pub lifetime: Connections,
    /// Who logs in.
    pub users: Users,
    /// User names begin with this. Printable ASCII.
    pub prefix: String,
    /// User names end with this, such as `@example.com`. Printable ASCII.
    pub suffix: String,
    /// Every user's password; `{n}` in it is the user's number. Never written to a result.
    #[serde(skip)]
    pub password: String,
    /// Names and passwords from a file, instead of prefix, suffix and password.
    pub accounts: Option<Accounts>,
    /// Which of the known users logs in.
    pub popularity: Popularity,
    /// Share of logins of users never seen before, among those of known users: 0 to 1.
    pub new_share: f64,
    /// Share of logins with a wrong password, which must be refused: 0 to 1.
    pub wrong_share: f64,
    /// Take any `user=` in replies: auth gives users other names than they log in with.
    pub any_reply_user: bool,
    /// What clients do whose login failed.
    pub retry: Retry,
    /// What is done in a mail session.
    pub session: Session,
    /// Seed of the choice of users.
    pub seed: u64,
    /// When the measured part ends.
    pub amount: Amount,
    /// Unmeasured time before.
    pub warm_up: Duration,
    /// The whole run ends here at the latest.
    pub time_limit: Duration,
    /// Without any reply for this long while some are due, the run ends and they count as lost.
    pub reply_timeout: Duration,
    /// Measure CPU time and memory of these processes, together.
    pub pids: Vec<u32>,
    /// Pin the generator's thread to this CPU.
    pub pin: Option<usize>,
    /// Latencies are also kept for each interval of this length, for the interval log and the
    /// picture over time.
    pub interval: Duration,
    /// Replies must carry a host. False only for a plain relay, which adds none.
    pub expect_host: bool,
}

impl Plan {
    /// A closed loop over 16 connections of 32 requests each, 100,000 known users, 5 seconds.
    pub fn new(target: Target) -> Self {
        Self {
            targets: vec![target],
            stub_auth: None,
            connections: 16,
            in_flight: 32,
            load: Load::Closed,
            lifetime: Connections::Kept,
            users: Users::Known {
                count: 100_000,
                preload: true,
            },
            prefix: "user".to_owned(),
            suffix: String::new(),
            password: "pw".to_owned(),
            accounts: None,
            popularity: Popularity::Uniform,
            new_share: 0.0,
            wrong_share: 0.0,
            any_reply_user: false,
            retry: Retry::default(),
            session: Session::default(),
            seed: 1,
            amount: Amount::Time(Duration::from_secs(5)),
            warm_up: Duration::from_millis(500),
            time_limit: Duration::from_secs(600),
            // Longer than any director lets a lookup wait: Dovecot's up to 60 seconds by queue.
            reply_timeout: Duration::from_secs(65),
            pids: Vec::new(),
            pin: None,
            interval: Duration::from_secs(1),
            expect_host: true,
        }
    }
}
