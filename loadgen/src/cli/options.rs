//! The options of the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use loadgen::{
    Accounts, Amount, Connections, Error, Load, Plan, Popularity, Retry, Session, StubConfig,
    Target, Users,
};

#[derive(Args, Clone)]
pub(super) struct Stub {
    /// Listen here with the auth client protocol, as Dovecot's auth-login.
    #[arg(long, value_name = "PATH")]
    auth_stub: Option<PathBuf>,
    /// Listen here with the auth master protocol, as Dovecot's auth-userdb.
    #[arg(long, value_name = "PATH")]
    userdb_stub: Option<PathBuf>,
    /// Minor version of the auth client protocol: 2 in Dovecot 2.3, 3 and 4 in 2.4.
    #[arg(long, default_value_t = 2)]
    auth_minor: u32,
    /// A field to add to successful replies, such as director_tag=a. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    auth_field: Vec<String>,
    /// Director tags, with commas between: the stub gives every user one of them, always the same.
    #[arg(long, value_name = "TAG,TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// Share of logins that auth refuses, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    fail_share: f64,
}

#[derive(Args)]
pub(super) struct Run {
    /// What to drive: login:PATH, userdb:PATH, authreply:PATH, or a mail server or proxy as
    /// imap:HOST:PORT, imaps:, imap-starttls:, pop3:, pop3s:, pop3-starttls:. Can be repeated:
    /// several doors to one service, such as the directors of a ring.
    #[arg(long = "target", required = true)]
    targets: Vec<Target>,
    #[command(flatten)]
    stub: Stub,
    /// Connections; with --connection-per-login, how many at a time.
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// Requests in flight on each connection [default: 32; open loop: 1024, as a limit].
    #[arg(long)]
    in_flight: Option<u32>,
    /// Open loop: logins per second. Without it a login follows a reply.
    #[arg(long)]
    rate: Option<f64>,
    /// Let --rate rise or fall evenly to this within the measured time.
    #[arg(long, requires = "rate", value_name = "RATE")]
    ramp_to: Option<f64>,
    /// A login storm: every known user comes back once within this many seconds.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["rate", "lookups", "new_users"])]
    storm: Option<f64>,
    /// Handshake, one request, close. Mail sessions are always so.
    #[arg(long)]
    connection_per_login: bool,
    /// Known users, chosen at random [default: 100000, or all in --accounts].
    #[arg(long)]
    users: Option<u32>,
    /// Choose known users by Zipf's law with this exponent, not uniformly.
    #[arg(long, value_name = "EXPONENT")]
    zipf: Option<f64>,
    /// Share of logins of users never seen before, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    new_share: f64,
    /// New users only, numbered from this.
    #[arg(long, value_name = "FIRST", conflicts_with = "users")]
    new_users: Option<u32>,
    /// The known users are known to the director already: do not log all of them in first. With
    /// mail sessions that is never done.
    #[arg(long)]
    no_preload: bool,
    /// User names begin with this.
    #[arg(long, default_value = "user")]
    prefix: String,
    /// User names end with this, such as @example.com.
    #[arg(long, default_value = "")]
    suffix: String,
    /// Every user's password; {n} in it is the user's number. Others on this machine can see it:
    /// real passwords belong into --accounts.
    #[arg(long, default_value = "pw", hide_default_value = true)]
    password: String,
    /// Users and passwords from this file: lines of NAME:PASSWORD.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["suffix", "password", "new_users"])]
    accounts: Option<PathBuf>,
    /// Share of logins with a wrong password, which must be refused, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    wrong_password_share: f64,
    /// Take any user= in replies: auth gives users other names than they log in with.
    #[arg(long)]
    any_reply_user: bool,
    /// How often a client tries again whose login failed by no fault of its own.
    #[arg(long, default_value_t = 0)]
    retries: u8,
    /// Seconds before the second try; they double with each, varied by half.
    #[arg(long, default_value_t = 1.0)]
    backoff: f64,
    /// The wait between tries grows no longer than this many seconds.
    #[arg(long, default_value_t = 30.0)]
    backoff_max: f64,
    #[command(flatten)]
    session: SessionArgs,
    /// Seed of the choice of users.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measured time.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Measured lookups, instead of a time.
    #[arg(long, conflicts_with = "seconds")]
    lookups: Option<u64>,
    /// Unmeasured seconds before.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// The whole run ends after this many seconds at the latest.
    #[arg(long, default_value_t = 600.0)]
    time_limit: f64,
    /// Give up after this many seconds without any reply.
    #[arg(long, default_value_t = 65.0)]
    reply_timeout: f64,
    /// Measure CPU time and memory of this process: the director's. Can be repeated; several are
    /// summed.
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// Pin the generator to this CPU.
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,
    /// Do not expect a host in replies: the target is a plain relay.
    #[arg(long)]
    no_host: bool,
    /// Keep latencies for each interval of this many seconds.
    #[arg(long, default_value_t = 1.0)]
    interval: f64,
    /// Write the result to this file as well, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the latencies to this file as a percentile distribution of HdrHistogram.
    #[arg(long, value_name = "FILE")]
    pub(super) hgrm: Option<PathBuf>,
    /// Write the latencies to this file as an interval log of HdrHistogram.
    #[arg(long, value_name = "FILE")]
    pub(super) hlog: Option<PathBuf>,
    /// Draw the latencies into this file, .svg or .png.
    #[cfg(feature = "pictures")]
    #[arg(long, value_name = "FILE")]
    pub(super) picture: Option<PathBuf>,
}

/// What is done in mail sessions.
#[derive(Args)]
struct SessionArgs {
    /// Mail: hold each session for this many seconds, in IMAP in IDLE.
    #[arg(long, default_value_t = 0.0)]
    hold: f64,
    /// Mail: a client waits this many seconds at most until it is logged in.
    #[arg(long, default_value_t = 60.0)]
    login_timeout: f64,
    /// Mail: backends give their address after this text, in the reply to the login or to ID or
    /// CAPA. Without it the same-user-same-backend check cannot be made.
    #[arg(long, value_name = "TEXT")]
    backend_mark: Option<String>,
    /// TLS: trust the certificates in this file (PEM).
    #[arg(long, value_name = "FILE", conflicts_with = "tls_any")]
    tls_ca: Option<PathBuf>,
    /// TLS: trust any certificate.
    #[arg(long)]
    tls_any: bool,
    /// TLS: the server's name, if it is not the target's.
    #[arg(long, value_name = "NAME")]
    tls_name: Option<String>,
}

impl SessionArgs {
    fn session(&self) -> Result<Session, Error> {
        Ok(Session {
            hold: seconds("--hold", self.hold)?,
            login_timeout: seconds("--login-timeout", self.login_timeout)?,
            backend_mark: self.backend_mark.clone(),
            tls_ca: self.tls_ca.clone(),
            tls_any: self.tls_any,
            tls_name: self.tls_name.clone(),
        })
    }
}

impl Stub {
    pub(super) fn config(self) -> StubConfig {
        StubConfig {
            login: self.auth_stub,
            userdb: self.userdb_stub,
            minor: self.auth_minor,
            fields: self.auth_field,
            tags: self.tags,
            fail_share: self.fail_share,
        }
    }
}

impl Run {
    /// The plan that the options ask for.
    pub(super) fn plan(&self) -> Result<Plan, Error> {
        let first = self.targets.first().ok_or_else(|| Error::Plan {
            setting: "--target",
            problem: "there is none".to_owned(),
            right: "at least one",
        })?;
        let defaults = Plan::new(first.clone());
        let lifetime = if self.connection_per_login || defaults.is_mail() {
            Connections::PerLogin
        } else {
            Connections::Kept
        };
        let load = self.load()?;
        let in_flight = match (lifetime, load) {
            (Connections::PerLogin, _) => 1,
            (Connections::Kept, Load::Closed) => 32,
            (Connections::Kept, _) => 1024,
        };
        let accounts = self.accounts.as_deref().map(Accounts::read).transpose()?;
        let all = accounts.as_ref().map_or(100_000, |list| list.len() as u32);
        let known = Users::Known {
            count: self.users.unwrap_or(all),
            preload: !self.no_preload && !defaults.is_mail(),
        };
        let stub = self.stub.clone().config();
        let time = seconds("--seconds", self.seconds)?;
        Ok(Plan {
            targets: self.targets.clone(),
            stub_auth: (stub.login.is_some() || stub.userdb.is_some()).then_some(stub),
            connections: self.connections,
            in_flight: self.in_flight.unwrap_or(in_flight),
            load,
            lifetime,
            users: self.new_users.map_or(known, |first| Users::New { first }),
            prefix: self.prefix.clone(),
            suffix: self.suffix.clone(),
            password: self.password.clone(),
            accounts,
            popularity: self
                .zipf
                .map_or(Popularity::Uniform, |exponent| Popularity::Zipf {
                    exponent,
                }),
            new_share: self.new_share,
            wrong_share: self.wrong_password_share,
            any_reply_user: self.any_reply_user,
            retry: Retry {
                times: self.retries,
                first: seconds("--backoff", self.backoff)?,
                longest: seconds("--backoff-max", self.backoff_max)?,
            },
            session: self.session.session()?,
            seed: self.seed,
            amount: self.lookups.map_or(Amount::Time(time), Amount::Lookups),
            warm_up: seconds("--warm-up", self.warm_up)?,
            time_limit: seconds("--time-limit", self.time_limit)?,
            reply_timeout: seconds("--reply-timeout", self.reply_timeout)?,
            pids: self.pids.clone(),
            pin: self.pin,
            interval: seconds("--interval", self.interval)?,
            expect_host: !self.no_host,
        })
    }

    fn load(&self) -> Result<Load, Error> {
        Ok(match (self.storm, self.rate, self.ramp_to) {
            (Some(within), ..) => Load::Storm {
                within: seconds("--storm", within)?,
            },
            (None, Some(from), Some(to)) => Load::Ramp { from, to },
            (None, Some(rate), None) => Load::Open { rate },
            (None, None, _) => Load::Closed,
        })
    }
}

fn seconds(setting: &'static str, value: f64) -> Result<Duration, Error> {
    let time = Duration::try_from_secs_f64(value)
        .ok()
        .filter(|time| time.as_secs() <= 86_400);
    time.ok_or_else(|| Error::Plan {
        setting,
        problem: format!("{value} seconds"),
        right: "from 0 to 86400",
    })
}
