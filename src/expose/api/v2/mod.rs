//! Alertmanager's API, version 2, so that amtool and Grafana's data source work as they are.
//!
//! Only firing alerts are alerts here: pending ones have not left their rule yet, and Alertmanager
//! drops resolved ones. There are no silences and nothing is inhibited; the answers say so. Errors are a
//! JSON string, as Alertmanager gives them.

mod alerts;
mod filter;
mod groups;
mod status;

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;

use crate::expose::answer::ApiError;
use crate::expose::state::State;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/alerts", get(alerts::list).post(no_posted_alerts))
        .route("/alerts/groups", get(groups::list))
        .route("/receivers", get(status::receivers))
        .route("/status", get(status::status))
        .route("/silences", get(silences).post(no_new_silences))
        .route("/silence/{id}", get(no_silence).delete(no_silence))
}

/// An error as Alertmanager gives it.
struct Error(StatusCode, String);

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self(error.status, error.message)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// Silences cannot be made yet, so there are none.
async fn silences() -> Json<[(); 0]> {
    Json([])
}

async fn no_new_silences() -> Error {
    let message =
        "this version of Tidewatch has no silences; turn the rule off or change its route";
    Error(StatusCode::METHOD_NOT_ALLOWED, message.into())
}

async fn no_silence() -> Error {
    Error(StatusCode::NOT_FOUND, "there is no such silence".into())
}

async fn no_posted_alerts() -> Error {
    let message = "Tidewatch raises its own alerts and takes none; send OTLP instead";
    Error(StatusCode::METHOD_NOT_ALLOWED, message.into())
}

#[cfg(test)]
mod tests;
