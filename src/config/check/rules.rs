//! Rules that could never work.

use crate::config::diagnostic::suggest;
use crate::config::rule::capacity;
use crate::config::{BurnRate, Config, Period, Quantity, Rule, Share};
use crate::model::{Selector, WindowSpec};

use super::Checker;

/// Most lines of a table of objectives; each is a rule of its own.
const MAX_OBJECTIVES: usize = 200;
/// Most lines of a table of burn rates: each takes memory for every signal.
const MAX_BURNS: usize = 6;

/// Detectors that compare a value with what it usually is, or with fixed bounds.
const OF_VALUES: &[&str] = &["adaptive", "robust", "zscore", "threshold"];
/// Settings that not every detector has, and which do.
const OWN: &[(&str, &[&str])] = &[
    ("lower", &["threshold", "slo", "forecast"]),
    ("upper", &["threshold", "slo", "forecast"]),
    ("target", &["slo"]),
    ("objective", &["slo"]),
    ("objectives", &["slo"]),
    ("burn", &["slo"]),
    ("horizon", &["forecast"]),
    ("after", &["absence"]),
    (
        "sigma",
        &["adaptive", "robust", "zscore", "threshold", "forecast"],
    ),
    ("direction", OF_VALUES),
    ("min_change", OF_VALUES),
    ("min_change_ratio", OF_VALUES),
    ("window", OF_VALUES),
];

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
        self.foreign(rule, path);
        self.bounds(rule, path);
        if let Some(after) = rule.after {
            let most = config.window.idle_after;
            self.period(&at("after"), after, tick, most.max(tick));
        }
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
        self.ordered(&rule.lower, &rule.upper, path);
        let is_bounded = rule.lower.is_some()
            || rule.upper.is_some()
            || self.any_is_broken(path, &["lower", "upper"]);
        match rule.detector.as_str() {
            "threshold" if !is_bounded => self.error(
                &format!("{path}.detector"),
                "`threshold` has no bound to compare with",
                "set `lower`, `upper` or both",
            ),
            "slo" => self.objectives(rule, path),
            "forecast" => {
                if let Some(horizon) = rule.horizon {
                    let (least, most) = (Period::secs(60), Period::secs(365 * 86_400));
                    self.period(&format!("{path}.horizon"), horizon, least, most);
                }
            }
            _ => {}
        }
    }

    /// Whether one of the settings could not be read, so that it is not missing.
    fn any_is_broken(&self, path: &str, keys: &[&str]) -> bool {
        keys.iter()
            .any(|key| self.is_broken(&format!("{path}.{key}")))
    }

    /// What is below what, and of one kind.
    fn ordered(&mut self, lower: &Option<Quantity>, upper: &Option<Quantity>, path: &str) {
        let (Some(lower), Some(upper)) = (lower, upper) else {
            return;
        };
        let path = format!("{path}.lower");
        if lower.dimension != upper.dimension {
            self.error(
                &path,
                format!("`{lower}` and `{upper}` are not of one kind"),
                "write both with a unit, or both as numbers in the signal's unit",
            );
        } else if lower.value > upper.value {
            self.error(
                &path,
                format!("must not be above upper ({upper}), is {lower}"),
                "no value could be between them",
            );
        }
    }

    fn objectives(&mut self, rule: &Rule, path: &str) {
        let at = |key: &str| format!("{path}.{key}");
        self.share_of_good(&at("objective"), rule.objective);
        self.one_target(&rule.target, &rule.lower, &rule.upper, path);
        let is_bounded = rule.target.is_some()
            || rule.lower.is_some()
            || rule.upper.is_some()
            || self.any_is_broken(path, &["target", "lower", "upper", "objectives"]);
        let counts_errors = |selector: &Selector| {
            let matchers = selector.matchers();
            matchers
                .iter()
                .any(|m| m.name == "signal" && m.matches("error_ratio"))
        };
        let own = counts_errors(&rule.selector.selector);
        if rule.objectives.is_empty() && !is_bounded && !own {
            self.error(
                &at("detector"),
                "`slo` has no target to compare with",
                "set `target`, such as 300ms, or select the signal error_ratio, which needs none",
            );
        }
        if rule.objectives.len() > MAX_OBJECTIVES {
            self.error(
                &at("objectives"),
                format!(
                    "has {} lines; at most {MAX_OBJECTIVES} are read",
                    rule.objectives.len()
                ),
                "join lines with =~, or write several rules",
            );
        }
        for (number, line) in rule.objectives.iter().enumerate() {
            let path = at(&format!("objectives[{number}]"));
            self.share_of_good(&format!("{path}.objective"), line.objective);
            self.ordered(&line.lower, &line.upper, &path);
            self.one_target(&line.target, &line.lower, &line.upper, &path);
            let has_bound = line.target.is_some()
                || line.lower.is_some()
                || line.upper.is_some()
                || self.any_is_broken(&path, &["target", "lower", "upper"]);
            if !has_bound && !is_bounded && !own && !counts_errors(&line.selector.selector) {
                self.error(
                    &path,
                    "has no target to compare with",
                    "set `target`, such as 300ms; only the signal error_ratio needs none",
                );
            }
        }
        if rule.burn.len() > MAX_BURNS {
            self.error(
                &at("burn"),
                format!(
                    "has {} lines; at most {MAX_BURNS} are kept",
                    rule.burn.len()
                ),
                "three are usual",
            );
        }
        for (number, burn) in rule.burn.iter().enumerate() {
            self.burn(burn, &at(&format!("burn[{number}]")));
        }
    }

    fn burn(&mut self, burn: &BurnRate, path: &str) {
        let (least, most) = (Period::secs(60), Period::secs(30 * 86_400));
        self.period(&format!("{path}.long"), burn.long, least, most);
        if let Some(short) = burn.short {
            let least = Period(burn.long.0 / 240);
            self.period(&format!("{path}.short"), short, least, burn.long);
        }
        if !(burn.rate > 0.0 && burn.rate <= 1e6) {
            self.error(
                &format!("{path}.rate"),
                format!("must be more than 0 and at most 1000000, is {}", burn.rate),
                "14.4 uses up 2 % of the budget of 30 days in an hour",
            );
        }
    }

    fn one_target(
        &mut self,
        target: &Option<Quantity>,
        lower: &Option<Quantity>,
        upper: &Option<Quantity>,
        path: &str,
    ) {
        if target.is_some() && (lower.is_some() || upper.is_some()) {
            self.error(
                &format!("{path}.target"),
                "a target stands beside `lower` or `upper`",
                "write the target alone, or the bounds alone",
            );
        }
    }

    fn share_of_good(&mut self, path: &str, objective: Option<Share>) {
        if let Some(Share(share)) = objective
            && !(share > 0.0 && share < 1.0)
        {
            self.error(
                path,
                format!("must be between 0% and 100%, is {}", Share(share)),
                "100% leaves no error budget; 99.9% allows 43 minutes in 30 days",
            );
        }
    }

    /// What only other detectors know, and would be silently without effect.
    fn foreign(&mut self, rule: &Rule, path: &str) {
        if !self.known.detectors.contains(&rule.detector.as_str()) {
            return;
        }
        for (key, of) in OWN {
            let path = format!("{path}.{key}");
            // A value that could not be read has been named already.
            if of.contains(&rule.detector.as_str()) || self.node(&path).is_none() {
                continue;
            }
            let names: Vec<_> = of.iter().map(|name| format!("`{name}`")).collect();
            let (are, names) = match names.as_slice() {
                [one] => ("only the detector", one.clone()),
                many => ("only the detectors", many.join(", ")),
            };
            self.error(
                &path,
                format!("{are} {names} can use `{key}`"),
                match *of {
                    [only] => format!("leave it out, or write `detector: {only}`"),
                    _ => "leave it out".into(),
                },
            );
        }
    }
}
