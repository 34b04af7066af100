//! How services hear their modes over each of the doors, with the clients that they have: curl, gRPC in
//! Rust and Python, polling, requests to them; and what they say of it.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tidewatch::expose::modes::proto::modes_client::ModesClient;
use tidewatch::expose::modes::proto::{AckRequest, WatchRequest};

use crate::harness::hook::Hook;
use crate::harness::{Daemon, eventually, otlp, root};
use crate::modes::Events;

const CONFIG: &str = "
window: {tick: 200ms}
modes:
  levels:
    - normal
    - {name: degraded, features: {recommendations: false, max_steps: 1}, priority_floor: high, quality: reduced, shed: 25%}
    - critical
";

async fn daemon(extra: &str, services: &[&str]) -> Daemon {
    let daemon = Daemon::start(&format!("{CONFIG}{extra}")).await;
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

/// Sets a mode by hand; the number of the change.
async fn set(daemon: &Daemon, service: &str, mode: &str) -> u64 {
    let url = format!("http://{}/api/v1/modes/{service}/override", daemon.api);
    let body = json!({"mode": mode, "author": "ann", "reason": "test"});
    let answer = reqwest::Client::new().put(url).json(&body).send().await;
    let answer: Value = answer.expect("an answer").json().await.expect("JSON");
    let sequence = answer["data"]["sequence"].as_u64();
    sequence.unwrap_or_else(|| panic!("{answer}"))
}

async fn acknowledge(daemon: &Daemon, service: &str, body: &Value) -> (u16, Value) {
    let url = format!("http://{}/api/v1/modes/{service}/ack", daemon.api);
    let answer = reqwest::Client::new().post(url).json(body).send().await;
    let answer = answer.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn shown(daemon: &Daemon, service: &str) -> Value {
    daemon.get(&format!("/api/v1/modes/{service}")).await["data"].clone()
}

/// A real curl that follows events.
struct Curl {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Curl {
    fn follow(daemon: &Daemon, last: Option<&str>) -> Self {
        let url = format!("http://{}/api/v1/events?service=cart&type=mode", daemon.api);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--no-buffer", &url]);
        if let Some(last) = last {
            curl.args(["--header", &format!("Last-Event-ID: {last}")]);
        }
        let child = curl.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("curl: {error}; see `tests/run`"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let lines = BufReader::new(stdout).lines();
        Self { child, lines }
    }

    /// The next event that has data, leases aside: its id, name and data.
    fn next(&mut self) -> (String, String, Value) {
        let (mut id, mut name) = (String::new(), String::new());
        loop {
            let line = self.lines.next().expect("curl goes on").expect("UTF-8");
            match line.split_once(": ") {
                Some(("id", value)) => id = value.to_owned(),
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", data)) if name != "lease" => {
                    return (id, name, serde_json::from_str(data).expect("JSON"));
                }
                _ => {}
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().expect("curl is killed");
        self.child.wait().expect("curl is gone");
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_that_is_cut_off_again_and_again_misses_nothing_and_hears_nothing_twice() {
    let mut daemon = daemon("", &["cart", "checkout"]).await;
    let mut told = Vec::new();
    let mut heard = Vec::new();
    let mut curl = Curl::follow(&daemon, None);
    let (mut last, first, snapshot) = curl.next();
    assert_eq!(
        (first.as_str(), &snapshot["modes"][0]["mode"]),
        ("snapshot", &"normal".into())
    );
    for round in 0..6 {
        for mode in ["degraded", "critical", "normal"] {
            told.push(set(&daemon, "cart", mode).await);
            set(&daemon, "checkout", mode).await;
        }
        // Of three, none to three are heard before the connection is cut.
        for _ in 0..round % 4 {
            let (id, name, data) = curl.next();
            assert_eq!(
                (name.as_str(), &data["state"]["service"]),
                ("mode", &"cart".into())
            );
            heard.push(id.parse::<u64>().expect("a number"));
            last = id;
        }
        curl.kill();
        told.push(set(&daemon, "cart", "degraded").await);
        if round == 3 {
            // The daemon is cut off, too.
            daemon = daemon.kill_and_restart().await;
        }
        curl = Curl::follow(&daemon, Some(&last));
    }
    told.push(set(&daemon, "cart", "normal").await);
    while heard.len() < told.len() {
        let (id, name, _) = curl.next();
        assert_eq!(name, "mode");
        heard.push(id.parse().expect("a number"));
    }
    assert_eq!(heard, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_services_say_is_shown_beside_what_they_are_told() {
    let daemon = daemon("", &["cart"]).await;
    let before = shown(&daemon, "cart").await;
    assert_eq!(
        (&before["acknowledged"], &before["actual"]),
        (&Value::Null, &json!([]))
    );
    let sequence = set(&daemon, "cart", "degraded").await;
    let said = json!({"mode": "degraded", "sequence": sequence, "instance": "cart-1"});
    let (status, answer) = acknowledge(&daemon, "cart", &said).await;
    assert_eq!(
        (status, &answer["data"]["mode"]),
        (200, &"degraded".into()),
        "{answer}"
    );
    let one = shown(&daemon, "cart").await;
    assert_eq!(
        (&one["acknowledged"], &one["instances"]),
        (&true.into(), &1.into()),
        "{one}"
    );
    assert_eq!(one["actual"], json!([{"mode": "degraded", "instances": 1}]));
    assert_eq!(one["differs_since"], Value::Null);

    // A second one is behind; then the first hears of something newer, by gRPC.
    let said = json!({"mode": "normal", "sequence": 1, "instance": "cart-2"});
    assert_eq!(acknowledge(&daemon, "cart", &said).await.0, 200);
    let two = shown(&daemon, "cart").await;
    assert_eq!(
        (&two["acknowledged"], &two["instances"]),
        (&false.into(), &2.into()),
        "{two}"
    );
    assert_ne!(two["differs_since"], Value::Null);
    let mut client = ModesClient::connect(format!("http://{}", daemon.api))
        .await
        .expect("it connects");
    let ack = |instance: &str| AckRequest {
        service: "cart".into(),
        instance: instance.into(),
        mode: "degraded".into(),
        sequence,
        detail: String::new(),
    };
    let told = client
        .ack(ack("cart-2"))
        .await
        .expect("taken")
        .into_inner()
        .mode
        .expect("a mode");
    assert_eq!((told.sequence, told.level, told.shed), (sequence, 1, 0.25));
    assert_eq!(shown(&daemon, "cart").await["acknowledged"], true);

    // Mistakes change nothing.
    for (service, body, status) in [
        ("nobody", said.clone(), 404),
        ("cart", json!({"mode": "sideways"}), 400),
        ("cart", json!({"instance": "x"}), 400),
    ] {
        let (answered, answer) = acknowledge(&daemon, service, &body).await;
        assert_eq!(answered, status, "{answer}");
    }
    let nobody = AckRequest {
        service: "nobody".into(),
        ..ack("x")
    };
    let refused = client.ack(nobody).await.expect_err("nobody");
    assert_eq!(refused.code(), tonic::Code::NotFound);
    assert_eq!(shown(&daemon, "cart").await["instances"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_acknowledgements_are_taken_in_together() {
    let daemon = daemon("", &["cart"]).await;
    let sequence = set(&daemon, "cart", "degraded").await;
    let client = ModesClient::connect(format!("http://{}", daemon.api))
        .await
        .expect("it connects");
    let mut all = tokio::task::JoinSet::new();
    for instance in 0..3_000 {
        let mut client = client.clone();
        let said = AckRequest {
            service: "cart".into(),
            instance: format!("cart-{instance}"),
            mode: "degraded".into(),
            sequence,
            detail: String::new(),
        };
        all.spawn(async move { client.ack(said).await.expect("taken") });
    }
    while let Some(taken) = all.join_next().await {
        taken.expect("no panic");
    }
    let cart = shown(&daemon, "cart").await;
    assert_eq!(
        (&cart["instances"], &cart["acknowledged"]),
        (&3_000.into(), &true.into()),
        "{cart}"
    );
    // Each of them by itself would have been so many events of its own, all the same, but not so many
    // transactions: that is what the time of this test says.
}

#[tokio::test(flavor = "multi_thread")]
async fn python_follows_and_acknowledges_by_grpc() {
    let daemon = daemon("", &["cart"]).await;
    let folder = root().join("tests/clients/python");
    let python = Command::new(folder.join(".venv/bin/python"))
        .arg(folder.join("modes.py"))
        .args([daemon.api.as_str(), "cart", "py-1", "critical"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python; `tests/run` installs what is needed");
    let reports = |mode: &'static str| {
        let daemon = &daemon;
        eventually("python reports its mode", move || async move {
            let cart = shown(daemon, "cart").await;
            let actual = json!([{"mode": mode, "instances": 1}]);
            (cart["actual"] == actual && cart["acknowledged"] == true).then_some(())
        })
    };
    reports("normal").await;
    set(&daemon, "cart", "degraded").await;
    reports("degraded").await;
    set(&daemon, "cart", "critical").await;
    reports("critical").await;
    let output = python.wait_with_output().expect("python ends");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let told: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let degraded = told
        .iter()
        .find(|told| told["mode"] == "degraded")
        .expect("degraded");
    assert_eq!(
        degraded["features"],
        json!({"recommendations": false, "max_steps": 1})
    );
    assert_eq!(
        (&degraded["priority_floor"], &degraded["quality"]),
        (&"high".into(), &"reduced".into())
    );
    assert_eq!(
        (&degraded["shed"], &degraded["level"]),
        (&0.25.into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_waits_for_news_and_renews_the_lease() {
    let daemon = daemon("", &["cart"]).await;
    let client = reqwest::Client::new();
    let poll = |query: &str, tag: &str| {
        let url = format!("http://{}/api/v1/modes/cart{query}", daemon.api);
        let request = client.get(url).header("if-none-match", tag);
        async move {
            let answer = request.send().await.expect("an answer");
            let tag = answer.headers()["etag"].to_str().expect("text").to_owned();
            (answer.status().as_u16(), tag)
        }
    };
    let (status, tag) = poll("", "").await;
    assert_eq!(status, 200);
    assert_eq!(poll("?wait=1ms", &tag).await.0, 304);
    let waiting = tokio::spawn(poll("?wait=1m", &tag));
    eventually("somebody waits", || async {
        (daemon.metric("tidewatch_watchers").await == Some(1.0)).then_some(())
    })
    .await;
    set(&daemon, "cart", "degraded").await;
    let (status, newer) = waiting.await.expect("no panic");
    assert_eq!(status, 200);
    assert_ne!(tag, newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_told_by_signed_requests() {
    let hook = Hook::start().await;
    let url = hook.url.replace("/hook", "/{{ service }}/mode");
    let extra = format!(
        "  lease: 2s\n  webhooks: [{{service: 'cart|pay.*', url: '{url}', secret: '${{env:KEY}}'}}]\n"
    );
    let daemon = Daemon::start_with(&format!("{CONFIG}{extra}"), &[("KEY", "hunter2")]).await;
    for service in ["cart", "checkout"] {
        let body = otlp::gauge(service, "metric", &[(otlp::now_nanos(), 1.0)]);
        otlp::post_metrics(&daemon.http, &body).await;
    }
    eventually("cart is told that it is normal", || async {
        hook.deliveries().pop()
    })
    .await;
    hook.answer(&[500, 500]);
    let sequence = set(&daemon, "cart", "degraded").await;
    let delivery = eventually("cart is told that it is degraded", || async {
        let degraded = |delivery: &_| {
            let crate::harness::hook::Delivery { body, .. } = delivery;
            body["data"]["sequence"] == sequence
        };
        let deliveries = hook.deliveries();
        // The first two were refused.
        let mut told = deliveries.into_iter().filter(degraded);
        told.nth(2)
    })
    .await;
    assert_eq!(delivery.target, "POST /cart/mode");
    assert_eq!(
        delivery.body["data"]["features"],
        json!({"recommendations": false, "max_steps": 1})
    );
    let key = tidewatch::notify::Secret::parse("hunter2").expect("a key");
    let time: i64 = delivery
        .header("webhook-timestamp")
        .parse()
        .expect("seconds");
    let time = tidewatch::model::Timestamp::from_secs(time);
    let signature = key.sign(&delivery.header("webhook-id"), time, &delivery.raw);
    assert_eq!(delivery.header("webhook-signature"), signature);
    // Renewed for as long as it holds, and nobody else is told.
    let count = hook.deliveries().len();
    eventually("it is renewed", || async {
        (hook.deliveries().len() > count + 1).then_some(())
    })
    .await;
    assert!(
        hook.deliveries()
            .iter()
            .all(|delivery| delivery.target == "POST /cart/mode")
    );
    assert!(
        daemon
            .metric("tidewatch_mode_webhooks_total{result=\"failed\"}")
            .await
            >= Some(2.0)
    );
    assert!(!daemon.log().contains("hunter2"));
}

/// Watchers of each kind in the test; the example `watchers` does it with ten thousand.
const WATCHERS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_all_watchers_through_a_storm_of_alerts() {
    let daemon = daemon("", &["cart"]).await;
    let mut by_sse = Vec::new();
    let mut by_grpc = Vec::new();
    let address = format!("http://{}", daemon.api);
    for _ in 0..WATCHERS {
        let mut events = Events::open(&daemon, "?service=cart&type=mode", None).await;
        assert_eq!(events.next().await.name, "snapshot");
        by_sse.push(events);
        let mut client = ModesClient::connect(address.clone())
            .await
            .expect("it connects");
        let service = "cart".to_owned();
        let watch = client.watch(WatchRequest { service }).await.expect("watch");
        let mut modes = watch.into_inner();
        assert!(modes.message().await.expect("first").is_some());
        by_grpc.push(modes);
    }
    assert_eq!(
        daemon.metric("tidewatch_watchers").await,
        Some(2.0 * WATCHERS as f64)
    );
    // More than any queue of theirs holds, all of the service that they watch.
    let alerts: Vec<Value> = (0..1_000)
        .map(|n| json!({"labels": {"alertname": "Storm", "service": "cart", "n": n.to_string()}}))
        .collect();
    let url = format!("{address}/api/v2/alerts");
    let posted = reqwest::Client::new().post(url).json(&alerts).send().await;
    posted
        .expect("an answer")
        .error_for_status()
        .expect("taken");
    let sequence = set(&daemon, "cart", "degraded").await;
    assert!(sequence > 1_000, "{sequence}");
    for events in &mut by_sse {
        let event = loop {
            let event = events.next().await;
            if event.name != "lease" {
                break event;
            }
        };
        assert_eq!(
            (event.name.as_str(), event.id),
            ("mode", sequence.to_string())
        );
    }
    for modes in &mut by_grpc {
        let told = loop {
            let told = modes.message().await.expect("next").expect("next");
            if told.sequence == sequence {
                break told;
            }
            assert_eq!(told.mode, "normal", "only a renewed lease comes before it");
        };
        assert_eq!(told.mode, "degraded");
    }
    assert_eq!(
        daemon.metric("tidewatch_watchers_dropped_total").await,
        Some(0.0)
    );
    drop((by_sse, by_grpc));
    eventually("all have left", || async {
        (daemon.metric("tidewatch_watchers").await == Some(0.0)).then_some(())
    })
    .await;
}
