//! The default: learns what is usual of any signal, by itself, and knows how rarely it is wrong.
//!
//! One sample after the other, in constant time and some 0.3 to 2 KiB a signal, without a window:
//!
//! 1. **Deviations** of a sample from the recent level, from the long-run level, from what is usual at
//!    this time of the day or week (once a period has shown itself: `season`), and of the mean of the
//!    last samples. No sample is part of its own baseline.
//! 2. Each is **calibrated** on its own history (`calibration`): sigma says how rarely that noise goes so
//!    far, whatever its distribution. The mean of these sigmas counts; a lasting shift speaks alone.
//! 3. **Novelty** (`novelty`): values, smoothed values and differences from the time of day that are far
//!    from all that were ever seen.
//! 4. A jump is an **event** (`event`): the baseline does not learn from it, so sigma stays while it lasts,
//!    and it is reported once. What has lasted long is the new normal at once, and that is said.
//!
//! What was chosen and why stands beside the constants; no labels were looked at but those of the files
//! named in `docs/detectors.md`.

mod calibration;
mod event;
mod level;
mod memory;
mod novelty;
mod rarity;
mod recurrence;
mod season;
mod state;

use std::mem::size_of;
use std::time::Duration;

use super::counts::{Counts, Look};
use super::{Detector, Kind, MAX_SIGMA};
use crate::model::{Evidence, Judged, Rule, Sample, SignalKind, Timestamp, Verdict};
use crate::window::Window;
use season::Period;
use state::{Band, Channel, State, Step, WARM_UP};

pub(super) const KIND: Kind = Kind {
    name: "adaptive",
    description: "Learns the level, the noise and the daily and weekly course of a signal by itself, without \
                  a window: distance from the recent level, the long-run level and the usual at this time, \
                  each calibrated on its own history, and values far from any seen before. Sigma therefore \
                  means the same on any noise. A jump does not teach; one that lasts becomes the new \
                  normal. Rates, error ratios and percentiles of few events are never more surprising than \
                  so few can be.",
    by_window: false,
    shared: true,
    build: |rule, kind| Ok(Box::new(Adaptive::new(rule, kind))),
};

/// O(1) a sample; keeps nothing in the window.
struct Adaptive {
    /// Where the band ends.
    band: Band,
    min_samples: u32,
    scale: Scale,
    /// Whether values are shares of something.
    is_ratio: bool,
    state: Option<State>,
    /// How many events there usually are behind a sample, where they are counted.
    counts: Option<Box<Counts>>,
}

impl Adaptive {
    fn new(rule: &Rule, kind: SignalKind) -> Self {
        Self {
            band: Band::at(rule.sigma.warning),
            min_samples: rule.min_samples.max(WARM_UP),
            scale: Scale::for_kind(kind),
            is_ratio: kind == SignalKind::ErrorRatio,
            state: None,
            counts: Counts::new(kind),
        }
    }

    fn step(&mut self, sample: Sample) -> Option<Step> {
        let secs = seconds(sample.time);
        let value = self.scale.of(sample.value);
        let state = self.state.get_or_insert_with(|| State::new(secs, value));
        state.step(secs, value, self.band, self.counts.is_some())
    }

    fn judged(&self, step: &Step, sample: Sample) -> Judged {
        let state = self.state.as_ref();
        let (began, samples) = state.map_or((0, 0), |state| (state.began, state.samples));
        let expected = self.scale.back(step.expected);
        let sigma = step.sigma.min(MAX_SIGMA);
        let finite = |number: f64| number.clamp(-f64::MAX, f64::MAX);
        let (mut lower, mut upper) = (
            self.scale.back(step.expected - step.reach),
            self.scale.back(step.expected + step.reach),
        );
        // A band that reaches where values cannot be is believed by nobody.
        if state.is_some_and(State::is_never_negative) {
            lower = lower.max(0.0).min(upper);
        }
        if self.is_ratio && sample.value <= 1.0 {
            upper = upper.min(1.0).max(lower);
        }
        Judged {
            expected: finite(expected),
            lower,
            upper,
            sigma: if sample.value < expected {
                -sigma
            } else {
                sigma
            },
            observed: None,
            evidence: Evidence {
                channel: words(step.channel).into(),
                samples,
                spread: finite(self.scale.spread(step.expected, step.spread)),
                history: since(began, sample.time),
                never_seen: step.never_seen,
                relevelled_from: step
                    .relevelled_from
                    .map(|from| finite(self.scale.back(from))),
                report: step.report.min(MAX_SIGMA),
                ..Evidence::default()
            },
        }
    }
}

impl Detector for Adaptive {
    fn observe(&mut self, sample: Sample, weight: u64, window: &Window) -> Verdict {
        if self.state.is_none() {
            // The rule is new, the signal is not.
            for past in window.iter() {
                self.step(past);
            }
        }
        let have = self.state.as_ref().map_or(0, |state| state.samples);
        let remaining = self.min_samples.saturating_sub(have);
        let (mut sigma, mut deviates) = (0.0, false);
        let verdict = match self.step(sample).filter(|_| remaining == 0) {
            None => Verdict::Learning {
                remaining: remaining.max(1),
            },
            Some(step) => {
                let mut judged = self.judged(&step, sample);
                sigma = judged.sigma;
                if let Some(counts) = &self.counts
                    && counts.matters(sigma, sample.value, weight)
                {
                    let look = Look {
                        sigma,
                        value: sample.value,
                        weight,
                        expected: self.scale.back(step.mean).max(judged.expected),
                        samples: f64::from(have.min(LONG_RUN)),
                    };
                    counts.weigh(look, self.band.sigma, &mut judged);
                }
                deviates = judged.sigma.abs() >= self.band.sigma;
                Verdict::Judged(judged)
            }
        };
        if let Some(counts) = &mut self.counts {
            counts.learn(sample.value, weight, sigma, deviates);
        }
        verdict
    }

    fn accept(&mut self, _since: Timestamp, _window: &Window) -> bool {
        let growth = match self.scale {
            Scale::Plain => LARGEST_GROWTH,
            // On this scale noise is the same everywhere.
            Scale::Root => 1.0,
        };
        if let Some(state) = &mut self.state {
            state.accept(growth);
        }
        true
    }

    fn season(&self) -> Option<&'static str> {
        match self.state.as_ref()?.period() {
            Period::None => None,
            Period::Day => Some("day"),
            Period::Week => Some("week"),
        }
    }

    fn save(&self) -> Vec<u8> {
        // It is about as long as what it is of.
        let room = Vec::with_capacity(self.bytes());
        postcard::to_extend(&(&self.state, &self.counts), room).unwrap_or_default()
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        if saved.is_empty() {
            return Ok(());
        }
        let (state, counts): (Option<State>, Option<Box<Counts>>) =
            postcard::from_bytes(saved).map_err(|error| error.to_string())?;
        if state.as_ref().is_some_and(|state| !state.is_sound()) {
            return Err("this was not learned of any signal".into());
        }
        if let (Some(own), Some(counts)) = (&mut self.counts, counts) {
            own.restore(*counts)?;
        }
        self.state = state;
        Ok(())
    }

    fn glance(&self, beyond: bool) -> u64 {
        let state = self.state.as_ref().map_or(0, |state| state.glance(beyond));
        let counts = self.counts.as_deref().filter(|_| beyond);
        state + counts.map_or(0, Counts::glance)
    }

    fn bytes(&self) -> usize {
        let counts = self.counts.as_deref().map_or(0, Counts::bytes);
        let state = self.state.as_ref().map_or(0, State::heap);
        size_of::<Self>() + counts + state
    }
}

/// Noise grows with the level that a person calls normal, at most so many times.
const LARGEST_GROWTH: f64 = 10.0;
/// So many samples the long-run mean stands on at most.
const LONG_RUN: u32 = 2000;

/// The scale on which values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// As they are.
    Plain,
    /// By their square roots: on that scale the noise of counting is the same everywhere (Anscombe 1948),
    /// so that 3 where 30 are usual is as far as it should be.
    Root,
}

impl Scale {
    fn for_kind(kind: SignalKind) -> Self {
        if kind == SignalKind::Rate {
            Self::Root
        } else {
            Self::Plain
        }
    }

    fn of(self, value: f64) -> f64 {
        match self {
            Self::Plain => value,
            Self::Root => value.abs().sqrt().copysign(value),
        }
    }

    fn back(self, value: f64) -> f64 {
        match self {
            Self::Plain => value,
            Self::Root => value * value.abs(),
        }
    }

    /// A spread around `centre`, both on this scale, in the signal's own unit.
    fn spread(self, centre: f64, spread: f64) -> f64 {
        match self {
            Self::Plain => spread,
            Self::Root => spread * (2.0 * centre.abs()).max(spread),
        }
    }
}

/// What deviated, in words.
fn words(channel: Channel) -> &'static str {
    match channel {
        Channel::Recent => "recent level and spread",
        Channel::LongRun => "long-run level and spread",
        Channel::Season(Period::Week) => "the usual at this time of the week",
        Channel::Season(Period::Day | Period::None) => "the usual at this time of the day",
        Channel::Shift => "lasting shift of the mean of the last samples",
        Channel::NewValue => "a value far from any seen before",
        Channel::NewLevel => "a level far from any seen before",
        Channel::NewForTime(Period::Week) => "never so far from the usual at this time of the week",
        Channel::NewForTime(Period::Day | Period::None) => {
            "never so far from the usual at this time of the day"
        }
    }
}

fn seconds(time: Timestamp) -> i64 {
    time.as_nanos().div_euclid(1_000_000_000)
}

/// From `began`, in seconds, to `now`; nothing where the clock was set back.
fn since(began: i64, now: Timestamp) -> Duration {
    let seconds = seconds(now).saturating_sub(began);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests;
