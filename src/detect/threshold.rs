//! Fixed limits, for where a person knows what is right.

use std::mem::size_of;

use super::{Detector, Kind, MAX_SIGMA};
use crate::model::{Evidence, Judged, Rule, Sample, Verdict};
use crate::window::Window;

pub(super) const KIND: Kind = Kind {
    name: "threshold",
    description: "Fixed limits `lower` and `upper`, at least one of them. Learns nothing and judges \
                  from the first sample. Sigma is 0 within the limits; beyond, it is exactly the \
                  rule's critical sigma, or its warning sigma where there is no critical one.",
    by_window: false,
    build: |rule, _kind| Ok(Box::new(Threshold::new(rule)?)),
};

struct Threshold {
    lower: f64,
    upper: f64,
    /// |sigma| of a value beyond the limits.
    beyond: f64,
}

impl Threshold {
    fn new(rule: &Rule) -> Result<Self, String> {
        let spec = &rule.detector;
        if spec.lower.is_none() && spec.upper.is_none() {
            return Err("`threshold` needs `lower`, `upper` or both".into());
        }
        let (lower, upper) = (
            spec.lower.unwrap_or(f64::NEG_INFINITY),
            spec.upper.unwrap_or(f64::INFINITY),
        );
        if lower.is_nan() || upper.is_nan() || lower > upper {
            return Err(format!(
                "`lower` must not be above `upper`: {lower} > {upper}"
            ));
        }
        let beyond = rule.sigma.critical.unwrap_or(rule.sigma.warning);
        Ok(Self {
            lower,
            upper,
            beyond: beyond.clamp(0.0, MAX_SIGMA),
        })
    }
}

impl Detector for Threshold {
    fn observe(&mut self, sample: Sample, _weight: u64, window: &Window) -> Verdict {
        let sigma = if sample.value > self.upper {
            self.beyond
        } else if sample.value < self.lower {
            -self.beyond
        } else {
            0.0
        };
        Verdict::Judged(Judged {
            // The nearest value that is right, so that a rule's minimum change is the distance to it.
            expected: sample.value.max(self.lower).min(self.upper),
            lower: self.lower,
            upper: self.upper,
            sigma,
            observed: None,
            evidence: Evidence {
                channel: "fixed limits".into(),
                samples: u32::try_from(window.len()).unwrap_or(u32::MAX),
                report: sigma.abs(),
                ..Evidence::default()
            },
        })
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}
