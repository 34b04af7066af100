//! Closing a tick of one shard, in slices: between two of them the shard goes on with its data.
//!
//! What comes out does not depend on how the work is sliced. A point that is applied between two slices
//! counts in the tick if its series is still to come, and else as one that came after the tick: as it
//! would have had it come so much earlier or later.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::series::{MAX_OBSERVATIONS, Series};
use super::shard::Shard;
use super::signal::Signal;
use crate::derive::SpanPartial;
use crate::model::{Observation, SeriesIdentity, SignalId, Timestamp};

/// Units of work in one slice: a few tenths of a millisecond. Tests see many slices, however small they are.
const SLICE: u64 = if cfg!(test) { 5 } else { 256 };
/// Series whose memory is read together: what that is fits into the first cache.
const AHEAD: usize = 16;
/// Units of work that a sample costs beside its series: a detector looks at it.
const SAMPLE: u64 = 3;

/// What a shard hands over when it closes a tick.
#[derive(Default)]
pub(super) struct Closed {
    /// As they were found: to gather them in one place would mean to copy very many at once.
    pub(super) observations: Vec<Vec<Observation>>,
    pub(super) ended: Vec<SignalId>,
    /// Series that left.
    pub(super) gone: Vec<Arc<SeriesIdentity>>,
}

/// A tick that is being closed.
pub(super) struct Closing<L> {
    /// When it ends, and the present time.
    boundary: Timestamp,
    now: Timestamp,
    /// For so long signals could have been heard, if at all.
    listened: Option<Duration>,
    /// Until when a service is known to have lived; see
    /// [`SpanSeries::close`](crate::derive::SpanSeries::close).
    lived: L,
    /// What was gathered of series that are new.
    newcomers: std::vec::IntoIter<SpanPartial>,
    /// The memory of the series before this one was glanced at.
    glanced: usize,
    /// The series before this one are closed. Nothing but this lets go of series, and new ones come last.
    at: usize,
    /// Of series that were last seen by the first: add the second.
    forgiven: Option<(Timestamp, Duration)>,
    observations: Vec<Vec<Observation>>,
    /// How many there are.
    observed: usize,
    gone: Vec<Arc<SeriesIdentity>>,
}

impl<L: Fn(&str) -> Option<Timestamp>> Closing<L> {
    /// The tick that ends at `boundary`, closed at `now`.
    pub(super) fn new(
        boundary: Timestamp,
        now: Timestamp,
        newcomers: Vec<SpanPartial>,
        listened: Option<Duration>,
        lived: L,
    ) -> Self {
        Self {
            boundary,
            now,
            listened,
            lived,
            newcomers: newcomers.into_iter(),
            at: 0,
            glanced: 0,
            forgiven: None,
            observations: Vec::new(),
            observed: 0,
            gone: Vec::new(),
        }
    }
}

impl Shard {
    /// Does the next slice of closing a tick.
    pub(super) fn close<L>(&mut self, closing: &mut Closing<L>) -> ControlFlow<Closed>
    where
        L: Fn(&str) -> Option<Timestamp>,
    {
        let flow = self.close_some(closing);
        self.count_samples();
        let mut found = std::mem::take(&mut self.desk.observations);
        let room = MAX_OBSERVATIONS.saturating_sub(closing.observed);
        if found.len() > room {
            let dropped = &self.plan.telemetry.observations_dropped;
            dropped.inc_by((found.len() - room) as u64);
            found.truncate(room);
        }
        closing.observed += found.len();
        if !found.is_empty() {
            closing.observations.push(found);
        }
        if flow.is_continue() {
            return ControlFlow::Continue(());
        }
        self.plan.common.tidy();
        ControlFlow::Break(Closed {
            observations: std::mem::take(&mut closing.observations),
            ended: std::mem::take(&mut self.desk.ended),
            gone: std::mem::take(&mut closing.gone),
        })
    }

    /// Does some of it: takes in what was gathered of series that are new, then closes one series after the
    /// other and lets go of those that have been idle for too long.
    fn close_some<L>(&mut self, closing: &mut Closing<L>) -> ControlFlow<()>
    where
        L: Fn(&str) -> Option<Timestamp>,
    {
        let begun = self.desk.samples;
        for done in 0.. {
            let samples = self.desk.samples - begun;
            if done + SAMPLE * samples >= SLICE {
                return ControlFlow::Continue(());
            }
            match closing.newcomers.next() {
                Some(partial) => self.welcome(partial, closing.now),
                None => break,
            }
        }
        if let Some(saved) = self.restored.take() {
            // The time in which nobody could reach us does not count as silence of a series.
            let downtime = closing.now.since(saved);
            closing.forgiven = (downtime > self.plan.settings.tick).then_some((saved, downtime));
        }
        let idle = self.plan.settings.idle();
        let Closing {
            boundary,
            now,
            listened,
            forgiven,
            ..
        } = *closing;
        for done in 0.. {
            let samples = self.desk.samples - begun;
            if done + SAMPLE * samples >= SLICE {
                return ControlFlow::Continue(());
            }
            if closing.at >= closing.glanced {
                closing.glanced = closing.at + AHEAD;
                self.glance(closing.at, boundary);
            }
            let Some((id, series)) = self.series.at_mut(closing.at) else {
                break;
            };
            if let Some((saved, downtime)) = forgiven
                && series.last_seen <= saved
            {
                series.last_seen = series.last_seen.plus(downtime);
            }
            let lived = &closing.lived;
            series.close(id, boundary, listened, lived, &self.plan, &mut self.desk);
            if now.since(series.last_seen) > idle {
                self.desk.ended.extend(series.signal_ids(id));
                // Another series, which is still to come, takes its place.
                closing.gone.extend(self.remove(id));
            } else {
                closing.at += 1;
            }
        }
        ControlFlow::Break(())
    }

    /// Reads what closing these series will need: each lies elsewhere in memory, most of it beyond every cache,
    /// and reads that do not depend on each other wait for it together.
    fn glance(&self, from: usize, boundary: Timestamp) {
        let mut ahead: [&[Signal]; AHEAD] = [&[]; AHEAD];
        for (at, signals) in (from..).zip(&mut ahead) {
            match self.series.at(at) {
                Some(series) if series.is_open(boundary) => *signals = &series.signals,
                Some(_) => {}
                None => break,
            }
        }
        for depth in 0..3 {
            let glances = ahead.iter().copied().flatten();
            let glances = glances.map(|signal| signal.glance(depth));
            black_box(glances.fold(0, u64::wrapping_add));
        }
    }

    /// Takes in what was gathered of a series that was new to the engine.
    fn welcome(&mut self, partial: SpanPartial, now: Timestamp) {
        if !self.series.contains_key(&partial.series) {
            let series = Series::new(Arc::clone(&partial.identity), now, &self.plan);
            self.insert(partial.series, series);
        }
        if let Some(series) = self.series.get_mut(&partial.series) {
            series.absorb(partial, now, &self.plan, &mut self.desk);
        }
    }
}
