//! Marks of the state on disk, for a start at which nobody else has any: after a power cut of the whole tier.
//!
//! The others come first: what they tell of a backend is later than any file. So the marks of the file are kept
//! aside until the ring has been complete for [`WAIT`], and only those are taken of which nobody has told anything,
//! neither a director nor an operator. Nothing is ordered before that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Backend, Health, Kind, MAX_BACKENDS, MarkLine};
use crate::core::Mono;

/// How long the others have to tell theirs. They do so once a second.
const WAIT: u64 = 5 * Mono::SECOND;

/// Marks that are kept aside.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    marks: Vec<MarkLine>,
    /// Since when the ring is complete.
    since: Option<Mono>,
}

impl Recalled {
    /// It is not yet known who has set which state.
    pub(super) fn is_waiting(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Those that are to be taken now.
    fn due(&mut self, handshaked: bool, now: Mono) -> Vec<MarkLine> {
        if !handshaked || self.marks.is_empty() {
            self.since = None;
            return Vec::new();
        }
        let since = *self.since.get_or_insert(now);
        match now.since(since) >= WAIT {
            true => std::mem::take(&mut self.marks),
            false => Vec::new(),
        }
    }
}

impl Health {
    /// The same, with the marks of the state on disk.
    pub fn recalling(mut self, marks: Vec<MarkLine>) -> Health {
        self.recalled.marks = marks;
        self
    }

    /// All marks, those included that are still kept aside: what the next state on disk is to have.
    pub fn all_marks(&self) -> Vec<MarkLine> {
        let aside = self.recalled.marks.iter();
        let mut all: BTreeMap<IpAddr, MarkLine> = aside.map(|line| (line.ip, *line)).collect();
        all.extend(self.marks.iter().map(|line| (line.ip, line)));
        all.into_values().collect()
    }

    pub(super) fn take_recalled(
        &mut self,
        handshaked: bool,
        backends: &BTreeMap<IpAddr, Backend>,
        now: Mono,
    ) {
        for line in self.recalled.due(handshaked, now) {
            let backend = backends.get(&line.ip);
            let is_true = backend.is_some_and(|backend| fits(&line, backend));
            if is_true && self.marks.entry(line.ip).is_none() {
                self.marks.merge(&line, MAX_BACKENDS, now);
                self.news += 1;
            }
        }
    }
}

/// Whether the backend is what the mark was about. What health had done may have been undone meanwhile, at directors
/// that were not cut off.
fn fits(line: &MarkLine, backend: &Backend) -> bool {
    match line.mark.kind {
        Kind::Auto | Kind::Held => true,
        Kind::Falling | Kind::Down => backend.down,
        Kind::Rising(_) => line.mark.weight.is_some(),
    }
}
