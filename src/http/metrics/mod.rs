//! Which metrics there are. Names and units as Prometheus wants them; every label has a bounded number of
//! values: sockets, reasons, cores, backends, directors of the ring.

mod families;
mod health;

use std::collections::BTreeMap;

use super::exposition::{Exposition, Format, Kind};
use crate::admin::documents::{Backend, Director, Health};

/// Backends that have metrics of their own; a tier has some hundred. Of more only the number is told.
pub const BACKENDS_MAX: usize = 1000;
/// Checks of backends likewise: two or three of each.
pub const CHECKS_MAX: usize = 3 * BACKENDS_MAX;
/// Connections of the ring likewise.
pub const DIRECTORS_MAX: usize = 200;

/// A distribution, for a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// How many are at most each bound, in ascending order; in seconds.
    pub below: Vec<(f64, u64)>,
    /// How many there are.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum: f64,
}

/// One serving core.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoreFacts {
    /// Its number.
    pub core: usize,
    /// Open connections.
    pub connections: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections given to another core.
    pub handed_over: u64,
    /// Lookups answered with a backend.
    pub lookups: u64,
    /// CPU time of its thread in seconds, where it is known.
    pub cpu: Option<f64>,
}

/// What all cores counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LookupFacts {
    /// Lookups answered with a backend, by socket.
    pub answered: [u64; 3],
    /// Lookups that failed at their deadline, by reason.
    pub timed_out: [u64; 5],
    /// New users refused, by cause.
    pub refused: [u64; 2],
    /// Lookups that failed because of the passdb's answer.
    pub misconfigured: u64,
    /// Lookups waiting now.
    pub waiting: u64,
    /// Users created.
    pub created: u64,
    /// Keep-alive lines read.
    pub keep_alives: u64,
    /// Keep-alive lines that were too long.
    pub keep_alives_skipped: u64,
    /// Connections to auth that could not be made.
    pub dial_failures: u64,
    /// Connections to auth that auth ended.
    pub auth_lost: u64,
    /// Time to the answer of lookups that did not wait, by socket.
    pub latency: [Buckets; 3],
    /// How long the others waited, by reason.
    pub delay: [Buckets; 5],
}

/// What the ring did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RingFacts {
    /// It was complete at least once.
    pub handshaked: bool,
    /// All directors agree.
    pub synced: bool,
    /// There is nobody else.
    pub alone: bool,
    /// How long the last round of synchronisation took, in seconds.
    pub sync: f64,
    /// Its connections, and directors without one.
    pub directors: Vec<Director>,
    /// Moves that ended sessions.
    pub moves: u64,
    /// Moves given up.
    pub move_timeouts: u64,
    /// Flush scripts run.
    pub flush_scripts: u64,
    /// Kicks ordered, by whose sessions: `user`, `hash`, `passdb_field`.
    pub kicks: BTreeMap<&'static str, u64>,
    /// Users that two directors had placed differently.
    pub double_placements: u64,
    /// Times that the directors began to disagree.
    pub desyncs: u64,
    /// What happened, by cause.
    pub events: BTreeMap<&'static str, u64>,
}

/// This interface itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpFacts {
    /// Answers by the first digit of their status.
    pub answers: [u64; 6],
    /// Requests with a token that is nobody's, or without one.
    pub unauthorized: u64,
    /// Requests over a peer's rate.
    pub over_rate: u64,
    /// Open connections.
    pub connections: u64,
}

/// The process, as far as the kernel tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// When it began, seconds since 1970.
    pub started: u64,
    /// CPU time in seconds.
    pub cpu: Option<f64>,
    /// Memory in use, in bytes.
    pub resident: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// Most descriptors that it may open.
    pub descriptors_max: Option<u64>,
}

/// Everything that is told.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The serving cores.
    pub cores: Vec<CoreFacts>,
    /// Their sum.
    pub lookups: LookupFacts,
    /// Users known.
    pub users: u64,
    /// `user_table_limit`.
    pub users_max: u64,
    /// Memory of the user table.
    pub table_bytes: u64,
    /// The backends.
    pub backends: Vec<Backend>,
    /// Addresses of those that are being drained.
    pub draining: Vec<String>,
    /// What their checks say, backend after backend.
    pub health: Vec<Health>,
    /// The ring.
    pub ring: RingFacts,
    /// This interface.
    pub http: HttpFacts,
    /// The process.
    pub process: ProcessFacts,
}

/// The whole text.
pub fn text(facts: &Facts, format: Format) -> String {
    let mut out = Exposition::new(format);
    out.family("homing_build_info", Kind::Gauge, "The running version.");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    families::lookups(&facts.lookups, &mut out);
    families::latencies(&facts.lookups, &mut out);
    families::cores(&facts.cores, &mut out);
    families::users(facts, &mut out);
    families::backends(facts, &mut out);
    health::checks(&facts.health, &mut out);
    health::decisions(&facts.health, &mut out);
    families::ring(&facts.ring, &mut out);
    families::deeds(&facts.ring, &mut out);
    families::connections(&facts.ring.directors, &mut out);
    families::http(&facts.http, &mut out);
    families::process(&facts.process, &mut out);
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::families::reason;
    use super::*;
    use crate::core::DelayReason;

    fn backend(number: usize) -> Backend {
        Backend {
            address: format!("10.0.{}.{}", number / 256, number % 256),
            tag: "a\"b".to_owned(),
            vhosts: 100,
            state: "down",
            state_changed: None,
            users: 7,
            name: None,
            health: None,
        }
    }

    #[test]
    fn every_reason_is_there_from_the_start() {
        let text = text(&Facts::default(), Format::Prometheus);
        for why in DelayReason::ALL {
            let line = format!(
                "homing_lookups_timed_out_total{{reason=\"{}\"}} 0.0",
                reason(why)
            );
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains("homing_lookups_answered_total{socket=\"login\"} 0.0\n"));
        assert!(text.contains("homing_lookup_latency_seconds_count{socket=\"userdb\"} 0.0\n"));
    }

    #[test]
    fn however_many_backends_there_are_the_text_is_bounded() {
        let facts = Facts {
            backends: (0..BACKENDS_MAX + 5).map(backend).collect(),
            draining: vec!["10.0.0.1".to_owned()],
            ..Facts::default()
        };
        let text = text(&facts, Format::OpenMetrics);
        let of = |name: &str| text.lines().filter(|it| it.starts_with(name)).count();
        assert_eq!(of("homing_backend_users{"), BACKENDS_MAX);
        assert!(text.contains("homing_backends 1005.0\n"));
        assert!(text.contains("homing_backend_up{backend=\"10.0.0.1\",tag=\"a\\\"b\"} 0.0\n"));
        assert!(
            text.contains("homing_backend_draining{backend=\"10.0.0.1\",tag=\"a\\\"b\"} 1.0\n")
        );
        assert!(
            text.contains("homing_backend_draining{backend=\"10.0.0.2\",tag=\"a\\\"b\"} 0.0\n")
        );
    }
}
