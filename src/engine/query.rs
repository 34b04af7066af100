//! What readers ask of a shard. Answers are bounded, and so is the work of one message: a long list is
//! read in slices, between which the shard goes on with its data.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::series::{Series, Source};
use super::shard::Shard;
use super::signal::Signal;
use crate::model::{
    Attributes, EdgeView, SampleView, Selector, SeriesId, SignalId, SignalKind, SignalView,
    Timestamp,
};

/// Which signals are asked for.
#[derive(Clone)]
pub(super) enum Filter {
    /// Those that a selector holds for.
    Matching(Arc<Selector>),
    /// Those that a rule watches.
    Watched,
}

/// Where a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// At the first signal.
    Start,
    /// Behind this one.
    Behind(SignalId),
    /// At the first signal of a series behind this one.
    BehindSeries(SeriesId),
    /// There is no more.
    End,
}

/// What a list is made of.
pub(super) struct Make<T> {
    /// Series looked at in one message: about a millisecond's work.
    pub(super) slice: usize,
    /// One element.
    pub(super) make: fn(&Shard, SignalId, &Series, &Signal) -> T,
}

impl<T> Clone for Make<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Make<T> {}

/// Signals as everybody sees them.
pub(super) const VIEWS: Make<SignalView> = Make {
    slice: 2_000,
    make: Shard::view,
};

impl Shard {
    /// The next signals from `cursor` on, at most `limit`, and where the list goes on.
    pub(super) fn list<T>(
        &self,
        cursor: Cursor,
        filter: &Filter,
        limit: usize,
        make: Make<T>,
    ) -> (Vec<(SignalId, T)>, Cursor) {
        let from = match cursor {
            Cursor::Start => Bound::Unbounded,
            Cursor::Behind(signal) => Bound::Included(signal.series),
            Cursor::BehindSeries(series) => Bound::Excluded(series),
            Cursor::End => return (Vec::new(), Cursor::End),
        };
        let mut found = Vec::new();
        for (looked_at, (id, series)) in self.series.ordered(from).enumerate() {
            self.list_series(id, series, cursor, filter, make, &mut found);
            if found.len() >= limit {
                found.truncate(limit);
                let last = found
                    .last()
                    .map_or(Cursor::End, |(id, _)| Cursor::Behind(*id));
                return (found, last);
            }
            if looked_at + 1 >= make.slice {
                return (found, Cursor::BehindSeries(id));
            }
        }
        (found, Cursor::End)
    }

    fn list_series<T>(
        &self,
        id: SeriesId,
        series: &Series,
        cursor: Cursor,
        filter: &Filter,
        make: Make<T>,
        found: &mut Vec<(SignalId, T)>,
    ) {
        let first = found.len();
        for signal in &series.signals {
            let meta = series.owner(id).meta(signal.kind);
            let is_behind = match cursor {
                Cursor::Behind(cursor) => meta.id > cursor,
                Cursor::Start | Cursor::BehindSeries(_) | Cursor::End => true,
            };
            let is_asked_for = || match filter {
                Filter::Matching(selector) => selector.matches(&meta),
                Filter::Watched => !signal.watches.is_empty(),
            };
            if is_behind && is_asked_for() {
                found.push((meta.id, (make.make)(self, meta.id, series, signal)));
            }
        }
        if let Some(added) = found.get_mut(first..) {
            added.sort_by_key(|(id, _)| *id);
        }
    }

    pub(super) fn view(&self, id: SignalId, series: &Series, signal: &Signal) -> SignalView {
        let meta = series.owner(id.series).meta(signal.kind);
        let mut resource = texts(&series.identity.resource.attributes);
        resource.remove("service.name");
        SignalView {
            id: id.to_string(),
            service: meta.service().to_owned(),
            metric: meta.metric().to_owned(),
            signal: signal.kind.to_string(),
            unit: meta.unit().into_owned(),
            attributes: texts(&series.identity.attributes),
            resource,
            window: signal.window.view(),
            baseline: signal.baseline(&self.plan),
            season: signal.season().map(Into::into),
            last: signal.last_sample(),
            overflow: series.is_overflow(),
            rule: signal.first_rule(&self.plan).map(|rule| rule.alert.clone()),
        }
    }

    /// The samples of one signal within `from..=to`; `None` if it is not here.
    pub(super) fn samples(
        &self,
        id: SignalId,
        from: Timestamp,
        to: Timestamp,
    ) -> Option<Vec<SampleView>> {
        let series = self.series.get(&id.series)?;
        let signal = series.signals.iter().find(|s| s.kind == id.kind)?;
        Some(signal.samples(from, to))
    }

    /// The numbers of every edge here.
    pub(super) fn edge_views(&self) -> Vec<EdgeView> {
        self.edges
            .iter()
            .filter_map(|id| edge(self.series.get(id)?))
            .collect()
    }
}

/// `None` for the overflow of edges, which has no callee, and before the first tick.
fn edge(series: &Series) -> Option<EdgeView> {
    let callee = series.identity.attributes.get("peer.service")?;
    let Source::Spans(spans) = &series.source else {
        return None;
    };
    let newest = |kind: SignalKind| {
        let signal = series.signals.iter().find(|s| s.kind == kind)?;
        signal.window.last()
    };
    let value = |kind| newest(kind).map(|sample| sample.value);
    Some(EdgeView {
        caller: series.identity.resource.service.to_string(),
        callee: callee.to_string(),
        rate: value(SignalKind::Rate)?,
        error_ratio: value(SignalKind::ErrorRatio).unwrap_or(0.0),
        p50: value(SignalKind::P50),
        p95: value(SignalKind::P95),
        p99: value(SignalKind::P99),
        // Ticks with calls have an error ratio, others have none.
        last_seen: newest(SignalKind::ErrorRatio)
            .map(|sample| sample.time)
            .or(spans.last_time())?,
    })
}

fn texts(attributes: &Attributes) -> BTreeMap<String, String> {
    attributes
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_string()))
        .collect()
}
