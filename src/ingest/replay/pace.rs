//! How often recorded data comes, seen from its beginning.

use std::collections::HashMap;
use std::time::Duration;

use super::{Arrival, Data, Error, Source};
use crate::model::{SeriesId, Timestamp};

/// Arrivals looked at.
const LOOKED_AT: usize = 4_000;

/// How often one series' data comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spacing {
    /// The usual time from one sample to the next: the median.
    pub usual: Duration,
    /// The longest time of which every sample's time is a multiple, since the epoch.
    pub grid: Duration,
}

/// Reads the beginning, and says how often data comes in it.
pub(super) fn look_ahead(
    source: &mut dyn Source,
) -> Result<(Vec<Arrival>, Option<Spacing>), Error> {
    let mut ahead = Vec::new();
    let mut last: HashMap<SeriesId, Timestamp> = HashMap::new();
    let mut gaps = Vec::new();
    let mut grid = 0;
    while ahead.len() < LOOKED_AT
        && let Some(arrival) = source.next()?
    {
        if let Data::Point(point) = &arrival.data {
            grid = gcd(grid, point.time.as_nanos().unsigned_abs());
            if let Some(before) = last.insert(point.series, point.time)
                && before < point.time
            {
                gaps.push(point.time.since(before));
            }
        }
        ahead.push(arrival);
    }
    gaps.sort_unstable();
    let spacing = gaps.get(gaps.len() / 2).map(|usual| Spacing {
        usual: *usual,
        grid: Duration::from_nanos(grid),
    });
    Ok((ahead, spacing))
}

/// The greatest common divisor; 0 has every number as a divisor.
fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
