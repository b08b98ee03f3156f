//! Five directors in network namespaces of the test's own, a thousand clients that come back, and everything that
//! goes wrong in a machine room: processes killed and stopped, clocks that are off, networks cut, slow and narrow.
//! Needs root, and what `tests/setup.sh` installs. `make chaos` lasts longer; docs/testing.md says more.

#[path = "../e2e/rig/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the end-to-end tests use the rest of it"
)]
mod e2e;

mod clients;
mod deeds;
mod login;
mod network;
mod tier;

use std::env;
use std::time::Duration;

use deeds::Deeds;
use e2e::now;
use tier::Tier;

/// How long things go wrong, in seconds.
const SECONDS: &str = "HOMING_CHAOS_SECONDS";
/// Of the choice of what goes wrong, and when.
const SEED: &str = "HOMING_CHAOS_SEED";

fn number(name: &str, default: u64) -> u64 {
    let text = env::var(name);
    text.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn nobody_is_on_two_backends_every_order_is_kept_and_all_agree_afterwards() {
    let (seconds, seed) = (number(SECONDS, 60), number(SEED, 1));
    println!("{SECONDS}={seconds} {SEED}={seed}");
    let mut tier = Tier::start();
    let clients = clients::start(&tier, seed);
    clients.wait_sessions();
    let end = now() + Duration::from_secs(seconds);
    let mut deeds = Deeds::new(seed);
    // Each kind once, however long that takes.
    while now() < end || !deeds.has_done_all() {
        deeds.next(&mut tier);
        tier.sessions.no_faults();
    }
    clients.stop_coming();
    tier.agree(&deeds);
    let done = clients.finish();
    tier.sessions.no_faults();
    println!("{done}; {deeds}");
}
