//! DERIVE: points and spans of OTLP become samples of signals.
//!
//! In: points of one series, borrowed ([`PointView`], to [`SeriesState`]), and
//! [`SpanRecord`](crate::model::SpanRecord)s of whole traces (to [`SpanAggregator`]). Out: at most one
//! [`Emitted`] sample a signal and tick, all of them finite, their times rising within a series.
//!
//! What always holds: nothing is counted twice, in whatever order or number points arrive; a tick
//! without data gives no sample (but the rate 0 of a service that is known to be alive); nothing
//! grows without bound; the same input gives the same output. This stage knows nothing of threads,
//! clocks and rules: time is an argument.
//!
//! The map:
//! - `event_time`: to which tick a point belongs; what is late or repeated;
//! - `temporality`: delta and cumulative, resets, gaps, two writers on one series;
//! - `gauge`, `sum`, `summary`, `histogram`, `exponential_histogram`, and `distribution` for what both
//!   of these emit;
//! - `span`: spans of many traces gathered by series and tick; `edge`: who calls whom; `services`: as
//!   small numbers; `breakdown`: by instance and version; `span_series`: what was gathered in many
//!   places becomes samples; `sketch`: their percentiles.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    DataView, Exemplar, MetricKind, PointView, Reject, Sample, SignalKind, Temporality, Timestamp,
};

mod event_time;
mod temporality;
mod gauge;
mod sum;
mod distribution;
mod histogram;
mod exponential_histogram;
mod summary;
mod sketch;
mod edge;
mod breakdown;
mod services;
mod span;
mod span_series;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod laws;

pub use breakdown::{Aspect, PartMove, PartMoves};
pub use event_time::tick_end;
pub use sketch::Sketch;
pub use span::{SpanAggregator, SpanApplied, SpanPartial, SpanSettings};
pub use span_series::SpanSeries;

use event_time::Ticks;
use exponential_histogram::Exponential;
use gauge::Gauge;
use histogram::Histogram;
use sum::Sum;
use summary::Summary;

/// The percentiles that distributions of observations are shown by.
const PERCENTILES: [(SignalKind, f64); 3] = [
    (SignalKind::P50, 0.50),
    (SignalKind::P95, 0.95),
    (SignalKind::P99, 0.99),
];

/// How metric points become samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Length of a tick; boundaries are its whole multiples since the epoch. Default 10 s.
    pub tick: Duration,
    /// A point older than this is late, also if it is the first of its series. Default 24 h.
    pub max_age: Duration,
    /// The first point seen of a cumulative series counts from its start only if that lies no longer
    /// back than this; else it is only what later points are compared with, since a total of days
    /// says nothing about now. Default 5 min: longer than any usual export interval.
    pub first_window: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(10),
            max_age: Duration::from_secs(24 * 3600),
            first_window: Duration::from_secs(300),
        }
    }
}

/// One sample, with what stands behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// Which number of the series.
    pub kind: SignalKind,
    /// The value of one tick, at the tick's end.
    pub sample: Sample,
    /// A trace of this tick that shows it, where one is known.
    pub exemplar: Option<u128>,
    /// Observations it rests on: of a histogram or of spans their count, else 1. Only a rate of counted
    /// events may have 0.
    pub weight: u64,
}

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is part of its series.
    Counted,
    /// Older than what the series already has, or than [`Settings::max_age`]; dropped.
    Late,
    /// The series already has a point of this time; dropped.
    Repeated,
    /// It covers time that another writer's point already covered; dropped.
    Overlap,
    /// The client said that the series ends here.
    Ended,
    /// Refused for what it says; nothing of it was applied.
    Rejected(Reject),
}

/// Everything remembered of one metric series between its points: what the open tick holds, and what
/// the next point is compared with. Some 100 bytes for numbers; histograms keep two more points.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeriesState {
    ticks: Ticks,
    /// Of a series that stands for many: the length of a tick, over which their sum counts.
    shared: Option<Box<Duration>>,
    exemplar: Option<Box<Exemplar>>,
    body: Body,
}

/// What is remembered by the kind of the metric.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Body {
    Gauge(Gauge),
    Sum(Sum),
    Histogram(Box<Histogram>),
    Exponential(Box<Exponential>),
    Summary(Box<Summary>),
    /// Series made here from spans take no points.
    Nothing,
}

impl SeriesState {
    /// The state of a series that has not seen a point. Of the kinds `Spans` and `Edge` it refuses
    /// every point; [`SpanSeries`] is theirs.
    pub fn new(kind: &MetricKind) -> Self {
        let body = match *kind {
            MetricKind::Gauge => Body::Gauge(Gauge::default()),
            MetricKind::Sum {
                monotonic,
                temporality,
            } => Body::Sum(Sum::new(monotonic, temporality)),
            MetricKind::Histogram(t) => Body::Histogram(Box::new(Histogram::new(t))),
            MetricKind::ExponentialHistogram(t) => Body::Exponential(Box::new(Exponential::new(t))),
            MetricKind::Summary => Body::Summary(Box::default()),
            MetricKind::Spans | MetricKind::Edge => Body::Nothing,
        };
        Self {
            ticks: Ticks::default(),
            shared: None,
            exemplar: None,
            body,
        }
    }

    /// The state of an overflow series, which takes the points of many series that there is no room
    /// for: they are added up, and the sum of a tick counts over the tick. `None` for kinds whose
    /// points cannot be added (all but delta sums and delta histograms).
    ///
    /// Since nothing is known of the single series, repeated points cannot be told here.
    pub fn overflow(kind: &MetricKind, tick: Duration) -> Option<Self> {
        match kind {
            MetricKind::Sum { temporality, .. }
            | MetricKind::Histogram(temporality)
            | MetricKind::ExponentialHistogram(temporality) => (*temporality == Temporality::Delta)
                .then(|| Self {
                    shared: Some(Box::new(tick)),
                    ..Self::new(kind)
                }),
            MetricKind::Gauge | MetricKind::Summary | MetricKind::Spans | MetricKind::Edge => None,
        }
    }

    /// Takes in one point. If its tick is newer than the open one, the open one is closed first and
    /// its samples go to `out`: recorded data needs no wall clock. A point of a tick that is closed
    /// already, but newer than the series' last, counts in the next tick.
    pub fn apply(
        &mut self,
        point: PointView<'_>,
        now: Timestamp,
        settings: &Settings,
        out: &mut Vec<Emitted>,
    ) -> Applied {
        let dropped = match &self.shared {
            None => self.ticks.admit(point.time, now, settings.max_age),
            Some(_) => Ticks::default().admit(point.time, now, settings.max_age),
        };
        if let Some(dropped) = dropped {
            return dropped;
        }
        let slot = match self.ticks.open {
            // The newest point's tick, and this one is not of an earlier.
            Some(open) if point.time <= open => open,
            open => {
                let slot = self.ticks.slot(point.time, settings.tick);
                if open.is_some_and(|open| open < slot) {
                    self.flush(out);
                }
                slot
            }
        };
        let known = self.shared.is_none();
        let arrival = Arrival {
            start: point.start.filter(|_| known),
            time: point.time,
            last: self.ticks.last.filter(|_| known),
            settings,
        };
        let applied = match (&mut self.body, point.data) {
            // One of many series ended; the others go on.
            (_, DataView::End) if !known => Applied::Ended,
            (body, DataView::End) => {
                body.end();
                Applied::Ended
            }
            (Body::Gauge(gauge), DataView::Number(value)) => gauge.apply(value),
            (Body::Sum(sum), DataView::Number(value)) => sum.apply(&arrival, value),
            (Body::Histogram(it), DataView::Histogram(data)) => it.apply(&arrival, data),
            (Body::Exponential(it), DataView::Exponential(data)) => it.apply(&arrival, data),
            (Body::Summary(summary), DataView::Summary(data)) => summary.apply(&arrival, data),
            // The identity's kind and the data contradict each other.
            _ => Applied::Rejected(Reject::NoValue),
        };
        match applied {
            Applied::Counted => {
                self.ticks.last = self.ticks.last.max(Some(point.time));
                self.ticks.open = self.ticks.open.or(Some(slot));
                if let Some(exemplar) = point.exemplar {
                    self.keep(exemplar);
                }
            }
            Applied::Ended => self.ticks.last = self.ticks.last.max(Some(point.time)),
            Applied::Late | Applied::Repeated | Applied::Overlap | Applied::Rejected(_) => {}
        }
        applied
    }

    /// Closes the open tick if it ends at `boundary` or before; its samples go to `out`.
    pub fn close(&mut self, boundary: Timestamp, out: &mut Vec<Emitted>) {
        if self.ticks.open.is_some_and(|open| open <= boundary) {
            self.flush(out);
        }
    }

    /// Whether a tick is open that ends at `boundary` or before.
    pub fn is_open(&self, boundary: Timestamp) -> bool {
        self.ticks.open.is_some_and(|open| open <= boundary)
    }

    /// Time of the newest point that counted; `None` before the first.
    pub fn last_time(&self) -> Option<Timestamp> {
        self.ticks.last
    }

    /// About how much memory it takes, itself included.
    pub fn bytes(&self) -> usize {
        let inside = match &self.body {
            Body::Gauge(_) | Body::Nothing => 0,
            Body::Sum(sum) => sum.bytes(),
            Body::Histogram(it) => it.bytes(),
            Body::Exponential(it) => it.bytes(),
            Body::Summary(summary) => summary.bytes(),
        };
        let exemplar = self.exemplar.as_ref().map_or(0, |_| size_of::<Exemplar>());
        size_of::<Self>() + inside + exemplar
    }

    /// Of the exemplars of a tick the largest stays: it shows best what a person looks for.
    fn keep(&mut self, exemplar: &Exemplar) {
        match &mut self.exemplar {
            Some(kept) if exemplar.value > kept.value => **kept = *exemplar,
            Some(_) => {}
            none => *none = Some(Box::new(*exemplar)),
        }
    }

    fn flush(&mut self, out: &mut Vec<Emitted>) {
        let Some(end) = self.ticks.open.take() else {
            return;
        };
        self.ticks.closed = Some(end);
        let mut emitter = Emitter {
            time: end,
            elapsed: self.shared.as_deref().copied(),
            exemplar: self.exemplar.take().map(|exemplar| exemplar.trace_id),
            out,
        };
        match &mut self.body {
            Body::Gauge(gauge) => gauge.flush(&mut emitter),
            Body::Sum(sum) => sum.flush(&mut emitter),
            Body::Histogram(it) => it.flush(&mut emitter),
            Body::Exponential(it) => it.flush(&mut emitter),
            Body::Summary(summary) => summary.flush(&mut emitter),
            Body::Nothing => {}
        }
    }
}

impl Body {
    /// The client ended the series: what comes next starts anew. The open tick keeps what it has.
    fn end(&mut self) {
        match self {
            Self::Gauge(_) | Self::Nothing => {}
            Self::Sum(sum) => sum.end(),
            Self::Histogram(it) => it.end(),
            Self::Exponential(it) => it.end(),
            Self::Summary(summary) => summary.end(),
        }
    }
}

/// Where in time a point stands that [`Ticks`] admitted.
struct Arrival<'a> {
    start: Option<Timestamp>,
    time: Timestamp,
    /// Time of the series' point before.
    last: Option<Timestamp>,
    settings: &'a Settings,
}

/// Takes the samples of one closing tick.
struct Emitter<'a> {
    time: Timestamp,
    /// Over how long everything in the tick counts, where that is not the sum of its points' spans.
    elapsed: Option<Duration>,
    exemplar: Option<u128>,
    out: &'a mut Vec<Emitted>,
}

impl Emitter<'_> {
    /// Emits the rate of `amount` that came in `elapsed` nanoseconds.
    fn emit_rate(&mut self, amount: f64, elapsed: u64, weight: u64) {
        let elapsed = self
            .elapsed
            .map_or(elapsed as f64 / 1e9, |whole| whole.as_secs_f64());
        self.push(SignalKind::Rate, amount / elapsed, weight);
    }

    /// Emits a sample, which rests on one observation at least.
    fn emit(&mut self, kind: SignalKind, value: f64, weight: u64) {
        self.push(kind, value, weight.max(1));
    }

    /// What is not finite is no sample.
    fn push(&mut self, kind: SignalKind, value: f64, weight: u64) {
        if value.is_finite() {
            self.out.push(Emitted {
                kind,
                sample: Sample {
                    time: self.time,
                    value,
                },
                exemplar: self.exemplar,
                weight,
            });
        }
    }
}
