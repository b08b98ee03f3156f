//! What the page draws: logins and latencies, looked at every two seconds, and changes of backends,
//! whoever made them.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::{MissedTickBehavior, interval};

use super::{App, gather};
use crate::core::ip_text::ip_text;
use crate::core::snapshot::{BackendView, Snapshot};
use crate::http::history::{BANDS, STEP, Totals};
use crate::shell::clock;
use crate::shell::stats::Stats;

/// Looks, for ever.
pub(super) async fn run(app: Arc<App>) {
    let mut tick = interval(Duration::from_secs(STEP));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = app.directory.snapshot();
    loop {
        tick.tick().await;
        if let Ok(counted) = gather::counted(&app).await {
            let totals = totals(&counted.sum);
            app.history.lock().add(clock::wall(), totals);
        }
        let now = app.directory.snapshot();
        if now.generation != before.generation {
            for (level, text) in changes(&before, &now) {
                app.chronicle
                    .add(clock::wall(), clock::mono(), level, "backend", text);
            }
            before = now;
        }
    }
}

fn totals(sum: &Stats) -> Totals {
    let failed = sum.timed_out.iter().chain(&sum.refused).sum::<u64>() + sum.misconfigured;
    let mut totals = Totals {
        answered: sum.answered.iter().sum(),
        failed,
        ..Totals::default()
    };
    sum.latency
        .iter()
        .for_each(|it| banded(it, &mut totals.bands));
    totals
}

fn banded(histogram: &Histogram<u64>, bands: &mut [u64]) {
    for step in histogram.iter_recorded() {
        let micros = step.value_iterated_to() / 1000;
        let band = BANDS.partition_point(|&end| end < micros);
        bands[band] += step.count_since_last_iteration();
    }
}

/// What is other than it was, in words.
fn changes(before: &Snapshot, now: &Snapshot) -> Vec<(&'static str, String)> {
    fn find(snapshot: &Snapshot, ip: std::net::IpAddr) -> Option<&BackendView> {
        snapshot.backends.iter().flatten().find(|it| it.ip == ip)
    }
    let mut changes = Vec::new();
    for backend in now.backends.iter().flatten() {
        let (ip, shown) = (ip_text(backend.ip), backend.shown);
        let Some(old) = find(before, backend.ip).map(|it| it.shown) else {
            changes.push((
                "info",
                format!("backend {ip} is new, with {} vhosts", shown.vhosts),
            ));
            continue;
        };
        if old.down != shown.down {
            changes.push(match shown.down {
                true => ("warning", format!("backend {ip} is down")),
                false => ("info", format!("backend {ip} is up")),
            });
        }
        if old.vhosts != shown.vhosts {
            let (from, to) = (old.vhosts, shown.vhosts);
            changes.push((
                "info",
                format!("backend {ip} has {to} vhosts, after {from}"),
            ));
        }
    }
    let gone = before.backends.iter().flatten();
    for backend in gone.filter(|it| find(now, it.ip).is_none()) {
        let ip = ip_text(backend.ip);
        changes.push(("warning", format!("backend {ip} was removed")));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::lookup::Socket;

    #[test]
    fn every_latency_has_its_band() {
        let mut stats = Stats::default();
        for nanos in [1_000, 15_000, 30_000, 900_000_000, 2_000_000_000] {
            stats.answered_at_once(Socket::Login, nanos, 1);
        }
        stats.misconfigured = 2;
        let totals = totals(&stats);
        assert_eq!((totals.bands[0], totals.bands[1]), (2, 1));
        assert_eq!((totals.bands[11], totals.bands[12]), (1, 1));
        assert_eq!(totals.failed, 2);
    }
}
