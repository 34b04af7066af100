//! A level and how far values stray from it.

use serde::{Deserialize, Serialize};

use super::calibration::LARGEST;

/// Makes the mean absolute deviation of normal noise its standard deviation: √(π/2).
const MEAN_TO_STDDEV: f64 = 1.2533;
/// A single value moves a level by as much as one so many mean deviations away.
const CLIP: f64 = 5.0;
/// Values before they are clipped.
const SETTLED: u32 = 10;

/// Mean and mean absolute deviation, exponentially weighted; outliers count as far as
/// five mean deviations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Level {
    pub(super) mean: f64,
    /// Mean absolute deviation.
    deviation: f32,
    seen: u32,
}

impl Level {
    /// A level that has long been there.
    pub(super) fn settled(mean: f64, deviation: f64) -> Self {
        Self {
            mean,
            deviation: deviation as f32,
            seen: SETTLED,
        }
    }

    /// Mean absolute deviation.
    pub(super) fn deviation(&self) -> f64 {
        f64::from(self.deviation)
    }

    /// How many values it stands on.
    pub(super) fn seen(&self) -> u32 {
        self.seen
    }

    /// Spread comparable to a standard deviation, at least `floor`.
    pub(super) fn spread(&self, floor: f64) -> f64 {
        (MEAN_TO_STDDEV * self.deviation()).max(floor)
    }

    /// Distance in spreads, at most [`LARGEST`].
    pub(super) fn distance(&self, value: f64, floor: f64) -> f64 {
        ((value - self.mean).abs() / self.spread(floor)).min(LARGEST)
    }

    /// Takes in a value with weight `rate`, or as much as the mean of all so far would give it.
    pub(super) fn learn(&mut self, value: f64, rate: f64) {
        let mut off = value - self.mean;
        // Of values that never strayed nothing is known that could be clipped by.
        if self.seen >= SETTLED && self.deviation > 0.0 {
            let clip = CLIP * self.deviation();
            off = off.clamp(-clip, clip);
        }
        let seen = f64::from(self.seen);
        self.mean += rate.max(1.0 / (seen + 1.0)) * off;
        if self.seen > 0 {
            let deviation = self.deviation();
            self.deviation = (deviation + rate.max(1.0 / seen) * (off.abs() - deviation)) as f32;
        }
        self.seen = self.seen.saturating_add(1);
    }

    pub(super) fn is_sound(&self) -> bool {
        self.mean.is_finite() && self.deviation.is_finite() && self.deviation >= 0.0
    }
}
