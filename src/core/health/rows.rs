//! What an operator is shown: one row for each check of each backend. The commands, the HTTP interface and
//! metrics show the same.

use std::net::IpAddr;

use super::votes::Tally;
use super::{Decision, Health, Kind, Mark, State};
use crate::core::{Mono, Wall};

/// A check of a backend, as this director sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The backend.
    pub ip: IpAddr,
    /// Its tag; empty for none.
    pub tag: Vec<u8>,
    /// Name of the check.
    pub check: String,
    /// What the check says here.
    pub state: State,
    /// Since when.
    pub since: Wall,
    /// Why the last probe failed.
    pub error: Option<String>,
    /// What all directors say of the backend, by all of their checks, this one included.
    pub tally: Tally,
    /// How many must agree.
    pub quorum: u32,
    /// What was decided about the backend.
    pub decision: Decision,
    /// Who has set its state.
    pub mark: Mark,
    /// Its weight in the ring.
    pub vhosts: u32,
    /// It is out of service.
    pub down: bool,
}

impl Health {
    /// All rows, by backend and in the order of the settings' checks.
    pub fn rows(&self, now: Mono) -> Vec<Row> {
        let Some(view) = &self.view else {
            return Vec::new();
        };
        let quorum = self.quorum(view);
        let row = |(probe, watch): (&super::Probe, &super::Watch)| {
            let backend = view.backends.get(&probe.ip)?;
            Some(Row {
                ip: probe.ip,
                tag: backend.tag.clone(),
                check: self.policy.checks[probe.check].name.clone(),
                state: watch.state,
                since: watch.since,
                error: watch.error.clone(),
                tally: self.tally(probe.ip, now),
                quorum,
                decision: self.decisions.get(&probe.ip).cloned().unwrap_or_default(),
                mark: self.marks.get(probe.ip),
                vhosts: backend.vhosts,
                down: backend.down,
            })
        };
        self.watches.iter().filter_map(row).collect()
    }
}

impl State {
    /// Its name in tables.
    pub fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Down => "down",
        }
    }
}

impl Row {
    /// Who decides about the backend's state: `auto`, `health` (which has it down, or is bringing it back) or
    /// `hand`.
    pub fn set_by(&self) -> &'static str {
        match self.mark.kind {
            Kind::Held => "hand",
            Kind::Auto if self.down => "hand",
            Kind::Auto => "auto",
            Kind::Falling | Kind::Down | Kind::Rising(_) => "health",
        }
    }
}
