//! One signal: its window, the rules that watch it, and what was expected of each sample held.

use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use super::bands::{Bands, Judgement, Newest};
use super::few::Few;
use super::matching;
use super::plan::Plan;
use super::watch::{Judge, Outcome, Watch};
use crate::derive::Emitted;
use crate::detect;
use crate::model::{
    BaselineView, Measure, Observation, Rule, RuleId, Sample, SampleView, SeriesId, SeriesIdentity,
    SignalId, SignalKind, SignalMeta, SignalRef, Timestamp, Verdict,
};
use crate::window::Window;

/// A signal and everything learned of it.
pub(super) struct Signal {
    pub(super) kind: SignalKind,
    pub(super) window: Window,
    /// One for each rule that watches, in the order of the rules.
    pub(super) watches: Few<Watch>,
    /// What the first of them that judges values said of the samples in the window.
    pub(super) bands: Bands,
}

impl Signal {
    /// A signal without samples. Rules are matched here, once.
    pub(super) fn new(kind: SignalKind, owner: Owner<'_>, plan: &Plan) -> Self {
        let mut signal = Self {
            kind,
            window: Window::brief(plan.settings.window),
            watches: Few::default(),
            bands: Bands::default(),
        };
        signal.watch(owner, matching::rules(owner, kind, plan), plan);
        signal
    }

    /// Sets up a watch for each of the `rules` that match, and the window as they need it.
    pub(super) fn watch(&mut self, owner: Owner<'_>, rules: Vec<(u32, &Rule)>, plan: &Plan) {
        let spec = plan.settings.window;
        let window = std::mem::replace(&mut self.window, Window::brief(spec));
        if !owner.judged {
            self.window = window.refit(Window::brief(spec));
            return;
        }
        let unit = owner.seen(self.kind).unit();
        self.window = window.refit(detect::window(spec, rules.iter().map(|(_, rule)| *rule)));
        let mut watches: Few<Watch> = Few::default();
        for (index, rule) in rules {
            // Rules that differ in what they make of a judgement have one detector.
            let like = |watch: &Watch| match (&watch.judge, plan.rules.get(watch.rule as usize)) {
                (Judge::Own(_), Some(other)) => detect::judge_alike(rule, other),
                _ => false,
            };
            let watch = match watches.iter().position(like).map(u8::try_from) {
                Some(Ok(at)) => Some(Watch::like(index, rule, at)),
                _ => Watch::new(index, rule, self.kind, unit, spec, &self.window),
            };
            if let Some(watch) = watch {
                watches.push(watch);
            }
        }
        self.watches = watches;
    }

    /// Reads what the next sample will need: its own memory (0), what that points to (1), and what that points
    /// to (2). What it gives says nothing.
    pub(super) fn glance(&self, depth: u8) -> u64 {
        let detectors = |beyond| {
            let watches = self.watches.iter();
            let glances = watches.map(|watch: &Watch| watch.glance(beyond));
            glances.fold(0, u64::wrapping_add)
        };
        match depth {
            0 => self.window.glance(false),
            1 => detectors(false).wrapping_add(self.window.glance(true) + self.bands.glance()),
            _ => detectors(true),
        }
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
        let mut said = Said::of(&self.watches);
        let (mut seen, past) = (false, &self.window);
        for (at, watch) in self.watches.iter_mut().enumerate() {
            let judged = match &watch.judge {
                Judge::Like(other) => said.by(usize::from(*other)),
                Judge::Own(_) => watch.judge(sample, emitted.weight, past),
            };
            let rule = plan.rules.get(watch.rule as usize);
            let (Some(rule), Some(verdict)) = (rule, judged) else {
                said.keep(at, None);
                continue;
            };
            let outcome = watch.conclude(rule, sample, verdict);
            let meta = || owner.meta(self.kind);
            report(&outcome, watch.rule, meta, emitted.exemplar, plan, out);
            // A band of other numbers than the samples' own cannot be drawn around them.
            let of_value = match &outcome.verdict {
                Verdict::Learning { .. } => true,
                Verdict::Judged(judged) => judged.evidence.measure == Measure::Value,
            };
            if of_value && !seen {
                seen = true;
                let (warning, exact) = (rule.sigma.warning, past.is_exact());
                self.bands
                    .push(sample.value, &outcome.verdict, warning, exact);
            }
            said.keep(at, Some(outcome.verdict));
        }
        self.window.push(sample);
        self.bands.truncate(self.window.len());
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
        let mut taken: Vec<bool> = Vec::with_capacity(self.watches.len());
        for watch in &mut self.watches {
            let means = match &watch.judge {
                Judge::Like(at) => taken.get(usize::from(*at)).copied().unwrap_or_default(),
                Judge::Own(_) => watch.accept(since, &self.window),
            };
            taken.push(means);
        }
        let rules = self.watches.iter().zip(taken);
        let taken = rules.filter_map(|(watch, taken)| taken.then_some(RuleId(watch.rule)));
        taken.collect()
    }

    /// The samples within `from..=to` beside what was expected of them, oldest first.
    pub(super) fn samples(&self, from: Timestamp, to: Timestamp) -> Vec<SampleView> {
        let samples = self.window.shown();
        let judgements = self
            .bands
            .beside(samples.clone().map(|sample| sample.value));
        samples
            .zip(judgements)
            .filter(|(sample, _)| (from..=to).contains(&sample.time))
            .map(|(sample, judgement)| view(sample, judgement))
            .collect()
    }

    /// The newest sample beside what was expected, with all digits.
    pub(super) fn last_sample(&self) -> Option<SampleView> {
        let sample = self.window.last()?;
        let judgement = match self.bands.newest() {
            Some(Newest::Judged(judgement)) => Some(judgement),
            Some(Newest::Learning(_)) | None => None,
        };
        Some(view(sample, judgement))
    }

    /// Whether the baseline of the first rule stands.
    pub(super) fn baseline(&self, plan: &Plan) -> BaselineView {
        let Some(rule) = self.first_rule(plan) else {
            return BaselineView::Unwatched;
        };
        match self.bands.newest() {
            // What is not compared with a baseline needs none.
            None if self.watches.iter().all(|watch| !watch.judges_value) => BaselineView::Ready,
            None => BaselineView::Learning {
                remaining: rule.min_samples,
            },
            // The verdict was given before its own sample was learned from.
            Some(Newest::Learning(remaining)) if remaining > 1 => BaselineView::Learning {
                remaining: remaining - 1,
            },
            Some(Newest::Learning(_) | Newest::Judged(_)) => BaselineView::Ready,
        }
    }

    /// The period by which the first rule's detector expects.
    pub(super) fn season(&self) -> Option<&'static str> {
        self.watches.first()?.season()
    }

    /// The first rule that watches.
    pub(super) fn first_rule<'p>(&self, plan: &'p Plan) -> Option<&'p crate::model::Rule> {
        let watch = self.watches.first()?;
        plan.rules.get(watch.rule as usize)
    }

    /// Nothing has come for long: gives back what room there is to spare, and after very long (`forget`) what
    /// was expected of the samples held. What was learned stays.
    pub(super) fn rest(&mut self, forget: bool) {
        self.window.shrink();
        self.bands.shrink();
        if forget {
            self.bands.forget_past();
        }
    }

    /// Memory it occupies.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() - size_of::<Window>()
            + self.window.bytes()
            + self.bands.heap()
            + self.watches.heap()
            + self.watches.iter().map(Watch::bytes).sum::<usize>()
    }
}

/// What the watches of a signal said of a sample, as far as others have it from them.
struct Said {
    /// Whether any has it from the first, which is nearly always the one, and whether any from another one.
    of_first: bool,
    of_others: bool,
    first: Option<Verdict>,
    others: Vec<Option<Verdict>>,
}

impl Said {
    fn of(watches: &[Watch]) -> Self {
        let like = |is: fn(u8) -> bool| {
            let mut judges = watches.iter().map(|watch| &watch.judge);
            judges.any(|judge| matches!(judge, Judge::Like(at) if is(*at)))
        };
        Self {
            of_first: like(|at| at == 0),
            of_others: like(|at| at > 0),
            first: None,
            others: Vec::new(),
        }
    }

    fn keep(&mut self, at: usize, verdict: Option<Verdict>) {
        if at == 0 {
            self.first = verdict.filter(|_| self.of_first);
        } else if self.of_others {
            self.others.push(verdict);
        }
    }

    fn by(&self, at: usize) -> Option<Verdict> {
        match at.checked_sub(1) {
            None => self.first.clone(),
            Some(other) => self.others.get(other).cloned().flatten(),
        }
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

/// A sample beside what was expected of it; bands without an end have none.
fn view(sample: Sample, judgement: Option<Judgement>) -> SampleView {
    let end = |number: f64| number.is_finite().then_some(number);
    SampleView {
        time: sample.time,
        value: sample.value,
        expected: judgement.map(|judgement| judgement.expected),
        lower: judgement.and_then(|judgement| end(judgement.lower)),
        upper: judgement.and_then(|judgement| end(judgement.upper)),
        sigma: judgement.map(|judgement| judgement.sigma),
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

impl<'a> Owner<'a> {
    /// The signal for as long as the series is at hand.
    pub(super) fn seen(self, kind: SignalKind) -> SignalRef<'a> {
        SignalRef {
            kind,
            identity: self.identity,
        }
    }

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
