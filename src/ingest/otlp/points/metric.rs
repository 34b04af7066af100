use std::sync::Arc;

use super::attributes::{self, MAX_ATTRIBUTES, Set};
use super::known::{Known, Look, Print};
use super::{Problem, checked_time, exponential, histogram, horizon, shown, summary};
use crate::ingest::otlp::wire::{self, Value, WireError};
use crate::model::{
    Batch, Exemplar, MetricKind, MetricPoint, PointData, Reject, Resource, Scope, SeriesId,
    SeriesIdentity, Temporality, Timestamp,
};

/// Longest name of a metric, in bytes.
const MAX_NAME: usize = 1024;
/// The flag of a point that says: no value here, the series ends.
const NO_RECORDED_VALUE: u64 = 1;

/// Reads an `ExportMetricsServiceRequest` that the check has accepted.
pub(crate) fn metrics(request: &[u8], now: Timestamp, known: &Known) -> Result<Batch, WireError> {
    let mut batch = Batch::default();
    let mut look = known.look();
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
                // Looked up for the first metric that says something, and then shared by all of them.
                let (resource_print, resource) = shared(&mut resource, || {
                    attributes::known_resource(envelope, &mut look)
                })?;
                let (scope_print, scope) = shared(&mut scope, || {
                    attributes::known_scope(scope_envelope, &mut look)
                })?;
                let origin = Origin {
                    prints: [resource_print, scope_print],
                    resource,
                    scope,
                };
                metric.points(&origin, horizon, &mut look, &mut batch)?;
            }
        }
    }
    Ok(batch)
}

/// What `make` gave the first time; a refusal is remembered as well.
fn shared<T: Clone>(
    made: &mut Option<T>,
    make: impl FnOnce() -> Result<T, WireError>,
) -> Result<T, WireError> {
    match made {
        Some(made) => Ok(made.clone()),
        None => Ok(made.insert(make()?).clone()),
    }
}

/// Where the points of a metric come from; refused if it has too many attributes.
struct Origin {
    /// Of the bytes of resource and scope.
    prints: [Print; 2],
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
    fn points(
        &self,
        origin: &Origin,
        horizon: u64,
        look: &mut Look<'_>,
        batch: &mut Batch,
    ) -> Result<(), WireError> {
        let example = || format!("metric `{}`", shown(self.name));
        let mut series = match self.series(origin, look)? {
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
                match series.point(point?, self.data, horizon, look) {
                    Ok(point) => batch.points.push(point),
                    Err(Problem::Reject(reason)) => batch.rejections.add(reason, example),
                    Err(Problem::Wire(error)) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn series(
        &self,
        origin: &Origin,
        look: &Look<'_>,
    ) -> Result<Result<SeriesMaker<'a>, Reject>, WireError> {
        let kind = self.kind()?;
        let checked = || {
            if self.name.is_empty() || self.name.len() > MAX_NAME {
                return Err(Reject::Name);
            }
            let (resource, scope, kind) = (origin.resource.clone()?, origin.scope.clone()?, kind?);
            let mut printer = look.printer();
            origin
                .prints
                .iter()
                .for_each(|print| printer.follow(*print));
            printer.add(self.name.as_bytes());
            printer.add(self.unit.as_bytes());
            printer.add(&kind.code());
            Ok(SeriesMaker {
                print: printer.finish(),
                resource,
                scope,
                kind,
                name: self.name,
                unit: self.unit,
                texts: None,
                last: None,
            })
        };
        Ok(checked())
    }
}

/// Makes the points of one metric and finds the identities of their series.
struct SeriesMaker<'a> {
    /// Of everything but the points' attributes.
    print: Print,
    resource: Arc<Resource>,
    scope: Arc<Scope>,
    kind: MetricKind,
    name: &'a str,
    unit: &'a str,
    /// Name and unit as identities have them, made for the first series that is new.
    texts: Option<[Arc<str>; 2]>,
    /// The series of the point before: several points of one series in a row share it.
    last: Option<(Print, SeriesId, Arc<SeriesIdentity>)>,
}

impl SeriesMaker<'_> {
    fn point(
        &mut self,
        bytes: &[u8],
        data: Data,
        horizon: u64,
        look: &mut Look<'_>,
    ) -> Result<MetricPoint, Problem> {
        let layout = data.layout();
        let (mut start, mut time, mut flags) = (0, 0, 0);
        let mut exemplar = None;
        let mut printer = look.printer();
        printer.follow(self.print);
        for field in wire::fields(bytes) {
            match field? {
                (2, value) => start = value.number()?,
                (3, value) => time = value.number()?,
                (number, value) if number == layout.attributes => printer.add(value.bytes()?),
                (number, value) if number == layout.flags => flags = value.number()?,
                (number, value) if number == layout.exemplars => {
                    exemplar = larger(exemplar, read_exemplar(value)?);
                }
                _ => {}
            }
        }
        let print = printer.finish();
        // Before anything else, since a refusal for the attributes goes before others.
        let (series, identity) = match self.find(print, look) {
            Some(found) => found,
            None => self.identity(bytes, layout.attributes)?,
        };
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
        self.note(print, series, &identity, look);
        Ok(MetricPoint {
            series,
            identity,
            start: Timestamp::from_otlp(start),
            time: checked,
            data,
            exemplar,
        })
    }

    /// The series whose attributes came in these bytes before.
    fn find(&self, print: Print, look: &Look<'_>) -> Option<(SeriesId, Arc<SeriesIdentity>)> {
        match &self.last {
            Some((last, id, identity)) if *last == print => Some((*id, Arc::clone(identity))),
            _ => look.series(print),
        }
    }

    /// Reads the attributes of a point, and makes the identity of its series.
    fn identity(
        &mut self,
        point: &[u8],
        attributes: u32,
    ) -> Result<(SeriesId, Arc<SeriesIdentity>), Problem> {
        let mut set = Set::new(MAX_ATTRIBUTES);
        for attribute in wire::all(point, attributes) {
            set.add(attribute?)?;
        }
        let attributes = set.finish()?;
        let [metric, unit] = self
            .texts
            .get_or_insert_with(|| [self.name.into(), attributes::cut(self.unit).into()]);
        let identity = Arc::new(SeriesIdentity {
            resource: Arc::clone(&self.resource),
            scope: Arc::clone(&self.scope),
            metric: Arc::clone(metric),
            unit: Arc::clone(unit),
            kind: self.kind,
            attributes,
        });
        Ok((identity.id(), identity))
    }

    /// Remembers the series of a point that is taken. One of a point that is refused is not worth it.
    fn note(
        &mut self,
        print: Print,
        id: SeriesId,
        identity: &Arc<SeriesIdentity>,
        look: &mut Look<'_>,
    ) {
        if self.last.as_ref().is_some_and(|(last, ..)| *last == print) {
            return;
        }
        if look.series(print).is_none() {
            look.note_series(print, id, identity);
        }
        self.last = Some((print, id, Arc::clone(identity)));
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
