//! Detectors: from a sample and the past before it to how surprising the sample is.
//!
//! In comes one sample after the other with the window *before* it; out comes a [`Verdict`]: still
//! learning, or what was expected, the band around it and a signed sigma. What always holds: a detector
//! is deterministic, bounded in memory and total; every number it gives is finite but for the ends of
//! the band. It knows nothing of thresholds being crossed for long enough, of alerts or of clocks.
//!
//! A new detector is one file here and one line in [`REGISTRY`]; documentation, the configuration's
//! schema and the tests that hold for every detector follow from it.

mod absence;
mod adaptive;
mod counts;
mod forecast;
mod robust;
mod slo;
mod tail;
mod threshold;
mod zscore;

use std::time::Duration;

use crate::model::{
    Evidence, Judged, OwnSettings, Rule, Sample, SignalKind, Timestamp, Verdict, WindowSpec,
};
use crate::window::Window;

/// Judges the samples of one signal, in order.
pub trait Detector: Send {
    /// Judges `sample` against what came before it, and learns from it.
    ///
    /// `window` holds the samples before this one; `weight` is the number of observations behind the
    /// sample (spans in the tick, for instance; 1 for a plain value), for detectors that trust few
    /// observations less. Only the rate of events of which there were none has 0.
    fn observe(&mut self, sample: Sample, weight: u64, window: &Window) -> Verdict;

    /// Judges that nothing came: called when a tick that ends at `boundary` has closed without a sample
    /// of a signal whose newest one is the last of `window`. `listened`: for so long since the sample, or
    /// since the last such call, others were heard, so that the signal could have been. `None`, as most
    /// detectors have it: gaps mean nothing.
    fn silent(
        &mut self,
        _boundary: Timestamp,
        _listened: Duration,
        _window: &Window,
    ) -> Option<Judged> {
        None
    }

    /// Takes for normal what deviates now and has since `since`, because a person says so; `window` holds
    /// the samples so far. Says whether that means anything to it; to most detectors of a fixed bound it
    /// does not.
    fn accept(&mut self, _since: Timestamp, _window: &Window) -> bool {
        false
    }

    /// The period by which it expects, `day` or `week`, once one has shown itself.
    fn season(&self) -> Option<&'static str> {
        None
    }

    /// What must survive a restart beyond the window; empty where there is nothing.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes back what [`Detector::save`] gave.
    ///
    /// # Errors
    /// The bytes are not such; the detector is then as if freshly built.
    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        if saved.is_empty() {
            Ok(())
        } else {
            Err("this detector keeps nothing of its own".into())
        }
    }

    /// Reads of its memory what the next sample will need: its own, or what that points to (`beyond`). Millions
    /// of detectors lie beyond every cache; who has many to ask so waits for the memory of all of them
    /// together instead of one after the other. What it gives says nothing.
    fn glance(&self, _beyond: bool) -> u64 {
        0
    }

    /// Memory it occupies.
    fn bytes(&self) -> usize;
}

/// Makes a detector for a rule on a signal of some kind, or says what is wrong with the rule's settings.
type Build = fn(&Rule, SignalKind) -> Result<Box<dyn Detector>, String>;

/// One entry of the registry.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Name in the configuration.
    pub name: &'static str,
    /// What it does, in a sentence or two, for the documentation and the schema.
    pub description: &'static str,
    /// Whether it judges by the samples in the window, which then has to be exact.
    by_window: bool,
    /// Whether it sees of a rule only its `detector`, `sigma` and `min_samples`, and nothing in silence, so that
    /// rules that agree in these may share one.
    shared: bool,
    /// Makes one for a rule, or says what is wrong with the rule's settings.
    build: Build,
}

/// Every detector, one line each.
pub const REGISTRY: &[Kind] = &[
    adaptive::KIND,
    zscore::KIND,
    robust::KIND,
    threshold::KIND,
    slo::KIND,
    forecast::KIND,
    absence::KIND,
];

/// Names of all detectors, in the registry's order.
pub fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|kind| kind.name)
}

/// A fresh detector for `rule` on a signal of this kind.
///
/// # Errors
/// No detector has that name, or its settings do not fit it.
pub fn build(rule: &Rule, kind: SignalKind) -> Result<Box<dyn Detector>, String> {
    let name = rule.detector.name.as_str();
    let entry = REGISTRY
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| {
            let known: Vec<_> = names().collect();
            format!("no detector `{name}`; there are {}", known.join(", "))
        })?;
    (entry.build)(rule, kind)
}

/// The same for a signal whose unit is known, into which the rule's bounds are converted.
///
/// # Errors
/// As [`build`]; or the bounds do not fit the unit.
pub fn build_in(rule: &Rule, kind: SignalKind, unit: &str) -> Result<Box<dyn Detector>, String> {
    if rule.detector.dimension.is_none() && rule.detector.own == OwnSettings::Default {
        return build(rule, kind);
    }
    let spec = rule
        .detector
        .in_unit(unit)
        // A share of failures is counted, whatever the bounds of the other signals.
        .or_else(|| (kind == SignalKind::ErrorRatio).then(|| rule.detector.clone()))
        .ok_or_else(|| format!("its bounds do not fit the unit `{unit}`"))?;
    let rule = Rule {
        detector: spec,
        ..rule.clone()
    };
    build(&rule, kind)
}

/// Says what is wrong with a rule that suits no signal at all.
///
/// # Errors
/// See [`build`].
pub fn check(rule: &Rule) -> Result<(), String> {
    build(rule, SignalKind::Value)
        .or_else(|error| build(rule, SignalKind::ErrorRatio).map_err(|_| error))
        .or_else(|error| build_in(rule, SignalKind::Value, "1").map_err(|_| error))
        .map(drop)
}

/// An empty window for what `rules` watch: exact if the detector of one judges by it, else brief.
pub fn window<'a>(spec: WindowSpec, rules: impl IntoIterator<Item = &'a Rule>) -> Window {
    let by_window = |rule: &Rule| {
        let mut kinds = REGISTRY.iter();
        kinds.any(|kind| kind.by_window && kind.name == rule.detector.name)
    };
    if rules.into_iter().any(by_window) {
        Window::new(spec)
    } else {
        Window::brief(spec)
    }
}

/// Whether two rules may share a detector, which then sees no difference between them: they differ at most in
/// which signals they are about and in what they make of a judgement.
pub fn judge_alike(one: &Rule, other: &Rule) -> bool {
    let mut kinds = REGISTRY.iter();
    kinds.any(|kind| kind.shared && kind.name == one.detector.name)
        && one.detector == other.detector
        && one.sigma == other.sigma
        && one.min_samples == other.min_samples
}

/// Whether `rule` is about signals that are silent, so that it can watch services as a whole.
pub fn hears_silence(rule: &Rule) -> bool {
    rule.detector.name == absence::KIND.name
}

/// No sigma is larger than this: the tail of any real noise is unknown far before.
pub const MAX_SIGMA: f64 = 1e6;
/// A baseline without any spread is given this share of its level as one: a counter that has stood at
/// 200 for ever is off by one sigma at 200.2.
const FLOOR_RATIO: f64 = 1e-3;
/// The least spread such a baseline is given, for levels around zero.
const FLOOR: f64 = 1e-9;
/// A spread of less than this share of the level (some four units in the last place) is rounding.
const ROUNDING: f64 = 1e-15;

/// How a baseline of a centre and a spread judges: what `zscore` and `robust` have in common.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Samples that the baseline must stand on.
    min_samples: u32,
    /// Half of the band's width, in sigmas.
    warning: f64,
}

impl Scale {
    /// `fewest`: below this many samples there is no spread.
    fn new(rule: &Rule, fewest: u32) -> Self {
        Self {
            min_samples: rule.min_samples.max(fewest),
            warning: rule.sigma.warning,
        }
    }

    /// The verdict while the baseline rests on too few samples, of which the window holds `have`; `None` once
    /// it is long enough. A full window is always long enough: one that holds fewer than `min_samples`
    /// would never be.
    fn learning(self, have: usize, window: &Window) -> Option<Verdict> {
        let have = u32::try_from(have).unwrap_or(u32::MAX);
        let remaining = self.min_samples.min(window.limit()).saturating_sub(have);
        (remaining > 0).then_some(Verdict::Learning { remaining })
    }

    /// Sigma is `(value - centre) / spread`, exactly. Only without any spread a value that equals the
    /// centre has sigma 0, and another is measured by a floor of a thousandth of the level.
    fn judge(
        self,
        value: f64,
        centre: f64,
        spread: f64,
        channel: &'static str,
        window: &Window,
    ) -> Verdict {
        let spread = floored(centre, spread);
        // Halves, so that the difference of two giants does not overflow.
        let sigma = (value * 0.5 - centre * 0.5) / (spread * 0.5);
        let sigma = if sigma.is_nan() { 0.0 } else { sigma };
        Verdict::Judged(Judged {
            expected: centre,
            lower: centre - self.warning * spread,
            upper: centre + self.warning * spread,
            sigma: sigma.clamp(-MAX_SIGMA, MAX_SIGMA),
            observed: None,
            evidence: Evidence {
                channel: channel.into(),
                samples: u32::try_from(window.len()).unwrap_or(u32::MAX),
                spread,
                report: sigma.abs().min(MAX_SIGMA),
                ..Evidence::default()
            },
        })
    }
}

/// `spread`, or a floor for a baseline that has none.
fn floored(centre: f64, spread: f64) -> f64 {
    if spread <= centre.abs() * ROUNDING {
        (centre.abs() * FLOOR_RATIO).max(FLOOR)
    } else {
        spread
    }
}

#[cfg(test)]
mod tests;
