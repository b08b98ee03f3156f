//! What a run found.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::check::{Backend, Errors};
use crate::engine::Outcome;
use crate::plan::{Connections, Load, Plan, Users};
use crate::process::ProcessUse;
use crate::record::Percentiles;
use crate::workload::Phase;

/// From this share of one CPU on, a thread has nothing left to give.
const BUSY: f64 = 0.95;
/// An open loop that sends its 99th percentile later than this by its own fault did not keep up.
const LATE_MICROS: f64 = 1000.0;

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
}

/// What the generator itself used.
#[derive(Clone, Debug, Serialize)]
pub struct GeneratorUse {
    /// CPU time of its thread per lookup, with the stub auth server's if that runs in it.
    pub cpu_us_per_lookup: f64,
    /// Its CPU time by wall time.
    pub cpu_share: f64,
    /// How much later than intended an open loop sent its requests though it could have.
    pub late: Option<Percentiles>,
    /// Requests of an open loop that waited since everything allowed was in flight.
    pub held_back: u64,
    /// Whether it held the target back.
    pub bottleneck: Bottleneck,
}

/// The result of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was to be done.
    pub plan: Plan,
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
    /// Users that were given a backend.
    pub users: u64,
    /// Those among them that were given more than one.
    pub users_moved: u64,
    /// Users and lookups by backend.
    pub backends: Vec<Backend>,
    /// What was wrong.
    pub errors: Errors,
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
        let late = matches!(plan.load, Load::Open { .. });
        let mut generator = GeneratorUse {
            cpu_us_per_lookup: own as f64 / 1000.0 / lookups.max(1) as f64,
            cpu_share: own as f64 / nanos.max(1) as f64,
            late: late.then(|| Percentiles::of(&recorder.late)),
            held_back: recorder.held_back,
            bottleneck: Bottleneck::No,
        };
        generator.bottleneck = bottleneck(&generator, target.as_ref());
        let (users, users_moved) = checker.users();
        let seconds = Duration::from_nanos(nanos).as_secs_f64();
        Self {
            plan: plan.clone(),
            complete: outcome.complete,
            lookups,
            seconds,
            per_second: if nanos == 0 {
                0.0
            } else {
                lookups as f64 / seconds
            },
            latency: Percentiles::of(&recorder.latency),
            users,
            users_moved,
            backends: checker.backends(),
            errors: checker.errors,
            refused_as_planned: checker.refused_as_planned,
            target,
            generator,
            histogram: outcome.tally.recorder.latency,
        }
    }

    /// Whether every check held.
    pub fn passed(&self) -> bool {
        self.complete && self.lookups > 0 && self.errors.total() == 0 && self.users_moved == 0
    }
}

fn bottleneck(generator: &GeneratorUse, target: Option<&ProcessUse>) -> Bottleneck {
    if let Some(late) = &generator.late {
        // It spins between arrivals, so its CPU share says nothing; lateness does.
        let behind = late.count > 0 && late.p99 > LATE_MICROS;
        return if behind {
            Bottleneck::Generator
        } else {
            Bottleneck::No
        };
    }
    match target {
        _ if generator.cpu_share < BUSY => Bottleneck::No,
        None => Bottleneck::Perhaps,
        Some(target) if target.cpu_share < BUSY => Bottleneck::Generator,
        Some(_) => Bottleneck::No,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_load(f)?;
        self.write_latency(f)?;
        self.write_use(f)?;
        self.write_checks(f)
    }
}

impl Report {
    fn write_load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            connections,
            in_flight,
            ..
        } = self.plan;
        let shape = match self.plan.lifetime {
            Connections::Kept => format!("{connections} connections x {in_flight} in flight"),
            Connections::PerLogin => format!("one connection per login, {connections} at a time"),
        };
        let pace = match self.plan.load {
            Load::Closed => "closed loop".to_owned(),
            Load::Open { rate } => format!("open loop, {rate} logins/s"),
        };
        writeln!(f, "load            {shape}, {pace}")?;
        let (lookups, seconds) = (grouped(self.lookups), self.seconds);
        writeln!(f, "lookups         {lookups} in {seconds:.2} s")?;
        writeln!(f, "lookups/s       {}", grouped(self.per_second as u64))
    }

    fn write_latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles {
            p50,
            p90,
            p99,
            p999,
            max,
            ..
        } = self.latency;
        for (name, value) in [
            ("p50", p50),
            ("p90", p90),
            ("p99", p99),
            ("p99.9", p999),
            ("max", max),
        ] {
            writeln!(f, "latency {name:<7} {}", micros(value))?;
        }
        Ok(())
    }

    fn write_use(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(target) = &self.target {
            let ProcessUse {
                pid,
                name,
                cpu_us_per_lookup,
                cpu_share,
                ..
            } = target;
            writeln!(
                f,
                "target CPU      {cpu_us_per_lookup:.3} µs a lookup, {:.0} % of a CPU ({name}, process {pid})",
                cpu_share * 100.0
            )?;
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let (start, end) = (megabytes(target.rss_start), megabytes(target.rss_end));
            write!(f, "target memory   {start:.1} MB before, {end:.1} MB after")?;
            match target.bytes_per_new_user {
                Some(bytes) => writeln!(f, ", {bytes:.1} bytes a new user")?,
                None => writeln!(f)?,
            }
        }
        let GeneratorUse {
            cpu_us_per_lookup,
            cpu_share,
            ..
        } = self.generator;
        let share = cpu_share * 100.0;
        writeln!(
            f,
            "generator CPU   {cpu_us_per_lookup:.3} µs a lookup, {share:.0} % of a CPU"
        )?;
        if let Some(late) = &self.generator.late {
            writeln!(
                f,
                "sent late       p99 {}, max {}",
                micros(late.p99),
                micros(late.max)
            )?;
        }
        match self.generator.bottleneck {
            Bottleneck::No => Ok(()),
            Bottleneck::Generator => {
                writeln!(
                    f,
                    "                the GENERATOR was the bottleneck, not the target"
                )
            }
            Bottleneck::Perhaps => writeln!(
                f,
                "                the generator was busy all the time: give --pid to see if it was the bottleneck"
            ),
        }
    }

    fn write_checks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.backends.is_empty() {
            writeln!(f, "\nbackend                           users     lookups")?;
        }
        for Backend {
            host,
            users,
            lookups,
        } in &self.backends
        {
            writeln!(
                f,
                "{host:<28} {:>10} {:>11}",
                grouped(*users),
                grouped(*lookups)
            )?;
        }
        if self.plan.expect_host {
            let (all, stayed) = (grouped(self.users), grouped(self.users - self.users_moved));
            writeln!(f, "\nsame user, same backend: {stayed} of {all}")?;
        }
        if self.refused_as_planned > 0 {
            writeln!(
                f,
                "refused as planned: {}",
                grouped(self.refused_as_planned)
            )?;
        }
        for (kind, count) in self.errors.by_kind().iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "ERROR {kind}: {}", grouped(*count))?;
        }
        if !self.complete {
            writeln!(
                f,
                "ERROR the run did not end as planned: a stall, or the time limit"
            )?;
        }
        if self.lookups == 0 {
            writeln!(f, "ERROR nothing was measured")?;
        }
        Ok(())
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn micros(value: f64) -> String {
    match value {
        0.0..1000.0 => format!("{value:.1} µs"),
        1000.0..1e6 => format!("{:.2} ms", value / 1000.0),
        _ => format!("{:.2} s", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(micros(12.34), "12.3 µs");
        assert_eq!(micros(12_340.0), "12.34 ms");
        assert_eq!(micros(1.5e6), "1.50 s");
    }
}
