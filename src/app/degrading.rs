//! The built-in alerts about modes: a service does not do what it was told, a step did harm or had no
//! effect, a plan was taken back. No policy ever acts on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::builtin;
use crate::engine::TickReport;
use crate::model::{
    Alert, AlertState, Attributes, EffectVerdict, Evidence, Judged, MetricKind, Observation,
    PlanState, Resource, Rule, RuleId, Sample, Scope, SeriesIdentity, SeverityLabel, SignalId,
    SignalKind, SignalMeta, StepState, Timestamp,
};
use crate::modes::View;

/// The alerts' names.
const NOT_APPLIED: &str = "ModeNotApplied";
const HARMFUL: &str = "DegradationHarmful";
const UNDONE: &str = "PlanUndone";
/// The signals that they seem to be about.
const METRICS: [&str; 3] = [
    "tidewatch.mode.differs",
    "tidewatch.mode.effect",
    "tidewatch.mode.plan",
];
/// What has happened and cannot unhappen is told for so long.
const TOLD_FOR: Duration = Duration::from_mins(15);
/// Ticks for which it is said that something is over.
const CALM_TICKS: u32 = 3;
/// Most of each kind that are told at once; who has that many troubles needs no further alert.
const MOST: usize = 1_000;

/// Whether `alert` is about modes, so that no mode may follow from it.
pub(super) fn is_own(alert: &Alert) -> bool {
    matches!(alert.name(), NOT_APPLIED | HARMFUL | UNDONE)
        && alert
            .labels
            .get("metric")
            .is_some_and(|metric| METRICS.contains(&metric))
}

/// One trouble: which alert, of which service, and the labels that tell it from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Trouble {
    /// Position of the rule.
    kind: usize,
    service: String,
    labels: Vec<(String, String)>,
}

/// Sees what goes wrong with modes.
pub(super) struct ModeWatch {
    rules: [RuleId; 3],
    /// How long a service may do something else than it was told.
    within: Duration,
    /// What was told, and for how many ticks it is over.
    known: BTreeMap<Trouble, u32>,
}

/// The rules with those that speak for [`ModeWatch`] behind them.
pub(super) fn with_mode_rules(rules: &[Rule], within: Duration) -> (Arc<[Rule]>, ModeWatch) {
    let (rules, not_applied) = builtin::behind(rules, not_applied());
    let (rules, harmful) = builtin::behind(&rules, harmful());
    let (rules, undone) = builtin::behind(&rules, undone());
    let watch = ModeWatch {
        rules: [not_applied, harmful, undone],
        within,
        known: BTreeMap::new(),
    };
    (rules, watch)
}

fn not_applied() -> Rule {
    let texts = [
        (
            "summary",
            "{{ service }} was told to run in {{ labels.told }} and does not",
        ),
        (
            "explanation",
            "{{ service }} was told to run in {{ labels.told }}, and for longer than \
                 modes.acknowledge.within not all of its instances say that they do.",
        ),
        (
            "recommendation",
            "Look at /api/v1/modes for what its instances say, whether they can reach Tidewatch, and \
                 whether they know the mode.",
        ),
    ];
    builtin::rule(NOT_APPLIED, CALM_TICKS, texts)
}

fn harmful() -> Rule {
    let texts = [
        (
            "summary",
            "{{ service }} in {{ labels.told }}: {{ labels.effect }}",
        ),
        (
            "explanation",
            "Policy {{ labels.policy }} put {{ service }} into {{ labels.told }}; what it was to help \
                 is {{ labels.effect }}.",
        ),
        (
            "recommendation",
            "Look at /api/v1/modes/episodes for the numbers before and after. Does {{ labels.told }} do \
                 what the policy hopes for? If not, change the policy, or set `dry_run: true`.",
        ),
    ];
    builtin::rule(HARMFUL, CALM_TICKS, texts)
}

fn undone() -> Rule {
    let texts = [
        ("summary", "Plan {{ labels.policy }} was taken back"),
        (
            "explanation",
            "Plan {{ labels.policy }} failed at {{ service }}, and the steps before it are taken back in \
                 reverse order.",
        ),
        (
            "recommendation",
            "Look at /api/v1/modes/plans for what happened to each step: does {{ service }} acknowledge \
                 what it is told, and may it be changed at all?",
        ),
    ];
    builtin::rule(UNDONE, CALM_TICKS, texts)
}

impl ModeWatch {
    /// Knows what was told before a restart, so that it can be said that it is over.
    pub(super) fn recall(&mut self, alerts: &[Arc<Alert>]) {
        for alert in alerts.iter().filter(|alert| is_own(alert)) {
            if alert.state == AlertState::Resolved {
                continue;
            }
            let Some(kind) = METRICS
                .iter()
                .position(|metric| alert.labels.get("metric") == Some(metric))
            else {
                continue;
            };
            let labels = LABELS[kind].iter().filter_map(|name| {
                let value = alert.labels.get(name)?;
                Some(((*name).to_owned(), value.to_owned()))
            });
            let trouble = Trouble {
                kind,
                service: alert.service.clone(),
                labels: labels.collect(),
            };
            self.known.insert(trouble, 0);
        }
    }

    /// Whether there is something that a tick could say is over, or could turn into a trouble by itself.
    pub(super) fn is_awake(&self) -> bool {
        !self.known.is_empty()
    }

    /// What there is to say of modes at a tick, for the alert machine.
    pub(super) fn observe(&mut self, report: &TickReport, view: &View) -> Vec<Observation> {
        let now = report.end;
        let troubles = [
            not_applied_in(view, now, self.within),
            harmful_in(view, now),
            undone_in(view, now),
        ];
        let troubles: BTreeMap<Trouble, SeverityLabel> = troubles.into_iter().flatten().collect();
        let over = std::mem::take(&mut self.known)
            .into_iter()
            .filter(|(trouble, calm)| !troubles.contains_key(trouble) && *calm < CALM_TICKS + 1)
            .map(|(trouble, calm)| (trouble, calm + 1))
            .collect::<Vec<_>>();
        let mut observations = Vec::new();
        for (trouble, calm) in over {
            observations.push(self.observation(report, &trouble, None));
            self.known.insert(trouble, calm);
        }
        for (trouble, severity) in troubles {
            observations.push(self.observation(report, &trouble, Some(severity)));
            self.known.insert(trouble, 0);
        }
        observations
    }

    fn observation(
        &self,
        report: &TickReport,
        trouble: &Trouble,
        severity: Option<SeverityLabel>,
    ) -> Observation {
        let identity = SeriesIdentity {
            resource: Arc::new(Resource {
                service: trouble.service.as_str().into(),
                attributes: Attributes::default(),
            }),
            scope: Arc::new(Scope::default()),
            metric: METRICS[trouble.kind].into(),
            unit: "1".into(),
            kind: MetricKind::Gauge,
            attributes: Attributes::from_pairs(
                trouble
                    .labels
                    .iter()
                    .map(|(name, value)| (name.as_str().into(), value.as_str().into())),
            ),
        };
        let id = SignalId {
            series: identity.id(),
            kind: SignalKind::Value,
        };
        let value = f64::from(u8::from(severity.is_some()));
        Observation {
            rule: self.rules[trouble.kind],
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
                sigma: value,
                observed: None,
                evidence: Evidence {
                    channel: "modes".into(),
                    ..Evidence::default()
                },
            },
            anomaly: severity,
            exemplar: None,
        }
    }
}

/// The labels of each kind, beside the service.
const LABELS: [&[&str]; 3] = [&["told"], &["told", "policy", "effect"], &["policy"]];

fn trouble<const N: usize>(kind: usize, service: &str, values: [&str; N]) -> Trouble {
    let labels = LABELS[kind].iter().zip(values);
    Trouble {
        kind,
        service: service.to_owned(),
        labels: labels
            .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
            .collect(),
    }
}

/// Services that do something else than they were told, for longer than `within`.
fn not_applied_in(view: &View, now: Timestamp, within: Duration) -> Vec<(Trouble, SeverityLabel)> {
    let differing = view.reports.iter().filter_map(|(service, report)| {
        let since = report.differs_since?;
        let told = &view.services.get(service)?.mode;
        if now.since(since) <= within {
            return None;
        }
        Some((trouble(0, service, [told]), SeverityLabel::Warning))
    });
    differing.take(MOST).collect()
}

/// Steps that were judged lately to have done harm, or nothing.
fn harmful_in(view: &View, now: Timestamp) -> Vec<(Trouble, SeverityLabel)> {
    let mut found = Vec::new();
    for episode in view.episodes.iter().take(MOST) {
        for action in &episode.actions {
            let Some(effect) = &action.effect else {
                continue;
            };
            let severity = match effect.verdict {
                EffectVerdict::Worse => SeverityLabel::Critical,
                EffectVerdict::NoEffect => SeverityLabel::Warning,
                EffectVerdict::Watching | EffectVerdict::Improved | EffectVerdict::Unknown => {
                    continue;
                }
            };
            let lately = effect.judged_at.is_some_and(|at| now.since(at) < TOLD_FOR);
            if lately {
                let words = match effect.verdict {
                    EffectVerdict::Worse => "worse",
                    _ => "no better",
                };
                let labels = [action.to.as_str(), action.policy.as_str(), words];
                found.push((trouble(1, &episode.service, labels), severity));
            }
        }
    }
    found
}

/// Plans that were taken back lately.
fn undone_in(view: &View, now: Timestamp) -> Vec<(Trouble, SeverityLabel)> {
    let mut found = Vec::new();
    for plan in view.plans.iter().take(MOST) {
        if !matches!(plan.state, PlanState::Undoing | PlanState::Undone) {
            continue;
        }
        let Some(last) = plan.steps.iter().map(|step| step.at).max() else {
            continue;
        };
        let failed = plan
            .steps
            .iter()
            .find(|step| step.state == StepState::Failed)
            .or(plan.steps.last());
        if now.since(plan.ended_at.unwrap_or(last)) < TOLD_FOR {
            let service = failed.map_or("", |step| step.service.as_str());
            let told = trouble(2, service, [plan.policy.as_str()]);
            found.push((told, SeverityLabel::Warning));
        }
    }
    found
}
