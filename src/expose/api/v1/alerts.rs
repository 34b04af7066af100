use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract;
use axum::response::Response;
use serde::Deserialize;

use crate::expose::answer::{ApiError, success, success_page};
use crate::expose::ask::ask;
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{Alert, Fingerprint, Incident};
use crate::publish::Command;

/// Longest author and comment, in characters.
const MAX_AUTHOR: usize = 256;
const MAX_COMMENT: usize = 2_000;
/// How long the decision task may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Alerts that are pending, firing or were resolved lately, with everything that is known of them, by
/// fingerprint.
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit(state.settings.page_default, state.settings.page_limit)?;
    let cursor: Option<Fingerprint> = match params.get("cursor") {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| {
            ApiError::bad_data("invalid parameter `cursor`: expected a fingerprint")
        })?),
    };
    let alerts = state.board.alerts();
    // The board has them in this order.
    let mut behind = alerts
        .iter()
        .filter(|alert| cursor.is_none_or(|cursor| alert.fingerprint > cursor));
    let page: Vec<Arc<Alert>> = behind.by_ref().take(limit).cloned().collect();
    let next = behind.next().and(page.last());
    let next = next.map(|alert| alert.fingerprint.to_string());
    Ok(success_page(page, next))
}

/// One alert.
pub(super) async fn one(
    extract::State(state): extract::State<State>,
    extract::Path(fingerprint): extract::Path<String>,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::not_found("there is no such alert");
    // What cannot be a fingerprint is not the fingerprint of anything.
    let fingerprint: Fingerprint = fingerprint.parse().map_err(|_| unknown())?;
    let alerts = state.board.alerts();
    let alert = alerts.iter().find(|alert| alert.fingerprint == fingerprint);
    alert
        .map(|alert| success(alert.as_ref()))
        .ok_or_else(unknown)
}

/// Who calls an alert normal, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    author: String,
    comment: String,
}

/// "This was normal": ends an alert, teaches its detectors, and is remembered.
pub(super) async fn dismiss(
    extract::State(state): extract::State<State>,
    extract::Path(fingerprint): extract::Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let unknown = |_| ApiError::not_found("there is no such alert");
    let fingerprint: Fingerprint = fingerprint.parse().map_err(unknown)?;
    let Answer { author, comment } = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_data(format!("invalid body: {error}")))?;
    let (author, comment) = (
        within("author", &author, MAX_AUTHOR)?,
        within("comment", &comment, MAX_COMMENT)?,
    );
    let command = |reply| Command::Dismiss {
        fingerprint,
        author,
        comment,
        reply,
    };
    let alert = ask(&state.board, PATIENCE, command).await?;
    Ok(success(alert))
}

pub(super) fn within(name: &str, text: &str, most: usize) -> Result<String, ApiError> {
    match text.trim() {
        "" => Err(ApiError::bad_data(format!("{name} is empty"))),
        text if text.chars().count() > most => Err(ApiError::bad_data(format!(
            "{name} is longer than {most} characters"
        ))),
        text => Ok(text.to_owned()),
    }
}

/// Incidents: those that go on, then those that ended within a day, the newest first.
pub(super) async fn incidents(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit(state.settings.page_default, state.settings.page_limit)?;
    let incidents = state.board.incidents();
    let page: Vec<Arc<Incident>> = incidents.iter().take(limit).cloned().collect();
    Ok(success_page(page, None))
}

/// One incident.
pub(super) async fn incident(
    extract::State(state): extract::State<State>,
    extract::Path(id): extract::Path<String>,
) -> Result<Response, ApiError> {
    let incidents = state.board.incidents();
    let incident = incidents.iter().find(|incident| incident.id == id);
    incident
        .map(|incident| success(incident.as_ref()))
        .ok_or_else(|| ApiError::not_found("there is no such incident"))
}
