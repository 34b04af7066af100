use std::collections::HashMap;
use std::sync::Arc;

use super::attributes::{self, cut};
use super::known::Known;
use super::{checked_time, horizon, shown};
use crate::ingest::otlp::wire::{self, WireError};
use crate::model::{Batch, Reject, Resource, SpanKind, SpanRecord, Timestamp};

/// The name of a span that has none.
const UNKNOWN_NAME: &str = "unknown";
/// The status code that means an error.
const STATUS_ERROR: i32 = 2;

/// Names of a request's spans: many spans have the same.
type Names<'a> = HashMap<&'a str, Arc<str>, foldhash::fast::RandomState>;

/// Reads an `ExportTraceServiceRequest` that the check has accepted.
pub(crate) fn spans(request: &[u8], now: Timestamp, known: &Known) -> Result<Batch, WireError> {
    let mut batch = Batch::default();
    let horizon = horizon(now);
    let mut look = known.look();
    let mut names = Names::default();
    for envelope in wire::all(request, 1) {
        let envelope = envelope?;
        let mut printer = look.printer();
        for resource in wire::all(envelope, 1) {
            printer.add(resource?);
        }
        let resource = attributes::known_resource(envelope, printer.finish(), &mut look)?;
        for scope_envelope in wire::all(envelope, 2) {
            for span in wire::all(scope_envelope?, 2) {
                let span = Span::read(span?)?;
                match span.record(&resource, horizon, &mut names) {
                    Ok(record) => batch.spans.push(record),
                    Err(reason) => batch
                        .rejections
                        .add(reason, || format!("span `{}`", shown(span.name))),
                }
            }
        }
    }
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
        resource: &Result<Arc<Resource>, Reject>,
        horizon: u64,
        names: &mut Names<'a>,
    ) -> Result<SpanRecord, Reject> {
        let resource = Arc::clone(resource.as_ref().map_err(|reason| *reason)?);
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
        let name = names.entry(self.name).or_insert_with(|| {
            if self.name.is_empty() {
                UNKNOWN_NAME.into()
            } else {
                cut(self.name).into()
            }
        });
        Ok(SpanRecord {
            resource,
            name: Arc::clone(name),
            kind: SpanKind::from_otlp(self.kind),
            start,
            end,
            error: self.status == STATUS_ERROR,
            trace_id,
            span_id,
            parent_id,
        })
    }
}

/// A span's id; `None` for zeros.
fn id(bytes: &[u8]) -> Result<Option<u64>, Reject> {
    let id = bytes.try_into().map(u64::from_be_bytes);
    Ok(Some(id.map_err(|_| Reject::BadId)?).filter(|id| *id != 0))
}
