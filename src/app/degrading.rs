//! The built-in alerts about modes: a service does not do what it was told, a step did harm or had no
//! effect, a plan was taken back. No policy ever acts on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::builtin::{self, Seen};
use crate::engine::TickReport;
use crate::model::{
    Alert, AlertState, Attributes, DEGRADATION_HARMFUL as HARMFUL, EffectVerdict,
    MODE_NOT_APPLIED as NOT_APPLIED, Observation, PLAN_UNDONE as UNDONE, PlanState, Rule, RuleId,
    SeverityLabel, StepState, Timestamp,
};
use crate::modes::{Settings, View};

/// The signals that they seem to be about.
const METRICS: [&str; 3] = [
    "tidewatch.mode.differs",
    "tidewatch.mode.effect",
    "tidewatch.mode.plan",
];
/// What has happened and cannot unhappen is told for so many ticks: a quarter of an hour of ten seconds each.
const TOLD_FOR: u32 = 90;
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
    /// How long it is told that something has happened.
    told_for: Duration,
    /// What was told, and for how many ticks it is over.
    known: BTreeMap<Trouble, u32>,
}

/// The rules with those that speak for [`ModeWatch`] behind them.
pub(super) fn with_mode_rules(rules: &[Rule], settings: &Settings) -> (Arc<[Rule]>, ModeWatch) {
    let (rules, not_applied) = builtin::behind(rules, not_applied());
    let (rules, harmful) = builtin::behind(&rules, harmful());
    let (rules, undone) = builtin::behind(&rules, undone());
    let watch = ModeWatch {
        rules: [not_applied, harmful, undone],
        within: settings.acknowledge_within,
        told_for: settings.tick.saturating_mul(TOLD_FOR),
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
            harmful_in(view, now, self.told_for),
            undone_in(view, now, self.told_for),
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
        let labels = trouble.labels.iter();
        builtin::observation(Seen {
            rule: self.rules[trouble.kind],
            time: report.end,
            service: &trouble.service,
            metric: METRICS[trouble.kind],
            unit: "1",
            attributes: Attributes::from_pairs(
                labels.map(|(name, value)| (name.as_str().into(), value.as_str().into())),
            ),
            value: f64::from(u8::from(severity.is_some())),
            channel: "modes",
            anomaly: severity,
        })
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
fn harmful_in(view: &View, now: Timestamp, told_for: Duration) -> Vec<(Trouble, SeverityLabel)> {
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
            let lately = effect.judged_at.is_some_and(|at| now.since(at) < told_for);
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
fn undone_in(view: &View, now: Timestamp, told_for: Duration) -> Vec<(Trouble, SeverityLabel)> {
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
        if now.since(plan.ended_at.unwrap_or(last)) < told_for {
            let service = failed.map_or("", |step| step.service.as_str());
            let told = trouble(2, service, [plan.policy.as_str()]);
            found.push((told, SeverityLabel::Warning));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Action, Effect, Episode, Instruction, Level, Levels, ModeState, ModeStep, PlanRun,
        PlanStep, ServiceReport,
    };

    const START: Timestamp = Timestamp::from_secs(1_767_225_600);

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn view() -> View {
        View {
            levels: Levels::default(),
            services: BTreeMap::new(),
            freeze: None,
            proposals: Vec::new(),
            episodes: Vec::new(),
            plans: Vec::new(),
            reports: BTreeMap::new(),
            blind: None,
        }
    }

    fn watch() -> ModeWatch {
        let settings = Settings {
            tick: Duration::from_secs(10),
            ..Settings::default()
        };
        with_mode_rules(&[], &settings).1
    }

    /// What is observed at `seconds`: position of the rule, service, severity.
    fn seen(
        watch: &mut ModeWatch,
        view: &View,
        seconds: u64,
    ) -> Vec<(u32, String, Option<&'static str>)> {
        let report = TickReport {
            end: at(seconds),
            observations: Vec::new(),
            ended: Vec::new(),
            fed: true,
        };
        let observations = watch.observe(&report, view).into_iter();
        let short = observations.map(|observation| {
            let service = &observation.signal.identity.resource.service;
            let severity = observation.anomaly.map(SeverityLabel::name);
            (observation.rule.0, service.to_string(), severity)
        });
        short.collect()
    }

    #[test]
    fn a_service_that_does_not_follow_is_told_after_a_while_and_until_it_does() {
        let mut view = view();
        let told = ModeState {
            service: "cart".into(),
            mode: "degraded".into(),
            level: Level(1),
            since: START,
            why: Vec::new(),
            instruction: Instruction::default(),
            manual: None,
            lease_expires_at: START,
            sequence: 7,
            episode: None,
        };
        view.services.insert("cart".into(), told);
        let report = ServiceReport {
            differs_since: Some(START),
            ..ServiceReport::default()
        };
        view.reports.insert("cart".into(), report);
        let mut watch = watch();
        assert_eq!(seen(&mut watch, &view, 120), []);
        assert!(!watch.is_awake());
        let warned = [(0, "cart".to_owned(), Some("warning"))];
        assert_eq!(seen(&mut watch, &view, 130), warned);
        assert_eq!(seen(&mut watch, &view, 140), warned);
        view.reports.clear();
        let calm = [(0, "cart".to_owned(), None)];
        for seconds in [150, 160, 170, 180] {
            assert_eq!(seen(&mut watch, &view, seconds), calm);
        }
        assert_eq!(seen(&mut watch, &view, 190), []);
        assert!(!watch.is_awake());
    }

    #[test]
    fn harm_is_critical_no_effect_a_warning_and_neither_is_told_for_ever() {
        let step = |verdict| Action {
            at: START,
            step: ModeStep::Degrade,
            from: "normal".into(),
            to: "degraded".into(),
            policy: "slow".into(),
            cause: String::new(),
            effect: Some(Effect {
                verdict,
                judged_at: Some(START),
                ..Effect::default()
            }),
        };
        let episode = |service: &str, verdict| {
            Arc::new(Episode {
                id: service.into(),
                service: service.into(),
                opened_at: START,
                ended_at: None,
                why: Vec::new(),
                actions: vec![step(verdict)],
                outcome: String::new(),
            })
        };
        let mut view = view();
        view.episodes = vec![
            episode("bad", EffectVerdict::Worse),
            episode("good", EffectVerdict::Improved),
            episode("idle", EffectVerdict::NoEffect),
            episode("quiet", EffectVerdict::Unknown),
        ];
        let mut watch = watch();
        let expected = [
            (1, "bad".to_owned(), Some("critical")),
            (1, "idle".to_owned(), Some("warning")),
        ];
        assert_eq!(seen(&mut watch, &view, 10), expected);
        assert_eq!(seen(&mut watch, &view, 890), expected);
        let over = [(1, "bad".to_owned(), None), (1, "idle".to_owned(), None)];
        assert_eq!(seen(&mut watch, &view, 900), over);
    }

    #[test]
    fn a_plan_that_is_taken_back_is_told_of_where_it_failed() {
        let step = |service: &str, state| PlanStep {
            service: service.into(),
            mode: "degraded".into(),
            state,
            at: START,
            detail: String::new(),
        };
        let mut view = view();
        view.plans = vec![Arc::new(PlanRun {
            id: "r".into(),
            policy: "protect".into(),
            why: Vec::new(),
            started_at: START,
            ended_at: None,
            state: PlanState::Undoing,
            steps: vec![
                step("gateway", StepState::Undoing),
                step("payment", StepState::Failed),
            ],
            outcome: String::new(),
        })];
        let mut watch = watch();
        let expected = [(2, "payment".to_owned(), Some("warning"))];
        assert_eq!(seen(&mut watch, &view, 10), expected);
    }
}
