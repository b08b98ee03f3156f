//! Health of backends, as it is told.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::core::ip_text::ip_text;
use crate::wire::admin::HealthRow;

/// A check of a backend, as the asked director sees it, and what was decided about the backend.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Health {
    /// The backend.
    pub address: String,
    /// Its tag, empty for none.
    pub tag: String,
    /// Name of the check.
    pub check: String,
    /// What the check says here: `up`, `down`, or `unknown`.
    pub state: String,
    /// Since when.
    pub since: u64,
    /// Directors that say that the backend has failed, by all of their checks.
    pub votes_failed: u32,
    /// Directors that say that it is good.
    pub votes_good: u32,
    /// Directors that must agree.
    pub quorum: u32,
    /// `in-service`, `kept`, `floor`, `falling`, `down`, `rising`, `held` or `down-by-hand`.
    pub decision: String,
    /// The same in words.
    pub reason: String,
    /// Who decides about the backend's state: `auto`, `health` or `hand`.
    pub set_by: String,
    /// Its weight now.
    pub vhosts: u32,
    /// The weight that an operator has given it.
    pub weight: u32,
    /// Why the last probe failed.
    pub error: Option<String>,
}

impl Health {
    /// From a row of HOMING-HEALTH.
    pub fn of(row: &HealthRow) -> Health {
        Health {
            address: ip_text(row.ip),
            tag: row.tag.clone(),
            check: row.check.clone(),
            state: row.state.clone(),
            since: row.since,
            votes_failed: row.failed,
            votes_good: row.good,
            quorum: row.quorum,
            decision: row.decision.clone(),
            reason: row.reason.clone(),
            set_by: row.by.clone(),
            vhosts: row.vhosts,
            weight: row.weight,
            error: error(row).map(str::to_owned),
        }
    }
}

fn error(row: &HealthRow) -> Option<&str> {
    Some(row.error.as_str()).filter(|error| !error.is_empty())
}

/// What all checks say of a backend together.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct BackendHealth {
    /// `down` if one check says so, `up` if all do, otherwise `unknown`.
    pub state: &'static str,
    /// Checks that do not say `up`, each with its last error.
    pub failing: Vec<String>,
    /// As in [`Health`].
    pub decision: String,
    /// The same in words.
    pub reason: String,
    /// Who decides about the backend's state: `auto`, `health` or `hand`.
    pub set_by: String,
    /// The weight that an operator has given it.
    pub weight: u32,
}

impl BackendHealth {
    /// Of this backend; `None`: no check concerns it.
    pub fn of(ip: IpAddr, rows: &[HealthRow]) -> Option<BackendHealth> {
        let mut own = rows.iter().filter(|row| row.ip == ip).peekable();
        let first = *own.peek()?;
        let mut health = BackendHealth {
            state: "up",
            failing: Vec::new(),
            decision: first.decision.clone(),
            reason: first.reason.clone(),
            set_by: first.by.clone(),
            weight: first.weight,
        };
        for row in own {
            health.state = match (health.state, row.state.as_str()) {
                ("down", _) | (_, "down") => "down",
                ("up", "up") => "up",
                _ => "unknown",
            };
            if row.state != "up" {
                let why = error(row).map_or_else(String::new, |error| format!(": {error}"));
                health.failing.push(format!("{}{why}", row.check));
            }
        }
        Some(health)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(last: u8, check: &str, state: &str, error: &str) -> HealthRow {
        HealthRow {
            ip: [10, 0, 0, last].into(),
            tag: String::new(),
            check: check.to_owned(),
            state: state.to_owned(),
            since: 1,
            failed: 2,
            good: 1,
            quorum: 2,
            decision: "down".to_owned(),
            reason: "down by health".to_owned(),
            by: "health".to_owned(),
            vhosts: 100,
            weight: 100,
            error: error.to_owned(),
        }
    }

    #[test]
    fn one_failed_check_is_enough_and_nothing_is_good_before_it_is_known() {
        let rows = [
            row(1, "imap", "up", ""),
            row(1, "login", "down", "refused"),
            row(1, "tcp", "unknown", ""),
            row(2, "imap", "up", ""),
            row(2, "tcp", "unknown", "not made: no password"),
            row(3, "imap", "up", ""),
        ];
        let of = |last| BackendHealth::of([10, 0, 0, last].into(), &rows);
        let bad = of(1).expect("checks");
        assert_eq!(bad.state, "down");
        assert_eq!(bad.failing, ["login: refused", "tcp"]);
        let unknown = of(2).expect("checks");
        assert_eq!(unknown.state, "unknown");
        assert_eq!(unknown.failing, ["tcp: not made: no password"]);
        let good = of(3).expect("checks");
        assert_eq!((good.state, good.failing.len()), ("up", 0));
        assert_eq!(of(4), None);
        assert_eq!(Health::of(&rows[0]).error, None);
    }
}
