//! What many aggregators gathered of one series becomes its samples.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breakdown::{Aspect, Breakdown, History, PartMoves};
use super::event_time::first_open;
use super::span::slower;
use super::{Emitted, Emitter, PERCENTILES, Sketch, SpanPartial, tick_end};
use crate::model::{Exemplar, SignalKind, Timestamp};

/// So many ticks with spans are open at most; beyond, the oldest is closed early. Ten minutes of
/// ticks of 10 s: as far ahead of us as a client's clock may be.
const MAX_OPEN: usize = 64;

/// Spans of a tick that was closed longer ago than this are late. For so long it is known which spans
/// were seen ([`SpanSettings::window`](super::SpanSettings::window)); what comes later may have been
/// counted before, and what a client kept back for an hour says nothing about now.
const LATE_AFTER: Duration = Duration::from_secs(60);

/// One series of spans or calls. Unlike [`SeriesState`](super::SeriesState) it keeps several ticks
/// open, since its parts come from many places at different times; its samples do not depend on
/// how the spans were split among them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SpanSeries {
    open: BTreeMap<Timestamp, Tick>,
    /// End of the newest tick whose samples were emitted.
    closed: Option<Timestamp>,
    /// End of the newest tick that had spans.
    last: Option<Timestamp>,
    /// Who sent the spans of the ticks that are closed; `None` while nobody said who he is.
    history: Option<Box<History>>,
}

/// The spans of one tick.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tick {
    count: u64,
    errors: u64,
    sketch: Sketch,
    slowest: Option<Exemplar>,
    failed: Option<Exemplar>,
    breakdown: Breakdown,
}

impl SpanSeries {
    /// Without any span.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was gathered for one tick. What belongs to a tick that is closed already counts in
    /// the next one, unless it comes more than a minute late: then it is dropped, and the answer says
    /// how many spans that were. If more than 64 ticks are open, as when recorded data is played
    /// back, the oldest are closed and their samples go to `out`.
    pub fn absorb(
        &mut self,
        partial: SpanPartial,
        now: Timestamp,
        tick: Duration,
        out: &mut Vec<Emitted>,
    ) -> u64 {
        // A client whose clock is ahead may have ticks closed early; nobody else is late for that.
        let closed = self.closed.map(|closed| closed.min(now));
        if closed.is_some_and(|closed| closed.since(partial.tick_end) > LATE_AFTER.max(tick)) {
            return partial.count;
        }
        let end = first_open(self.closed, partial.tick_end, tick);
        let open = self.open.entry(end).or_default();
        if open.count == 0 {
            open.sketch = partial.sketch;
        } else {
            open.sketch.merge(&partial.sketch);
        }
        open.count = open.count.saturating_add(partial.count);
        open.errors = open.errors.saturating_add(partial.errors);
        open.slowest = slower(open.slowest, partial.slowest);
        open.failed = slower(open.failed, partial.failed);
        open.breakdown.merge(partial.breakdown);
        self.last = self.last.max(Some(end));
        while self.open.len() > MAX_OPEN {
            self.close_oldest(tick, out);
        }
        0
    }

    /// Closes every tick that ends at `boundary` or before; their samples go to `out`, in order.
    ///
    /// `lived` is the end of a tick, at `boundary` or before, through which the service is known to have
    /// lived and all of whose spans are here by now: if that tick is empty, there was none of this
    /// series, and its rate is 0. Of a service that is silent nothing is known, and there is no sample.
    pub fn close(
        &mut self,
        boundary: Timestamp,
        tick: Duration,
        lived: Option<Timestamp>,
        out: &mut Vec<Emitted>,
    ) {
        let lived = lived.filter(|end| *end <= boundary && tick_end(*end, tick) == *end);
        if let Some(end) = lived {
            self.close_until(end, tick, out);
            if self.closed.is_some_and(|closed| closed < end) {
                self.closed = Some(end);
                Tick::default().emit(end, tick, out);
                self.remember(end, Breakdown::default());
            }
        }
        self.close_until(boundary, tick, out);
    }

    fn close_until(&mut self, boundary: Timestamp, tick: Duration, out: &mut Vec<Emitted>) {
        while self
            .open
            .first_key_value()
            .is_some_and(|(end, _)| *end <= boundary)
        {
            self.close_oldest(tick, out);
        }
    }

    /// End of the newest tick that had spans; `None` before the first.
    pub fn last_time(&self) -> Option<Timestamp> {
        self.last
    }

    /// About how much memory it takes, itself included.
    pub fn bytes(&self) -> usize {
        let open: usize = self
            .open
            .values()
            .map(|open| {
                size_of::<(Timestamp, Tick)>() + open.sketch.bytes() + open.breakdown.bytes()
            })
            .sum();
        let history = self.history.as_ref();
        let history = history.map_or(0, |history| size_of::<History>() + history.bytes());
        size_of::<Self>() + open + history
    }

    /// How each instance and each version did since `since`, as far back as the last eight ticks.
    pub fn moves(&self, aspect: Aspect, above: bool, since: Timestamp) -> Vec<PartMoves> {
        let history = self.history.as_ref();
        history.map_or_else(Vec::new, |history| history.moves(aspect, above, since))
    }

    fn remember(&mut self, end: Timestamp, breakdown: Breakdown) {
        if self.history.is_some() || !breakdown.is_empty() {
            self.history.get_or_insert_default().push(end, breakdown);
        }
    }

    fn close_oldest(&mut self, tick: Duration, out: &mut Vec<Emitted>) {
        if let Some((end, open)) = self.open.pop_first() {
            self.closed = Some(end);
            open.emit(end, tick, out);
            self.remember(end, open.breakdown);
        }
    }
}

impl Tick {
    fn emit(&self, end: Timestamp, tick: Duration, out: &mut Vec<Emitted>) {
        let trace = |exemplar: Option<Exemplar>| exemplar.map(|exemplar| exemplar.trace_id);
        let mut emitter = Emitter {
            time: end,
            elapsed: Some(tick),
            exemplar: trace(self.slowest),
            out,
        };
        emitter.emit_rate(self.count as f64, 0, self.count);
        if self.count == 0 {
            return;
        }
        emitter.exemplar = trace(self.failed);
        let ratio = self.errors as f64 / self.count as f64;
        emitter.emit(SignalKind::ErrorRatio, ratio, self.count);
        emitter.exemplar = trace(self.slowest);
        for (kind, q) in PERCENTILES {
            if let Some(value) = self.sketch.quantile(q) {
                emitter.emit(kind, value, self.count);
            }
        }
    }
}
