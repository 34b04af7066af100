use std::sync::Arc;
use std::time::Duration;

use super::{SeverityLabel, WindowSpec};

/// Which detector, with its settings; `detect` knows what they mean.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DetectorSpec {
    /// Name in the registry: `zscore`, `robust`, `threshold`, …
    pub name: String,
    /// The baseline's length, where the rule sets its own.
    pub window: Option<WindowSpec>,
    /// `threshold`, `slo`, `forecast`: the value must stay at or above this.
    pub lower: Option<f64>,
    /// `threshold`, `slo`, `forecast`: the value must stay at or below this.
    pub upper: Option<f64>,
    /// What `lower`, `upper` and a target are; `None`: numbers in the signal's own unit.
    pub dimension: Option<Dimension>,
    /// What only one detector knows.
    pub own: OwnSettings,
}

impl DetectorSpec {
    /// The detector `name` as it is by default.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The same with its bounds in `unit`, that of a signal. A signal without a unit is taken to be in
    /// seconds, bytes or parts of one. `None`: the bounds are of another dimension than the signal.
    pub fn in_unit(&self, unit: &str) -> Option<Self> {
        let mut spec = self.clone();
        spec.dimension = None;
        if let Some(dimension) = self.dimension {
            let factor = dimension.factor(unit)?;
            let scaled = |bound: Option<f64>| bound.map(|bound| bound * factor);
            spec.lower = scaled(spec.lower);
            spec.upper = scaled(spec.upper);
            if let OwnSettings::Slo(slo) = &mut spec.own {
                slo.target = scaled(slo.target);
            }
        }
        if let OwnSettings::Forecast(forecast) = &mut spec.own {
            forecast.unit = unit.into();
        }
        Some(spec)
    }
}

/// What a quantity measures, whatever its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// Seconds.
    Time,
    /// Bytes.
    Bytes,
    /// Parts of one: 0.5 is 50 %.
    Share,
}

impl Dimension {
    /// How many of `unit` (UCUM) one second, byte or whole is; an empty unit counts as these.
    pub fn factor(self, unit: &str) -> Option<f64> {
        if unit.is_empty() {
            return Some(1.0);
        }
        Some(match (self, unit) {
            (Self::Time, "s") | (Self::Bytes, "By" | "B" | "bytes") | (Self::Share, "1") => 1.0,
            (Self::Time, "ms") => 1e3,
            (Self::Time, "us" | "µs") => 1e6,
            (Self::Time, "ns") => 1e9,
            (Self::Time, "min") => 1.0 / 60.0,
            (Self::Time, "h") => 1.0 / 3_600.0,
            (Self::Time, "d") => 1.0 / 86_400.0,
            (Self::Bytes, "kBy") => 1e-3,
            (Self::Bytes, "MBy") => 1e-6,
            (Self::Bytes, "GBy") => 1e-9,
            (Self::Bytes, "KiBy") => 1.0 / 1024.0,
            (Self::Bytes, "MiBy") => 1.0 / (1024.0 * 1024.0),
            (Self::Bytes, "GiBy") => 1.0 / (1024.0 * 1024.0 * 1024.0),
            (Self::Share, "%") => 100.0,
            (Self::Time | Self::Bytes | Self::Share, _) => return None,
        })
    }
}

/// Settings of the detectors that have some of their own.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum OwnSettings {
    /// None, or the detector's defaults.
    #[default]
    Default,
    /// Of `slo`.
    Slo(SloSpec),
    /// Of `forecast`.
    Forecast(ForecastSpec),
    /// Of `absence`.
    Absence(AbsenceSpec),
}

/// A service-level objective.
#[derive(Debug, Clone, PartialEq)]
pub struct SloSpec {
    /// The worst value that is good: the lowest of a rate, the highest of anything else.
    pub target: Option<f64>,
    /// The bounds as a person wrote them, for the explanation; may be empty.
    pub words: Arc<str>,
    /// Which share must be good, 0.0 to 1.0, both excluded. `None`: 0.999 of events where each is good
    /// or bad by itself, else 0.99.
    pub objective: Option<f64>,
    /// When the error budget is used up too fast, the fastest first; at least one.
    pub burns: Arc<[Burn]>,
}

impl Default for SloSpec {
    fn default() -> Self {
        Self {
            target: None,
            words: "".into(),
            objective: None,
            burns: Burn::usual(),
        }
    }
}

/// One alert on an error budget: it is used up at `rate` or faster over both windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burn {
    /// The window that tells that it matters.
    pub long: Duration,
    /// The window that tells that it still goes on.
    pub short: Duration,
    /// How many times faster than the objective allows.
    pub rate: f64,
    /// What it is called.
    pub severity: SeverityLabel,
}

impl Burn {
    /// The table of the *Site Reliability Workbook* (chapter 5, "Alerting on SLOs"): of the budget of
    /// 30 days 2 % in an hour, 5 % in six, 10 % in three days.
    pub fn usual() -> Arc<[Self]> {
        let burn = |long, short, rate, severity| Self {
            long: Duration::from_mins(long),
            short: Duration::from_mins(short),
            rate,
            severity,
        };
        Arc::new([
            burn(60, 5, 14.4, SeverityLabel::Critical),
            burn(360, 30, 6.0, SeverityLabel::Warning),
            burn(4_320, 360, 1.0, SeverityLabel::Warning),
        ])
    }
}

/// How far ahead a limit is foreseen.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastSpec {
    /// The limit is reached within so long.
    pub horizon: Duration,
    /// Unit of the signal, once it is known.
    pub unit: Box<str>,
}

impl Default for ForecastSpec {
    fn default() -> Self {
        Self {
            horizon: Duration::from_hours(1),
            unit: "".into(),
        }
    }
}

/// How long silence is ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AbsenceSpec {
    /// From when on it is not; `None`: learned.
    pub after: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_converted_to_the_unit_of_the_signal() {
        for (dimension, unit, expected) in [
            (Dimension::Time, "s", Some(0.3)),
            (Dimension::Time, "ms", Some(300.0)),
            (Dimension::Time, "ns", Some(3e8)),
            (Dimension::Time, "min", Some(0.005)),
            (Dimension::Time, "", Some(0.3)),
            (Dimension::Time, "1", None),
            (Dimension::Time, "By", None),
            (Dimension::Share, "%", Some(30.0)),
            (Dimension::Share, "1", Some(0.3)),
            (Dimension::Bytes, "kBy", Some(0.3e-3)),
        ] {
            let spec = DetectorSpec {
                upper: Some(0.3),
                dimension: Some(dimension),
                ..DetectorSpec::default()
            };
            let upper = spec.in_unit(unit).map(|spec| spec.upper.unwrap());
            let same = match (upper, expected) {
                (Some(a), Some(b)) => (a / b - 1.0).abs() < 1e-12,
                (a, b) => a == b,
            };
            assert!(same, "{dimension:?} in {unit}: {upper:?}");
        }
        let plain = DetectorSpec {
            lower: Some(5.0),
            ..DetectorSpec::default()
        };
        assert_eq!(plain.in_unit("By"), Some(plain));
    }
}
