//! Many ticks at once, for recorded data.
//!
//! A tick over all shards costs some microseconds however little it holds, and a recorded file may have
//! one number a tick. Where the one shard works [in place](super::Placement::InPlace), a stretch of
//! points is applied here tick after tick without that, and comes back only where somebody else has to
//! act. What comes out is the same.

use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::close::Closing;
use super::handle::{Busy, Handle, Inner};
use super::pulse::Pulses;
use super::report::TickReport;
use super::shard::Shard;
use super::worker::Mailbox;
use crate::derive::tick_end;
use crate::model::{MetricPoint, Observation, Rejections, Resource, SignalId, Timestamp};

/// Which ticks a replay closes: those that hold data, and at every beat whatever is open, so that
/// silence is noticed.
#[derive(Debug, Clone)]
pub struct Ticks {
    /// Length of a tick.
    tick: Duration,
    /// Time between two beats, a multiple of the tick. The daemon's beat is its tick.
    beat: Duration,
    closed_until: Timestamp,
    /// End of the newest tick that holds data.
    open: Timestamp,
}

/// Points that arrive at their own times, which do not fall.
#[derive(Debug)]
pub struct Recorded<'a> {
    /// The points that are still to come. If there are none, time passes.
    pub points: &'a mut Peekable<std::vec::IntoIter<MetricPoint>>,
    /// Which ticks are closed.
    pub ticks: &'a mut Ticks,
    /// The present time.
    pub now: &'a mut Timestamp,
    /// Nothing that is due at this time or later is done: there is something else to do first.
    pub until: Timestamp,
    /// What was refused of the points.
    pub rejections: &'a mut Rejections,
}

/// Why a replay came back.
#[derive(Debug)]
pub enum Stop {
    /// All points are applied.
    Done,
    /// There is nothing to do before the time until which it was to go.
    Until,
    /// A tick was closed that somebody has to look at.
    Closed(TickReport),
    /// This point, which arrives now, is of a series that has to be let in first: [`Handle::apply`] does
    /// that.
    Unknown(Box<MetricPoint>),
}

impl Ticks {
    /// From `start`. The beat is rounded down to a multiple of the tick.
    pub fn new(start: Timestamp, tick: Duration, beat: Duration) -> Self {
        let tick = tick.max(Duration::from_nanos(1));
        let times = u32::try_from(beat.as_nanos() / tick.as_nanos()).unwrap_or(u32::MAX);
        let closed_until = tick_end(start, tick).minus(tick);
        Self {
            tick,
            beat: tick.saturating_mul(times.max(1)),
            closed_until,
            open: closed_until,
        }
    }

    /// Data of time `time` has come.
    pub fn note(&mut self, time: Timestamp) {
        if time > self.open {
            self.open = tick_end(time, self.tick);
        }
    }

    /// End of the tick that is to be closed next.
    pub fn next(&self) -> Timestamp {
        let beat = tick_end(
            self.closed_until
                .plus(self.tick.min(Duration::from_nanos(1))),
            self.beat,
        );
        if self.open > self.closed_until {
            beat.min(self.open)
        } else {
            beat
        }
    }

    /// The ticks until `end` are closed.
    pub fn close(&mut self, end: Timestamp) {
        self.closed_until = self.closed_until.max(end);
    }

    /// The clock was set to `now`, forward or back: what ended by then is closed, what follows is not.
    pub fn set(&mut self, now: Timestamp) {
        *self = Self::new(now, self.tick, self.beat);
    }

    /// Takes the ticks that end before `to` for closed. Only for when there is nothing in them.
    pub fn skip(&mut self, to: Timestamp) {
        self.close(tick_end(to, self.tick).minus(self.tick));
    }
}

impl Handle {
    /// Whether [`Handle::replay`] can be used.
    pub fn is_in_place(&self) -> bool {
        matches!(&*self.0.shards, [Mailbox::InPlace(_)])
    }

    /// How many signals have begun in this run. One that comes back after it had left begins anew.
    pub fn signals_begun(&self) -> u64 {
        self.0.plan.begun.load(Ordering::Relaxed)
    }

    /// Applies points, closing every tick that ends before one arrives, until there is something that
    /// cannot be done here. `look` sees the ticks that brought something, or every one where `look_always`,
    /// and says whether to come back with it. `None` where shards have threads, or somebody else closes a
    /// tick just now.
    ///
    /// Spans are not seen here: once there were any, ticks are to be closed by [`Handle::tick`].
    ///
    /// # Errors
    /// The shard has panicked.
    pub fn replay(
        &self,
        recorded: Recorded<'_>,
        look_always: bool,
        look: &mut dyn FnMut(&TickReport) -> ControlFlow<()>,
    ) -> Option<Result<Stop, Busy>> {
        let inner = &*self.0;
        let [Mailbox::InPlace(shard)] = &*inner.shards else {
            return None;
        };
        let mut ticker = inner.ticker.try_lock().ok()?;
        let Recorded {
            points,
            ticks,
            now,
            until,
            rejections,
        } = recorded;
        self.note(*now);
        let listens = Pulses::are_needed(&inner.plan);
        let arriving = points.peek().is_some();
        let mut counted = 0;
        // Who was heard last in the present tick: neighbours mostly are of one resource.
        let mut heard: Option<Arc<Resource>> = None;
        let stop = shard.run(|shard| {
            loop {
                let arrival = points.peek().map(|point| point.time.max(*now));
                if arrival.is_none() && arriving {
                    return Stop::Done;
                }
                let next = ticks.next();
                if arrival.is_none_or(|at| next < at) {
                    if next >= until {
                        return Stop::Until;
                    }
                    if shard.series.is_empty() {
                        inner.census.forget(*now, inner.plan.settings.idle());
                        if !listens || ticker.pulses.is_empty() {
                            // Nobody is there who could be silent.
                            ticks.skip(arrival.map_or(until, |at| at.min(until)));
                            continue;
                        }
                    }
                    let closed = self.close_here(shard, &mut ticker.pulses, next, listens);
                    heard = None;
                    ticks.close(next);
                    *now = (*now).max(next);
                    let anything = look_always
                        || closed.left
                        || !closed.observations.is_empty()
                        || !closed.ended.is_empty();
                    if anything {
                        let fed = inner.census.take_fed();
                        let report = TickReport::new(next, closed.observations, closed.ended, fed);
                        if look(&report).is_break() || closed.left {
                            return Stop::Closed(report);
                        }
                    }
                    continue;
                }
                let Some(at) = arrival.filter(|at| *at < until) else {
                    return Stop::Until;
                };
                let Some(point) = points.next() else {
                    return Stop::Done;
                };
                ticks.note(point.time);
                *now = at;
                if let Some(sender) = point.identity.sender()
                    && !heard.as_ref().is_some_and(|last| Arc::ptr_eq(last, sender))
                {
                    inner.census.hear(sender, at);
                    heard = Some(Arc::clone(sender));
                }
                match shard.apply_point(point.series, &point, at, rejections) {
                    Some(applied) => counted += applied,
                    None => return Stop::Unknown(Box::new(point)),
                }
            }
        });
        inner.plan.telemetry.points.inc_by(counted);
        drop(ticker);
        self.note(*now);
        Some(stop.map_err(|_| Busy::GONE))
    }

    /// Closes one tick of the only shard; what [`Handle::tick`] does over all, but for spans.
    fn close_here(
        &self,
        shard: &mut Shard,
        pulses: &mut Pulses,
        boundary: Timestamp,
        listens: bool,
    ) -> ClosedHere {
        let Inner { plan, census, .. } = &*self.0;
        let listens = listens && plan.settings.is_beat(boundary);
        let (services, listened) = match listens {
            true => self.listen(pulses, boundary),
            false => (Vec::new(), None),
        };
        let mut closing = Closing::new(boundary, boundary, Vec::new(), listened, |_: &str| None);
        let closed = loop {
            if let ControlFlow::Break(closed) = shard.close(&mut closing) {
                break closed;
            }
        };
        let mut here = ClosedHere {
            observations: closed.observations.into_iter().flatten().collect(),
            ended: closed.ended,
            left: !closed.gone.is_empty(),
        };
        if here.left {
            census.release(&closed.gone);
        }
        if listens {
            let beat = pulses.beat(boundary, &services, listened, plan);
            here.observations.extend(beat.observations);
            here.ended.extend(beat.ended);
        }
        if here.left {
            census.forget(boundary, plan.settings.idle());
        }
        here
    }
}

/// What closing one tick brought.
struct ClosedHere {
    observations: Vec<Observation>,
    ended: Vec<SignalId>,
    /// Whether a series has left.
    left: bool,
}
