use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Audit, Board, Deliveries, Query, Report, modes};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::telemetry::Telemetry;

/// Scrapes that are rendered at the same time; further ones wait. Each may hold some tens of megabytes
/// when tens of thousands of signals are watched.
const SCRAPES: usize = 2;

/// Answers that take a while and are made at the same time; further ones wait. A list may be some tens of
/// megabytes while it is made.
pub(super) const ANSWERS: usize = 4;

/// Settings of port 9517.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one. Default `127.0.0.1:9517`.
    pub listen: SocketAddr,
    /// Names under which it may be reached besides loopback, without port: what stands in the address
    /// line of a browser or in the target of a scrape. Default none. The host of `external_url` and
    /// the very address that a connection came in on are always allowed.
    pub allowed_hosts: Vec<String>,
    /// How people reach it from outside, for links; `None`: by the address it listens on.
    pub external_url: Option<String>,
    /// Most signals in `/metrics`, each with up to 11 numbers. Default 10,000.
    pub exposed_signals: usize,
    /// Elements of a page when the request names no `limit`. Default 100.
    pub page_default: usize,
    /// Most elements of a page; a larger `limit` gets this. Default 1,000.
    pub page_limit: usize,
    /// Connections at the same time; further ones are closed at once. Default 11,024: one for each watcher of
    /// modes, and some for people.
    pub max_connections: usize,
    /// Time for the head of a request, also of one that never comes. Default 10 s.
    pub header_timeout: Duration,
    /// Time for the body of a request. Default 10 s.
    pub body_timeout: Duration,
    /// Largest body of a request. Default 64 KiB.
    pub max_body_bytes: usize,
    /// Largest list of alerts that another system may send. Default 4 MiB.
    pub max_alerts_bytes: usize,
    /// Bounds of the doors to modes and events.
    pub modes: modes::Limits,
    /// Time that requests in work have to end at shutdown. Default 5 s.
    pub drain: Duration,
    /// An alert that still fires is said to end so long from now, as Alertmanager says of alerts without an
    /// end of their own. Default 5 minutes.
    pub resolve_timeout: Duration,
    /// The names of all receivers.
    pub receivers: Vec<String>,
    /// The configuration in force with its secrets hidden, for `/api/v2/status`; may be empty.
    pub configuration: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9517)),
            allowed_hosts: Vec::new(),
            external_url: None,
            exposed_signals: 10_000,
            page_default: 100,
            page_limit: 1_000,
            max_connections: modes::Limits::default().watchers + 1_024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            max_body_bytes: 64 * 1024,
            max_alerts_bytes: 4 << 20,
            modes: modes::Limits::default(),
            drain: Duration::from_secs(5),
            resolve_timeout: Duration::from_mins(5),
            receivers: Vec::new(),
            configuration: String::new(),
        }
    }
}

/// What is looked at.
#[derive(Clone)]
pub struct Sources {
    /// Alerts, modes, events, readiness.
    pub board: Board,
    /// The engine's read handle.
    pub query: Arc<dyn Query>,
    /// The performance report.
    pub report: Arc<dyn Report>,
    /// Who is told, and how that goes.
    pub deliveries: Arc<dyn Deliveries>,
    /// What was decided about modes.
    pub audit: Arc<dyn Audit>,
    /// The daemon's metrics about itself.
    pub telemetry: Telemetry,
    /// The present time.
    pub clock: Clock,
}

/// What every handler has at hand. Cheap to clone.
#[derive(Clone)]
pub(super) struct State {
    pub(super) board: Board,
    pub(super) query: Arc<dyn Query>,
    pub(super) report: Arc<dyn Report>,
    pub(super) deliveries: Arc<dyn Deliveries>,
    pub(super) audit: Arc<dyn Audit>,
    pub(super) telemetry: Telemetry,
    pub(super) clock: Clock,
    pub(super) settings: Arc<Settings>,
    /// Where links lead, without a slash at the end.
    pub(super) base_url: Arc<str>,
    /// When the daemon began to serve.
    pub(super) started: Timestamp,
    /// See [`SCRAPES`].
    pub(super) scrapes: Arc<Semaphore>,
    /// See [`ANSWERS`].
    pub(super) answers: Arc<Semaphore>,
}

impl State {
    /// `local` is the address that is really listened on.
    pub(super) fn new(settings: Settings, sources: Sources, local: SocketAddr) -> Self {
        let base_url = match &settings.external_url {
            Some(url) => url.trim_end_matches('/').into(),
            None => format!("http://{local}").into(),
        };
        let Sources {
            board,
            query,
            report,
            deliveries,
            audit,
            telemetry,
            clock,
        } = sources;
        Self {
            started: clock.now(),
            board,
            query,
            report,
            deliveries,
            audit,
            telemetry,
            clock,
            settings: Arc::new(settings),
            base_url,
            scrapes: Arc::new(Semaphore::new(SCRAPES)),
            answers: Arc::new(Semaphore::new(ANSWERS)),
        }
    }
}
