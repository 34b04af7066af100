//! Like `zscore`, on statistics that outliers in the window do not move: median and median absolute
//! deviation (Hampel's identifier), with sigmas that know how rough an estimate that is.
//!
//! The median absolute deviation looks at the middle half of the window only, so by itself it finds
//! surprise in what is ordinary: a queue that is mostly empty, percentiles of a few spans, a latency
//! with a long tail. Where such a tail is wider than the middle says, it sets the width of the band.
//! A baseline must not learn from the incident it is to show, so samples of a run of deviations are
//! set aside until they are more than half of the window: then they are the normal state.
//!
//! Rates of counted events are judged on a scale on which the noise of counting is the same everywhere
//! (Anscombe, *The Transformation of Poisson, Binomial and Negative-Binomial Data*, 1948): 3 where 30 are
//! usual is less likely than it looks, and 60 more so. How many events there were limits how surprising a
//! sample can be: see `counts`.

use std::collections::VecDeque;
use std::mem::size_of;

use super::counts::{Anscombe, Counts, Look};
use super::{Detector, Kind, Scale, floored, tail};
use crate::model::{Evidence, Judged, Rule, Sample, SignalKind, Timestamp, Verdict};
use crate::window::{Window, median};

pub(super) const KIND: Kind = Kind {
    name: "robust",
    description: "Distance from the median of the window before the sample, in 1.4826 times the median \
                  absolute deviation from it: up to half of the window may be outliers without \
                  widening the band. A window with a long tail counts 0.4 times its 95th percentile of \
                  deviations instead, if that is more; one in which more than half is one value, 1.25 \
                  times its root mean square deviation. A run of deviations does not teach before it has \
                  lasted for half of the window. A spread from few samples is rough, so \
                  sigma is that of the normal tail which is as likely as the tail of Student's t. Rates \
                  of few events are judged by the square root of the count. Rates, error ratios and \
                  percentiles of few events are never more surprising than so few can be.",
    by_window: true,
    shared: true,
    build: |rule, kind| Ok(Box::new(Robust::new(rule, kind))),
};

/// Makes the median absolute deviation of normal noise its standard deviation: 1 / Φ⁻¹(3/4).
const MEDIAN_TO_STDDEV: f64 = 1.4826;
/// Makes the 95th percentile of deviations a spread. For normal noise it is 1.96 standard deviations,
/// so this stays a quarter below the median's spread, beyond what chance does to a hundred samples:
/// only a tail that is really longer speaks.
const TAIL_TO_SPREAD: f64 = 1.0 / 2.5;
/// The percentile that stands for the tail: in a hundred samples four outliers may be larger.
const TAIL: f64 = 0.95;
/// Makes the root mean square deviation from a value that most samples have a spread. Rare events come
/// in bunches by chance more often than the spread of normal noise allows for.
const ROOT_MEAN_SQUARE_TO_SPREAD: f64 = 1.25;
/// Degrees of freedom a sample: the median absolute deviation is 37 % as efficient as the standard
/// deviation (Rousseeuw and Croux, *Alternatives to the Median Absolute Deviation*, 1993).
const FREEDOM: f64 = 0.37;
/// A run is so many deviations …
const RUN: usize = 3;
/// … among so many samples.
const RUN_OF: usize = 5;

/// The sample deviated by the rule's threshold.
const DEVIATES: u8 = 1;
/// The baseline does not rest on the sample.
const SET_ASIDE: u8 = 2;
/// The sample is past: a person said that what came after it is normal.
const PAST: u8 = 4;

/// O(n) a sample; beside the window a byte a sample of it.
struct Robust {
    scale: Scale,
    /// Of the samples in the window; the newest is the last in both, and older ones may have none.
    marks: VecDeque<u8>,
    /// (samples in the window, distance in spreads at which the band ends): it changes only with the
    /// number of samples.
    reach: (usize, f64),
    /// How many events there usually are behind a sample, where they are counted.
    counts: Option<Box<Counts>>,
}

impl Robust {
    fn new(rule: &Rule, kind: SignalKind) -> Self {
        Self {
            counts: Counts::new(kind),
            scale: Scale::new(rule, 2),
            marks: VecDeque::new(),
            reach: (0, 0.0),
        }
    }

    /// The samples that the baseline rests on, each with whether the tail learns from it, too.
    fn baseline<'a>(
        &'a self,
        window: &'a Window,
    ) -> impl Iterator<Item = (f64, bool)> + Clone + 'a {
        // The marks may begin later than the window, after a restart.
        let unmarked = window.len() - self.marks.len().min(window.len());
        let marks = std::iter::repeat_n(0, unmarked).chain(self.marks.iter().copied());
        let settled = window.len().saturating_sub(RUN_OF - 1);
        let marked = window.iter().zip(marks).enumerate();
        let calm = marked.filter(|(_, (_, mark))| mark & (SET_ASIDE | PAST) == 0);
        calm.map(move |(index, (sample, mark))| {
            // What deviated just now may be the beginning of a run.
            (sample.value, index < settled || mark & DEVIATES == 0)
        })
    }

    /// Of the samples that the baseline rests on: what rare events add up to, which no median shows.
    fn mean(&self, window: &Window) -> f64 {
        let values = self.baseline(window).map(|(value, _)| value);
        let count = values.clone().count().max(1) as f64;
        values.map(|value| value / count).sum()
    }

    /// Remembers whether the newest sample deviated, and what follows for those around it.
    fn mark(&mut self, deviates: bool) {
        self.marks.push_back(if deviates { DEVIATES } else { 0 });
        let recent = self.marks.len().saturating_sub(RUN_OF);
        let run = self
            .marks
            .range(recent..)
            .filter(|mark| **mark & DEVIATES != 0);
        if run.count() >= RUN {
            for mark in self.marks.range_mut(recent..) {
                if *mark & DEVIATES != 0 {
                    *mark |= SET_ASIDE;
                }
            }
        }
        let aside = self.marks.iter().filter(|mark| **mark & SET_ASIDE != 0);
        if aside.count() * 2 > self.marks.len() - self.past() {
            // The run is the normal state now, and what was before is past.
            for mark in self.marks.iter_mut().filter(|mark| **mark != PAST) {
                *mark = (*mark & SET_ASIDE) ^ SET_ASIDE;
            }
        }
    }

    /// How many samples are past.
    fn past(&self) -> usize {
        self.marks.iter().filter(|mark| **mark == PAST).count()
    }

    /// Half of the band's width in spreads, of which one is `error` as wide as it looks.
    fn reach(&mut self, samples: usize, freedom: f64, error: f64) -> f64 {
        if self.reach.0 != samples {
            let distance = tail::distance_of(self.scale.warning, freedom);
            self.reach = (samples, distance * error);
        }
        self.reach.1
    }

    fn judge(&mut self, value: f64, window: &Window) -> Verdict {
        let scale = Anscombe::new(self.counts.as_deref().and_then(Counts::seconds));
        let value = scale.of(value);
        let settled: Vec<_> = self.baseline(window).collect();
        let mut values: Vec<f64> = settled.iter().map(|(value, _)| scale.of(*value)).collect();
        let samples = values.len();
        let centre = median(&mut values).unwrap_or(0.0);
        // Half, so that the distance of two giants does not overflow.
        let deviation = |value: f64| (value * 0.5 - centre * 0.5).abs();
        for value in &mut values {
            *value = deviation(*value);
        }
        let mut spread = median(&mut values).unwrap_or(0.0) * MEDIAN_TO_STDDEV;
        let mut channel = "median and median absolute deviation of the window";
        values.clear();
        let settled = settled.iter().filter(|(_, settled)| *settled);
        values.extend(settled.map(|(value, _)| deviation(scale.of(*value))));
        let tail = largest_but_few(&mut values) * TAIL_TO_SPREAD;
        if tail > spread {
            spread = tail;
            channel = "median and long tail of the window";
        }
        let rounding = centre.abs() * super::ROUNDING;
        if spread <= rounding || median(&mut values).is_some_and(|most| most <= rounding) {
            let rare = root_mean_square(&values) * ROOT_MEAN_SQUARE_TO_SPREAD;
            if rare > spread {
                spread = rare;
                channel = "median and root mean square deviation of the window";
            }
        }
        let spread = floored(centre, (spread * 2.0).min(f64::MAX));
        let freedom = FREEDOM * samples as f64;
        // The median is an estimate, too: its variance is π/2 of that of the mean.
        let error = (1.0 + std::f64::consts::FRAC_PI_2 / samples as f64).sqrt();
        let reach = self.reach(samples, freedom, error) * spread;
        match self.scale.judge(value, centre, spread, channel, window) {
            Verdict::Judged(judged) => {
                let sigma = tail::sigma_of(judged.sigma / error, freedom);
                Verdict::Judged(Judged {
                    lower: scale.back(centre - reach),
                    upper: scale.back(centre + reach),
                    sigma,
                    observed: None,
                    expected: scale.back(centre),
                    evidence: Evidence {
                        report: sigma.abs(),
                        spread: scale.spread_back(centre, spread),
                        ..judged.evidence
                    },
                })
            }
            learning @ Verdict::Learning { .. } => learning,
        }
    }
}

impl Detector for Robust {
    fn observe(&mut self, sample: Sample, weight: u64, window: &Window) -> Verdict {
        while self.marks.len() > window.len() {
            self.marks.pop_front();
        }
        let have = window.len() - self.past();
        let mut verdict = match self.scale.learning(have, window) {
            Some(learning) => learning,
            None => self.judge(sample.value, window),
        };
        // What the baseline rests on is a question of the values alone: an outage whose first failures
        // are too few to say so must not begin to look usual.
        let (mut sigma, mut deviates) = (0.0, false);
        if let Verdict::Judged(judged) = &mut verdict {
            sigma = judged.sigma;
            if let Some(counts) = &self.counts
                && counts.matters(sigma, sample.value, weight)
            {
                let look = Look {
                    sigma,
                    value: sample.value,
                    weight,
                    expected: judged.expected.max(self.mean(window)),
                    samples: window.len() as f64,
                };
                counts.weigh(look, self.scale.warning, judged);
            }
            deviates = judged.sigma.abs() >= self.scale.warning;
        }
        if let Some(counts) = &mut self.counts {
            counts.learn(sample.value, weight, sigma, deviates);
        }
        self.mark(sigma.abs() >= self.scale.warning);
        verdict
    }

    fn accept(&mut self, since: Timestamp, window: &Window) -> bool {
        let mark = |sample: Sample| if sample.time < since { PAST } else { 0 };
        self.marks = window.iter().map(mark).collect();
        true
    }

    fn save(&self) -> Vec<u8> {
        postcard::to_stdvec(&(&self.marks, &self.counts)).unwrap_or_default()
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        if saved.is_empty() {
            return Ok(());
        }
        let (marks, counts): (VecDeque<u8>, Option<Box<Counts>>) =
            postcard::from_bytes(saved).map_err(|error| error.to_string())?;
        if marks
            .iter()
            .any(|mark| *mark & !(DEVIATES | SET_ASIDE | PAST) != 0)
        {
            return Err("these are no marks of samples".into());
        }
        if let (Some(own), Some(counts)) = (&mut self.counts, counts) {
            own.restore(*counts)?;
        }
        self.marks = marks;
        Ok(())
    }

    fn bytes(&self) -> usize {
        let counts = self.counts.as_deref().map_or(0, Counts::bytes);
        size_of::<Self>() + self.marks.capacity() + counts
    }
}

/// The deviation that only the largest twentieth exceeds; 0 without any. Reorders `deviations`.
fn largest_but_few(deviations: &mut [f64]) -> f64 {
    let Some(last) = deviations.len().checked_sub(1) else {
        return 0.0;
    };
    let rank = (last as f64 * TAIL).ceil() as usize;
    *deviations
        .select_nth_unstable_by(rank.min(last), f64::total_cmp)
        .1
}

/// Scaled by the largest, so that no square overflows.
fn root_mean_square(deviations: &[f64]) -> f64 {
    let largest = deviations.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return 0.0;
    }
    let squares = deviations
        .iter()
        .map(|deviation| (deviation / largest).powi(2));
    largest * (squares.sum::<f64>() / deviations.len() as f64).sqrt()
}
