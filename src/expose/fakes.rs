//! A site with an engine that says what a test tells it, a board fed by hand and a clock that stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::server::guarded;
use super::state::State;
use super::{
    Audit, AuditPage, AuditQuery, Deliveries, Report, Server, Settings, Sources, modes as skins,
};
use crate::clock::Clock;
use crate::model::{
    Alert, AlertState, BaselineView, BoxFuture, BreakerView, DeliveryStatistics, EdgeView, Event,
    Fingerprint, Instruction, IntegrationView, Labels, Level, ModeState, Page, Query, ReceiverView,
    SampleView, Selector, ServiceView, SeverityLabel, SignalId, SignalView, Timestamp, TroubleView,
    WindowView,
};
use crate::mute::{SilenceError, SilenceId, Silences};
use crate::publish::{Board, Command, CommandError, ModesView};
use crate::telemetry::Telemetry;

/// What the fake clock shows.
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);

/// An engine that knows only what it is told.
#[derive(Debug, Default)]
pub(super) struct FakeEngine {
    pub(super) signals: Vec<SignalView>,
    pub(super) services: Vec<ServiceView>,
    pub(super) edges: Vec<EdgeView>,
}

impl Query for FakeEngine {
    /// Here a selector is held against the metric's name only.
    fn signals(
        &self,
        selector: Selector,
        cursor: Option<SignalId>,
        limit: usize,
    ) -> BoxFuture<'_, Page<SignalView>> {
        let mut found: Vec<(SignalId, SignalView)> = self
            .signals
            .iter()
            .map(|signal| (signal.id.parse().expect("an id"), signal.clone()))
            .filter(|(id, _)| cursor.is_none_or(|cursor| *id > cursor))
            .filter(|(_, signal)| {
                selector.matches(
                    &[("metric", signal.metric.as_str())]
                        .into_iter()
                        .collect::<Labels>(),
                )
            })
            .collect();
        found.sort_by_key(|(id, _)| *id);
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().map(|(id, _)| *id).filter(|_| more);
        let items = found.into_iter().map(|(_, signal)| signal).collect();
        Box::pin(async move { Page { items, next } })
    }

    fn samples(
        &self,
        id: SignalId,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Option<Vec<SampleView>>> {
        let signal = self
            .signals
            .iter()
            .find(|signal| signal.id == id.to_string());
        let last = signal.map(|signal| {
            let last = signal.last.clone().into_iter();
            last.filter(|last| (from..=to).contains(&last.time))
                .collect()
        });
        Box::pin(async move { last })
    }

    fn services(&self) -> BoxFuture<'_, Vec<ServiceView>> {
        Box::pin(async { self.services.clone() })
    }

    fn state_bytes(&self) -> BoxFuture<'_, BTreeMap<String, u64>> {
        let each = self.services.iter().map(|s| (s.service.clone(), 1_000));
        let all = each.collect();
        Box::pin(async move { all })
    }

    fn edges(&self) -> BoxFuture<'_, Vec<EdgeView>> {
        Box::pin(async { self.edges.clone() })
    }

    fn watched(&self, cursor: Option<SignalId>, limit: usize) -> BoxFuture<'_, Page<SignalView>> {
        self.signals(Selector::default(), cursor, limit)
    }
}

/// One receiver, whose breaker is open.
struct FakeDeliveries;

impl Deliveries for FakeDeliveries {
    fn receivers(&self) -> Vec<ReceiverView> {
        vec![ReceiverView {
            name: "oncall".into(),
            fallback: Some("log".into()),
            failing: true,
            integrations: vec![IntegrationView {
                integration: "webhook[0]".into(),
                target: "https://hooks.example/…".into(),
                breaker: BreakerView {
                    state: "open",
                    since: NOW,
                    until: Some(NOW.plus(std::time::Duration::from_secs(60))),
                },
                trouble: Some(TroubleView {
                    since: NOW,
                    reason: "it answered 500".into(),
                }),
                gone: None,
                limited_until: None,
                pending: 1,
                underway: 0,
                statistics: DeliveryStatistics {
                    attempts: 5,
                    retried: 4,
                    ..DeliveryStatistics::default()
                },
                last_delivered_at: None,
                last_failed_at: Some(NOW),
                last_error: Some("it answered 500".into()),
            }],
        }]
    }
}

struct FakeReport;

impl Report for FakeReport {
    fn json(&self) -> BoxFuture<'_, serde_json::Value> {
        Box::pin(async { serde_json::json!({"services": []}) })
    }

    fn markdown(&self) -> BoxFuture<'_, String> {
        Box::pin(async { "# Report\n".into() })
    }
}

/// An audit that holds what a test put there, and asks the query for nothing but its bounds.
#[derive(Default)]
pub(super) struct FakeAudit(pub(super) std::sync::Mutex<Vec<Event>>);

impl Audit for FakeAudit {
    fn page(&self, query: AuditQuery) -> BoxFuture<'_, Result<AuditPage, String>> {
        let all = self.0.lock().expect("not poisoned").clone();
        if query.service.as_deref() == Some("unreadable") {
            return Box::pin(async { Err("the disk fails".into()) });
        }
        let before = query.before.unwrap_or(u64::MAX);
        let named = |event: &Event| {
            query.types.is_empty() || query.types.iter().any(|name| name == event.name())
        };
        let mut older: Vec<Event> = all
            .into_iter()
            .rev()
            .filter(|event| event.sequence < before && named(event))
            .collect();
        let more = older.len() > query.limit;
        older.truncate(query.limit);
        let next = older.last().map(|event| event.sequence).filter(|_| more);
        let page = AuditPage {
            events: older,
            next,
        };
        Box::pin(async move { Ok(page) })
    }
}

/// All of port 9517 without a port.
pub(super) struct Site {
    pub(super) board: Board,
    pub(super) audit: Arc<FakeAudit>,
    /// Kept so that commands find their queue; `None` once somebody carries them out.
    commands: Option<mpsc::Receiver<Command>>,
    sources: Sources,
    settings: Settings,
    router: Router,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    #[track_caller]
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Site {
    /// Knows nothing yet.
    pub(super) fn new() -> Self {
        Self::build(FakeEngine::default(), Settings::default())
    }

    pub(super) fn with(settings: Settings) -> Self {
        Self::build(FakeEngine::default(), settings)
    }

    pub(super) fn over(engine: FakeEngine) -> Self {
        Self::build(engine, Settings::default())
    }

    pub(super) fn build(engine: FakeEngine, settings: Settings) -> Self {
        let (board, commands) = Board::new(Vec::new());
        let audit = Arc::new(FakeAudit::default());
        let sources = Sources {
            board: board.clone(),
            query: Arc::new(engine),
            report: Arc::new(FakeReport),
            deliveries: Arc::new(FakeDeliveries),
            audit: audit.clone(),
            telemetry: Telemetry::new(),
            clock: Clock::starting_at(NOW),
        };
        let skins = skins::State::new(
            board.clone(),
            sources.clock.clone(),
            sources.telemetry.clone(),
            settings.modes.clone(),
            CancellationToken::new(),
        );
        let state = State::new(settings.clone(), sources.clone(), settings.listen);
        Self {
            board,
            audit,
            commands: Some(commands),
            sources,
            settings,
            router: guarded(state, skins),
        }
    }

    /// Carries out commands on silences and proposals, as the decision task does.
    pub(super) fn decide(&mut self) {
        let mut commands = self.commands.take().expect("decided once");
        let (board, clock) = (self.board.clone(), self.sources.clock.clone());
        tokio::spawn(async move {
            let mut silences = Silences::default();
            while let Some(command) = commands.recv().await {
                let refused = |error: SilenceError| match error {
                    SilenceError::NotFound => CommandError::NotFound(error.to_string()),
                    _ => CommandError::Invalid(error.to_string()),
                };
                let now = clock.now();
                match command {
                    Command::SetSilence { draft, reply } => {
                        let new = SilenceId::from_random(rand::random());
                        let set = silences.set(now, draft, new).map_err(refused);
                        board.set_silences(silences.clone());
                        drop(reply.send(set));
                    }
                    Command::ExpireSilence { id, reply } => {
                        let expired = silences.expire(now, id).map_err(refused);
                        board.set_silences(silences.clone());
                        drop(reply.send(expired));
                    }
                    Command::Decide {
                        proposal, reply, ..
                    } => {
                        let found = board.modes();
                        let found = found.proposals.iter().find(|p| p.id == proposal);
                        let unknown = || CommandError::NotFound("there is no such proposal".into());
                        drop(reply.send(found.cloned().ok_or_else(unknown)));
                    }
                    other => panic!("nobody carries out {other:?}"),
                }
            }
        });
    }

    pub(super) fn telemetry(&self) -> &Telemetry {
        &self.sources.telemetry
    }

    /// Answers a request, without a network.
    pub(super) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("infallible");
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await.expect("a body").to_bytes().to_vec(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    pub(super) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(Body::empty()).expect("a request"))
            .await
    }

    /// Serves on a free port until the token is cancelled. The task ends once the server has.
    pub(super) async fn serve(
        &self,
    ) -> (
        std::net::SocketAddr,
        CancellationToken,
        tokio::task::JoinHandle<()>,
    ) {
        let settings = Settings {
            listen: "127.0.0.1:0".parse().expect("an address"),
            ..self.settings.clone()
        };
        let server = Server::bind(settings).await.expect("a free port");
        let address = server.local_addr();
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(self.sources.clone(), stop.clone()));
        (address, stop, task)
    }
}

/// The `n`-th signal: a p99 of `checkout` in its own series, with a baseline and a full window.
pub(super) fn signal(n: u128) -> SignalView {
    SignalView {
        id: format!("{n:032x}-p99"),
        service: "checkout".into(),
        metric: "http.server.request.duration".into(),
        signal: "p99".into(),
        unit: "s".into(),
        attributes: pairs(&[("http.route", "/pay")]),
        resource: BTreeMap::new(),
        window: WindowView {
            size: 100,
            count: 100,
            mean: 0.12,
            stddev: 0.01,
            min: 0.1,
            max: 0.4,
            p50: 0.11,
            p90: 0.14,
            p95: 0.15,
            p99: 0.3,
        },
        baseline: BaselineView::Ready,
        season: None,
        last: Some(SampleView {
            time: NOW,
            value: 0.31,
            expected: Some(0.12),
            lower: Some(0.09),
            upper: Some(0.16),
            sigma: Some(6.1),
        }),
        overflow: false,
        rule: Some("LatencyDeviation".into()),
    }
}

pub(super) fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// An alert `name` on `service`.
pub(super) fn alert(name: &str, service: &str, state: AlertState) -> Alert {
    let labels: Labels = [
        ("alertname", name),
        ("service", service),
        ("severity", "critical"),
        ("signal", "p99"),
    ]
    .into_iter()
    .collect();
    let Fingerprint(hash) = labels.fingerprint();
    Alert {
        fingerprint: Fingerprint(hash),
        annotations: [("explanation", "p99 is 0.31 s where 0.12 s was expected")]
            .into_iter()
            .collect(),
        labels,
        state,
        severity: SeverityLabel::Critical,
        severity_score: 0.8,
        service: service.into(),
        signal_id: format!("{:032x}-p99", 1),
        unit: "s".into(),
        observed: 0.31,
        expected: 0.12,
        lower: 0.09,
        upper: 0.16,
        sigma: 6.1,
        worst_sigma: 7.2,
        anomalous_samples: 4,
        since: NOW.minus(std::time::Duration::from_secs(60)),
        fired_at: (state != AlertState::Pending).then_some(NOW),
        resolved_at: (state == AlertState::Resolved).then_some(NOW),
        updated_at: NOW,
        trace_id: None,
        grounds: Default::default(),
    }
}

/// Modes in which these services are in these levels.
pub(super) fn modes(services: &[(&str, &str)]) -> ModesView {
    let mut view = ModesView::default();
    for (service, mode) in services {
        let state = ModeState {
            service: (*service).into(),
            mode: (*mode).into(),
            level: view.levels.level(mode).unwrap_or(Level(0)),
            since: NOW,
            why: Vec::new(),
            instruction: Instruction::default(),
            manual: None,
            lease_expires_at: NOW,
            sequence: 1,
            episode: None,
        };
        view.services.insert((*service).into(), state);
    }
    view
}
