//! The points of one metric. What a point says is read; whose attributes they are is found afterwards, by a
//! hash of their bytes.

use super::known::{Look, Print};
use super::request::check_attributes;
use super::{Data, Problem, checked_time, exponential, histogram, summary};
use crate::ingest::otlp::schema::{EXEMPLAR, HISTOGRAM_POINT, NUMBER_POINT};
use crate::ingest::otlp::wire::{self, Reader, Value, WireError};
use crate::model::{
    Exemplar, Identity, MetricKind, MetricPoint, Place, PointData, Reject, SeriesId, Timestamp,
};

/// The flag of a point that says: no value here, the series ends.
const NO_RECORDED_VALUE: u64 = 1;
/// Messages around a point.
pub(super) const POINT: u32 = 5;

/// What the points of one metric share.
pub(super) struct Maker {
    /// Of everything but the points' attributes.
    pub(super) print: Print,
    /// Position of the metric in the request.
    pub(super) metric: u32,
    pub(super) data: Data,
    pub(super) kind: MetricKind,
    /// The latest time that is believed.
    pub(super) horizon: u64,
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
}

impl Maker {
    /// Reads one point, which begins at `start` in its request, all but which series it is of: that is to be
    /// found by the print, and may still have to be checked.
    #[inline]
    pub(super) fn point(
        &self,
        bytes: &[u8],
        start: u32,
        look: &Look<'_>,
    ) -> Result<(Print, MetricPoint), Problem> {
        let kind = self.kind;
        match self.data {
            Data::Gauge | Data::Sum => {
                let (common, value) = number_point(bytes)?;
                self.finish(bytes, start, common, look, || number(value?, kind))
            }
            Data::Histogram => {
                let (common, read) = histogram_point(bytes)?;
                self.finish(bytes, start, common, look, || {
                    Ok(PointData::Histogram(Box::new(read.finish()?)))
                })
            }
            Data::Exponential => {
                let common = other_point(bytes, self.data)?;
                self.finish(bytes, start, common, look, || {
                    Ok(PointData::Exponential(Box::new(exponential::read(bytes)?)))
                })
            }
            Data::Summary => {
                let common = other_point(bytes, self.data)?;
                self.finish(bytes, start, common, look, || {
                    Ok(PointData::Summary(Box::new(summary::read(bytes)?)))
                })
            }
        }
    }

    #[inline]
    fn finish(
        &self,
        bytes: &[u8],
        start: u32,
        common: Common<'_>,
        look: &Look<'_>,
        data: impl FnOnce() -> Result<PointData, Problem>,
    ) -> Result<(Print, MetricPoint), Problem> {
        let made = self.make(&common, data).map(|(time, data)| MetricPoint {
            series: SeriesId(0),
            identity: Identity::At(Place {
                metric: self.metric,
                start,
                // A request beyond 4 GiB is never read.
                length: bytes.len() as u32,
            }),
            start: Timestamp::from_otlp(common.start),
            time,
            data,
            exemplar: common.exemplar.map(Box::new),
        });
        match made {
            Ok(point) => Ok((common.attributes.print(self.print, look), point)),
            Err(problem) => {
                // A request is sound or not as a whole, and too many attributes go before other reasons.
                check_attributes(bytes, self.data)?;
                Err(problem)
            }
        }
    }

    fn make(
        &self,
        common: &Common<'_>,
        data: impl FnOnce() -> Result<PointData, Problem>,
    ) -> Result<(Timestamp, PointData), Problem> {
        let time = checked_time(common.time, self.horizon)?;
        if common.start > common.time {
            return Err(Reject::StartAfterTime.into());
        }
        if common.flags & NO_RECORDED_VALUE != 0 {
            return Ok((time, PointData::End));
        }
        Ok((time, data()?))
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
        wire::check(exemplar, &EXEMPLAR, POINT + 1)?;
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
