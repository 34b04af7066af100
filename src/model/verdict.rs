use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{RuleId, Sample, SeverityLabel, SignalMeta};

/// What a detector says of one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// The baseline does not stand yet.
    Learning {
        /// So many samples more are needed.
        remaining: u32,
    },
    /// The sample was compared with the baseline.
    Judged(Judged),
}

/// A sample beside what was expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The most likely value.
    pub expected: f64,
    /// Lower end of the band that the rule's warning threshold draws; may be `-inf`.
    pub lower: f64,
    /// Upper end of that band; may be `inf`.
    pub upper: f64,
    /// How surprising the sample is, signed: above the expectation is positive. Finite, within ±1e6.
    pub sigma: f64,
    /// What was judged, where it is not the sample's own value: see [`Evidence::measure`].
    pub observed: Option<f64>,
    /// What it rests on.
    pub evidence: Evidence,
}

/// What a judgement rests on, for the explanation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Which deviation spoke, in the detector's words: `mean of the last 100 samples`.
    pub channel: Cow<'static, str>,
    /// How many samples the baseline stands on.
    pub samples: u32,
    /// The baseline's spread (standard deviation or its robust estimate), in the signal's unit.
    pub spread: f64,
    /// What was judged.
    pub measure: Measure,
    /// The sample's own value, where another number was judged and it still says something.
    pub present: Option<f64>,
    /// How much time the baseline has seen; zero where the detector does not know.
    pub history: Duration,
    /// In all of `history` no value was this far out on this side.
    pub never_seen: bool,
    /// The level that was normal until now, where with this sample another one became normal: the
    /// deviation has lasted, and whatever it was is over as far as the baseline goes.
    pub relevelled_from: Option<f64>,
    /// |sigma| as long as an event is reported once: 0 within an event that has been reported, unless
    /// it grows worse. Detectors that know of no events repeat |sigma|.
    pub report: f64,
}

/// What number a detector judged. It has a unit of its own unless it is the sample's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The sample's own value.
    #[default]
    Value,
    /// Seconds since the signal was last heard of.
    Silence,
    /// How many times faster than its objective allows an error budget is used up.
    BurnRate,
    /// Seconds until a limit is reached.
    TimeLeft,
}

impl Measure {
    /// Unit of the number; `None`: that of the signal.
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::Value => None,
            Self::Silence | Self::TimeLeft => Some("s"),
            Self::BurnRate => Some("1"),
        }
    }
}

/// A judged sample that a rule watches, as the engine reports it. Samples of quiet signals are not
/// reported: a signal is reported while it deviates and for as many samples afterwards as any `for`
/// or resolve setting looks back.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The rule that watches.
    pub rule: RuleId,
    /// The signal.
    pub signal: SignalMeta,
    /// The sample; its value is the number that was judged ([`Evidence::measure`]).
    pub sample: Sample,
    /// What was expected.
    pub judged: Judged,
    /// Whether the sample is an anomaly by the rule's thresholds, direction and minimum change,
    /// and how severe.
    pub anomaly: Option<SeverityLabel>,
    /// A trace that shows it, where one is known.
    pub exemplar: Option<u128>,
}

/// Severity 0.0 to 1.0 of a deviation of `sigma` against the threshold `warning` that has lasted for
/// `samples` anomalous samples (at least 1).
///
/// It is 0 below the threshold, 0.5 when twice the threshold is first seen, and approaches 1 with
/// either size or duration: `1 - 2^-(excess + log8(samples))` with `excess = sigma/warning - 1`,
/// never below a small floor once the threshold is reached.
pub fn severity(sigma: f64, warning: f64, samples: u32) -> f64 {
    let size = sigma.abs();
    if size.is_nan() || warning.is_nan() || warning <= 0.0 || size < warning {
        return 0.0;
    }
    let excess = size / warning - 1.0;
    let duration = f64::from(samples.max(1)).ln() / 8f64.ln();
    (1.0 - (-(excess + duration)).exp2()).clamp(0.05, 1.0)
}

#[cfg(test)]
mod tests {
    use super::severity;

    #[test]
    fn severity_grows_with_size_and_duration_and_stays_within_0_and_1() {
        assert_eq!(severity(2.0, 2.5, 1), 0.0);
        assert!((severity(5.0, 2.5, 1) - 0.5).abs() < 1e-12);
        assert!(severity(5.0, 2.5, 8) > severity(5.0, 2.5, 1));
        assert!(severity(-9.0, 2.5, 1) > severity(5.0, 2.5, 1));
        assert!(severity(1e6, 2.5, 1_000_000) <= 1.0);
        assert_eq!(severity(f64::NAN, 2.5, 1), 0.0);
    }
}
