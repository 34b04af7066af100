//! The points of one metric. The attributes of a point whose series was met before are not read, only
//! their bytes hashed.

use std::sync::Arc;

use super::attributes;
use super::known::{Look, Print};
use super::metric::Reading;
use super::request::{attributes_of, position};
use super::{Data, Problem, checked_time, exponential, histogram, summary};
use crate::ingest::otlp::schema::{EXEMPLAR, HISTOGRAM_POINT, KEY_VALUE, NUMBER_POINT};
use crate::ingest::otlp::wire::{self, Reader, Value, WireError};
use crate::model::{
    Exemplar, Identity, MetricKind, MetricPoint, Place, PointData, Reject, Resource, Scope,
    SeriesId, SeriesIdentity, Timestamp,
};

/// The flag of a point that says: no value here, the series ends.
const NO_RECORDED_VALUE: u64 = 1;
/// Messages around a point, and around what is in it.
const POINT: u32 = 5;
const INNER: u32 = POINT + 1;

/// Makes the points of one metric and finds their series.
pub(super) struct Maker<'r> {
    /// Of everything but the points' attributes.
    print: Print,
    /// Position of the metric in the request.
    metric: u32,
    resource: Arc<Resource>,
    scope: Arc<Scope>,
    name: &'r [u8],
    unit: &'r [u8],
    data: Data,
    kind: MetricKind,
    /// Name and unit as identities have them, made for the first series that is new.
    texts: Option<[Arc<str>; 2]>,
    /// The last series that was new: several points of it in a row share it.
    fresh: Option<(Print, SeriesId, Arc<SeriesIdentity>)>,
}

/// What points of all kinds have in common, as they are read.
#[derive(Default)]
struct Common<'a> {
    attributes: Regions<'a>,
    start: u64,
    time: u64,
    flags: u64,
    exemplar: Option<Exemplar>,
}

/// The bytes of a point's attributes, tags and lengths among them: one piece, unless a client writes
/// other fields between them.
#[derive(Default)]
struct Regions<'a> {
    first: &'a [u8],
    more: Vec<&'a [u8]>,
}

impl<'a> Regions<'a> {
    /// Adds the attribute that began at `here`, and those that follow it without a gap, which it reads.
    /// `tag` is theirs.
    #[inline(always)]
    fn add(&mut self, here: &'a [u8], tag: u8, reader: &mut Reader<'a>) -> Result<(), WireError> {
        while reader.skip_tag(tag) {
            reader.chunk()?;
        }
        let length = here.len() - reader.rest().len();
        let region = here.get(..length).unwrap_or_default();
        if self.first.is_empty() {
            self.first = region;
        } else {
            self.more.push(region);
        }
        Ok(())
    }

    fn print(&self, of_metric: Print, look: &Look<'_>) -> Print {
        let mut printer = look.printer();
        printer.follow(of_metric);
        printer.add(self.first);
        self.more.iter().for_each(|region| printer.add(region));
        printer.finish()
    }

    fn check(&self) -> Result<(), WireError> {
        for region in [self.first].iter().chain(&self.more) {
            for attribute in wire::fields(region) {
                let (_, attribute) = attribute?;
                wire::check(attribute.bytes()?, &KEY_VALUE, INNER)?;
            }
        }
        Ok(())
    }
}

impl<'r> Maker<'r> {
    pub(super) fn new(
        print: Print,
        metric: u32,
        (resource, scope): (Arc<Resource>, Arc<Scope>),
        (name, unit): (&'r [u8], &'r [u8]),
        (data, kind): (Data, MetricKind),
    ) -> Self {
        Self {
            print,
            metric,
            resource,
            scope,
            name,
            unit,
            data,
            kind,
            texts: None,
            fresh: None,
        }
    }

    /// Reads one point.
    #[inline]
    pub(super) fn point(
        &mut self,
        bytes: &'r [u8],
        reading: &mut Reading<'r, '_>,
    ) -> Result<MetricPoint, Problem> {
        match self.data {
            Data::Gauge | Data::Sum => {
                let (common, value) = number_point(bytes)?;
                let kind = self.kind;
                self.finish(bytes, &common, reading, || number(value?, kind))
            }
            Data::Histogram => {
                let (common, read) = histogram_point(bytes)?;
                self.finish(bytes, &common, reading, || {
                    Ok(PointData::Histogram(Box::new(read.finish()?)))
                })
            }
            Data::Exponential | Data::Summary => {
                let common = other_point(bytes, self.data)?;
                let data = self.data;
                self.finish(bytes, &common, reading, || {
                    Ok(if data == Data::Summary {
                        PointData::Summary(Box::new(summary::read(bytes)?))
                    } else {
                        PointData::Exponential(Box::new(exponential::read(bytes)?))
                    })
                })
            }
        }
    }

    fn finish(
        &mut self,
        bytes: &'r [u8],
        common: &Common<'_>,
        reading: &mut Reading<'r, '_>,
        data: impl FnOnce() -> Result<PointData, Problem>,
    ) -> Result<MetricPoint, Problem> {
        let print = common.attributes.print(self.print, &reading.look);
        // Before anything else, since a refusal for the attributes goes before others.
        let known = reading.look.series(print);
        let fresh = match known {
            Some(_) => None,
            None => Some(self.identify(bytes, print, &common.attributes)?),
        };
        let time = checked_time(common.time, reading.horizon)?;
        if common.start > common.time {
            return Err(Reject::StartAfterTime.into());
        }
        let data = if common.flags & NO_RECORDED_VALUE != 0 {
            PointData::End
        } else {
            data()?
        };
        let (series, identity) = match (known, fresh) {
            (_, Some((series, identity))) => {
                // That of a point that is refused is not worth it.
                reading.look.note_series(print, series);
                (series, Identity::Here(identity))
            }
            (Some(series), None) => {
                reading.asked = true;
                (series, Identity::At(self.place(bytes, reading.bytes)))
            }
            (None, None) => return Err(Reject::Attributes.into()),
        };
        Ok(MetricPoint {
            series,
            identity,
            start: Timestamp::from_otlp(common.start),
            time,
            data,
            exemplar: common.exemplar.map(Box::new),
        })
    }

    fn place(&self, point: &[u8], request: &[u8]) -> Place {
        // A request beyond 4 GiB is never read.
        Place {
            metric: self.metric,
            start: position(request, point).unwrap_or(u32::MAX),
            length: point.len() as u32,
        }
    }

    /// Reads the attributes of a point, and makes the identity of its series.
    fn identify(
        &mut self,
        point: &[u8],
        print: Print,
        attributes: &Regions<'_>,
    ) -> Result<(SeriesId, Arc<SeriesIdentity>), Problem> {
        if let Some((fresh, id, identity)) = &self.fresh
            && *fresh == print
        {
            return Ok((*id, Arc::clone(identity)));
        }
        attributes.check()?;
        let attributes = attributes_of(point, self.data)?;
        let [metric, unit] = self.texts.get_or_insert_with(|| {
            // Both were checked.
            let [name, unit] = [self.name, self.unit].map(String::from_utf8_lossy);
            [(&*name).into(), attributes::cut(&unit).into()]
        });
        let identity = Arc::new(SeriesIdentity {
            resource: Arc::clone(&self.resource),
            scope: Arc::clone(&self.scope),
            metric: Arc::clone(metric),
            unit: Arc::clone(unit),
            kind: self.kind,
            attributes,
        });
        let id = identity.id();
        self.fresh = Some((print, id, Arc::clone(&identity)));
        Ok((id, identity))
    }
}

/// Reads a `NumberDataPoint`: its value, or why it has none.
#[inline]
fn number_point(bytes: &[u8]) -> Result<(Common<'_>, Result<f64, Reject>), WireError> {
    let mut common = Common::default();
    let mut number = Err(Reject::NoValue);
    let mut reader = Reader::new(bytes);
    loop {
        let here = reader.rest();
        let Some((field, value)) = reader.next()? else {
            return Ok((common, number));
        };
        match (field, value) {
            (7, Value::Bytes(_)) => common.attributes.add(here, 7 << 3 | 2, &mut reader)?,
            (2, Value::Fixed64(start)) => common.start = start,
            (3, Value::Fixed64(time)) => common.time = time,
            (4, Value::Fixed64(bits)) => number = Ok(f64::from_bits(bits)),
            (6, Value::Fixed64(bits)) => number = Ok(bits as i64 as f64),
            (8, Value::Varint(flags)) => common.flags = flags,
            (5, Value::Bytes(exemplar)) => common.show(exemplar)?,
            _ => wire::check_field(&mut reader, &NUMBER_POINT, field, value, POINT)?,
        }
    }
}

/// Reads a `HistogramDataPoint`.
#[inline]
fn histogram_point(bytes: &[u8]) -> Result<(Common<'_>, histogram::Reading), WireError> {
    let mut common = Common::default();
    let mut read = histogram::Reading::default();
    let mut reader = Reader::new(bytes);
    loop {
        let here = reader.rest();
        let Some((field, value)) = reader.next()? else {
            return Ok((common, read));
        };
        match (field, value) {
            (9, Value::Bytes(_)) => common.attributes.add(here, 9 << 3 | 2, &mut reader)?,
            (2, Value::Fixed64(start)) => common.start = start,
            (3, Value::Fixed64(time)) => common.time = time,
            (4, Value::Fixed64(count)) => read.count = count,
            (5, Value::Fixed64(bits)) => read.sum = histogram::finite(f64::from_bits(bits)),
            (6, Value::Bytes(packed)) => read.counts(packed)?,
            (6, Value::Fixed64(count)) => read.counts(&count.to_le_bytes())?,
            (7, Value::Bytes(packed)) => read.bounds(packed)?,
            (7, Value::Fixed64(bound)) => read.bounds(&bound.to_le_bytes())?,
            (8, Value::Bytes(exemplar)) => common.show(exemplar)?,
            (10, Value::Varint(flags)) => common.flags = flags,
            (11, Value::Fixed64(bits)) => read.min = histogram::finite(f64::from_bits(bits)),
            (12, Value::Fixed64(bits)) => read.max = histogram::finite(f64::from_bits(bits)),
            _ => wire::check_field(&mut reader, &HISTOGRAM_POINT, field, value, POINT)?,
        }
    }
}

/// Reads what a point of another kind has in common with all, and checks the rest.
fn other_point(bytes: &[u8], data: Data) -> Result<Common<'_>, WireError> {
    let layout = data.layout();
    let mut common = Common::default();
    let mut reader = Reader::new(bytes);
    loop {
        let here = reader.rest();
        let Some((field, value)) = reader.next()? else {
            return Ok(common);
        };
        match (field, value) {
            (field, Value::Bytes(_)) if field == layout.attributes => {
                let tag = (field as u8) << 3 | 2;
                common.attributes.add(here, tag, &mut reader)?;
            }
            (2, Value::Fixed64(start)) => common.start = start,
            (3, Value::Fixed64(time)) => common.time = time,
            (field, Value::Varint(flags)) if field == layout.flags => common.flags = flags,
            (field, Value::Bytes(exemplar)) if field == layout.exemplars => {
                common.show(exemplar)?;
            }
            _ => wire::check_field(&mut reader, data.point(), field, value, POINT)?,
        }
    }
}

impl Common<'_> {
    /// Takes in an exemplar.
    fn show(&mut self, exemplar: &[u8]) -> Result<(), WireError> {
        wire::check(exemplar, &EXEMPLAR, INNER)?;
        self.exemplar = larger(self.exemplar, read_exemplar(exemplar)?);
        Ok(())
    }
}

/// The value of a gauge or sum.
fn number(number: f64, kind: MetricKind) -> Result<PointData, Problem> {
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
fn read_exemplar(exemplar: &[u8]) -> Result<Option<Exemplar>, WireError> {
    let (mut trace_id, mut span_id, mut observed) = (None, None, f64::NAN);
    for field in wire::fields(exemplar) {
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
