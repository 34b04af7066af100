//! Delivery to real HTTP servers on the loopback. Nothing here sleeps: tests wait for requests that
//! arrive, for lanes that end, or for a counter to reach a value.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{LOG, Notification, Notifier, Policy, Receiver, Resolved, Secret, Settings, Webhook};
use crate::clock::Clock;
use crate::model::{
    Alert, AlertState, BoxFuture, Labels, Level, ModeChange, ModeState, SeverityLabel, Timestamp,
};
use crate::telemetry::Telemetry;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
/// Longer than anything here takes, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(30);

fn alert(name: &str, state: AlertState) -> Alert {
    let labels = Labels::from_iter([("alertname", name), ("service", "checkout")]);
    Alert {
        fingerprint: labels.fingerprint(),
        annotations: Labels::from_iter([("summary", "checkout is slow"), ("sigma", "6.1")]),
        labels,
        state,
        severity: SeverityLabel::Critical,
        severity_score: 0.9,
        service: "checkout".into(),
        signal_id: "9f0c-p99".into(),
        unit: "s".into(),
        observed: 0.31,
        expected: 0.12,
        lower: 0.09,
        upper: 0.16,
        sigma: 6.1,
        worst_sigma: 7.0,
        anomalous_samples: 3,
        since: NOW.minus(Duration::from_secs(60)),
        fired_at: Some(NOW.minus(Duration::from_secs(30))),
        resolved_at: (state == AlertState::Resolved).then_some(NOW),
        updated_at: NOW,
        trace_id: None,
    }
}

fn notification(receiver: &str, group: &str) -> Notification {
    let firing = alert("LatencyDeviation", AlertState::Firing);
    Notification {
        receiver: receiver.into(),
        group_key: group.into(),
        group_labels: Labels::from_iter([("service", "checkout")]),
        common_labels: firing.labels.clone(),
        common_annotations: firing.annotations.clone(),
        alerts: vec![Arc::new(firing)],
        truncated: 0,
        firing: true,
        decided_at: NOW.minus(Duration::from_secs(2)),
    }
}

fn mode_change() -> ModeChange {
    ModeChange {
        from: "normal".into(),
        cause: "policy slow-checkout".into(),
        state: ModeState {
            service: "checkout".into(),
            mode: "degraded".into(),
            level: Level(1),
            since: NOW,
            why: Vec::new(),
            features: [("recommendations".to_owned(), json!(false))].into(),
            manual: None,
            lease_expires_at: NOW.plus(Duration::from_secs(30)),
            sequence: 7,
        },
    }
}

/// A request as a receiver saw it.
struct Seen {
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What a receiver answers to its n-th request, from 0.
type Answer = Arc<dyn Fn(usize) -> BoxFuture<'static, Response> + Send + Sync>;

/// A receiver that records what it is sent.
struct Hook {
    address: SocketAddr,
    seen: mpsc::Receiver<Seen>,
}

impl Hook {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (record, seen) = mpsc::channel(1000);
        let count = Arc::new(AtomicUsize::new(0));
        let app = Router::new().fallback(move |request: Request| {
            let (record, answer, count) = (record.clone(), answer.clone(), count.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let headers = parts.headers;
                record.send(Seen { headers, body }).await.unwrap();
                answer(count.fetch_add(1, Ordering::SeqCst)).await
            }
        });
        // It ends with the test's runtime.
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { address, seen }
    }

    /// Answers with these statuses in turn; the last one stays.
    async fn answering(statuses: &'static [u16]) -> Self {
        Self::start(Arc::new(move |n| {
            let status = statuses[n.min(statuses.len() - 1)];
            Box::pin(async move { answer(status) })
        }))
        .await
    }

    /// Takes requests and answers none.
    async fn hanging() -> Self {
        Self::start(Arc::new(|_| Box::pin(std::future::pending()))).await
    }

    fn webhook(&self) -> Webhook {
        Webhook::new(&format!("http://{}/hook/token", self.address)).unwrap()
    }

    async fn next(&mut self) -> Seen {
        patiently(self.seen.recv()).await.unwrap()
    }

    fn nothing_more(&mut self) {
        assert!(self.seen.try_recv().is_err(), "a request that nobody wants");
    }
}

fn answer(status: u16) -> Response {
    Response::builder()
        .status(status)
        .body(Body::empty())
        .unwrap()
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}

fn receiver(name: &str, webhooks: impl IntoIterator<Item = Webhook>) -> Receiver {
    Receiver {
        name: name.into(),
        webhooks: webhooks.into_iter().collect(),
        log: false,
        fallback: None,
    }
}

/// Retries at once, a few times.
fn hurried() -> Policy {
    Policy {
        initial: Duration::from_millis(1),
        max: Duration::from_millis(4),
        max_elapsed: PATIENCE,
        max_retry_after: Duration::from_millis(2),
    }
}

struct Rig {
    notifier: Notifier,
    telemetry: Telemetry,
    stop: CancellationToken,
}

fn rig(receivers: impl IntoIterator<Item = Receiver>, change: impl FnOnce(&mut Settings)) -> Rig {
    let mut settings = Settings {
        receivers: receivers.into_iter().collect(),
        retry: hurried(),
        external_url: "http://tidewatch.example".into(),
        drain: PATIENCE,
        ..Settings::default()
    };
    change(&mut settings);
    let telemetry = Telemetry::new();
    let stop = CancellationToken::new();
    let clock = Clock::starting_at(NOW);
    let notifier = Notifier::start(settings, telemetry.clone(), clock, &stop).unwrap();
    Rig {
        notifier,
        telemetry,
        stop,
    }
}

impl Rig {
    fn count(&self, receiver: &str, result: &str) -> u64 {
        let counter = &self.telemetry.notifications;
        counter.with_label_values(&[receiver, result]).get()
    }

    /// Delivered, retried, failed, dropped.
    fn counts(&self, receiver: &str) -> [u64; 4] {
        ["delivered", "retried", "failed", "dropped"].map(|result| self.count(receiver, result))
    }

    async fn until(&self, receiver: &str, result: &str, reached: u64) {
        patiently(async {
            while self.count(receiver, result) < reached {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_webhook_gets_what_alertmanager_would_send() {
    let mut hook = Hook::answering(&[200]).await;
    let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
    let mut sent = notification("oncall", "{}:{service=\"checkout\"}");
    let over = alert("ErrorRatio", AlertState::Resolved);
    sent.alerts.push(Arc::new(over.clone()));
    sent.truncated = 3;
    let id = rig.notifier.send(sent);

    let seen = hook.next().await;
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(seen.header("webhook-id"), &*id);
    assert_eq!(seen.header("webhook-timestamp"), "1700000000");
    assert!(!seen.headers.contains_key("webhook-signature"));
    let firing = alert("LatencyDeviation", AlertState::Firing);
    let annotations = json!({"sigma": "6.1", "summary": "checkout is slow"});
    let expected = json!({
        "version": "4",
        "groupKey": "{}:{service=\"checkout\"}",
        "truncatedAlerts": 3,
        "status": "firing",
        "receiver": "oncall",
        "groupLabels": {"service": "checkout"},
        "commonLabels": {"alertname": "LatencyDeviation", "service": "checkout"},
        "commonAnnotations": annotations,
        "externalURL": "http://tidewatch.example",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "LatencyDeviation", "service": "checkout"},
                "annotations": annotations,
                "startsAt": "2023-11-14T22:12:50Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://tidewatch.example/#9f0c-p99",
                "fingerprint": firing.fingerprint.to_string(),
            },
            {
                "status": "resolved",
                "labels": {"alertname": "ErrorRatio", "service": "checkout"},
                "annotations": annotations,
                "startsAt": "2023-11-14T22:12:50Z",
                "endsAt": "2023-11-14T22:13:20Z",
                "generatorURL": "http://tidewatch.example/#9f0c-p99",
                "fingerprint": over.fingerprint.to_string(),
            },
        ],
    });
    assert_eq!(seen.json(), expected);
    rig.until("oncall", "delivered", 1).await;
    let latency = rig
        .telemetry
        .notification_latency
        .with_label_values(&["oncall"]);
    assert_eq!(latency.get_sample_count(), 1);
    assert!(
        (latency.get_sample_sum() - 2.0).abs() < 1e-9,
        "from the decision, by the clock"
    );
}

#[tokio::test]
async fn a_mode_change_is_an_event_and_signed() {
    let mut hook = Hook::answering(&[204]).await;
    let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let webhook = hook.webhook().signed(secret.clone());
    let webhook = webhook.header("Authorization", "Bearer t0ken").unwrap();
    let rig = rig([receiver("oncall", [webhook])], |_| {});
    let id = rig.notifier.send_mode("oncall", mode_change(), NOW);

    let seen = hook.next().await;
    assert_eq!(seen.header("authorization"), "Bearer t0ken");
    let signature = secret.sign(&id, NOW, &seen.body);
    assert_eq!(seen.header("webhook-signature"), signature);
    let expected = json!({
        "type": "mode.changed",
        "timestamp": "2023-11-14T22:13:20Z",
        "data": serde_json::to_value(mode_change()).unwrap(),
    });
    assert_eq!(seen.json(), expected);
    assert_eq!(seen.json()["data"]["state"]["mode"], "degraded");
}

#[tokio::test]
async fn failures_are_retried_under_one_id() {
    let mut hook = Hook::answering(&[500, 429, 408, 503, 200]).await;
    let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
    let id = rig.notifier.send(notification("oncall", "g"));
    let mut bodies = Vec::new();
    for _ in 0..5 {
        let seen = hook.next().await;
        assert_eq!(seen.header("webhook-id"), &*id);
        bodies.push(seen.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    rig.until("oncall", "delivered", 1).await;
    assert_eq!(rig.counts("oncall"), [1, 4, 0, 0]);
}

#[tokio::test]
async fn what_is_final_is_not_retried() {
    for statuses in [&[400], &[401], &[404], &[413], &[422]] {
        let mut hook = Hook::answering(statuses).await;
        let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
        rig.notifier.send(notification("oncall", "g"));
        hook.next().await;
        rig.until("oncall", "failed", 1).await;
        assert_eq!(rig.counts("oncall"), [0, 0, 1, 0], "{statuses:?}");
        hook.nothing_more();
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut target = Hook::answering(&[200]).await;
    let address = target.address;
    for status in [301, 302, 307, 308] {
        let hook = Hook::start(Arc::new(move |_| {
            let location = format!("http://{address}/");
            let response = Response::builder()
                .status(status)
                .header("location", location);
            let response = response.body(Body::empty()).unwrap();
            Box::pin(async move { response })
        }))
        .await;
        let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
        rig.notifier.send(notification("oncall", "g"));
        rig.until("oncall", "failed", 1).await;
        target.nothing_more();
    }
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_left_alone_until_reload() {
    let mut hook = Hook::answering(&[410, 200]).await;
    let mut spare = Hook::answering(&[200]).await;
    let mut oncall = receiver("oncall", [hook.webhook()]);
    oncall.fallback = Some("spare".into());
    let rig = rig([oncall, receiver("spare", [spare.webhook()])], |_| {});
    rig.notifier.send(notification("oncall", "g"));
    hook.next().await;
    spare.next().await;
    let gone = rig.notifier.gone();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].receiver, "oncall");
    assert!(!gone[0].integration.contains("token"), "{gone:?}");

    let id = rig.notifier.send(notification("oncall", "g"));
    let seen = spare.next().await;
    assert_eq!(seen.header("webhook-id"), &*id);
    assert_eq!(seen.json()["receiver"], "spare");
    hook.nothing_more();
    assert_eq!(rig.counts("oncall"), [0, 0, 2, 0]);
}

#[tokio::test]
async fn what_cannot_be_delivered_goes_to_the_fallback() {
    let hook = Hook::answering(&[500]).await;
    let mut oncall = receiver("oncall", [hook.webhook()]);
    oncall.fallback = Some(LOG.into());
    let rig = rig([oncall], |s| {
        s.retry.max_elapsed = Duration::from_millis(20)
    });
    rig.notifier.send(notification("oncall", "g"));
    rig.until(LOG, "delivered", 1).await;
    assert_eq!(rig.count("oncall", "failed"), 1);
    assert!(rig.count("oncall", "retried") > 0);
}

#[tokio::test]
async fn fallbacks_in_a_circle_come_to_an_end() {
    let hook = Hook::answering(&[404]).await;
    let mut a = receiver("a", [hook.webhook()]);
    a.fallback = Some("b".into());
    let mut b = receiver("b", [hook.webhook()]);
    b.fallback = Some("a".into());
    let rig = rig([a, b], |_| {});
    rig.notifier.send(notification("a", "g"));
    rig.until("b", "failed", 1).await;
    assert!(patiently(rig.notifier.finish()).await.is_empty());
    assert_eq!(rig.counts("a"), [0, 0, 1, 0]);
    assert_eq!(rig.counts("b"), [0, 0, 1, 0]);
}

#[tokio::test]
async fn a_hanging_receiver_delays_nobody() {
    let hanging = Hook::hanging().await;
    let mut good = Hook::answering(&[200]).await;
    let slow = [hanging.webhook().timeout(PATIENCE)];
    let both = [hanging.webhook().timeout(PATIENCE), good.webhook()];
    let receivers = [
        receiver("slow", slow),
        receiver("both", both),
        receiver("good", [good.webhook()]),
    ];
    let rig = rig(receivers, |s| s.queue = 10);
    for n in 0..50 {
        rig.notifier.send(notification("slow", &n.to_string()));
    }
    // Not even an integration of the same receiver.
    for name in ["both", "good"] {
        rig.notifier.send(notification(name, "g"));
        assert_eq!(good.next().await.json()["receiver"], name);
    }
    assert_eq!(
        rig.counts("slow"),
        [0, 0, 0, 40],
        "bounded, and the newest refused"
    );
}

#[tokio::test]
async fn a_retried_group_delays_no_other_and_keeps_its_order() {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    // The first request waits, so that the second group and the first one's end queue up behind it.
    let mut hook = Hook::start(Arc::new(move |n| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            if n == 0 {
                gate.notified().await;
                return answer(503);
            }
            answer(200)
        })
    }))
    .await;
    let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
    let first = rig.notifier.send(notification("oncall", "one"));
    assert_eq!(hook.next().await.header("webhook-id"), &*first);
    let second = rig.notifier.send(notification("oncall", "one"));
    let other = rig.notifier.send(notification("oncall", "two"));
    assert_eq!(hook.next().await.header("webhook-id"), &*other);
    hook.nothing_more();
    release.notify_one();
    for expected in [&first, &second] {
        assert_eq!(hook.next().await.header("webhook-id"), &**expected);
    }
}

#[tokio::test]
async fn resolved_alerts_are_left_out_where_they_are_not_wanted() {
    let mut hook = Hook::answering(&[200]).await;
    let webhook = hook.webhook().resolved(Resolved::Omit);
    let rig = rig([receiver("oncall", [webhook])], |_| {});
    let over = Arc::new(alert("Over", AlertState::Resolved));
    let mut all_over = notification("oncall", "g");
    all_over.alerts = vec![Arc::clone(&over)];
    all_over.firing = false;
    let mut some_over = notification("oncall", "g");
    some_over.alerts.push(over);
    rig.notifier.send(all_over);
    rig.notifier.send(some_over);
    let alerts = hook.next().await.json()["alerts"].clone();
    assert_eq!(alerts.as_array().unwrap().len(), 1);
    assert_eq!(alerts[0]["status"], "firing");
    assert!(patiently(rig.notifier.finish()).await.is_empty());
    hook.nothing_more();
    assert_eq!(rig.counts("oncall"), [1, 0, 0, 0]);
}

#[tokio::test]
async fn the_stop_returns_what_was_not_delivered() {
    let mut hanging = Hook::hanging().await;
    let mut good = Hook::answering(&[200]).await;
    let dead = receiver("dead", [Webhook::new("http://127.0.0.1:1/").unwrap()]);
    let receivers = [
        receiver("hanging", [hanging.webhook()]),
        receiver("good", [good.webhook()]),
        dead,
    ];
    let rig = rig(receivers, |s| {
        s.drain = Duration::from_millis(300);
        s.retry.initial = PATIENCE;
        s.retry.max = PATIENCE;
        s.retry.max_elapsed = 10 * PATIENCE;
    });
    let lost = [("hanging", "1"), ("hanging", "1"), ("dead", "1")]
        .map(|(receiver, group)| rig.notifier.send(notification(receiver, group)));
    hanging.next().await;
    rig.until("dead", "retried", 1).await;
    let delivered: Vec<_> = (0..20)
        .map(|_| rig.notifier.send(notification("good", "g")))
        .collect();

    rig.stop.cancel();
    let mut undelivered = patiently(rig.notifier.finish()).await;
    for id in delivered {
        assert_eq!(good.next().await.header("webhook-id"), &*id);
    }
    undelivered.sort_by_key(|delivery| lost.iter().position(|id| *id == delivery.id));
    let ids: Vec<_> = undelivered
        .iter()
        .map(|delivery| delivery.id.clone())
        .collect();
    assert_eq!(ids, lost);
    assert_eq!(rig.counts("hanging"), [0, 0, 0, 2]);
    assert_eq!(rig.counts("good"), [20, 0, 0, 0]);
    assert_eq!(rig.counts("dead"), [0, 1, 0, 1]);
    assert!(patiently(rig.notifier.finish()).await.is_empty());

    rig.notifier.send(notification("good", "g"));
    assert_eq!(
        rig.counts("good"),
        [20, 0, 0, 1],
        "nothing is taken after the stop"
    );

    // A later notifier makes up for it, under the same id.
    let mut hook = Hook::answering(&[200]).await;
    let later = self::rig([receiver("dead", [hook.webhook()])], |_| {});
    later.notifier.resend(undelivered.pop().unwrap());
    assert_eq!(hook.next().await.header("webhook-id"), &*lost[2]);
}

#[tokio::test]
async fn an_unknown_receiver_loses_no_alert() {
    let rig = rig([], |_| {});
    rig.notifier.send(notification("nobody", "g"));
    rig.until(LOG, "delivered", 1).await;
    rig.notifier.send_mode(LOG, mode_change(), NOW);
    rig.until(LOG, "delivered", 2).await;
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused() {
    let start = |receivers| {
        let settings = Settings {
            receivers,
            ..Settings::default()
        };
        let stop = CancellationToken::new();
        Notifier::start(settings, Telemetry::new(), Clock::System, &stop)
    };
    let twice = start(vec![receiver("a", []), receiver("a", [])]);
    assert!(twice.unwrap_err().to_string().contains("two receivers"));
    let mut lost = receiver("a", []);
    lost.fallback = Some("b".into());
    let error = start(vec![lost]).unwrap_err().to_string();
    assert!(error.contains("`b` does not exist"), "{error}");
}

#[tokio::test]
async fn metrics_begin_at_zero() {
    let rig = rig([receiver("oncall", [])], |_| {});
    let families = rig.telemetry.registry.gather();
    let family = families
        .iter()
        .find(|f| f.name() == "tidewatch_notifications_total")
        .unwrap();
    assert_eq!(family.get_metric().len(), 8);
}

/// A server that speaks no HTTP unless the test does.
async fn raw(
    behave: impl Fn(tokio::net::TcpStream) -> BoxFuture<'static, ()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream));
        }
    });
    address
}

/// Sends one notification to `url` and returns why the first attempt failed, as the counters say it.
async fn first_result(url: &str) -> [u64; 4] {
    let webhook = Webhook::new(url)
        .unwrap()
        .timeout(Duration::from_millis(250));
    let rig = rig([receiver("oncall", [webhook])], |s| {
        s.retry.initial = PATIENCE
    });
    rig.notifier.send(notification("oncall", "g"));
    patiently(async {
        while rig.counts("oncall") == [0; 4] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    rig.counts("oncall")
}

const DELIVERED: [u64; 4] = [1, 0, 0, 0];
const RETRIED: [u64; 4] = [0, 1, 0, 0];
const FAILED: [u64; 4] = [0, 0, 1, 0];

/// Reads the beginning of a request, then writes `answer` and `rest` for ever.
async fn talking(answer: &'static [u8], rest: &'static [u8], pace: Option<Duration>) -> SocketAddr {
    raw(move |mut stream| {
        Box::pin(async move {
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_err() || stream.write_all(answer).await.is_err() {
                return;
            }
            let mut pace = pace.map(tokio::time::interval);
            while !rest.is_empty() && stream.write_all(rest).await.is_ok() {
                if let Some(pace) = &mut pace {
                    pace.tick().await;
                }
            }
        })
    })
    .await
}

#[tokio::test]
async fn hostile_answers_are_survived() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n";
    const ERROR: &[u8] = b"HTTP/1.1 500 Oops\r\ncontent-length: 10737418240\r\n\r\n";
    const NO: &[u8] = b"HTTP/1.1 404 No\r\ncontent-length: 10737418240\r\n\r\n";
    const BYTES: &[u8] = &[b'x'; 65_536];
    let slowly = Some(Duration::from_millis(20));
    let cases = [
        (
            "10 GiB after success",
            talking(OK, BYTES, None).await,
            DELIVERED,
        ),
        (
            "10 GiB after an error",
            talking(ERROR, BYTES, None).await,
            RETRIED,
        ),
        (
            "10 GiB after a refusal",
            talking(NO, BYTES, None).await,
            FAILED,
        ),
        (
            "a byte now and then after success",
            talking(OK, b"x", slowly).await,
            DELIVERED,
        ),
        (
            "a byte now and then after an error",
            talking(ERROR, b"x", slowly).await,
            RETRIED,
        ),
        (
            "a header without end, slowly",
            talking(b"HTTP/1.1 200 OK\r\n", b"x", slowly).await,
            RETRIED,
        ),
        (
            "a header without end",
            talking(b"HTTP/1.1 200 OK\r\nx: ", BYTES, None).await,
            RETRIED,
        ),
        (
            "1xx without end",
            talking(b"", b"HTTP/1.1 100 Continue\r\n\r\n", None).await,
            RETRIED,
        ),
        (
            "closed early",
            talking(b"HTTP/1.1 200", b"", None).await,
            RETRIED,
        ),
        ("closed at once", talking(b"", b"", None).await, RETRIED),
        (
            "no HTTP",
            talking(b"220 smtp.example ready\r\n", b"", None).await,
            RETRIED,
        ),
    ];
    for (name, address, expected) in cases {
        let result = first_result(&format!("http://{address}/")).await;
        assert_eq!(result, expected, "{name}");
    }
    let silent = raw(|stream| {
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
    })
    .await;
    assert_eq!(
        first_result(&format!("http://{silent}/")).await,
        RETRIED,
        "silence"
    );
    assert_eq!(
        first_result("http://127.0.0.1:1/").await,
        RETRIED,
        "nobody there"
    );
    assert_eq!(
        first_result("http://no-such-host.invalid/").await,
        RETRIED,
        "no such name"
    );
}

#[tokio::test]
async fn link_local_addresses_are_never_connected_to() {
    for url in [
        "http://169.254.169.254/latest/",
        "http://[fe80::1]/",
        "http://0xa9fea9fe/",
    ] {
        assert_eq!(first_result(url).await, FAILED, "{url}");
    }
}
