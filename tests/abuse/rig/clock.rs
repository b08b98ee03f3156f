//! The one clock of these tests, and bounded waiting.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::SOON;

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(10);

/// Reads the clock.
#[expect(
    clippy::disallowed_methods,
    reason = "tests watch a real program in real time"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `look` until it gives something; panics with `what` when [`SOON`] is over.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "{what}: not within {SOON:?}");
        sleep(POLL);
    }
}

/// [`wait_for`] a condition.
pub fn wait_until(what: &str, mut look: impl FnMut() -> bool) {
    wait_for(what, || look().then_some(()));
}
