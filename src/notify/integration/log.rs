//! Notifications as lines of the daemon's own log: the receiver that is always there.

use crate::model::{Alert, AlertState};
use crate::notify::message::Message;

/// Writes one line an alert. Texts come from outside and are shown quoted, so that none of them can
/// pretend to be a line of its own.
pub(super) fn write(id: &str, message: &Message) {
    match message {
        Message::Alerts(notification) => {
            for alert in &notification.alerts {
                write_alert(id, alert);
            }
            if notification.truncated > 0 {
                let group = &notification.group_key;
                tracing::warn!(id, ?group, more = notification.truncated, "more alerts");
            }
        }
        Message::Mode { change, .. } => {
            let (service, mode) = (&change.state.service, &change.state.mode);
            tracing::warn!(id, ?service, from = ?change.from, ?mode, cause = ?change.cause, "mode changed");
        }
    }
}

fn write_alert(id: &str, alert: &Alert) {
    let (name, service) = (alert.name(), &alert.service);
    let severity = alert.severity.name();
    let text = |key| alert.annotations.get(key).filter(|text| !text.is_empty());
    let explanation = text("explanation").or(text("summary")).unwrap_or_default();
    match alert.state {
        AlertState::Resolved => {
            tracing::info!(id, alert = ?name, ?service, severity, explanation = ?explanation, "alert resolved");
        }
        AlertState::Firing | AlertState::Pending => {
            tracing::warn!(id, alert = ?name, ?service, severity, explanation = ?explanation, "alert firing");
        }
    }
}
