//! The classic rule: how many standard deviations is a sample away from the mean of those before it?

use std::mem::size_of;

use super::{Detector, Kind, Scale};
use crate::model::{Rule, Sample, Verdict};
use crate::window::Window;

pub(super) const KIND: Kind = Kind {
    name: "zscore",
    description: "Distance from the mean of the window before the sample, in sample standard \
                  deviations (n - 1) of that window. Exact and easy to check by hand; one outlier in \
                  the window widens the band until it has left.",
    build: |rule, _kind| Ok(Box::new(ZScore::new(rule))),
};

/// O(1) a sample; keeps nothing beside the window.
struct ZScore(Scale);

impl ZScore {
    fn new(rule: &Rule) -> Self {
        Self(Scale::new(rule, 2))
    }
}

impl Detector for ZScore {
    fn observe(&mut self, sample: Sample, _weight: u64, window: &Window) -> Verdict {
        self.0.learning(window).unwrap_or_else(|| {
            let (mean, stddev) = window.mean_and_stddev();
            let channel = "mean and standard deviation of the window";
            self.0.judge(sample.value, mean, stddev, channel, window)
        })
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}
