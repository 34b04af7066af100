//! Like `zscore`, on statistics that outliers in the window do not move: median and median absolute
//! deviation (Hampel's identifier), with sigmas that know how rough an estimate that is.

use std::mem::size_of;

use super::{Detector, Kind, Scale, floored, tail};
use crate::model::{Judged, Rule, Sample, Verdict};
use crate::window::{Window, median};

pub(super) const KIND: Kind = Kind {
    name: "robust",
    description: "Distance from the median of the window before the sample, in 1.4826 times the median \
                  absolute deviation from it: up to half of the window may be outliers without \
                  widening the band. Where more than half of the window is one value, 1.2533 times \
                  the mean absolute deviation takes over. A spread from few samples is rough, so sigma is \
                  that of the normal tail which is as likely as the tail of Student's t.",
    build: |rule| Ok(Box::new(Robust::new(rule))),
};

/// Makes the median absolute deviation of normal noise its standard deviation: 1 / Φ⁻¹(3/4).
const MEDIAN_TO_STDDEV: f64 = 1.4826;
/// The same for the mean absolute deviation: √(π/2).
const MEAN_TO_STDDEV: f64 = 1.2533;

/// Degrees of freedom a sample: the median absolute deviation is 37 % as efficient as the standard
/// deviation (Rousseeuw and Croux, *Alternatives to the Median Absolute Deviation*, 1993).
const FREEDOM: f64 = 0.37;

/// O(n) a sample; keeps nothing beside the window.
struct Robust {
    scale: Scale,
    /// (samples in the window, distance in spreads at which the band ends): it changes only with the
    /// number of samples.
    reach: (usize, f64),
}

impl Robust {
    fn new(rule: &Rule) -> Self {
        Self {
            scale: Scale::new(rule, 2),
            reach: (0, 0.0),
        }
    }

    /// Half of the band's width in spreads, of which one is `error` as wide as it looks.
    fn reach(&mut self, samples: usize, freedom: f64, error: f64) -> f64 {
        if self.reach.0 != samples {
            self.reach = (
                samples,
                tail::distance_of(self.scale.warning, freedom) * error,
            );
        }
        self.reach.1
    }
}

impl Detector for Robust {
    fn observe(&mut self, sample: Sample, _weight: u64, window: &Window) -> Verdict {
        if let Some(learning) = self.scale.learning(window) {
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
        let spread = floored(centre, (spread * 2.0).min(f64::MAX));
        let samples = values.len();
        let freedom = FREEDOM * samples as f64;
        // The median is an estimate, too: its variance is π/2 of that of the mean.
        let error = (1.0 + std::f64::consts::FRAC_PI_2 / samples as f64).sqrt();
        let reach = self.reach(samples, freedom, error) * spread;
        let verdict = self
            .scale
            .judge(sample.value, centre, spread, channel, window);
        match verdict {
            Verdict::Judged(judged) => Verdict::Judged(Judged {
                lower: centre - reach,
                upper: centre + reach,
                sigma: tail::sigma_of(judged.sigma / error, freedom),
                ..judged
            }),
            learning @ Verdict::Learning { .. } => learning,
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}
