//! What both kinds of histograms have in common: rate, mean and percentiles of what arrived in a tick.

use super::{Emitter, PERCENTILES};
use crate::model::SignalKind;

/// Emits what `count` observations in `elapsed` nanoseconds say. `quantiles` answers `None` where the
/// buckets do not tell.
pub(super) fn emit(
    emitter: &mut Emitter<'_>,
    elapsed: u64,
    count: u64,
    sum: Option<f64>,
    quantiles: impl FnOnce([f64; 3]) -> [Option<f64>; 3],
) {
    emitter.emit_rate(count as f64, elapsed, count);
    if count == 0 {
        return;
    }
    if let Some(sum) = sum {
        emitter.emit(SignalKind::Mean, sum / count as f64, count);
    }
    let values = quantiles(PERCENTILES.map(|(_, q)| q));
    for ((kind, _), value) in PERCENTILES.into_iter().zip(values) {
        if let Some(value) = value {
            emitter.emit(kind, value, count);
        }
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
