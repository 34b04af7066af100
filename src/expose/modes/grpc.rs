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
            EventBody::Alert { .. }
            | EventBody::Freeze { .. }
            | EventBody::Silence { .. }
            | EventBody::Proposal { .. }
            | EventBody::Acknowledged { .. }
            | EventBody::Episode { .. }
            | EventBody::Plan { .. }
            | EventBody::Dismissed { .. } => false,
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
            .instruction
            .features
            .iter()
            .map(|(name, value)| (name.clone(), value.to_string()))
            .collect(),
        sequence: state.sequence,
        lease_until_unix_nano: state.lease_expires_at.as_nanos(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;
    use tonic::transport::Channel;

    use super::*;
    use crate::expose::modes::Limits;
    use crate::expose::modes::fixture::{Fixture, NOW, mode, mode_event};
    use crate::expose::modes::proto::modes_client::ModesClient;

    fn fixture(renew: Duration) -> Fixture {
        let limits = Limits {
            watchers: 2,
            renew,
            ..Limits::default()
        };
        Fixture::new(limits)
    }

    async fn client(fixture: &Fixture) -> ModesClient<Channel> {
        let address = fixture.serve().await;
        ModesClient::connect(format!("http://{address}"))
            .await
            .unwrap()
    }

    fn get(service: &str) -> GetRequest {
        GetRequest {
            service: service.into(),
        }
    }

    fn watch(service: &str) -> WatchRequest {
        WatchRequest {
            service: service.into(),
        }
    }

    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn get_tells_the_mode_or_that_there_is_none() {
        let fixture = fixture(NEVER);
        let mut client = client(&fixture).await;
        let mode = client.get(get("pay")).await.unwrap().into_inner();
        let expected = Mode {
            service: "pay".into(),
            mode: "degraded".into(),
            since_unix_nano: NOW.as_nanos(),
            reasons: vec!["0000000000000007".into()],
            features: [("max_steps".into(), "1".into())].into(),
            sequence: 0,
            lease_until_unix_nano: NOW.plus(Duration::from_secs(30)).as_nanos(),
        };
        assert_eq!(mode, expected);
        for (service, code) in [("nobody", Code::NotFound), ("", Code::InvalidArgument)] {
            let status = client.get(get(service)).await.unwrap_err();
            assert_eq!(status.code(), code, "{service}");
        }
        fixture.board.set_ready(Some("starting".into()));
        let status = client.get(get("nobody")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        let status = client.get(get(&"x".repeat(20_000))).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
    }

    #[tokio::test]
    async fn watch_tells_the_present_and_every_change_of_that_service() {
        let fixture = fixture(NEVER);
        let mut client = client(&fixture).await;
        let mut modes = client.watch(watch("pay")).await.unwrap().into_inner();
        assert_eq!(modes.message().await.unwrap().unwrap().mode, "degraded");
        fixture
            .board
            .append([mode_event(1, "cart", 2), mode_event(2, "pay", 2)]);
        let told = modes.message().await.unwrap().unwrap();
        assert_eq!((told.mode.as_str(), told.sequence), ("critical", 2));
        fixture.board.append([mode_event(3, "pay", 0)]);
        assert_eq!(modes.message().await.unwrap().unwrap().mode, "normal");
        fixture.stop.cancel();
        assert_eq!(modes.message().await.unwrap_err().code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn a_service_may_watch_before_it_is_known_and_hears_renewed_leases() {
        let fixture = fixture(Duration::from_millis(1));
        let mut client = client(&fixture).await;
        let mut modes = client.watch(watch("new")).await.unwrap().into_inner();
        fixture.publish([mode("new", 0, 0)]);
        let first = modes.message().await.unwrap().unwrap();
        assert_eq!(first.mode, "normal");
        // Only the lease is later.
        let mut renewed = mode("new", 0, 0);
        renewed.lease_expires_at = NOW.plus(Duration::from_secs(60));
        fixture.publish([renewed]);
        let second = modes.message().await.unwrap().unwrap();
        assert!(second.lease_until_unix_nano > first.lease_until_unix_nano);
        // A change that the board does not show yet is not taken back by a renewal.
        fixture.board.append([mode_event(9, "new", 1)]);
        assert_eq!(modes.message().await.unwrap().unwrap().mode, "degraded");
        let mut after = mode("new", 1, 9);
        after.lease_expires_at = NOW.plus(Duration::from_secs(90));
        fixture.publish([after]);
        let third = modes.message().await.unwrap().unwrap();
        assert_eq!((third.mode.as_str(), third.sequence), ("degraded", 9));
    }

    #[tokio::test]
    async fn too_many_watchers_and_slow_ones_are_told_so() {
        let fixture = fixture(NEVER);
        let mut client = client(&fixture).await;
        let mut first = client.watch(watch("pay")).await.unwrap().into_inner();
        let second = client.watch(watch("pay")).await.unwrap();
        let refused = client.watch(watch("pay")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert_eq!(first.message().await.unwrap().unwrap().mode, "degraded");
        // A burst that no buffer holds.
        fixture
            .board
            .append((1..=1000).map(|n| mode_event(n, "pay", 1)));
        let ended = loop {
            match first.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a watch does not end without saying why"),
                Err(status) => break status,
            }
        };
        assert_eq!(ended.code(), Code::ResourceExhausted);
        drop(second);
        fixture.nobody_watches().await;
        assert_eq!(fixture.telemetry.watchers.get(), 0);
        let mut again = client.watch(watch("pay")).await.unwrap().into_inner();
        assert!(again.message().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn unknown_methods_are_unimplemented() {
        let fixture = fixture(NEVER);
        let headers = [("content-type", "application/grpc")];
        let path = "/tidewatch.v1.Modes/Nothing";
        let (status, headers, _) = fixture.ask("POST", path, &headers, "").await;
        assert_eq!(status, 200);
        assert_eq!(headers["grpc-status"], "12");
    }
}
