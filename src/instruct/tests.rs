use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::mpsc;

use super::*;
use crate::model::{Event, EventBody, Instruction, Level, ModeChange, ModeStep};
use crate::publish::ModesView;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A request as a service sees it.
struct Told {
    path: String,
    id: String,
    signature: Option<String>,
    body: Vec<u8>,
}

impl Told {
    fn data(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["type"], "mode");
        body["data"].clone()
    }
}

/// Answers in turn; the last one for good.
type Answers = Arc<Mutex<Vec<(StatusCode, &'static str)>>>;

async fn service(answers: Answers) -> (SocketAddr, mpsc::Receiver<Told>) {
    let (seen, told) = mpsc::channel(100);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move |request: Request| {
        let (seen, answers) = (seen.clone(), Arc::clone(&answers));
        async move {
            let (parts, body) = request.into_parts();
            let header = |name: &str| {
                let value = parts.headers.get(name)?;
                Some(value.to_str().unwrap().to_owned())
            };
            let told = Told {
                path: parts.uri.path().into(),
                id: header("webhook-id").unwrap(),
                signature: header("webhook-signature"),
                body: body.collect().await.unwrap().to_bytes().to_vec(),
            };
            seen.send(told).await.unwrap();
            let mut answers = answers.lock().unwrap();
            match answers.len() {
                1 => answers[0],
                _ => answers.remove(0),
            }
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, told)
}

fn state(service: &str, level: u8, sequence: u64) -> ModeState {
    ModeState {
        service: service.into(),
        mode: ["normal", "degraded"][usize::from(level)].into(),
        level: Level(level),
        since: NOW,
        why: Vec::new(),
        instruction: Instruction {
            shed: 0.2,
            ..Instruction::default()
        },
        manual: None,
        lease_expires_at: NOW.plus(Duration::from_secs(30)),
        sequence,
        episode: None,
    }
}

struct Fixture {
    board: Board,
    clock: Clock,
    telemetry: Telemetry,
    secret: Secret,
    stop: CancellationToken,
}

impl Fixture {
    fn new() -> Self {
        Self {
            board: Board::new(Vec::new()).0,
            clock: Clock::starting_at(NOW),
            telemetry: Telemetry::new(),
            secret: Secret::parse("whsec_cGxhaW4gdGV4dA==").unwrap(),
            stop: CancellationToken::new(),
        }
    }

    fn tell(&self, states: impl IntoIterator<Item = ModeState>) {
        let mut view = ModesView::clone(&self.board.modes());
        for state in states {
            let change = ModeChange {
                step: ModeStep::Degrade,
                from: "normal".into(),
                cause: String::new(),
                state: state.clone(),
            };
            let event = Event {
                sequence: state.sequence,
                time: NOW,
                body: EventBody::Mode(change),
            };
            view.services.insert(state.service.clone(), state);
            self.board.set_modes(view.clone());
            self.board.append([event]);
        }
    }

    fn start(&self, url: &str, lease: Duration) -> tokio::task::JoinHandle<()> {
        let webhook = Webhook {
            service: Regex::new("^(?:pay.*)$").unwrap(),
            url: url.into(),
            secret: Some(self.secret.clone()),
        };
        let settings = Settings {
            webhooks: vec![webhook],
            lease,
            ..Settings::default()
        };
        let (board, clock) = (self.board.clone(), self.clock.clone());
        let instructor = Instructor::new(settings, board, clock, self.telemetry.clone());
        tokio::spawn(instructor.unwrap().run(self.stop.clone()))
    }

    fn count(&self, result: &str) -> u64 {
        let counter = &self.telemetry.mode_webhooks;
        counter.with_label_values(&[result]).get()
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn services_are_told_what_is_new_signed_and_their_answer_is_an_acknowledgement() {
    let fixture = Fixture::new();
    let mut acknowledgements = fixture.board.acknowledgements().unwrap();
    let answer = r#"{"mode":"degraded","instance":"pay-1"}"#;
    let (address, mut told) = service(Arc::new(Mutex::new(vec![(StatusCode::OK, answer)]))).await;
    fixture.tell([state("cart", 1, 1), state("pay", 1, 2)]);
    let running = fixture.start(&format!("http://{address}/mode/{{{{ service }}}}"), LONG);
    let first = told.recv().await.unwrap();
    assert_eq!(first.path, "/mode/pay");
    let data = first.data();
    assert_eq!(
        (&data["mode"], &data["sequence"]),
        (&"degraded".into(), &2.into())
    );
    assert_eq!(
        (&data["shed"], &data["lease_expires_at"]),
        (&0.2.into(), &"2023-11-14T22:13:50Z".into())
    );
    let expected = fixture.secret.sign(&first.id, NOW, &first.body);
    assert_eq!(first.signature, Some(expected));
    let many = acknowledgements.gather().await.unwrap();
    let [said] = &many[..] else {
        panic!("{many:?}")
    };
    let heard = &said.acknowledgement;
    assert_eq!(
        (said.service.as_str(), heard.mode.as_str()),
        ("pay", "degraded")
    );
    assert_eq!((heard.instance.as_str(), heard.sequence), ("pay-1", 2));
    drop(many);
    fixture.tell([state("pay", 0, 3)]);
    assert_eq!(told.recv().await.unwrap().data()["mode"], "normal");
    fixture.stop.cancel();
    running.await.unwrap();
    assert!(fixture.count("acknowledged") >= 1);
}

#[tokio::test]
async fn what_fails_is_tried_again_until_it_is_superseded() {
    let fixture = Fixture::new();
    let answers = Arc::new(Mutex::new(vec![
        (StatusCode::INTERNAL_SERVER_ERROR, ""),
        (StatusCode::OK, "not JSON"),
        (StatusCode::NOT_FOUND, ""),
        (StatusCode::NO_CONTENT, ""),
    ]));
    let (address, mut told) = service(answers).await;
    fixture.tell([state("pay", 1, 1)]);
    let running = fixture.start(&format!("http://{address}/"), LONG);
    let first = told.recv().await.unwrap();
    assert_eq!(first.data()["sequence"], 1);
    // It is the same message, so that who took it and could not say so knows it again.
    fixture.clock.set(NOW.plus(Duration::from_secs(1)));
    let again = told.recv().await.unwrap();
    assert_eq!((&again.id, &again.body), (&first.id, &first.body));
    // This one fails for good, as far as anybody can say; what is newer is told all the same.
    fixture.tell([state("pay", 1, 2)]);
    assert_eq!(told.recv().await.unwrap().data()["sequence"], 2);
    while fixture.count("failed") < 2 {
        tokio::task::yield_now().await;
    }
    fixture.tell([state("pay", 0, 3)]);
    assert_eq!(told.recv().await.unwrap().data()["sequence"], 3);
    while fixture.count("delivered") < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        (fixture.count("failed"), fixture.count("acknowledged")),
        (2, 0)
    );
    fixture.stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn what_fails_for_long_is_renewed() {
    let fixture = Fixture::new();
    let refused = vec![(StatusCode::SERVICE_UNAVAILABLE, "")];
    let (address, mut told) = service(Arc::new(Mutex::new(refused))).await;
    fixture.tell([state("pay", 1, 1)]);
    let lease = Duration::from_millis(20);
    let running = fixture.start(&format!("http://{address}/"), lease);
    let first = told.recv().await.unwrap();
    fixture.clock.set(NOW.plus(Duration::from_secs(1)));
    let renewed = loop {
        let next = told.recv().await.unwrap();
        if next.id != first.id {
            break next;
        }
        assert_eq!(next.body, first.body);
    };
    assert_eq!(renewed.data()["sequence"], 1);
    assert_ne!(renewed.body, first.body);
    fixture.stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn instructions_are_renewed_until_nobody_decides_any_more() {
    let fixture = Fixture::new();
    let (address, mut told) = service(Arc::new(Mutex::new(vec![(StatusCode::OK, "")]))).await;
    fixture.tell([state("pay", 1, 1)]);
    let lease = Duration::from_millis(20);
    let running = fixture.start(&format!("http://{address}/"), lease);
    let mut ids = std::collections::BTreeSet::new();
    for seconds in 1..=3 {
        let renewed = told.recv().await.unwrap();
        assert_eq!(renewed.data()["sequence"], 1);
        ids.insert(renewed.id);
        fixture.clock.set(NOW.plus(Duration::from_secs(seconds)));
        // What was sent before time went on carries the old time.
        while told.try_recv().is_ok() {}
    }
    assert!(ids.len() > 1, "a renewal is no repeat: {ids:?}");
    // The leases run out.
    fixture.clock.set(NOW.plus(Duration::from_secs(31)));
    let quiet = async {
        loop {
            let next = told.recv();
            if tokio::time::timeout(Duration::from_millis(200), next)
                .await
                .is_err()
            {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, quiet).await.unwrap();
    fixture.stop.cancel();
    running.await.unwrap();
}

#[test]
fn names_of_services_lead_nowhere_else() {
    let template = "http://{{ service }}.svc:8080/x/{{service}}?a=1";
    for (service, url) in [
        ("pay", "http://pay.svc:8080/x/pay?a=1"),
        ("evil/#", "http://evil%2F%23.svc:8080/x/evil%2F%23?a=1"),
        ("a@b", "http://a%40b.svc:8080/x/a%40b?a=1"),
        ("..", "http://%252E%252E.svc:8080/x/%252E%252E?a=1"),
    ] {
        assert_eq!(address(template, service), url);
    }
    for evil in ["evil/#", "a@b", "b:80", "x?y", "[::1]", "\u{0}"] {
        let url = address("http://{{ service }}/", evil);
        assert!(reqwest::Url::parse(&url).is_err(), "{url}");
    }
}
