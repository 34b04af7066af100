//! How series are called that bring no resource of their own.

use std::sync::Arc;

use crate::model::{
    AttributeValue, Attributes, Instrument, MetricKind, Resource, SeriesId, SeriesIdentity,
};
use crate::model::{Scope, Temporality};

/// How the series of one input are called where it does not say so itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// The service.
    pub service: String,
    /// The metric; `None`: what the column or the label says, or `value`.
    pub metric: Option<String>,
}

/// A series, its id worked out once.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) id: SeriesId,
    pub(super) identity: Arc<SeriesIdentity>,
}

/// What a metric's number means by the convention that Prometheus' clients follow: those whose name ends
/// so only grow.
pub(super) fn kind_of(metric: &str) -> MetricKind {
    let counts = ["_total", "_count", "_sum", "_bucket"];
    if counts.iter().any(|end| metric.ends_with(end)) {
        MetricKind::Sum {
            monotonic: true,
            temporality: Temporality::Cumulative,
        }
    } else {
        MetricKind::Gauge
    }
}

/// The series of `service` and `metric` with these attributes.
pub(super) fn series(
    service: &str,
    metric: &str,
    kind: MetricKind,
    attributes: impl IntoIterator<Item = (String, String)>,
) -> Named {
    let text = |value: &str| AttributeValue::Str(value.into());
    let pairs = attributes
        .into_iter()
        .map(|(name, value)| (name.into(), text(&value)));
    let identity = SeriesIdentity {
        resource: Arc::new(Resource {
            service: service.into(),
            attributes: Attributes::from_pairs([("service.name".into(), text(service))]),
        }),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope::default()),
            metric: metric.into(),
            unit: "".into(),
            kind,
        }),
        attributes: Attributes::from_pairs(pairs),
    };
    Named {
        id: identity.id(),
        identity: Arc::new(identity),
    }
}
