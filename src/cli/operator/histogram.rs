//! How long lookups took, and how long they waited for what: the director counts it on every core.

use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::args::HistogramArgs;
use super::client::Client;
use super::failure::{Failure, Outcome};
use super::output::{self, Table};
use super::{Done, connect};
use crate::shell::stats;
use crate::wire::admin::Command;
use crate::wire::admin::histograms::{HistogramRow, histogram};

/// Lookups of one kind that did not have to wait: the kind that `--hgrm` shows if none is named.
const SOCKET: &str = "socket";

/// One histogram of the director.
#[derive(Clone, Debug)]
struct Counted {
    /// `None`: of all cores.
    core: Option<u32>,
    kind: String,
    name: String,
    histogram: Histogram<u64>,
}

/// A histogram in JSON. Times in nanoseconds.
#[derive(Serialize)]
struct HistogramJson<'a> {
    core: Option<u32>,
    kind: &'a str,
    name: &'a str,
    count: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
    counts: Vec<(u64, u64)>,
}

/// Shows them.
pub(super) fn run(args: &HistogramArgs) -> Done {
    let mut client = connect(&args.common)?;
    if !client.is_homing()? {
        return Err(Failure::temporary(format!(
            "{}: only a Homing counts how long lookups take, and this director is none",
            client.place()
        )));
    }
    let mut all = ask(&mut client, args)?;
    if let Some(seconds) = args.seconds {
        thread::sleep(Duration::from_secs(seconds.into()));
        all = since(ask(&mut client, args)?, &all);
    }
    let chosen = choose(all, &args.names)?;
    if args.hgrm {
        let one = together(&chosen, args.names.is_empty());
        return output::print(&loadgen::hgrm::percentile_distribution(&one))
            .map(|()| Outcome::default());
    }
    let rows: Vec<_> = chosen.iter().map(HistogramJson::of).collect();
    output::list(args.common.json, &rows, || table(&rows, args))?;
    Ok(Outcome::default())
}

/// What the director has counted until now, of all cores together, of one, or of each.
fn ask(client: &mut Client, args: &HistogramArgs) -> Result<Vec<Counted>, Failure> {
    let (total, mut found) = of_core(client, args.core)?;
    if args.by_core {
        found.clear();
        for core in 0..total {
            found.extend(of_core(client, Some(core))?.1);
        }
    }
    Ok(found)
}

/// How many cores serve, and what was counted by one or all of them.
fn of_core(client: &mut Client, core: Option<u32>) -> Result<(u32, Vec<Counted>), Failure> {
    let rows = client.rows(&Command::Histograms(core), histogram)?;
    let (mut cores, mut found) = ((0, 0), Vec::<Counted>::new());
    for row in rows {
        let row = match row {
            HistogramRow::Cores { total, counted } => {
                cores = (total, counted);
                continue;
            }
            HistogramRow::Counts(row) => row,
        };
        let is_same = |it: &Counted| it.kind == row.kind && it.name == row.name;
        let at = found.iter().position(is_same).unwrap_or_else(|| {
            found.push(Counted {
                core,
                kind: row.kind,
                name: row.name,
                histogram: stats::histogram(),
            });
            found.len() - 1
        });
        for (nanos, count) in row.counts {
            found[at].histogram.saturating_record_n(nanos, count);
        }
    }
    let (total, counted) = cores;
    match core {
        Some(core) if u64::from(core) >= total => Err(Failure::usage(format!(
            "there is no core {core}: {total} cores serve, and the first is 0"
        ))),
        Some(core) if counted == 0 => Err(Failure::temporary(format!(
            "core {core} does not answer: it is stuck, or gets no CPU; see the director's log"
        ))),
        _ => {
            if core.is_none() && counted < total {
                let silent = total - counted;
                eprintln!("homing: {silent} of {total} cores did not answer and are left out");
            }
            Ok((u32::try_from(total).unwrap_or(u32::MAX), found))
        }
    }
}

/// What was counted after `before`. Of a director that was restarted meanwhile: since its start.
fn since(mut now: Vec<Counted>, before: &[Counted]) -> Vec<Counted> {
    for counted in &mut now {
        let same = |it: &&Counted| {
            (it.core, &it.kind, &it.name) == (counted.core, &counted.kind, &counted.name)
        };
        if let Some(before) = before.iter().find(same) {
            let whole = counted.histogram.clone();
            if counted.histogram.subtract(&before.histogram).is_err() {
                counted.histogram = whole;
            }
        }
    }
    now
}

/// Those with one of these names; without names all.
fn choose(all: Vec<Counted>, names: &[String]) -> Result<Vec<Counted>, Failure> {
    let has = |it: &Counted, name: &String| it.name == *name || format!("{}s", it.kind) == *name;
    if let Some(unknown) = names
        .iter()
        .find(|name| !all.iter().any(|it| has(it, name)))
    {
        let mut known: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
        known.dedup();
        return Err(Failure::usage(format!(
            "there is no histogram \"{}\"; there are: sockets, delays, {}",
            output::safe(unknown),
            output::safe(&known.join(", "))
        )));
    }
    let chosen = |it: &Counted| names.is_empty() || names.iter().any(|name| has(it, name));
    Ok(all.into_iter().filter(chosen).collect())
}

/// One histogram of all; of lookups that did not wait if none was named.
fn together(all: &[Counted], unnamed: bool) -> Histogram<u64> {
    let mut sum = stats::histogram();
    for counted in all.iter().filter(|it| !unnamed || it.kind == SOCKET) {
        sum += &counted.histogram;
    }
    sum
}

impl HistogramJson<'_> {
    fn of(counted: &Counted) -> HistogramJson<'_> {
        let histogram = &counted.histogram;
        let at = |quantile| histogram.value_at_quantile(quantile);
        let steps = histogram.iter_recorded();
        HistogramJson {
            core: counted.core,
            kind: &counted.kind,
            name: &counted.name,
            count: histogram.len(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
            counts: steps
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        }
    }
}

/// What was never seen has a row, but of each core only what there is.
fn table(rows: &[HistogramJson<'_>], args: &HistogramArgs) -> Table {
    let mut table = Table::new(&[
        "core", "kind", "name", "count#", "p50#", "p90#", "p99#", "p99.9#", "max#",
    ]);
    let shown = rows.iter().filter(|row| row.count > 0 || !args.by_core);
    for row in shown {
        let time = |nanos| match row.count {
            0 => String::new(),
            _ => output::duration(nanos),
        };
        table.row([
            row.core.map_or("all".to_owned(), |core| core.to_string()),
            row.kind.to_owned(),
            row.name.to_owned(),
            row.count.to_string(),
            time(row.p50),
            time(row.p90),
            time(row.p99),
            time(row.p999),
            time(row.max),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(kind: &str, name: &str, nanos: &[u64]) -> Counted {
        let mut histogram = stats::histogram();
        nanos.iter().for_each(|&it| histogram.saturating_record(it));
        Counted {
            core: None,
            kind: kind.to_owned(),
            name: name.to_owned(),
            histogram,
        }
    }

    #[test]
    fn histograms_are_chosen_by_name_or_kind() {
        let all = || {
            vec![
                counted("socket", "login", &[1000; 3]),
                counted("socket", "userdb", &[2000]),
                counted("delay", "weak user", &[3000; 5]),
            ]
        };
        let names =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        let sum = |chosen: &[&str]| {
            let chosen = names(chosen);
            together(&choose(all(), &chosen).unwrap(), chosen.is_empty()).len()
        };
        assert_eq!(sum(&[]), 4, "those that waited are something else");
        assert_eq!(sum(&["login", "login"]), 3);
        assert_eq!(sum(&["sockets", "weak user"]), 9);
        assert_eq!(sum(&["delays"]), 5);
        let error = choose(all(), &names(&["login", "pop3"])).unwrap_err();
        assert!(
            error
                .text
                .contains("there are: sockets, delays, login, userdb, weak user")
        );
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let before = [counted("socket", "login", &[1000, 1000, 5_000_000])];
        let now = vec![
            counted("socket", "login", &[1000, 1000, 5_000_000, 7000]),
            counted("socket", "userdb", &[1000]),
        ];
        let new = since(now, &before);
        assert_eq!((new[0].histogram.len(), new[1].histogram.len()), (1, 1));
        assert_eq!(output::duration(new[0].histogram.max()), "7.01 µs");
        // A director that was restarted has counted less.
        let new = since(vec![counted("socket", "login", &[9000])], &before);
        assert_eq!(new[0].histogram.len(), 1);
    }
}
