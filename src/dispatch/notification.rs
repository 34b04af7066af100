use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::route::Node;
use crate::model::{Alert, AlertState, Labels, Timestamp};

/// Alerts listed in one notification. More make a body that no receiver likes; they are counted.
const MAX_LISTED: usize = 100;

/// Whether anything of a group still fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// At least one alert fires.
    Firing,
    /// All are resolved.
    Resolved,
}

impl Status {
    /// `firing` or `resolved`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// Why a notification is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The receiver does not know of an alert that fires, or not how severe it is.
    #[default]
    Firing,
    /// Nothing has begun, but alerts are over. Who does not want to hear of that hears nothing.
    Resolved,
    /// What fires was told too long ago.
    Repeat,
}

/// What a receiver is told about one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Name of the receiver.
    pub receiver: String,
    /// Identifies the group, as Alertmanager writes it: the route and the group's labels,
    /// `{}/{team="shop"}:{service="checkout"}`.
    pub group_key: String,
    /// The labels that the group has in common by configuration.
    pub group_labels: Labels,
    /// The labels that all its alerts have in common.
    pub common_labels: Labels,
    /// The annotations that all its alerts have in common.
    pub common_annotations: Labels,
    /// Firing ones first, then the worst, then the oldest; at most 100.
    pub alerts: Vec<Arc<Alert>>,
    /// How many more there are.
    pub truncated: u64,
    /// Whether anything still fires.
    pub status: Status,
    /// Why it is sent.
    #[serde(default)]
    pub reason: Reason,
    /// When it was decided to send it.
    pub decided_at: Timestamp,
}

impl Notification {
    /// The notification about one alert that takes no route: it is a group of its own.
    pub fn alone(receiver: &str, alert: Arc<Alert>, now: Timestamp) -> Self {
        let labels = alert.labels.clone();
        let reason = match alert.state {
            AlertState::Resolved => Reason::Resolved,
            AlertState::Pending | AlertState::Firing => Reason::Firing,
        };
        Self::of((receiver, "{}"), &labels, vec![alert], reason, now)
    }

    /// The notification about `alerts`, which may be in any order.
    pub(super) fn new(
        route: &Node,
        group_labels: &Labels,
        alerts: Vec<Arc<Alert>>,
        reason: Reason,
        now: Timestamp,
    ) -> Self {
        let to = (&*route.receiver, &*route.key);
        Self::of(to, group_labels, alerts, reason, now)
    }

    fn of(
        (receiver, route_key): (&str, &str),
        group_labels: &Labels,
        mut alerts: Vec<Arc<Alert>>,
        reason: Reason,
        now: Timestamp,
    ) -> Self {
        let calm = |alert: &Alert| alert.state != AlertState::Firing;
        alerts.sort_by(|a, b| {
            let by_severity = b.severity.cmp(&a.severity);
            let by_age = a
                .since
                .cmp(&b.since)
                .then(a.fingerprint.cmp(&b.fingerprint));
            calm(a).cmp(&calm(b)).then(by_severity).then(by_age)
        });
        let fires = alerts.first().is_some_and(|alert| !calm(alert));
        let common_labels = common(alerts.iter().map(|alert| &alert.labels));
        let common_annotations = common(alerts.iter().map(|alert| &alert.annotations));
        let truncated = alerts.len().saturating_sub(MAX_LISTED) as u64;
        alerts.truncate(MAX_LISTED);
        Self {
            receiver: receiver.to_owned(),
            group_key: group_key(route_key, group_labels),
            group_labels: group_labels.clone(),
            common_labels,
            common_annotations,
            alerts,
            truncated,
            status: if fires {
                Status::Firing
            } else {
                Status::Resolved
            },
            reason,
            decided_at: now,
        }
    }
}

/// `{}/{team="shop"}:{a="1", b="2"}`: the route's key, and the group's labels as Alertmanager prints them.
pub(super) fn group_key(route: &str, labels: &Labels) -> String {
    let mut quoted: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}={}", quote(value)))
        .collect();
    // By the whole text: `a1="x"` stands before `a="x"`.
    quoted.sort_unstable();
    format!("{route}:{{{}}}", quoted.join(", "))
}

/// In double quotes, as Go's `%q` writes it.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{7f}' if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The pairs that all of `sets` hold.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let mut common: BTreeMap<&str, &str> = sets
        .next()
        .map(|set| set.iter().collect())
        .unwrap_or_default();
    for set in sets {
        common.retain(|name, value| set.get(name) == Some(value));
    }
    common.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::fixtures::{alert, resolved};
    use crate::dispatch::{Route, Routes};
    use crate::model::SeverityLabel;

    #[test]
    fn group_keys_are_those_of_alertmanager() {
        let check = |labels: &[(&str, &str)], expected: &str| {
            let labels = labels.iter().copied().collect();
            assert_eq!(group_key("{}", &labels), expected);
        };
        check(&[], "{}:{}");
        check(&[("service", "checkout")], r#"{}:{service="checkout"}"#);
        check(
            &[("b", "x\"\\\n\u{1}"), ("a", "ü")],
            r#"{}:{a="ü", b="x\"\\\n\x01"}"#,
        );
        check(&[("a", "x"), ("a1", "y")], r#"{}:{a1="y", a="x"}"#);
    }

    #[test]
    fn the_worst_come_first_and_the_rest_is_counted() {
        let mut alerts = vec![Arc::new(resolved(
            &alert("checkout", "Gone"),
            Timestamp::EPOCH,
        ))];
        for at in 0..150 {
            let mut one = alert("checkout", &format!("A{at}"));
            if at == 140 {
                one.severity = SeverityLabel::Critical;
            }
            one.since = Timestamp::from_secs(1_000 - at);
            alerts.push(Arc::new(one));
        }
        let group = [("service", "checkout")].into_iter().collect();
        let routes = Routes::new(&Route::default());
        let root = routes.node(0).expect("a root");
        let notification =
            Notification::new(root, &group, alerts, Reason::Firing, Timestamp::EPOCH);
        assert_eq!(
            (notification.alerts.len(), notification.truncated),
            (100, 51)
        );
        assert_eq!(notification.status, Status::Firing);
        let names: Vec<_> = notification
            .alerts
            .iter()
            .take(3)
            .map(|a| a.name())
            .collect();
        assert_eq!(names, ["A140", "A149", "A148"]);
        assert_eq!(notification.common_labels, group);
    }
}
