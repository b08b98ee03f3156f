//! Load generator for mail directors and mail proxies: drives a director's sockets with lookups or
//! a proxy with whole mail sessions, checks every reply, and measures latency and what the
//! target's processes use.
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
//! | `plan`, `accounts` | what to do to whom |
//! | `workload`, `zipf`, `names` | who logs in next, and when |
//! | `engine` | the event loop |
//! | `lookups`, `client`, `lines`, `reply` | connections to a director's sockets |
//! | `mail` | mail sessions |
//! | `tally`, `check`, `record`, `process`, `machine` | what is noted |
//! | `report`, `hgrm`, `saved`, `compare`, `picture` | what is told |
//! | `stub_auth` | the auth server |
//! | `clock`, `limits`, `pin`, `rng` | the machine |

mod accounts;
mod bar;
mod check;
mod client;
mod clock;
mod compare;
mod engine;
mod error;
pub mod hgrm;
mod limits;
mod lines;
mod lookups;
mod machine;
mod mail;
mod names;
#[cfg(feature = "pictures")]
pub mod picture;
mod pin;
mod plan;
mod process;
mod record;
mod reply;
mod report;
mod rng;
#[cfg_attr(
    not(feature = "pictures"),
    expect(dead_code, reason = "only pictures look at the curves")
)]
mod saved;
pub mod stub_auth;
mod tally;
mod workload;
mod zipf;

pub use accounts::Accounts;
pub use bar::Bar;
pub use check::{Backend, Errors};
pub use compare::{Comparison, Ratio, compare};
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
pub use report::{Bottleneck, GeneratorUse, Point, Progress, Report};
pub use saved::Saved;
pub use stub_auth::{StubAuth, StubConfig};
pub use tally::Retries;
pub use workload::Phase;

/// Executes a plan in the calling thread. `progress` is called some ten times a second.
///
/// Wrong replies do not make this an error: see [`Report::passed`].
pub fn run(plan: &Plan, mut progress: impl FnMut(&Progress)) -> Result<Report, Error> {
    plan.check()?;
    limits::raise(plan)?;
    if let Some(cpu) = plan.pin {
        pin_this_thread(cpu)?;
    }
    let outcome = engine::Engine::new(plan)?.run(&mut progress)?;
    Ok(Report::new(plan, outcome))
}
