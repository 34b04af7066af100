//! One series with its signals: what derives samples, and what they teach.

use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::few::Few;
use super::plan::{Plan, is_overflow};
use super::signal::{Owner, Signal};
use crate::derive::{Applied, Emitted, SeriesState, SpanPartial, SpanSeries};
use crate::model::{
    MetricKind, MetricPoint, Observation, SeriesId, SeriesIdentity, SignalId, SignalKind, Timestamp,
};

/// Most signals of one series. Only a summary has more than five: as many as quantiles.
const MAX_SIGNALS: usize = 32;
/// Most observations that wait in one shard for the next tick (some 25 MB). Only recorded data of many
/// deviating signals, sent within one tick, comes near; what is beyond is dropped and counted.
pub(super) const MAX_OBSERVATIONS: usize = 100_000;

/// After so many ticks without data a series gives back room that it may not need again.
const RESTS: u32 = 30;

/// A series and all its state.
pub(super) struct Series {
    pub(super) identity: SeriesIdentity,
    pub(super) source: Source,
    pub(super) signals: Few<Signal>,
    /// When data of it last arrived, in wall-clock time.
    pub(super) last_seen: Timestamp,
    /// Whether rules may watch it.
    judged: bool,
}

/// What derives the samples.
pub(super) enum Source {
    /// From points.
    Points(SeriesState),
    /// From spans, an edge among them.
    Spans(Box<SpanSeries>),
}

/// What a shard works with while it applies data: kept between series to spare allocations.
#[derive(Default)]
pub(super) struct Desk {
    /// Samples of the series in hand.
    pub(super) emitted: Vec<Emitted>,
    /// Samples seen since they were last counted.
    pub(super) samples: u64,
    /// Where the series of the points in hand lie.
    pub(super) places: Vec<Option<usize>>,
    /// What to report at the next tick.
    pub(super) observations: Vec<Observation>,
    /// Signals that ended or left since the last tick.
    pub(super) ended: Vec<SignalId>,
}

impl Series {
    /// A series without data.
    pub(super) fn new(identity: Arc<SeriesIdentity>, now: Timestamp, plan: &Plan) -> Self {
        let source = match identity.kind {
            MetricKind::Spans | MetricKind::Edge => Source::Spans(Box::default()),
            kind => Source::Points(SeriesState::new(&kind)),
        };
        Self::with(Arc::unwrap_or_clone(identity), source, now, plan)
    }

    /// A series without data that adds up the points of many others, which are beyond a limit. Repeated
    /// points cannot be told in it, since nothing is known of the single series.
    pub(super) fn overflow(identity: Arc<SeriesIdentity>, now: Timestamp, plan: &Plan) -> Self {
        match SeriesState::overflow(&identity.kind, plan.settings.tick) {
            Some(state) => {
                let identity = Arc::unwrap_or_clone(identity);
                Self::with(identity, Source::Points(state), now, plan)
            }
            None => Self::new(identity, now, plan),
        }
    }

    /// A series with saved state, without signals yet.
    pub(super) fn with(
        identity: SeriesIdentity,
        source: Source,
        last_seen: Timestamp,
        plan: &Plan,
    ) -> Self {
        let judged = !is_overflow(&identity) && !plan.settings.is_own(&identity.resource);
        Self {
            identity,
            source,
            signals: Few::default(),
            last_seen,
            judged,
        }
    }

    /// Time of the newest point that counted.
    pub(super) fn last_time(&self) -> Option<Timestamp> {
        match &self.source {
            Source::Points(state) => state.last_time(),
            Source::Spans(_) => None,
        }
    }

    /// Takes in a point; `id` is the series' own.
    pub(super) fn apply(
        &mut self,
        id: SeriesId,
        point: &MetricPoint,
        now: Timestamp,
        plan: &Plan,
        desk: &mut Desk,
    ) -> Applied {
        let Source::Points(state) = &mut self.source else {
            // Ids are hashes over the kind too: points do not come to series of spans.
            return Applied::Overlap;
        };
        let applied = state.apply(point.view(), now, &plan.derive, &mut desk.emitted);
        match applied {
            // Also a series that only sends late points is there: its clock may catch up.
            Applied::Counted | Applied::Late | Applied::Repeated | Applied::Overlap => {
                self.last_seen = self.last_seen.max(now);
            }
            Applied::Ended => {
                // No other point will close its last tick, and its signals are to end after it.
                state.close(Timestamp::from_nanos(i64::MAX), &mut desk.emitted);
                self.observe(id, plan, desk);
                desk.ended.extend(self.signal_ids(id));
            }
            Applied::Rejected(_) => {}
        }
        self.observe(id, plan, desk);
        applied
    }

    /// Takes in what some shard gathered of its spans in one tick.
    pub(super) fn absorb(
        &mut self,
        partial: SpanPartial,
        now: Timestamp,
        plan: &Plan,
        desk: &mut Desk,
    ) {
        let id = partial.series;
        if let Source::Spans(spans) = &mut self.source {
            let late = spans.absorb(partial, now, plan.settings.tick, &mut desk.emitted);
            plan.late.inc_by(late);
            self.last_seen = self.last_seen.max(now);
            self.observe(id, plan, desk);
        }
    }

    /// Whether closing the tick that ends at `boundary` will give samples.
    pub(super) fn is_open(&self, boundary: Timestamp) -> bool {
        match &self.source {
            Source::Points(state) => state.is_open(boundary),
            Source::Spans(_) => true,
        }
    }

    /// Closes the tick that ends at `boundary`. `listened`: for so long signals could have been heard, if
    /// at all. `lived`: until when the service is known to have lived; see [`SpanSeries::close`].
    pub(super) fn close(
        &mut self,
        id: SeriesId,
        boundary: Timestamp,
        listened: Option<Duration>,
        lived: impl FnOnce(&str) -> Option<Timestamp>,
        plan: &Plan,
        desk: &mut Desk,
    ) {
        match &mut self.source {
            Source::Points(state) => state.close(boundary, &mut desk.emitted),
            Source::Spans(spans) => {
                let lived = lived(&self.identity.resource.service);
                spans.close(boundary, plan.settings.tick, lived, &mut desk.emitted);
            }
        }
        self.observe(id, plan, desk);
        let silent = boundary.since(self.last_seen);
        if silent > plan.settings.tick.saturating_mul(RESTS) {
            // Half of the way to leaving.
            let forget = silent > plan.settings.idle() / 2;
            self.signals
                .iter_mut()
                .for_each(|signal| signal.rest(forget));
        }
        let Some(listened) = listened else { return };
        let owner = Owner {
            id,
            identity: &self.identity,
            judged: self.judged,
        };
        for signal in &mut self.signals {
            signal.silent(boundary, listened, owner, plan, &mut desk.observations);
        }
    }

    /// Hands the samples just derived to their signals.
    fn observe(&mut self, id: SeriesId, plan: &Plan, desk: &mut Desk) {
        // The samples leave the desk for the loop, so that the observations can be written to it.
        let mut samples = std::mem::take(&mut desk.emitted);
        for emitted in samples.drain(..) {
            let owner = Owner {
                id,
                identity: &self.identity,
                judged: self.judged,
            };
            let at = match self.signals.iter().position(|s| s.kind == emitted.kind) {
                Some(at) => at,
                None if self.signals.len() < MAX_SIGNALS => {
                    plan.begun.fetch_add(1, Ordering::Relaxed);
                    self.signals.push(Signal::new(emitted.kind, owner, plan));
                    self.signals.len() - 1
                }
                None => continue,
            };
            if let Some(signal) = self.signals.get_mut(at) {
                desk.samples += 1;
                signal.observe(&emitted, owner, plan, &mut desk.observations);
                if desk.observations.len() > MAX_OBSERVATIONS {
                    let over = desk.observations.drain(MAX_OBSERVATIONS..).count();
                    plan.telemetry.observations_dropped.inc_by(over as u64);
                }
            }
        }
        desk.emitted = samples;
    }

    /// Ids of its signals.
    pub(super) fn signal_ids(&self, id: SeriesId) -> impl Iterator<Item = SignalId> {
        self.signals.iter().map(move |s| signal_id(id, s.kind))
    }

    /// Whether it stands for all that were beyond a limit, the client's or ours.
    pub(super) fn is_overflow(&self) -> bool {
        is_overflow(&self.identity)
    }

    /// The series as its signals know it.
    pub(super) fn owner(&self, id: SeriesId) -> Owner<'_> {
        Owner {
            id,
            identity: &self.identity,
            judged: self.judged,
        }
    }

    /// Memory it occupies, without what its identity shares with others.
    pub(super) fn bytes(&self) -> usize {
        let source = match &self.source {
            Source::Points(state) => state.bytes() - size_of::<SeriesState>(),
            Source::Spans(spans) => spans.bytes(),
        };
        let beside = |signal: &Signal| signal.bytes() - size_of::<Signal>();
        size_of::<Self>()
            + self.identity.attributes.bytes()
            + source
            + self.signals.heap()
            + self.signals.iter().map(beside).sum::<usize>()
    }
}

fn signal_id(series: SeriesId, kind: SignalKind) -> SignalId {
    SignalId { series, kind }
}
