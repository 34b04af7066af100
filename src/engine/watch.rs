//! One rule's eye on one signal: its detector, and whether the signal is worth reporting.

use std::time::Duration;

use crate::detect::{self, Detector};
use crate::model::{
    For, Judged, Measure, Rule, Sample, SeverityLabel, SignalKind, Timestamp, Verdict, WindowSpec,
};
use crate::window::Window;

/// No count of calm samples that was saved is believed beyond this.
const MAX_HOT: u32 = 10_000;

/// A rule's detector on one signal.
pub(super) struct Watch {
    /// Position of the rule in the engine's list.
    pub(super) rule: u32,
    pub(super) judge: Judge,
    /// The rule's own window, where it asks for another length than the signal's.
    pub(super) window: Option<Box<Window>>,
    /// So many calm samples are still reported. A watch starts with all of them, since an alert of
    /// before a restart may wait for calm samples that the learning saved then does not know of.
    pub(super) hot: u32,
    /// Whether it judges the samples' own values, as far as it has judged any.
    pub(super) judges_value: bool,
}

/// Who judges.
pub(super) enum Judge {
    /// A detector of its own.
    Own(Box<dyn Detector>),
    /// That of another watch of the signal, by its place, whose rule differs in nothing that a detector sees.
    Like(u8),
}

/// What a watch says of one sample.
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// The sample, with the number that was judged.
    pub(super) sample: Sample,
    pub(super) anomaly: Option<SeverityLabel>,
    /// Whether the alert machine needs to see it.
    pub(super) report: bool,
}

impl Watch {
    /// `past`: the signal's window, which an own window begins with. `None` only for settings that a
    /// checked rule does not have.
    pub(super) fn new(
        index: u32,
        rule: &Rule,
        kind: SignalKind,
        unit: &str,
        spec: WindowSpec,
        past: &Window,
    ) -> Option<Self> {
        let own = rule.detector.window.filter(|own| *own != spec);
        Some(Self {
            rule: index,
            judge: Judge::Own(detect::build_in(rule, kind, unit).ok()?),
            judges_value: true,
            window: own.map(|own| Box::new(past.clone().refit(detect::window(own, [rule])))),
            hot: reported_after(rule),
        })
    }

    /// A watch that has its verdicts from the one at `at` of the same signal.
    pub(super) fn like(index: u32, rule: &Rule, at: u8) -> Self {
        Self {
            rule: index,
            judge: Judge::Like(at),
            judges_value: true,
            window: None,
            hot: reported_after(rule),
        }
    }

    /// Judges `sample` against what came before, which `past` holds, and learns from it. `None` where another
    /// watch judges.
    pub(super) fn judge(&mut self, sample: Sample, weight: u64, past: &Window) -> Option<Verdict> {
        let Judge::Own(detector) = &mut self.judge else {
            return None;
        };
        Some(match &mut self.window {
            Some(own) => {
                own.expire(sample.time);
                let verdict = detector.observe(sample, weight, own);
                own.push(sample);
                verdict
            }
            None => detector.observe(sample, weight, past),
        })
    }

    /// What the tick that ended at `boundary` without a sample means to the rule, if anything; `listened`
    /// as in [`Detector::silent`].
    pub(super) fn silent(
        &mut self,
        rule: &Rule,
        boundary: Timestamp,
        listened: Duration,
        past: &Window,
    ) -> Option<Outcome> {
        let window = self.window.as_deref().unwrap_or(past);
        // Detectors that are shared know of no silence.
        let Judge::Own(detector) = &mut self.judge else {
            return None;
        };
        let judged = detector.silent(boundary, listened, window)?;
        let sample = Sample {
            time: boundary,
            value: window.last()?.value,
        };
        Some(self.conclude(rule, sample, Verdict::Judged(judged)))
    }

    /// Tells the detector that what deviates since `since` is normal; whether that means anything to it.
    pub(super) fn accept(&mut self, since: Timestamp, past: &Window) -> bool {
        let window = self.window.as_deref().unwrap_or(past);
        match &mut self.judge {
            Judge::Own(detector) => detector.accept(since, window),
            Judge::Like(_) => false,
        }
    }

    /// Reads of its detector what the next sample will need; see [`Detector::glance`].
    pub(super) fn glance(&self, beyond: bool) -> u64 {
        match &self.judge {
            Judge::Own(detector) => detector.glance(beyond),
            Judge::Like(at) => u64::from(*at),
        }
    }

    /// The period by which its own detector expects.
    pub(super) fn season(&self) -> Option<&'static str> {
        match &self.judge {
            Judge::Own(detector) => detector.season(),
            Judge::Like(_) => None,
        }
    }

    /// What its own detector has learned.
    pub(super) fn save(&self) -> Vec<u8> {
        match &self.judge {
            Judge::Own(detector) => detector.save(),
            Judge::Like(_) => Vec::new(),
        }
    }

    /// What a verdict means to the rule.
    pub(super) fn conclude(&mut self, rule: &Rule, sample: Sample, verdict: Verdict) -> Outcome {
        let mut sample = sample;
        let (anomaly, report) = match &verdict {
            Verdict::Learning { .. } => (None, false),
            Verdict::Judged(judged) => {
                self.judges_value = judged.evidence.measure == Measure::Value;
                sample.value = judged.observed.unwrap_or(sample.value);
                let anomaly = anomaly(rule, sample, judged);
                let calm = anomaly.is_none() && is_calm(rule, sample, judged);
                let relevelled = judged.evidence.relevelled_from.is_some();
                let hot = self.is_hot(rule, anomaly.is_some(), calm);
                (anomaly, hot || relevelled)
            }
        };
        Outcome {
            verdict,
            sample,
            anomaly,
            report,
        }
    }

    /// Counts down the calm samples after an anomaly. While anything is left of one, a sample that is
    /// no anomaly but not calm either (above the threshold less `resolve_sigma`) starts the countdown
    /// anew, because it also starts the alert's own count of calm samples anew. Without an anomaly
    /// before it, such a sample means nothing to an alert and is not reported.
    fn is_hot(&mut self, rule: &Rule, anomalous: bool, calm: bool) -> bool {
        if anomalous || (self.hot > 0 && !calm) {
            self.hot = reported_after(rule);
            return true;
        }
        let report = self.hot > 0;
        self.hot = self.hot.saturating_sub(1);
        report
    }

    /// Takes back what was saved of the watch of the same rule and detector.
    pub(super) fn restore(
        &mut self,
        rule: &Rule,
        kind: SignalKind,
        unit: &str,
        saved: &[u8],
        own: Option<Window>,
        hot: u32,
    ) {
        // A detector that cannot read what an older version saved begins anew; it has the window.
        if let Judge::Own(detector) = &mut self.judge
            && detector.restore(saved).is_err()
            && let Ok(fresh) = detect::build_in(rule, kind, unit)
        {
            *detector = fresh;
        }
        if let (Some(window), Some(own), Some(spec)) = (&mut self.window, own, rule.detector.window)
        {
            **window = own.refit(detect::window(spec, [rule]));
        }
        self.hot = self.hot.max(hot.min(MAX_HOT));
    }

    /// Memory it occupies beside itself.
    pub(super) fn bytes(&self) -> usize {
        let detector = match &self.judge {
            Judge::Own(detector) => detector.bytes(),
            Judge::Like(_) => 0,
        };
        detector + self.window.as_ref().map_or(0, |own| own.bytes())
    }
}

/// How many calm samples after a deviation the alert machine may still ask for.
fn reported_after(rule: &Rule) -> u32 {
    // Two more than the samples that resolve: one for the count's beginning, one for good measure.
    let resolve = rule.resolve_samples.saturating_add(2);
    match rule.hold {
        For::Samples { of, .. } => of.max(resolve),
        For::Duration(_) => resolve,
    }
}

/// Whether `sample` is an anomaly to `rule`: far enough on the side that counts, in sigmas and in the
/// signal's own unit.
fn anomaly(rule: &Rule, sample: Sample, judged: &Judged) -> Option<SeverityLabel> {
    let size = rule.direction.size(judged.sigma);
    let enough = size >= rule.sigma.warning && !is_negligible(rule, sample, judged);
    match rule.sigma.critical {
        _ if !enough => None,
        Some(critical) if size >= critical => Some(SeverityLabel::Critical),
        Some(_) | None => Some(SeverityLabel::Warning),
    }
}

/// Whether `sample` may count towards the end of an alert. Where this and the alert's own judgement
/// differ, it must be the stricter one: what is not calm is reported.
fn is_calm(rule: &Rule, sample: Sample, judged: &Judged) -> bool {
    let clear = rule.sigma.warning - rule.resolve_sigma;
    // Nothing is below a threshold of zero; such rules resolve at half of theirs.
    let clear = if clear > 0.0 {
        clear
    } else {
        rule.sigma.warning / 2.0
    };
    rule.direction.size(judged.sigma) < clear || is_negligible(rule, sample, judged)
}

/// Whether the difference is smaller than `rule` minds, however many sigmas it is.
fn is_negligible(rule: &Rule, sample: Sample, judged: &Judged) -> bool {
    let change = (sample.value - judged.expected).abs();
    change < rule.min_change || change < rule.min_change_ratio * judged.expected.abs()
}
