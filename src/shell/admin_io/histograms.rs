//! How long lookups took, as the serving cores have counted it (docs/protocol/admin.md, histograms).

use hdrhistogram::Histogram;

use super::AdminIo;
use crate::core::DelayReason;
use crate::core::lookup::Socket;
use crate::core::ring::Ticket;
use crate::shell::stats::Counted;
use crate::wire::admin::histograms::{Counts, HistogramRow};

impl AdminIo {
    pub(super) fn histograms(&mut self, ticket: Ticket, counted: &Counted) {
        let total = self.setup.cores.count() as u64;
        self.list_for(ticket, |out| {
            rows(total, counted).for_each(|row| row.write(out));
        });
    }
}

fn rows(total: u64, counted: &Counted) -> impl Iterator<Item = HistogramRow> {
    let cores = HistogramRow::Cores {
        total,
        counted: counted.by_core.len() as u64,
    };
    let sum = &counted.sum;
    let sockets = Socket::ALL.into_iter().map(|socket| {
        let histogram = &sum.latency[socket.index()];
        counts("socket", socket.name().to_owned(), histogram)
    });
    let delays = DelayReason::ALL.into_iter().map(|reason| {
        let histogram = &sum.delay[reason.index()];
        counts("delay", reason.to_string(), histogram)
    });
    std::iter::once(cores).chain(sockets).chain(delays)
}

fn counts(kind: &str, name: String, histogram: &Histogram<u64>) -> HistogramRow {
    let steps = histogram.iter_recorded();
    let counts = steps.map(|step| (step.value_iterated_to(), step.count_at_value()));
    HistogramRow::Counts(Counts {
        kind: kind.to_owned(),
        name,
        counts: counts.collect(),
    })
}
