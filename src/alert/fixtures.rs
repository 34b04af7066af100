//! What the tests of this module are made of.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    AttributeValue, Attributes, DetectorSpec, Direction, Evidence, For, Instrument, Judged, Labels,
    MetricKind, Observation, Resource, Rule, RuleId, Sample, Scope, Selector, SeriesIdentity,
    SeverityLabel, SigmaThresholds, SignalId, SignalKind, SignalMeta, Timestamp,
};

/// Warning from 4 sigma, critical from 6, above; fires at once; resolves after three samples below 3.
pub(super) fn rule(name: &str) -> Rule {
    Rule {
        alert: name.into(),
        selector: Selector::default(),
        detector: DetectorSpec {
            name: "zscore".into(),
            ..DetectorSpec::default()
        },
        sigma: SigmaThresholds {
            warning: 4.0,
            critical: Some(6.0),
        },
        direction: Direction::Above,
        hold: For::Samples { n: 1, of: 1 },
        resolve_sigma: 1.0,
        resolve_samples: 3,
        min_samples: 30,
        min_change: 0.0,
        min_change_ratio: 0.0,
        labels: Labels::default(),
        annotations: Labels::default(),
    }
}

/// The p99 of `latency` of `checkout`.
pub(super) fn signal_with(attributes: &[(&str, &str)]) -> SignalMeta {
    signal_of("instance-1", attributes)
}

/// The same as reported by one instance.
pub(super) fn signal_of(instance: &str, attributes: &[(&str, &str)]) -> SignalMeta {
    let set = |pairs: &[(&str, &str)]| {
        Attributes::from_pairs(
            pairs
                .iter()
                .map(|(k, v)| ((*k).into(), AttributeValue::from(*v))),
        )
    };
    let identity = SeriesIdentity {
        resource: Arc::new(Resource {
            service: "checkout".into(),
            attributes: set(&[("service.instance.id", instance)]),
        }),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope::default()),
            metric: "latency".into(),
            unit: "s".into(),
            kind: MetricKind::Gauge,
        }),
        attributes: set(attributes),
    };
    SignalMeta {
        id: SignalId {
            series: identity.id(),
            kind: SignalKind::P99,
        },
        identity: Arc::new(identity),
    }
}

/// One signal's samples, one a second from the tenth second on.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) rule: RuleId,
    pub(super) instance: &'static str,
    pub(super) attributes: Vec<(&'static str, &'static str)>,
    second: i64,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self {
            rule: RuleId(0),
            instance: "instance-1",
            attributes: Vec::new(),
            second: 10,
        }
    }

    pub(super) fn on(rule: u32, instance: &'static str) -> Self {
        Self {
            rule: RuleId(rule),
            instance,
            ..Self::new()
        }
    }

    pub(super) fn signal(&self) -> SignalMeta {
        signal_of(self.instance, &self.attributes)
    }

    /// The time of the next sample.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.second)
    }

    pub(super) fn skip(&mut self, by: Duration) {
        self.second += i64::try_from(by.as_secs()).expect("short");
    }

    pub(super) fn anomaly(&mut self, value: f64) -> Observation {
        self.next(value, 5.0, Some(SeverityLabel::Warning))
    }

    pub(super) fn critical(&mut self, value: f64) -> Observation {
        self.next(value, 8.0, Some(SeverityLabel::Critical))
    }

    pub(super) fn normal(&mut self, sigma: f64) -> Observation {
        self.next(1.0 + sigma / 10.0, sigma, None)
    }

    pub(super) fn next(
        &mut self,
        value: f64,
        sigma: f64,
        anomaly: Option<SeverityLabel>,
    ) -> Observation {
        let time = self.now();
        self.second += 1;
        Observation {
            rule: self.rule,
            signal: self.signal(),
            sample: Sample { time, value },
            judged: Judged {
                expected: 1.0,
                lower: 0.5,
                upper: 1.5,
                sigma,
                observed: None,
                evidence: Evidence {
                    channel: "mean of the last 100 samples".into(),
                    samples: 100,
                    spread: 0.1,
                    ..Evidence::default()
                },
            },
            anomaly,
            exemplar: None,
        }
    }
}
