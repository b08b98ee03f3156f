//! The families, each with its name, kind and meaning.

use std::collections::BTreeMap;

use super::{
    BACKENDS_MAX, Buckets, CoreFacts, DIRECTORS_MAX, Facts, HttpFacts, LookupFacts, ProcessFacts,
    RingFacts,
};
use crate::admin::documents::{Backend, Director};
use crate::core::lookup::Socket;
use crate::core::{DelayReason, Refusal};
use crate::http::exposition::{Exposition, Kind, Labels};
use Kind::{Counter, Gauge, Histogram};

pub(super) fn reason(reason: DelayReason) -> &'static str {
    match reason {
        DelayReason::NotHandshaked => "ring_not_handshaked",
        DelayReason::NotSynced => "ring_not_synced",
        DelayReason::Weak => "user_weak",
        DelayReason::Killing => "user_moving",
        DelayReason::NoBackend => "no_backend",
    }
}

fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::TableFull => "table_full",
        Refusal::TooManyNewUsers => "too_many_new_users",
    }
}

pub(super) fn lookups(facts: &LookupFacts, out: &mut Exposition) {
    out.family(
        "homing_lookups_answered",
        Counter,
        "Lookups that got a backend.",
    );
    for (socket, count) in Socket::ALL.into_iter().zip(facts.answered) {
        out.sample(&[("socket", socket.name())], count as f64);
    }
    out.family(
        "homing_lookups_timed_out",
        Counter,
        "Lookups that failed temporarily at their deadline, by what they waited for.",
    );
    for (why, count) in DelayReason::ALL.into_iter().zip(facts.timed_out) {
        out.sample(&[("reason", reason(why))], count as f64);
    }
    out.family(
        "homing_lookups_refused",
        Counter,
        "Lookups of new users that failed temporarily at once.",
    );
    for (why, count) in Refusal::ALL.into_iter().zip(facts.refused) {
        out.sample(&[("reason", refusal(why))], count as f64);
    }
    let single = [
        (
            "homing_lookups_misconfigured",
            "Lookups that failed because of the passdb's answer.",
            facts.misconfigured,
        ),
        (
            "homing_users_created",
            "Users that a lookup has placed.",
            facts.created,
        ),
        (
            "homing_keep_alives",
            "Keep-alive lines of login processes.",
            facts.keep_alives,
        ),
        (
            "homing_keep_alives_skipped",
            "Keep-alive lines that were too long.",
            facts.keep_alives_skipped,
        ),
        (
            "homing_auth_dial_failures",
            "Connections to Dovecot's auth that could not be made.",
            facts.dial_failures,
        ),
        (
            "homing_auth_connections_lost",
            "Connections to Dovecot's auth that auth has ended.",
            facts.auth_lost,
        ),
    ];
    for (name, help, count) in single {
        out.single(name, Counter, help, count as f64);
    }
    out.single(
        "homing_lookups_waiting",
        Gauge,
        "Lookups that wait now.",
        facts.waiting as f64,
    );
}

pub(super) fn latencies(facts: &LookupFacts, out: &mut Exposition) {
    let help =
        "From reading auth's reply to having written the answer, of lookups that did not wait.";
    out.family("homing_lookup_latency_seconds", Histogram, help);
    for (socket, buckets) in Socket::ALL.into_iter().zip(&facts.latency) {
        distribution(&[("socket", socket.name())], buckets, out);
    }
    let help = "How long the other lookups waited, by what they waited for.";
    out.family("homing_lookup_delay_seconds", Histogram, help);
    for (why, buckets) in DelayReason::ALL.into_iter().zip(&facts.delay) {
        distribution(&[("reason", reason(why))], buckets, out);
    }
}

fn distribution(labels: Labels<'_>, buckets: &Buckets, out: &mut Exposition) {
    out.histogram(labels, &buckets.below, buckets.count, buckets.sum);
}

pub(super) fn cores(cores: &[CoreFacts], out: &mut Exposition) {
    type Value = fn(&CoreFacts) -> Option<f64>;
    let families: [(&'static str, Kind, &'static str, Value); 5] = [
        (
            "homing_core_connections",
            Gauge,
            "Open connections of a serving core.",
            |core| Some(core.connections as f64),
        ),
        (
            "homing_core_connections_accepted",
            Counter,
            "Connections that a core has accepted.",
            |core| Some(core.accepted as f64),
        ),
        (
            "homing_core_connections_handed_over",
            Counter,
            "Connections that a core has given to another one.",
            |core| Some(core.handed_over as f64),
        ),
        (
            "homing_core_lookups",
            Counter,
            "Lookups that a core has answered with a backend.",
            |core| Some(core.lookups as f64),
        ),
        (
            "homing_core_cpu_seconds",
            Counter,
            "CPU time of a core's thread.",
            |core| core.cpu,
        ),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for core in cores {
            if let Some(value) = value(core) {
                out.sample(&[("core", &core.core.to_string())], value);
            }
        }
    }
}

pub(super) fn users(facts: &Facts, out: &mut Exposition) {
    out.single(
        "homing_users",
        Gauge,
        "Users that are known, those included that expire within seconds.",
        facts.users as f64,
    );
    out.single(
        "homing_users_limit",
        Gauge,
        "Most users that are remembered (user_table_limit).",
        facts.users_max as f64,
    );
    out.single(
        "homing_user_table_bytes",
        Gauge,
        "Memory of the user table.",
        facts.table_bytes as f64,
    );
}

pub(super) fn backends(facts: &Facts, out: &mut Exposition) {
    out.single(
        "homing_backends",
        Gauge,
        "Backends in the list.",
        facts.backends.len() as f64,
    );
    type Value = fn(&Backend, bool) -> f64;
    let families: [(&'static str, &'static str, Value); 4] = [
        (
            "homing_backend_up",
            "1: the backend gets new users.",
            |it, _| f64::from(u8::from(it.state == "up")),
        ),
        ("homing_backend_vhosts", "The backend's weight.", |it, _| {
            f64::from(it.vhosts)
        }),
        ("homing_backend_users", "Users on the backend.", |it, _| {
            it.users as f64
        }),
        (
            "homing_backend_draining",
            "1: its users are leaving it gradually.",
            |_, drains| f64::from(u8::from(drains)),
        ),
    ];
    for (name, help, value) in families {
        out.family(name, Gauge, help);
        for backend in facts.backends.iter().take(BACKENDS_MAX) {
            let drains = facts.draining.contains(&backend.address);
            let labels = [("backend", backend.address.as_str()), ("tag", &backend.tag)];
            out.sample(&labels, value(backend, drains));
        }
    }
}

pub(super) fn ring(facts: &RingFacts, out: &mut Exposition) {
    let flag = |flag: bool| f64::from(u8::from(flag));
    out.single(
        "homing_ring_handshaked",
        Gauge,
        "1: the ring was complete at least once.",
        flag(facts.handshaked),
    );
    out.single(
        "homing_ring_synced",
        Gauge,
        "1: all directors agree on the backends.",
        flag(facts.synced),
    );
    out.single(
        "homing_ring_alone",
        Gauge,
        "1: there is no other director to ask.",
        flag(facts.alone),
    );
    out.single(
        "homing_ring_sync_duration_seconds",
        Gauge,
        "The last round of synchronisation.",
        facts.sync,
    );
    let members = members_of(&facts.directors);
    out.single(
        "homing_ring_directors",
        Gauge,
        "Directors in the list, this one included.",
        members as f64,
    );
    let connected = facts
        .directors
        .iter()
        .filter(|it| matches!(it.kind.as_str(), "left" | "right"));
    out.single(
        "homing_ring_neighbours",
        Gauge,
        "Neighbours that are connected, 0 to 2.",
        connected.count() as f64,
    );
}

pub(super) fn deeds(facts: &RingFacts, out: &mut Exposition) {
    let counters = [
        (
            "homing_ring_desyncs",
            "Times that the directors began to disagree.",
            facts.desyncs,
        ),
        (
            "homing_double_placements",
            "Users that two directors had placed differently.",
            facts.double_placements,
        ),
        (
            "homing_moves",
            "Users moved whose sessions were ended here.",
            facts.moves,
        ),
        (
            "homing_move_timeouts",
            "Moves that took too long and were given up.",
            facts.move_timeouts,
        ),
        (
            "homing_flush_scripts",
            "Flush scripts run.",
            facts.flush_scripts,
        ),
    ];
    for (name, help, count) in counters {
        out.single(name, Counter, help, count as f64);
    }
    out.family(
        "homing_kicks",
        Counter,
        "Kicks that were not part of a move, by whose sessions.",
    );
    for (of, count) in &facts.kicks {
        out.sample(&[("of", of)], *count as f64);
    }
    out.family(
        "homing_ring_events",
        Counter,
        "What happened in the ring, by cause.",
    );
    for (cause, count) in &facts.events {
        out.sample(&[("cause", cause)], *count as f64);
    }
}

/// Directors, each once.
fn members_of(directors: &[Director]) -> usize {
    let mut members: Vec<_> = directors
        .iter()
        .filter(|it| it.kind != "removed")
        .filter_map(|it| Some((it.address.as_deref()?, it.port)))
        .collect();
    members.sort_unstable();
    members.dedup();
    members.len()
}

pub(super) fn connections(directors: &[Director], out: &mut Exposition) {
    type Value = fn(&Director) -> Option<u64>;
    let families: [(&'static str, Kind, &'static str, f64, Value); 4] = [
        (
            "homing_ring_connection_ping_seconds",
            Gauge,
            "Last PING of a connection to its PONG.",
            1e-3,
            |it| it.ping_ms,
        ),
        (
            "homing_ring_connection_received_bytes",
            Counter,
            "Bytes read from a connection.",
            1.0,
            |it| it.bytes_in,
        ),
        (
            "homing_ring_connection_sent_bytes",
            Counter,
            "Bytes written to a connection.",
            1.0,
            |it| it.bytes_out,
        ),
        (
            "homing_ring_connection_buffered_bytes",
            Gauge,
            "Bytes that wait to be written to a connection.",
            1.0,
            |it| it.buffered,
        ),
    ];
    // Two connections to one director of one kind are told as one.
    let mut known: BTreeMap<(String, &str), &Director> = BTreeMap::new();
    for director in directors.iter().filter(|it| it.kind != "self") {
        if let (Some(address), Some(port)) = (&director.address, director.port)
            && director.bytes_in.is_some()
            && known.len() < DIRECTORS_MAX
        {
            let name = match address.contains(':') {
                true => format!("[{address}]:{port}"),
                false => format!("{address}:{port}"),
            };
            known.insert((name, &director.kind), director);
        }
    }
    for (name, kind, help, unit, value) in families {
        out.family(name, kind, help);
        for ((director, side), it) in &known {
            if let Some(value) = value(it) {
                out.sample(
                    &[("director", director), ("side", side)],
                    value as f64 * unit,
                );
            }
        }
    }
}

pub(super) fn http(facts: &HttpFacts, out: &mut Exposition) {
    out.family(
        "homing_http_answers",
        Counter,
        "Answers of this interface, by the first digit of their status.",
    );
    for (digit, count) in facts.answers.iter().enumerate().skip(2) {
        out.sample(&[("status", &format!("{digit}xx"))], *count as f64);
    }
    out.single(
        "homing_http_unauthorized",
        Counter,
        "Requests with a wrong token, or without one.",
        facts.unauthorized as f64,
    );
    out.single(
        "homing_http_over_rate",
        Counter,
        "Requests beyond what one peer may make.",
        facts.over_rate as f64,
    );
    out.single(
        "homing_http_connections",
        Gauge,
        "Open connections of this interface.",
        facts.connections as f64,
    );
}

pub(super) fn process(facts: &ProcessFacts, out: &mut Exposition) {
    out.single(
        "process_start_time_seconds",
        Gauge,
        "When the process began, since 1970.",
        facts.started as f64,
    );
    let known = [
        (
            "process_resident_memory_bytes",
            Gauge,
            "Memory in use.",
            facts.resident.map(|it| it as f64),
        ),
        ("process_cpu_seconds", Counter, "CPU time.", facts.cpu),
        (
            "process_open_fds",
            Gauge,
            "Open descriptors.",
            facts.descriptors.map(|it| it as f64),
        ),
        (
            "process_max_fds",
            Gauge,
            "Most descriptors.",
            facts.descriptors_max.map(|it| it as f64),
        ),
    ];
    for (name, kind, help, value) in known {
        if let Some(value) = value {
            out.single(name, kind, help, value);
        }
    }
}
