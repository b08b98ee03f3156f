//! One check of one backend: how it is, and when it is looked at again.

use crate::core::{Mono, Wall};

/// What a check says of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing yet: too few results.
    #[default]
    Unknown,
    /// It works.
    Up,
    /// It does not.
    Down,
}

/// How often a check is made, and what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// From the beginning of one probe to that of the next, nanoseconds; above 0.
    pub interval: u64,
    /// So many successes in a row make a backend that was down good again; above 0.
    pub rise: u32,
    /// So many failures in a row make it bad; above 0.
    pub fall: u32,
}

/// Probes begin up to a tenth of the interval earlier or later, so that directors and checks that were
/// started together do not stay together.
const JITTER_PARTS: u64 = 10;

/// One check of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// What it says.
    pub state: State,
    /// Since when; the beginning for [`State::Unknown`].
    pub since: Wall,
    /// Results in a row that speak against `state`.
    pub against: u32,
    /// Why the last probe failed; `None`: it did not, or there was none.
    pub error: Option<String>,
    /// When the next probe begins.
    next: Mono,
    /// One is under way.
    pub running: bool,
}

impl Watch {
    /// One that has not been looked at. `random`: any number, by which the first probe is delayed, an
    /// interval at most.
    pub fn new(rhythm: Rhythm, random: u64, now: Mono, wall: Wall) -> Watch {
        Watch {
            state: State::Unknown,
            since: wall,
            against: 0,
            error: None,
            next: now.after(random % rhythm.interval.max(1)),
            running: false,
        }
    }

    /// When the next probe begins; `None` while one is under way.
    pub fn next(&self) -> Option<Mono> {
        (!self.running).then_some(self.next)
    }

    /// Whether a probe is to begin now, which is then taken for begun. `random`: any number.
    pub fn begin(&mut self, rhythm: Rhythm, random: u64, now: Mono) -> bool {
        if self.running || self.next > now {
            return false;
        }
        let jitter = rhythm.interval / JITTER_PARTS;
        let pause = rhythm.interval - jitter + random % (2 * jitter + 1);
        self.next = now.after(pause);
        self.running = true;
        true
    }

    /// A probe could not be begun, which says nothing of the backend. It is tried again at the next time.
    pub fn not_begun(&mut self, why: String) {
        self.running = false;
        self.error = Some(why);
    }

    /// A probe has ended. `true`: the state is another one now.
    pub fn ended(&mut self, result: Result<(), String>, rhythm: Rhythm, wall: Wall) -> bool {
        self.running = false;
        let good = result.is_ok();
        self.error = result.err();
        let (new, needed) = match good {
            // Of a backend that nothing bad is known of, one success says enough.
            true if self.state == State::Unknown => (State::Up, 1),
            true => (State::Up, rhythm.rise.max(1)),
            false => (State::Down, rhythm.fall.max(1)),
        };
        if self.state == new {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < needed {
            return false;
        }
        self.state = new;
        self.since = wall;
        self.against = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RHYTHM: Rhythm = Rhythm {
        interval: 10 * Mono::SECOND,
        rise: 2,
        fall: 3,
    };

    fn watch() -> Watch {
        Watch::new(RHYTHM, 0, Mono(0), Wall(7))
    }

    fn bad() -> Result<(), String> {
        Err("refused".to_owned())
    }

    /// Letters are results: `+` good, `-` bad. What the state is after each of them.
    fn states(results: &str) -> String {
        let mut watch = watch();
        results
            .chars()
            .map(|result| {
                let before = watch.state;
                let result = if result == '+' { Ok(()) } else { bad() };
                let changed = watch.ended(result, RHYTHM, Wall(9));
                assert_eq!(changed, before != watch.state);
                match watch.state {
                    State::Unknown => '?',
                    State::Up => 'u',
                    State::Down => 'd',
                }
            })
            .collect()
    }

    #[test]
    fn rise_and_fall_are_counted_in_a_row() {
        assert_eq!(states("+---++"), "uuuddu");
        assert_eq!(states("--+--"), "??uuu", "one success ends a row");
        assert_eq!(states("---+-++"), "??ddddu");
        assert_eq!(states("--- - -".replace(' ', "").as_str()), "??ddd");
        assert_eq!(states("+--+--+---"), "uuuuuuuuud");
    }

    #[test]
    fn since_is_the_change_and_the_last_error_is_kept() {
        let mut watch = watch();
        assert!(watch.ended(Ok(()), RHYTHM, Wall(10)));
        assert!(!watch.ended(Ok(()), RHYTHM, Wall(11)));
        assert_eq!((watch.since, watch.error.as_deref()), (Wall(10), None));
        watch.ended(bad(), RHYTHM, Wall(12));
        assert_eq!(watch.since, Wall(10));
        assert_eq!(watch.error.as_deref(), Some("refused"));
        watch.ended(bad(), RHYTHM, Wall(13));
        assert!(watch.ended(bad(), RHYTHM, Wall(14)));
        assert_eq!((watch.since, watch.state), (Wall(14), State::Down));
    }

    #[test]
    fn one_probe_at_a_time_and_none_too_early() {
        let mut watch = Watch::new(RHYTHM, 25 * Mono::SECOND, Mono(0), Wall(0));
        assert_eq!(watch.next(), Some(Mono(5 * Mono::SECOND)));
        assert!(!watch.begin(RHYTHM, 0, Mono(4 * Mono::SECOND)));
        assert!(watch.begin(RHYTHM, 0, Mono(5 * Mono::SECOND)));
        assert_eq!(watch.next(), None);
        assert!(!watch.begin(RHYTHM, 0, Mono(100 * Mono::SECOND)));
        watch.ended(Ok(()), RHYTHM, Wall(0));
        assert_eq!(
            watch.next(),
            Some(Mono(14 * Mono::SECOND)),
            "from its beginning"
        );
        assert!(watch.begin(RHYTHM, 0, Mono(100 * Mono::SECOND)));
        watch.not_begun("no descriptor".to_owned());
        assert_eq!((watch.state, watch.against), (State::Up, 0));
        assert!(watch.next().is_some());
    }

    proptest! {
        #[test]
        fn the_next_probe_comes_within_a_tenth_of_the_interval(
            interval in 1u64..u64::MAX / 4,
            random: u64,
            now in 0u64..1 << 60,
        ) {
            let rhythm = Rhythm { interval, ..RHYTHM };
            let mut watch = Watch::new(rhythm, random, Mono(now), Wall(0));
            let first = watch.next().unwrap();
            prop_assert!(first.since(Mono(now)) < interval);
            prop_assert!(watch.begin(rhythm, random, first));
            watch.ended(Ok(()), rhythm, Wall(0));
            let pause = watch.next().unwrap().since(first);
            let tenth = interval / 10;
            prop_assert!(pause >= interval - tenth && pause <= interval + tenth);
        }

        #[test]
        fn a_state_changes_by_a_full_row_and_nothing_else(
            results in prop::collection::vec(any::<bool>(), 0..60),
            rise in 1u32..5,
            fall in 1u32..5,
        ) {
            let rhythm = Rhythm { rise, fall, ..RHYTHM };
            let mut watch = Watch::new(rhythm, 0, Mono(0), Wall(0));
            let mut row = (true, 0u32);
            for good in results {
                row = if row.0 == good { (good, row.1 + 1) } else { (good, 1) };
                let before = watch.state;
                watch.ended(if good { Ok(()) } else { bad() }, rhythm, Wall(0));
                let expected = match (before, good) {
                    (State::Unknown, true) => State::Up,
                    (State::Unknown | State::Up, false) if row.1 >= fall => State::Down,
                    (State::Down, true) if row.1 >= rise => State::Up,
                    (before, _) => before,
                };
                prop_assert_eq!(watch.state, expected);
            }
        }
    }
}
