//! Summaries: quantiles as the client computed them, and the rate of its count.

use serde::{Deserialize, Serialize};

use super::temporality::{Count, Cumulative, Growth, Step};
use super::{Applied, Arrival, Emitter};
use crate::model::{SignalKind, SummaryPoint};

/// One series of a summary.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Summary {
    series: Cumulative<Count>,
    open: Option<Growth<u64>>,
    /// Of the newest point in the open tick.
    quantiles: Vec<(f64, f64)>,
}

impl Summary {
    pub(super) fn apply(&mut self, at: &Arrival<'_>, point: SummaryPoint) -> Applied {
        let count = Count(point.count);
        match self.series.read(at, &count) {
            Step::Grew(growth) => {
                let open = self.open.get_or_insert(Growth { by: 0, elapsed: 0 });
                open.by = open.by.saturating_add(growth.by.0);
                open.elapsed = open.elapsed.saturating_add(growth.elapsed);
            }
            Step::Base => {}
            Step::Overlap => {
                self.series.keep_rival(at, count);
                return Applied::Overlap;
            }
        }
        self.series.keep(at, count);
        self.quantiles = point.quantiles;
        Applied::Counted
    }

    pub(super) fn flush(&mut self, emitter: &mut Emitter<'_>) {
        let open = self.open.take();
        let weight = open.as_ref().map_or(1, |growth| growth.by);
        if let Some(growth) = open {
            emitter.emit_rate(growth.by as f64, growth.elapsed, weight);
        }
        let mut before = None;
        for (q, value) in std::mem::take(&mut self.quantiles) {
            // Quantiles closer than a millionth are one signal, and a signal has one sample a tick.
            let kind = SignalKind::quantile(q);
            if let Some(kind) = kind.filter(|_| kind != before) {
                emitter.emit(kind, value, weight);
            }
            before = kind;
        }
    }

    pub(super) fn end(&mut self) {
        self.series.end();
    }

    /// Memory besides the struct itself.
    pub(super) fn bytes(&self) -> usize {
        self.series.bytes(|_| 0) + size_of::<(f64, f64)>() * self.quantiles.capacity()
    }
}
