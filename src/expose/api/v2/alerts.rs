use std::sync::Arc;

use axum::extract;
use axum::response::Response;
use serde::Serialize;

use super::error::Error;
use super::filter::Filter;
use crate::dispatch::Notifying;
use crate::expose::aside::{aside, json};
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{Alert, Fingerprint, Labels, Timestamp};
use crate::mute::{SilenceId, Silences};

/// An alert with who hears of it, or why nobody does.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) alert: Arc<Alert>,
    pub(super) receivers: Vec<Arc<str>>,
    pub(super) silenced_by: Vec<SilenceId>,
    pub(super) inhibited_by: Vec<Fingerprint>,
}

impl Shown {
    pub(super) fn new(
        alert: &Arc<Alert>,
        silences: &Silences,
        notifying: &Notifying,
        now: Timestamp,
    ) -> Self {
        let view = notifying.alerts.get(&alert.fingerprint);
        Self {
            alert: Arc::clone(alert),
            receivers: view.map_or_else(Vec::new, |view| view.receivers.clone()),
            // As of now: who has just silenced an alert wants to see it, and who waits for the end of a
            // silence too.
            silenced_by: silences.matching(&alert.labels, now),
            inhibited_by: view.map_or_else(Vec::new, |view| view.muted.inhibited_by.clone()),
        }
    }
}

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
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    generator_url: String,
    labels: Labels,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertStatus {
    inhibited_by: Vec<Fingerprint>,
    silenced_by: Vec<SilenceId>,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Receiver {
    pub(super) name: String,
}

impl GettableAlert {
    pub(super) fn of(shown: &Shown, state: &State) -> Self {
        let alert = &*shown.alert;
        let muted = !shown.silenced_by.is_empty() || !shown.inhibited_by.is_empty();
        Self {
            annotations: alert.annotations.clone(),
            ends_at: match alert.reported() {
                Some(reported) => reported.ends_at,
                None => state.clock.now().plus(state.settings.resolve_timeout),
            },
            fingerprint: alert.fingerprint,
            receivers: shown
                .receivers
                .iter()
                .map(|name| Receiver {
                    name: name.to_string(),
                })
                .collect(),
            starts_at: alert.fired_at.unwrap_or(alert.since),
            status: AlertStatus {
                inhibited_by: shown.inhibited_by.clone(),
                silenced_by: shown.silenced_by.clone(),
                state: if muted { "suppressed" } else { "active" },
            },
            updated_at: alert.updated_at,
            generator_url: alert.generator_url(&state.base_url),
            labels: alert.labels.clone(),
        }
    }
}

pub(super) async fn list(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, Error> {
    let filter = Filter::from_params(&params)?;
    // There may be tens of thousands.
    let reader = state.clone();
    let answer = move || {
        let alerts = filter.apply(&reader);
        let shown = alerts.iter().map(|shown| GettableAlert::of(shown, &reader));
        json(&shown.collect::<Vec<_>>())
    };
    let answer = aside(&state.telemetry, &state.answers, answer).await;
    answer.ok_or_else(Error::failed)
}
