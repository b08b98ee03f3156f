//! What to do to whom: everything that is decided before a run begins.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::stub_auth::StubConfig;

/// Requests in flight on one connection. Beyond this the slot number would eat into the bits that
/// tell a request id from its predecessors.
pub const MAX_IN_FLIGHT: u32 = 1 << 16;
/// Connections of one run; the usual descriptor limits end far below.
pub const MAX_CONNECTIONS: u32 = 1 << 17;
/// Users of one run: two bytes each are kept for the check that none moves.
pub const MAX_USERS: u32 = 1 << 30;

/// What is driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A director's login socket: auth client protocol, an auth server is needed behind it.
    Login(PathBuf),
    /// A director's userdb socket: `PASS` lookups of LMTP and doveadm.
    Userdb(PathBuf),
    /// A director's authreply socket: it is sent auth's replies and adds the host; no auth needed.
    Authreply(PathBuf),
}

impl Target {
    /// The socket.
    pub fn path(&self) -> &PathBuf {
        match self {
            Self::Login(path) | Self::Userdb(path) | Self::Authreply(path) => path,
        }
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let right = "expected login:PATH, userdb:PATH or authreply:PATH";
        let (kind, path) = text.split_once(':').ok_or(right)?;
        if path.is_empty() {
            return Err(format!("the path is empty; {right}"));
        }
        match kind {
            "login" => Ok(Self::Login(path.into())),
            "userdb" => Ok(Self::Userdb(path.into())),
            "authreply" => Ok(Self::Authreply(path.into())),
            _ => Err(format!("unknown kind of target \"{kind}\"; {right}")),
        }
    }
}

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
    /// Users `0..count`, uniformly at random.
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
    /// What is driven.
    pub target: Target,
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
    /// Measure CPU time and memory of this process.
    pub pid: Option<u32>,
    /// Pin the generator's thread to this CPU.
    pub pin: Option<usize>,
    /// Replies must carry a host. False only for a plain relay, which adds none.
    pub expect_host: bool,
}

impl Plan {
    /// A closed loop over 16 connections of 32 requests each, 100,000 known users, 5 seconds.
    pub fn new(target: Target) -> Self {
        Self {
            target,
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
            seed: 1,
            amount: Amount::Time(Duration::from_secs(5)),
            warm_up: Duration::from_millis(500),
            time_limit: Duration::from_secs(600),
            // Longer than any director lets a lookup wait: Dovecot's up to 60 seconds by queue.
            reply_timeout: Duration::from_secs(65),
            pid: None,
            pin: None,
            expect_host: true,
        }
    }

    /// What is wrong with this plan, if anything.
    pub fn check(&self) -> Result<(), Error> {
        within(
            "--connections",
            u64::from(self.connections),
            u64::from(MAX_CONNECTIONS),
        )?;
        within(
            "--in-flight",
            u64::from(self.in_flight),
            u64::from(MAX_IN_FLIGHT),
        )?;
        match self.users {
            Users::Known { count, .. } => within("--users", count.into(), MAX_USERS.into())?,
            Users::New { first } => within("--new-users", u64::from(first) + 1, MAX_USERS.into())?,
        }
        self.check_amount()?;
        if self.lifetime == Connections::PerLogin && self.in_flight != 1 {
            return Err(Error::Plan {
                setting: "--in-flight",
                problem: format!(
                    "{} requests on a connection that carries one",
                    self.in_flight
                ),
                right: "with one connection per login it is 1; --connections says how many at a time",
            });
        }
        if !self.prefix.bytes().all(|byte| byte.is_ascii_graphic()) || self.prefix.len() > 64 {
            return Err(Error::Plan {
                setting: "--prefix",
                problem: format!("{:?} cannot begin a user name", self.prefix),
                right: "at most 64 printable ASCII characters without spaces",
            });
        }
        Ok(())
    }

    fn check_amount(&self) -> Result<(), Error> {
        if let Load::Open { rate } = self.load
            && !(1.0..=1e8).contains(&rate)
        {
            return Err(Error::Plan {
                setting: "--rate",
                problem: format!("{rate} logins per second"),
                right: "from 1 to 100,000,000",
            });
        }
        let empty = match self.amount {
            Amount::Time(time) => time.is_zero(),
            Amount::Lookups(count) => count == 0,
        };
        if empty {
            return Err(Error::Plan {
                setting: "--seconds or --lookups",
                problem: "nothing to measure".to_owned(),
                right: "more than 0",
            });
        }
        if let Amount::Time(time) = self.amount
            && time + self.warm_up > self.time_limit
        {
            return Err(Error::Plan {
                setting: "--seconds",
                problem: "the measured time ends after the time limit".to_owned(),
                right: "at most --time-limit less the warm-up",
            });
        }
        Ok(())
    }
}

fn within(setting: &'static str, value: u64, max: u64) -> Result<(), Error> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    let problem = format!("{value} is outside 1 to {max}");
    Err(Error::Plan {
        setting,
        problem,
        right: "a number in that range",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        assert_eq!("login:/a:b".parse(), Ok(Target::Login("/a:b".into())));
        assert!("login:".parse::<Target>().unwrap_err().contains("empty"));
        assert!(
            "imap:/a"
                .parse::<Target>()
                .unwrap_err()
                .contains("unknown kind")
        );
    }

    #[test]
    fn contradictions_are_named() {
        let plan = Plan::new(Target::Login("/a".into()));
        assert!(plan.check().is_ok());
        let refused = |plan: Plan| plan.check().unwrap_err().to_string();
        assert!(
            refused(Plan {
                connections: 0,
                ..plan.clone()
            })
            .contains("--connections")
        );
        assert!(
            refused(Plan {
                load: Load::Open { rate: 0.0 },
                ..plan.clone()
            })
            .contains("--rate")
        );
        assert!(
            refused(Plan {
                prefix: "a\tb".into(),
                ..plan.clone()
            })
            .contains("--prefix")
        );
        let per_login = Plan {
            lifetime: Connections::PerLogin,
            ..plan
        };
        assert!(refused(per_login).contains("--in-flight"));
    }
}
