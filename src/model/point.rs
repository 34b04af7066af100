use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Resource, SeriesId, SeriesIdentity, Timestamp};

/// One OTLP request after decoding: what it says, typed and checked as far as a point can be checked
/// alone, and what of it was refused.
#[derive(Debug, Default)]
pub struct Batch {
    /// Points of metrics, in the order of the request.
    pub points: Vec<MetricPoint>,
    /// Spans, in the order of the request.
    pub spans: Vec<SpanRecord>,
    /// Points and spans refused so far, with reasons.
    pub rejections: Rejections,
    /// Who sent the points whose identity is [`Identity::At`] a place.
    pub senders: Vec<Arc<Resource>>,
    /// What says which series those are.
    pub names: Option<Box<dyn Names>>,
}

impl Batch {
    /// The identity of the series of one of its points; `None` only for a point of another batch.
    pub fn identity(&self, point: &MetricPoint) -> Option<Arc<SeriesIdentity>> {
        match &point.identity {
            Identity::Here(identity) => Some(Arc::clone(identity)),
            Identity::At(place) => self.names.as_ref()?.identity(*place),
        }
    }

    /// Who sent one of its points; `None` only for a point of another batch.
    pub fn sender<'a>(&'a self, point: &'a MetricPoint) -> Option<&'a Arc<Resource>> {
        match &point.identity {
            Identity::Here(identity) => Some(&identity.resource),
            Identity::At(place) => self.names.as_ref()?.resource(*place),
        }
    }
}

/// A request that can be asked which series its points belong to. Most points are of series that whoever
/// applies them knows by their id; to make their identities each time would cost more than all the rest.
pub trait Names: fmt::Debug + Send + Sync {
    /// The identity of the series of the point at `place`.
    fn identity(&self, place: Place) -> Option<Arc<SeriesIdentity>>;

    /// Who sent the point at `place`.
    fn resource(&self, place: Place) -> Option<&Arc<Resource>>;
}

/// Where in a request a point is; means something only to the [`Names`] of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which metric.
    pub metric: u32,
    /// Where the point begins, in bytes.
    pub start: u32,
    /// How long it is, in bytes.
    pub length: u32,
}

/// Which series a point belongs to.
#[derive(Debug, Clone)]
pub enum Identity {
    /// This one.
    Here(Arc<SeriesIdentity>),
    /// The one that the request says.
    At(Place),
}

impl Identity {
    /// The identity, where it is here.
    pub fn here(&self) -> Option<&Arc<SeriesIdentity>> {
        match self {
            Self::Here(identity) => Some(identity),
            Self::At(_) => None,
        }
    }

    /// Who sent the point, where that is here.
    pub fn sender(&self) -> Option<&Arc<Resource>> {
        self.here().map(|identity| &identity.resource)
    }
}

impl From<Arc<SeriesIdentity>> for Identity {
    fn from(identity: Arc<SeriesIdentity>) -> Self {
        Self::Here(identity)
    }
}

/// One data point of a metric.
#[derive(Debug, Clone)]
pub struct MetricPoint {
    /// [`SeriesIdentity::id`] of the identity.
    pub series: SeriesId,
    /// Which series it belongs to; [`Batch::identity`] tells.
    pub identity: Identity,
    /// `start_time_unix_nano`; `None` where the client did not say.
    pub start: Option<Timestamp>,
    /// `time_unix_nano`.
    pub time: Timestamp,
    /// What was measured.
    pub data: PointData,
    /// One exemplar with a trace id, if the point brought any.
    pub exemplar: Option<Box<Exemplar>>,
}

/// What a point says. Numbers are finite, counts consistent: what is not was refused before.
#[derive(Debug, Clone)]
pub enum PointData {
    /// `NO_RECORDED_VALUE`: the series ends here.
    End,
    /// A gauge's or sum's number; the identity's kind says how to read it.
    Number(f64),
    /// A histogram with explicit buckets.
    Histogram(Box<HistogramPoint>),
    /// An exponential histogram.
    Exponential(Box<ExponentialHistogramPoint>),
    /// Quantiles from the client.
    Summary(Box<SummaryPoint>),
}

/// Explicit buckets: `counts[i]` observations in `(bounds[i-1], bounds[i]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramPoint {
    /// Number of observations; equals the sum of `counts` where there are any.
    pub count: u64,
    /// Sum of the observations, where the client gave it.
    pub sum: Option<f64>,
    /// Smallest observation, where the client gave it.
    pub min: Option<f64>,
    /// Largest observation, where the client gave it.
    pub max: Option<f64>,
    /// Upper bounds, strictly rising, finite.
    pub bounds: Vec<f64>,
    /// One more than `bounds`, or empty together with them.
    pub counts: Vec<u64>,
}

/// Base-2 exponential buckets: index `i` covers `(base^i, base^(i+1)]` with base `2^(2^-scale)`.
/// Only buckets with observations are kept, so memory follows the data and not the offsets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExponentialHistogramPoint {
    /// Number of observations, those in the zero bucket among them.
    pub count: u64,
    /// Sum of the observations, where the client gave it.
    pub sum: Option<f64>,
    /// Smallest observation, where the client gave it.
    pub min: Option<f64>,
    /// Largest observation, where the client gave it.
    pub max: Option<f64>,
    /// Resolution; within -10 to 20 as checked on the way in.
    pub scale: i32,
    /// Observations with `|v| <= zero_threshold`.
    pub zero_count: u64,
    /// Half-width of the zero bucket, finite, at least 0.
    pub zero_threshold: f64,
    /// Non-zero buckets of positive observations by index.
    pub positive: BTreeMap<i32, u64>,
    /// Non-zero buckets of negative observations by index of their magnitude.
    pub negative: BTreeMap<i32, u64>,
}

/// Quantiles as a client computed them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryPoint {
    /// Cumulative number of observations.
    pub count: u64,
    /// Cumulative sum of the observations.
    pub sum: f64,
    /// (quantile 0.0 to 1.0, value), rising.
    pub quantiles: Vec<(f64, f64)>,
}

/// A trace that stands for a point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exemplar {
    /// The trace, 16 bytes as a number.
    pub trace_id: u128,
    /// The span in it; 0 where unknown.
    pub span_id: u64,
    /// The value observed.
    pub value: f64,
}

/// The span kinds of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SpanKind {
    /// Not given, or not one of the others.
    Unspecified,
    /// Inside the service.
    Internal,
    /// Handles a request.
    Server,
    /// Makes a request.
    Client,
    /// Sends a message.
    Producer,
    /// Handles a message.
    Consumer,
}

impl SpanKind {
    /// From OTLP's number; what is outside 0 to 5 counts as 0.
    pub fn from_otlp(number: i32) -> Self {
        match number {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }

    /// Its name in lower case: `server`, `client`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// One finished span.
#[derive(Debug, Clone)]
pub struct SpanRecord {
    /// Who reports it.
    pub resource: Arc<Resource>,
    /// Name of the operation; `unknown` where the client gave none.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended, not before `start`.
    pub end: Timestamp,
    /// Whether its status code is `Error` (2).
    pub error: bool,
    /// The trace, not 0.
    pub trace_id: u128,
    /// The span, not 0.
    pub span_id: u64,
    /// The parent span; `None` for a root.
    pub parent_id: Option<u64>,
}

/// Why a point or span was refused. The name is the `reason` label of
/// `tidewatch_otlp_rejected_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reject {
    /// The metric has no name or one over 1,024 bytes.
    Name,
    /// Sum or histogram without delta or cumulative.
    Temporality,
    /// NaN or infinite.
    NonFinite,
    /// A number point without a number.
    NoValue,
    /// `time_unix_nano` is 0.
    NoTime,
    /// More than ten minutes ahead of us.
    Future,
    /// It ends before it starts.
    StartAfterTime,
    /// A monotonic sum below zero.
    Negative,
    /// A histogram that contradicts itself.
    Histogram,
    /// A summary that contradicts itself.
    Summary,
    /// More attributes than allowed.
    Attributes,
    /// A new series beyond the limit of its service or of all.
    SeriesLimit,
    /// A new service beyond the limit.
    ServiceLimit,
    /// A trace or span id of wrong length or all zero.
    BadId,
    /// A span that ends before it starts.
    NegativeDuration,
}

impl Reject {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 15] = [
        Self::Name,
        Self::Temporality,
        Self::NonFinite,
        Self::NoValue,
        Self::NoTime,
        Self::Future,
        Self::StartAfterTime,
        Self::Negative,
        Self::Histogram,
        Self::Summary,
        Self::Attributes,
        Self::SeriesLimit,
        Self::ServiceLimit,
        Self::BadId,
        Self::NegativeDuration,
    ];

    /// The value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Temporality => "temporality",
            Self::NonFinite => "non_finite",
            Self::NoValue => "no_value",
            Self::NoTime => "no_time",
            Self::Future => "future",
            Self::StartAfterTime => "start_after_time",
            Self::Negative => "negative",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Attributes => "attributes",
            Self::SeriesLimit => "series_limit",
            Self::ServiceLimit => "service_limit",
            Self::BadId => "bad_id",
            Self::NegativeDuration => "negative_duration",
        }
    }
}

/// How many points of a request were refused, by reason, with one example each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rejections(BTreeMap<Reject, (u64, String)>);

impl Rejections {
    /// Counts one refusal; `example` is asked for only if it is the first of its reason.
    pub fn add(&mut self, reason: Reject, example: impl FnOnce() -> String) {
        self.add_many(reason, 1, example);
    }

    /// Counts `count` refusals of one reason; 0 counts nothing.
    pub fn add_many(&mut self, reason: Reject, count: u64, example: impl FnOnce() -> String) {
        if count > 0 {
            self.0.entry(reason).or_insert_with(|| (0, example())).0 += count;
        }
    }

    /// Takes over what `other` counted.
    pub fn merge(&mut self, other: Self) {
        for (reason, (count, example)) in other.0 {
            self.add_many(reason, count, || example);
        }
    }

    /// All refusals together.
    pub fn total(&self) -> u64 {
        self.0.values().map(|(count, _)| count).sum()
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// (reason, count, one example), by reason.
    pub fn iter(&self) -> impl Iterator<Item = (Reject, u64, &str)> {
        self.0
            .iter()
            .map(|(reason, (count, example))| (*reason, *count, example.as_str()))
    }
}
