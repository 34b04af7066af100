//! One signal: its window, the rules that watch it, and what was expected of each sample held.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::pulse::watches_service;
use super::watch::{Outcome, Watch};
use crate::derive::Emitted;
use crate::detect;
use crate::model::{
    BaselineView, Judged, Measure, Observation, RuleId, Sample, SampleView, SeriesId,
    SeriesIdentity, SignalId, SignalKind, SignalMeta, Timestamp, Verdict,
};
use crate::window::Window;

/// A signal and everything learned of it.
pub(super) struct Signal {
    pub(super) kind: SignalKind,
    pub(super) window: Window,
    /// One for each rule that watches, in the order of the rules.
    pub(super) watches: Vec<Watch>,
    /// What the first of them said of the newest sample.
    pub(super) last: Option<Verdict>,
    /// What it said of the samples in the window: the newest is the last in both, and older samples
    /// may have none.
    pub(super) bands: VecDeque<Band>,
}

/// A judgement in 16 bytes. Numbers are kept as their distance from the sample's value, so that single
/// precision is relative to the deviation and not to the level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Band {
    expected: f32,
    lower: f32,
    upper: f32,
    /// NaN: there was no judgement.
    sigma: f32,
}

impl Band {
    /// There was no judgement.
    pub(super) const NONE: Self = Self {
        expected: 0.0,
        lower: 0.0,
        upper: 0.0,
        sigma: f32::NAN,
    };

    /// What was expected of a sample of this value, and its sigma.
    pub(super) fn judged(self, value: f64) -> Option<(f64, f64)> {
        let expected = value + f64::from(self.expected);
        // Zero less what single precision rounds is zero.
        let is_zero = expected.abs() <= value.abs() * 4.0 * f64::from(f32::EPSILON);
        let expected = if is_zero { 0.0 } else { expected };
        (!self.sigma.is_nan()).then_some((expected, f64::from(self.sigma)))
    }

    fn of(value: f64, verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Learning { .. } => Self::NONE,
            Verdict::Judged(judged) => Self {
                expected: (judged.expected - value) as f32,
                lower: (judged.lower - value) as f32,
                upper: (judged.upper - value) as f32,
                sigma: judged.sigma as f32,
            },
        }
    }

    fn view(self, sample: Sample) -> SampleView {
        let at = |offset: f32| {
            let number = sample.value + f64::from(offset);
            (!self.sigma.is_nan() && number.is_finite()).then_some(number)
        };
        SampleView {
            time: sample.time,
            value: sample.value,
            expected: at(self.expected),
            lower: at(self.lower),
            upper: at(self.upper),
            sigma: (!self.sigma.is_nan()).then_some(f64::from(self.sigma)),
        }
    }
}

impl Signal {
    /// A signal without samples. Rules are matched here, once.
    pub(super) fn new(kind: SignalKind, owner: Owner<'_>, plan: &Plan) -> Self {
        let mut signal = Self {
            kind,
            window: Window::brief(plan.settings.window),
            watches: Vec::new(),
            last: None,
            bands: VecDeque::new(),
        };
        signal.watch(owner, plan);
        signal
    }

    /// Sets up a watch for each rule that matches, and the window as they need it.
    pub(super) fn watch(&mut self, owner: Owner<'_>, plan: &Plan) {
        let spec = plan.settings.window;
        let window = std::mem::replace(&mut self.window, Window::brief(spec));
        if !owner.judged {
            self.window = window.refit(Window::brief(spec));
            return;
        }
        let meta = owner.meta(self.kind);
        let unit = meta.unit();
        let rules = (0..)
            .zip(plan.rules.iter())
            .filter(|(_, rule)| rule.selector.matches(&meta))
            // A service that is silent is told once, and not once for each of its signals.
            .filter(|(_, rule)| !watches_service(rule, meta.service()));
        let rules: Vec<_> = rules.collect();
        self.window = window.refit(detect::window(spec, rules.iter().map(|(_, rule)| *rule)));
        let watches = rules.into_iter().filter_map(|(index, rule)| {
            Watch::new(index, rule, self.kind, &unit, spec, &self.window)
        });
        self.watches = watches.collect();
    }

    /// Takes in the newest sample: every watch judges it against the past, then it becomes part of it.
    pub(super) fn observe(
        &mut self,
        emitted: &Emitted,
        owner: Owner<'_>,
        plan: &Plan,
        out: &mut Vec<Observation>,
    ) {
        let sample = emitted.sample;
        if !sample.value.is_finite() {
            return;
        }
        self.window.expire(sample.time);
        let mut first = None;
        for watch in &mut self.watches {
            let Some(rule) = plan.rules.get(watch.rule as usize) else {
                continue;
            };
            let outcome = watch.observe(rule, sample, emitted.weight, &self.window);
            let meta = || owner.meta(self.kind);
            report(&outcome, watch.rule, meta, emitted.exemplar, plan, out);
            // A band of other numbers than the samples' own cannot be drawn around them.
            let of_value = match &outcome.verdict {
                Verdict::Learning { .. } => true,
                Verdict::Judged(judged) => judged.evidence.measure == Measure::Value,
            };
            if of_value {
                first.get_or_insert(outcome.verdict);
            }
        }
        self.window.push(sample);
        if let Some(verdict) = first {
            self.bands.push_back(Band::of(sample.value, &verdict));
            self.last = Some(verdict);
        }
        while self.bands.len() > self.window.len() {
            self.bands.pop_front();
        }
    }

    /// Tells the watches that the tick which ended at `boundary` had no sample; `listened` as in
    /// [`crate::detect::Detector::silent`].
    pub(super) fn silent(
        &mut self,
        boundary: Timestamp,
        listened: Duration,
        owner: Owner<'_>,
        plan: &Plan,
        out: &mut Vec<Observation>,
    ) {
        if self.window.last().is_none_or(|last| last.time >= boundary) {
            return;
        }
        for watch in &mut self.watches {
            if let Some(rule) = plan.rules.get(watch.rule as usize)
                && let Some(outcome) = watch.silent(rule, boundary, listened, &self.window)
            {
                let meta = || owner.meta(self.kind);
                report(&outcome, watch.rule, meta, None, plan, out);
            }
        }
    }

    /// Tells every rule's detector that what deviates since `since` is normal. The rules to which that means
    /// something.
    pub(super) fn accept(&mut self, since: Timestamp) -> Vec<RuleId> {
        let watches = self.watches.iter_mut();
        watches
            .filter_map(|watch| {
                let taken = watch.accept(since, &self.window);
                taken.then_some(RuleId(watch.rule))
            })
            .collect()
    }

    /// The samples within `from..=to` beside what was expected of them, oldest first.
    pub(super) fn samples(&self, from: Timestamp, to: Timestamp) -> Vec<SampleView> {
        let unjudged = self.window.len() - self.bands.len().min(self.window.len());
        self.window
            .shown()
            .enumerate()
            .filter(|(_, sample)| (from..=to).contains(&sample.time))
            .map(
                |(i, sample)| match i.checked_sub(unjudged).and_then(|i| self.bands.get(i)) {
                    Some(band) => band.view(sample),
                    None => bare(sample),
                },
            )
            .collect()
    }

    /// The newest sample beside what was expected, with all digits.
    pub(super) fn last_sample(&self) -> Option<SampleView> {
        let sample = self.window.last()?;
        Some(match &self.last {
            Some(Verdict::Judged(Judged {
                expected,
                lower,
                upper,
                sigma,
                ..
            })) => SampleView {
                expected: Some(*expected),
                lower: lower.is_finite().then_some(*lower),
                upper: upper.is_finite().then_some(*upper),
                sigma: Some(*sigma),
                ..bare(sample)
            },
            Some(Verdict::Learning { .. }) | None => bare(sample),
        })
    }

    /// Whether the baseline of the first rule stands.
    pub(super) fn baseline(&self, plan: &Plan) -> BaselineView {
        let Some(rule) = self.first_rule(plan) else {
            return BaselineView::Unwatched;
        };
        match &self.last {
            // What is not compared with a baseline needs none.
            None if self.watches.iter().all(|watch| !watch.judges_value) => BaselineView::Ready,
            None => BaselineView::Learning {
                remaining: rule.min_samples,
            },
            // The verdict was given before its own sample was learned from.
            Some(Verdict::Learning { remaining }) if *remaining > 1 => BaselineView::Learning {
                remaining: remaining - 1,
            },
            Some(Verdict::Learning { .. } | Verdict::Judged(_)) => BaselineView::Ready,
        }
    }

    /// The period by which the first rule's detector expects.
    pub(super) fn season(&self) -> Option<&'static str> {
        self.watches.first()?.detector.season()
    }

    /// The first rule that watches.
    pub(super) fn first_rule<'p>(&self, plan: &'p Plan) -> Option<&'p crate::model::Rule> {
        let watch = self.watches.first()?;
        plan.rules.get(watch.rule as usize)
    }

    /// Memory it occupies.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() - size_of::<Window>()
            + self.window.bytes()
            + self.bands.capacity() * size_of::<Band>()
            + self.watches.capacity() * size_of::<Watch>()
            + self.watches.iter().map(Watch::bytes).sum::<usize>()
    }
}

/// Hands on what the alert machine needs to see, and counts anomalies.
pub(super) fn report(
    outcome: &Outcome,
    rule: u32,
    signal: impl FnOnce() -> SignalMeta,
    exemplar: Option<u128>,
    plan: &Plan,
    out: &mut Vec<Observation>,
) {
    if outcome.anomaly.is_some() {
        plan.count_anomaly(rule);
    }
    if outcome.report
        && let Verdict::Judged(judged) = &outcome.verdict
    {
        out.push(Observation {
            rule: RuleId(rule),
            signal: signal(),
            sample: outcome.sample,
            judged: judged.clone(),
            anomaly: outcome.anomaly,
            exemplar,
        });
    }
}

/// A sample nobody judged.
fn bare(sample: Sample) -> SampleView {
    SampleView {
        time: sample.time,
        value: sample.value,
        expected: None,
        lower: None,
        upper: None,
        sigma: None,
    }
}

/// The series that a signal belongs to, as far as its signals need to know it.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) id: SeriesId,
    pub(super) identity: &'a SeriesIdentity,
    /// Whether rules may watch it: not our own telemetry, and no overflow series.
    pub(super) judged: bool,
}

impl Owner<'_> {
    pub(super) fn meta(self, kind: SignalKind) -> SignalMeta {
        SignalMeta {
            id: SignalId {
                series: self.id,
                kind,
            },
            identity: Arc::new(self.identity.clone()),
        }
    }
}
