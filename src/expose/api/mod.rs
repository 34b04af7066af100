//! The API: our own under `/api/v1`, Alertmanager's under `/api/v2`.

mod v1;
mod v2;

use axum::Router;

use super::state::State;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .nest("/api/v1", v1::routes())
        .nest("/api/v2", v2::routes())
}
