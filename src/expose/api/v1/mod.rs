//! Our own API: what the engine knows, as lists with a cursor.

mod alerts;
mod audit;
mod decisions;
mod receivers;
mod report;
mod series;
mod services;

use axum::Router;
use axum::routing::{get, post};

use crate::expose::state::State;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/series", get(series::list))
        .route("/series/{id}/samples", get(series::samples))
        .route("/alerts", get(alerts::list))
        .route("/alerts/{fingerprint}", get(alerts::one))
        .route("/alerts/{fingerprint}/dismiss", post(alerts::dismiss))
        .route("/incidents", get(alerts::incidents))
        .route("/incidents/{id}", get(alerts::incident))
        // These stand before services of the same names, which are still in the list of modes.
        .route("/modes/proposals", get(decisions::proposals))
        .route("/modes/proposals/{id}/approve", post(decisions::approve))
        .route("/modes/proposals/{id}/reject", post(decisions::reject))
        .route("/modes/episodes", get(decisions::episodes))
        .route("/modes/plans", get(decisions::plans))
        .route("/modes/audit", get(audit::list))
        .route("/receivers", get(receivers::list))
        .route("/services", get(services::list))
        .route("/topology", get(services::topology))
        .route("/report", get(report::report))
}

#[cfg(test)]
mod tests;
