//! The only file that reads clocks: monotonic and wall time, and CPU time of threads
//! and processes.

use std::io;

/// A CPU clock of one process, all its threads together, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// The CPU clock of any process.
    pub(crate) fn of_process(pid: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut id: libc::clockid_t = 0;
        // SAFETY: `id` is a valid place to write one clock id to; nothing else is touched.
        match unsafe { libc::clock_getcpuclockid(pid, &raw mut id) } {
            0 => Ok(Self(id)),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// The CPU clock of the calling thread. Read it on that same thread only.
    pub(crate) const fn of_this_thread() -> Self {
        Self(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    /// CPU time used so far, user and system.
    pub(crate) fn nanos(self) -> io::Result<u64> {
        read(self.0)
    }
}

/// How long the calling thread could have run and did not, because others had the CPU; nanoseconds so
/// far. `None`: the kernel does not count it.
pub(crate) fn waited_for_cpu() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// Nanoseconds of the monotonic clock.
///
/// A `u64`, not an `Instant`: it is stored once per request in flight, and differences of it go
/// straight into a histogram.
pub(crate) fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC).unwrap_or(0) // the monotonic clock cannot fail on Linux
}

/// Seconds since 1970 at a moment of the monotonic clock that has passed.
pub(crate) fn wall_time_of(moment: u64) -> f64 {
    let wall = read(libc::CLOCK_REALTIME).unwrap_or(0); // cannot fail either
    wall.saturating_sub(now().saturating_sub(moment)) as f64 / 1e9
}

fn read(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place to write one timespec to.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Ok(seconds * 1_000_000_000 + nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_clock_runs_and_a_missing_process_has_none() {
        let own = CpuClock::of_process(std::process::id()).unwrap();
        assert!(own.nanos().unwrap() > 0);
        assert!(CpuClock::of_process(u32::MAX).is_err());
        assert!(now() > 0);
        let second_ago = now().saturating_sub(1_000_000_000);
        let difference = wall_time_of(now()) - wall_time_of(second_ago);
        assert!((0.9..1.5).contains(&difference), "{difference}");
    }
}
