//! `GET /api/v1/events`: every alert and mode event as server-sent events.
//!
//! The first event is `snapshot` (`modes`, `levels`, `freeze`, and `alerts` unless they are not wanted),
//! unless the watcher resumes by `Last-Event-ID` from a point that the log still reaches back to. Then come
//! events, each with its `sequence`, `time` and `type` beside what happened. `?service=` leaves out what is
//! about other services, `?type=mode,freeze` what is of other kinds.
//!
//! While nothing happens, a comment says so, with the number that the watcher may resume from; to a watcher
//! of one service's mode, an event `lease` says until when its instruction holds. Neither comes once the
//! leases have run out, because nothing is decided any more: then the watcher is to hear silence.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior};

use super::State;
use super::shown::Shown;
use crate::expose::answer::ApiError;
use crate::model::{Alert, Event, EventBody, Timestamp};
use crate::publish::{Board, Feed, Freeze, Kinds, Topic};

/// Makes nginx pass events on at once instead of a page full of them at a time.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

#[derive(Deserialize)]
struct Wish {
    service: Option<String>,
    /// Kinds of events, with commas between them.
    r#type: Option<String>,
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
    modes: Vec<Shown<'a>>,
    alerts: Vec<&'a Alert>,
}

#[derive(Serialize)]
struct LeaseData<'a> {
    service: &'a str,
    mode: &'a str,
    /// Of the instruction.
    sequence: u64,
    lease_expires_at: Timestamp,
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
    let kinds = wish.r#type.as_deref().map_or(Ok(Kinds::ALL), Kinds::parse);
    let topic = Topic {
        service: wish.service.map(Arc::from),
        kinds: kinds.map_err(|wrong| ApiError::bad_data(format!("type: {wrong}")))?,
    };
    let header = headers
        .get("last-event-id")
        .map(|value| value.to_str().unwrap_or("not a number"));
    let last = header.or(wish.last_event_id.as_deref()).map(str::trim);
    // What is not one of our numbers is answered like a number too old: with the present state.
    let after = last.and_then(|text| text.parse().ok());
    let place = state.place()?;
    let feed = state.board.subscribe(topic.clone(), after, place);
    // Sent at once, so that the client knows that it is connected even when nothing happens.
    let mut hello = format!("retry: {}\n: tidewatch\n\n", state.limits.retry.as_millis());
    if after.is_none() || feed.gap() {
        let snapshot = snapshot(&state.board, &topic, feed.begins_after());
        hello.push_str(&snapshot.unwrap_or_default());
    }
    let mut heartbeat = tokio::time::interval(state.limits.heartbeat);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once.
    heartbeat.reset();
    let watcher = Watcher {
        first: Some(hello.into()),
        feed,
        heartbeat,
        topic,
        state,
    };
    let frames = stream::unfold(watcher, |mut watcher| async move {
        let frame = watcher.next().await?;
        Some((Ok::<_, Infallible>(frame), watcher))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (UNBUFFERED, HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// One watcher's stream.
struct Watcher {
    first: Option<Bytes>,
    feed: Feed,
    heartbeat: Interval,
    topic: Topic,
    state: State,
}

impl Watcher {
    /// The next piece of the stream; `None`: it ends, because the watcher was away for too long or we stop.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            tokio::select! {
                biased;
                () = self.state.stop.cancelled() => return None,
                entry = self.feed.next() => {
                    let entry = entry.ok()?;
                    self.heartbeat.reset();
                    return Some(entry.form(frame));
                }
                _ = self.heartbeat.tick() => {
                    if let Some(sequence) = self.feed.idle_at()
                        && let Some(alive) = self.alive(sequence)
                    {
                        return Some(alive.into());
                    }
                }
            }
        }
    }

    /// What is said while nothing happens, up to event `sequence`; `None`: the leases have run out.
    fn alive(&self, sequence: u64) -> Option<String> {
        let modes = self.state.board.modes();
        let told = match &self.topic.service {
            Some(service) => modes.services.get(&**service),
            None => modes.services.values().next(),
        };
        let told = match told {
            Some(told) if !self.state.holds(told) => return None,
            told => told,
        };
        match (&self.topic.service, told) {
            (Some(_), Some(told)) if self.topic.kinds.contains(Kinds::MODE) => {
                let data = serde_json::to_string(&LeaseData {
                    service: &told.service,
                    mode: &told.mode,
                    sequence: told.sequence,
                    lease_expires_at: told.lease_expires_at,
                });
                Some(framed(sequence, "lease", &data.ok()?))
            }
            // An id without data is no event to the client, which remembers it all the same: so it does not
            // ask for what was not its topic when it comes back.
            _ => Some(format!("id: {sequence}\n: alive\n\n")),
        }
    }
}

/// An event as it goes over the wire; empty if it cannot be written, which our own types always can.
fn frame(event: &Event) -> Bytes {
    let data = serde_json::to_string(&EventData {
        sequence: event.sequence,
        time: event.time,
        body: &event.body,
    });
    let data = data.unwrap_or_default();
    framed(event.sequence, event.name(), &data).into()
}

/// `data` is JSON, which has no line breaks.
fn framed(id: u64, name: &str, data: &str) -> String {
    let mut text = String::with_capacity(data.len() + 48);
    write!(text, "id: {id}\nevent: {name}\ndata: {data}\n\n").expect("a String takes everything");
    text
}

/// The present state as an event. No event up to number `sequence` is missing from it; some later ones may
/// be in it, too.
fn snapshot(board: &Board, topic: &Topic, sequence: u64) -> Option<String> {
    let (modes, alerts) = (board.modes(), board.alerts());
    let service = topic.service.as_deref();
    let wanted = |name: &str| service.is_none_or(|service| service == name);
    let told: Vec<_> = match service {
        Some(service) => modes.services.get(service).into_iter().collect(),
        None => modes.services.values().collect(),
    };
    let wants_alerts = topic.kinds.contains(Kinds::ALERT);
    let alerts = alerts.iter().map(Arc::as_ref);
    let alerts = alerts.filter(|alert| wants_alerts && wanted(&alert.service));
    let data = SnapshotData {
        sequence,
        levels: modes.levels.names(),
        freeze: modes.freeze.as_ref(),
        modes: told.iter().map(|told| Shown::from(&modes, told)).collect(),
        alerts: alerts.collect(),
    };
    let data = serde_json::to_string(&data).ok()?;
    Some(framed(sequence, "snapshot", &data))
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

    /// The data of the next events of a body, without a network.
    async fn read(body: &mut Body, count: usize) -> Vec<String> {
        let mut text = String::new();
        while text.matches("\ndata: ").count() < count {
            let frame = body.frame().await.expect("the stream goes on").unwrap();
            text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
        let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
        ids.map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_watcher_that_reads_late_holds_up_nobody_and_misses_nothing() {
        let fixture = fixture();
        let mut late = open(&fixture, "/api/v1/events").await;
        let address = fixture.serve().await;
        let mut reader = Client::connect(address, "/api/v1/events", "").await;
        reader.event().await.unwrap();
        for sequence in 1..=400 {
            fixture.board.append([mode_event(sequence, "pay", 1)]);
            assert_eq!(reader.id().await, sequence.to_string());
        }
        // A burst that no queue holds.
        fixture
            .board
            .append((401..=2000).map(|n| mode_event(n, "pay", 1)));
        for sequence in 401..=2000_u64 {
            assert_eq!(reader.id().await, sequence.to_string());
        }
        let expected: Vec<_> = (0..=2000_u64).map(|id| id.to_string()).collect();
        assert_eq!(read(&mut late, 2001).await, expected, "with the snapshot");
        assert_eq!(fixture.telemetry.watchers.get(), 2);
        assert_eq!(fixture.telemetry.watchers_dropped.get(), 0);
    }

    #[tokio::test]
    async fn a_watcher_that_never_reads_is_dropped_when_the_log_has_moved_on() {
        let fixture = fixture();
        let mut idle = open(&fixture, "/api/v1/events").await;
        fixture
            .board
            .append((1..=10_065).map(|n| mode_event(n, "pay", 1)));
        assert_eq!(fixture.telemetry.watchers_dropped.get(), 1);
        assert_eq!(fixture.telemetry.watchers.get(), 0);
        // What was in its queue is still there; then its stream ends, and it may resume.
        read(&mut idle, 65).await;
        assert!(idle.frame().await.is_none());
    }

    #[tokio::test]
    async fn events_of_other_kinds_are_left_out() {
        let fixture = fixture();
        fixture.board.set_alerts(vec![Arc::new(alert("pay"))]);
        let address = fixture.serve().await;
        let path = "/api/v1/events?service=pay&type=mode,freeze";
        let mut client = Client::connect(address, path, "").await;
        let (_, name, snapshot) = client.event().await.unwrap();
        assert_eq!(
            (name.as_str(), &snapshot["alerts"]),
            ("snapshot", &serde_json::json!([]))
        );
        let fires = EventBody::Alert {
            from: None,
            alert: alert("pay"),
        };
        fixture
            .board
            .append([event(1, fires), mode_event(2, "pay", 1)]);
        assert_eq!(client.id().await, "2");
        let (status, _, error) = fixture
            .ask("GET", "/api/v1/events?type=nonsense", &[], "")
            .await;
        assert_eq!(status, 400);
        let message = error["error"].as_str().unwrap();
        assert!(
            message.contains("`nonsense`") && message.contains("mode"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn silence_is_filled_with_leases_until_they_run_out() {
        let limits = Limits {
            heartbeat: Duration::from_millis(1),
            ..Limits::default()
        };
        let fixture = Fixture::new(limits);
        fixture.board.append([mode_event(9, "cart", 0)]);
        let path = "/api/v1/events?service=pay&type=mode";
        let mut body = open(&fixture, path).await;
        let ids = read(&mut body, 3).await;
        // What was not its topic is not asked for again.
        assert_eq!(ids, ["9"; 3]);
        let frame = body.frame().await.unwrap().unwrap();
        let text = std::str::from_utf8(frame.data_ref().unwrap())
            .unwrap()
            .to_owned();
        let expected = "id: 9\nevent: lease\ndata: {\"service\":\"pay\",\"mode\":\"degraded\",\
                        \"sequence\":0,\"lease_expires_at\":\"1970-01-12T13:47:10Z\"}\n\n";
        assert_eq!(text, expected);
        // Nobody decides any more: the next that is heard is a change, long after the heartbeats were due.
        fixture.run_out();
        fixture.publish([mode("pay", 1, 0)]);
        let mut late = open(&fixture, path).await;
        read(&mut late, 1).await;
        let silence = tokio::time::timeout(Duration::from_millis(50), late.frame()).await;
        assert!(silence.is_err(), "{silence:?}");
        fixture.board.append([mode_event(10, "pay", 2)]);
        assert_eq!(read(&mut late, 1).await, ["10"]);
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
        while client.block().await.expect("a stream without end") != "id: 0\n: alive" {}
    }

    #[tokio::test]
    async fn streams_end_when_the_daemon_stops() {
        let fixture = fixture();
        let address = fixture.serve().await;
        let mut client = Client::connect(address, "/api/v1/events", "").await;
        client.event().await.unwrap();
        fixture.stop.cancel();
        assert_eq!(client.event().await, None);
        fixture.nobody_watches().await;
    }
}
