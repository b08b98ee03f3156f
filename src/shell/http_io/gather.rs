//! What metrics are made of.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

use super::App;
use super::call::Call;
use crate::admin::documents::{Backend, Director, Health};
use crate::core::ip_text::ip_text;
use crate::http::metrics::{
    Buckets, CoreFacts, Facts, HttpFacts, LookupFacts, ProcessFacts, RingFacts,
};
use crate::http::problem::Problem;
use crate::shell::stats::{Counted, Stats};
use crate::wire::admin::{Command, read};

/// Bounds of latencies, in seconds.
const LATENCIES: [f64; 13] = [
    0.000_02, 0.000_05, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0, 5.0,
];
/// Bounds of delays, in seconds: up to what login processes wait for.
const DELAYS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What the cores counted. Waits for them, on another thread.
pub(super) async fn counted(app: &Arc<App>) -> Result<Counted, Problem> {
    let cores = Arc::clone(&app.cores);
    let counted = tokio::task::spawn_blocking(move || cores.counted()).await;
    counted.map_err(|error| Problem::director(error.to_string()))
}

/// Everything.
pub(super) async fn facts(call: &Call) -> Result<Facts, Problem> {
    let app = &call.app;
    let counted = counted(app).await?;
    let mut director = call.director().await?;
    let hosts = director.hosts().await?;
    let peers = director.rows(&Command::DirectorList, read::peer).await?;
    let drains = director.rows(&Command::DrainList, read::drain).await?;
    let health = director.rows(&Command::HealthList, read::health).await?;
    let directory = Arc::clone(&app.directory);
    let table = tokio::task::spawn_blocking(move || (directory.memory(), threads())).await;
    let (table_bytes, threads) = table.map_err(|error| Problem::director(error.to_string()))?;
    let core = |(core, stats): &(usize, Stats)| CoreFacts {
        core: *core,
        connections: stats.connections,
        accepted: stats.accepted,
        handed_over: stats.handed_over,
        lookups: stats.answered.iter().sum(),
        cpu: cpu_of(*core, &threads),
    };
    let directors: Vec<_> = peers.iter().map(Director::of).collect();
    Ok(Facts {
        cores: counted.by_core.iter().map(core).collect(),
        lookups: lookups(&counted.sum),
        users: app.directory.users(),
        users_max: app.config.load().users_max,
        table_bytes: table_bytes as u64,
        backends: hosts.iter().map(Backend::of).collect(),
        health: health.iter().map(Health::of).collect(),
        draining: drains.iter().map(|drain| ip_text(drain.ip)).collect(),
        ring: ring(app, directors),
        http: http(app),
        process: process(app),
    })
}

fn lookups(sum: &Stats) -> LookupFacts {
    LookupFacts {
        answered: sum.answered,
        timed_out: sum.timed_out,
        refused: sum.refused,
        misconfigured: sum.misconfigured,
        waiting: sum.parked,
        created: sum.created,
        keep_alives: sum.keep_alives,
        keep_alives_skipped: sum.keep_alives_skipped,
        dial_failures: sum.dial_failures,
        auth_lost: sum.auth_lost,
        latency: sum.latency.each_ref().map(|it| buckets(it, &LATENCIES)),
        delay: sum.delay.each_ref().map(|it| buckets(it, &DELAYS)),
    }
}

/// A histogram of nanoseconds in coarser steps.
fn buckets(histogram: &Histogram<u64>, bounds: &[f64]) -> Buckets {
    let mut below: Vec<(f64, u64)> = bounds.iter().map(|&bound| (bound, 0)).collect();
    let mut sum = 0.0;
    for step in histogram.iter_recorded() {
        let seconds = step.value_iterated_to() as f64 / 1e9;
        let count = step.count_since_last_iteration();
        sum += histogram.median_equivalent(step.value_iterated_to()) as f64 / 1e9 * count as f64;
        for (bound, below) in &mut below {
            if seconds <= *bound {
                *below += count;
            }
        }
    }
    Buckets {
        below,
        count: histogram.len(),
        sum,
    }
}

fn ring(app: &App, directors: Vec<Director>) -> RingFacts {
    let snapshot = app.directory.snapshot();
    let counts = app.chronicle.counts();
    let own = directors.iter().find(|it| it.kind == "self");
    RingFacts {
        handshaked: snapshot.handshaked,
        synced: snapshot.synced,
        alone: snapshot.alone,
        sync: own.and_then(|it| it.ping_ms).unwrap_or(0) as f64 / 1000.0,
        directors,
        moves: counts.moves,
        move_timeouts: counts.move_timeouts,
        flush_scripts: counts.flush_scripts,
        kicks: counts.kicks,
        double_placements: counts.double_placements,
        desyncs: counts.desyncs,
        events: counts.events,
    }
}

fn http(app: &App) -> HttpFacts {
    let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    HttpFacts {
        answers: app.tallies.answers.each_ref().map(load),
        unauthorized: load(&app.tallies.unauthorized),
        over_rate: load(&app.tallies.over_rate),
        connections: app.conns.count() as u64,
    }
}

fn process(app: &App) -> ProcessFacts {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let pages = || {
        fs::read_to_string("/proc/self/statm")
            .ok()?
            .split(' ')
            .nth(1)?
            .parse()
            .ok()
    };
    let resident: Option<u64> = pages();
    let cpu = fs::read_to_string("/proc/self/stat").ok();
    ProcessFacts {
        started: app.started.0,
        cpu: cpu.and_then(|stat| cpu_seconds(&stat)),
        resident: resident
            .zip(page)
            .map(|(pages, page)| pages * page.unsigned_abs()),
        descriptors: fs::read_dir("/proc/self/fd")
            .ok()
            .map(|all| all.count() as u64),
        descriptors_max: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|it| it.0),
    }
}

/// CPU seconds of the threads by their names.
fn threads() -> Vec<(String, f64)> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let of = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        Some((name.trim_end().to_owned(), cpu_seconds(&stat)?))
    };
    tasks.flatten().filter_map(of).collect()
}

/// That of a serving core. Its executor adds a number of its own to the name that it was given.
fn cpu_of(core: usize, threads: &[(String, f64)]) -> Option<f64> {
    let prefix = format!("serve-{core}-");
    let thread = threads.iter().find(|(name, _)| name.starts_with(&prefix));
    thread.map(|it| it.1)
}

/// User and system time of a stat file of /proc, whose second field may hold anything in parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / ticks as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_keeps_its_shape() {
        let mut stats = Stats::default();
        stats.answered_at_once(crate::core::lookup::Socket::Login, 30_000, 10);
        stats.answered_at_once(crate::core::lookup::Socket::Login, 3_000_000, 5);
        let buckets = buckets(&stats.latency[0], &LATENCIES);
        let below = |bound: f64| {
            buckets
                .below
                .iter()
                .find(|it| it.0 == bound)
                .expect("a bound")
                .1
        };
        assert_eq!(
            (below(0.000_02), below(0.000_05), below(0.002)),
            (0, 10, 10)
        );
        assert_eq!((below(0.005), below(5.0), buckets.count), (15, 15, 15));
        assert!((buckets.sum - 0.0153).abs() < 0.0003, "{}", buckets.sum);
    }

    #[test]
    fn the_kernels_figures_are_read() {
        let stat = "12 (a ) b) S 1 1 1 0 -1 4 1 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        let ticks = sysconf(SysconfVar::CLK_TCK)
            .expect("a limit")
            .expect("a number");
        assert_eq!(cpu_seconds(stat), Some(300.0 / ticks as f64));
        assert_eq!(cpu_seconds("12 (a"), None);
        assert!(!threads().is_empty());
    }
}
