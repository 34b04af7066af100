//! Which shard does what: series by their id, spans by their trace.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::census::VERSION;
use super::plan::Settings;
use super::shard;
use crate::model::{Batch, MetricPoint, Reject, Rejections, Resource, SeriesId, SpanRecord};

/// The part of a request that one shard applies: positions in a batch that all shards share.
pub(super) struct Part {
    pub(super) batch: Arc<Batch>,
    pub(super) points: Vec<u32>,
    pub(super) spans: Vec<u32>,
}

impl Part {
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.spans.is_empty()
    }

    /// Its points, each with its position in the batch.
    pub(super) fn points(&self) -> impl Iterator<Item = (u32, &MetricPoint)> {
        let point = |at: &u32| Some((*at, self.batch.points.get(*at as usize)?));
        self.points.iter().filter_map(point)
    }

    /// Its spans.
    pub(super) fn spans(&self) -> impl Iterator<Item = &SpanRecord> {
        let span = |at: &u32| self.batch.spans.get(*at as usize);
        self.spans.iter().filter_map(span)
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
pub(super) fn senders(batch: &Batch) -> Vec<&Arc<Resource>> {
    let of_points = batch.points.iter().filter_map(|p| p.identity.sender());
    let resources = batch.senders.iter().chain(of_points);
    let resources = resources.chain(batch.spans.iter().map(|span| &span.resource));
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
    batch: &Arc<Batch>,
    refused: &[Arc<str>],
    settings: &Settings,
    rejections: &mut Rejections,
) -> Vec<Part> {
    let refused: HashSet<&str> = refused.iter().map(|service| &**service).collect();
    let is_refused = |sender: Option<&Arc<Resource>>| {
        sender.is_none_or(|sender| refused.contains(&*sender.service))
    };
    let shards = settings.shards.get();
    let mut parts: Vec<Part> = (0..shards)
        .map(|_| Part {
            batch: Arc::clone(batch),
            points: Vec::with_capacity(batch.points.len().div_ceil(shards)),
            spans: Vec::with_capacity(batch.spans.len().div_ceil(shards)),
        })
        .collect();
    for (at, point) in (0..).zip(&batch.points) {
        if !refused.is_empty() && is_refused(batch.sender(point)) {
            rejections.add(Reject::ServiceLimit, || example(batch, point));
        } else if let Some(part) = parts.get_mut(owner(point.series, settings.shards)) {
            part.points.push(at);
        }
    }
    for (at, span) in (0..).zip(&batch.spans) {
        if !refused.is_empty() && is_refused(Some(&span.resource)) {
            let service = &span.resource.service;
            rejections.add(Reject::ServiceLimit, || format!("span of {service}"));
        } else if !settings.is_own(&span.resource)
            && let Some(part) = parts.get_mut(joiner(span.trace_id, settings.shards))
        {
            part.spans.push(at);
        }
    }
    parts
}

/// A point as the example of a refusal.
fn example(batch: &Batch, point: &MetricPoint) -> String {
    let identity = batch.identity(point);
    identity.map_or_else(String::new, |identity| shard::example(&identity))
}
