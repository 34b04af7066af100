//! The built-in alert about services that reached a limit on series: their new series are refused, so
//! part of them is not watched.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::builtin::{self, Seen};
use crate::engine::TickReport;
use crate::model::{Attributes, Observation, Rule, RuleId, ServiceView, SeverityLabel};

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
    let (rules, rule) = builtin::behind(rules, rule());
    (
        rules,
        LimitWatch {
            rule,
            known: BTreeMap::new(),
        },
    )
}

fn rule() -> Rule {
    let texts = [
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
    ];
    builtin::rule(NAME, CALM_TICKS, texts)
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
        builtin::observation(Seen {
            rule: self.rule,
            time: report.end,
            service,
            metric: "tidewatch.series.refused",
            unit: "{series}",
            attributes: Attributes::default(),
            value: refused as f64,
            channel: "limits on series",
            anomaly: (refused > 0).then_some(SeverityLabel::Warning),
        })
    }
}
