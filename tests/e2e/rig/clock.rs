//! The one clock of the rig, and bounded waiting.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(20);

/// For what is only waited for: longer than anything takes that works, also where other work keeps the machine busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the clock.
#[expect(
    clippy::disallowed_methods,
    reason = "tests watch real programs in real time"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `look` until it gives something. Panics with `what` when `limit` has passed.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "{what}: not within {limit:?}");
        sleep(POLL);
    }
}

/// [`wait_for`] a condition.
pub fn wait_until(what: &str, limit: Duration, mut look: impl FnMut() -> bool) {
    wait_for(what, limit, || look().then_some(()));
}
