//! Closing a tick over all shards.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::census::Admission;
use super::close::Closing;
use super::handle::{Handle, Inner};
use super::life::Lives;
use super::pulse::{Beat, Pulses};
use super::report::TickReport;
use super::router;
use crate::derive::{SpanPartial, tick_end};
use crate::model::{Observation, SeriesId, SignalId, Timestamp};

/// What one tick leaves for the next.
#[derive(Default)]
pub(super) struct Ticker {
    lives: Lives,
    pub(super) pulses: Pulses,
    /// Whether there was one.
    began: bool,
    /// When what was restored had been saved, until the first has forgiven the time between.
    pub(super) unforgiven: Option<Timestamp>,
}

/// Series that are uncounted at once; requests wait for that.
const RELEASED: usize = 256;

/// What a tick brought, of all shards, in no order.
#[derive(Default)]
struct Merged {
    observations: Vec<Vec<Observation>>,
    ended: Vec<Vec<SignalId>>,
    fed: bool,
}

impl Handle {
    /// Closes every tick that has ended at `now`, and lets go of series and services that have been
    /// idle for too long. Spans and points that arrive later for such a tick count in the next one, so
    /// callers wait for stragglers before they call.
    ///
    /// The work is done even if the caller does not wait for it; but then its report is lost.
    pub async fn tick(&self, now: Timestamp) -> TickReport {
        self.note(now);
        let handle = self.clone();
        let closed = tokio::spawn(async move { handle.close_tick(now).await }).await;
        let closed = closed.unwrap_or_else(|_| {
            self.0.plan.telemetry.panics.inc();
            Merged::default()
        });
        let observations = closed.observations.into_iter().flatten().collect();
        let ended = closed.ended.into_iter().flatten().collect();
        TickReport::new(self.boundary(now), observations, ended, closed.fed)
    }

    /// The last end of a tick at `now` or before.
    fn boundary(&self, now: Timestamp) -> Timestamp {
        let tick = self.0.plan.settings.tick;
        let end = tick_end(now, tick);
        if end == now { end } else { end.minus(tick) }
    }

    async fn close_tick(&self, now: Timestamp) -> Merged {
        let inner = &*self.0;
        let boundary = self.boundary(now);
        let mut ticker = inner.ticker.lock().await;

        // Spans were gathered by trace; now what was gathered goes to the shards that own the series.
        let gathered = join_all(inner.shards.iter().map(|s| s.run(|s| s.take_spans()))).await;
        let gathered: Vec<SpanPartial> = gathered.into_iter().flatten().flatten().collect();
        let present = inner.census.take_present();
        let tick = inner.plan.settings.tick;
        let lived = Arc::new(ticker.lives.step(boundary, tick, &present, &gathered));

        let parts = self.by_owner(gathered);
        let absorbed = inner.shards.iter().zip(parts).map(async |(shard, part)| {
            if part.is_empty() {
                return Vec::new();
            }
            let (mut part, mut unknown) = (part.into_iter(), Vec::new());
            let absorb = shard.work(move |shard| shard.absorb(&mut part, &mut unknown, now));
            absorb.await.unwrap_or_default()
        });
        let unknown: Vec<SpanPartial> = join_all(absorbed).await.into_iter().flatten().collect();

        let newcomers = self.by_owner(self.admit_spans(unknown, now));
        let (services, listened) = self.listen(&mut ticker.pulses, boundary);
        let closed = inner.shards.iter().zip(newcomers).map(|(shard, part)| {
            let lived = Arc::clone(&lived);
            let lived = move |service: &str| lived.get(service).copied();
            let mut closing = Closing::new(boundary, now, part, listened, lived);
            shard.work(move |shard| shard.close(&mut closing))
        });
        // The first after a start forgives the time before, and single signals may be known by their silence.
        let first = !std::mem::replace(&mut ticker.began, true);
        ticker.unforgiven = None;
        if first || listened.is_some() && Pulses::leave_some(&inner.plan) {
            self.changed();
        }
        let mut merged = Merged::default();
        for closed in join_all(closed).await.into_iter().flatten() {
            merged.observations.extend(closed.observations);
            merged.ended.push(closed.ended);
            for gone in closed.gone.chunks(RELEASED) {
                self.changed();
                inner.census.release(gone);
                tokio::task::yield_now().await;
            }
        }
        let beat = if Pulses::are_needed(&inner.plan) && inner.plan.settings.is_beat(boundary) {
            ticker
                .pulses
                .beat(boundary, &services, listened, &inner.plan)
        } else {
            Beat::default()
        };
        merged.observations.push(beat.observations);
        merged.ended.push(beat.ended);
        inner.census.forget(now, inner.plan.settings.idle());
        merged.fed = inner.census.take_fed();
        merged
    }

    /// Which services were heard since the last tick, and for how long those that were not could have been.
    pub(super) fn listen(
        &self,
        pulses: &mut Pulses,
        boundary: Timestamp,
    ) -> (Vec<(Arc<str>, bool)>, Option<Duration>) {
        let Inner { plan, census, .. } = &*self.0;
        if !Pulses::are_needed(plan) || !plan.settings.is_beat(boundary) {
            return (Vec::new(), None);
        }
        let services = census.take_heard(plan.settings.own_service.as_deref());
        let beat = plan.settings.beat.unwrap_or(plan.settings.tick);
        let listened = pulses.listen(boundary, &services, beat);
        (services, listened)
    }

    /// Decides about span series that no shard knows. Those beyond a limit become parts of the
    /// overflow series, and are dropped only where there are too many of these.
    fn admit_spans(&self, mut unknown: Vec<SpanPartial>, now: Timestamp) -> Vec<SpanPartial> {
        // By id first: who is first under a limit must not depend on the shards.
        unknown.sort_by_key(|partial| (partial.series, partial.tick_end));
        let mut decided: Option<(SeriesId, Admission)> = None;
        unknown.retain_mut(|partial| {
            if !matches!(&decided, Some((series, _)) if *series == partial.series) {
                let admission = self.0.census.admit(&partial.identity, now);
                decided = Some((partial.series, admission));
            }
            match &decided {
                Some((_, Admission::Welcome)) => true,
                Some((_, Admission::Fold(series, identity))) => {
                    partial.series = *series;
                    partial.identity = Arc::clone(identity);
                    true
                }
                Some((_, Admission::Refused)) | None => false,
            }
        });
        unknown
    }

    /// Split by the shard that owns the series; in order of time, then series.
    fn by_owner(&self, mut partials: Vec<SpanPartial>) -> Vec<Vec<SpanPartial>> {
        partials.sort_by_key(|partial| (partial.tick_end, partial.series));
        let mut parts: Vec<Vec<SpanPartial>> = Vec::new();
        parts.resize_with(self.0.shards.len(), Vec::new);
        for partial in partials {
            let owner = router::owner(partial.series, self.0.plan.settings.shards);
            if let Some(part) = parts.get_mut(owner) {
                part.push(partial);
            }
        }
        parts
    }
}
