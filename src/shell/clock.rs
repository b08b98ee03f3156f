//! The only place where clocks are read.

use std::time::Duration;

use crate::core::{Mono, Wall};

fn read(clock: libc::clockid_t) -> (u64, u64) {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the call to fill.
    let done = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(
        done, 0,
        "a clock that every supported kernel has cannot be read"
    );
    (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs())
}

/// A time of the settings in nanoseconds, as the core counts. At most 584 years.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Monotonic time, for timeouts and latencies.
pub fn mono() -> Mono {
    let (seconds, nanos) = read(libc::CLOCK_MONOTONIC);
    Mono(seconds * 1_000_000_000 + nanos)
}

/// Wall time in whole seconds, for user time stamps. The coarse clock is at most one timer tick
/// late, and costs a third.
pub fn wall() -> Wall {
    Wall(read(libc::CLOCK_REALTIME_COARSE).0)
}

/// Sleeps until then, or a little longer; a signal may end it earlier.
pub fn sleep_until(at: Mono) {
    let time = libc::timespec {
        tv_sec: i64::try_from(at.0 / Mono::SECOND).unwrap_or(i64::MAX),
        tv_nsec: (at.0 % Mono::SECOND).cast_signed(),
    };
    // SAFETY: `time` is a valid timespec; how much was left of the sleep is not asked for.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const time,
            std::ptr::null_mut(),
        )
    };
}
