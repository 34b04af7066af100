//! The tree of routes, inhibit rules and time intervals: names that exist, times that make sense, what
//! could never be reached. What Alertmanager refuses is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::diagnostic::suggest;
use crate::config::{Config, InhibitRule, MatcherText, Period, RegexText, Route, TimeInterval};

use super::Checker;

/// Longest `repeat_interval`: some write years for "never".
const LONGEST: Period = Period::secs(100 * 365 * 86_400);

/// What routes refer to.
struct Names {
    receivers: BTreeSet<String>,
    intervals: BTreeSet<String>,
}

impl Checker<'_> {
    pub(super) fn routing(&mut self, config: &Config) {
        let mut names = Names {
            receivers: self.receiver_names(),
            intervals: BTreeSet::new(),
        };
        for (key, intervals) in [
            ("time_intervals", &config.time_intervals),
            ("mute_time_intervals", &config.mute_time_intervals),
        ] {
            for (at, interval) in intervals.iter().enumerate() {
                self.interval(interval, &format!("{key}[{at}]"), &mut names.intervals);
            }
        }
        self.first_route(&config.route);
        let interval = Period::secs(5 * 60);
        let repeat = Period::secs(4 * 3600);
        self.route(&config.route, "route", &names, (interval, repeat));
        for (at, rule) in config.inhibit_rules.iter().enumerate() {
            self.inhibit_rule(rule, &format!("inhibit_rules[{at}]"));
        }
    }

    fn interval(&mut self, interval: &TimeInterval, path: &str, seen: &mut BTreeSet<String>) {
        let name_path = format!("{path}.name");
        self.name(&name_path, &interval.name);
        if !seen.insert(interval.name.clone()) {
            let shown = self.shown(&name_path, &interval.name);
            self.error(
                &name_path,
                format!("a second time interval is called `{shown}`"),
                "each needs a name of its own, in `time_intervals` and `mute_time_intervals` together",
            );
        }
        if interval.time_intervals.is_empty() && !self.is_broken(path) {
            self.warn(path, "is never", "add `time_intervals`");
        }
        for (at, span) in interval.time_intervals.iter().enumerate() {
            let times = span.times.iter().flatten().enumerate();
            for (number, range) in times.filter(|(_, range)| range.start_time >= range.end_time) {
                self.error(
                    &format!("{path}.time_intervals[{at}].times[{number}].start_time"),
                    format!("must be before end_time ({})", range.end_time),
                    "for a night write two ranges: one until 24:00, one from 00:00",
                );
            }
        }
    }

    /// The first route is where every alert ends up that no other takes.
    fn first_route(&mut self, route: &Route) {
        for (key, is_there) in [
            ("matchers", !route.matchers.is_empty()),
            ("match", !route.equal.is_empty()),
            ("match_re", !route.regex.is_empty()),
        ] {
            if is_there {
                self.error(
                    &format!("route.{key}"),
                    "the first route takes every alert and has no conditions",
                    "put them on a route in `route.routes`",
                );
            }
        }
        for (key, is_there) in [
            ("mute_time_intervals", !route.mute_time_intervals.is_empty()),
            (
                "active_time_intervals",
                !route.active_time_intervals.is_empty(),
            ),
        ] {
            if is_there {
                self.error(
                    &format!("route.{key}"),
                    "the first route is never mute",
                    "put it on a route in `route.routes`; one without matchers takes all alerts",
                );
            }
        }
        if route.goes_on {
            self.error(
                "route.continue",
                "there is nothing after the first route",
                "leave the key out",
            );
        }
    }

    /// `around` has the group_interval and the repeat_interval that are inherited.
    fn route(&mut self, route: &Route, path: &str, names: &Names, around: (Period, Period)) {
        let at = |key: &str| format!("{path}.{key}");
        if let Some(receiver) = route.receiver.as_deref().filter(|name| !name.is_empty()) {
            self.receiver_name(&at("receiver"), receiver, &names.receivers);
        }
        let week = Period::secs(7 * 86_400);
        let year = Period::secs(365 * 86_400);
        let second = Period::secs(1);
        for (key, value, from, to) in [
            ("group_wait", route.group_wait, Period::default(), week),
            ("group_interval", route.group_interval, second, year),
            ("repeat_interval", route.repeat_interval, second, LONGEST),
        ] {
            if let Some(value) = value {
                self.period(&at(key), value, from, to);
            }
        }
        let interval = route.group_interval.unwrap_or(around.0);
        let repeat = route.repeat_interval.unwrap_or(around.1);
        let is_set = route.group_interval.is_some() || route.repeat_interval.is_some();
        if is_set && repeat < interval {
            let key = match route.repeat_interval.is_some() {
                true => at("repeat_interval"),
                false => at("group_interval"),
            };
            self.warn(
                &key,
                format!("repeat_interval ({repeat}) is shorter than group_interval ({interval}), which holds it back"),
                "make repeat_interval a multiple of group_interval",
            );
        }
        self.group_by(route, path);
        self.matchers(&at("matchers"), &route.matchers);
        self.condition_names(
            [&at("match"), &at("match_re")],
            (&route.equal, &route.regex),
        );
        for (key, intervals) in [
            ("mute_time_intervals", &route.mute_time_intervals),
            ("active_time_intervals", &route.active_time_intervals),
        ] {
            for (number, name) in intervals.iter().enumerate() {
                self.interval_name(&format!("{path}.{key}[{number}]"), name, names);
            }
        }
        for (number, child) in route.routes.iter().enumerate() {
            let child_path = format!("{path}.routes[{number}]");
            let takes_all = conditions(&child.matchers, &child.equal, &child.regex) == 0;
            let is_last = number + 1 == route.routes.len();
            if takes_all && !child.goes_on && !is_last && !self.is_broken(&child_path) {
                self.warn(
                    &child_path,
                    "has no conditions and takes every alert, so the routes after it get none",
                    "give it `matchers`, set `continue: true`, or put it last",
                );
            }
            self.route(child, &child_path, names, (interval, repeat));
        }
    }

    fn group_by(&mut self, route: &Route, path: &str) {
        let group_by = route.group_by.as_deref().unwrap_or_default();
        // `...` stands for all labels.
        let single = |label: &&String| *label != "..." || group_by.len() > 1;
        let mut seen = BTreeSet::new();
        for (at, label) in group_by
            .iter()
            .enumerate()
            .filter(|(_, label)| single(label))
        {
            let path = format!("{path}.group_by[{at}]");
            if !seen.insert(label) {
                self.error(
                    &path,
                    format!("`{label}` stands there twice"),
                    "once is enough",
                );
            } else if label == "..." {
                self.error(
                    &path,
                    "`...` means all labels and stands alone",
                    "write `group_by: ['...']`, or name the labels",
                );
            } else {
                self.matched_label(&path, label);
            }
        }
    }

    fn interval_name(&mut self, path: &str, name: &str, names: &Names) {
        if !names.intervals.contains(name) {
            let shown = self.shown(path, name);
            self.error(
                path,
                format!("unknown time interval `{shown}`"),
                suggest(
                    name,
                    names.intervals.iter().map(String::as_str),
                    "time intervals",
                ),
            );
        }
    }

    /// Conditions that mean something else than they look like.
    fn matchers(&mut self, path: &str, texts: &[MatcherText]) {
        for (at, text) in texts.iter().enumerate() {
            let quoted =
                |value: &str| value.len() > 1 && value.starts_with('\'') && value.ends_with('\'');
            for matcher in text.matchers.iter().filter(|m| quoted(&m.value)) {
                self.warn(
                    &format!("{path}[{at}]"),
                    format!(
                        "the single quotes are part of the value of `{}`",
                        matcher.name
                    ),
                    "use double quotes, or none",
                );
            }
        }
    }

    /// The older forms of conditions: their names.
    fn condition_names(
        &mut self,
        paths: [&str; 2],
        (equal, regex): (&BTreeMap<String, String>, &BTreeMap<String, RegexText>),
    ) {
        let [equal_path, regex_path] = paths;
        for name in equal.keys() {
            self.matched_label(&format!("{equal_path}.{name}"), name);
        }
        for name in regex.keys() {
            self.matched_label(&format!("{regex_path}.{name}"), name);
        }
    }

    /// A label name as Alertmanager takes it, also one that Tidewatch would not give to an alert itself.
    fn matched_label(&mut self, path: &str, name: &str) {
        self.label_name(path, name.strip_prefix("__").unwrap_or(name));
    }

    fn inhibit_rule(&mut self, rule: &InhibitRule, path: &str) {
        let at = |key: &str| format!("{path}.{key}");
        let sides = [
            (
                "source",
                conditions(
                    &rule.source_matchers,
                    &rule.source_match,
                    &rule.source_match_re,
                ),
            ),
            (
                "target",
                conditions(
                    &rule.target_matchers,
                    &rule.target_match,
                    &rule.target_match_re,
                ),
            ),
        ];
        self.matchers(&at("source_matchers"), &rule.source_matchers);
        self.matchers(&at("target_matchers"), &rule.target_matchers);
        for (side, count) in sides {
            if count == 0 && !self.is_broken(path) {
                self.warn(
                    path,
                    format!("has no conditions on the {side}, so every alert is one"),
                    format!("add `{side}_matchers`"),
                );
            }
        }
        self.condition_names(
            [&at("source_match"), &at("source_match_re")],
            (&rule.source_match, &rule.source_match_re),
        );
        self.condition_names(
            [&at("target_match"), &at("target_match_re")],
            (&rule.target_match, &rule.target_match_re),
        );
        for (number, name) in rule.equal.iter().enumerate() {
            self.matched_label(&format!("{path}.equal[{number}]"), name);
        }
    }
}

/// How many conditions there are.
fn conditions(
    matchers: &[MatcherText],
    equal: &BTreeMap<String, String>,
    regex: &BTreeMap<String, RegexText>,
) -> usize {
    let of_texts: usize = matchers.iter().map(|text| text.matchers.len()).sum();
    of_texts + equal.len() + regex.len()
}
