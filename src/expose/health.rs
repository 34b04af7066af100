//! Whether the daemon lives and whether it is ready, in a word for people and a status for machines.

use axum::Router;
use axum::extract;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;

use super::state::State;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        // The names under which Prometheus and Alertmanager have the same.
        .route("/-/healthy", get(alive))
        .route("/-/ready", get(ready))
}

async fn alive() -> &'static str {
    "ok\n"
}

async fn ready(extract::State(state): extract::State<State>) -> Response {
    match state.board.not_ready() {
        None => "ready\n".into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        )
            .into_response(),
    }
}
