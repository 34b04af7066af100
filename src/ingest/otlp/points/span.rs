//! Spans: one pass over the bytes, which are checked where they are read. Attributes, events and links are
//! checked and passed over.

use std::collections::HashMap;
use std::sync::Arc;

use super::attributes::{self, cut};
use super::known::{Known, Look};
use super::{checked_time, horizon, shown};
use crate::ingest::otlp::schema::{
    KEY_VALUE, RESOURCE_SPANS, SCOPE, SCOPE_SPANS, SPAN, STATUS, TRACES_REQUEST,
};
use crate::ingest::otlp::wire::{self, Reader, Value, WireError};
use crate::model::{Batch, Operation, Reject, Resource, SpanKind, SpanRecord, Timestamp};

/// The name of a span that has none.
const UNKNOWN_NAME: &str = "unknown";
/// The status code that means an error.
const STATUS_ERROR: i32 = 2;
/// Messages around a span.
const SPAN_LEVEL: u32 = 3;
/// Tag of an attribute of a span.
const ATTRIBUTE_TAG: u8 = 9 << 3 | 2;

/// Reads an `ExportTraceServiceRequest`.
pub(crate) fn spans(request: &[u8], now: Timestamp, known: &Known) -> Result<Batch, WireError> {
    let mut reading = Reading {
        horizon: horizon(now),
        look: known.look(),
        batch: Batch::default(),
        known: HashMap::default(),
        texts: HashMap::default(),
    };
    let mut reader = Reader::new(request);
    let mut envelopes = 0;
    while let Some((number, value)) = reader.next()? {
        match (number, value) {
            (1, Value::Bytes(envelope)) => {
                reading.resource_spans(envelope, envelopes)?;
                envelopes += 1;
            }
            _ => wire::check_field(&mut reader, &TRACES_REQUEST, number, value, 0)?,
        }
    }
    Ok(reading.batch)
}

/// A request while it is read.
struct Reading<'a, 'k> {
    /// The latest time that is believed.
    horizon: u64,
    look: Look<'k>,
    batch: Batch,
    /// Positions of operations, by envelope, name and kind.
    known: HashMap<(u32, &'a str, SpanKind), u32, foldhash::fast::RandomState>,
    /// Names as operations have them: those of several services may be the same.
    texts: HashMap<&'a str, Arc<str>, foldhash::fast::RandomState>,
}

impl<'a> Reading<'a, '_> {
    fn resource_spans(&mut self, envelope: &'a [u8], number: u32) -> Result<(), WireError> {
        // What is shared may come last: all else is looked at first.
        let mut printer = self.look.printer();
        let mut reader = Reader::new(envelope);
        while let Some((number, value)) = reader.next()? {
            match (number, value) {
                (1, Value::Bytes(resource)) => printer.add(resource),
                (2, Value::Bytes(_)) => {}
                _ => wire::check_field(&mut reader, &RESOURCE_SPANS, number, value, 1)?,
            }
        }
        let resource = attributes::known_resource(envelope, printer.finish(), &mut self.look)?;
        for scope_spans in wire::all(envelope, 2) {
            let mut reader = Reader::new(scope_spans?);
            while let Some((field, value)) = reader.next()? {
                match (field, value) {
                    (2, Value::Bytes(span)) => self.span(span, &resource, number)?,
                    (1, Value::Bytes(scope)) => wire::check(scope, &SCOPE, 3)?,
                    _ => wire::check_field(&mut reader, &SCOPE_SPANS, field, value, 2)?,
                }
            }
        }
        Ok(())
    }

    fn span(
        &mut self,
        bytes: &'a [u8],
        resource: &Result<Arc<Resource>, Reject>,
        envelope: u32,
    ) -> Result<(), WireError> {
        let span = Span::read(bytes)?;
        let record = match resource {
            Ok(resource) => span.record(self.horizon).map(|record| (record, resource)),
            Err(reason) => Err(*reason),
        };
        match record {
            Ok((record, resource)) => {
                let operation = self.operation(&span, resource, envelope);
                self.batch.spans.push(SpanRecord {
                    operation,
                    ..record
                });
            }
            Err(reason) => {
                let example = || format!("span `{}`", shown(span.name));
                self.batch.rejections.add(reason, example);
            }
        }
        Ok(())
    }

    /// The position of a span's operation, which is made if it is new.
    fn operation(&mut self, span: &Span<'a>, resource: &Arc<Resource>, envelope: u32) -> u32 {
        let kind = SpanKind::from_otlp(span.kind);
        let Self {
            batch,
            known,
            texts,
            ..
        } = self;
        *known.entry((envelope, span.name, kind)).or_insert_with(|| {
            let name = texts.entry(span.name).or_insert_with(|| {
                if span.name.is_empty() {
                    UNKNOWN_NAME.into()
                } else {
                    cut(span.name).into()
                }
            });
            batch.operations.push(Operation {
                resource: Arc::clone(resource),
                name: Arc::clone(name),
                kind,
            });
            batch.operations.len() as u32 - 1
        })
    }
}

/// What is used of a span.
#[derive(Default)]
struct Span<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_id: &'a [u8],
    name: &'a str,
    kind: i32,
    start: u64,
    end: u64,
    status: i32,
}

impl<'a> Span<'a> {
    #[inline]
    fn read(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut span = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, value)) = reader.next()? {
            match (number, value) {
                (9, Value::Bytes(attribute)) => {
                    wire::check(attribute, &KEY_VALUE, SPAN_LEVEL + 1)?;
                    while reader.skip_tag(ATTRIBUTE_TAG) {
                        wire::check(reader.chunk()?, &KEY_VALUE, SPAN_LEVEL + 1)?;
                    }
                }
                (1, Value::Bytes(id)) => span.trace_id = id,
                (2, Value::Bytes(id)) => span.span_id = id,
                (4, Value::Bytes(id)) => span.parent_id = id,
                (5, Value::Bytes(_)) => span.name = value.text()?,
                (6, Value::Varint(kind)) => span.kind = kind as i32,
                (7, Value::Fixed64(start)) => span.start = start,
                (8, Value::Fixed64(end)) => span.end = end,
                (15, Value::Bytes(status)) => {
                    wire::check(status, &STATUS, SPAN_LEVEL + 1)?;
                    for field in wire::fields(status) {
                        if let (3, code) = field? {
                            span.status = code.int32()?;
                        }
                    }
                }
                _ => wire::check_field(&mut reader, &SPAN, number, value, SPAN_LEVEL)?,
            }
        }
        Ok(span)
    }

    /// The span, all but its operation.
    fn record(&self, horizon: u64) -> Result<SpanRecord, Reject> {
        let trace_id = self.trace_id.try_into().map(u128::from_be_bytes);
        let trace_id = trace_id.ok().filter(|id| *id != 0).ok_or(Reject::BadId)?;
        let span_id = id(self.span_id)?.ok_or(Reject::BadId)?;
        // A parent of zeros is how some clients say: none.
        let parent_id = if self.parent_id.is_empty() {
            None
        } else {
            id(self.parent_id)?
        };
        if self.start == 0 {
            return Err(Reject::NoTime);
        }
        if self.end != 0 && self.end < self.start {
            return Err(Reject::NegativeDuration);
        }
        let end = checked_time(self.end, horizon)?;
        let start = checked_time(self.start, horizon)?;
        Ok(SpanRecord {
            trace_id,
            span_id,
            parent_id,
            start,
            end,
            operation: 0,
            error: self.status == STATUS_ERROR,
        })
    }
}

/// A span's id; `None` for zeros.
fn id(bytes: &[u8]) -> Result<Option<u64>, Reject> {
    let id = bytes.try_into().map(u64::from_be_bytes);
    Ok(Some(id.map_err(|_| Reject::BadId)?).filter(|id| *id != 0))
}
