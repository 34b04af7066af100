//! gRPC `tidewatch.v1.Modes`.
//!
//! `Get` of an unknown service is NOT_FOUND. `Watch` of one is allowed, because a service may ask before
//! it has sent anything: its stream is silent until the service is known.

use std::pin::Pin;

use axum::Router;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::{Request, Response, Status};
use tower::ServiceExt as _;

use super::State;
use super::proto::modes_server::{Modes, ModesServer};
use super::proto::{GetRequest, Mode, WatchRequest};
use super::watch::{Item, Start};
use crate::model::{Event, EventBody, ModeState};

/// A service's name is short; nothing else comes in.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

struct Service(State);

/// Not tonic's own `Routes`: they bring a fallback, of which a merged router can have only one.
pub(super) fn routes(state: State) -> Router<State> {
    let service = ModesServer::new(Service(state)).max_decoding_message_size(MAX_REQUEST_BYTES);
    let service = service.map_request(|request: http::Request<axum::body::Body>| {
        request.map(tonic::body::Body::new)
    });
    Router::new().route_service("/tidewatch.v1.Modes/{*method}", service)
}

#[tonic::async_trait]
impl Modes for Service {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Mode>, Status> {
        let service = named(request.into_inner().service)?;
        let modes = self.0.board.modes();
        match (modes.services.get(&service), self.0.board.not_ready()) {
            (Some(state), _) => Ok(Response::new(message(state))),
            // It may only not be known yet.
            (None, Some(reason)) => Err(Status::unavailable(reason)),
            (None, None) => Err(Status::not_found(format!(
                "there is no service `{service}`"
            ))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<Mode, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = named(request.into_inner().service)?;
        let of = service.clone();
        let filter = move |event: &Event| match &event.body {
            EventBody::Mode(change) => change.state.service == of,
            EventBody::Alert { .. } | EventBody::Freeze { .. } => false,
        };
        let items = self.0.watch(Start::Present, Box::new(filter));
        let items = items.map_err(|error| Status::unavailable(error.message))?;
        let mut renewal = tokio::time::interval(self.0.limits.renew);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watch = Watch {
            state: self.0.clone(),
            service,
            items,
            renewal,
            last: Mode::default(),
        };
        let told = stream::try_unfold(watch, |mut watch| async move {
            let mode = watch.next().await?;
            Ok(Some((mode, watch)))
        });
        Ok(Response::new(Box::pin(told)))
    }
}

/// One watcher's stream.
struct Watch {
    state: State,
    service: String,
    items: mpsc::Receiver<Item>,
    renewal: Interval,
    /// What was told last.
    last: Mode,
}

impl Watch {
    /// Waits for something to tell: a change, or a renewed lease.
    async fn next(&mut self) -> Result<Mode, Status> {
        loop {
            let mode = tokio::select! {
                // A change goes before a renewal that is due at the same time.
                biased;
                item = self.items.recv() => match item {
                    Some(Item::Event(event)) => changed(&event),
                    Some(Item::Snapshot(snapshot)) => {
                        snapshot.modes.services.get(&self.service).map(message)
                    }
                    None if self.state.stop.is_cancelled() => {
                        return Err(Status::unavailable("shutting down"));
                    }
                    None => return Err(Status::resource_exhausted("fell behind; watch again")),
                },
                _ = self.renewal.tick() => {
                    self.state.board.modes().services.get(&self.service).map(message)
                }
            };
            let is_news = |mode: &Mode| {
                let held = mode.lease_until_unix_nano > self.last.lease_until_unix_nano;
                // The board may be a moment behind the event that was told last.
                mode.sequence > self.last.sequence || (mode.sequence == self.last.sequence && held)
            };
            if let Some(mode) = mode.filter(is_news) {
                self.last = mode.clone();
                return Ok(mode);
            }
        }
    }
}

fn named(service: String) -> Result<String, Status> {
    if service.is_empty() {
        return Err(Status::invalid_argument("`service` is empty"));
    }
    Ok(service)
}

fn changed(event: &Event) -> Option<Mode> {
    let EventBody::Mode(change) = &event.body else {
        return None;
    };
    Some(Mode {
        sequence: event.sequence,
        ..message(&change.state)
    })
}

fn message(state: &ModeState) -> Mode {
    Mode {
        service: state.service.clone(),
        mode: state.mode.clone(),
        since_unix_nano: state.since.as_nanos(),
        reasons: state
            .why
            .iter()
            .map(|reason| reason.fingerprint.to_string())
            .collect(),
        features: state
            .features
            .iter()
            .map(|(name, value)| (name.clone(), value.to_string()))
            .collect(),
        sequence: state.sequence,
        lease_until_unix_nano: state.lease_expires_at.as_nanos(),
    }
}
