//! Which receiver is told of which alerts, how often, and when not. Alertmanager's words and meaning: its
//! blocks `route`, `inhibit_rules`, `time_intervals` and `mute_time_intervals` read as they are.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::receiver::LOG_RECEIVER;
use super::units::Period;

mod inhibit;
mod matchers;
mod time_interval;

pub use inhibit::InhibitRule;
pub use matchers::{MatcherText, RegexText};
pub use time_interval::{
    DayRange, Location, MonthRange, Span, TimeInterval, TimeOfDay, TimeRange, WeekdayRange,
    YearRange,
};

/// A node of the tree of routes. An alert goes down from the first to each `routes` that matches it, and
/// stays where none does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Name of the receiver; `log` is always there. Unset: that of the route around this one; of the first
    /// route `log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// Alerts that agree in these labels come in one notification. `['...']`: each alert by itself;
    /// `[incident]`: one for each incident, over all services that it touches. Empty or unset: as the route
    /// around this one; of the first route all alerts in one. Without any `route`: `[service]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    /// How long a new group waits for further alerts before it is first told. `0`: not at all. Unset: as the
    /// route around this one; of the first route 30s. Without any `route`: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_wait: Option<Period>,
    /// How often it is looked for changes in a group, which are told then. At least 1s. Unset: as the route
    /// around this one; of the first route 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_interval: Option<Period>,
    /// After so long an unchanged group that still fires is told again, at the next `group_interval`. Unset:
    /// as the route around this one; of the first route 4h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_interval: Option<Period>,
    /// Conditions on labels, all of which an alert must meet: `severity = critical`, `team =~ "a|b"`. Not in
    /// the first route, which takes every alert.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matchers: Vec<MatcherText>,
    /// Labels and the values they must have; an older form of `matchers`.
    #[serde(rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    pub equal: BTreeMap<String, String>,
    /// Labels and the regular expressions their values must match as a whole; an older form of `matchers`.
    #[serde(rename = "match_re", skip_serializing_if = "BTreeMap::is_empty")]
    pub regex: BTreeMap<String, RegexText>,
    /// Names of `time_intervals` in which nothing is told. What then still fires is told afterwards. They
    /// hold for this route, not for those in it. Not in the first route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mute_time_intervals: Vec<String>,
    /// Names of `time_intervals`; outside of all of them nothing is told. Empty: it is always told. As
    /// `mute_time_intervals` for this route alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active_time_intervals: Vec<String>,
    /// Whether an alert that this route takes is offered to those after it, too.
    #[serde(rename = "continue", skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
    /// The routes in this one. The first that matches takes an alert.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

impl Route {
    /// The route of a configuration that has none.
    pub(super) fn builtin() -> Self {
        Self {
            receiver: Some(LOG_RECEIVER.into()),
            group_by: Some(vec!["service".into()]),
            group_wait: Some(Period::secs(10)),
            group_interval: Some(Period::secs(5 * 60)),
            repeat_interval: Some(Period::secs(4 * 3600)),
            ..Self::default()
        }
    }

    /// As the first route, with what it does not say written out.
    pub(super) fn written_out(mut self) -> Self {
        self.receiver.get_or_insert_with(|| LOG_RECEIVER.into());
        self.group_by.get_or_insert_default();
        self.group_wait.get_or_insert(Period::secs(30));
        self.group_interval.get_or_insert(Period::secs(5 * 60));
        self.repeat_interval.get_or_insert(Period::secs(4 * 3600));
        self
    }
}
