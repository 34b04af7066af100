//! What readers ask. Answers are bounded, and a long list is read in slices, between which the shards go
//! on with their data.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::thread;

use futures_util::future::join_all;

use super::handle::Handle;
use super::router;
use super::series::{Series, Source};
use super::shard::Shard;
use super::signal::Signal;
use super::trend::{LOOKED, Looked};
use crate::model::{
    Attributes, BaselineView, BoxFuture, EdgeView, Examined, Page, Query, Rule, SampleView,
    Selector, SeriesId, SeriesIdentity, ServiceView, SignalId, SignalKind, SignalRef, SignalView,
    Timestamp, WindowView,
};

/// Units of work in one slice of a list: a few tenths of a millisecond. In tests slices are small, too.
const SLICE: usize = if cfg!(test) { 5 } else { 256 };

/// Signals of a list that shards are asked for together: what a shard gathers, it must not have to copy.
const PART: usize = if cfg!(test) { 7 } else { 1_000 };

/// Signals that whoever asks makes texts of in one turn.
const TURN: usize = 64;

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
}

/// What a list is made of.
pub(super) struct Make<T> {
    /// Units of work that an element costs; to look whether a series has one costs 1.
    pub(super) work: usize,
    /// One element.
    pub(super) make: fn(&Shard, SignalId, &Series, &Signal) -> T,
}

impl<T> Clone for Make<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Make<T> {}

/// Signals, from which [`Sight::view`] makes what everybody sees.
const SIGHTS: Make<Sight> = Make {
    // Some microseconds of statistics over the window.
    work: 16,
    make: Shard::sight,
};

/// A signal as its shard tells it: numbers, and names that are shared.
pub(super) struct Sight {
    kind: SignalKind,
    identity: SeriesIdentity,
    window: WindowView,
    baseline: BaselineView,
    season: Option<&'static str>,
    last: Option<SampleView>,
    overflow: bool,
    rule: Option<u32>,
}

impl Sight {
    /// As everybody sees it: with texts of its own, which are made by whoever asked.
    pub(super) fn view(self, id: SignalId, rules: &[Rule]) -> SignalView {
        let identity = &self.identity;
        let seen = SignalRef {
            kind: self.kind,
            identity,
        };
        let mut resource = texts(&identity.resource.attributes);
        resource.remove("service.name");
        let rule = self.rule.and_then(|rule| rules.get(rule as usize));
        SignalView {
            id: id.to_string(),
            service: identity.resource.service.to_string(),
            metric: identity.metric.to_string(),
            signal: self.kind.to_string(),
            unit: seen.unit().to_owned(),
            attributes: texts(&identity.attributes),
            resource,
            window: self.window,
            baseline: self.baseline,
            season: self.season.map(Into::into),
            last: self.last,
            overflow: self.overflow,
            rule: rule.map(|rule| rule.alert.clone()),
        }
    }
}

/// A list that is being made.
pub(super) struct Listing<T> {
    filter: Filter,
    cursor: Cursor,
    limit: usize,
    make: Make<T>,
    found: Vec<(SignalId, T)>,
}

/// What a shard found, and whether there may be more.
type Found<T> = (Vec<(SignalId, T)>, bool);

impl Handle {
    /// The first `limit` signals behind `cursor`, over all shards, by id; `shape` makes of what shards tell
    /// what is asked for.
    pub(super) async fn list<T: Send + 'static, U>(
        &self,
        filter: Filter,
        cursor: Cursor,
        limit: usize,
        make: Make<T>,
        shape: impl Fn(SignalId, T) -> U,
    ) -> Page<U> {
        // One more than asked for, to know whether there is a next page.
        let wanted = limit.saturating_add(1);
        let (mut items, mut last, mut more) = (Vec::new(), None, false);
        let mut at = Some(cursor);
        while let Some(cursor) = at
            && !more
        {
            let missing = wanted - items.len();
            let (part, behind) = self.part(&filter, cursor, missing.min(PART), make).await;
            for (id, item) in part {
                if items.len() == limit {
                    more = true;
                    break;
                }
                items.push(shape(id, item));
                last = Some(id);
                turn(items.len());
            }
            at = behind.map(Cursor::Behind);
        }
        let next = last.filter(|_| more);
        Page { items, next }
    }

    /// The signals that a rule watches with how far they were from their bands in the whole window, and
    /// where they are going; about as many behind `cursor` as are asked for, by id. Some ten microseconds a signal
    /// in the shards, and as many where it is asked.
    pub async fn examined(&self, cursor: Option<SignalId>, limit: usize) -> Page<Examined> {
        let cursor = cursor.map_or(Cursor::Start, Cursor::Behind);
        let examined = |id, looked: Looked| looked.examined(id, &self.0.plan.rules);
        self.page(cursor, limit, LOOKED, examined).await
    }

    /// About as many watched signals behind `cursor` as are asked for.
    async fn page<T: Send + 'static, U>(
        &self,
        cursor: Cursor,
        limit: usize,
        make: Make<T>,
        shape: impl Fn(SignalId, T) -> U,
    ) -> Page<U> {
        let (found, next) = self.part(&Filter::Watched, cursor, limit, make).await;
        let mut items = Vec::with_capacity(found.len());
        for (id, item) in found {
            items.push(shape(id, item));
            turn(items.len());
        }
        Page { items, next }
    }

    /// About as many signals behind `cursor` as are asked for, and at most so many; and where the next ones
    /// begin, should there be any. Ids are hashes, so each shard has about its share of them, and makes no
    /// more than that.
    async fn part<T: Send + 'static>(
        &self,
        filter: &Filter,
        cursor: Cursor,
        limit: usize,
        make: Make<T>,
    ) -> (Vec<(SignalId, T)>, Option<SignalId>) {
        let shards = &self.0.shards;
        let share = match shards.len() {
            1 => limit,
            // Some more, so that it mostly is enough.
            many => (limit / many + limit / many / 8 + 8).min(limit),
        };
        let lists = shards.iter().map(|shard| {
            let mut listing = Listing {
                filter: filter.clone(),
                cursor,
                limit: share.max(1),
                make,
                found: Vec::new(),
            };
            shard.work_in_turns(move |shard| shard.list(&mut listing))
        });
        let lists: Vec<Found<T>> = join_all(lists).await.into_iter().flatten().collect();
        // Behind the last of a shard that has more, others of it may come before what is known.
        let ends = lists.iter().filter(|(_, more)| *more);
        let known = ends.filter_map(|(found, _)| Some(found.last()?.0)).min();
        let mut found: Vec<_> = lists.into_iter().flat_map(|(found, _)| found).collect();
        found.sort_by_key(|(id, _)| *id);
        let all = found.len();
        if let Some(known) = known {
            found.truncate(found.partition_point(|(id, _)| *id <= known));
        }
        found.truncate(limit);
        let more = known.is_some() || found.len() < all;
        let next = found.last().map(|(id, _)| *id).filter(|_| more);
        (found, next)
    }
}

/// Others have a turn after each few signals that an asker makes texts of.
fn turn(done: usize) {
    if done.is_multiple_of(TURN) {
        thread::yield_now();
    }
}

impl Query for Handle {
    fn signals(
        &self,
        selector: Selector,
        cursor: Option<SignalId>,
        limit: usize,
    ) -> BoxFuture<'_, Page<SignalView>> {
        let cursor = cursor.map_or(Cursor::Start, Cursor::Behind);
        let filter = Filter::Matching(Arc::new(selector));
        let view = |id, sight: Sight| sight.view(id, &self.0.plan.rules);
        Box::pin(self.list(filter, cursor, limit, SIGHTS, view))
    }

    fn samples(
        &self,
        id: SignalId,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Option<Vec<SampleView>>> {
        Box::pin(async move {
            let owner = router::owner(id.series, self.0.plan.settings.shards);
            let samples = move |shard: &mut Shard| shard.samples(id, from, to);
            self.0.shards.get(owner)?.run(samples).await.ok()?
        })
    }

    fn state_bytes(&self) -> BoxFuture<'_, BTreeMap<String, u64>> {
        Box::pin(self.weigh())
    }

    fn services(&self) -> BoxFuture<'_, Vec<ServiceView>> {
        Box::pin(async { self.0.census.views() })
    }

    fn edges(&self) -> BoxFuture<'_, Vec<EdgeView>> {
        Box::pin(async {
            let edges = self.0.shards.iter().map(|shard| {
                let (mut cursor, mut found) = (None, Vec::new());
                shard.work_in_turns(move |shard| shard.edge_views(&mut cursor, &mut found))
            });
            let edges = join_all(edges).await;
            let mut edges: Vec<_> = edges.into_iter().flatten().flatten().collect();
            edges.sort_by(|a, b| (&a.caller, &a.callee).cmp(&(&b.caller, &b.callee)));
            edges
        })
    }

    fn watched(&self, cursor: Option<SignalId>, limit: usize) -> BoxFuture<'_, Page<SignalView>> {
        let cursor = cursor.map_or(Cursor::Start, Cursor::Behind);
        let view = |id, sight: Sight| sight.view(id, &self.0.plan.rules);
        Box::pin(self.page(cursor, limit, SIGHTS, view))
    }
}

impl Shard {
    /// Looks at the next series; breaks with what was found when that is enough, or all.
    fn list<T>(&self, listing: &mut Listing<T>) -> ControlFlow<Found<T>> {
        let from = match listing.cursor {
            Cursor::Start => Bound::Unbounded,
            Cursor::Behind(signal) => Bound::Included(signal.series),
            Cursor::BehindSeries(series) => Bound::Excluded(series),
        };
        let before = listing.found.len();
        for (looked_at, (id, series)) in self.series.ordered(from).enumerate() {
            let made = listing.found.len() - before;
            if looked_at + made * listing.make.work >= SLICE {
                return ControlFlow::Continue(());
            }
            self.list_series(id, series, listing);
            listing.cursor = Cursor::BehindSeries(id);
            if listing.found.len() >= listing.limit {
                listing.found.truncate(listing.limit);
                return ControlFlow::Break((std::mem::take(&mut listing.found), true));
            }
        }
        ControlFlow::Break((std::mem::take(&mut listing.found), false))
    }

    fn list_series<T>(&self, id: SeriesId, series: &Series, listing: &mut Listing<T>) {
        let Listing {
            filter,
            cursor,
            make,
            found,
            ..
        } = listing;
        let (filter, cursor, make) = (&*filter, *cursor, *make);
        let first = found.len();
        for signal in &series.signals {
            let kind = signal.kind;
            let id = SignalId { series: id, kind };
            let is_behind = match cursor {
                Cursor::Behind(cursor) => id > cursor,
                Cursor::Start | Cursor::BehindSeries(_) => true,
            };
            let is_asked_for = || match filter {
                Filter::Matching(selector) => selector.matches(&series.owner(id.series).seen(kind)),
                Filter::Watched => !signal.watches.is_empty(),
            };
            if is_behind && is_asked_for() {
                found.push((id, (make.make)(self, id, series, signal)));
            }
        }
        if let Some(added) = found.get_mut(first..) {
            added.sort_by_key(|(id, _)| *id);
        }
    }

    pub(super) fn sight(&self, _: SignalId, series: &Series, signal: &Signal) -> Sight {
        Sight {
            kind: signal.kind,
            identity: series.identity.clone(),
            window: signal.window.view(),
            baseline: signal.baseline(&self.plan),
            season: signal.season(),
            last: signal.last_sample(),
            overflow: series.is_overflow(),
            rule: signal.watches.first().map(|watch| watch.rule),
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

    /// Adds the numbers of the next edges behind `cursor` to `found`; breaks with all of them.
    fn edge_views(
        &self,
        cursor: &mut Option<SeriesId>,
        found: &mut Vec<EdgeView>,
    ) -> ControlFlow<Vec<EdgeView>> {
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        for (looked_at, id) in self.edges.range((from, Bound::Unbounded)).enumerate() {
            if looked_at == SLICE {
                return ControlFlow::Continue(());
            }
            *cursor = Some(*id);
            found.extend(self.series.get(id).and_then(edge));
        }
        ControlFlow::Break(std::mem::take(found))
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
        .map(|(key, value)| (key.to_owned(), value.as_text().into_owned()))
        .collect()
}
