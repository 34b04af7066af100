use super::Problem;
use crate::ingest::otlp::wire::{self, Value, WireError};
use crate::model::{HistogramPoint, Reject};

/// Most buckets of one point.
const MAX_BUCKETS: usize = 4096;

/// Reads a `HistogramDataPoint`.
pub(super) fn read(point: &[u8]) -> Result<HistogramPoint, Problem> {
    let mut count = 0;
    let (mut sum, mut min, mut max) = (None, None, None);
    let (mut counts, mut bounds) = (Vec::new(), Vec::new());
    for field in wire::fields(point) {
        match field? {
            (4, value) => count = value.number()?,
            (5, value) => sum = finite(value.double()?),
            (6, value) => numbers(value, &mut counts)?,
            (7, value) => numbers(value, &mut bounds)?,
            (11, value) => min = finite(value.double()?),
            (12, value) => max = finite(value.double()?),
            _ => {}
        }
    }
    let bounds: Vec<_> = bounds.into_iter().map(f64::from_bits).collect();
    let fits = if bounds.is_empty() && counts.is_empty() {
        true
    } else {
        counts.len() == bounds.len() + 1
            && bounds.iter().all(|bound| bound.is_finite())
            && bounds.is_sorted_by(|a, b| a < b)
            && total(counts.iter().copied()) == Some(count)
    };
    if !fits || contradictory(min, max) {
        return Err(Reject::Histogram.into());
    }
    Ok(HistogramPoint {
        count,
        sum,
        min,
        max,
        bounds,
        counts,
    })
}

/// A sum or extreme that is not finite says nothing: one infinite observation, or an empty histogram
/// of a client that starts with infinities. The counts are still good.
pub(super) fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

/// Whether the smallest observation is larger than the largest.
pub(super) fn contradictory(min: Option<f64>, max: Option<f64>) -> bool {
    min.zip(max).is_some_and(|(min, max)| min > max)
}

/// The sum, if it fits.
pub(super) fn total(counts: impl IntoIterator<Item = u64>) -> Option<u64> {
    counts.into_iter().try_fold(0_u64, u64::checked_add)
}

/// Appends numbers of eight bytes, packed or single, up to the limit.
fn numbers(value: Value<'_>, to: &mut Vec<u64>) -> Result<(), Problem> {
    let (chunks, rest) = match value {
        Value::Fixed64(number) => (&[number.to_le_bytes()][..], &[][..]),
        value => value.bytes()?.as_chunks::<8>(),
    };
    if !rest.is_empty() {
        return Err(WireError::Truncated.into());
    }
    if to.len() + chunks.len() > MAX_BUCKETS {
        return Err(Reject::Histogram.into());
    }
    to.extend(chunks.iter().copied().map(u64::from_le_bytes));
    Ok(())
}
