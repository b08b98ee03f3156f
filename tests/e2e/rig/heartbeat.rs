//! Whether the machine itself stood still: a test of a time must not fail because of it. Each program of tests that
//! measures times has it, beside a `clock`.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::clock::now;

/// For one beat. One that takes as long is none.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two beats.
const PAUSE: Duration = Duration::from_millis(100);
/// A beat takes a few milliseconds. What a test measures takes a dozen steps of as many processes, each of which
/// may be held up for so long.
const STALL: Duration = Duration::from_millis(300);

/// Starts a program and waits for its end, again and again, for as long as it lives.
pub struct Heartbeat(Arc<Beats>);

#[derive(Default)]
struct Beats {
    stop: AtomicBool,
    count: AtomicU64,
    /// The longest beat, in milliseconds.
    longest: AtomicU64,
}

impl Heartbeat {
    /// Begins to beat.
    pub fn start() -> Self {
        let beats = Arc::new(Beats::default());
        let of_thread = Arc::clone(&beats);
        thread::spawn(move || of_thread.beat());
        Self(beats)
    }

    /// Whether something took no longer than it may. If it did although the machine has done its work, that is a
    /// failure; false means that the machine has not, and that nothing was shown.
    #[track_caller]
    pub fn in_time(&self, what: &str, took: Duration, limit: Duration) -> bool {
        if took <= limit {
            return true;
        }
        // The beat that may be under way counts.
        let seen = self.0.count.load(Ordering::SeqCst);
        let end = now() + PATIENCE;
        while self.0.count.load(Ordering::SeqCst) == seen {
            assert!(now() < end, "no heartbeat within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(10));
        }
        let longest = Duration::from_millis(self.0.longest.load(Ordering::SeqCst));
        assert!(
            longest >= STALL,
            "{what} took {took:?}, more than {limit:?}, and the machine starts a program within {longest:?}"
        );
        eprintln!(
            "{what} took {took:?}, but so did the machine: {longest:?} for starting a program"
        );
        false
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

impl Beats {
    fn beat(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let began = now();
            thread::sleep(PAUSE);
            let mut program = Command::new("true");
            let ended = program.stdin(Stdio::null()).status();
            assert!(ended.is_ok_and(|status| status.success()), "a heartbeat");
            let took = began.elapsed().saturating_sub(PAUSE).as_millis();
            let took = u64::try_from(took).expect("a short time");
            self.longest.fetch_max(took, Ordering::SeqCst);
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn only_a_machine_that_stood_still_excuses() {
    let limit = Duration::from_secs(3);
    let late = limit + Duration::from_millis(1);
    let of = |longest: Duration| {
        let beats = Beats::default();
        let longest = u64::try_from(longest.as_millis()).expect("short");
        beats.longest.store(longest, Ordering::SeqCst);
        let heartbeat = Heartbeat(Arc::new(beats));
        let beats = Arc::clone(&heartbeat.0);
        thread::spawn(move || {
            // Beats without any work.
            while !beats.stop.load(Ordering::SeqCst) {
                beats.count.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1));
            }
        });
        heartbeat
    };
    assert!(of(Duration::ZERO).in_time("it", limit, limit));
    assert!(!of(STALL).in_time("it", late, limit));
    let quick = of(STALL / 2);
    let failed = thread::spawn(move || quick.in_time("it", late, limit)).join();
    assert!(failed.is_err(), "nothing excuses it");
}
