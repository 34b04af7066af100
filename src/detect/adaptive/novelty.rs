//! How far a value is from any seen before, whatever its distribution: a gap in what was ever seen.

use serde::{Deserialize, Serialize};

/// So many values stand for all that were seen.
const CAPACITY: usize = 32;

/// Values that stand for all that were seen; 160 bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Novelty {
    /// Rising.
    values: Vec<f32>,
    low: f32,
    high: f32,
}

impl Novelty {
    /// Distance from the nearest value seen, as a share of the range seen, which counts as `floor` at
    /// least. 0 before anything was seen.
    pub(super) fn gap(&self, value: f64, floor: f64) -> f64 {
        let value = value as f32;
        // They are sorted: the nearest is one of the two around it.
        let above = self.values.partition_point(|seen| *seen < value);
        let around = self
            .values
            .get(above.saturating_sub(1)..)
            .unwrap_or_default();
        let distances = around.iter().take(2).map(|seen| (value - seen).abs());
        let Some(nearest) = distances.reduce(f32::min) else {
            return 0.0;
        };
        let range = f64::from(self.high - self.low).max(floor);
        f64::from(nearest) / range
    }

    /// The point at this `share` of the way from all that was seen to `value`, if that is outside of it.
    pub(super) fn outside(&self, value: f64, share: f64) -> Option<f64> {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        if value > high {
            Some(high + share * (value - high))
        } else if value < low {
            Some(low + share * (value - low))
        } else {
            None
        }
    }

    /// The lowest value seen.
    pub(super) fn lowest(&self) -> f64 {
        f64::from(self.low)
    }

    /// Whether nothing as far out as `value` was seen on its side.
    pub(super) fn is_record(&self, value: f64) -> bool {
        let value = value as f32;
        !self.values.is_empty() && (value > self.high || value < self.low)
    }

    /// Remembers `value` if it is `gap` away from all others. Where there is no more room, the two that
    /// are closest to each other become one: the extremes, which are rare, are never forgotten.
    pub(super) fn learn(&mut self, value: f64, gap: f64, floor: f64) {
        let distance = self.gap(value, floor);
        let value = value as f32;
        if self.values.is_empty() {
            (self.low, self.high) = (value, value);
        } else if distance < gap {
            self.low = self.low.min(value);
            self.high = self.high.max(value);
            return;
        }
        self.low = self.low.min(value);
        self.high = self.high.max(value);
        let at = self.values.partition_point(|seen| *seen < value);
        if self.values.len() == self.values.capacity() {
            self.values.reserve_exact(self.values.len().max(4));
        }
        self.values.insert(at, value);
        if self.values.len() >= CAPACITY {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let pairs = self.values.array_windows();
        let distances = pairs.map(|[one, other]| other - one);
        let closest = distances
            .enumerate()
            .min_by(|one, other| one.1.total_cmp(&other.1));
        let Some((at, _)) = closest else { return };
        let next = self.values.remove(at + 1);
        if let Some(kept) = self.values.get_mut(at) {
            *kept += 0.5 * (next - *kept);
        }
    }

    /// Whether what was read back can have been made here.
    pub(super) fn is_sound(&self) -> bool {
        let ends = [self.low, self.high];
        self.values.len() < CAPACITY && self.values.iter().chain(&ends).all(|v| v.is_finite())
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        self.values.capacity() * size_of::<f32>()
    }
}
