//! The last things that happened in the tier, for people who look at the page.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Serialize;

use crate::core::Wall;

/// Events that are kept; some hundred bytes each.
pub const EVENTS_MAX: usize = 256;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Event {
    /// Counts up from 1 since the start.
    pub number: u64,
    /// When, seconds since 1970.
    pub at: u64,
    /// `info`, `warning` or `error`.
    pub level: &'static str,
    /// What kind of thing, a word or two.
    pub cause: &'static str,
    /// For people.
    pub text: String,
}

/// The last of them.
#[derive(Debug, Default)]
pub struct Events {
    kept: VecDeque<Event>,
    last: u64,
}

impl Events {
    /// One more.
    pub fn add(&mut self, at: Wall, level: &'static str, cause: &'static str, text: String) {
        if self.kept.len() == EVENTS_MAX {
            self.kept.pop_front();
        }
        self.last += 1;
        self.kept.push_back(Event {
            number: self.last,
            at: at.0,
            level,
            cause,
            text,
        });
    }

    /// Those with a higher number, the oldest first.
    pub fn after(&self, number: u64) -> Vec<Event> {
        let after = self.kept.iter().filter(|event| event.number > number);
        after.cloned().collect()
    }

    /// The number of the last one; 0: there was none.
    pub fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_and_numbers_go_on() {
        let mut events = Events::default();
        for at in 1..=EVENTS_MAX as u64 + 3 {
            events.add(Wall(at), "info", "test", format!("number {at}"));
        }
        let all = events.after(0);
        assert_eq!(all.len(), EVENTS_MAX);
        assert_eq!((all[0].number, all[0].text.as_str()), (4, "number 4"));
        assert_eq!(events.last(), EVENTS_MAX as u64 + 3);
        assert_eq!(events.after(events.last() - 1).len(), 1);
        assert!(events.after(events.last()).is_empty());
    }
}
