//! What every shard knows alike: settings, rules and counters.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus::IntCounter;

use super::common::Common;
use crate::derive::{self, tick_end};
use crate::detect;
use crate::model::{AttributeRef, Resource, Rule, SeriesIdentity, Timestamp, WindowSpec};
use crate::telemetry::Telemetry;

/// How the engine is sized and how long it remembers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Length of a tick. Default 10 s.
    pub tick: Duration,
    /// Window of every signal. Default the last 100 samples.
    pub window: WindowSpec,
    /// Threads that own the series. Default: the machine's cores, at most 16.
    pub shards: NonZeroUsize,
    /// Where they work. Default: threads of their own.
    pub placement: Placement,
    /// How often silence is judged, a multiple of the tick; `None`: with every tick. For recorded data
    /// whose ticks are shorter than the time between two samples.
    pub beat: Option<Duration>,
    /// Parts of requests that may wait for one shard; beyond, [`Busy`](super::Busy) is the answer.
    /// Default 64: some milliseconds of work, enough to even out bursts.
    pub queue: NonZeroUsize,
    /// Most series of all services together. Default 1,000,000.
    pub max_series: u64,
    /// Most series of one service. Default 100,000.
    pub max_series_per_service: u64,
    /// Most services. Default 10,000.
    pub max_services: usize,
    /// A series without data for so long leaves, but not before a window of it would have passed.
    /// Default 1 h.
    pub idle_after: Duration,
    /// Points and spans older than this are late. Default 24 h.
    pub max_age: Duration,
    /// `service.name` of our own telemetry, which is stored but not judged.
    pub own_service: Option<String>,
    /// Value of the attribute [`OWN_INSTANCE`] in it; `None`: every instance counts as our own.
    pub own_instance: Option<String>,
}

/// Where the work of shards is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// Each shard has a thread.
    #[default]
    Threads,
    /// Whoever asks does it, and there is one shard whatever the settings say. For replays, which ask
    /// for so little at a time that waking a thread would take longer than the work.
    InPlace,
}

/// The resource attribute by which a daemon knows its own telemetry from that of others.
pub const OWN_INSTANCE: &str = "tidewatch.instance";
/// The attribute of a series that stands for all that were beyond a limit.
pub const OVERFLOW: &str = "otel.metric.overflow";

impl Default for Settings {
    fn default() -> Self {
        let derive::Settings { tick, max_age, .. } = derive::Settings::default();
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            tick,
            window: WindowSpec::Samples(100),
            shards: cores.min(NonZeroUsize::MIN.saturating_add(15)),
            placement: Placement::default(),
            beat: None,
            queue: NonZeroUsize::MIN.saturating_add(63),
            max_series: 1_000_000,
            max_series_per_service: 100_000,
            max_services: 10_000,
            idle_after: Duration::from_secs(3600),
            max_age,
            own_service: None,
            own_instance: None,
        }
    }
}

impl Settings {
    /// Without data for so long, a series leaves.
    pub fn idle(&self) -> Duration {
        let window = match self.window {
            WindowSpec::Samples(samples) => self.tick.saturating_mul(samples),
            WindowSpec::Duration(window) => window,
        };
        window.max(self.idle_after)
    }

    /// Whether silence is judged when the tick that ends at `boundary` is closed.
    pub(super) fn is_beat(&self, boundary: Timestamp) -> bool {
        self.beat
            .is_none_or(|beat| tick_end(boundary, beat) == boundary)
    }

    /// Whether `resource` is this daemon.
    pub(super) fn is_own(&self, resource: &Resource) -> bool {
        self.own_service.as_deref() == Some(&*resource.service)
            && self.own_instance.as_deref().is_none_or(|own| {
                resource
                    .attributes
                    .get(OWN_INSTANCE)
                    .is_some_and(|instance| instance.as_text() == own)
            })
    }
}

/// Whether a series stands for all that were beyond a limit, the client's or ours.
pub(super) fn is_overflow(identity: &SeriesIdentity) -> bool {
    match identity.attributes.get(OVERFLOW) {
        Some(AttributeRef::Bool(overflow)) => overflow,
        Some(other) => other.as_text() == "true",
        None => false,
    }
}

/// Settings, rules and counters, shared by all shards.
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) derive: derive::Settings,
    pub(super) rules: Arc<[Rule]>,
    /// What the identities of all series share.
    pub(super) common: Common,
    pub(super) telemetry: Telemetry,
    /// By rule: anomalies of its detector. Looked up once, since looking up takes a lock.
    anomalies: Vec<IntCounter>,
    /// Points and spans dropped without a refusal.
    pub(super) late: IntCounter,
    pub(super) repeated: IntCounter,
    pub(super) overlap: IntCounter,
    /// Signals that began.
    pub(super) begun: AtomicU64,
}

impl Plan {
    /// Fails where a rule's detector cannot be built.
    pub(super) fn new(
        settings: Settings,
        rules: Arc<[Rule]>,
        telemetry: Telemetry,
    ) -> Result<Self, String> {
        for rule in rules.iter() {
            detect::check(rule).map_err(|error| format!("rule {}: {error}", rule.alert))?;
        }
        let counter = |rule: &Rule| {
            telemetry
                .anomalies
                .with_label_values(&[rule.detector.name.as_str()])
        };
        let dropped = |reason| telemetry.late.with_label_values(&[reason]);
        Ok(Self {
            late: dropped("late"),
            repeated: dropped("repeated"),
            overlap: dropped("overlap"),
            begun: AtomicU64::new(0),
            common: Common::default(),
            derive: derive::Settings {
                tick: settings.tick,
                max_age: settings.max_age,
                ..derive::Settings::default()
            },
            anomalies: rules.iter().map(counter).collect(),
            settings,
            rules,
            telemetry,
        })
    }

    pub(super) fn count_anomaly(&self, rule: u32) {
        if let Some(counter) = self.anomalies.get(rule as usize) {
            counter.inc();
        }
    }
}
