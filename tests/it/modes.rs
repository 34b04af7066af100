//! How a service hears its mode, and how a person changes it.

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::harness::{Daemon, eventually, otlp, stdout};

/// A stream of server-sent events, read one at a time.
pub struct Events {
    stream:
        std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    buffer: String,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Sse {
    pub id: String,
    pub name: String,
    pub data: Value,
}

impl Events {
    pub async fn open(daemon: &Daemon, query: &str, last_id: Option<&str>) -> Self {
        let mut request =
            reqwest::Client::new().get(format!("http://{}/api/v1/events{query}", daemon.api));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = request
            .send()
            .await
            .expect("events")
            .error_for_status()
            .expect("events");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            stream: Box::pin(answer.bytes_stream()),
            buffer: String::new(),
        }
    }

    /// The next event; comments and retry hints are passed over.
    pub async fn next(&mut self) -> Sse {
        let event = async {
            loop {
                while let Some((event, rest)) = self.buffer.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.buffer = rest;
                    let field = |name: &str| {
                        event
                            .lines()
                            .find_map(|line| line.strip_prefix(name))
                            .map(str::trim)
                    };
                    if let Some(data) = field("data:") {
                        return Sse {
                            id: field("id:").unwrap_or_default().to_owned(),
                            name: field("event:").unwrap_or_default().to_owned(),
                            data: serde_json::from_str(data).expect("JSON"),
                        };
                    }
                }
                let chunk = self
                    .stream
                    .next()
                    .await
                    .expect("the stream goes on")
                    .expect("bytes");
                self.buffer
                    .push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), event)
            .await
            .expect("an event")
    }
}

async fn daemon_that_knows(services: &[&str]) -> Daemon {
    let daemon = Daemon::start("window: {tick: 200ms}").await;
    for service in services {
        let body = otlp::gauge(service, "metric", &[(otlp::now_nanos(), 1.0)]);
        otlp::post_metrics(&daemon.http, &body).await;
    }
    eventually("the services are known", || async {
        let modes = daemon.get("/api/v1/modes").await;
        (modes["data"].as_array().map_or(0, Vec::len) == services.len()).then_some(())
    })
    .await;
    daemon
}

pub fn set(daemon: &Daemon, service: &str, mode: &str, reason: &str) {
    stdout(&daemon.cli(&[
        "mode", "set", service, mode, "--author", "ann", "--reason", reason,
    ]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_override_reaches_watchers_and_a_dropped_one_picks_up_where_it_was() {
    let daemon = daemon_that_knows(&["cart", "checkout"]).await;
    let mut events = Events::open(&daemon, "?service=cart", None).await;
    assert_eq!(events.next().await.name, "snapshot");
    set(&daemon, "checkout", "degraded", "not for cart");
    set(&daemon, "cart", "critical", "first");
    let first = events.next().await;
    assert_eq!(first.name, "mode");
    assert_eq!(first.data["state"]["service"], "cart");
    assert_eq!(first.data["state"]["mode"], "critical");
    assert_eq!(first.data["state"]["override"]["author"], "ann");
    drop(events);

    // While nobody listens, three more things happen.
    set(&daemon, "cart", "degraded", "second");
    stdout(&daemon.cli(&["mode", "clear", "cart", "--author", "ann"]));
    set(&daemon, "cart", "degraded", "third");
    let mut events = Events::open(&daemon, "?service=cart", Some(&first.id)).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = events.next().await;
        seen.push(
            event.data["state"]["mode"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        );
        assert!(event.id.parse::<u64>().expect("a number") > first.id.parse().expect("a number"));
    }
    assert_eq!(seen, ["degraded", "normal", "degraded"]);

    // And over a kill -9.
    let last = first.id.clone();
    drop(events);
    let daemon = daemon.kill_and_restart().await;
    let mut events = Events::open(&daemon, "?service=cart", Some(&last)).await;
    assert_eq!(events.next().await.data["state"]["mode"], "degraded");
    let state = daemon.get("/api/v1/modes/cart").await;
    assert_eq!(state["data"]["override"]["reason"], "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_from_the_future_gets_the_present_state_first() {
    let daemon = daemon_that_knows(&["cart"]).await;
    for id in ["999999999", "garbage"] {
        let mut events = Events::open(&daemon, "", Some(id)).await;
        let first = events.next().await;
        assert_eq!(first.name, "snapshot", "{id}: {first:?}");
        assert_eq!(first.data["modes"][0]["service"], "cart", "{id}: {first:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_over_grpc() {
    use tidewatch::expose::modes::proto::modes_client::ModesClient;
    use tidewatch::expose::modes::proto::{GetRequest, WatchRequest};
    let daemon = daemon_that_knows(&["cart"]).await;
    let mut client = ModesClient::connect(format!("http://{}", daemon.api))
        .await
        .expect("it connects");
    let service = || "cart".to_owned();
    let mode = client
        .get(GetRequest { service: service() })
        .await
        .expect("cart")
        .into_inner();
    assert_eq!(mode.mode, "normal");
    let unknown = client
        .get(GetRequest {
            service: "nobody".into(),
        })
        .await
        .expect_err("unknown");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let mut watch = client
        .watch(WatchRequest { service: service() })
        .await
        .expect("watch")
        .into_inner();
    assert_eq!(
        watch.message().await.expect("first").expect("first").mode,
        "normal"
    );
    set(&daemon, "cart", "degraded", "over grpc");
    let next = watch.message().await.expect("next").expect("next");
    assert_eq!(next.mode, "degraded");
    assert!(next.lease_until_unix_nano > next.since_unix_nano);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_overrides_are_answered_and_change_nothing() {
    let daemon = daemon_that_knows(&["cart"]).await;
    let put = |path: &str, body: Value| {
        let url = format!("http://{}/api/v1/modes/{path}", daemon.api);
        async move {
            let answer = reqwest::Client::new()
                .put(url)
                .json(&body)
                .send()
                .await
                .expect("answer");
            (
                answer.status().as_u16(),
                answer.json::<Value>().await.expect("JSON"),
            )
        }
    };
    let body = |mode: &str| serde_json::json!({"mode": mode, "author": "ann", "reason": "why"});
    let (status, answer) = put("nobody/override", body("degraded")).await;
    assert_eq!(
        (status, &answer["status"]),
        (404, &"error".into()),
        "{answer}"
    );
    let (status, answer) = put("cart/override", body("sideways")).await;
    assert_eq!(
        (status, &answer["errorType"]),
        (400, &"bad_data".into()),
        "{answer}"
    );
    let mut past = body("degraded");
    past["expires_at"] = "2001-01-01T00:00:00Z".into();
    let (status, answer) = put("cart/override", past).await;
    assert_eq!(status, 400, "{answer}");
    let state = daemon.get("/api/v1/modes/cart").await;
    assert_eq!(state["data"]["mode"], "normal");
}
