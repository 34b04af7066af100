use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Attributes;
use super::attributes::digest_text;

/// How a sum or histogram reports: the change since its last report, or the total since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Temporality {
    /// Each point covers its own interval.
    Delta,
    /// Each point covers everything since the series' start.
    Cumulative,
}

/// What kind of metric a series is. A second kind under one name is a series of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MetricKind {
    /// Last value.
    Gauge,
    /// A sum; monotonic ones become rates, others values.
    Sum {
        /// Whether it never decreases but by a reset.
        monotonic: bool,
        /// Delta or cumulative.
        temporality: Temporality,
    },
    /// Explicit buckets.
    Histogram(Temporality),
    /// Base-2 exponential buckets.
    ExponentialHistogram(Temporality),
    /// Quantiles computed by the client.
    Summary,
    /// Aggregated here from the spans of one service, span name and span kind.
    Spans,
    /// Aggregated here from the spans of one caller in one callee.
    Edge,
}

impl MetricKind {
    /// Three bytes that are the same for equal kinds only, on every machine.
    pub fn code(self) -> [u8; 3] {
        let temporality = |t: Temporality| match t {
            Temporality::Delta => 1,
            Temporality::Cumulative => 2,
        };
        match self {
            Self::Gauge => [1, 0, 0],
            Self::Sum {
                monotonic,
                temporality: t,
            } => [2, u8::from(monotonic), temporality(t)],
            Self::Histogram(t) => [3, 0, temporality(t)],
            Self::ExponentialHistogram(t) => [4, 0, temporality(t)],
            Self::Summary => [5, 0, 0],
            Self::Spans => [6, 0, 0],
            Self::Edge => [7, 0, 0],
        }
    }
}

/// Who reports: the resource of OTLP, with its `service.name` taken out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resource {
    /// `service.name`, or `unknown_service`.
    pub service: Arc<str>,
    /// All attributes, `service.name` among them.
    pub attributes: Attributes,
}

/// What inside the program reports: OTLP's instrumentation scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Scope {
    /// Name of the instrumentation library.
    pub name: Box<str>,
    /// Its version.
    pub version: Box<str>,
    /// Its attributes.
    pub attributes: Attributes,
}

impl Resource {
    /// About how much memory it takes, keys that it may share with others among it.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.service.len() + self.attributes.bytes()
    }
}

impl Scope {
    /// About how much memory it takes, keys that it may share with others among it.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.version.len() + self.attributes.bytes()
    }
}

/// Everything that makes a series this series (OTLP's metrics data model; `description` is not part).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesIdentity {
    /// Who reports.
    pub resource: Arc<Resource>,
    /// What inside it reports.
    pub scope: Arc<Scope>,
    /// Name of the metric.
    pub metric: Arc<str>,
    /// Unit as the client gave it (UCUM), may be empty.
    pub unit: Arc<str>,
    /// Kind, temporality and monotonicity.
    pub kind: MetricKind,
    /// Attributes of the point.
    pub attributes: Attributes,
}

impl SeriesIdentity {
    /// About how much memory it takes, counts of an `Arc` included, without what identities share: resource,
    /// scope, name, unit and keys.
    pub fn bytes(&self) -> usize {
        2 * size_of::<usize>() + size_of::<Self>() + self.attributes.bytes()
    }

    /// The series' id: the first 128 bits of SHA-256 over the canonical form. It is the same for every
    /// encoding of one identity, on every machine and after every restart, and nobody can make two
    /// series meet on purpose.
    pub fn id(&self) -> SeriesId {
        let mut hasher = Sha256::new();
        self.resource.attributes.digest(&mut hasher);
        digest_text(&mut hasher, &self.resource.service);
        digest_text(&mut hasher, &self.scope.name);
        digest_text(&mut hasher, &self.scope.version);
        self.scope.attributes.digest(&mut hasher);
        digest_text(&mut hasher, &self.metric);
        digest_text(&mut hasher, &self.unit);
        hasher.update(self.kind.code());
        self.attributes.digest(&mut hasher);
        let digest: [u8; 32] = hasher.finalize().into();
        let (head, _) = digest.split_at(16);
        SeriesId(head.iter().fold(0, |id, byte| id << 8 | u128::from(*byte)))
    }
}

/// Identifies a series; shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesId(pub u128);

impl fmt::Display for SeriesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SeriesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SeriesId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u128::from_str_radix(text, 16) {
            Ok(id) if text.len() == 32 && !text.starts_with('+') => Ok(Self(id)),
            _ => Err(format!(
                "`{text}` is not a series id: 32 hexadecimal digits"
            )),
        }
    }
}
