//! A result as a table for people.

use std::fmt;

use super::{Bottleneck, GeneratorUse, Report};
use crate::check::Backend;
use crate::plan::{Connections, Load, Plan, Popularity, Users};
use crate::process::ProcessUse;
use crate::record::Percentiles;

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
            Load::Ramp { from, to } => format!("open loop, {from} to {to} logins/s"),
            Load::Storm { within } => format!("storm, all users within {within:?}"),
        };
        let targets: Vec<_> = self
            .plan
            .targets
            .iter()
            .map(|target| target.kind())
            .collect();
        writeln!(
            f,
            "targets         {} ({})",
            targets.len(),
            targets.join(", ")
        )?;
        writeln!(f, "load            {shape}, {pace}")?;
        self.write_users(f)?;
        let (lookups, seconds) = (grouped(self.lookups), self.seconds);
        writeln!(f, "lookups         {lookups} in {seconds:.2} s")?;
        writeln!(f, "lookups/s       {}", grouped(self.per_second as u64))
    }

    fn write_users(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        let who = match plan.users {
            Users::Known { count, .. } => format!("{} known", grouped(count.into())),
            Users::New { first } => format!("new only, from number {first}"),
        };
        write!(f, "users           {who}")?;
        if let Popularity::Zipf { exponent } = plan.popularity {
            write!(f, ", Zipf {exponent}")?;
        }
        if plan.new_share > 0.0 {
            write!(f, ", {} % new ones", plan.new_share * 100.0)?;
        }
        if plan.is_mail() && !plan.session.hold.is_zero() {
            write!(f, ", sessions held {:?}", plan.session.hold)?;
        }
        writeln!(f)
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
                pids,
                name,
                cpu_us_per_lookup,
                cpu_share,
                ..
            } = target;
            writeln!(
                f,
                "target CPU      {cpu_us_per_lookup:.3} µs a lookup, {:.0} % of a CPU ({name}, {})",
                cpu_share * 100.0,
                match pids.as_slice() {
                    [pid] => format!("process {pid}"),
                    _ => format!("{} processes", pids.len()),
                }
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
            Bottleneck::Machine => writeln!(
                f,
                "                OTHER PROGRAMS had the CPU for {:.0} % of the time while the generator \
                 was ready: rate and latency are the machine's, not the target's",
                self.generator.starved_share * 100.0
            ),
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
        if !self.plan.expects_host() {
            writeln!(
                f,
                "\nwhich backend a user is on was not told and is NOT CHECKED"
            )?;
        } else {
            let (all, stayed) = (grouped(self.users), grouped(self.users - self.users_moved));
            writeln!(f, "\nsame user, same backend: {stayed} of {all}")?;
        }
        if self.retries.total() > 0 {
            let retries = &self.retries;
            writeln!(
                f,
                "tried again: {} ({} temporary failures, {} disconnected, {} not connected, {} timed out)",
                grouped(retries.total()),
                retries.temporary_failure,
                retries.disconnected,
                retries.not_connected,
                retries.timed_out
            )?;
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
pub(crate) fn grouped(number: u64) -> String {
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

pub(crate) fn micros(value: f64) -> String {
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
