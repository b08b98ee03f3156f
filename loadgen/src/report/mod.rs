//! What a run found.

mod export;
pub(crate) mod table;

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::check::{Backend, Errors};
use crate::clock;
use crate::engine::Outcome;
use crate::machine::Machine;
use crate::plan::{Load, Plan, Users};
use crate::process::ProcessUse;
use crate::record::{Interval, Percentiles};
use crate::tally::Retries;
use crate::workload::Phase;

/// From this share of one CPU on, a thread has nothing left to give.
const BUSY: f64 = 0.95;
/// An open loop that sends its 99th percentile later than this by its own fault did not keep up...
const LATE_MICROS: f64 = 1000.0;
/// ...if that is also more than this share of the latency's: less changes no result.
const LATE_SHARE: f64 = 0.1;

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The part that is running.
    pub phase: Phase,
    /// Its share that is done, 0 to 1, where that is known.
    pub done: f64,
    /// Replies so far, unmeasured ones included.
    pub replies: u64,
    /// Errors so far.
    pub errors: u64,
}

/// Who set the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bottleneck {
    /// The target was busy, or the load was below what either could do.
    No,
    /// The generator: the target could have done more.
    Generator,
    /// The generator was busy; whether the target was, is not known without its process.
    Perhaps,
    /// Other programs: the generator was ready to go on and had no CPU.
    Machine,
}

/// What the generator itself used.
#[derive(Clone, Debug, Serialize)]
pub struct GeneratorUse {
    /// CPU time of its thread per lookup, with the stub auth server's if that runs in it.
    pub cpu_us_per_lookup: f64,
    /// Its CPU time by wall time.
    pub cpu_share: f64,
    /// The time in which it was ready and others had the CPU, by wall time.
    pub starved_share: f64,
    /// How much later than intended an open loop sent its requests though it could have.
    pub late: Option<Percentiles>,
    /// Requests of an open loop that waited since everything allowed was in flight.
    pub held_back: u64,
    /// Whether it held the target back.
    pub bottleneck: Bottleneck,
}

/// A point of a distribution: this share of all was no slower.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// The share, 0 to 1.
    pub quantile: f64,
    /// The latency in microseconds.
    pub micros: f64,
}

/// The result of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was to be done.
    pub plan: Plan,
    /// Whether every check held.
    pub passed: bool,
    /// When the measured part began, in seconds since 1970.
    pub began: f64,
    /// Where the generator ran.
    pub machine: Machine,
    /// Whether the run ended as planned: no stall, no time limit.
    pub complete: bool,
    /// Replies in the measured part.
    pub lookups: u64,
    /// How long that was.
    pub seconds: f64,
    /// Lookups per second.
    pub per_second: f64,
    /// Microseconds from (intended) start to reply.
    pub latency: Percentiles,
    /// The whole distribution, closer and closer towards the slowest.
    pub distribution: Vec<Point>,
    /// The same by interval.
    pub intervals: Vec<Interval>,
    /// Users that were given a backend.
    pub users: u64,
    /// Those among them that were given more than one.
    pub users_moved: u64,
    /// Users and lookups by backend.
    pub backends: Vec<Backend>,
    /// What was wrong.
    pub errors: Errors,
    /// Logins that were tried again.
    pub retries: Retries,
    /// Logins that auth refused because the plan wanted it so.
    pub refused_as_planned: u64,
    /// What the target's process used.
    pub target: Option<ProcessUse>,
    /// What the generator used.
    pub generator: GeneratorUse,
    /// All latencies of the measured part, in nanoseconds.
    #[serde(skip)]
    pub histogram: Histogram<u64>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, outcome: Outcome) -> Self {
        let recorder = &outcome.tally.recorder;
        let checker = &outcome.tally.checker;
        let lookups = recorder.measured;
        let measured = outcome.measured.as_ref();
        let nanos = measured.map_or(0, |(begin, end)| end.time.saturating_sub(begin.time));
        let own = measured.map_or(0, |(begin, end)| end.own_cpu.saturating_sub(begin.own_cpu));
        let waits = measured.map_or(0, |(begin, end)| {
            end.own_waits.saturating_sub(begin.own_waits)
        });
        let new_users = match plan.users {
            Users::New { .. } => outcome.new_users,
            Users::Known { .. } => 0, // who knows whether the target had seen them
        };
        let target = outcome
            .process
            .as_ref()
            .zip(measured)
            .and_then(|((process, start), mark)| {
                let readings = [*start, mark.0.process?, mark.1.process?];
                Some(process.used(readings, lookups, nanos, new_users))
            });
        let late = !matches!(plan.load, Load::Closed);
        let mut generator = GeneratorUse {
            cpu_us_per_lookup: own as f64 / 1000.0 / lookups.max(1) as f64,
            cpu_share: own as f64 / nanos.max(1) as f64,
            starved_share: waits as f64 / nanos.max(1) as f64,
            late: late.then(|| Percentiles::of(&recorder.late)),
            held_back: recorder.held_back,
            bottleneck: Bottleneck::No,
        };
        let latency = Percentiles::of(&recorder.latency);
        generator.bottleneck = bottleneck(&generator, target.as_ref(), latency.p99);
        let (users, users_moved) = checker.users();
        let seconds = Duration::from_nanos(nanos).as_secs_f64();
        let began = measured.map_or(0.0, |(begin, _)| clock::wall_time_of(begin.time));
        let errors = checker.errors;
        let (backends, refused_as_planned) = (checker.backends(), checker.refused_as_planned);
        let distribution = export::points(&recorder.latency);
        let histogram = recorder.latency.clone();
        let intervals = outcome.tally.recorder.intervals();
        let good = errors.total() == 0 && users_moved == 0;
        Self {
            plan: plan.clone(),
            passed: outcome.complete && lookups > 0 && good,
            began,
            machine: Machine::here(),
            complete: outcome.complete,
            lookups,
            seconds,
            per_second: if nanos == 0 {
                0.0
            } else {
                lookups as f64 / seconds
            },
            latency,
            distribution,
            intervals,
            users,
            users_moved,
            backends,
            errors,
            retries: outcome.tally.retries,
            refused_as_planned,
            target,
            generator,
            histogram,
        }
    }

    /// Whether every check held.
    pub fn passed(&self) -> bool {
        self.passed
    }
}

fn bottleneck(
    generator: &GeneratorUse,
    target: Option<&ProcessUse>,
    latency_p99: f64,
) -> Bottleneck {
    if let Some(late) = &generator.late {
        // It spins between arrivals, so its CPU share says nothing; lateness does.
        let limit = LATE_MICROS.max(latency_p99 * LATE_SHARE);
        let behind = late.count > 0 && late.p99 > limit;
        return if behind {
            Bottleneck::Generator
        } else {
            Bottleneck::No
        };
    }
    match target {
        _ if generator.cpu_share + generator.starved_share < BUSY => Bottleneck::No,
        _ if generator.cpu_share < BUSY => Bottleneck::Machine,
        None => Bottleneck::Perhaps,
        Some(target) if target.cpu_share < BUSY => Bottleneck::Generator,
        Some(_) => Bottleneck::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_at_its_limit_is_said_to_be() {
        let generator = |cpu_share, p99: Option<f64>| GeneratorUse {
            cpu_us_per_lookup: 1.0,
            cpu_share,
            starved_share: 0.0,
            late: p99.map(|p99| Percentiles {
                p50: 0.0,
                p90: 0.0,
                p99,
                p999: p99,
                max: p99,
                mean: 0.0,
                count: 10,
            }),
            held_back: 0,
            bottleneck: Bottleneck::No,
        };
        let target = |cpu_share| ProcessUse {
            pids: vec![1],
            name: String::new(),
            cpu_us_per_lookup: 1.0,
            cpu_share,
            rss_start: 0,
            rss_before: 0,
            rss_end: 0,
            bytes_per_new_user: None,
        };
        // Closed loop: who was busy?
        let idle = generator(0.5, None);
        assert_eq!(bottleneck(&idle, None, 1e4), Bottleneck::No);
        let busy = generator(0.99, None);
        assert_eq!(bottleneck(&busy, None, 1e4), Bottleneck::Perhaps);
        assert_eq!(
            bottleneck(&busy, Some(&target(0.5)), 1e4),
            Bottleneck::Generator
        );
        assert_eq!(bottleneck(&busy, Some(&target(1.0)), 1e4), Bottleneck::No);
        // Never idle, and yet not busy: others had the CPU.
        let starved = |cpu_share, starved_share| GeneratorUse {
            starved_share,
            ..generator(cpu_share, None)
        };
        let of = |generator| bottleneck(&generator, Some(&target(0.1)), 1e4);
        assert_eq!(of(starved(0.2, 0.5)), Bottleneck::No, "it was idle, too");
        assert_eq!(of(starved(0.1, 0.86)), Bottleneck::Machine);
        assert_eq!(of(starved(0.96, 0.04)), Bottleneck::Generator);
        // Open loop: was it in time?
        assert_eq!(
            bottleneck(&generator(1.0, Some(50.0)), None, 60.0),
            Bottleneck::No
        );
        assert_eq!(
            bottleneck(&generator(0.1, Some(5000.0)), None, 6000.0),
            Bottleneck::Generator
        );
    }
}
