use std::collections::BTreeMap;

use super::Problem;
use super::histogram::{contradictory, finite, total};
use crate::ingest::otlp::wire::{self, Reader, Value, WireError};
use crate::model::{ExponentialHistogramPoint, Reject};

/// The scales that are taken: below, one bucket covers more than all doubles; above, no SDK goes
/// (OpenTelemetry's maximum is 20).
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;
/// Most buckets of one point with observations, on either side.
const MAX_FILLED: usize = 4096;
/// Most buckets of one point, filled or not, on either side. SDKs send 160; what comes from
/// elsewhere may have long gaps, but nobody sends this many.
const MAX_BUCKETS: u64 = 65_536;
/// Binary exponents that doubles reach: the smallest subnormal is 2^-1074, the largest below 2^1024.
const EXPONENTS: (f64, f64) = (-1074.0, 1024.0);

/// Reads an `ExponentialHistogramDataPoint`. Memory follows the filled buckets.
pub(super) fn read(point: &[u8]) -> Result<ExponentialHistogramPoint, Problem> {
    let (mut count, mut zero_count, mut scale, mut zero_threshold) = (0, 0, 0, 0.0);
    let (mut sum, mut min, mut max) = (None, None, None);
    for field in wire::fields(point) {
        match field? {
            (4, value) => count = value.number()?,
            (5, value) => sum = finite(value.double()?),
            (6, value) => scale = value.sint32()?,
            (7, value) => zero_count = value.number()?,
            (12, value) => min = finite(value.double()?),
            (13, value) => max = finite(value.double()?),
            (14, value) => zero_threshold = value.double()?,
            _ => {}
        }
    }
    if !SCALES.contains(&scale) {
        return Err(Reject::Histogram.into());
    }
    let positive = buckets(point, 8, scale)?;
    let negative = buckets(point, 9, scale)?;
    let filled = positive.values().chain(negative.values()).copied();
    let consistent = total(filled.chain([zero_count])) == Some(count)
        && zero_threshold.is_finite()
        && zero_threshold >= 0.0
        && !contradictory(min, max);
    if !consistent {
        return Err(Reject::Histogram.into());
    }
    Ok(ExponentialHistogramPoint {
        count,
        sum,
        min,
        max,
        scale,
        zero_count,
        zero_threshold,
        positive,
        negative,
    })
}

/// The filled buckets in field `number`, by index.
fn buckets(point: &[u8], number: u32, scale: i32) -> Result<BTreeMap<i32, u64>, Problem> {
    let mut offset = 0;
    for buckets in wire::all(point, number) {
        for field in wire::fields(buckets?) {
            if let (1, value) = field? {
                offset = value.sint32()?;
            }
        }
    }
    let mut side = Side {
        offset,
        width: f64::from(-scale).exp2(),
        length: 0,
        filled: BTreeMap::new(),
    };
    for buckets in wire::all(point, number) {
        for field in wire::fields(buckets?) {
            match field? {
                (2, Value::Bytes(packed)) => {
                    let mut packed = Reader::new(packed);
                    while !packed.is_empty() {
                        side.push(packed.varint()?)?;
                    }
                }
                (2, Value::Varint(count)) => side.push(count)?,
                (2, _) => return Err(WireError::WireType.into()),
                _ => {}
            }
        }
    }
    Ok(side.filled)
}

/// The positive or the negative half.
struct Side {
    offset: i32,
    /// Width of a bucket in binary exponents.
    width: f64,
    length: u64,
    filled: BTreeMap<i32, u64>,
}

impl Side {
    /// Adds the next bucket. Empty ones are held to the same range: an offset that runs out of it is
    /// a mistake whether or not something was counted there.
    fn push(&mut self, count: u64) -> Result<(), Reject> {
        let index = i32::try_from(i64::from(self.offset) + self.length as i64)
            .map_err(|_| Reject::Histogram)?;
        let (lower, upper) = (f64::from(index), f64::from(index) + 1.0);
        self.length += 1;
        if self.length > MAX_BUCKETS
            || lower * self.width >= EXPONENTS.1
            || upper * self.width < EXPONENTS.0
        {
            return Err(Reject::Histogram);
        }
        if count > 0 {
            if self.filled.len() == MAX_FILLED {
                return Err(Reject::Histogram);
            }
            self.filled.insert(index, count);
        }
        Ok(())
    }
}
