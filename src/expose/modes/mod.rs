//! How services and people hear of modes, and how people change them: plain HTTP with `ETag`, server-sent
//! events that resume, and gRPC. All are skins over the [`Board`]: they read what was published and hand
//! commands to the decision task; they decide nothing.
//!
//! An instruction is a lease. Whoever hears anything from here (an answer, a 304, an event, a heartbeat
//! comment, a gRPC message) has heard that it still holds; who hears nothing until `lease_expires_at`
//! goes back to its own default. Leases are those that were published, never made up here, so that they
//! run out when the decision task has stopped.

mod acknowledge;
mod grpc;
mod http;
mod place;
mod poll;
pub mod proto;
mod shown;
mod sse;
#[cfg(test)]
mod fixture;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::ModeState;
use crate::publish::Board;
use crate::telemetry::Telemetry;

/// Bounds of the doors to modes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Watchers of events and modes at once, by whatever door; one more is answered 503. Default 10,000.
    pub watchers: usize,
    /// Largest body of a command, in bytes. Default 64 KiB.
    pub body_bytes: usize,
    /// How long a watcher of events hears nothing before it gets a comment; a fraction of a lease.
    /// Default 10 s.
    pub heartbeat: Duration,
    /// What watchers of events are told to wait before they come back. Default 2 s.
    pub retry: Duration,
    /// How often a gRPC watcher is told that its lease was renewed; a fraction of a lease. Default 10 s.
    pub renew: Duration,
    /// How long a command may take before its caller is told that the outcome is unknown. Default 10 s.
    pub reply: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            watchers: 10_000,
            body_bytes: 64 * 1024,
            heartbeat: Duration::from_secs(10),
            retry: Duration::from_secs(2),
            renew: Duration::from_secs(10),
            reply: Duration::from_secs(10),
        }
    }
}

/// What the doors share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct State {
    board: Board,
    clock: Clock,
    telemetry: Telemetry,
    limits: Limits,
    /// One permit a watcher.
    watchers: Arc<Semaphore>,
    stop: CancellationToken,
}

impl State {
    /// Doors onto `board`. When `stop` is cancelled every watcher's stream ends.
    pub fn new(
        board: Board,
        clock: Clock,
        telemetry: Telemetry,
        limits: Limits,
        stop: CancellationToken,
    ) -> Self {
        Self {
            board,
            clock,
            telemetry,
            watchers: Arc::new(Semaphore::new(limits.watchers)),
            limits,
            stop,
        }
    }

    /// Whether the instruction of `told` still holds: its lease is renewed for as long as somebody decides.
    fn holds(&self, told: &ModeState) -> bool {
        told.lease_expires_at > self.clock.now()
    }
}

/// All routes: `/api/v1/modes…`, `/api/v1/events` and gRPC `tidewatch.v1.Modes`. There is no fallback.
pub fn routes(state: State) -> Router {
    Router::new()
        .merge(grpc::routes(state.clone()))
        .merge(http::routes(state.limits.body_bytes))
        .merge(poll::routes())
        .merge(acknowledge::routes(state.limits.body_bytes))
        .merge(sse::routes())
        .with_state(state)
}
