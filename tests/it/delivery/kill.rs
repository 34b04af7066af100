//! `kill -9`, again and again, while notifications are pending: none is lost, and repeats are known by
//! their id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use super::{RULE, TICK, high, pending, quiet};
use crate::harness::{Daemon, eventually};

const KILLS: usize = 200;
/// Alerts that fire before the first kill.
const AT_FIRST: usize = 60;
/// One request in so many is taken while the receiver is in trouble.
const TAKEN: u32 = 8;

/// What a receiver has seen.
#[derive(Default)]
struct Ledger {
    /// By message id: the groups it spoke of, and how often it came and was taken.
    messages: BTreeMap<String, Message>,
    requests: usize,
    well: bool,
}

#[derive(Default)]
struct Message {
    bodies: BTreeSet<String>,
    services: BTreeSet<String>,
    requests: usize,
    taken: usize,
}

#[derive(Clone)]
struct Hook {
    ledger: Arc<Mutex<Ledger>>,
    random: Arc<Mutex<SmallRng>>,
}

impl Hook {
    async fn start() -> (Self, String) {
        let hook = Self {
            ledger: Arc::default(),
            random: Arc::new(Mutex::new(SmallRng::seed_from_u64(7))),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let router = Router::new()
            .route("/", post(take))
            .with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        (hook, url)
    }

    fn requests(&self) -> usize {
        self.ledger.lock().expect("ledger").requests
    }
}

async fn take(State(hook): State<Hook>, headers: HeaderMap, body: String) -> StatusCode {
    let id = headers["webhook-id"].to_str().expect("an id").to_owned();
    let json: Value = serde_json::from_str(&body).expect("JSON");
    let mut ledger = hook.ledger.lock().expect("ledger");
    let lucky = hook.random.lock().expect("random").random_ratio(1, TAKEN);
    let takes = ledger.well || lucky;
    ledger.requests += 1;
    let message = ledger.messages.entry(id).or_default();
    let mut told = Vec::new();
    for alert in json["alerts"].as_array().expect("alerts") {
        let service = alert["labels"]["service"].as_str().expect("a service");
        message.services.insert(service.to_owned());
        // Links name the port, which is another one after each restart.
        told.push(["status", "labels", "annotations", "startsAt"].map(|name| &alert[name]));
    }
    message
        .bodies
        .insert(serde_json::to_string(&told).expect("JSON"));
    message.requests += 1;
    message.taken += usize::from(takes);
    match takes {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Services with a firing alert, as the API shows them.
async fn firing(daemon: &Daemon) -> BTreeSet<String> {
    let services = daemon.get("/api/v1/services").await;
    let services = services["data"].as_array().expect("services");
    let firing = services
        .iter()
        .filter(|service| service["alerts"]["firing"] == 1)
        .map(|service| service["service"].as_str().expect("a name").to_owned());
    // The alert about the receiver takes no route.
    firing.filter(|service| service != "tidewatch").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_minus_nine_200_times_with_notifications_pending() {
    let began = tokio::time::Instant::now();
    let (hook, url) = Hook::start().await;
    let mut daemon = quiet(&format!(
        r#"{TICK}
{RULE}
route: {{receiver: oncall, group_by: [service], group_wait: 0, group_interval: 1h, repeat_interval: 24h}}
receivers: [{{name: oncall, webhook_configs: [{{url: "{url}"}}]}}]
delivery:
  retry: {{initial: 10ms, max: 100ms}}
  breaker: {{open: 20ms}}
"#
    ))
    .await;
    let names: Vec<String> = (0..AT_FIRST).map(|n| format!("first-{n}")).collect();
    let series = names.iter().map(|name| (name.as_str(), String::new()));
    daemon.post_metrics(&high(series)).await;
    let mut seen = BTreeSet::new();
    eventually("all fire", || async {
        (firing(&daemon).await.len() == AT_FIRST).then_some(())
    })
    .await;
    let mut random = SmallRng::seed_from_u64(11);
    let mut pending_at_kill = Vec::new();
    for round in 0..KILLS {
        let service = format!("round-{round}");
        daemon
            .post_metrics(&high([(service.as_str(), String::new())]))
            .await;
        // Every moment of a delivery and of a tick comes to be the last one.
        let more = hook.requests() + random.random_range(0..6);
        eventually("some are attempted", || {
            let reached = hook.requests() >= more;
            async move { reached.then_some(()) }
        })
        .await;
        // What was public was durable.
        seen.extend(firing(&daemon).await);
        pending_at_kill.push(pending(&daemon, "oncall").await);
        daemon = daemon.kill_and_restart().await;
    }
    seen.extend(firing(&daemon).await);
    assert!(seen.len() > AT_FIRST, "new ones came in between");
    hook.ledger.lock().expect("ledger").well = true;
    eventually("everything is delivered", || async {
        (pending(&daemon, "oncall").await == 0).then_some(())
    })
    .await;

    let ledger = hook.ledger.lock().expect("ledger");
    let mut ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, message) in &ledger.messages {
        assert_eq!(message.services.len(), 1, "{id} is about one group");
        assert!(message.taken > 0, "{id} was not delivered");
        assert_eq!(message.bodies.len(), 1, "{id} says the same each time");
        let services = message.services.iter();
        services.for_each(|service| ids.entry(service).or_default().push(id));
    }
    for service in &seen {
        let ids = ids.get(service.as_str()).map_or(&[][..], Vec::as_slice);
        assert_eq!(ids.len(), 1, "{service} was told under {ids:?}");
    }
    let repeated = ledger.messages.values().filter(|m| m.taken > 1).count();
    let times: usize = ledger.messages.values().map(|m| m.taken).sum();
    pending_at_kill.sort_unstable();
    let median = pending_at_kill[pending_at_kill.len() / 2];
    eprintln!(
        "{KILLS} kills in {:.1?}; pending at the kill: {} to {}, median {median}; {} messages, {} \
         requests, {} taken, {repeated} of them taken more than once, under the same id",
        began.elapsed(),
        pending_at_kill[0],
        pending_at_kill[pending_at_kill.len() - 1],
        ledger.messages.len(),
        ledger.requests,
        times,
    );
    assert!(pending_at_kill[0] > 0, "each kill hit something pending");
    assert!(began.elapsed() < Duration::from_secs(300));
}
