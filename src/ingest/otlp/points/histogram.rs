use crate::ingest::otlp::wire::WireError;
use crate::model::{HistogramPoint, Reject};

/// Most buckets of one point.
const MAX_BUCKETS: usize = 4096;

/// A `HistogramDataPoint` while it is read.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    counts: Vec<u64>,
    bounds: Vec<f64>,
    too_many: bool,
}

impl Reading {
    /// Adds the counts of buckets, eight bytes each.
    pub(super) fn counts(&mut self, packed: &[u8]) -> Result<(), WireError> {
        self.too_many |= !add(packed, &mut self.counts, u64::from_le_bytes)?;
        Ok(())
    }

    /// Adds bounds of buckets, eight bytes each.
    pub(super) fn bounds(&mut self, packed: &[u8]) -> Result<(), WireError> {
        self.too_many |= !add(packed, &mut self.bounds, f64::from_le_bytes)?;
        Ok(())
    }

    /// The point, if it does not contradict itself.
    pub(super) fn finish(self) -> Result<HistogramPoint, Reject> {
        let Self {
            count,
            sum,
            min,
            max,
            counts,
            bounds,
            too_many,
        } = self;
        let fits = if bounds.is_empty() && counts.is_empty() {
            true
        } else {
            counts.len() == bounds.len() + 1
                && bounds.iter().all(|bound| bound.is_finite())
                && bounds.is_sorted_by(|a, b| a < b)
                && total(counts.iter().copied()) == Some(count)
        };
        if too_many || !fits || contradictory(min, max) {
            return Err(Reject::Histogram);
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

/// Appends numbers of eight bytes; `false`, and nothing, if there are more than are taken.
fn add<T>(packed: &[u8], to: &mut Vec<T>, read: fn([u8; 8]) -> T) -> Result<bool, WireError> {
    let (chunks, rest) = packed.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(WireError::Truncated);
    }
    let fits = to.len() + chunks.len() <= MAX_BUCKETS;
    if fits {
        to.extend(chunks.iter().copied().map(read));
    }
    Ok(fits)
}
