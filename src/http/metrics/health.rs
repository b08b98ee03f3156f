//! Health of backends: checks by backend and name, decisions by backend.

use super::{BACKENDS_MAX, CHECKS_MAX};
use crate::admin::documents::Health;
use crate::http::exposition::{Exposition, Kind};
use Kind::Gauge;

/// What this director's own checks say.
pub(super) fn checks(rows: &[Health], out: &mut Exposition) {
    let help = "1: the backend passes a check of this director, 0: it fails it. While too little is known, none.";
    out.family("homing_backend_check_up", Gauge, help);
    let known = rows.iter().filter(|row| row.state != "unknown");
    for row in known.take(CHECKS_MAX) {
        let labels = [
            ("backend", row.address.as_str()),
            ("tag", &row.tag),
            ("check", &row.check),
        ];
        out.sample(&labels, flag(row.state == "up"));
    }
    let unknown = rows.iter().filter(|row| row.state == "unknown").count();
    out.single(
        "homing_backend_checks_unknown",
        Gauge,
        "Checks of backends that say nothing yet, or that cannot be made.",
        unknown as f64,
    );
}

/// What the directors say and have decided. Nothing about backends without a check.
pub(super) fn decisions(rows: &[Health], out: &mut Exposition) {
    // A row for each check says the same of the backend.
    let mut backends: Vec<&Health> = rows.iter().collect();
    backends.dedup_by(|row, before| row.address == before.address);
    backends.truncate(BACKENDS_MAX);
    type Value = fn(&Health) -> f64;
    let families: [(&'static str, &'static str, Value); 6] = [
        (
            "homing_backend_votes_failed",
            "Directors that say that the backend has failed.",
            |it| f64::from(it.votes_failed),
        ),
        (
            "homing_backend_votes_good",
            "Directors that say that the backend is good.",
            |it| f64::from(it.votes_good),
        ),
        (
            "homing_backend_down_by_health",
            "1: health has taken the backend down, or is about to.",
            |it| flag(matches!(it.decision.as_str(), "falling" | "down")),
        ),
        (
            "homing_backend_kept",
            "1: the backend should be down, but stays in service: the floor, no quorum, a director without a vote.",
            |it| flag(matches!(it.decision.as_str(), "kept" | "floor")),
        ),
        (
            "homing_backend_held",
            "1: an operator has set the backend's state, and health leaves it alone.",
            |it| flag(it.set_by == "hand"),
        ),
        (
            "homing_backend_operator_vhosts",
            "The weight that an operator has given the backend; less is in force during a slow start.",
            |it| f64::from(it.weight),
        ),
    ];
    for (name, help, value) in families {
        out.family(name, Gauge, help);
        for row in &backends {
            let labels = [("backend", row.address.as_str()), ("tag", &row.tag)];
            out.sample(&labels, value(row));
        }
    }
    if let Some(row) = rows.first() {
        let help = "Directors that must agree before a backend is taken down or up.";
        out.single("homing_health_quorum", Gauge, help, f64::from(row.quorum));
    }
}

fn flag(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::exposition::Format;

    fn row(number: usize, check: &str, state: &str, decision: &str) -> Health {
        Health {
            address: format!("10.0.{}.{}", number / 256, number % 256),
            tag: "t".to_owned(),
            check: check.to_owned(),
            state: state.to_owned(),
            since: 1,
            votes_failed: 2,
            votes_good: 1,
            quorum: 2,
            decision: decision.to_owned(),
            reason: String::new(),
            set_by: "health".to_owned(),
            vhosts: 40,
            weight: 100,
            error: None,
        }
    }

    fn text(rows: &[Health]) -> String {
        let mut out = Exposition::new(Format::Prometheus);
        checks(rows, &mut out);
        decisions(rows, &mut out);
        out.finish()
    }

    #[test]
    fn a_backend_has_one_decision_however_many_checks_it_has() {
        let text = text(&[
            row(1, "imap", "down", "down"),
            row(1, "tcp", "up", "down"),
            row(2, "imap", "unknown", "floor"),
        ]);
        for line in [
            "homing_backend_check_up{backend=\"10.0.0.1\",tag=\"t\",check=\"imap\"} 0.0\n",
            "homing_backend_check_up{backend=\"10.0.0.1\",tag=\"t\",check=\"tcp\"} 1.0\n",
            "homing_backend_checks_unknown 1.0\n",
            "homing_backend_votes_failed{backend=\"10.0.0.1\",tag=\"t\"} 2.0\n",
            "homing_backend_down_by_health{backend=\"10.0.0.1\",tag=\"t\"} 1.0\n",
            "homing_backend_kept{backend=\"10.0.0.1\",tag=\"t\"} 0.0\n",
            "homing_backend_kept{backend=\"10.0.0.2\",tag=\"t\"} 1.0\n",
            "homing_backend_operator_vhosts{backend=\"10.0.0.2\",tag=\"t\"} 100.0\n",
            "homing_health_quorum 2.0\n",
        ] {
            assert_eq!(text.matches(line).count(), 1, "{line} in\n{text}");
        }
        assert!(!text.contains("check_up{backend=\"10.0.0.2\""), "{text}");
    }

    #[test]
    fn however_many_checks_there_are_the_text_is_bounded() {
        let rows: Vec<_> = (0..5 * BACKENDS_MAX)
            .map(|number| row(number, "imap", "up", "in-service"))
            .collect();
        let text = text(&rows);
        let of = |name: &str| text.lines().filter(|it| it.starts_with(name)).count();
        assert_eq!(of("homing_backend_check_up{"), CHECKS_MAX);
        assert_eq!(of("homing_backend_kept{"), BACKENDS_MAX);
    }
}
