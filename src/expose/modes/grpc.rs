//! gRPC `tidewatch.v1.Modes`.
//!
//! `Get` and `Ack` of an unknown service are NOT_FOUND. `Watch` of one is allowed, because a service may ask
//! before it has sent anything: its stream is silent until the service is known.

use std::pin::Pin;

use axum::Router;
use futures_util::{Stream, stream};
use http::StatusCode;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::{Request, Response, Status};
use tower::ServiceExt as _;

use super::State;
use super::proto::modes_server::{Modes, ModesServer};
use super::proto::{AckRequest, AckResponse, GetRequest, Mode, WatchRequest};
use crate::expose::answer::ApiError;
use crate::model::{Acknowledgement, ModeState};
use crate::publish::{Follow, Place};

/// Largest request. Each field has a bound of its own, far below, which is named to whoever goes beyond it;
/// this only bounds memory.
const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// Longest name of a service, in bytes; no known service has a longer one.
const MAX_SERVICE: usize = 2_048;

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
        let told = self.0.told(&service).map_err(status)?;
        Ok(Response::new(message(&told)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<Mode, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = named(request.into_inner().service)?;
        let place = self.0.place().map_err(status)?;
        let mut renewal = tokio::time::interval(self.0.limits.renew);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        renewal.reset();
        let watch = Watch {
            follow: self.0.board.follow(&service),
            state: self.0.clone(),
            service,
            renewal,
            begun: false,
            last: Mode::default(),
            _place: place,
        };
        let told = stream::try_unfold(watch, |mut watch| async move {
            let mode = watch.next().await?;
            Ok(Some((mode, watch)))
        });
        Ok(Response::new(Box::pin(told)))
    }

    async fn ack(&self, request: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        let AckRequest {
            service,
            instance,
            mode,
            sequence,
            detail,
        } = request.into_inner();
        let service = named(service)?;
        let acknowledgement = Acknowledgement {
            instance,
            mode,
            sequence,
            detail,
        };
        let told = self.0.acknowledge(service, acknowledgement).await;
        let mode = Some(message(&told.map_err(status)?));
        Ok(Response::new(AckResponse { mode }))
    }
}

/// One watcher's stream.
struct Watch {
    state: State,
    service: String,
    follow: Follow,
    renewal: Interval,
    /// Whether the present state was looked at.
    begun: bool,
    /// What was told last.
    last: Mode,
    _place: Place,
}

impl Watch {
    /// Waits for something to tell: a change, or a renewed lease.
    async fn next(&mut self) -> Result<Mode, Status> {
        loop {
            let mode = if self.begun {
                tokio::select! {
                    // A change goes before a renewal that is due at the same time.
                    biased;
                    () = self.state.stop.cancelled() => {
                        return Err(Status::unavailable("shutting down"));
                    }
                    state = self.follow.changed() => state.as_deref().map(message),
                    _ = self.renewal.tick() => self.public(),
                }
            } else {
                self.begun = true;
                drop(self.follow.now());
                self.public()
            };
            let is_news = |mode: &Mode| {
                let held = mode.lease_until_unix_nano > self.last.lease_until_unix_nano;
                // The board may be a moment behind the change that was told last.
                mode.sequence > self.last.sequence || (mode.sequence == self.last.sequence && held)
            };
            if let Some(mode) = mode.filter(is_news) {
                self.last = mode.clone();
                return Ok(mode);
            }
        }
    }

    fn public(&self) -> Option<Mode> {
        let modes = self.state.board.modes();
        modes.services.get(&self.service).map(message)
    }
}

fn named(service: String) -> Result<String, Status> {
    if service.is_empty() {
        return Err(Status::invalid_argument("`service` is empty"));
    }
    if service.len() > MAX_SERVICE {
        let message = format!("`service` is longer than {MAX_SERVICE} bytes");
        return Err(Status::invalid_argument(message));
    }
    Ok(service)
}

fn status(error: ApiError) -> Status {
    match error.status {
        StatusCode::NOT_FOUND => Status::not_found(error.message),
        StatusCode::BAD_REQUEST => Status::invalid_argument(error.message),
        _ => Status::unavailable(error.message),
    }
}

fn message(state: &ModeState) -> Mode {
    let instruction = &state.instruction;
    let features = instruction.features.iter();
    Mode {
        service: state.service.clone(),
        mode: state.mode.clone(),
        since_unix_nano: state.since.as_nanos(),
        reasons: state
            .why
            .iter()
            .map(|reason| reason.fingerprint.to_string())
            .collect(),
        features: features
            .map(|(name, value)| (name.clone(), value.to_string()))
            .collect(),
        sequence: state.sequence,
        lease_until_unix_nano: state.lease_expires_at.as_nanos(),
        level: state.level.0.into(),
        priority_floor: instruction.priority_floor.name().into(),
        quality: instruction.quality.clone().unwrap_or_default(),
        shed: instruction.shed,
        episode: state.episode.clone().unwrap_or_default(),
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
            level: 1,
            priority_floor: "low".into(),
            quality: String::new(),
            shed: 0.0,
            episode: String::new(),
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
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("`service`"), "{status}");
        let status = client.get(get(&"x".repeat(300_000))).await.unwrap_err();
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
    async fn too_many_watchers_are_told_so_and_slow_ones_hear_the_newest() {
        let fixture = fixture(NEVER);
        let mut client = client(&fixture).await;
        let mut first = client.watch(watch("pay")).await.unwrap().into_inner();
        let second = client.watch(watch("pay")).await.unwrap();
        let refused = client.watch(watch("pay")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert_eq!(first.message().await.unwrap().unwrap().mode, "degraded");
        fixture
            .board
            .append((1..=20_000).map(|n| mode_event(n, "pay", 1)));
        let mut last = 0;
        while last < 20_000 {
            let told = first.message().await.unwrap().unwrap();
            assert!(told.sequence > last);
            last = told.sequence;
        }
        assert_eq!(fixture.telemetry.watchers_dropped.get(), 0);
        drop((first, second));
        fixture.nobody_watches().await;
        assert_eq!(fixture.telemetry.watchers.get(), 0);
        let mut again = client.watch(watch("pay")).await.unwrap().into_inner();
        assert!(again.message().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn acknowledgements_are_passed_on_and_answered_with_what_is_told() {
        let fixture = fixture(NEVER);
        let mut heard = fixture.listen();
        let mut client = client(&fixture).await;
        let ack = |service: &str, mode: &str| AckRequest {
            service: service.into(),
            instance: "pay-1".into(),
            mode: mode.into(),
            sequence: 3,
            detail: String::new(),
        };
        let answer = client.ack(ack("pay", "degraded")).await.unwrap();
        let told = answer.into_inner().mode.unwrap();
        assert_eq!((told.mode.as_str(), told.level), ("degraded", 1));
        let (service, said) = heard.recv().await.unwrap();
        assert_eq!((service.as_str(), said.sequence), ("pay", 3));
        for (service, mode, code) in [
            ("nobody", "degraded", Code::NotFound),
            ("", "degraded", Code::InvalidArgument),
            ("pay", "", Code::InvalidArgument),
            ("pay", "sideways", Code::InvalidArgument),
        ] {
            let status = client.ack(ack(service, mode)).await.unwrap_err();
            assert_eq!(status.code(), code, "{service} {mode}");
        }
        for (field, long) in [
            (
                "detail",
                AckRequest {
                    detail: "x".repeat(20_000),
                    ..ack("pay", "degraded")
                },
            ),
            (
                "instance",
                AckRequest {
                    instance: "x".repeat(20_000),
                    ..ack("pay", "degraded")
                },
            ),
        ] {
            let status = client.ack(long).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{field}");
            assert!(status.message().contains(field), "{status}");
        }
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
