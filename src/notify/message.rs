//! What is delivered, and its form as JSON: Alertmanager's webhook body for alerts, Standard Webhooks'
//! event for mode changes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dispatch::{Notification, Reason};
use crate::model::{Alert, AlertState, Labels, ModeChange, Timestamp};

/// Something to tell a receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// A group of alerts.
    Alerts(Arc<Notification>),
    /// A service was told another mode.
    Mode {
        /// The change.
        change: Arc<ModeChange>,
        /// When it was decided.
        at: Timestamp,
    },
}

/// What Alertmanager says for a time that is not known yet.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertsBody<'a> {
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: u64,
    status: &'static str,
    receiver: &'a str,
    group_labels: &'a Labels,
    common_labels: &'a Labels,
    common_annotations: &'a Labels,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<AlertBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody<'a> {
    status: &'static str,
    labels: &'a Labels,
    annotations: &'a Labels,
    starts_at: Timestamp,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

#[derive(Serialize)]
struct ModeBody<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: &'a ModeChange,
}

/// Whether a receiver is told about resolved alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolved {
    /// It is.
    #[default]
    Send,
    /// It is not.
    Omit,
}

impl Message {
    /// Messages of one key are delivered one after the other, so that the end of an alert never
    /// overtakes its beginning.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Alerts(notification) => notification.group_key.clone(),
            Self::Mode { change, .. } => format!("mode:{}", change.state.service),
        }
    }

    /// When it was decided; latency counts from here.
    pub(super) fn decided_at(&self) -> Timestamp {
        match self {
            Self::Alerts(notification) => notification.decided_at,
            Self::Mode { at, .. } => *at,
        }
    }

    /// The body for `receiver`; `None` when there is nothing left to say to it. `external_url` is
    /// where people reach this daemon, without a slash at the end; links appear only if it is `http`
    /// or `https`. At most `limit` alerts are listed.
    pub(super) fn to_json(
        &self,
        receiver: &str,
        resolved: Resolved,
        external_url: &str,
        limit: usize,
    ) -> Option<Vec<u8>> {
        let json = match self {
            Self::Mode { change, at } => serde_json::to_vec(&ModeBody {
                r#type: "mode.changed",
                timestamp: *at,
                data: change,
            }),
            Self::Alerts(notification) => {
                let mut alerts: Vec<_> = alerts(notification, resolved)
                    .map(|alert| AlertBody::new(alert, external_url))
                    .collect();
                if alerts.is_empty() {
                    return None;
                }
                let left_out = alerts.len().saturating_sub(limit) as u64;
                alerts.truncate(limit);
                serde_json::to_vec(&AlertsBody {
                    version: "4",
                    group_key: &notification.group_key,
                    truncated_alerts: notification.truncated + left_out,
                    status: notification.status.name(),
                    receiver,
                    group_labels: &notification.group_labels,
                    common_labels: &notification.common_labels,
                    common_annotations: &notification.common_annotations,
                    external_url,
                    alerts,
                })
            }
        };
        Some(json.expect("keys are strings and every value has a form in JSON"))
    }
}

/// The alerts of `notification` that a receiver is told. Who does not want to hear of ends hears nothing
/// where nothing else has happened, even if others of the group still fire.
pub(super) fn alerts(
    notification: &Notification,
    resolved: Resolved,
) -> impl Iterator<Item = &Alert> {
    let has_news = notification.reason != Reason::Resolved;
    let told = move |alert: &&Alert| resolved == Resolved::Send || has_news && is_firing(alert);
    notification
        .alerts
        .iter()
        .map(std::convert::AsRef::as_ref)
        .filter(told)
}

pub(super) fn is_firing(alert: &Alert) -> bool {
    alert.state != AlertState::Resolved
}

/// `firing` or `resolved`.
pub(super) fn status(alert: &Alert) -> &'static str {
    match is_firing(alert) {
        true => "firing",
        false => "resolved",
    }
}

/// Where people see `alert` here: its signal on the page; of one that another system reported, the page.
/// Empty where the page cannot be linked to.
pub(super) fn url(alert: &Alert, external_url: &str) -> String {
    match base_url(external_url) {
        base if base.is_empty() || alert.reported().is_some() => base,
        base => format!("{base}#{}", alert.signal_id),
    }
}

/// Where people see what `alert` rests on: its signal on the page, or what the system that reported it says;
/// may be empty.
pub(super) fn generator_url(alert: &Alert, external_url: &str) -> String {
    match alert.reported() {
        Some(reported) => reported.generator_url.clone(),
        None => url(alert, external_url),
    }
}

/// Where people see all alerts. Empty where the page cannot be linked to.
pub(super) fn base_url(external_url: &str) -> String {
    let linkable = external_url.starts_with("http://") || external_url.starts_with("https://");
    match linkable {
        true => format!("{external_url}/"),
        false => String::new(),
    }
}

impl<'a> AlertBody<'a> {
    fn new(alert: &'a Alert, external_url: &str) -> Self {
        Self {
            status: status(alert),
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: alert.fired_at.unwrap_or(alert.since),
            ends_at: match alert.resolved_at {
                Some(at) if !is_firing(alert) => at.rfc3339(),
                Some(_) | None => ZERO_TIME.into(),
            },
            generator_url: generator_url(alert, external_url),
            fingerprint: alert.fingerprint.to_string(),
        }
    }
}
