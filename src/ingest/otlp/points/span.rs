use std::collections::HashMap;
use std::sync::Arc;

use super::attributes::{self, cut};
use super::known::Known;
use super::{checked_time, horizon, shown};
use crate::ingest::otlp::wire::{self, WireError};
use crate::model::{Batch, Operation, Reject, Resource, SpanKind, SpanRecord, Timestamp};

/// The name of a span that has none.
const UNKNOWN_NAME: &str = "unknown";
/// The status code that means an error.
const STATUS_ERROR: i32 = 2;

/// What a request's spans are of, by the number of the envelope, kind and name: many spans are of the
/// same.
#[derive(Default)]
struct Operations<'a> {
    numbers: HashMap<(u32, SpanKind, &'a str), u32, foldhash::fast::RandomState>,
    all: Vec<Operation>,
}

/// Reads an `ExportTraceServiceRequest` that the check has accepted.
pub(crate) fn spans(request: &[u8], now: Timestamp, known: &Known) -> Result<Batch, WireError> {
    let mut batch = Batch::default();
    let horizon = horizon(now);
    let mut look = known.look();
    let mut operations = Operations::default();
    for (number, envelope) in (0..).zip(wire::all(request, 1)) {
        let envelope = envelope?;
        let mut printer = look.printer();
        for resource in wire::all(envelope, 1) {
            printer.add(resource?);
        }
        let resource = attributes::known_resource(envelope, printer.finish(), &mut look)?;
        for scope_envelope in wire::all(envelope, 2) {
            for span in wire::all(scope_envelope?, 2) {
                let span = Span::read(span?)?;
                match span.record(number, &resource, horizon, &mut operations) {
                    Ok(record) => batch.spans.push(record),
                    Err(reason) => batch
                        .rejections
                        .add(reason, || format!("span `{}`", shown(span.name))),
                }
            }
        }
    }
    batch.operations = operations.all;
    Ok(batch)
}

/// What is used of a span; attributes, events and links are checked and passed over.
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
    fn read(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut span = Self::default();
        for field in wire::fields(bytes) {
            match field? {
                (1, value) => span.trace_id = value.bytes()?,
                (2, value) => span.span_id = value.bytes()?,
                (4, value) => span.parent_id = value.bytes()?,
                (5, value) => span.name = value.text()?,
                (6, value) => span.kind = value.int32()?,
                (7, value) => span.start = value.number()?,
                (8, value) => span.end = value.number()?,
                (15, value) => {
                    for field in wire::fields(value.bytes()?) {
                        if let (3, code) = field? {
                            span.status = code.int32()?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(span)
    }

    fn record(
        &self,
        envelope: u32,
        resource: &Result<Arc<Resource>, Reject>,
        horizon: u64,
        operations: &mut Operations<'a>,
    ) -> Result<SpanRecord, Reject> {
        let resource = resource.as_ref().map_err(|reason| *reason)?;
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
            operation: operations.number(envelope, resource, self),
            error: self.status == STATUS_ERROR,
        })
    }
}

impl<'a> Operations<'a> {
    /// The number of what `span` is of, which came in this envelope from this resource.
    fn number(&mut self, envelope: u32, resource: &Arc<Resource>, span: &Span<'a>) -> u32 {
        let kind = SpanKind::from_otlp(span.kind);
        let all = &mut self.all;
        let number = self.numbers.entry((envelope, kind, span.name));
        *number.or_insert_with(|| {
            let name = if span.name.is_empty() {
                UNKNOWN_NAME.into()
            } else {
                cut(span.name).into()
            };
            all.push(Operation {
                resource: Arc::clone(resource),
                name,
                kind,
            });
            (all.len() - 1) as u32
        })
    }
}

/// A span's id; `None` for zeros.
fn id(bytes: &[u8]) -> Result<Option<u64>, Reject> {
    let id = bytes.try_into().map(u64::from_be_bytes);
    Ok(Some(id.map_err(|_| Reject::BadId)?).filter(|id| *id != 0))
}
