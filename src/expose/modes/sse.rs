//! `GET /api/v1/events`: every alert and mode event as server-sent events.
//!
//! The first event is `snapshot` (`alerts`, `modes`, `levels`, `freeze`), unless the watcher resumes by
//! `Last-Event-ID` from a point that the log still reaches back to. Then come `alert`, `mode` and `freeze`
//! events, each with its `sequence`, `time` and `type` beside what happened. `?service=` leaves out what
//! is about other services.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio_stream::wrappers::ReceiverStream;

use super::State;
use super::watch::{Item, Snapshot, Start};
use crate::expose::answer::ApiError;
use crate::model::{Alert, Event, EventBody, ModeState, Timestamp};
use crate::publish::Freeze;

#[derive(Deserialize)]
struct Wish {
    service: Option<String>,
    /// For clients that cannot set headers; the header wins, since a browser sends it when it resumes.
    last_event_id: Option<String>,
}

#[derive(Serialize)]
struct EventData<'a> {
    sequence: u64,
    time: Timestamp,
    #[serde(flatten)]
    body: &'a EventBody,
}

#[derive(Serialize)]
struct SnapshotData<'a> {
    sequence: u64,
    levels: &'a [String],
    freeze: Option<&'a Freeze>,
    modes: Vec<&'a ModeState>,
    alerts: Vec<&'a Alert>,
}

pub(super) fn routes() -> Router<State> {
    Router::new().route("/api/v1/events", get(events))
}

async fn events(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(wish) = wish.map_err(|rejection| ApiError::bad_data(rejection.body_text()))?;
    let header = headers
        .get("last-event-id")
        .map(|value| value.to_str().unwrap_or("not a number"));
    let last = header.or(wish.last_event_id.as_deref()).map(str::trim);
    let start = match last {
        None | Some("") => Start::Present,
        // What is not one of our numbers is answered like a number too old: with the present state.
        Some(text) => text.parse().map_or(Start::Present, Start::After),
    };
    let service: Option<Arc<str>> = wish.service.map(Arc::from);
    let wanted = service.clone();
    let filter = move |event: &Event| match (&wanted, event.service()) {
        (Some(wanted), Some(service)) => **wanted == *service,
        (Some(_), None) | (None, _) => true,
    };
    let items = state.watch(start, Box::new(filter))?;

    // Sent at once, so that the client knows that it is connected even when nothing happens.
    let hello = Line::default()
        .retry(state.limits.retry)
        .comment("tidewatch");
    let lines = ReceiverStream::new(items).filter_map(move |item| {
        let line = line(&item, service.as_deref());
        std::future::ready(line)
    });
    let lines = stream::iter([hello]).chain(lines).map(Ok::<_, Infallible>);
    let alive = KeepAlive::new()
        .interval(state.limits.heartbeat)
        .text("alive");
    let mut response = Sse::new(lines).keep_alive(alive).into_response();
    // Or nginx would keep events back until it has a page full of them.
    response
        .headers_mut()
        .insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    Ok(response)
}

/// One event as it goes over the wire; `None` if it cannot be written, which our own types always can.
fn line(item: &Item, service: Option<&str>) -> Option<Line> {
    match item {
        Item::Event(event) => Line::default()
            .id(event.sequence.to_string())
            .event(event.name())
            .json_data(EventData {
                sequence: event.sequence,
                time: event.time,
                body: &event.body,
            })
            .ok(),
        Item::Snapshot(snapshot) => Line::default()
            .id(snapshot.sequence.to_string())
            .event("snapshot")
            .json_data(snapshot_data(snapshot, service))
            .ok(),
    }
}

fn snapshot_data<'a>(snapshot: &'a Snapshot, service: Option<&str>) -> SnapshotData<'a> {
    let wanted = |name: &str| service.is_none_or(|service| service == name);
    let modes = snapshot.modes.services.values();
    let alerts = snapshot.alerts.iter().map(Arc::as_ref);
    SnapshotData {
        sequence: snapshot.sequence,
        levels: snapshot.modes.levels.names(),
        freeze: snapshot.modes.freeze.as_ref(),
        modes: modes.filter(|state| wanted(&state.service)).collect(),
        alerts: alerts.filter(|alert| wanted(&alert.service)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::SocketAddr;
    use std::time::Duration;

    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tower::ServiceExt as _;

    use super::*;
    use crate::expose::modes::fixture::{Fixture, alert, event, mode, mode_event};
    use crate::expose::modes::{Limits, routes};
    use crate::model::AlertState;

    /// A client as an EventSource is one: lines of text over a real connection.
    struct Client {
        connection: TcpStream,
        text: String,
        blocks: VecDeque<String>,
    }

    impl Client {
        /// Connects; HTTP/1.0 so that nothing but the events is in the body.
        async fn connect(address: SocketAddr, path: &str, headers: &str) -> Self {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.0\r\n{headers}\r\n");
            connection.write_all(request.as_bytes()).await.unwrap();
            Self {
                connection,
                text: String::new(),
                blocks: VecDeque::new(),
            }
        }

        /// The next block up to an empty line; `None` when the server has ended.
        async fn block(&mut self) -> Option<String> {
            loop {
                if let Some(block) = self.blocks.pop_front() {
                    return Some(block);
                }
                let mut bytes = [0; 4096];
                match self.connection.read(&mut bytes).await {
                    Ok(0) | Err(_) => return None,
                    Ok(read) => self.text += std::str::from_utf8(&bytes[..read]).unwrap(),
                }
                self.text = self.text.replace("\r\n", "\n");
                while let Some(end) = self.text.find("\n\n") {
                    let rest = self.text.split_off(end + 2);
                    let block = std::mem::replace(&mut self.text, rest);
                    self.blocks.push_back(block.trim_end().to_owned());
                }
            }
        }

        /// The next event: id, name and data.
        async fn event(&mut self) -> Option<(String, String, Value)> {
            loop {
                let block = self.block().await?;
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim_start().to_owned())
                };
                if let Some(data) = field("data:") {
                    let data = serde_json::from_str(&data).unwrap();
                    return Some((field("id:")?, field("event:")?, data));
                }
            }
        }

        async fn id(&mut self) -> String {
            self.event().await.expect("an event").0
        }
    }

    fn fixture() -> Fixture {
        Fixture::new(Limits::default())
    }

    #[tokio::test]
    async fn a_watcher_sees_the_present_and_then_everything() {
        let fixture = fixture();
        fixture.board.append([mode_event(5, "pay", 1)]);
        fixture
            .board
            .set_alerts(vec![Arc::new(alert("pay")), Arc::new(alert("ship"))]);
        let address = fixture.serve().await;
        let mut all = Client::connect(address, "/api/v1/events", "").await;
        let head = all.block().await.unwrap();
        assert!(head.starts_with("HTTP/1.0 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        let hello = all.block().await.unwrap();
        assert!(
            hello.contains("retry: 2000") && hello.contains(": tidewatch"),
            "{hello}"
        );
        let (id, name, snapshot) = all.event().await.unwrap();
        assert_eq!((id.as_str(), name.as_str()), ("5", "snapshot"));
        assert_eq!(snapshot["levels"][1], "degraded");
        assert_eq!(snapshot["modes"][1]["mode"], "degraded");
        assert_eq!(snapshot["alerts"][1]["service"], "ship");
        assert_eq!(snapshot["freeze"], Value::Null);

        let mut pay = Client::connect(address, "/api/v1/events?service=pay", "").await;
        let (_, _, snapshot) = pay.event().await.unwrap();
        assert_eq!(snapshot["modes"].as_array().unwrap().len(), 1);
        assert_eq!(snapshot["alerts"].as_array().unwrap().len(), 1);

        let fires = EventBody::Alert {
            from: Some(AlertState::Pending),
            alert: alert("ship"),
        };
        let frozen = EventBody::Freeze {
            frozen: true,
            author: "alice".into(),
            reason: "two\nlines".into(),
        };
        let events = [event(6, fires), mode_event(7, "pay", 2), event(8, frozen)];
        fixture.board.append(events);
        let (id, name, data) = all.event().await.unwrap();
        assert_eq!((id.as_str(), name.as_str()), ("6", "alert"));
        assert_eq!(
            (&data["type"], &data["sequence"]),
            (&"alert".into(), &6.into())
        );
        assert_eq!(
            (&data["from"], &data["alert"]["lower"]),
            (&"pending".into(), &Value::Null)
        );
        let (_, name, data) = all.event().await.unwrap();
        assert_eq!(name, "mode");
        assert_eq!(
            (&data["from"], &data["state"]["mode"]),
            (&"normal".into(), &"critical".into())
        );
        let (_, name, data) = all.event().await.unwrap();
        assert_eq!(
            (name.as_str(), &data["reason"]),
            ("freeze", &"two\nlines".into())
        );

        // Another's alert is left out; what concerns all is not.
        assert_eq!(pay.id().await, "7");
        assert_eq!(pay.id().await, "8");
        assert_eq!(fixture.telemetry.watchers.get(), 2);
        drop((all, pay));
        fixture.nobody_watches().await;
        assert_eq!(fixture.telemetry.watchers.get(), 0);
        assert_eq!(fixture.telemetry.watchers_dropped.get(), 0);
    }

    #[tokio::test]
    async fn a_dropped_connection_resumes_without_loss_or_repetition() {
        let fixture = fixture();
        fixture
            .board
            .append((1..=3).map(|n| mode_event(n, "pay", 1)));
        let address = fixture.serve().await;
        let mut client = Client::connect(address, "/api/v1/events", "Last-Event-ID: 1\r\n").await;
        assert_eq!(client.id().await, "2");
        assert_eq!(client.id().await, "3");
        fixture.board.append([mode_event(4, "pay", 0)]);
        assert_eq!(client.id().await, "4");
        drop(client);
        fixture
            .board
            .append((5..=600).map(|n| mode_event(n, "pay", 1)));

        // More than fits into a watcher's buffer at once, then live ones.
        for (path, header) in [
            ("/api/v1/events", "Last-Event-ID: 4\r\n"),
            ("/api/v1/events?last_event_id=4", ""),
            ("/api/v1/events?last_event_id=1", "Last-Event-ID: 4\r\n"),
        ] {
            let mut client = Client::connect(address, path, header).await;
            for expected in 5..=600 {
                let (id, name, _) = client.event().await.unwrap();
                assert_eq!((id, name.as_str()), (expected.to_string(), "mode"));
            }
        }
        let mut client = Client::connect(address, "/api/v1/events?last_event_id=600", "").await;
        let hello = client.block().await.unwrap();
        assert!(hello.starts_with("HTTP/1.0 200"), "{hello}");
        fixture.board.append([mode_event(601, "pay", 0)]);
        assert_eq!(client.id().await, "601");
    }

    #[tokio::test]
    async fn a_gap_begins_with_the_present_state() {
        let fixture = fixture();
        fixture
            .board
            .append((100..=110).map(|n| mode_event(n, "pay", 1)));
        let address = fixture.serve().await;
        for last in [
            "7",
            "0",
            "999999",
            "18446744073709551615",
            "-1",
            "garbage",
            "\u{7f}",
            "",
        ] {
            let header = format!("Last-Event-ID: {last}\r\n");
            let mut client = Client::connect(address, "/api/v1/events", &header).await;
            let Some((id, name, _)) = client.event().await else {
                // Not a header at all: hyper refuses it.
                assert_eq!(last, "\u{7f}");
                continue;
            };
            assert_eq!((id.as_str(), name.as_str()), ("110", "snapshot"), "{last}");
        }
        // The oldest in the log is 100: whoever saw 99 has missed nothing else.
        let mut client = Client::connect(address, "/api/v1/events?last_event_id=99", "").await;
        assert_eq!(client.id().await, "100");
    }

    #[tokio::test]
    async fn too_many_watchers_are_sent_away_until_one_leaves() {
        let limits = Limits {
            watchers: 2,
            ..Limits::default()
        };
        let fixture = Fixture::new(limits);
        let address = fixture.serve().await;
        let mut first = Client::connect(address, "/api/v1/events", "").await;
        let mut second = Client::connect(address, "/api/v1/events", "").await;
        first.event().await.unwrap();
        second.event().await.unwrap();
        let (status, _, error) = fixture.ask("GET", "/api/v1/events", &[], "").await;
        assert_eq!(
            (status.as_u16(), &error["errorType"]),
            (503, &"unavailable".into())
        );
        drop((first, second));
        fixture.nobody_watches().await;
        let mut third = Client::connect(address, "/api/v1/events", "").await;
        third.event().await.unwrap();
    }

    async fn open(fixture: &Fixture, path: &str) -> Body {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = routes(fixture.state.clone())
            .oneshot(request)
            .await
            .unwrap();
        response.into_body()
    }

    #[tokio::test]
    async fn a_watcher_that_never_reads_is_dropped_and_holds_up_nobody() {
        let fixture = fixture();
        let idle = open(&fixture, "/api/v1/events").await;
        let address = fixture.serve().await;
        let mut reader = Client::connect(address, "/api/v1/events", "").await;
        reader.event().await.unwrap();
        for sequence in 1..=400 {
            fixture.board.append([mode_event(sequence, "pay", 1)]);
            assert_eq!(reader.id().await, sequence.to_string());
        }
        assert_eq!(fixture.telemetry.watchers_dropped.get(), 1);
        assert_eq!(fixture.telemetry.watchers.get(), 1);
        // What was in its buffer is still there; then its stream ends, and it may resume.
        let rest = idle.collect().await.unwrap().to_bytes();
        let rest = std::str::from_utf8(&rest).unwrap();
        assert_eq!(
            rest.matches("event: mode").count(),
            255,
            "256 with the snapshot"
        );
    }

    #[tokio::test]
    async fn a_burst_beyond_the_buffer_drops_who_could_not_follow() {
        let fixture = fixture();
        let body = open(&fixture, "/api/v1/events").await;
        fixture
            .board
            .append((1..=1000).map(|n| mode_event(n, "pay", 1)));
        fixture.nobody_watches().await;
        assert_eq!(fixture.telemetry.watchers_dropped.get(), 1);
        body.collect()
            .await
            .expect("the stream ends in an orderly way");
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_catch_up_is_dropped() {
        let limits = Limits {
            stall: Duration::from_millis(1),
            ..Limits::default()
        };
        let fixture = Fixture::new(limits);
        fixture
            .board
            .append((1..=300).map(|n| mode_event(n, "pay", 1)));
        let body = open(&fixture, "/api/v1/events?last_event_id=0").await;
        fixture.nobody_watches().await;
        assert_eq!(fixture.telemetry.watchers_dropped.get(), 1);
        drop(body);
    }

    #[tokio::test]
    async fn silence_is_filled_with_comments() {
        let limits = Limits {
            heartbeat: Duration::from_millis(1),
            ..Limits::default()
        };
        let fixture = Fixture::new(limits);
        let address = fixture.serve().await;
        let mut client = Client::connect(address, "/api/v1/events", "").await;
        while client.block().await.expect("a stream without end") != ": alive" {}
    }

    #[tokio::test]
    async fn streams_end_when_the_daemon_stops() {
        let fixture = fixture();
        let address = fixture.serve().await;
        let mut client = Client::connect(address, "/api/v1/events", "").await;
        client.event().await.unwrap();
        fixture.stop.cancel();
        fixture.state.drained().await;
        assert_eq!(client.event().await, None);
        fixture.publish([mode("cart", 0, 0)]);
    }
}
