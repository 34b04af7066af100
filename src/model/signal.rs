use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Attributes, LabelSource, Resource, SeriesId, SeriesIdentity, Timestamp};

/// Which number of a series a signal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignalKind {
    /// The value itself.
    Value,
    /// Events, or units of a monotonic sum, per second.
    Rate,
    /// Mean of a histogram's observations since the last point.
    Mean,
    /// Share of spans with status `Error`, 0.0 to 1.0.
    ErrorRatio,
    /// A quantile, in millionths: 500,000 is the median `p50`.
    Quantile(u32),
}

impl SignalKind {
    /// The median.
    pub const P50: Self = Self::Quantile(500_000);
    /// The 95th percentile.
    pub const P95: Self = Self::Quantile(950_000);
    /// The 99th percentile.
    pub const P99: Self = Self::Quantile(990_000);

    /// The signal of quantile `q`; `None` outside 0.0 to 1.0.
    pub fn quantile(q: f64) -> Option<Self> {
        (0.0..=1.0)
            .contains(&q)
            .then(|| Self::Quantile((q * 1e6).round() as u32))
    }

    /// Its name: `value`, `rate`, `mean`, `error_ratio`, `p50`, `p99.9`.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Value => "value".into(),
            Self::Rate => "rate".into(),
            Self::Mean => "mean".into(),
            Self::ErrorRatio => "error_ratio".into(),
            Self::P50 => "p50".into(),
            Self::P95 => "p95".into(),
            Self::P99 => "p99".into(),
            Self::Quantile(millionths) => format!("p{}", f64::from(millionths) / 1e4).into(),
        }
    }
}

impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl FromStr for SignalKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "value" => Ok(Self::Value),
            "rate" => Ok(Self::Rate),
            "mean" => Ok(Self::Mean),
            "error_ratio" => Ok(Self::ErrorRatio),
            _ => text
                .strip_prefix('p')
                .and_then(|percent| percent.parse::<f64>().ok())
                .and_then(|percent| Self::quantile(percent / 100.0))
                .ok_or_else(|| {
                    format!("`{text}` is no signal: value, rate, mean, error_ratio or pNN")
                }),
        }
    }
}

impl Serialize for SignalKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for SignalKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Identifies a signal; shown as `SERIES-SIGNAL`, for example `9f0c…-p99`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SignalId {
    /// The series it comes from.
    pub series: SeriesId,
    /// Which number of it.
    pub kind: SignalKind,
}

impl fmt::Display for SignalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.series, self.kind)
    }
}

impl FromStr for SignalId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (series, kind) = text
            .split_once('-')
            .ok_or_else(|| format!("`{text}` is not a signal id: SERIES-SIGNAL"))?;
        Ok(Self {
            series: series.parse()?,
            kind: kind.parse()?,
        })
    }
}

/// One number of a signal: the value of the tick that ends at `time`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// End of the tick, or the time of the recorded row.
    pub time: Timestamp,
    /// The value, always finite.
    pub value: f64,
}

/// What a person needs to know of a signal. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalMeta {
    /// Which signal.
    pub id: SignalId,
    /// Identity of its series.
    pub identity: Arc<SeriesIdentity>,
}

impl SignalMeta {
    /// The service that reports it.
    pub fn service(&self) -> &str {
        &self.identity.resource.service
    }

    /// Name of the metric.
    pub fn metric(&self) -> &str {
        &self.identity.metric
    }

    /// Attributes of the point.
    pub fn attributes(&self) -> &Attributes {
        &self.identity.attributes
    }

    /// Who reports it.
    pub fn resource(&self) -> &Resource {
        &self.identity.resource
    }

    /// Unit of the signal's values: of a rate per second, of an error ratio `1`, else the metric's.
    pub fn unit(&self) -> Cow<'_, str> {
        match self.id.kind {
            SignalKind::Rate => Cow::Borrowed("1/s"),
            SignalKind::ErrorRatio => Cow::Borrowed("1"),
            SignalKind::Value | SignalKind::Mean | SignalKind::Quantile(_) => {
                Cow::Borrowed(&self.identity.unit)
            }
        }
    }
}

/// Selectors see `service`, `metric`, `signal`, `unit`, the point's attributes and, behind them, the
/// resource's. A name also finds an attribute whose key becomes that name as a Prometheus label
/// (`http_route` finds `http.route`).
impl LabelSource for SignalMeta {
    fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "service" => return Some(Cow::Borrowed(self.service())),
            "metric" => return Some(Cow::Borrowed(self.metric())),
            "signal" => return Some(self.id.kind.name()),
            "unit" => return Some(self.unit()),
            _ => {}
        }
        let find = |set: &'_ Attributes| -> Option<String> {
            if let Some(value) = set.get(name) {
                return Some(value.as_text().into_owned());
            }
            set.iter()
                .find(|(key, _)| super::Labels::name_from(key) == name)
                .map(|(_, value)| value.as_text().into_owned())
        };
        find(&self.identity.attributes)
            .or_else(|| find(&self.identity.resource.attributes))
            .map(Cow::Owned)
    }
}
