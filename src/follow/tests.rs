use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::json;
use tokio::sync::watch;

use super::*;

/// A daemon that answers as told, the last answer again and again. Its lease is what a test says.
#[derive(Clone, Default)]
struct Daemon {
    answers: Arc<Mutex<VecDeque<(u16, serde_json::Value)>>>,
    said: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Daemon {
    async fn start(answers: impl IntoIterator<Item = (u16, serde_json::Value)>) -> (Self, Service) {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let daemon = Self::default();
        daemon.answers.lock().unwrap().extend(answers);
        let router = Router::new()
            .route("/api/v1/modes/{service}", get(mode))
            .route("/api/v1/modes/{service}/ack", post(ack))
            .with_state(daemon.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (daemon, Service::new(base.parse().unwrap(), "a/b").unwrap())
    }
}

async fn mode(State(daemon): State<Daemon>) -> Response {
    let mut answers = daemon.answers.lock().unwrap();
    let (status, body) = match answers.len() {
        1 => answers[0].clone(),
        _ => answers.pop_front().unwrap(),
    };
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

async fn ack(State(daemon): State<Daemon>, body: axum::Json<serde_json::Value>) -> Response {
    daemon.said.lock().unwrap().push(body.0);
    axum::Json(json!({"status": "success"})).into_response()
}

fn told(mode: &str, lease_seconds: u64) -> (u16, serde_json::Value) {
    let until = Clock::System.now().plus(Duration::from_secs(lease_seconds));
    let state = json!({
        "service": "a/b", "mode": mode, "level": 1, "since": "2026-01-01T00:00:00Z", "why": [],
        "features": {}, "priority_floor": "low", "quality": null, "shed": 0.0, "override": null,
        "lease_expires_at": until, "sequence": 3,
    });
    (200, json!({"status": "success", "data": state}))
}

fn failure(status: u16, kind: &str) -> (u16, serde_json::Value) {
    let body = json!({"status": "error", "errorType": kind, "error": "no"});
    (status, body)
}

/// What is told, one after the other, renewals left out.
async fn heard(service: &Service, count: usize) -> Vec<String> {
    let (sender, mut receiver) = watch::channel(Told::Nothing);
    let mut heard: Vec<String> = Vec::new();
    let collect = async {
        while heard.len() < count {
            receiver.changed().await.unwrap();
            let words = match &*receiver.borrow_and_update() {
                Told::Nothing => "nothing".to_owned(),
                Told::Instruction(state) => state.mode.clone(),
                Told::Unknown => "unknown".into(),
                Told::Silent { reason } => reason.clone(),
            };
            if heard.last() != Some(&words) {
                heard.push(words);
            }
        }
    };
    tokio::select! {
        never = service.follow(&sender) => match never {},
        () = collect => heard,
    }
}

#[tokio::test]
async fn an_instruction_holds_until_its_lease_ends_and_no_longer() {
    let broken = failure(503, "unavailable");
    // The daemon's clock shows whole seconds, so that a lease may be taken for a second longer.
    let (_, service) = Daemon::start([told("degraded", 1), broken]).await;
    let lost = "the lease has run out: Tidewatch is not heard any more";
    assert_eq!(heard(&service, 2).await, ["degraded", lost]);
}

#[tokio::test]
async fn a_daemon_that_starts_again_takes_nothing_back() {
    let answers = [
        told("degraded", 600),
        failure(503, "unavailable"),
        failure(502, "?"),
        (200, json!({"hello": "world"})),
        told("critical", 600),
    ];
    let (daemon, service) = Daemon::start(answers).await;
    let (sender, _receiver) = watch::channel(Told::Nothing);
    let changed = Notify::new();
    let ring = async {
        // Asked again at once rather than in time.
        while daemon.answers.lock().unwrap().len() > 1 {
            changed.notify_one();
            tokio::task::yield_now().await;
        }
    };
    let states = heard_with(&service, &changed, &sender);
    let ((), states) = tokio::join!(ring, states);
    assert_eq!(states, ["degraded", "critical"]);
}

async fn heard_with(
    service: &Service,
    changed: &Notify,
    sender: &watch::Sender<Told>,
) -> Vec<String> {
    let mut receiver = sender.subscribe();
    let mut states = Vec::new();
    let collect = async {
        while states.last().map(String::as_str) != Some("critical") {
            receiver.changed().await.unwrap();
            match &*receiver.borrow_and_update() {
                Told::Instruction(state) => states.push(state.mode.clone()),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::select! {
        never = service.renew(changed, sender) => match never {},
        () = collect => {}
    }
    states.dedup();
    states
}

#[tokio::test]
async fn who_is_not_known_or_not_answered_has_its_own_default() {
    let (_, service) = Daemon::start([failure(404, "not_found"), told("degraded", 60)]).await;
    assert_eq!(heard(&service, 2).await, ["unknown", "degraded"]);
    // Something else says 404: that is no word of Tidewatch.
    let (_, service) = Daemon::start([failure(404, "elsewhere"), told("degraded", 60)]).await;
    let expected = ["no (404 Not Found)", "degraded"];
    assert_eq!(heard(&service, 2).await, expected);
    let nobody = Service::new("http://127.0.0.1:1".parse().unwrap(), "a").unwrap();
    let silent = heard(&nobody, 1).await;
    assert!(silent[0].starts_with("no answer: "), "{silent:?}");
}

#[tokio::test]
async fn what_runs_is_said() {
    let (daemon, service) = Daemon::start([told("degraded", 60)]).await;
    let said = Acknowledgement {
        instance: "one".into(),
        mode: "degraded".into(),
        sequence: 3,
        detail: String::new(),
    };
    service.acknowledge(&said).await.unwrap();
    let expected = json!({"instance": "one", "mode": "degraded", "sequence": 3, "detail": ""});
    assert_eq!(*daemon.said.lock().unwrap(), [expected]);
    let nobody = Service::new("http://127.0.0.1:1".parse().unwrap(), "a").unwrap();
    let error = nobody.acknowledge(&said).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
}

#[test]
fn the_date_of_an_answer_is_read() {
    let time = time_of("Thu, 01 Jan 2026 00:00:30 GMT").unwrap();
    assert_eq!(time.to_string(), "2026-01-01T00:00:30Z");
    assert_eq!(time_of("yesterday"), None);
}
