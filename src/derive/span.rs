//! Spans gathered by series and tick, wherever their trace happens to be handled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::breakdown::{Breakdown, Sender};
use super::edge::Joins;
use super::{Sketch, tick_end};
use crate::model::{
    AttributeValue, Attributes, Exemplar, Instrument, MetricKind, Reject, Resource, Scope,
    SeriesId, SeriesIdentity, SpanKind, SpanRecord, Timestamp,
};

/// How spans are gathered, and how much of them is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanSettings {
    /// Length of a tick. Default 10 s.
    pub tick: Duration,
    /// A span that ended longer ago is late. Default 24 h.
    pub max_age: Duration,
    /// For at least this long a span is known to have been seen, and waits for its parent. Default
    /// 60 s.
    pub window: Duration,
    /// So many spans are remembered at most; the oldest leave. Some 64 bytes each, twice that for one
    /// that waits for its parent. Default 400,000.
    pub max_spans: usize,
    /// So many (series, tick) pairs are gathered at most between two calls of
    /// [`SpanAggregator::take`]; further series of a service are counted in its overflow series.
    /// Default 20,000.
    pub max_partials: usize,
    /// So many services are told apart at most while their spans are remembered; spans of further
    /// ones are refused. Default 10,000.
    pub max_services: usize,
    /// Seed of the hash tables, so that nobody outside can make entries collide. Results do not
    /// depend on it.
    pub seed: u64,
}

impl Default for SpanSettings {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(10),
            max_age: Duration::from_secs(24 * 3600),
            window: Duration::from_secs(60),
            max_spans: 400_000,
            max_partials: 20_000,
            max_services: 10_000,
            seed: 0,
        }
    }
}

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanApplied {
    /// It counts.
    Counted,
    /// The same span was seen within the window; dropped.
    Repeated,
    /// It ended too long ago; dropped.
    Late,
    /// There is no room for its series, not even for its service's overflow.
    Rejected(Reject),
}

/// Spans of one series that ended in one tick: all, or those of some traces.
#[derive(Debug, Clone)]
pub struct SpanPartial {
    /// Identity of the series, of kind `Spans` or `Edge`.
    pub identity: Arc<SeriesIdentity>,
    /// Its id.
    pub series: SeriesId,
    /// End of the tick in which the spans ended.
    pub tick_end: Timestamp,
    /// How many.
    pub count: u64,
    /// How many of them with status `Error`.
    pub errors: u64,
    /// Their durations in seconds.
    pub sketch: Sketch,
    /// The slowest of them.
    pub slowest: Option<Exemplar>,
    /// The slowest with status `Error`.
    pub failed: Option<Exemplar>,
    /// Who sent them; empty for edges.
    pub(super) breakdown: Breakdown,
}

/// The more telling of two exemplars: the slower one; of equals the same one in whatever order they
/// come.
pub(super) fn slower(a: Option<Exemplar>, b: Option<Exemplar>) -> Option<Exemplar> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let order = a.value.total_cmp(&b.value);
            let order = order
                .then(a.trace_id.cmp(&b.trace_id))
                .then(a.span_id.cmp(&b.span_id));
            Some(if order.is_lt() { b } else { a })
        }
        (a, b) => a.or(b),
    }
}

/// Gathers the spans of some traces; every span of a trace must come to the same aggregator.
#[derive(Debug)]
pub struct SpanAggregator {
    settings: SpanSettings,
    joins: Joins,
    /// Services as resources that carry nothing but the name.
    services: HashMap<Arc<str>, Arc<Resource>, FixedState>,
    series: HashMap<Key, Gathered, FixedState>,
    /// (series, tick) pairs in `series`.
    partials: usize,
    words: Words,
    /// Who sent the last span: neighbours mostly share their resource.
    sender: Option<Sender>,
}

/// What tells a series within the aggregator; cheaper than its id, which takes a SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Spans(Arc<str>, Arc<str>, SpanKind),
    Edge(Arc<str>, Arc<str>),
    Overflow(Arc<str>),
}

#[derive(Debug)]
struct Gathered {
    id: SeriesId,
    identity: Arc<SeriesIdentity>,
    /// A few ticks at a time, the newest as a rule last.
    ticks: Vec<SpanPartial>,
}

/// Texts that all identities share.
#[derive(Debug)]
struct Words {
    scope: Arc<Scope>,
    span_duration: Arc<str>,
    edge_duration: Arc<str>,
    seconds: Arc<str>,
}

/// What one span adds to a series.
struct Observed {
    seconds: f64,
    error: bool,
    trace: u128,
    span: u64,
}

impl SpanAggregator {
    /// Without any span.
    pub fn new(settings: SpanSettings) -> Self {
        let hasher = FixedState::with_seed(settings.seed);
        Self {
            joins: Joins::new(settings.window, settings.max_spans, settings.seed),
            services: HashMap::with_hasher(hasher.clone()),
            series: HashMap::with_hasher(hasher),
            partials: 0,
            sender: None,
            words: Words {
                scope: Arc::default(),
                span_duration: "span.duration".into(),
                edge_duration: "edge.duration".into(),
                seconds: "s".into(),
            },
            settings,
        }
    }

    /// Takes in one span. It may complete calls between services: those whose callee's span this is,
    /// or whose caller's.
    pub fn apply(&mut self, span: &SpanRecord, now: Timestamp) -> SpanApplied {
        if span.end < now.minus(self.settings.max_age) {
            return SpanApplied::Late;
        }
        let Some(service) = self.service(&span.resource.service) else {
            return SpanApplied::Rejected(Reject::ServiceLimit);
        };
        let name = Arc::clone(&service.service);
        let mut key = Key::Spans(Arc::clone(&name), Arc::clone(&span.name), span.kind);
        let tick = tick_end(span.end, self.settings.tick);
        if !self.has_room(&key, tick, 1) {
            key = Key::Overflow(name);
            if !self.has_room(&key, tick, 2) {
                return SpanApplied::Rejected(Reject::SeriesLimit);
            }
        }
        let mut calls = Vec::new();
        let new = self.joins.join(span, &service, now, |caller, call| {
            calls.push((Arc::clone(caller), call.clone()));
        });
        if !new {
            return SpanApplied::Repeated;
        }
        let observed = Observed {
            seconds: span.end.seconds_since(span.start),
            error: span.error,
            trace: span.trace_id,
            span: span.span_id,
        };
        let sender = match self.sender.take() {
            Some(sender) if sender.is(&span.resource) => sender,
            _ => Sender::of(&span.resource),
        };
        self.gather(key, &service, tick, &observed, Some(&sender));
        self.sender = Some(sender);
        for (caller, call) in calls {
            let key = Key::Edge(
                Arc::clone(&caller.service),
                Arc::clone(&call.callee.service),
            );
            let tick = tick_end(call.end, self.settings.tick);
            if self.has_room(&key, tick, 1) {
                let observed = Observed {
                    seconds: call.seconds,
                    error: call.error,
                    trace: call.trace,
                    span: call.span,
                };
                self.gather(key, &caller, tick, &observed, None);
            }
        }
        SpanApplied::Counted
    }

    /// Everything gathered since the last call, by series and tick.
    pub fn take(&mut self) -> Vec<SpanPartial> {
        let mut taken = Vec::with_capacity(self.partials);
        // A series without spans since the last call leaves, so the table is bounded by what is
        // gathered between two calls.
        self.series.retain(|_, gathered| {
            let busy = !gathered.ticks.is_empty();
            taken.append(&mut gathered.ticks);
            busy
        });
        self.partials = 0;
        self.services
            .retain(|_, resource| Arc::strong_count(resource) > 1);
        taken.sort_unstable_by_key(|partial| (partial.series, partial.tick_end));
        taken
    }

    /// How many (series, tick) pairs [`take`](Self::take) would return; taking early, before
    /// [`SpanSettings::max_partials`] is reached, avoids the overflow series.
    pub fn gathered(&self) -> usize {
        self.partials
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        let partials: usize = self
            .series
            .values()
            .flat_map(|gathered| &gathered.ticks)
            .map(|partial| {
                size_of::<SpanPartial>() + partial.sketch.bytes() + partial.breakdown.bytes()
            })
            .sum();
        self.joins.bytes() + partials + self.series.capacity() * size_of::<(Key, Gathered)>()
    }

    /// The service as a resource; `None` if there are too many.
    fn service(&mut self, name: &Arc<str>) -> Option<Arc<Resource>> {
        if let Some(known) = self.services.get(name) {
            return Some(Arc::clone(known));
        }
        if self.services.len() >= self.settings.max_services {
            return None;
        }
        let attributes = [("service.name".into(), AttributeValue::from(&**name))];
        let resource = Arc::new(Resource {
            service: Arc::clone(name),
            attributes: Attributes::from_pairs(attributes),
        });
        self.services
            .insert(Arc::clone(name), Arc::clone(&resource));
        Some(resource)
    }

    /// Whether `key` can be gathered for `tick` within `share` times the limit.
    fn has_room(&self, key: &Key, tick: Timestamp, share: usize) -> bool {
        self.partials < self.settings.max_partials.saturating_mul(share)
            || self.series.get(key).is_some_and(|gathered| {
                gathered
                    .ticks
                    .iter()
                    .any(|partial| partial.tick_end == tick)
            })
    }

    fn gather(
        &mut self,
        key: Key,
        reporter: &Arc<Resource>,
        tick: Timestamp,
        seen: &Observed,
        sender: Option<&Sender>,
    ) {
        let words = &self.words;
        let gathered = self.series.entry(key).or_insert_with_key(|key| {
            let identity = words.identity(key, reporter);
            Gathered {
                id: identity.id(),
                identity: Arc::new(identity),
                ticks: Vec::new(),
            }
        });
        let at = gathered
            .ticks
            .iter()
            .rposition(|partial| partial.tick_end == tick);
        let at = at.unwrap_or_else(|| {
            self.partials += 1;
            gathered.ticks.push(SpanPartial {
                identity: Arc::clone(&gathered.identity),
                series: gathered.id,
                tick_end: tick,
                count: 0,
                errors: 0,
                sketch: Sketch::new(),
                slowest: None,
                failed: None,
                breakdown: Breakdown::default(),
            });
            gathered.ticks.len() - 1
        });
        if let Some(partial) = gathered.ticks.get_mut(at) {
            partial.observe(seen);
            if let Some(sender) = sender {
                partial.breakdown.add(sender, seen.seconds, seen.error);
            }
        }
    }
}

impl SpanPartial {
    fn observe(&mut self, seen: &Observed) {
        let exemplar = Some(Exemplar {
            trace_id: seen.trace,
            span_id: seen.span,
            value: seen.seconds,
        });
        self.count += 1;
        self.sketch.add(seen.seconds);
        self.slowest = slower(self.slowest, exemplar);
        if seen.error {
            self.errors += 1;
            self.failed = slower(self.failed, exemplar);
        }
    }
}

impl Words {
    fn identity(&self, key: &Key, reporter: &Arc<Resource>) -> SeriesIdentity {
        let text = |name: &str, value: &str| (name.into(), AttributeValue::from(value));
        let (metric, kind, attributes) = match key {
            Key::Spans(_, name, kind) => (
                &self.span_duration,
                MetricKind::Spans,
                Attributes::from_pairs([text("span.name", name), text("span.kind", kind.name())]),
            ),
            Key::Edge(_, callee) => (
                &self.edge_duration,
                MetricKind::Edge,
                Attributes::from_pairs([text("peer.service", callee)]),
            ),
            Key::Overflow(_) => (
                &self.span_duration,
                MetricKind::Spans,
                Attributes::from_pairs([(
                    "otel.metric.overflow".into(),
                    AttributeValue::Bool(true),
                )]),
            ),
        };
        SeriesIdentity {
            resource: Arc::clone(reporter),
            instrument: Arc::new(Instrument {
                scope: Arc::clone(&self.scope),
                metric: Arc::clone(metric),
                unit: Arc::clone(&self.seconds),
                kind,
            }),
            attributes,
        }
    }
}
