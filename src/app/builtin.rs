//! What the built-in alerts about Tidewatch itself have in common: rules that no signal of the engine
//! matches, and that speak for observations made here.

use std::sync::Arc;

use crate::model::{
    Attributes, DetectorSpec, Direction, Evidence, For, Instrument, Judged, Labels, MatchOp,
    Matcher, MetricKind, Observation, Resource, Rule, RuleId, Sample, Scope, Selector,
    SeriesIdentity, SeverityLabel, SigmaThresholds, SignalId, SignalKind, SignalMeta, Timestamp,
};

/// What was seen of one thing in one tick, as if it were a signal.
pub(super) struct Seen<'a> {
    /// The rule that speaks for it.
    pub(super) rule: RuleId,
    /// End of the tick.
    pub(super) time: Timestamp,
    /// The service, metric and unit that it seems to be about.
    pub(super) service: &'a str,
    pub(super) metric: &'a str,
    pub(super) unit: &'a str,
    pub(super) attributes: Attributes,
    /// 0 where all is well.
    pub(super) value: f64,
    /// What looked.
    pub(super) channel: &'static str,
    pub(super) anomaly: Option<SeverityLabel>,
}

/// What the alert machine is given of it.
pub(super) fn observation(seen: Seen<'_>) -> Observation {
    let identity = SeriesIdentity {
        resource: Arc::new(Resource {
            service: seen.service.into(),
            attributes: Attributes::default(),
        }),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope::default()),
            metric: seen.metric.into(),
            unit: seen.unit.into(),
            kind: MetricKind::Gauge,
        }),
        attributes: seen.attributes,
    };
    let id = SignalId {
        series: identity.id(),
        kind: SignalKind::Value,
    };
    Observation {
        rule: seen.rule,
        signal: SignalMeta {
            id,
            identity: Arc::new(identity),
        },
        sample: Sample {
            time: seen.time,
            value: seen.value,
        },
        judged: Judged {
            expected: 0.0,
            lower: f64::NEG_INFINITY,
            upper: 0.0,
            sigma: if seen.value > 0.0 { 1.0 } else { 0.0 },
            observed: None,
            evidence: Evidence {
                channel: seen.channel.into(),
                ..Evidence::default()
            },
        },
        anomaly: seen.anomaly,
        exemplar: None,
    }
}

/// The rule of the alert `name`: it fires at the first anomaly and resolves after `calm` calm ticks.
pub(super) fn rule<const N: usize>(name: &str, calm: u32, texts: [(&str, &str); N]) -> Rule {
    // The engine never sees this rule; should it, no signal has both names.
    let nothing = ["a", "b"].map(|value| Matcher::new("service", MatchOp::Equal, value));
    Rule {
        alert: name.into(),
        selector: Selector::new(nothing.into_iter().flatten().collect()),
        detector: DetectorSpec {
            name: "threshold".into(),
            upper: Some(0.0),
            ..DetectorSpec::default()
        },
        sigma: SigmaThresholds {
            warning: 1.0,
            critical: None,
        },
        direction: Direction::Above,
        hold: For::Samples { n: 1, of: 1 },
        resolve_sigma: 0.0,
        resolve_samples: calm,
        min_samples: 0,
        min_change: 0.0,
        min_change_ratio: 0.0,
        labels: Labels::default(),
        annotations: Labels::from_iter(texts),
    }
}

/// The rules with `rule` behind them, and its id.
pub(super) fn behind(rules: &[Rule], rule: Rule) -> (Arc<[Rule]>, RuleId) {
    let id = u32::try_from(rules.len()).unwrap_or(u32::MAX);
    (rules.iter().cloned().chain([rule]).collect(), RuleId(id))
}
