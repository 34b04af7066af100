//! Delivery to real HTTP servers on the loopback. Nothing here sleeps: tests wait for requests that
//! arrive, for lanes that end, or for a counter to reach a value.

mod delivery;
mod hostile;
mod integrations;
mod mail;
mod outbox;
mod trouble;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::dispatch::{Notification, Reason, Status};
use crate::model::{
    Alert, AlertState, BoxFuture, Instruction, IntegrationView, Labels, Level, ModeChange,
    ModeState, ModeStep, ReceiverView, SeverityLabel, Timestamp,
};
use crate::notify::Integration;
use crate::notify::address::Guard;
use crate::notify::integration::{Client, Context};
use crate::notify::{Journal, Kept, Notifier, Parcel, Policy, Receiver, Settings, Webhook};
use crate::telemetry::Telemetry;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
/// Longer than anything here takes, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(120);

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
        grounds: Default::default(),
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
        status: Status::Firing,
        reason: Reason::Firing,
        decided_at: NOW.minus(Duration::from_secs(2)),
    }
}

fn mode_change() -> ModeChange {
    ModeChange {
        step: ModeStep::Degrade,
        from: "normal".into(),
        cause: "policy slow-checkout".into(),
        state: ModeState {
            service: "checkout".into(),
            mode: "degraded".into(),
            level: Level(1),
            since: NOW,
            why: Vec::new(),
            instruction: Instruction {
                features: [("recommendations".to_owned(), json!(false))].into(),
                ..Instruction::default()
            },
            manual: None,
            lease_expires_at: NOW.plus(Duration::from_secs(30)),
            sequence: 7,
            episode: None,
        },
    }
}

/// A request as a receiver saw it.
struct Seen {
    method: Method,
    /// With the query.
    path: String,
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
                let seen = Seen {
                    method: parts.method,
                    path: parts.uri.to_string(),
                    headers: parts.headers,
                    body,
                };
                record.send(seen).await.unwrap();
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
        integrations: webhooks
            .into_iter()
            .map(|w| Integration::Webhook(Box::new(w)))
            .collect(),
        fallback: None,
    }
}

/// Retries at once, a few times.
fn hurried() -> Policy {
    Policy {
        initial: Duration::from_millis(1),
        max: Duration::from_millis(4),
        max_elapsed: PATIENCE,
        keep: PATIENCE,
        max_retry_after: Duration::from_millis(2),
    }
}

/// What attempts share, where one is made without a notifier.
fn context() -> Context {
    Context {
        client: Client::new(Guard::default(), PATIENCE).unwrap(),
        external_url: "http://tidewatch.example".into(),
        template_errors: Telemetry::new().template_errors,
    }
}

struct Rig {
    notifier: Notifier,
    /// What of an earlier run could not be used.
    warnings: Vec<String>,
    clock: Clock,
    telemetry: Telemetry,
    stop: CancellationToken,
}

fn rig(receivers: impl IntoIterator<Item = Receiver>, change: impl FnOnce(&mut Settings)) -> Rig {
    rig_with(receivers, Kept::default(), change)
}

fn rig_with(
    receivers: impl IntoIterator<Item = Receiver>,
    kept: Kept,
    change: impl FnOnce(&mut Settings),
) -> Rig {
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
    let started = Notifier::start(settings, kept, telemetry.clone(), clock.clone(), &stop);
    let (notifier, warnings) = started.unwrap();
    Rig {
        notifier,
        warnings,
        clock,
        telemetry,
        stop,
    }
}

impl Rig {
    fn count(&self, receiver: &str, result: &str) -> u64 {
        let counter = &self.telemetry.notifications;
        counter.with_label_values(&[receiver, result]).get()
    }

    /// Delivered, retried, failed, fallen back.
    fn counts(&self, receiver: &str) -> [u64; 4] {
        ["delivered", "retried", "failed", "fallen_back"].map(|result| self.count(receiver, result))
    }

    /// Makes a message durable, as the decision task does, and has it delivered; its id.
    fn send(&self, notification: Notification) -> Arc<str> {
        self.deliver(self.notifier.pack([notification]))
    }

    fn send_mode(&self, receiver: &str) -> Arc<str> {
        self.deliver(self.notifier.pack_mode(receiver, mode_change(), NOW))
    }

    fn deliver(&self, parcel: Parcel) -> Arc<str> {
        let id = Arc::clone(&parcel.messages[0].id);
        self.notifier.deliver(parcel);
        id
    }

    /// How a receiver stands.
    fn view(&self, receiver: &str) -> ReceiverView {
        let mut all = self.notifier.receivers().into_iter();
        all.find(|view| view.name == receiver).unwrap()
    }

    /// How the first integration of a receiver stands.
    fn first(&self, receiver: &str) -> IntegrationView {
        self.view(receiver).integrations.swap_remove(0)
    }

    /// Waits until the first integration of a receiver is as wanted.
    async fn until_first(&self, receiver: &str, wanted: impl Fn(&IntegrationView) -> bool) {
        patiently(async {
            while !wanted(&self.first(receiver)) {
                tokio::task::yield_now().await;
            }
        })
        .await;
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

/// A disk in memory, which can be told to fail.
#[derive(Default)]
struct Disk {
    entries: Mutex<BTreeMap<String, Vec<u8>>>,
    fails: AtomicBool,
    /// What failed and is to be made up for.
    behind: Mutex<Vec<(String, Option<Vec<u8>>)>>,
}

impl Disk {
    fn write(&self, changes: impl IntoIterator<Item = (String, Option<Vec<u8>>)>) {
        let mut entries = self.entries.lock().unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => drop(entries.insert(key, value)),
                None => drop(entries.remove(&key)),
            }
        }
    }

    fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        self.entries.lock().unwrap().clone()
    }

    fn keys(&self) -> Vec<String> {
        self.entries().into_keys().collect()
    }

    /// What a daemon finds on it.
    fn kept(self: &Arc<Self>) -> Kept {
        Kept {
            journal: Some(Arc::clone(self) as Arc<dyn Journal>),
            entries: self.entries(),
        }
    }

    /// Makes a message durable, and then has it delivered; its id.
    fn send(&self, rig: &Rig, notification: Notification) -> Arc<str> {
        let parcel = rig.notifier.pack([notification]);
        self.write(parcel.changes());
        rig.deliver(parcel)
    }

    async fn until(&self, wanted: impl Fn(&[String]) -> bool) {
        patiently(async {
            while !wanted(&self.keys()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Journal for Disk {
    fn record(&self, changes: Vec<(String, Option<Vec<u8>>)>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let mut behind = self.behind.lock().unwrap();
            behind.extend(changes);
            if self.fails.load(Ordering::SeqCst) {
                return Err("the disk is full".into());
            }
            self.write(behind.drain(..));
            Ok(())
        })
    }
}
