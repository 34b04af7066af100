//! What applies where the configuration says nothing of rules.

use std::collections::BTreeMap;

use super::rule::{Direction, Hold, Resolve, Rule, Sigma, default_detector};

/// The rules that apply where the configuration has none: latency, errors, rate and plain values of
/// everything, quiet enough to leave on.
///
/// # Panics
/// Never: the selectors are fixed; a test reads them.
pub fn builtin_rules() -> Vec<Rule> {
    vec![
        Rule {
            direction: Direction::Above,
            min_change_ratio: 0.2,
            ..builtin("LatencyDeviation", r#"{signal=~"p95|p99"}"#, "is slow")
        },
        Rule {
            direction: Direction::Above,
            min_change: 0.05,
            ..builtin(
                "ErrorRatioDeviation",
                r#"{signal="error_ratio"}"#,
                "fails more often",
            )
        },
        Rule {
            min_change_ratio: 0.5,
            ..builtin(
                "RateDeviation",
                r#"{signal="rate",metric="span.duration"}"#,
                "is called at an unusual rate",
            )
        },
        Rule {
            min_change_ratio: 0.25,
            ..builtin(
                "ValueDeviation",
                r#"{signal="value"}"#,
                "reports an unusual value",
            )
        },
    ]
}

fn builtin(alert: &str, selector: &str, what: &str) -> Rule {
    let summary = format!("{{{{ service }}}} {what}: {{{{ metric }}}} {{{{ signal }}}}");
    Rule {
        alert: alert.into(),
        selector: selector
            .parse()
            .expect("fixed selectors; a test reads them"),
        detector: default_detector(),
        window: None,
        sigma: Sigma::default(),
        direction: Direction::Both,
        hold: Hold::default(),
        // 30, or a small window's size.
        min_samples: None,
        min_change: 0.0,
        min_change_ratio: 0.0,
        resolve: Resolve::default(),
        lower: None,
        upper: None,
        labels: BTreeMap::new(),
        annotations: [("summary".to_owned(), summary)].into(),
    }
}
