//! One shard: a plain struct that owns all state of its series. One thread works on it, so nothing in
//! here is locked or waits.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::index::SeriesMap;
use super::notice::Overlaps;
use super::plan::Plan;
use super::router::Part;
use super::series::{Desk, Series};
use crate::derive::{Applied, SpanAggregator, SpanApplied, SpanPartial, SpanSettings};
use crate::model::{
    Batch, MetricKind, MetricPoint, Operation, PointData, Reject, Rejections, RuleId, SeriesId,
    SeriesIdentity, SignalId, SpanRecord, Timestamp,
};

/// Most spans remembered by all shards together, to know repeated ones and to join them with their
/// parents: 60 s of some 16,000 a second, in 40 to 80 MB.
const MAX_SPANS: usize = 1_000_000;

/// Parts of spans' series taken in at once: some tenths of a millisecond.
const ABSORBED: usize = if cfg!(test) { 3 } else { 64 };

/// Series whose memory is counted at once: the same.
const COUNTED: usize = 512;

/// All state of the series of one shard.
pub(super) struct Shard {
    pub(super) plan: Arc<Plan>,
    pub(super) series: SeriesMap,
    /// The ids of edges.
    pub(super) edges: BTreeSet<SeriesId>,
    /// Those of each service, for questions about one of them.
    services: HashMap<Arc<str>, BTreeSet<SeriesId>, foldhash::fast::RandomState>,
    spans: SpanAggregator,
    pub(super) desk: Desk,
    overlaps: Overlaps,
    /// When what was restored had been saved, until the first tick.
    pub(super) restored: Option<Timestamp>,
}

/// What became of a shard's part of a request.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) rejections: Rejections,
    /// Points of series that nobody knows yet; nothing of them was applied.
    pub(super) unknown: Vec<u32>,
    /// Series that were counted as new, but were here already: two requests brought them at once.
    pub(super) counted_twice: Vec<Arc<SeriesIdentity>>,
}

/// A point of a series that was unknown.
pub(super) struct Newcomer {
    /// Its position in the batch.
    pub(super) point: u32,
    /// The series that it counts in.
    pub(super) series: SeriesId,
    pub(super) identity: Arc<SeriesIdentity>,
    pub(super) as_what: Admitted,
}

/// Which way a point of an unknown series was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// Its series was counted for it.
    Counted,
    /// A point before it of the same request had the series counted.
    Along,
    /// It belongs to a series beyond a limit; its series is now the overflow series.
    Folded,
}

impl Shard {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let spans = SpanAggregator::new(SpanSettings {
            tick: plan.settings.tick,
            max_age: plan.settings.max_age,
            max_spans: MAX_SPANS / plan.settings.shards,
            seed: RandomState::new().hash_one(0),
            ..SpanSettings::default()
        });
        Self {
            plan,
            series: SeriesMap::default(),
            edges: BTreeSet::new(),
            services: HashMap::default(),
            spans,
            desk: Desk::default(),
            overlaps: Overlaps::default(),
            restored: None,
        }
    }

    /// Adds a series.
    pub(super) fn insert(&mut self, id: SeriesId, mut series: Series) {
        self.plan.common.share(&mut series.identity);
        self.place(id, series);
    }

    /// Adds a series whose identity is of what others have, too.
    pub(super) fn place(&mut self, id: SeriesId, series: Series) {
        if series.identity.kind == MetricKind::Edge {
            self.edges.insert(id);
        }
        let service = Arc::clone(&series.identity.resource.service);
        self.services.entry(service).or_default().insert(id);
        self.series.insert(id, series);
    }

    /// Lets a series go.
    pub(super) fn remove(&mut self, id: SeriesId) -> Option<Arc<SeriesIdentity>> {
        let identity = self.series.remove(&id)?.identity;
        self.edges.remove(&id);
        let service = &identity.resource.service;
        if let Some(ids) = self.services.get_mut(service) {
            ids.remove(&id);
            if ids.is_empty() {
                self.services.remove(service);
            }
        }
        Some(Arc::new(identity))
    }

    /// The series of a service behind `cursor`, by id.
    pub(super) fn of_service(
        &self,
        service: &str,
        cursor: Option<SeriesId>,
    ) -> impl Iterator<Item = SeriesId> {
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.services
            .get(service)
            .into_iter()
            .flat_map(move |ids| ids.range((from, Bound::Unbounded)))
            .copied()
    }

    /// See [`super::Handle::accept`].
    pub(super) fn accept(&mut self, signal: SignalId, since: Timestamp) -> Vec<RuleId> {
        let series = self.series.get_mut(&signal.series);
        let signals = series.map(|series| &mut series.signals);
        let found = signals.and_then(|all| all.iter_mut().find(|s| s.kind == signal.kind));
        found.map_or_else(Vec::new, |found| found.accept(since))
    }

    /// Applies points of known series, and spans.
    pub(super) fn apply(&mut self, part: &Part, now: Timestamp) -> Answer {
        let mut answer = Answer::default();
        let mut counted = 0;
        // Each series lies elsewhere in memory, some of it beyond every cache. Searches, and first looks,
        // that do not depend on each other wait for it together instead of one after the other.
        let mut places = std::mem::take(&mut self.desk.places);
        places.extend(
            part.points()
                .map(|(_, point)| self.series.find(point.series)),
        );
        let series = places.iter().flatten();
        let glances = series.filter_map(|place| self.series.at(*place)?.last_time());
        black_box(glances.max());
        for ((at, point), place) in part.points().zip(places.drain(..)) {
            let Some((_, series)) = place.and_then(|place| self.series.at_mut(place)) else {
                answer.unknown.push(at);
                continue;
            };
            let id = point.series;
            let applied = series.apply(id, point, now, &self.plan, &mut self.desk);
            if applied == Applied::Overlap {
                self.overlaps.warn(id, &series.identity, now);
            }
            counted += note(applied, series, &self.plan, &mut answer.rejections);
        }
        self.desk.places = places;
        self.plan.telemetry.points.inc_by(counted);
        let mut counted = 0;
        let (batch, plan) = (&*part.batch, &*self.plan);
        let became = |span: &SpanRecord, applied| match applied {
            SpanApplied::Counted => counted += 1,
            SpanApplied::Repeated => plan.repeated.inc(),
            SpanApplied::Late => plan.late.inc(),
            SpanApplied::Rejected(reason) => answer.rejections.add(reason, || {
                let operation = batch.operation(span);
                operation.map_or_else(String::new, span_example)
            }),
        };
        let operations = &batch.operations;
        self.spans.apply(operations, part.spans(), now, became);
        self.plan.telemetry.spans.inc_by(counted);
        self.count_samples();
        answer
    }

    /// Applies a point of `series`, and says whether it counted (1) or not (0); `None` if the series is
    /// unknown.
    pub(super) fn apply_point(
        &mut self,
        id: SeriesId,
        point: &MetricPoint,
        now: Timestamp,
        rejections: &mut Rejections,
    ) -> Option<u64> {
        let series = self.series.get_mut(&id)?;
        let applied = series.apply(id, point, now, &self.plan, &mut self.desk);
        if applied == Applied::Overlap {
            self.overlaps.warn(id, &series.identity, now);
        }
        Some(note(applied, series, &self.plan, rejections))
    }

    /// Applies points of `batch` whose series were new to the engine.
    pub(super) fn admit(
        &mut self,
        batch: &Batch,
        newcomers: Vec<Newcomer>,
        now: Timestamp,
    ) -> Answer {
        let mut answer = Answer::default();
        let mut counted = 0;
        for newcomer in newcomers {
            let Newcomer {
                point,
                series: id,
                identity,
                as_what,
            } = newcomer;
            let Some(point) = batch.points.get(point as usize) else {
                continue;
            };
            if as_what == Admitted::Folded && matches!(point.data, PointData::End) {
                // One of many has ended; what they are folded into goes on.
                counted += 1;
                continue;
            }
            if !self.series.contains_key(&id) {
                let series = match as_what {
                    Admitted::Counted | Admitted::Along => Series::new(identity, now, &self.plan),
                    Admitted::Folded => Series::overflow(identity, now, &self.plan),
                };
                self.insert(id, series);
            } else if as_what == Admitted::Counted {
                answer.counted_twice.push(identity);
            }
            // It is here now.
            counted += self
                .apply_point(id, point, now, &mut answer.rejections)
                .unwrap_or_default();
        }
        self.plan.telemetry.points.inc_by(counted);
        self.count_samples();
        answer
    }

    /// What was gathered of spans since it was last asked, for the shards that own the series.
    pub(super) fn take_spans(&mut self) -> Vec<SpanPartial> {
        self.spans.take()
    }

    /// Takes in the next of what was gathered, of series that are here; what is of others goes to `unknown`.
    pub(super) fn absorb(
        &mut self,
        partials: &mut std::vec::IntoIter<SpanPartial>,
        unknown: &mut Vec<SpanPartial>,
        now: Timestamp,
    ) -> ControlFlow<Vec<SpanPartial>> {
        for partial in partials.by_ref().take(ABSORBED) {
            match self.series.get_mut(&partial.series) {
                Some(series) => series.absorb(partial, now, &self.plan, &mut self.desk),
                None => unknown.push(partial),
            }
        }
        match partials.len() {
            0 => ControlFlow::Break(std::mem::take(unknown)),
            _ => ControlFlow::Continue(()),
        }
    }

    pub(super) fn count_samples(&mut self) {
        let samples = std::mem::take(&mut self.desk.samples);
        self.plan.telemetry.samples.inc_by(samples);
    }

    /// Adds to `sum` about how much memory the series from `position` on take, and at last what finds
    /// them.
    pub(super) fn bytes(&self, position: &mut usize, sum: &mut usize) -> ControlFlow<usize> {
        let slice = self.series.from(*position).take(COUNTED);
        let (counted, bytes) =
            slice.fold((0, 0), |(n, bytes), series| (n + 1, bytes + series.bytes()));
        *position += counted;
        *sum += bytes;
        if counted == COUNTED {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(*sum + self.around())
    }

    /// About how much memory what finds the series takes.
    pub(super) fn around(&self) -> usize {
        // A B-tree is two thirds full.
        let ordered = |ids: &BTreeSet<SeriesId>| ids.len() * size_of::<SeriesId>() * 2;
        let services: usize = self.services.values().map(ordered).sum();
        let services = services + self.services.len() * size_of::<BTreeSet<SeriesId>>();
        self.series.bytes() + services + ordered(&self.edges)
    }
}

/// Counts what became of a point; 1 if it was applied.
fn note(applied: Applied, series: &Series, plan: &Plan, rejections: &mut Rejections) -> u64 {
    match applied {
        Applied::Counted | Applied::Ended => return 1,
        Applied::Late => plan.late.inc(),
        Applied::Repeated => plan.repeated.inc(),
        Applied::Overlap => plan.overlap.inc(),
        Applied::Rejected(reason) => reject(rejections, reason, &series.identity),
    }
    0
}

/// Counts one refusal, with the series as the example.
pub(super) fn reject(rejections: &mut Rejections, reason: Reject, identity: &SeriesIdentity) {
    rejections.add(reason, || example(identity));
}

/// A series as the example of a refusal.
pub(super) fn example(identity: &SeriesIdentity) -> String {
    format!("{} of {}", identity.metric, identity.resource.service)
}

/// A span as the example of a refusal.
pub(super) fn span_example(operation: &Operation) -> String {
    format!("span of {}", operation.resource.service)
}
