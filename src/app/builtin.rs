//! What the built-in alerts about Tidewatch itself have in common: rules that no signal of the engine
//! matches, and that speak for observations made here.

use std::sync::Arc;

use crate::model::{
    DetectorSpec, Direction, For, Labels, MatchOp, Matcher, Rule, RuleId, Selector, SigmaThresholds,
};

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
