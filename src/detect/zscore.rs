//! The classic rule: how many standard deviations is a sample away from the mean of those before it?

use std::mem::size_of;

use super::{Detector, Kind, Scale};
use crate::model::{Rule, Sample, Timestamp, Verdict, WindowSpec};
use crate::window::Window;

pub(super) const KIND: Kind = Kind {
    name: "zscore",
    description: "Distance from the mean of the window before the sample, in sample standard \
                  deviations (n - 1) of that window. Exact and easy to check by hand; one outlier in \
                  the window widens the band until it has left.",
    by_window: true,
    build: |rule, _kind| Ok(Box::new(ZScore::new(rule))),
};

/// O(1) a sample; keeps nothing beside the window. While the window holds samples that no longer count,
/// O(n).
struct ZScore {
    scale: Scale,
    /// Samples before this are no baseline any more, because a person said so.
    accepted: Option<Timestamp>,
}

impl ZScore {
    fn new(rule: &Rule) -> Self {
        Self {
            scale: Scale::new(rule, 2),
            accepted: None,
        }
    }

    /// Mean, standard deviation and number of the samples from `since` on.
    fn baseline(since: Timestamp, window: &Window) -> (f64, f64, usize) {
        let mut counted = Window::new(WindowSpec::Samples(WindowSpec::MAX_SAMPLES));
        let samples = window.iter().filter(|sample| sample.time >= since);
        samples.for_each(|sample| counted.push(sample));
        let (mean, stddev) = counted.mean_and_stddev();
        (mean, stddev, counted.len())
    }
}

impl Detector for ZScore {
    fn observe(&mut self, sample: Sample, _weight: u64, window: &Window) -> Verdict {
        // Once they have left the window there is nothing to remember.
        let oldest = window.first();
        self.accepted = self.accepted.filter(|since| oldest < Some(*since));
        let (mean, stddev, have) = match self.accepted {
            Some(since) => Self::baseline(since, window),
            None => {
                let (mean, stddev) = window.mean_and_stddev();
                (mean, stddev, window.len())
            }
        };
        self.scale.learning(have, window).unwrap_or_else(|| {
            let channel = "mean and standard deviation of the window";
            let scale = self.scale;
            scale.judge(sample.value, mean, stddev, channel, window)
        })
    }

    fn accept(&mut self, since: Timestamp, _window: &Window) -> bool {
        self.accepted = Some(since);
        true
    }

    fn save(&self) -> Vec<u8> {
        let accepted = self.accepted.map(|since| postcard::to_stdvec(&since));
        accepted.and_then(Result::ok).unwrap_or_default()
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        self.accepted = match saved {
            [] => None,
            saved => Some(postcard::from_bytes(saved).map_err(|error| error.to_string())?),
        };
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}
