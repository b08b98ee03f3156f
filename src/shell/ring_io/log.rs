//! What the ring does, in the log; each cause is limited for itself.

use std::collections::BTreeMap;

use crate::core::Mono;
use crate::core::ring::{Event, Level};
use crate::shell::log_limit::{LogLimit, say};

/// The limits by cause.
#[derive(Debug, Default)]
pub(super) struct Log {
    limits: BTreeMap<&'static str, LogLimit>,
}

impl Log {
    /// Something that the machine tells.
    pub fn event(&mut self, event: &Event, now: Mono) {
        self.line(event.level(), event.cause(), now, || event.to_string());
    }

    /// A line of a cause that is named in the program, so that there are few.
    pub fn line(
        &mut self,
        level: Level,
        cause: &'static str,
        now: Mono,
        text: impl FnOnce() -> String,
    ) {
        let Some(more) = self.limits.entry(cause).or_default().allow(now) else {
            return;
        };
        let text = text();
        say!(level, text, more);
    }
}
