//! How many new users are let in: never more than the table may hold, and no faster than a set
//! rate, so that a flood of unknown names cannot crowd out the users who are known.

use super::{Mono, Refusal};

/// A rate limit as one number, the time at which the next arrival would be exactly on schedule
/// (generic cell rate algorithm). The caller keeps that number, shared between cores if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval_nanos: u64,
}

/// Arrivals may run ahead of the rate by this much: a second's worth at once.
const BURST_NANOS: u64 = 1_000_000_000;

impl Rate {
    /// `per_second` arrivals; 0 means no limit.
    pub fn new(per_second: u32) -> Rate {
        let interval_nanos = match u64::from(per_second) {
            0 => 0,
            rate => (BURST_NANOS / rate).max(1),
        };
        Rate { interval_nanos }
    }

    /// The schedule after one more arrival at `now`; `None`: too fast.
    pub fn arrive(self, schedule: Mono, now: Mono) -> Option<Mono> {
        if self.interval_nanos == 0 {
            return Some(schedule);
        }
        let next = schedule.0.max(now.0).saturating_add(self.interval_nanos);
        (next - now.0 <= BURST_NANOS).then_some(Mono(next))
    }
}

/// Whether one more user fits into the table.
pub fn has_room(users: u64, limit: u64) -> Result<(), Refusal> {
    if users < limit {
        Ok(())
    } else {
        Err(Refusal::TableFull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_arrivals_at_once_then_the_rate() {
        let rate = Rate::new(10);
        let mut schedule = Mono(0);
        let start = Mono(5_000_000_000);
        let mut admitted = 0;
        while let Some(next) = rate.arrive(schedule, start) {
            schedule = next;
            admitted += 1;
        }
        assert_eq!(admitted, 10);
        assert!(rate.arrive(schedule, Mono(start.0 + 99_000_000)).is_none());
        assert!(rate.arrive(schedule, Mono(start.0 + 100_000_000)).is_some());
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(Rate::new(0).arrive(Mono(7), Mono(1)), Some(Mono(7)));
        assert!(has_room(9, 10).is_ok());
        assert_eq!(has_room(10, 10), Err(Refusal::TableFull));
    }
}
