//! Summaries: quantiles as the client computed them, and the rate of its count.

use serde::{Deserialize, Serialize};

use super::temporality::{Growth, Step, Writers};
use super::{Applied, Arrival, Emitter};
use crate::model::{SignalKind, SummaryPoint};

/// One series of a summary.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Summary {
    writers: Writers<u64>,
    /// What the holder counted last.
    count: u64,
    open: Option<Growth<u64>>,
    /// Of the newest point in the open tick.
    quantiles: Vec<(f64, f64)>,
}

impl Summary {
    pub(super) fn apply(&mut self, at: &Arrival<'_>, point: &SummaryPoint) -> Applied {
        // Of a count that shrank, all is new.
        let since = |earlier| point.count.checked_sub(earlier).unwrap_or(point.count);
        let grown = match self.writers.read(at) {
            Step::Since(elapsed) => Some((since(self.count), elapsed)),
            Step::SinceRival(elapsed) => {
                let rival = self.writers.rival().map_or(0, |rival| *rival);
                Some((since(rival), elapsed))
            }
            Step::Fresh(elapsed) => Some((point.count, elapsed)),
            Step::Base => None,
            Step::Overlap => {
                self.writers.keep_rival(at, || point.count);
                return Applied::Overlap;
            }
        };
        if let Some((by, elapsed)) = grown {
            let open = self.open.get_or_insert(Growth { by: 0, elapsed: 0 });
            open.by = open.by.saturating_add(by);
            open.elapsed = open.elapsed.saturating_add(elapsed);
        }
        self.writers.keep(at);
        self.count = point.count;
        self.quantiles.clear();
        self.quantiles.extend_from_slice(&point.quantiles);
        Applied::Counted
    }

    pub(super) fn flush(&mut self, emitter: &mut Emitter<'_>) {
        let open = self.open.take();
        let weight = open.as_ref().map_or(1, |growth| growth.by);
        if let Some(growth) = open {
            emitter.emit_rate(growth.by as f64, growth.elapsed, weight);
        }
        let mut before = None;
        for (q, value) in self.quantiles.drain(..) {
            // Quantiles closer than a millionth are one signal, and a signal has one sample a tick.
            let kind = SignalKind::quantile(q);
            if let Some(kind) = kind.filter(|_| kind != before) {
                emitter.emit(kind, value, weight);
            }
            before = kind;
        }
    }

    pub(super) fn end(&mut self) {
        self.writers.end();
    }

    /// Memory it occupies.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.writers.bytes(|_| 0)
            + size_of::<(f64, f64)>() * self.quantiles.capacity()
    }
}
