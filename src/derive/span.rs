//! Spans gathered by series and tick, wherever their trace happens to be handled.

use std::hash::{BuildHasher, Hash};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::breakdown::{Breakdown, Cell, Sender};
use super::edge::{Call, Joins, Prints};
use super::services::Services;
use super::{Sketch, tick_end};
use crate::model::{
    AttributeValue, Attributes, Exemplar, Instrument, MetricKind, Operation, Reject, Resource,
    Scope, SeriesId, SeriesIdentity, SpanKind, SpanRecord, Timestamp,
};

/// So many edges are found again without a look into the table.
const RECENT_EDGES: usize = 32;

/// So many spans are looked for together.
const AT_ONCE: usize = 16;

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
    /// So many spans are remembered at most; the oldest leave. Some 40 bytes each, twice that for one
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
    services: Services,
    series: Table,
    words: Words,
    /// The operations of the request in hand; kept to spare allocations.
    known: Vec<Known>,
    /// Where calls went lately, by caller and callee.
    edges: [Option<Recent>; RECENT_EDGES],
}

/// Where calls of one service by another went.
#[derive(Debug, Clone, Copy)]
struct Recent {
    caller: u32,
    callee: u32,
    begins: Timestamp,
    tick: Timestamp,
    series: u32,
    partial: u32,
}

/// What tells a series within the aggregator; cheaper than its id, which takes a SHA-256. Services are
/// numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key<Name> {
    Spans(u32, SpanKind, Name),
    Edge(u32, u32),
    Overflow(u32),
}

/// Series that have spans now, or had some before the last [`SpanAggregator::take`].
#[derive(Debug)]
struct Table {
    hasher: FixedState,
    /// Positions in `gathered`.
    table: HashTable<u32>,
    gathered: Vec<Gathered>,
    /// (series, tick) pairs in all of them.
    partials: usize,
    most: usize,
}

#[derive(Debug)]
struct Gathered {
    key: Key<Arc<str>>,
    hash: u64,
    id: SeriesId,
    identity: Arc<SeriesIdentity>,
    /// A few ticks at a time, the newest as a rule last.
    ticks: Vec<SpanPartial>,
}

/// Where spans of one series and tick go.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// To this series and this partial of it.
    Here(u32, u32),
    /// To a partial that is to be made.
    New,
}

/// Texts that all identities share.
#[derive(Debug)]
struct Words {
    scope: Arc<Scope>,
    span_duration: Arc<str>,
    edge_duration: Arc<str>,
    seconds: Arc<str>,
}

/// What is known of an operation of a request.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Number of its service; `None` while nobody asked, and `Some(None)` if there are too many.
    service: Option<Option<u32>>,
    /// Where its last span went.
    last: Option<Run>,
}

/// Spans of an operation that go to the same place.
#[derive(Debug, Clone)]
struct Run {
    /// Begin and end of the tick.
    begins: Timestamp,
    tick: Timestamp,
    series: u32,
    partial: u32,
    /// Those that the partial's breakdown does not hold yet.
    cell: Cell,
}

impl SpanAggregator {
    /// Without any span.
    pub fn new(settings: SpanSettings) -> Self {
        Self {
            joins: Joins::new(settings.window, settings.max_spans, settings.seed),
            services: Services::new(settings.max_services, settings.seed),
            series: Table {
                hasher: FixedState::with_seed(settings.seed),
                table: HashTable::new(),
                gathered: Vec::new(),
                partials: 0,
                most: settings.max_partials,
            },
            words: Words {
                scope: Arc::default(),
                span_duration: "span.duration".into(),
                edge_duration: "edge.duration".into(),
                seconds: "s".into(),
            },
            known: Vec::new(),
            edges: [None; RECENT_EDGES],
            settings,
        }
    }

    /// Takes in spans of `operations`, and says of each what became of it. A span may complete calls
    /// between services: those whose callee's span it is, or whose caller's.
    ///
    /// A span whose operation is not among them is none.
    pub fn apply<'a>(
        &mut self,
        operations: &[Operation],
        spans: impl IntoIterator<Item = &'a SpanRecord>,
        now: Timestamp,
        mut became: impl FnMut(&'a SpanRecord, SpanApplied),
    ) {
        self.joins.advance(now);
        let oldest = now.minus(self.settings.max_age);
        let mut known = std::mem::take(&mut self.known);
        known.clear();
        known.resize(operations.len(), Known::default());
        // What is remembered lies all over memory: some spans at a time wait for it together.
        let mut spans = spans.into_iter();
        let mut coming = Vec::with_capacity(AT_ONCE);
        loop {
            coming.extend(spans.by_ref().take(AT_ONCE).map(|span| {
                let prints = self.joins.prints(span);
                (span, prints, self.joins.glance(prints))
            }));
            black_box(coming.iter().filter(|(.., glance)| *glance).count());
            if coming.is_empty() {
                break;
            }
            for (span, prints, _) in coming.drain(..) {
                let at = span.operation as usize;
                let (Some(operation), Some(known)) = (operations.get(at), known.get_mut(at)) else {
                    continue;
                };
                let applied = if span.end < oldest {
                    SpanApplied::Late
                } else {
                    self.take_in(operation, known, span, prints)
                };
                became(span, applied);
            }
        }
        let age = self.joins.age();
        let mut sender: Option<(&Arc<Resource>, Sender<'_>)> = None;
        for (operation, known) in operations.iter().zip(&mut known) {
            if let (Some(Some(service)), Some(run)) = (known.service, known.last.take()) {
                self.services.used(service, age);
                // Neighbours mostly share their resource.
                let resource = &operation.resource;
                let sender = match &sender {
                    Some((known, sender)) if Arc::ptr_eq(known, resource) => sender,
                    _ => &sender.insert((resource, Sender::of(resource))).1,
                };
                self.series.settle(&run, sender);
            }
        }
        self.known = known;
    }

    fn take_in(
        &mut self,
        operation: &Operation,
        known: &mut Known,
        span: &SpanRecord,
        prints: Prints,
    ) -> SpanApplied {
        let service = *known
            .service
            .get_or_insert_with(|| self.services.number(&operation.resource.service));
        let Some(service) = service else {
            return SpanApplied::Rejected(Reject::ServiceLimit);
        };
        let length = self.settings.tick;
        // Neighbours mostly end in one tick.
        let same = known.last.as_ref();
        let same = same.filter(|run| span.end > run.begins && span.end <= run.tick);
        let (tick, place, key) = match same {
            Some(run) => (run.tick, Place::Here(run.series, run.partial), None),
            None => {
                let tick = tick_end(span.end, length);
                let key = Key::Spans(service, operation.kind, &operation.name);
                match self.series.place(&key, tick, 1) {
                    Some(place) => (tick, place, Some(key)),
                    None => {
                        let key = Key::Overflow(service);
                        match self.series.place(&key, tick, 2) {
                            Some(place) => (tick, place, Some(key)),
                            None => return SpanApplied::Rejected(Reject::SeriesLimit),
                        }
                    }
                }
            }
        };
        let Self {
            joins,
            series,
            services,
            words,
            edges,
            ..
        } = self;
        let is_new = joins.join(span, prints, service, |caller, call| {
            let at = (caller ^ call.callee.wrapping_mul(31)) as usize % RECENT_EDGES;
            let recent = edges.get_mut(at);
            if let Some(partial) = series.edge(caller, &call, length, recent, words, services) {
                partial.observe(call.nanos, call.error, span.trace_id, call.span);
            }
        });
        if !is_new {
            return SpanApplied::Repeated;
        }
        let nanos = span.nanos();
        if let Some(key) = key {
            if let Some(run) = known.last.take() {
                self.series.settle(&run, &Sender::of(&operation.resource));
            }
            let (series, partial) = match place {
                Place::Here(series, partial) => (series, partial),
                Place::New => self.series.make(&key, tick, &self.words, &self.services),
            };
            known.last = Some(Run {
                begins: tick.minus(length),
                tick,
                series,
                partial,
                cell: Cell::default(),
            });
        }
        if let Some(run) = &mut known.last {
            run.cell.add(Cell::of(nanos, span.error));
            if let Some(partial) = self.series.partial(run.series, run.partial) {
                partial.observe(nanos, span.error, span.trace_id, span.span_id);
            }
        }
        SpanApplied::Counted
    }

    /// Everything gathered since the last call, by series and tick.
    pub fn take(&mut self) -> Vec<SpanPartial> {
        let mut taken = self.series.take();
        self.edges = [None; RECENT_EDGES];
        let joins = &self.joins;
        let held = self.series.gathered.iter().map(|gathered| &gathered.key);
        let held = held.flat_map(|key| match *key {
            Key::Spans(service, ..) | Key::Overflow(service) => [service, service],
            Key::Edge(caller, callee) => [caller, callee],
        });
        self.services.release(held, |age| joins.forgets(age));
        taken.sort_by_cached_key(|partial| (partial.series, partial.tick_end));
        taken
    }

    /// How many (series, tick) pairs [`take`](Self::take) would return; taking early, before
    /// [`SpanSettings::max_partials`] is reached, avoids the overflow series.
    pub fn gathered(&self) -> usize {
        self.series.partials
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.joins.bytes() + self.series.bytes() + self.services.bytes()
    }
}

impl Table {
    fn hash<Name: Hash>(&self, key: &Key<Name>) -> u64 {
        self.hasher.hash_one(key)
    }

    fn find(&self, key: &Key<&Arc<str>>) -> Option<u32> {
        let is_same = |at: &u32| {
            let known = self.gathered.get(*at as usize);
            known.is_some_and(|known| known.key.borrow() == *key)
        };
        self.table.find(self.hash(key), is_same).copied()
    }

    /// Where spans of `key` and `tick` go, within `share` times the limit; `None` if there is no room.
    fn place(&self, key: &Key<&Arc<str>>, tick: Timestamp, share: usize) -> Option<Place> {
        let known = self.find(key).and_then(|series| {
            let ticks = &self.gathered.get(series as usize)?.ticks;
            let partial = ticks.iter().rposition(|partial| partial.tick_end == tick)?;
            Some(Place::Here(series, partial as u32))
        });
        let has_room = self.partials < self.most.saturating_mul(share);
        known.or_else(|| has_room.then_some(Place::New))
    }

    /// Makes the partial that [`place`](Self::place) found room for.
    fn make(
        &mut self,
        key: &Key<&Arc<str>>,
        tick: Timestamp,
        words: &Words,
        services: &Services,
    ) -> (u32, u32) {
        let series = self.find(key).unwrap_or_else(|| {
            let identity = words.identity(key, services);
            let series = self.gathered.len() as u32;
            let hash = self.hash(key);
            self.gathered.push(Gathered {
                key: key.to_owned(),
                hash,
                id: identity.id(),
                identity: Arc::new(identity),
                ticks: Vec::new(),
            });
            let hash_of = |at: &u32| {
                self.gathered
                    .get(*at as usize)
                    .map_or(0, |known| known.hash)
            };
            self.table.insert_unique(hash, series, hash_of);
            series
        });
        let Some(gathered) = self.gathered.get_mut(series as usize) else {
            return (series, 0);
        };
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
        (series, (gathered.ticks.len() - 1) as u32)
    }

    /// Where a call goes; `None` if there is no room. `recent` is where neighbours of it went.
    fn edge(
        &mut self,
        caller: u32,
        call: &Call,
        length: Duration,
        recent: Option<&mut Option<Recent>>,
        words: &Words,
        services: &Services,
    ) -> Option<&mut SpanPartial> {
        let recent = recent?;
        let is_here = |recent: &&Recent| {
            let is_same = recent.caller == caller && recent.callee == call.callee;
            is_same && call.end > recent.begins && call.end <= recent.tick
        };
        if let Some(recent) = recent.as_ref().filter(is_here) {
            return self.partial(recent.series, recent.partial);
        }
        let key = Key::Edge(caller, call.callee);
        let tick = tick_end(call.end, length);
        let (series, partial) = match self.place(&key, tick, 1)? {
            Place::Here(series, partial) => (series, partial),
            Place::New => self.make(&key, tick, words, services),
        };
        *recent = Some(Recent {
            caller,
            callee: call.callee,
            begins: tick.minus(length),
            tick,
            series,
            partial,
        });
        self.partial(series, partial)
    }

    fn partial(&mut self, series: u32, partial: u32) -> Option<&mut SpanPartial> {
        let gathered = self.gathered.get_mut(series as usize)?;
        gathered.ticks.get_mut(partial as usize)
    }

    /// Has the breakdown hold the spans of a run, too.
    fn settle(&mut self, run: &Run, sender: &Sender<'_>) {
        if let Some(partial) = self.partial(run.series, run.partial) {
            partial.breakdown.add(sender, run.cell);
        }
    }

    /// All partials. A series without spans since the last call leaves, so the table is bounded by what
    /// is gathered between two calls.
    fn take(&mut self) -> Vec<SpanPartial> {
        let mut taken = Vec::with_capacity(self.partials);
        self.gathered.retain_mut(|gathered| {
            let is_busy = !gathered.ticks.is_empty();
            taken.append(&mut gathered.ticks);
            is_busy
        });
        self.partials = 0;
        self.table.clear();
        for (at, gathered) in (0..).zip(&self.gathered) {
            let hash_of = |at: &u32| {
                self.gathered
                    .get(*at as usize)
                    .map_or(0, |known| known.hash)
            };
            self.table.insert_unique(gathered.hash, at, hash_of);
        }
        taken
    }

    fn bytes(&self) -> usize {
        let partials = self.gathered.iter().flat_map(|gathered| {
            let more = gathered.ticks.capacity() - gathered.ticks.len();
            let inside = |partial: &SpanPartial| {
                size_of::<SpanPartial>() + partial.sketch.bytes() + partial.breakdown.bytes()
            };
            gathered
                .ticks
                .iter()
                .map(inside)
                .chain([more * size_of::<SpanPartial>()])
        });
        let series = self.gathered.capacity() * size_of::<Gathered>();
        partials.sum::<usize>() + series + self.table.allocation_size()
    }
}

impl Key<Arc<str>> {
    fn borrow(&self) -> Key<&Arc<str>> {
        match self {
            Self::Spans(service, kind, name) => Key::Spans(*service, *kind, name),
            Self::Edge(caller, callee) => Key::Edge(*caller, *callee),
            Self::Overflow(service) => Key::Overflow(*service),
        }
    }
}

impl Key<&Arc<str>> {
    fn to_owned(&self) -> Key<Arc<str>> {
        match self {
            Self::Spans(service, kind, name) => Key::Spans(*service, *kind, Arc::clone(name)),
            Self::Edge(caller, callee) => Key::Edge(*caller, *callee),
            Self::Overflow(service) => Key::Overflow(*service),
        }
    }
}

impl SpanPartial {
    fn observe(&mut self, nanos: u64, error: bool, trace_id: u128, span_id: u64) {
        let seconds = nanos as f64 / 1e9;
        self.count += 1;
        self.sketch.add(seconds);
        let exemplar = || {
            Some(Exemplar {
                trace_id,
                span_id,
                value: seconds,
            })
        };
        let is_slower = |than: Option<Exemplar>| than.is_none_or(|than| seconds >= than.value);
        if is_slower(self.slowest) {
            self.slowest = slower(self.slowest, exemplar());
        }
        if error {
            self.errors += 1;
            if is_slower(self.failed) {
                self.failed = slower(self.failed, exemplar());
            }
        }
    }
}

impl Words {
    fn identity(&self, key: &Key<&Arc<str>>, services: &Services) -> SeriesIdentity {
        let text = |name: &str, value: &str| (name.into(), AttributeValue::from(value));
        let (reporter, metric, kind, attributes) = match *key {
            Key::Spans(service, kind, name) => (
                service,
                &self.span_duration,
                MetricKind::Spans,
                Attributes::from_pairs([text("span.name", name), text("span.kind", kind.name())]),
            ),
            Key::Edge(caller, callee) => {
                let callee = &services.resource(callee).service;
                (
                    caller,
                    &self.edge_duration,
                    MetricKind::Edge,
                    Attributes::from_pairs([text("peer.service", callee)]),
                )
            }
            Key::Overflow(service) => (
                service,
                &self.span_duration,
                MetricKind::Spans,
                Attributes::from_pairs([(
                    "otel.metric.overflow".into(),
                    AttributeValue::Bool(true),
                )]),
            ),
        };
        SeriesIdentity {
            resource: Arc::clone(services.resource(reporter)),
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
