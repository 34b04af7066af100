//! What both kinds of histograms have in common: rate, mean and percentiles of what arrived in a tick.

use serde::{Deserialize, Serialize};

use super::temporality::{Cumulative, Growth, Step, Total, delta_span};
use super::{Applied, Arrival, Emitter, PERCENTILES};
use crate::model::{SignalKind, Temporality};

/// Observations in buckets.
pub(super) trait Buckets: Total {
    /// How many observations there are.
    fn count(&self) -> u64;
    /// Their sum, where it is known.
    fn sum(&self) -> Option<f64>;
    /// Adds the observations of `newer`.
    fn merge(&mut self, newer: Self);
    /// The `q`-quantile; `None` if the buckets do not tell.
    fn quantile(&self, q: f64) -> Option<f64>;
    /// Memory besides the struct itself.
    fn bytes(&self) -> usize;
}

/// One series of a histogram.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Distribution<B> {
    /// `None` for deltas, which need no comparison.
    series: Option<Box<Cumulative<B>>>,
    open: Option<Box<Growth<B>>>,
}

impl<B: Buckets> Distribution<B> {
    pub(super) fn new(temporality: Temporality) -> Self {
        Self {
            series: match temporality {
                Temporality::Cumulative => Some(Box::default()),
                Temporality::Delta => None,
            },
            open: None,
        }
    }

    pub(super) fn apply(&mut self, at: &Arrival<'_>, point: B) -> Applied {
        let growth = match &mut self.series {
            None => match delta_span(at) {
                Some(elapsed) => Growth { by: point, elapsed },
                None => return Applied::Overlap,
            },
            Some(series) => match series.read(at, &point) {
                Step::Grew(growth) => {
                    series.keep(at, point);
                    growth
                }
                Step::Base => {
                    series.keep(at, point);
                    return Applied::Counted;
                }
                Step::Overlap => {
                    series.keep_rival(at, point);
                    return Applied::Overlap;
                }
            },
        };
        match &mut self.open {
            Some(open) => {
                open.elapsed = open.elapsed.saturating_add(growth.elapsed);
                open.by.merge(growth.by);
            }
            None => self.open = Some(Box::new(growth)),
        }
        Applied::Counted
    }

    pub(super) fn flush(&mut self, emitter: &mut Emitter<'_>) {
        let Some(open) = self.open.take() else {
            return;
        };
        let Growth { by: seen, elapsed } = *open;
        let count = seen.count();
        emitter.emit_rate(count as f64, elapsed, count);
        if count == 0 {
            return;
        }
        if let Some(sum) = seen.sum() {
            emitter.emit(SignalKind::Mean, sum / count as f64, count);
        }
        for (kind, q) in PERCENTILES {
            if let Some(value) = seen.quantile(q) {
                emitter.emit(kind, value, count);
            }
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(series) = &mut self.series {
            series.end();
        }
    }

    /// Memory besides the struct itself.
    pub(super) fn bytes(&self) -> usize {
        let series = self.series.as_ref().map_or(0, |series| {
            size_of::<Cumulative<B>>() + series.bytes(Buckets::bytes)
        });
        let open = self
            .open
            .as_ref()
            .map_or(0, |open| size_of::<Growth<B>>() + open.by.bytes());
        series + open
    }
}

/// The sum of two sums, if both are known and a double holds it.
pub(super) fn sum_of(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? + b?).filter(|sum| sum.is_finite())
}

/// The difference of two sums, if both are known and a double holds it.
pub(super) fn difference_of(later: Option<f64>, earlier: Option<f64>) -> Option<f64> {
    Some(later? - earlier?).filter(|difference| difference.is_finite())
}

/// The smaller (larger) of two extremes, if both are known.
pub(super) fn extreme_of(
    a: Option<f64>,
    b: Option<f64>,
    pick: impl Fn(f64, f64) -> f64,
) -> Option<f64> {
    Some(pick(a?, b?))
}
