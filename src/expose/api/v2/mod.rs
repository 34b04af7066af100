//! Alertmanager's API, version 2, so that amtool, Prometheus, Grafana's data source and other clients work
//! as they are. What is answered fits Alertmanager's description of it, errors too.
//!
//! Only firing alerts are alerts here: pending ones have not left their rule yet, and Alertmanager
//! drops resolved ones.

mod alerts;
mod body;
mod error;
mod filter;
mod groups;
mod posted;
mod silences;
mod status;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use http::Method;

use crate::expose::state::State;
use error::Error;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route(
            "/alerts",
            get(alerts::list)
                .post(posted::take)
                .layer(DefaultBodyLimit::disable())
                .fallback(only_get_and_post),
        )
        .route("/alerts/groups", get(groups::list).fallback(only_get))
        .route("/receivers", get(status::receivers).fallback(only_get))
        .route("/status", get(status::status).fallback(only_get))
        .route(
            "/silences",
            get(silences::list)
                .post(silences::set)
                .fallback(only_get_and_post),
        )
        .route(
            "/silence/{id}",
            get(silences::one)
                .delete(silences::expire)
                .fallback(only_get_and_delete),
        )
        .fallback(error::unknown_path)
}

async fn only_get(method: Method) -> Error {
    not_allowed(&method, "GET")
}

async fn only_get_and_post(method: Method) -> Error {
    not_allowed(&method, "GET,POST")
}

async fn only_get_and_delete(method: Method) -> Error {
    not_allowed(&method, "DELETE,GET")
}

fn not_allowed(method: &Method, allowed: &str) -> Error {
    let message = format!("method {method} is not allowed, but [{allowed}] are");
    Error::coded(405, message)
}

#[cfg(test)]
mod tests;
