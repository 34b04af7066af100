//! A board fed by hand, a decision task that does as it is told, and a server on a free port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{Limits, State, routes};
use crate::clock::Clock;
use crate::model::{
    Acknowledgement, Alert, AlertState, Event, EventBody, Fingerprint, Instruction, Labels, Level,
    Levels, ModeChange, ModeReason, ModeState, ModeStep, SeverityLabel, Timestamp,
};
use crate::publish::{Board, Command, CommandError, ModesView};
use crate::telemetry::Telemetry;

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_000_000);

pub(super) fn mode(service: &str, level: u8, sequence: u64) -> ModeState {
    let reason = ModeReason {
        policy: "slow".into(),
        fingerprint: Fingerprint(7),
        alertname: "Slow".into(),
        explanation: "it is slow".into(),
    };
    ModeState {
        service: service.into(),
        mode: Levels::default().name(Level(level)).into(),
        level: Level(level),
        since: NOW,
        why: Vec::from_iter((level > 0).then_some(reason)),
        instruction: Instruction {
            features: BTreeMap::from([("max_steps".into(), level.into())]),
            ..Instruction::default()
        },
        manual: None,
        lease_expires_at: Timestamp::from_secs(1_000_030),
        sequence,
        episode: None,
    }
}

pub(super) fn alert(service: &str) -> Alert {
    let labels: Labels = [("alertname", "Slow"), ("service", service)]
        .into_iter()
        .collect();
    Alert {
        fingerprint: labels.fingerprint(),
        labels,
        annotations: Labels::default(),
        state: AlertState::Firing,
        severity: SeverityLabel::Warning,
        severity_score: 0.5,
        service: service.into(),
        signal_id: "0-p99".into(),
        unit: "s".into(),
        observed: 2.0,
        expected: 1.0,
        lower: f64::NEG_INFINITY,
        upper: 1.5,
        sigma: 5.0,
        worst_sigma: 5.0,
        anomalous_samples: 1,
        since: NOW,
        fired_at: Some(NOW),
        resolved_at: None,
        updated_at: NOW,
        trace_id: None,
        grounds: Default::default(),
    }
}

pub(super) fn event(sequence: u64, body: EventBody) -> Event {
    Event {
        sequence,
        time: NOW,
        body,
    }
}

pub(super) fn mode_event(sequence: u64, service: &str, level: u8) -> Event {
    let change = ModeChange {
        step: ModeStep::Degrade,
        from: "normal".into(),
        cause: "policy `slow`: Slow fires".into(),
        state: mode(service, level, sequence),
    };
    event(sequence, EventBody::Mode(change))
}

pub(super) struct Fixture {
    pub(super) board: Board,
    pub(super) state: State,
    pub(super) telemetry: Telemetry,
    pub(super) stop: CancellationToken,
    queue: Option<mpsc::Receiver<Command>>,
    clock: Clock,
}

impl Fixture {
    /// Ready, with the services `cart` (normal) and `pay` (degraded).
    pub(super) fn new(limits: Limits) -> Self {
        let (board, queue) = Board::new(Vec::new());
        let telemetry = Telemetry::new();
        let stop = CancellationToken::new();
        let clock = Clock::starting_at(NOW);
        board.set_ready(None);
        let fixture = Self {
            state: State::new(
                board.clone(),
                clock.clone(),
                telemetry.clone(),
                limits,
                stop.clone(),
            ),
            board,
            telemetry,
            stop,
            queue: Some(queue),
            clock,
        };
        fixture.publish([mode("cart", 0, 0), mode("pay", 1, 0)]);
        fixture
    }

    pub(super) fn publish(&self, modes: impl IntoIterator<Item = ModeState>) {
        let services = modes.into_iter();
        self.board.set_modes(ModesView {
            services: services.map(|mode| (mode.service.clone(), mode)).collect(),
            ..ModesView::default()
        });
    }

    /// Carries out commands on known services as the decision task does, and shows each in words.
    pub(super) fn decide(&mut self) -> mpsc::Receiver<String> {
        let (told, commands) = mpsc::channel(16);
        let mut queue = self.queue.take().expect("decided once");
        let board = self.board.clone();
        tokio::spawn(async move {
            while let Some(command) = queue.recv().await {
                let words = match command {
                    Command::SetOverride {
                        service,
                        manual,
                        reply,
                    } => {
                        let words = format!("{service}: {manual:?}");
                        let known = board.modes().services.get(&service).cloned();
                        let answer = known.map(|mut mode| {
                            mode.mode = manual.mode.clone();
                            mode.manual = Some(manual);
                            mode
                        });
                        let unknown = || CommandError::NotFound("there is no such service".into());
                        reply.send(answer.ok_or_else(unknown)).unwrap();
                        words
                    }
                    Command::RemoveOverride {
                        service,
                        author,
                        reply,
                    } => {
                        let none = CommandError::NotFound(format!("{service} has no override"));
                        reply.send(Err(none)).unwrap();
                        format!("{service} by {author}")
                    }
                    Command::Freeze {
                        freeze,
                        author,
                        reply,
                    } => {
                        let mut view = ModesView::clone(&board.modes());
                        view.freeze = freeze.clone();
                        board.set_modes(view);
                        reply.send(Ok(())).unwrap();
                        format!(
                            "freeze {:?} by {author}",
                            freeze.map(|freeze| freeze.reason)
                        )
                    }
                    other => format!("{other:?}"),
                };
                told.send(words).await.unwrap();
            }
        });
        commands
    }

    /// Lets time pass until all leases have run out.
    pub(super) fn run_out(&self) {
        self.clock.set(NOW.plus(Duration::from_secs(31)));
    }

    /// Answers acknowledgements as the decision task does, and shows what each says.
    pub(super) fn listen(&self) -> mpsc::Receiver<(String, Acknowledgement)> {
        let (heard, acknowledgements) = mpsc::channel(16);
        let mut queue = self.board.acknowledgements().expect("listened to once");
        tokio::spawn(async move {
            while let Some(many) = queue.gather().await {
                for one in many {
                    let said = one.acknowledgement;
                    let answer = match said.mode.as_str() {
                        "sideways" => Err(CommandError::Invalid("there is no such level".into())),
                        _ => Ok(()),
                    };
                    heard.send((one.service, said)).await.unwrap();
                    // Whoever asked may have left.
                    drop(one.reply.send(answer));
                }
            }
        });
        acknowledgements
    }

    /// The decision task has gone.
    pub(super) fn end_decisions(&mut self) {
        self.queue = None;
        drop(self.board.acknowledgements());
    }

    /// One request without a network: status, headers and body.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (StatusCode, HeaderMap, serde_json::Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = routes(self.state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes);
        (parts.status, parts.headers, json.unwrap_or_default())
    }

    /// A real server.
    pub(super) async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = routes(self.state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// Waits until there is room for all watchers again: nobody watches any more.
    pub(super) async fn nobody_watches(&self) {
        let all = u32::try_from(self.state.limits.watchers).unwrap();
        let permits = Arc::clone(&self.state.watchers)
            .acquire_many_owned(all)
            .await;
        drop(permits.unwrap());
    }
}
