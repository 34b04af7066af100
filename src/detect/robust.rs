//! Like `zscore`, on statistics that outliers in the window do not move: median and median absolute
//! deviation (Hampel's identifier).

use std::mem::size_of;

use super::{Detector, Kind, Scale};
use crate::model::{Rule, Sample, Verdict};
use crate::window::{Window, median};

pub(super) const KIND: Kind = Kind {
    name: "robust",
    description: "Distance from the median of the window before the sample, in 1.4826 times the median \
                  absolute deviation from it: up to half of the window may be outliers without \
                  widening the band. Where more than half of the window is one value, 1.2533 times \
                  the mean absolute deviation takes over.",
    build: |rule| Ok(Box::new(Robust::new(rule))),
};

/// Makes the median absolute deviation of normal noise its standard deviation: 1 / Φ⁻¹(3/4).
const MEDIAN_TO_STDDEV: f64 = 1.4826;
/// The same for the mean absolute deviation: √(π/2).
const MEAN_TO_STDDEV: f64 = 1.2533;

/// O(n) a sample; keeps nothing beside the window.
struct Robust(Scale);

impl Robust {
    fn new(rule: &Rule) -> Self {
        Self(Scale::new(rule, 2))
    }
}

impl Detector for Robust {
    fn observe(&mut self, sample: Sample, _weight: u64, window: &Window) -> Verdict {
        if let Some(learning) = self.0.learning(window) {
            return learning;
        }
        let mut values: Vec<f64> = window.iter().map(|sample| sample.value).collect();
        let centre = median(&mut values).unwrap_or(0.0);
        for value in &mut values {
            // Half, so that the distance of two giants does not overflow.
            *value = (*value * 0.5 - centre * 0.5).abs();
        }
        let mut spread = median(&mut values).unwrap_or(0.0) * MEDIAN_TO_STDDEV;
        let mut channel = "median and median absolute deviation of the window";
        if spread <= centre.abs() * super::ROUNDING {
            let n = values.len() as f64;
            spread = values.iter().map(|value| value / n).sum::<f64>() * MEAN_TO_STDDEV;
            channel = "median and mean absolute deviation of the window";
        }
        let spread = (spread * 2.0).min(f64::MAX);
        self.0.judge(sample.value, centre, spread, channel, window)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}
