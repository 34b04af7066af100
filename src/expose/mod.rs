//! Everything that is looked at from outside on port 9517: the page, `/metrics`, the API, the
//! Alertmanager API, health.
//!
//! In comes what others published: the notice board ([`Board`]), the engine's read handle
//! ([`Query`]) and a [`Report`]. Out go HTTP answers. Invariants: no request reaches the engine's own
//! state, so a scrape never waits for ingestion; every answer, body and list has a bound; nothing of a
//! request names a file; only a `Host` that is loopback or configured is answered.

mod answer;
mod api;
pub(crate) mod aside;
mod ask;
mod guard;
mod health;
mod metrics;
pub mod modes;
mod ofrep;
mod params;
mod server;
mod state;
mod ui;

#[cfg(test)]
mod fakes;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode, Uri};

use crate::model::{BoxFuture, Event, Query, ReceiverView, Timestamp};
use crate::publish::Board;

pub use server::{Error, Server};
pub use state::{Settings, Sources};

use answer::ApiError;
use state::State;

/// Writes the performance report: per service statistics, worst deviations, recommendations. It takes a while,
/// and is asked on a thread for that.
pub trait Report: Send + Sync + 'static {
    /// For programs.
    fn json(&self) -> BoxFuture<'_, serde_json::Value>;

    /// For people, in Markdown.
    fn markdown(&self) -> BoxFuture<'_, String>;
}

/// How delivery to receivers goes.
pub trait Deliveries: Send + Sync + 'static {
    /// All receivers.
    fn receivers(&self) -> Vec<ReceiverView>;
}

/// Which entries of the audit are asked for. All that are set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// About this service; entries that concern all services are among them, too.
    pub service: Option<String>,
    /// Of one of these kinds, by the name of the event; empty: of any.
    pub types: Vec<String>,
    /// Not older than this.
    pub from: Option<Timestamp>,
    /// Not newer than this.
    pub to: Option<Timestamp>,
    /// Only what stands before the event of this number.
    pub before: Option<u64>,
    /// So many at most.
    pub limit: usize,
}

/// Entries of the audit, the newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditPage {
    /// The entries.
    pub events: Vec<Event>,
    /// Where the next page begins ([`AuditQuery::before`]); `None`: there is nothing older.
    pub next: Option<u64>,
}

/// What was decided about modes, for as long as it is kept.
pub trait Audit: Send + Sync + 'static {
    /// One page. The error says in words why it cannot be read.
    fn page(&self, query: AuditQuery) -> BoxFuture<'_, Result<AuditPage, String>>;
}

/// All routes of port 9517, without the guard around them.
fn routes(state: State, modes: modes::State) -> Router {
    Router::new()
        .merge(ui::routes())
        .merge(health::routes())
        .merge(metrics::routes())
        .merge(api::routes())
        .merge(ofrep::routes())
        .with_state(state)
        .merge(modes::routes(modes))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
}

async fn unknown_path(uri: Uri) -> Response {
    ApiError::not_found(format!("there is no {}", uri.path())).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    ApiError {
        status: StatusCode::METHOD_NOT_ALLOWED,
        error_type: "bad_data",
        message: format!("{} does not take {method}", uri.path()),
    }
    .into_response()
}
