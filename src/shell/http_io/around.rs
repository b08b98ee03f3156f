//! What is not about one backend, user or director.

use axum::http::StatusCode;
use hdrhistogram::Histogram;

use super::call::{Answer, Call, json, text};
use super::gather;
use crate::core::DelayReason;
use crate::core::lookup::Socket;
use crate::http::documents as doc;
use crate::http::exposition::Format;
use crate::http::problem::Problem;
use crate::http::{history, metrics, openapi};

pub(super) fn openapi() -> Answer {
    json(&openapi::document())
}

pub(super) async fn metrics(call: Call) -> Answer {
    let format = Format::of(&call.accept);
    let facts = gather::facts(&call).await?;
    let body = metrics::text(&facts, format);
    Ok(text(StatusCode::OK, format.media_type(), body))
}

pub(super) fn status(call: &Call) -> Answer {
    let snapshot = call.app.directory.snapshot();
    let backends = || snapshot.backends.iter().flatten();
    json(&doc::Status {
        version: env!("CARGO_PKG_VERSION"),
        started: call.app.started.0,
        role: call.caller.role.name(),
        handshaked: snapshot.handshaked,
        synced: snapshot.synced,
        sync_since: snapshot.sync_since.map(|at| at.0),
        alone: snapshot.alone,
        users: call.app.directory.users(),
        backends: backends().count(),
        backends_down: backends().filter(|it| it.shown.down).count(),
        connections: call.app.cores.connections(),
        last_event: call.app.chronicle.events(u64::MAX).1,
    })
}

pub(super) async fn histograms(call: Call) -> Answer {
    let counted = gather::counted(&call.app).await?;
    let counts = call.flag("counts")?;
    let sum = match call.number::<usize>("core")? {
        None => counted.sum,
        Some(core) => {
            let mut cores = counted.by_core.into_iter();
            let found = cores.find(|(own, _)| *own == core);
            let what = || Problem::not_found(format!("there is no serving core {core}"));
            found.ok_or_else(what)?.1
        }
    };
    let latency = Socket::ALL.iter().zip(&sum.latency);
    let delay = DelayReason::ALL.iter().zip(&sum.delay);
    json(&doc::Histograms {
        latency: latency
            .map(|(of, it)| quantiles(of.name().to_owned(), it, counts))
            .collect(),
        delay: delay
            .map(|(of, it)| quantiles(of.to_string(), it, counts))
            .collect(),
    })
}

fn quantiles(of: String, histogram: &Histogram<u64>, counts: bool) -> doc::Quantiles {
    let steps = histogram.iter_recorded();
    let steps = steps.map(|it| (it.value_iterated_to(), it.count_since_last_iteration()));
    let at = |quantile| histogram.value_at_quantile(quantile) / 1000;
    doc::Quantiles {
        of,
        count: histogram.len(),
        mean_us: histogram.mean() / 1000.0,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: histogram.max() / 1000,
        counts: counts.then(|| steps.collect()),
    }
}

pub(super) fn settings(call: &Call) -> Answer {
    json(&doc::SettingsList {
        items: call.app.config.load().settings.clone(),
    })
}

pub(super) fn events(call: &Call) -> Answer {
    let after = call.number("after")?.unwrap_or(0);
    let (items, last) = call.app.chronicle.events(after);
    json(&doc::Happened { items, last })
}

pub(super) fn live(call: &Call) -> Answer {
    let after = call.number("after")?.unwrap_or(0);
    json(&doc::Live {
        step: history::STEP,
        bands_us: history::BANDS.to_vec(),
        samples: call.app.history.lock().after(after),
    })
}
