//! `GET /api/v1/events`: every alert and mode event as server-sent events.
//!
//! The first event is `snapshot` (`alerts`, `modes`, `levels`, `freeze`), unless the watcher resumes by
//! `Last-Event-ID` from a point that the log still reaches back to. Then come `alert`, `mode` and `freeze`
//! events, each with its `sequence`, `time` and `type` beside what happened. `?service=` leaves out what
//! is about other services.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio_stream::wrappers::ReceiverStream;

use super::State;
use super::watch::{Item, Snapshot, Start};
use crate::expose::answer::ApiError;
use crate::model::{Alert, Event, EventBody, ModeState, Timestamp};
use crate::publish::Freeze;

#[derive(Deserialize)]
struct Wish {
    service: Option<String>,
    /// For clients that cannot set headers; the header wins, since a browser sends it when it resumes.
    last_event_id: Option<String>,
}

#[derive(Serialize)]
struct EventData<'a> {
    sequence: u64,
    time: Timestamp,
    #[serde(flatten)]
    body: &'a EventBody,
}

#[derive(Serialize)]
struct SnapshotData<'a> {
    sequence: u64,
    levels: &'a [String],
    freeze: Option<&'a Freeze>,
    modes: Vec<&'a ModeState>,
    alerts: Vec<&'a Alert>,
}

pub(super) fn routes() -> Router<State> {
    Router::new().route("/api/v1/events", get(events))
}

async fn events(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(wish) = wish.map_err(|rejection| ApiError::bad_data(rejection.body_text()))?;
    let header = headers
        .get("last-event-id")
        .map(|value| value.to_str().unwrap_or("not a number"));
    let last = header.or(wish.last_event_id.as_deref()).map(str::trim);
    let start = match last {
        None | Some("") => Start::Present,
        // What is not one of our numbers is answered like a number too old: with the present state.
        Some(text) => text.parse().map_or(Start::Present, Start::After),
    };
    let service: Option<Arc<str>> = wish.service.map(Arc::from);
    let wanted = service.clone();
    let filter = move |event: &Event| match (&wanted, event.service()) {
        (Some(wanted), Some(service)) => **wanted == *service,
        (Some(_), None) | (None, _) => true,
    };
    let items = state.watch(start, Box::new(filter))?;

    // Sent at once, so that the client knows that it is connected even when nothing happens.
    let hello = Line::default()
        .retry(state.limits.retry)
        .comment("tidewatch");
    let lines = ReceiverStream::new(items).filter_map(move |item| {
        let line = line(&item, service.as_deref());
        std::future::ready(line)
    });
    let lines = stream::iter([hello]).chain(lines).map(Ok::<_, Infallible>);
    let alive = KeepAlive::new()
        .interval(state.limits.heartbeat)
        .text("alive");
    let mut response = Sse::new(lines).keep_alive(alive).into_response();
    // Or nginx would keep events back until it has a page full of them.
    response
        .headers_mut()
        .insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    Ok(response)
}

/// One event as it goes over the wire; `None` if it cannot be written, which our own types always can.
fn line(item: &Item, service: Option<&str>) -> Option<Line> {
    match item {
        Item::Event(event) => Line::default()
            .id(event.sequence.to_string())
            .event(event.name())
            .json_data(EventData {
                sequence: event.sequence,
                time: event.time,
                body: &event.body,
            })
            .ok(),
        Item::Snapshot(snapshot) => Line::default()
            .id(snapshot.sequence.to_string())
            .event("snapshot")
            .json_data(snapshot_data(snapshot, service))
            .ok(),
    }
}

fn snapshot_data<'a>(snapshot: &'a Snapshot, service: Option<&str>) -> SnapshotData<'a> {
    let wanted = |name: &str| service.is_none_or(|service| service == name);
    let modes = snapshot.modes.services.values();
    let alerts = snapshot.alerts.iter().map(Arc::as_ref);
    SnapshotData {
        sequence: snapshot.sequence,
        levels: snapshot.modes.levels.names(),
        freeze: snapshot.modes.freeze.as_ref(),
        modes: modes.filter(|state| wanted(&state.service)).collect(),
        alerts: alerts.filter(|alert| wanted(&alert.service)).collect(),
    }
}
