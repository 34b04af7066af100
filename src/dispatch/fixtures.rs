//! What the tests of this module are made of.

use std::sync::Arc;

use std::time::Duration;

use super::{GroupBy, Route, Settings};
use crate::model::{Alert, AlertState, Labels, SeverityLabel, Timestamp, Transition};

/// One route to `oncall`, by service: 10 s, 5 min, 4 h.
pub(super) fn settings() -> Settings {
    routed(Route {
        receiver: Some("oncall".into()),
        group_by: Some(GroupBy::Labels(vec!["service".into()])),
        group_wait: Some(Duration::from_secs(10)),
        ..Route::default()
    })
}

/// These routes.
pub(super) fn routed(route: Route) -> Settings {
    Settings {
        route,
        ..Settings::default()
    }
}

/// A firing warning of `service`.
pub(super) fn alert(service: &str, name: &str) -> Alert {
    let labels: Labels = [("alertname", name), ("service", service)]
        .into_iter()
        .collect();
    let fingerprint = labels.fingerprint();
    Alert {
        fingerprint,
        labels,
        annotations: Labels::default(),
        state: AlertState::Firing,
        severity: SeverityLabel::Warning,
        severity_score: 0.5,
        service: service.into(),
        signal_id: format!("{:032x}-p99", 1),
        unit: "s".into(),
        observed: 0.3,
        expected: 0.1,
        lower: f64::NEG_INFINITY,
        upper: 0.2,
        sigma: 5.0,
        worst_sigma: 5.0,
        anomalous_samples: 1,
        since: Timestamp::EPOCH,
        fired_at: Some(Timestamp::EPOCH),
        resolved_at: None,
        updated_at: Timestamp::EPOCH,
        trace_id: None,
        grounds: Default::default(),
    }
}

/// The same with `severity`, in the label too.
pub(super) fn with_severity(alert: &Alert, severity: SeverityLabel) -> Alert {
    let mut alert = alert.clone();
    alert.severity = severity;
    alert.labels.set("severity", severity.name());
    alert
}

/// The same, resolved.
pub(super) fn resolved(alert: &Alert, at: Timestamp) -> Alert {
    Alert {
        state: AlertState::Resolved,
        resolved_at: Some(at),
        ..alert.clone()
    }
}

/// The transition to what `alert` is. It fires since then.
pub(super) fn to(mut alert: Alert, at: Timestamp) -> Transition {
    if alert.state == AlertState::Firing {
        alert.fired_at = Some(at);
    }
    Transition {
        from: None,
        alert: Arc::new(alert),
        at,
    }
}
