//! The configuration of routes, inhibit rules and time intervals in the words of `dispatch` and `mute`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::config::{Config, MatcherText, RegexText, Route, Span, TimeInterval};
use crate::model::{MatchOp, Matcher, Selector};
use crate::{dispatch, mute};

type Intervals = BTreeMap<String, Arc<mute::TimeInterval>>;

/// Who is told what by this configuration, and when not.
pub fn routing(config: &Config) -> dispatch::Settings {
    let intervals: Intervals = config
        .time_intervals
        .iter()
        .chain(&config.mute_time_intervals)
        .map(|interval| (interval.name.clone(), Arc::new(time_interval(interval))))
        .collect();
    let inhibit_rules = config.inhibit_rules.iter().map(|rule| mute::InhibitRule {
        source: selector(
            &rule.source_matchers,
            &rule.source_match,
            &rule.source_match_re,
        ),
        target: selector(
            &rule.target_matchers,
            &rule.target_match,
            &rule.target_match_re,
        ),
        equal: rule.equal.clone(),
    });
    dispatch::Settings {
        route: route(&config.route, &intervals),
        inhibit_rules: inhibit_rules.collect(),
        ..dispatch::Settings::default()
    }
}

fn route(route: &Route, intervals: &Intervals) -> dispatch::Route {
    let named = |names: &[String]| -> Vec<_> {
        let known = names.iter().filter_map(|name| intervals.get(name));
        known.cloned().collect()
    };
    let group_by = route.group_by.as_ref().filter(|names| !names.is_empty());
    dispatch::Route {
        matchers: selector(&route.matchers, &route.equal, &route.regex),
        goes_on: route.goes_on,
        receiver: route.receiver.clone().filter(|name| !name.is_empty()),
        group_by: group_by.map(|names| match names.iter().any(|name| name == "...") {
            true => dispatch::GroupBy::All,
            false => dispatch::GroupBy::Labels(names.clone()),
        }),
        group_wait: route.group_wait.map(|period| period.0),
        group_interval: route.group_interval.map(|period| period.0),
        repeat_interval: route.repeat_interval.map(|period| period.0),
        mute: named(&route.mute_time_intervals),
        active: named(&route.active_time_intervals),
        routes: route
            .routes
            .iter()
            .map(|child| self::route(child, intervals))
            .collect(),
    }
}

fn selector(
    texts: &[MatcherText],
    equal: &BTreeMap<String, String>,
    regex: &BTreeMap<String, RegexText>,
) -> Selector {
    let equal = equal
        .iter()
        .map(|(name, value)| (name, MatchOp::Equal, value.clone()));
    // Alertmanager writes the expressions of this older form like this into its group keys.
    let regex = regex
        .iter()
        .map(|(name, regex)| (name, MatchOp::Regex, format!("^(?:{})$", regex.0)));
    let older = equal.chain(regex).map(|(name, op, value)| {
        Matcher::of_alertmanager(name, op, &value).expect("it was compiled when it was read")
    });
    let texts = texts.iter().flat_map(|text| text.matchers.iter().cloned());
    Selector::sorted(older.chain(texts).collect())
}

fn time_interval(interval: &TimeInterval) -> mute::TimeInterval {
    mute::TimeInterval {
        name: interval.name.as_str().into(),
        spans: interval.time_intervals.iter().map(span).collect(),
    }
}

fn span(span: &Span) -> mute::Span {
    fn all<T, U>(ranges: &Option<Vec<T>>, of: impl Fn(&T) -> U) -> Option<Vec<U>> {
        ranges
            .as_ref()
            .map(|ranges| ranges.iter().map(of).collect())
    }
    mute::Span {
        times: all(&span.times, |range| range.start_time.0..range.end_time.0),
        weekdays: all(&span.weekdays, |range| range.0..=range.1),
        days_of_month: all(&span.days_of_month, |range| (range.0, range.1)),
        months: all(&span.months, |range| range.0..=range.1),
        years: all(&span.years, |range| range.0..=range.1),
        location: span
            .location
            .as_ref()
            .map_or(TimeZone::UTC, |location| location.zone.clone()),
    }
}
