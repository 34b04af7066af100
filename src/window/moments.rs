//! Mean and spread of a sliding window in constant time, without losing digits.
//!
//! Kept are the sums of `x - shift` and of its square. With `shift` near the mean, subtracting a value
//! that leaves costs no digits even at 1e9 plus small noise. Where digits could have been lost (the
//! level moved away from `shift`, or a giant has left) a bound on the error says so, and the sums are
//! computed afresh from the samples; so they are, in any case, every so many steps.

use serde::{Deserialize, Serialize};

/// Beyond this size (2^500) a value is left out of the sums: up to here squares of 10,000 differences
/// add up without overflow.
const HUGE: f64 = 3.273_390_607_896_142e150;
/// The error of the variance that is borne before the sums are computed afresh.
const TOLERANCE: f64 = 1e-11;
/// The sums are computed afresh at least after so many steps, or as many as the window is long.
const MAX_STEPS: u32 = 1024;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Moments {
    /// Values in the sums.
    count: u32,
    /// Values beyond [`HUGE`], which are not.
    huge: u32,
    /// Steps since the sums were last computed afresh.
    steps: u32,
    shift: f64,
    /// Sum of `x - shift`.
    sum: f64,
    /// Sum of `(x - shift)²`.
    squares: f64,
    /// Largest `squares` since the sums were last computed afresh: what rounding errors scale with.
    peak: f64,
}

impl Moments {
    /// Computed afresh, in two passes.
    pub(super) fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let mut moments = Self::default();
        let (mut first, mut equal, mut total) = (None, true, 0.0);
        for value in values.clone() {
            if value.abs() > HUGE {
                moments.huge += 1;
                continue;
            }
            equal &= *first.get_or_insert(value) == value;
            moments.count += 1;
            total += value;
        }
        let Some(first) = first else { return moments };
        // Equal values must give a spread of exactly zero, which their rounded mean would not.
        moments.shift = if equal {
            first
        } else {
            total / f64::from(moments.count)
        };
        for value in values.filter(|value| value.abs() <= HUGE) {
            let offset = value - moments.shift;
            moments.sum += offset;
            moments.squares += offset * offset;
        }
        moments.peak = moments.squares;
        moments
    }

    pub(super) fn add(&mut self, value: f64) {
        if value.abs() > HUGE {
            self.huge += 1;
            return;
        }
        if self.count == 0 {
            let huge = self.huge;
            *self = Self {
                huge,
                shift: value,
                ..Self::default()
            };
        }
        let offset = value - self.shift;
        self.count += 1;
        self.steps = self.steps.saturating_add(1);
        self.sum += offset;
        self.squares += offset * offset;
        self.peak = self.peak.max(self.squares);
    }

    pub(super) fn remove(&mut self, value: f64) {
        if value.abs() > HUGE {
            self.huge = self.huge.saturating_sub(1);
            return;
        }
        let offset = value - self.shift;
        self.count = self.count.saturating_sub(1);
        self.steps = self.steps.saturating_add(1);
        self.sum -= offset;
        self.squares -= offset * offset;
    }

    /// Whether rounding may have cost more than [`TOLERANCE`], or it is time to be sure.
    pub(super) fn is_stale(&self, window: u32) -> bool {
        let error = 4.0 * f64::EPSILON * f64::from(self.steps) * self.peak;
        error > TOLERANCE * self.deviation_squares() || self.steps >= window.max(MAX_STEPS)
    }

    /// Sum of the squared differences from the mean.
    fn deviation_squares(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        (self.squares - self.sum * (self.sum / f64::from(self.count))).max(0.0)
    }

    /// `None` while there are values beyond [`HUGE`].
    pub(super) fn mean_and_stddev(&self) -> Option<(f64, f64)> {
        match (self.huge, self.count) {
            (0, 0) => Some((0.0, 0.0)),
            (0, 1) => Some((self.shift + self.sum, 0.0)),
            (0, count) => {
                let variance = self.deviation_squares() / f64::from(count - 1);
                Some((self.shift + self.sum / f64::from(count), variance.sqrt()))
            }
            _ => None,
        }
    }
}

/// Mean and sample standard deviation of finite values however large: computed on values scaled down by
/// a power of two, and cut off at the largest double.
pub(super) fn scaled_mean_and_stddev(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    // 2^-540: the square of the largest double, 10,000 times, still fits.
    let down = (-540f64).exp2();
    let count = values.clone().count() as f64;
    if count == 0.0 {
        return (0.0, 0.0);
    }
    let mean = values.clone().map(|value| value * down).sum::<f64>() / count;
    let (sum, squares) = values.fold((0.0, 0.0), |(sum, squares), value| {
        let offset = value * down - mean;
        (sum + offset, squares + offset * offset)
    });
    let mean = mean + sum / count;
    let variance = ((squares - sum * (sum / count)) / (count - 1.0).max(1.0)).max(0.0);
    let up = |value: f64| (value / down).clamp(-f64::MAX, f64::MAX);
    (up(mean), up(variance.sqrt()))
}
