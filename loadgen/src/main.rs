//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use loadgen::{
    Amount, Bar, Connections, Error, Load, Plan, Report, StubAuth, StubConfig, Target, Users,
};

/// A check did not hold.
const FAILED: u8 = 1;
/// The run could not be made.
const UNUSABLE: u8 = 2;

#[derive(Parser)]
#[command(
    version,
    about = "Drives a mail director with logins, checks every reply, measures"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Drive a director.
    Run(Box<Run>),
    /// Serve as auth server behind a director: any user, any password, always proxied.
    StubAuth {
        #[command(flatten)]
        stub: Stub,
        /// End after this many seconds.
        #[arg(long, default_value_t = 3600)]
        seconds: u64,
    },
}

#[derive(Args)]
struct Stub {
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
    /// Share of logins that auth refuses, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    fail_share: f64,
}

#[derive(Args)]
struct Run {
    /// What to drive: login:PATH, userdb:PATH or authreply:PATH.
    #[arg(long)]
    target: Target,
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
    /// Handshake, one request, close.
    #[arg(long)]
    connection_per_login: bool,
    /// Known users, chosen at random.
    #[arg(long, default_value_t = 100_000)]
    users: u32,
    /// New users only, numbered from this.
    #[arg(long, value_name = "FIRST", conflicts_with = "users")]
    new_users: Option<u32>,
    /// The known users are known to the director already: do not log all of them in first.
    #[arg(long)]
    no_preload: bool,
    /// User names begin with this.
    #[arg(long, default_value = "user")]
    prefix: String,
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
    /// Measure CPU time and memory of this process: the director's.
    #[arg(long)]
    pid: Option<u32>,
    /// Pin the generator to this CPU.
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,
    /// Do not expect a host in replies: the target is a plain relay.
    #[arg(long)]
    no_host: bool,
    /// Write the result to this file as well, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Stub {
    fn config(self) -> StubConfig {
        StubConfig {
            login: self.auth_stub,
            userdb: self.userdb_stub,
            minor: self.auth_minor,
            fields: self.auth_field,
            fail_share: self.fail_share,
        }
    }
}

impl Run {
    fn plan(self) -> Result<Plan, Error> {
        let lifetime = if self.connection_per_login {
            Connections::PerLogin
        } else {
            Connections::Kept
        };
        let in_flight = match (lifetime, self.rate) {
            (Connections::PerLogin, _) => 1,
            (Connections::Kept, None) => 32,
            (Connections::Kept, Some(_)) => 1024,
        };
        let known = Users::Known {
            count: self.users,
            preload: !self.no_preload,
        };
        let stub = self.stub.config();
        let time = seconds("--seconds", self.seconds)?;
        Ok(Plan {
            stub_auth: (stub.login.is_some() || stub.userdb.is_some()).then_some(stub),
            connections: self.connections,
            in_flight: self.in_flight.unwrap_or(in_flight),
            load: self.rate.map_or(Load::Closed, |rate| Load::Open { rate }),
            lifetime,
            users: self.new_users.map_or(known, |first| Users::New { first }),
            prefix: self.prefix,
            seed: self.seed,
            amount: self.lookups.map_or(Amount::Time(time), Amount::Lookups),
            warm_up: seconds("--warm-up", self.warm_up)?,
            time_limit: seconds("--time-limit", self.time_limit)?,
            reply_timeout: seconds("--reply-timeout", self.reply_timeout)?,
            pid: self.pid,
            pin: self.pin,
            expect_host: !self.no_host,
            ..Plan::new(self.target)
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

fn drive(arguments: Run) -> Result<Report, Error> {
    let json = arguments.json.clone();
    let plan = arguments.plan()?;
    let bar = Bar::new();
    let report = loadgen::run(&plan, |progress| bar.show(progress));
    bar.clear();
    let report = report?;
    if let Some(path) = json {
        let written = serde_json::to_vec_pretty(&report).map_err(std::io::Error::from);
        let written = written.and_then(|text| std::fs::write(&path, text));
        written.map_err(|error| Error::Plan {
            setting: "--json",
            problem: format!("cannot write {}: {error}", path.display()),
            right: "a path that can be written",
        })?;
    }
    Ok(report)
}

fn main() -> ExitCode {
    let failed = |error: Error| {
        eprintln!("loadgen: {error}");
        ExitCode::from(UNUSABLE)
    };
    match Arguments::parse().command {
        Command::Run(arguments) => match drive(*arguments) {
            Ok(report) => {
                println!("{report}");
                if report.passed() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::from(FAILED)
                }
            }
            Err(error) => failed(error),
        },
        Command::StubAuth { stub, seconds } => match StubAuth::spawn(&stub.config()) {
            Ok(_serving) => {
                std::thread::sleep(Duration::from_secs(seconds.min(86_400)));
                ExitCode::SUCCESS
            }
            Err(error) => failed(error),
        },
    }
}
