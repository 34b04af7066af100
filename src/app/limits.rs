//! The built-in alert about services that reached a limit on series: their new series are refused, so
//! part of them is not watched.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::TickReport;
use crate::model::{
    Attributes, DetectorSpec, Direction, Evidence, For, Judged, Labels, MatchOp, Matcher,
    MetricKind, Observation, Resource, Rule, RuleId, Sample, Scope, Selector, SeriesIdentity,
    ServiceView, SeverityLabel, SigmaThresholds, SignalId, SignalKind, SignalMeta,
};

/// The alert's name.
const NAME: &str = "SeriesLimitReached";
/// Ticks without a refusal after which it is over. Refusals come with each export of the client, which
/// is a minute by default.
const CALM_TICKS: u32 = 12;

/// Sees which services have new series refused.
pub(super) struct LimitWatch {
    rule: RuleId,
    /// By service, how many refusals there were so far, and how many ticks since the last.
    known: BTreeMap<String, (u64, u32)>,
}

/// The rules with the one that speaks for [`LimitWatch`] behind them.
pub(super) fn with_limit_rule(rules: &[Rule]) -> (Arc<[Rule]>, LimitWatch) {
    let id = u32::try_from(rules.len()).unwrap_or(u32::MAX);
    let rules = rules.iter().cloned().chain([rule()]).collect();
    (
        rules,
        LimitWatch {
            rule: RuleId(id),
            known: BTreeMap::new(),
        },
    )
}

fn rule() -> Rule {
    // The engine never sees this rule; should it, no signal has both names.
    let nothing = ["a", "b"].map(|value| Matcher::new("service", MatchOp::Equal, value));
    Rule {
        alert: NAME.into(),
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
        resolve_samples: CALM_TICKS,
        min_samples: 0,
        min_change: 0.0,
        min_change_ratio: 0.0,
        labels: Labels::default(),
        annotations: Labels::from_iter([
            (
                "summary",
                "{{ service }} has more series than the limit; the new ones are not watched",
            ),
            (
                "explanation",
                "New series of {{ service }} are refused, because it or all services together have as \
                 many as limits.series_per_service and limits.series allow. Those known before go on; \
                 what is folded into the series with otel.metric.overflow is not judged.",
            ),
            (
                "recommendation",
                "Look for an attribute of {{ service }} with ever new values, such as an id, and take \
                 it off; or raise the limit.",
            ),
        ]),
    }
}

impl LimitWatch {
    /// Whether there was ever a refusal that a tick without one is to be told from.
    pub(super) fn is_awake(&self) -> bool {
        !self.known.is_empty()
    }

    /// What the tick says about limits, for the alert machine: a refusal is an anomaly, and ticks
    /// without one after it are calm.
    pub(super) fn observe(
        &mut self,
        report: &TickReport,
        services: &[ServiceView],
    ) -> Vec<Observation> {
        let before = std::mem::take(&mut self.known);
        let mut observations = Vec::new();
        for service in services.iter().filter(|service| service.refused_series > 0) {
            // Unknown ones are new, or we were restarted; the machine knows what fires.
            let (refused, calm) = before.get(&service.service).copied().unwrap_or((0, 0));
            let new = service.refused_series.saturating_sub(refused);
            let calm = if new > 0 { 0 } else { calm.saturating_add(1) };
            if calm <= CALM_TICKS {
                observations.push(self.observation(report, &service.service, new));
            }
            self.known
                .insert(service.service.clone(), (service.refused_series, calm));
        }
        observations
    }

    fn observation(&self, report: &TickReport, service: &str, refused: u64) -> Observation {
        let identity = SeriesIdentity {
            resource: Arc::new(Resource {
                service: service.into(),
                attributes: Attributes::default(),
            }),
            scope: Arc::new(Scope::default()),
            metric: "tidewatch.series.refused".into(),
            unit: "{series}".into(),
            kind: MetricKind::Gauge,
            attributes: Attributes::default(),
        };
        let id = SignalId {
            series: identity.id(),
            kind: SignalKind::Value,
        };
        let value = refused as f64;
        let anomaly = (refused > 0).then_some(SeverityLabel::Warning);
        Observation {
            rule: self.rule,
            signal: SignalMeta {
                id,
                identity: Arc::new(identity),
            },
            sample: Sample {
                time: report.end,
                value,
            },
            judged: Judged {
                expected: 0.0,
                lower: f64::NEG_INFINITY,
                upper: 0.0,
                sigma: if refused > 0 { 1.0 } else { 0.0 },
                observed: None,
                evidence: Evidence {
                    channel: "limits on series".into(),
                    ..Evidence::default()
                },
            },
            anomaly,
            exemplar: None,
        }
    }
}
