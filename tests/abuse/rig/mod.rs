//! A running Homing with everything that a test does to it.

pub mod auth;
pub mod clock;
#[path = "../../e2e/rig/heartbeat.rs"]
pub mod heartbeat;
pub mod homing;
pub mod peer;

pub use auth::{EchoAuth, listen};
pub use clock::{wait_for, wait_until};
pub use heartbeat::Heartbeat;
pub use homing::{Homing, Site};
pub use peer::Peer;

use std::time::Duration;

/// Longest wait for what should come at once; only a hung program takes as long.
pub const SOON: Duration = Duration::from_secs(60);

/// This process may have as many descriptors as the machine allows.
pub fn many_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}
