//! What readers see of the engine's state: plain copies, shaped as the API answers them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use super::{Selector, SignalId, Timestamp};

/// Statistics over the samples of a window, as it holds them. Without samples all numbers are 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct WindowView {
    /// How many samples the window may hold.
    pub size: u32,
    /// How many it holds.
    pub count: u32,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (n - 1); 0 with fewer than two samples.
    pub stddev: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Median; quantiles interpolate linearly between order statistics, as Prometheus'
    /// `quantile_over_time` does.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// A sample beside its baseline. The baseline is `None` while learning or where no rule watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleView {
    /// End of the sample's tick.
    pub time: Timestamp,
    /// The value.
    pub value: f64,
    /// What was expected.
    pub expected: Option<f64>,
    /// Lower end of the band; `None` also where there is no lower end.
    pub lower: Option<f64>,
    /// Upper end of the band; `None` also where there is no upper end.
    pub upper: Option<f64>,
    /// How surprising it was, signed.
    pub sigma: Option<f64>,
}

/// Whether a signal's baseline stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum BaselineView {
    /// No rule watches the signal.
    Unwatched,
    /// So many samples more are needed.
    Learning {
        /// Samples still needed.
        remaining: u32,
    },
    /// Samples are judged.
    Ready,
}

/// One signal, as `/api/v1/series` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalView {
    /// Id of the signal: `SERIES-SIGNAL`.
    pub id: String,
    /// The service.
    pub service: String,
    /// Name of the metric.
    pub metric: String,
    /// Name of the signal.
    pub signal: String,
    /// Unit of the values.
    pub unit: String,
    /// Attributes of the point, in text form.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of the resource but `service.name`, in text form.
    pub resource: BTreeMap<String, String>,
    /// Statistics of the window.
    pub window: WindowView,
    /// Whether the baseline stands.
    pub baseline: BaselineView,
    /// The period by which it expects, `day` or `week`, once one has shown itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub season: Option<Cow<'static, str>>,
    /// The newest sample.
    pub last: Option<SampleView>,
    /// The client hit its own cardinality limit here (`otel.metric.overflow`); not judged.
    pub overflow: bool,
    /// The first rule that watches it.
    pub rule: Option<String>,
}

/// Where a signal is going.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// How much time it was looked at, in seconds.
    pub seconds: f64,
    /// The level at the beginning of that time.
    pub from: f64,
    /// The level at its end.
    pub to: f64,
    /// How unlikely that is without a trend, in standard deviations, signed.
    pub significance: f64,
}

/// One signal over the whole of its window, for the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    /// As everybody sees it.
    pub view: SignalView,
    /// The most surprising sample of the window.
    pub worst: Option<SampleView>,
    /// `None` where it goes nowhere.
    pub trend: Option<Trend>,
}

/// A service that has been seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// `service.name`.
    pub service: String,
    /// First time it was heard of.
    pub first_seen: Timestamp,
    /// Last time anything of it arrived.
    pub last_seen: Timestamp,
    /// How many series it has.
    pub series: u64,
    /// How many new series were refused because of a limit.
    pub refused_series: u64,
    /// The versions that it was seen in lately, the oldest first; at most 16.
    pub versions: Vec<VersionView>,
}

/// A `service.version` of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// The version.
    pub version: String,
    /// When something of it arrived first.
    pub first_seen: Timestamp,
    /// Whether the service had been heard of for a while without this version when it came: not so of
    /// the versions that a new service has, or that are first seen after a start of the daemon.
    pub appeared: bool,
}

/// One caller → callee edge with the numbers of its last tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeView {
    /// Who calls.
    pub caller: String,
    /// Who is called.
    pub callee: String,
    /// Calls per second.
    pub rate: f64,
    /// Share of calls with an error.
    pub error_ratio: f64,
    /// Median duration as the callee saw it, in seconds.
    pub p50: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// End of the last tick in which there were calls.
    pub last_seen: Timestamp,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The elements, by id.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<SignalId>,
}

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Reads the engine's state. Every answer is bounded by its arguments; none waits for ingestion.
pub trait Query: Send + Sync + 'static {
    /// Signals that `selector` holds for, ordered by id, after `cursor`, at most `limit`.
    fn signals(
        &self,
        selector: Selector,
        cursor: Option<SignalId>,
        limit: usize,
    ) -> BoxFuture<'_, Page<SignalView>>;

    /// The window's samples of one signal within `from..=to`, oldest first; `None`: no such signal.
    fn samples(
        &self,
        id: SignalId,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Option<Vec<SampleView>>>;

    /// All services, by name.
    fn services(&self) -> BoxFuture<'_, Vec<ServiceView>>;

    /// About how much memory what is known of each service takes, in bytes, by its name.
    fn state_bytes(&self) -> BoxFuture<'_, BTreeMap<String, u64>> {
        Box::pin(async { BTreeMap::new() })
    }

    /// All edges, by caller and callee.
    fn edges(&self) -> BoxFuture<'_, Vec<EdgeView>>;

    /// The signals that a rule watches, ordered by id, after `cursor`, at most `limit`. A page may be
    /// shorter and yet not the last.
    fn watched(&self, cursor: Option<SignalId>, limit: usize) -> BoxFuture<'_, Page<SignalView>>;
}
