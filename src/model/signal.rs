use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Attributes, LabelSource, Labels, Resource, SeriesId, SeriesIdentity, Timestamp};

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
        deserializer.deserialize_str(KindName)
    }
}

struct KindName;

impl Visitor<'_> for KindName {
    type Value = SignalKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a kind of signals")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<SignalKind, E> {
        name.parse().map_err(E::custom)
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

    /// See [`SignalRef::unit`].
    pub fn unit(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.as_ref().unit())
    }

    fn as_ref(&self) -> SignalRef<'_> {
        SignalRef {
            kind: self.id.kind,
            identity: &self.identity,
        }
    }
}

/// A signal whose identity somebody else keeps.
#[derive(Debug, Clone, Copy)]
pub struct SignalRef<'a> {
    /// Which of its series.
    pub kind: SignalKind,
    /// Identity of its series.
    pub identity: &'a SeriesIdentity,
}

impl<'a> SignalRef<'a> {
    /// Unit of the signal's values: of a rate per second, of an error ratio `1`, else the metric's.
    pub fn unit(self) -> &'a str {
        match self.kind {
            SignalKind::Rate => "1/s",
            SignalKind::ErrorRatio => "1",
            SignalKind::Value | SignalKind::Mean | SignalKind::Quantile(_) => &self.identity.unit,
        }
    }

    /// The text under a name, as selectors see it: `service`, `metric`, `signal`, `unit`, the point's
    /// attributes and, behind them, the resource's. A name also finds an attribute whose key becomes that
    /// name as a Prometheus label (`http_route` finds `http.route`).
    pub fn label(self, name: &str) -> Option<Cow<'a, str>> {
        let identity = self.identity;
        match name {
            "service" => return Some(Cow::Borrowed(&identity.resource.service)),
            "metric" => return Some(Cow::Borrowed(&identity.metric)),
            "signal" => return Some(self.kind.name()),
            "unit" => return Some(Cow::Borrowed(self.unit())),
            _ => {}
        }
        let find = |set: &'a Attributes| {
            let named = |(key, _): &(&str, _)| Labels::is_name_from(name, key);
            let value = set
                .get(name)
                .or_else(|| set.iter().find(named).map(|(_, value)| value))?;
            Some(value.as_text())
        };
        find(&identity.attributes).or_else(|| find(&identity.resource.attributes))
    }
}

impl LabelSource for SignalRef<'_> {
    fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        (*self).label(name)
    }
}

impl LabelSource for SignalMeta {
    fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        self.as_ref().label(name)
    }
}
