//! Which shard does what: series by their id, spans by their trace.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::census::VERSION;
use super::plan::Settings;
use super::shard::reject;
use crate::model::{MetricPoint, Reject, Rejections, Resource, SeriesId, SpanRecord};

/// The part of a request that one shard applies.
#[derive(Default)]
pub(super) struct Part {
    pub(super) points: Vec<MetricPoint>,
    pub(super) spans: Vec<SpanRecord>,
}

impl Part {
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.spans.is_empty()
    }
}

/// The shard that owns a series.
pub(super) fn owner(series: SeriesId, shards: NonZeroUsize) -> usize {
    // The id is a cryptographic hash; any part of it will do.
    (series.0 as u64 % shards.get() as u64) as usize
}

/// The shard that sees all spans of a trace.
fn joiner(trace_id: u128, shards: NonZeroUsize) -> usize {
    // Trace ids may come from anywhere, some with fixed halves: multiply and fold (the constant is
    // the golden ratio's, as in Fibonacci hashing).
    let folded = (trace_id as u64) ^ ((trace_id >> 64) as u64).rotate_left(32);
    let mixed = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 32) % shards.get() as u64) as usize
}

/// Who sends a request: its resources, of each service and version one.
pub(super) fn senders<'a>(
    points: &'a [MetricPoint],
    spans: &'a [SpanRecord],
) -> Vec<&'a Arc<Resource>> {
    let resources = points
        .iter()
        .map(|point| &point.identity.resource)
        .chain(spans.iter().map(|span| &span.resource));
    let mut before: Option<&Arc<Resource>> = None;
    let mut seen = HashSet::new();
    let mut senders = Vec::new();
    for resource in resources {
        // Neighbours mostly share their resource; comparing two pointers spares the hashing.
        if before.is_some_and(|before| Arc::ptr_eq(before, resource)) {
            continue;
        }
        before = Some(resource);
        let version = resource.attributes.get(VERSION).map(|v| v.as_text());
        if seen.insert((&*resource.service, version)) {
            senders.push(resource);
        }
    }
    senders
}

/// Splits a request among the shards. What belongs to a service in `refused` is rejected; spans of our
/// own are left out, since handling them makes new ones.
pub(super) fn split(
    points: Vec<MetricPoint>,
    spans: Vec<SpanRecord>,
    refused: &[Arc<str>],
    settings: &Settings,
    rejections: &mut Rejections,
) -> Vec<Part> {
    let refused: HashSet<&str> = refused.iter().map(|service| &**service).collect();
    let is_refused = |service: &str| !refused.is_empty() && refused.contains(service);
    let mut parts: Vec<Part> = Vec::new();
    parts.resize_with(settings.shards.get(), Part::default);
    for point in points {
        if is_refused(&point.identity.resource.service) {
            reject(rejections, Reject::ServiceLimit, &point.identity);
        } else if let Some(part) = parts.get_mut(owner(point.series, settings.shards)) {
            part.points.push(point);
        }
    }
    for span in spans {
        if is_refused(&span.resource.service) {
            let service = &span.resource.service;
            rejections.add(Reject::ServiceLimit, || format!("span of {service}"));
        } else if !settings.is_own(&span.resource)
            && let Some(part) = parts.get_mut(joiner(span.trace_id, settings.shards))
        {
            part.spans.push(span);
        }
    }
    parts
}
