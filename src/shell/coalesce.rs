//! When a serving core lets lookups gather before it works on them.
//!
//! A core that answers each lookup as it comes is woken twice for each, which costs several times
//! what the lookup itself does (tuning.md, lookup_batch_delay). Under load it therefore pauses after
//! each turn, so that many lookups share one wake-up and those of one connection one read and one
//! write. What that may not do is slow anybody down who waits for an answer before asking again: a
//! few such clients would be answered the later, ask the less, and never be noticed. So whether
//! pausing costs lookups is tried out, over and over: one window with pauses is compared with one
//! without.
//!
//! ```text
//!              busy, and not too soon        as many lookups
//!   Straight ----------------------> Trial -----------------> Paused <-.
//!      ^  ^                            |                       |  |    |
//!      |  '---------- fewer -----------'                       |  v    | as many
//!      |                                 hardly any lookups    | Check-'
//!      '-------------------------------------------------------'  |
//!      '------------------------ without pauses far more ---------'
//! ```

use crate::core::Mono;

/// Time over which lookups are counted. Long enough for some hundred of them under load, short enough
/// that a bad trial is not noticed.
const WINDOW: u64 = 10_000_000;
/// Lookups a second from which pausing is worth a trial: five share a wake-up then.
const BUSY: u64 = 5_000;
/// How long a pause is, in nanoseconds times lookups a second squared: 200 us at 150,000, a
/// millisecond at 67,000. The more come, the fewer must be gathered for a turn to cost little, for
/// many come while it works; and where so many come, their waiting is what is seen of the director.
const SPREAD: u64 = 4_500_000_000_000_000;
/// A shorter pause is none: the kernel's timers are no finer, and lookups gather by themselves.
const SHORTEST: u64 = 50_000;
/// Windows with pauses until it is checked what there would be without them.
const PAUSED_WINDOWS: u32 = 50;
/// Windows without pauses after a trial has failed; after the second and the third in a row. One window
/// may have few lookups for another reason: on a busy machine who asks is not always let.
const STRAIGHT_WINDOWS: [u32; 3] = [2, 10, 100];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No pauses, for so many windows at least.
    Straight(u32),
    /// Pauses; there were so many lookups a second without.
    Trial(u64),
    /// Pauses, for so many more windows.
    Paused(u32),
    /// No pauses; there were so many lookups a second with them.
    Check(u64),
}

/// Decides on the pauses of one core.
#[derive(Debug)]
pub struct Coalescing {
    state: State,
    /// When the window began.
    since: Mono,
    /// Lookups counted until then.
    before: u64,
    /// Lookups a second in the last window.
    rate: u64,
    /// Trials and checks that have failed in a row.
    failed: usize,
}

impl Coalescing {
    /// Begins without pauses.
    pub fn new(now: Mono) -> Coalescing {
        Coalescing {
            state: State::Straight(0),
            since: now,
            before: 0,
            rate: 0,
            failed: 0,
        }
    }

    /// A turn has begun at `now`; `lookups` have been answered since the start. How many nanoseconds
    /// after its beginning the next one may begin, `longest` at most; 0: at once.
    pub fn pause(&mut self, now: Mono, lookups: u64, longest: u64) -> u64 {
        if longest == 0 {
            return 0;
        }
        let elapsed = now.since(self.since);
        if elapsed >= WINDOW {
            self.rate = (lookups - self.before) * (Mono::SECOND / 1000) / (elapsed / 1000);
            self.before = lookups;
            self.since = now;
            self.state = self.next();
        }
        match self.state {
            State::Straight(_) | State::Check(_) => 0,
            State::Trial(_) | State::Paused(_) => {
                let pause = SPREAD / self.rate.saturating_mul(self.rate).max(1);
                if pause < SHORTEST {
                    0
                } else {
                    longest.min(pause)
                }
            }
        }
    }

    fn next(&mut self) -> State {
        let rate = self.rate;
        match self.state {
            State::Straight(0) if rate >= BUSY => State::Trial(rate),
            State::Straight(left) => State::Straight(left.saturating_sub(1)),
            State::Trial(straight) if as_many(rate, straight) => {
                self.failed = 0;
                State::Paused(PAUSED_WINDOWS)
            }
            State::Paused(_) if rate < BUSY / 2 => State::Straight(0),
            State::Paused(0) => State::Check(rate),
            State::Paused(left) => State::Paused(left - 1),
            State::Check(paused) if as_many(paused, rate) => State::Paused(PAUSED_WINDOWS),
            State::Trial(_) | State::Check(_) => {
                let windows = STRAIGHT_WINDOWS[self.failed.min(STRAIGHT_WINDOWS.len() - 1)];
                self.failed += 1;
                State::Straight(windows)
            }
        }
    }
}

/// Whether pausing did not cost lookups; what comes in one window and the next differs anyway.
fn as_many(paused: u64, straight: u64) -> bool {
    paused * 10 >= straight * 7
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: u64 = 1_000_000;
    const MILLI: u64 = 1_000_000;

    /// Runs for `millis` with turns of 50 us and their pauses. `arrive` says how many lookups come in
    /// a turn of so many nanoseconds. Returns how many turns were paused, of how many, and lookups.
    fn run(
        coalescing: &mut Coalescing,
        from: Mono,
        millis: u64,
        lookups: &mut u64,
        mut arrive: impl FnMut(u64) -> u64,
    ) -> (u64, u64) {
        let (mut paused, mut turns) = (0, 0);
        let (mut now, end) = (from, from.after(millis * MILLI));
        while now < end {
            let pause = coalescing.pause(now, *lookups, LONGEST);
            let took = pause.max(50_000);
            assert!(pause <= LONGEST);
            *lookups += arrive(took);
            now = now.after(took);
            turns += 1;
            paused += u64::from(pause > 0);
        }
        (paused, turns)
    }

    /// Lookups that come at a rate of their own.
    fn open(rate: u64) -> impl FnMut(u64) -> u64 {
        let mut owed = 0;
        move |nanos| {
            owed += rate * nanos;
            let come = owed / Mono::SECOND;
            owed %= Mono::SECOND;
            come
        }
    }

    #[test]
    fn a_quiet_core_never_pauses() {
        let mut coalescing = Coalescing::new(Mono(0));
        let (paused, _) = run(&mut coalescing, Mono(0), 2000, &mut 0, open(BUSY - 500));
        assert_eq!(paused, 0);
    }

    #[test]
    fn a_busy_core_pauses_nearly_always() {
        let mut coalescing = Coalescing::new(Mono(0));
        let (paused, turns) = run(&mut coalescing, Mono(0), 5000, &mut 0, open(40_000));
        // A window without pauses has twenty times as many turns.
        let straight = (turns - paused) * 50_000;
        assert!(straight < 250 * MILLI, "{} ms", straight / MILLI);
    }

    #[test]
    fn a_trial_that_failed_by_chance_is_repeated_soon() {
        let mut coalescing = Coalescing::new(Mono(0));
        let mut lookups = 0;
        run(&mut coalescing, Mono(0), 11, &mut lookups, open(40_000));
        assert!(matches!(coalescing.state, State::Trial(_)));
        // Those who ask were not let for a moment.
        run(&mut coalescing, Mono(11 * MILLI), 10, &mut lookups, |_| 0);
        assert!(matches!(coalescing.state, State::Straight(_)));
        let after = Mono(21 * MILLI);
        let (paused, turns) = run(&mut coalescing, after, 1000, &mut lookups, open(40_000));
        let straight = (turns - paused) * 50_000;
        assert!(straight < 100 * MILLI, "{} ms", straight / MILLI);
    }

    #[test]
    fn clients_that_wait_for_answers_are_not_slowed() {
        let mut coalescing = Coalescing::new(Mono(0));
        // Sixteen clients, each of which asks again when it is answered.
        let mut lookups = 0;
        let (paused, turns) = run(&mut coalescing, Mono(0), 5000, &mut lookups, |_| 16);
        let full = 16 * 5000 * MILLI / 50_000;
        assert!(lookups * 100 >= full * 98, "{lookups} of {full}");
        assert!(paused * 100 < turns, "{paused} of {turns}");
    }

    #[test]
    fn the_pause_is_shorter_the_more_come() {
        let mut coalescing = Coalescing::new(Mono(0));
        let mut lookups = 0;
        run(&mut coalescing, Mono(0), 60, &mut lookups, open(150_000));
        let pause = coalescing.pause(Mono(60 * MILLI), lookups, LONGEST);
        assert!((180_000..220_000).contains(&pause), "{pause}");
        let after = Mono(60 * MILLI);
        run(&mut coalescing, after, 60, &mut lookups, open(640_000));
        assert_eq!(coalescing.pause(Mono(120 * MILLI), lookups, LONGEST), 0);
    }

    #[test]
    fn pauses_end_with_the_load() {
        let mut coalescing = Coalescing::new(Mono(0));
        let mut lookups = 0;
        run(&mut coalescing, Mono(0), 100, &mut lookups, open(40_000));
        let after = Mono(100 * MILLI);
        let (paused, _) = run(&mut coalescing, after, 100, &mut lookups, open(100));
        assert!(paused <= 12, "{paused}");
        assert_eq!(coalescing.pause(Mono(300 * MILLI), lookups, LONGEST), 0);
    }

    #[test]
    fn zero_switches_it_off() {
        let mut coalescing = Coalescing::new(Mono(0));
        let mut lookups = 0;
        for turn in 0..10_000 {
            lookups += 100;
            assert_eq!(coalescing.pause(Mono(turn * 50_000), lookups, 0), 0);
        }
    }
}
