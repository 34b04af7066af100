//! Rules that could never work.

use crate::config::diagnostic::suggest;
use crate::config::rule::capacity;
use crate::config::{Config, Rule};
use crate::model::WindowSpec;

use super::Checker;

/// Labels that the daemon sets itself.
const RESERVED_LABELS: [&str; 5] = ["alertname", "severity", "service", "metric", "signal"];

impl Checker<'_> {
    pub(super) fn rule(&mut self, config: &Config, rule: &Rule, path: &str) {
        let at = |key: &str| format!("{path}.{key}");
        self.name(&at("alert"), &rule.alert);
        if !self.known.detectors.contains(&rule.detector.as_str()) {
            let shown = self.shown(&at("detector"), &rule.detector);
            self.error(
                &at("detector"),
                format!("unknown detector `{shown}`"),
                suggest(
                    &rule.detector,
                    self.known.detectors.iter().copied(),
                    "detectors",
                ),
            );
        }
        let tick = config.window.tick;
        let mut window = config.window.spec();
        if let Some(own) = &rule.window {
            if own.samples.is_none() && own.duration.is_none() && !self.is_broken(&at("window")) {
                self.error(
                    &at("window"),
                    "has neither `samples` nor `duration`",
                    "set one, or leave `window` out for the window of all rules",
                );
            }
            self.window(&at("window"), own.samples, own.duration, tick);
            window = match own.duration {
                Some(duration) => WindowSpec::Duration(duration.0),
                None => own.samples.map_or(window, WindowSpec::Samples),
            };
        }
        let holds = capacity(window, tick);
        if let Some(min) = rule.min_samples
            && !(2..=holds.max(2)).contains(&min)
        {
            self.error(
                &at("min_samples"),
                format!("must be from 2 to {holds}, the size of the window; is {min}"),
                "a window that is never full enough would never judge anything",
            );
        }
        self.sigma(rule, path);
        for (key, value) in [
            ("min_change", rule.min_change),
            ("min_change_ratio", rule.min_change_ratio),
            ("resolve.sigma", rule.resolve.sigma),
        ] {
            if value < 0.0 {
                self.error(
                    &at(key),
                    format!("must not be negative, is {value}"),
                    "0 is off",
                );
            }
        }
        if !(1..=64).contains(&rule.resolve.samples) {
            self.error(
                &at("resolve.samples"),
                format!("must be from 1 to 64, is {}", rule.resolve.samples),
                "the default is 3",
            );
        }
        self.bounds(rule, path);
        for (name, value) in &rule.labels {
            let path = at(&format!("labels.{name}"));
            self.label_name(&path, name);
            if RESERVED_LABELS.contains(&name.as_str()) {
                self.error(
                    &path,
                    format!("the label `{name}` is set by Tidewatch"),
                    "choose another name",
                );
            }
            self.template(&path, value);
        }
        for (name, value) in &rule.annotations {
            let path = at(&format!("annotations.{name}"));
            self.label_name(&path, name);
            self.template(&path, value);
        }
    }

    fn sigma(&mut self, rule: &Rule, path: &str) {
        let warning = rule.thresholds().warning;
        let is_map = self.node(&format!("{path}.sigma.warning")).is_some();
        let own = if is_map { ".warning" } else { "" };
        if warning <= 0.0 {
            self.error(
                &format!("{path}.sigma{own}"),
                format!("must be above 0, is {warning}"),
                "4 is quiet, 2.5 is the classic rule",
            );
        } else if let Some(critical) = rule.thresholds().critical
            && warning > critical
        {
            self.error(
                &format!("{path}.sigma{own}"),
                format!("must not be above critical ({critical}), is {warning}"),
                "a deviation is a warning first and then critical",
            );
        }
        // Where it is not set it follows a low threshold down.
        let set = self.node(&format!("{path}.resolve.sigma")).is_some();
        if set && rule.resolve.sigma >= warning && warning > 0.0 {
            self.error(
                &format!("{path}.resolve.sigma"),
                format!("must be below sigma ({warning}), is {}", rule.resolve.sigma),
                "it is taken off the threshold; nothing would be left and the alert never end",
            );
        }
    }

    fn bounds(&mut self, rule: &Rule, path: &str) {
        if rule.detector == "threshold" {
            match (rule.lower, rule.upper) {
                (None, None) => self.error(
                    &format!("{path}.detector"),
                    "`threshold` has no bound to compare with",
                    "set `lower`, `upper` or both",
                ),
                (Some(lower), Some(upper)) if lower > upper => self.error(
                    &format!("{path}.lower"),
                    format!("must not be above upper ({upper}), is {lower}"),
                    "no value could be between them",
                ),
                (Some(_), _) | (_, Some(_)) => {}
            }
            return;
        }
        for (key, value) in [("lower", rule.lower), ("upper", rule.upper)] {
            if value.is_some() {
                self.error(
                    &format!("{path}.{key}"),
                    "only the detector `threshold` has fixed bounds",
                    "leave it out, or write `detector: threshold`",
                );
            }
        }
    }
}
