use std::time::Duration;

use super::{DetectorSpec, Labels, Selector};

/// Position of a rule in the configuration; names are for people, this is for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// A checked rule: which signals it watches, how, and what it calls the deviation.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The alert's name (`alertname`).
    pub alert: String,
    /// Which signals it watches.
    pub selector: Selector,
    /// How it judges them.
    pub detector: DetectorSpec,
    /// From which |sigma| a sample is an anomaly.
    pub sigma: SigmaThresholds,
    /// Which side counts.
    pub direction: Direction,
    /// How long the anomaly must hold before the alert fires.
    pub hold: For,
    /// A firing alert resolves only when |sigma| has stayed below the threshold less this
    /// (default 1.0) …
    pub resolve_sigma: f64,
    /// … for so many samples in a row (default 3).
    pub resolve_samples: u32,
    /// Samples that the baseline must stand on before anything is judged (default 30).
    pub min_samples: u32,
    /// Smallest absolute difference from the expectation that counts, in the signal's unit (default 0).
    pub min_change: f64,
    /// Smallest relative difference from the expectation that counts; 0.1 is 10 % (default 0).
    pub min_change_ratio: f64,
    /// Labels added to the alert; values may be templates.
    pub labels: Labels,
    /// Annotations of the alert; values may be templates.
    pub annotations: Labels,
}

/// How much of the past a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowSpec {
    /// The last N samples.
    Samples(u32),
    /// The samples of the last D, at most [`WindowSpec::MAX_SAMPLES`] of them.
    Duration(Duration),
}

impl WindowSpec {
    /// No window holds more samples than this.
    pub const MAX_SAMPLES: u32 = 10_000;
}

/// From which |sigma| a sample is an anomaly, and from which it is a critical one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SigmaThresholds {
    /// `severity="warning"` from here.
    pub warning: f64,
    /// `severity="critical"` from here; `None`: never.
    pub critical: Option<f64>,
}

/// Which side of the expectation counts as a deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Only values above it.
    Above,
    /// Only values below it.
    Below,
    /// Either.
    Both,
}

impl Direction {
    /// `sigma` as far as this direction counts it: its size on the right side, else 0.
    pub fn size(self, sigma: f64) -> f64 {
        match self {
            Self::Above => sigma.max(0.0),
            Self::Below => (-sigma).max(0.0),
            Self::Both => sigma.abs(),
        }
    }
}

/// How long a condition must hold before its alert fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// `n` of the last `of` samples, the present one among them. `1 of 1` fires at once.
    Samples {
        /// So many anomalous ones, 1 to `of`.
        n: u32,
        /// Out of so many, 1 to 64.
        of: u32,
    },
    /// Every sample for so long.
    Duration(Duration),
}

/// The label `severity`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum SeverityLabel {
    /// From the warning threshold.
    Warning,
    /// From the critical threshold.
    Critical,
}

impl SeverityLabel {
    /// `warning` or `critical`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
