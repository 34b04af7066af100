use std::collections::BTreeMap;

use axum::extract;
use axum::response::Response;
use serde::Serialize;

use crate::expose::answer::{success, success_page};
use crate::expose::state::State;
use crate::model::{AlertState, Level, SeverityLabel, Timestamp};

/// How a service does, by its firing alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    /// No alert fires.
    Healthy,
    /// The worst alert that fires is a warning.
    Warning,
    /// A critical alert fires.
    Critical,
}

#[derive(Debug, Serialize)]
struct Service {
    service: String,
    health: Health,
    /// Name of its level; `normal` also while no policy has spoken of it.
    mode: String,
    /// Rank of the level, 0 is normal.
    level: Level,
    mode_since: Option<Timestamp>,
    alerts: Alerts,
    /// These are unknown of a service that has sent nothing since the daemon started.
    first_seen: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    series: u64,
    refused_series: u64,
    /// About how much memory what is known of it takes, without what all services share.
    state_bytes: u64,
}

#[derive(Debug, Default, Serialize)]
struct Alerts {
    firing: u32,
    pending: u32,
}

/// All services, by name: those that report, and those that have a mode or an alert.
pub(super) async fn list(extract::State(state): extract::State<State>) -> Response {
    let seen = state.query.services().await;
    let bytes = state.query.state_bytes().await;
    let alerts = state.board.alerts();
    let modes = state.board.modes();
    let normal = modes.levels.names().first().cloned().unwrap_or_default();
    let unheard = |service: &str| Service {
        service: service.to_owned(),
        health: Health::Healthy,
        mode: normal.clone(),
        level: Level::default(),
        mode_since: None,
        alerts: Alerts::default(),
        first_seen: None,
        last_seen: None,
        series: 0,
        refused_series: 0,
        state_bytes: 0,
    };
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    for view in seen {
        let mut service = unheard(&view.service);
        service.first_seen = Some(view.first_seen);
        service.last_seen = Some(view.last_seen);
        service.series = view.series;
        service.refused_series = view.refused_series;
        service.state_bytes = bytes.get(&view.service).copied().unwrap_or(0);
        services.insert(view.service, service);
    }
    for (name, mode) in &modes.services {
        let service = services
            .entry(name.clone())
            .or_insert_with(|| unheard(name));
        service.mode.clone_from(&mode.mode);
        service.level = mode.level;
        service.mode_since = Some(mode.since);
    }
    for alert in alerts
        .iter()
        .filter(|alert| alert.state != AlertState::Resolved)
    {
        let service = services
            .entry(alert.service.clone())
            .or_insert_with(|| unheard(&alert.service));
        let health = match (alert.state, alert.severity) {
            (AlertState::Firing, severity) => {
                service.alerts.firing += 1;
                match severity {
                    SeverityLabel::Warning => Health::Warning,
                    SeverityLabel::Critical => Health::Critical,
                }
            }
            (AlertState::Pending | AlertState::Resolved, _) => {
                service.alerts.pending += 1;
                Health::Healthy
            }
        };
        service.health = service.health.max(health);
    }
    let services: Vec<_> = services.into_values().collect();
    success_page(services, None)
}

/// Who calls whom, by caller and callee.
pub(super) async fn topology(extract::State(state): extract::State<State>) -> Response {
    success(state.query.edges().await)
}
