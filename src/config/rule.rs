//! Rules: which signals are watched, how, and what a deviation is called.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{
    self, AbsenceSpec, Burn, DetectorSpec, For, ForecastSpec, Labels, OwnSettings, Selector,
    SelectorError, SeverityLabel, SigmaThresholds, SloSpec, WindowSpec,
};

use super::decode::BadText;
use super::units::{Period, Quantity, Share, as_text};

/// The detector of rules that name none.
const DEFAULT_DETECTOR: &str = "adaptive";

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the alert (`alertname`).
    pub alert: String,
    /// The signals it watches: a selector over `service`, `metric`, `signal`, `unit` and attributes.
    /// `{}` is all of them.
    #[serde(rename = "match")]
    pub selector: SelectorText,
    /// How it judges: `robust` (median and spread that outliers do not move), `zscore` (mean and standard
    /// deviation of the window before the sample), `threshold` (fixed bounds), `slo` (how fast an error
    /// budget is used up), `forecast` (when a limit will be reached), `absence` (what is not heard any more).
    #[serde(default = "default_detector")]
    pub detector: String,
    /// The window of this rule; unset: that of the section `window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<RuleWindow>,
    /// From how surprising a sample is an anomaly, in standard deviations: `{warning: 4, critical: 6}`, or
    /// a number, which is the warning alone. Unset: 4 and 6; of detector `zscore` 2.5 and 5. Not of `slo` and
    /// `absence`, which know of rates and times instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<Sigma>,
    /// Which side of the expectation counts.
    #[serde(default)]
    pub direction: Direction,
    /// How long before the alert fires: `3 of 5` samples, or a duration over which every sample is
    /// anomalous. `1 of 1` fires at once. Unset: `3 of 5`; of the detectors `slo`, `forecast` and `absence`,
    /// which look back themselves, `1 of 1`.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Samples that the baseline must stand on before anything is judged. Unset: 30, or the window's size
    /// where that is smaller. At least 2, at most the window's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub min_samples: Option<u32>,
    /// Smallest difference from the expectation that counts, in the signal's unit. `0`: any.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub min_change: f64,
    /// Smallest difference from the expectation that counts, as a share of it; 0.2 is 20 %. `0`: any.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub min_change_ratio: f64,
    /// When a firing alert is over.
    #[serde(default)]
    pub resolve: Resolve,
    /// Of the detectors `threshold`, `slo` and `forecast`: the value must stay at or above this. A number
    /// in the signal's unit, or with a unit that is converted: `300ms`, `2GiB`, `90%`. Unset: no lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<Quantity>,
    /// Of the detectors `threshold`, `slo` and `forecast`: the value must stay at or below this, written as
    /// `lower`. Unset: no upper bound; of `forecast` a ratio has that of 100 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<Quantity>,
    /// Of detector `slo`: the worst value that is good, written as `lower`: the lowest of a signal `rate`,
    /// the highest of any other. An error ratio needs none. Unset: none, or those in `objectives`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Quantity>,
    /// Of detector `slo`: which share must be good, such as `99.9%`. Of an error ratio that is the share of
    /// requests, of other signals that of the requests in ticks that kept the target. Unset: 99.9 % of
    /// an error ratio, else 99 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Share>,
    /// Of detector `slo`: a table of objectives. For each signal that `match` selects the first line counts
    /// whose own `match` does so, too. Unset: one objective for all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<Objective>,
    /// Of detector `slo`: how fast the error budget must be used up for an alert. Unset: the usual table,
    /// 14.4 times over 1h and 5m (critical), 6 times over 6h and 30m, once over 3d and 6h.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub burn: Vec<BurnRate>,
    /// Of detector `forecast`: how far ahead the limit must be to be of no concern; within a quarter of it,
    /// the alert is critical. 1m to 1y. Unset: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Period>,
    /// Of detector `absence`: how long a signal may be silent. At least a tick. Unset: five times its usual
    /// interval, at least a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Period>,
    /// Labels added to the alert; values may be templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Texts for people; values may be templates: `{{ service }} is slow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

pub(super) fn default_detector() -> String {
    DEFAULT_DETECTOR.into()
}

impl Rule {
    /// Whether thresholds in standard deviations mean anything to its detector.
    pub fn has_sigma(&self) -> bool {
        !matches!(self.detector.as_str(), "slo" | "absence")
    }

    /// The thresholds set, or the detector's own.
    pub fn thresholds(&self) -> Sigma {
        self.sigma.unwrap_or(match self.detector.as_str() {
            // The rule of thumb that everybody knows.
            "zscore" => Sigma {
                warning: 2.5,
                critical: Some(5.0),
            },
            _ => Sigma {
                warning: 4.0,
                critical: Some(6.0),
            },
        })
    }

    /// How long before the alert fires: what is set, or the detector's own.
    pub fn holds(&self) -> Hold {
        self.hold.unwrap_or(match self.detector.as_str() {
            // They look at minutes and hours themselves.
            "slo" | "forecast" | "absence" => Hold(For::Samples { n: 1, of: 1 }),
            _ => Hold::default(),
        })
    }

    /// The rules as the pipeline takes them: one, or of a table of objectives one a line;
    /// `default_window` is that of rules which set none.
    pub fn to_models(&self, default_window: WindowSpec, tick: Period) -> Vec<model::Rule> {
        if self.objectives.is_empty() {
            let selector = self.selector.selector.clone();
            return vec![self.to_model(selector, None, default_window, tick)];
        }
        let mut before = Vec::new();
        let line = |line: &Objective| {
            let own = &line.selector.selector;
            let selector = self.selector.selector.clone().and(own);
            let selector = selector.except(before.iter().cloned());
            before.push(own.clone());
            self.to_model(selector, Some(line), default_window, tick)
        };
        self.objectives.iter().map(line).collect()
    }

    fn to_model(
        &self,
        selector: Selector,
        line: Option<&Objective>,
        default_window: WindowSpec,
        tick: Period,
    ) -> model::Rule {
        let window = self.window.as_ref().map(RuleWindow::spec);
        let holds = capacity(window.unwrap_or(default_window), tick);
        let bounds = self.bounds(line);
        let value = |bound: &Option<Quantity>| bound.as_ref().map(|bound| bound.value);
        model::Rule {
            alert: self.alert.clone(),
            selector,
            detector: DetectorSpec {
                name: self.detector.clone(),
                window,
                lower: value(&bounds.lower),
                upper: value(&bounds.upper),
                dimension: bounds.all().find_map(|bound| bound.dimension),
                own: self.own(line, &bounds),
            },
            sigma: SigmaThresholds {
                warning: self.thresholds().warning,
                critical: self.thresholds().critical,
            },
            direction: self.direction.into(),
            hold: self.holds().0,
            resolve_sigma: self.resolve.sigma,
            resolve_samples: self.resolve.samples,
            min_samples: self.min_samples.unwrap_or(holds.min(30)),
            min_change: self.min_change,
            min_change_ratio: self.min_change_ratio,
            labels: Labels(self.labels.clone()),
            annotations: Labels(self.annotations.clone()),
        }
    }

    /// The bounds of the rule, or of a line of its table, which replaces them all if it has any.
    fn bounds(&self, line: Option<&Objective>) -> Bounds {
        let of_rule = Bounds {
            target: self.target.clone(),
            lower: self.lower.clone(),
            upper: self.upper.clone(),
        };
        let of_line = line.map(|line| Bounds {
            target: line.target.clone(),
            lower: line.lower.clone(),
            upper: line.upper.clone(),
        });
        match of_line {
            Some(bounds) if bounds.all().next().is_some() => bounds,
            _ => of_rule,
        }
    }

    fn own(&self, line: Option<&Objective>, bounds: &Bounds) -> OwnSettings {
        match self.detector.as_str() {
            "slo" => {
                let words: Vec<_> = bounds.all().map(Quantity::to_string).collect();
                let objective = line.and_then(|line| line.objective).or(self.objective);
                let burns: Vec<Burn> = self.burn.iter().copied().map(BurnRate::to_model).collect();
                OwnSettings::Slo(SloSpec {
                    target: bounds.target.as_ref().map(|target| target.value),
                    words: words.join(" and ").into(),
                    objective: objective.map(|share| share.0),
                    burns: if burns.is_empty() {
                        Burn::usual()
                    } else {
                        burns.into()
                    },
                })
            }
            "forecast" => {
                let usual = ForecastSpec::default();
                OwnSettings::Forecast(ForecastSpec {
                    horizon: self.horizon.map_or(usual.horizon, |horizon| horizon.0),
                    ..usual
                })
            }
            "absence" => OwnSettings::Absence(AbsenceSpec {
                after: self.after.map(|after| after.0),
            }),
            _ => OwnSettings::Default,
        }
    }
}

/// What bounds a value.
struct Bounds {
    target: Option<Quantity>,
    lower: Option<Quantity>,
    upper: Option<Quantity>,
}

impl Bounds {
    /// Those that are set.
    fn all(&self) -> impl Iterator<Item = &Quantity> {
        [&self.target, &self.lower, &self.upper]
            .into_iter()
            .flatten()
    }
}

/// One line of a table of objectives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// The signals it is for, of those that the rule selects.
    #[serde(rename = "match")]
    pub selector: SelectorText,
    /// The worst value that is good: `300ms`, `2GiB`, `90%`, or a number in the signal's unit. Unset: as
    /// the rule has it, unless this line has `lower` or `upper`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Quantity>,
    /// The value must stay at or above this. Unset: as the rule has it, unless this line has another bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<Quantity>,
    /// The value must stay at or below this. Unset: as the rule has it, unless this line has another bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<Quantity>,
    /// Which share must be good. Unset: as the rule has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Share>,
}

/// How fast an error budget must be used up for an alert.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BurnRate {
    /// The window that says that it matters, 1m to 30d.
    pub long: Period,
    /// The window that says that it still goes on: the alert ends when it is over. Up to `long`, and at
    /// least a 240th of it. Unset: a twelfth of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<Period>,
    /// How many times faster than the objective allows. 1 uses up the whole budget in the objective's period.
    pub rate: f64,
    /// What the alert is called.
    #[serde(default)]
    pub severity: BurnSeverity,
}

impl BurnRate {
    /// The window that is set, or a twelfth of the long one.
    pub fn short(&self) -> Period {
        self.short.unwrap_or(Period(self.long.0 / 12))
    }

    fn to_model(self) -> Burn {
        Burn {
            long: self.long.0,
            short: self.short().0,
            rate: self.rate,
            severity: match self.severity {
                BurnSeverity::Warning => SeverityLabel::Warning,
                BurnSeverity::Critical => SeverityLabel::Critical,
            },
        }
    }
}

/// What an alert is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BurnSeverity {
    /// Somebody should look at it.
    #[default]
    Warning,
    /// Somebody should look at it now.
    Critical,
}

/// How many samples a window can hold.
pub(super) fn capacity(window: WindowSpec, tick: Period) -> u32 {
    match window {
        WindowSpec::Samples(samples) => samples,
        WindowSpec::Duration(duration) => {
            let ticks = duration.as_nanos() / tick.0.as_nanos().max(1);
            u32::try_from(ticks).map_or(WindowSpec::MAX_SAMPLES, |n| n.min(WindowSpec::MAX_SAMPLES))
        }
    }
}

/// The window of one rule: one of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleWindow {
    /// The last so many samples, 2 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10_000))]
    pub samples: Option<u32>,
    /// The samples of the last so long, never more than 10000 of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Period>,
}

impl RuleWindow {
    fn spec(&self) -> WindowSpec {
        match self.duration {
            Some(duration) => WindowSpec::Duration(duration.0),
            None => WindowSpec::Samples(self.samples.unwrap_or(100)),
        }
    }
}

/// A selector, and how it was written.
#[derive(Debug, Clone)]
pub struct SelectorText {
    text: String,
    /// The selector itself.
    pub selector: Selector,
}

impl PartialEq for SelectorText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for SelectorText {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let selector = Selector::parse(text).map_err(|SelectorError { message, column }| {
            let message = one_line(&message);
            let mut bad = BadText::new(format!("bad selector: {message} (its column {column})"))
                .hint("selectors look like '{service=\"checkout\",metric=~\"http.*\"}'");
            bad.column = Some(column);
            bad
        })?;
        Ok(Self {
            text: text.into(),
            selector,
        })
    }
}

/// A message about a regular expression draws a picture over several lines; its first and last say it.
pub(in crate::config) fn one_line(message: &str) -> String {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!(
            "{}: {}",
            first.trim_end_matches(": regex parse error:"),
            last.trim_start_matches("error: ")
        ),
        None => first.to_owned(),
    }
}

impl fmt::Display for SelectorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

as_text!(SelectorText, "Selector", "a selector such as '{service=\"checkout\"}'", {
    "type": "string"
});

/// From how surprising a sample is an anomaly, in standard deviations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sigma {
    /// `severity="warning"` from here.
    pub warning: f64,
    /// `severity="critical"` from here; `None`: never.
    pub critical: Option<f64>,
}

/// The two thresholds written out.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// `severity="warning"` from here. More than 0.
    warning: f64,
    /// `severity="critical"` from here. Unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    critical: Option<f64>,
}

impl<'de> Deserialize<'de> for Sigma {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SigmaVisitor;

        impl<'de> Visitor<'de> for SigmaVisitor {
            type Value = Sigma;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or {warning: …, critical: …}")
            }

            fn visit_u64<E: Error>(self, warning: u64) -> Result<Sigma, E> {
                self.visit_f64(warning as f64)
            }

            fn visit_i64<E: Error>(self, warning: i64) -> Result<Sigma, E> {
                self.visit_f64(warning as f64)
            }

            fn visit_f64<E: Error>(self, warning: f64) -> Result<Sigma, E> {
                Ok(Sigma {
                    warning,
                    critical: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sigma, A::Error> {
                let Thresholds { warning, critical } =
                    Thresholds::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Sigma { warning, critical })
            }
        }
        deserializer.deserialize_any(SigmaVisitor)
    }
}

impl Serialize for Sigma {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.critical {
            None => serializer.serialize_f64(self.warning),
            critical => Thresholds {
                warning: self.warning,
                critical,
            }
            .serialize(serializer),
        }
    }
}

impl JsonSchema for Sigma {
    fn schema_name() -> Cow<'static, str> {
        "Sigma".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let thresholds = generator.subschema_for::<Thresholds>();
        json_schema!({
            "description": "From how surprising a sample is an anomaly, in standard deviations.",
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, thresholds],
        })
    }
}

/// Which side of the expectation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Only values above it.
    Above,
    /// Only values below it.
    Below,
    /// Either.
    #[default]
    Both,
}

impl From<Direction> for model::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Above => Self::Above,
            Direction::Below => Self::Below,
            Direction::Both => Self::Both,
        }
    }
}

/// `3 of 5` samples, or a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold(pub For);

impl Default for Hold {
    fn default() -> Self {
        Self(For::Samples { n: 3, of: 5 })
    }
}

impl FromStr for Hold {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let bad = || BadText::new("expected samples such as `3 of 5`, or a duration such as 1m");
        if text == "0" {
            return Ok(Self(For::Samples { n: 1, of: 1 }));
        }
        let mut words = text.split_whitespace();
        if let (Some(n), Some("of"), Some(of), None) =
            (words.next(), words.next(), words.next(), words.next())
        {
            let n: u32 = n.parse().map_err(|_| bad())?;
            let of: u32 = of.parse().map_err(|_| bad())?;
            return if n < 1 || n > of {
                Err(BadText::new(format!("`{n} of {of}` can never be"))
                    .hint("the first number is from 1 to the second"))
            } else if of > 64 {
                Err(BadText::new(format!("{of} samples are too many"))
                    .hint("at most 64; or write a duration such as 15m"))
            } else {
                Ok(Self(For::Samples { n, of }))
            };
        }
        match Period::from_str(text) {
            Ok(period) => Ok(Self(For::Duration(period.0))),
            Err(reason) => Err(match reason.hint {
                Some(hint) => bad().hint(hint),
                None => bad(),
            }),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            For::Samples { n, of } => write!(f, "{n} of {of}"),
            For::Duration(duration) => Period(duration).fmt(f),
        }
    }
}

as_text!(Hold, "For", "samples such as `3 of 5`, or a duration such as 1m", {
    "type": ["string", "integer"],
    "pattern": "^(0|[0-9]+ +of +[0-9]+|([0-9]+(y|w|d|h|m|s|ms))+)$",
    "maximum": 0
});

/// When a firing alert is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resolve {
    /// |sigma| must be below the warning threshold less this, so that an alert does not flap. `0`: below
    /// the threshold itself.
    #[schemars(range(min = 0))]
    pub sigma: f64,
    /// For so many samples in a row, 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub samples: u32,
}

impl Default for Resolve {
    fn default() -> Self {
        Self {
            sigma: 1.0,
            samples: 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::builtin_rules;

    #[test]
    fn for_is_samples_or_a_duration() {
        for (text, expected) in [
            ("3 of 5", "3 of 5"),
            ("1 of 1", "1 of 1"),
            ("0", "1 of 1"),
            ("90s", "1m30s"),
            ("6 of 5", "`6 of 5` can never be"),
            ("0 of 5", "`0 of 5` can never be"),
            ("3 of 65", "65 samples are too many"),
            (
                "3 in 5",
                "expected samples such as `3 of 5`, or a duration such as 1m",
            ),
            (
                "5",
                "expected samples such as `3 of 5`, or a duration such as 1m",
            ),
        ] {
            let found = match text.parse::<Hold>() {
                Ok(hold) => hold.to_string(),
                Err(bad) => bad.message,
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_small_window_lowers_the_minimum_of_samples() {
        let rule = Rule {
            min_samples: None,
            ..builtin_rules().remove(0)
        };
        let min = |window| rule.to_models(window, Period::secs(10))[0].min_samples;
        assert_eq!(min(WindowSpec::Samples(100)), 30);
        assert_eq!(min(WindowSpec::Samples(10)), 10);
        assert_eq!(
            min(WindowSpec::Duration(std::time::Duration::from_secs(60))),
            6
        );
    }
}
