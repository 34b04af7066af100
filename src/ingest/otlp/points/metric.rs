use std::sync::Arc;

use super::attributes::{self, MAX_ATTRIBUTES, Set};
use super::{Problem, checked_time, exponential, histogram, horizon, shown, summary};
use crate::ingest::otlp::wire::{self, Value, WireError};
use crate::model::{
    Attributes, Batch, Exemplar, MetricKind, MetricPoint, PointData, Reject, Resource, Scope,
    SeriesId, SeriesIdentity, Temporality, Timestamp,
};

/// Longest name of a metric, in bytes.
const MAX_NAME: usize = 1024;
/// The flag of a point that says: no value here, the series ends.
const NO_RECORDED_VALUE: u64 = 1;

/// Reads an `ExportMetricsServiceRequest` that the check has accepted.
pub(crate) fn metrics(request: &[u8], now: Timestamp) -> Result<Batch, WireError> {
    let mut batch = Batch::default();
    let horizon = horizon(now);
    for envelope in wire::all(request, 1) {
        let envelope = envelope?;
        let mut resource = None;
        for scope_envelope in wire::all(envelope, 2) {
            let scope_envelope = scope_envelope?;
            let mut scope = None;
            for metric in wire::all(scope_envelope, 2) {
                let Some(metric) = Metric::read(metric?)? else {
                    continue;
                };
                // Made for the first metric that says something, and then shared by all of them.
                let origin = Origin {
                    resource: shared(&mut resource, || attributes::resource(envelope))?,
                    scope: shared(&mut scope, || attributes::scope(scope_envelope))?,
                };
                metric.points(&origin, horizon, &mut batch)?;
            }
        }
    }
    Ok(batch)
}

/// What `make` gave the first time; a refusal is remembered as well.
fn shared<T: Clone>(
    made: &mut Option<Result<T, Reject>>,
    make: impl FnOnce() -> Result<T, Problem>,
) -> Result<Result<T, Reject>, WireError> {
    if made.is_none() {
        *made = Some(match make() {
            Ok(value) => Ok(value),
            Err(Problem::Reject(reason)) => Err(reason),
            Err(Problem::Wire(error)) => return Err(error),
        });
    }
    Ok(made.clone().unwrap_or(Err(Reject::Attributes)))
}

/// Where the points of a metric come from; refused if it has too many attributes.
struct Origin {
    resource: Result<Arc<Resource>, Reject>,
    scope: Result<Arc<Scope>, Reject>,
}

/// The five kinds of data, by their field in `Metric`.
#[derive(Clone, Copy, PartialEq)]
enum Data {
    Gauge = 5,
    Sum = 7,
    Histogram = 9,
    Exponential = 10,
    Summary = 11,
}

impl Data {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            5 => Self::Gauge,
            7 => Self::Sum,
            9 => Self::Histogram,
            10 => Self::Exponential,
            11 => Self::Summary,
            _ => return None,
        })
    }

    /// Where the points of this kind have their attributes, flags and exemplars; 0: none.
    fn layout(self) -> Layout {
        let (attributes, flags, exemplars) = match self {
            Self::Gauge | Self::Sum => (7, 8, 5),
            Self::Histogram => (9, 10, 8),
            Self::Exponential => (1, 10, 11),
            Self::Summary => (7, 8, 0),
        };
        Layout {
            attributes,
            flags,
            exemplars,
        }
    }
}

struct Layout {
    attributes: u32,
    flags: u32,
    exemplars: u32,
}

/// A metric with data.
struct Metric<'a> {
    bytes: &'a [u8],
    name: &'a str,
    unit: &'a str,
    data: Data,
}

impl<'a> Metric<'a> {
    /// `None` if it has no data.
    fn read(bytes: &'a [u8]) -> Result<Option<Self>, WireError> {
        let (mut name, mut unit, mut data) = ("", "", None);
        for field in wire::fields(bytes) {
            match field? {
                (1, value) => name = value.text()?,
                (3, value) => unit = value.text()?,
                (number, _) => data = Data::from_number(number).or(data),
            }
        }
        Ok(data.map(|data| Self {
            bytes,
            name,
            unit,
            data,
        }))
    }

    /// Its data. Protobuf merges a message that occurs twice, which for points means all of them.
    fn data(&self) -> impl Iterator<Item = Result<&'a [u8], WireError>> + use<'a> {
        wire::all(self.bytes, self.data as u32)
    }

    /// What kind of series its points belong to.
    fn kind(&self) -> Result<Result<MetricKind, Reject>, WireError> {
        let (mut temporality, mut monotonic) = (0, false);
        for data in self.data() {
            for field in wire::fields(data?) {
                // A number means these only where the kind of data has such a field; elsewhere it is
                // an unknown field, of whatever type.
                match (self.data, field?) {
                    (Data::Sum | Data::Histogram | Data::Exponential, (2, value)) => {
                        temporality = value.int32()?;
                    }
                    (Data::Sum, (3, value)) => monotonic = value.number()? != 0,
                    _ => {}
                }
            }
        }
        let temporality = match temporality {
            1 => Ok(Temporality::Delta),
            2 => Ok(Temporality::Cumulative),
            _ => Err(Reject::Temporality),
        };
        Ok(match self.data {
            Data::Gauge => Ok(MetricKind::Gauge),
            Data::Sum => temporality.map(|temporality| MetricKind::Sum {
                monotonic,
                temporality,
            }),
            Data::Histogram => temporality.map(MetricKind::Histogram),
            Data::Exponential => temporality.map(MetricKind::ExponentialHistogram),
            Data::Summary => Ok(MetricKind::Summary),
        })
    }

    /// Adds its points to `batch`.
    fn points(&self, origin: &Origin, horizon: u64, batch: &mut Batch) -> Result<(), WireError> {
        let example = || format!("metric `{}`", shown(self.name));
        let mut series = match self.series(origin)? {
            Ok(series) => series,
            Err(reason) => {
                let mut count = 0;
                for data in self.data() {
                    for point in wire::all(data?, 1) {
                        point?;
                        count += 1;
                    }
                }
                batch.rejections.add_many(reason, count, example);
                return Ok(());
            }
        };
        for data in self.data() {
            for point in wire::all(data?, 1) {
                match series.point(point?, self.data, horizon) {
                    Ok(point) => batch.points.push(point),
                    Err(Problem::Reject(reason)) => batch.rejections.add(reason, example),
                    Err(Problem::Wire(error)) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn series(&self, origin: &Origin) -> Result<Result<SeriesMaker, Reject>, WireError> {
        let kind = self.kind()?;
        let checked = || {
            if self.name.is_empty() || self.name.len() > MAX_NAME {
                return Err(Reject::Name);
            }
            Ok(SeriesMaker {
                resource: origin.resource.clone()?,
                scope: origin.scope.clone()?,
                kind: kind?,
                metric: self.name.into(),
                unit: attributes::cut(self.unit).into(),
                last: None,
            })
        };
        Ok(checked())
    }
}

/// Makes the points of one metric and the identities of their series.
struct SeriesMaker {
    resource: Arc<Resource>,
    scope: Arc<Scope>,
    metric: Arc<str>,
    unit: Arc<str>,
    kind: MetricKind,
    /// The series of the point before: several points of one series in a row share it.
    last: Option<(SeriesId, Arc<SeriesIdentity>)>,
}

impl SeriesMaker {
    fn point(&mut self, bytes: &[u8], data: Data, horizon: u64) -> Result<MetricPoint, Problem> {
        let layout = data.layout();
        let (mut start, mut time, mut flags) = (0, 0, 0);
        let mut attributes = Set::new(MAX_ATTRIBUTES);
        let mut exemplar = None;
        for field in wire::fields(bytes) {
            match field? {
                (2, value) => start = value.number()?,
                (3, value) => time = value.number()?,
                (number, value) if number == layout.attributes => attributes.add(value.bytes()?)?,
                (number, value) if number == layout.flags => flags = value.number()?,
                (number, value) if number == layout.exemplars => {
                    exemplar = larger(exemplar, read_exemplar(value)?);
                }
                _ => {}
            }
        }
        let attributes = attributes.finish()?;
        let checked = checked_time(time, horizon)?;
        if start > time {
            return Err(Reject::StartAfterTime.into());
        }
        let data = if flags & NO_RECORDED_VALUE != 0 {
            PointData::End
        } else {
            match data {
                Data::Gauge | Data::Sum => number(bytes, self.kind)?,
                Data::Histogram => PointData::Histogram(Box::new(histogram::read(bytes)?)),
                Data::Exponential => PointData::Exponential(Box::new(exponential::read(bytes)?)),
                Data::Summary => PointData::Summary(Box::new(summary::read(bytes)?)),
            }
        };
        let (series, identity) = self.identity(attributes);
        Ok(MetricPoint {
            series,
            identity,
            start: Timestamp::from_otlp(start),
            time: checked,
            data,
            exemplar,
        })
    }

    fn identity(&mut self, attributes: Attributes) -> (SeriesId, Arc<SeriesIdentity>) {
        if let Some((id, identity)) = &self.last
            && identity.attributes == attributes
        {
            return (*id, Arc::clone(identity));
        }
        let identity = Arc::new(SeriesIdentity {
            resource: Arc::clone(&self.resource),
            scope: Arc::clone(&self.scope),
            metric: Arc::clone(&self.metric),
            unit: Arc::clone(&self.unit),
            kind: self.kind,
            attributes,
        });
        let id = identity.id();
        self.last = Some((id, Arc::clone(&identity)));
        (id, identity)
    }
}

/// The value of a gauge or sum.
fn number(point: &[u8], kind: MetricKind) -> Result<PointData, Problem> {
    let mut number = None;
    for field in wire::fields(point) {
        match field? {
            (4, value) => number = Some(value.double()?),
            (6, value) => number = Some(value.number()? as i64 as f64),
            _ => {}
        }
    }
    let number = number.ok_or(Reject::NoValue)?;
    if !number.is_finite() {
        return Err(Reject::NonFinite.into());
    }
    let monotonic = matches!(
        kind,
        MetricKind::Sum {
            monotonic: true,
            ..
        }
    );
    if monotonic && number < 0.0 {
        return Err(Reject::Negative.into());
    }
    Ok(PointData::Number(number))
}

/// An exemplar that leads to a trace; `None` for one that does not.
fn read_exemplar(exemplar: Value<'_>) -> Result<Option<Exemplar>, WireError> {
    let (mut trace_id, mut span_id, mut observed) = (None, None, f64::NAN);
    for field in wire::fields(exemplar.bytes()?) {
        match field? {
            (3, value) => observed = value.double()?,
            (4, value) => span_id = value.bytes()?.try_into().ok().map(u64::from_be_bytes),
            (5, value) => trace_id = value.bytes()?.try_into().ok().map(u128::from_be_bytes),
            (6, value) => observed = value.number()? as i64 as f64,
            _ => {}
        }
    }
    Ok(match trace_id {
        Some(trace_id) if trace_id != 0 && observed.is_finite() => Some(Exemplar {
            trace_id,
            span_id: span_id.unwrap_or(0),
            value: observed,
        }),
        _ => None,
    })
}

/// The one with the larger value: of a histogram that is the trace one wants to see.
fn larger(a: Option<Exemplar>, b: Option<Exemplar>) -> Option<Exemplar> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.value > a.value { b } else { a }),
        (a, b) => a.or(b),
    }
}
