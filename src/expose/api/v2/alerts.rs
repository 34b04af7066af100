use std::time::Duration;

use axum::{Json, extract};
use serde::Serialize;

use super::Error;
use super::filter::Filter;
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{Alert, Fingerprint, Labels, Timestamp};

/// An alert that still fires is said to end this long from now, as Alertmanager says of alerts without
/// an end of their own (its `resolve_timeout`).
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(300);

/// An alert as `gettableAlert` of Alertmanager's OpenAPI description.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GettableAlert {
    annotations: Labels,
    ends_at: Timestamp,
    fingerprint: Fingerprint,
    receivers: Vec<Receiver>,
    starts_at: Timestamp,
    status: AlertStatus,
    updated_at: Timestamp,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    labels: Labels,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertStatus {
    inhibited_by: [String; 0],
    silenced_by: [String; 0],
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Receiver {
    pub(super) name: String,
}

impl GettableAlert {
    pub(super) fn of(alert: &Alert, state: &State) -> Self {
        Self {
            annotations: alert.annotations.clone(),
            ends_at: state.clock.now().plus(RESOLVE_TIMEOUT),
            fingerprint: alert.fingerprint,
            receivers: vec![Receiver {
                name: state.settings.routing.receiver.clone(),
            }],
            starts_at: alert.fired_at.unwrap_or(alert.since),
            status: AlertStatus {
                inhibited_by: [],
                silenced_by: [],
                state: "active",
            },
            updated_at: alert.updated_at,
            generator_url: format!("{}/#{}", state.base_url, alert.signal_id),
            labels: alert.labels.clone(),
        }
    }
}

pub(super) async fn list(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Json<Vec<GettableAlert>>, Error> {
    let alerts = Filter::from_params(&params)?.apply(&state);
    let shown = alerts.iter().map(|alert| GettableAlert::of(alert, &state));
    Ok(Json(shown.collect()))
}
