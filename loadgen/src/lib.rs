//! Load generator for mail directors: drives a director's sockets with logins, checks every reply,
//! and measures latency and what the director's process uses.
//!
//! [`run`] executes one [`Plan`] and gives a [`Report`], which prints as a table and serialises as
//! JSON. [`StubAuth`] is the auth server to put behind the director, so that only the director is
//! measured.
//!
//! ```no_run
//! use loadgen::{Plan, StubConfig, Target};
//!
//! let mut plan = Plan::new(Target::Login("/run/dovecot/login/director".into()));
//! plan.stub_auth = Some(StubConfig {
//!     login: Some("/run/dovecot/auth-login".into()),
//!     ..StubConfig::default()
//! });
//! let report = loadgen::run(&plan, |progress| eprintln!("{} replies", progress.replies))?;
//! println!("{report}");
//! assert!(report.passed());
//! # Ok::<(), loadgen::Error>(())
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `plan` | what to do to whom |
//! | `workload` | who logs in next, and when |
//! | `client`, `lines`, `names`, `reply` | one connection, and its lines |
//! | `engine` | the event loop |
//! | `tally`, `check`, `record`, `process` | what is noted |
//! | `report` | what is told |
//! | `stub_auth` | the auth server |
//! | `clock`, `pin`, `rng` | the machine |

mod accounts;
mod bar;
mod check;
mod client;
mod clock;
mod engine;
mod error;
mod lines;
mod lookups;
mod machine;
mod mail;
mod names;
mod pin;
mod plan;
mod process;
mod record;
mod reply;
mod report;
mod rng;
pub mod stub_auth;
mod tally;
mod workload;
mod zipf;

pub use accounts::Accounts;
pub use bar::Bar;
pub use check::{Backend, Errors};
pub use error::Error;
pub use machine::Machine;
pub use pin::pin_this_thread;
pub use plan::{
    Amount, Connections, Load, MAX_CONNECTIONS, MAX_IN_FLIGHT, MAX_INTERVALS, MAX_STORM,
    MAX_TARGETS, MAX_USERS, MailProtocol, MailTarget, Plan, Popularity, Retry, Security, Session,
    Target, Users,
};
pub use process::ProcessUse;
pub use record::{Interval, Percentiles};
pub use report::{Bottleneck, GeneratorUse, Progress, Report};
pub use stub_auth::{StubAuth, StubConfig};
pub use tally::Retries;
pub use workload::Phase;

/// Executes a plan in the calling thread. `progress` is called some ten times a second.
///
/// Wrong replies do not make this an error: see [`Report::passed`].
pub fn run(plan: &Plan, mut progress: impl FnMut(&Progress)) -> Result<Report, Error> {
    plan.check()?;
    if let Some(cpu) = plan.pin {
        pin_this_thread(cpu)?;
    }
    let outcome = engine::Engine::new(plan)?.run(&mut progress)?;
    Ok(Report::new(plan, outcome))
}
