//! Delta and cumulative reports become what grew over which span of time.
//!
//! The rules are those of OTLP's metrics data model (section 4 of our checklist). Windows are
//! `(start, time]`; whatever arrives, the spans handed on never overlap each other, so nothing is
//! counted twice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Arrival;
use super::event_time::nanos_between;
use crate::model::Timestamp;

/// After this long without a word from the writer that holds a series, another one takes it over.
const WRITER_SILENCE: Duration = Duration::from_secs(300);

/// What a point of a cumulative series means beside those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is compared with what the writer that holds the series reported before, so many nanoseconds
    /// ago. What the total has more came in that time; of a total that shrank, all of it did.
    Since(u64),
    /// The same, but compared with what the rival reported before, who takes the series over.
    SinceRival(u64),
    /// All of the total came in so many nanoseconds.
    Fresh(u64),
    /// Nothing can be said yet; later points are compared with it.
    Base,
    /// Another writer already covers this time.
    Overlap,
}

/// What grew, and over how many nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Growth<V> {
    pub(super) by: V,
    pub(super) elapsed: u64,
}

/// When a writer reported, and since when it counts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Mark {
    start: Option<Timestamp>,
    time: Timestamp,
}

/// Follows who writes one cumulative series. The totals that the holder reports are kept by the caller,
/// where they are at hand; those of a rival (`T`), who is rare, are kept here.
///
/// Two writers under one identity are told apart by their starts. The one that holds the series keeps
/// it; the other's points are dropped as overlap. The other takes over when it reports twice in a row
/// (the holder has gone: a rolling deployment), counting only from its first report of the two, or
/// when the holder has been silent for five minutes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Writers<T> {
    holder: Option<Mark>,
    rival: Option<Box<(Mark, T)>>,
}

impl<T> Default for Writers<T> {
    fn default() -> Self {
        Self {
            holder: None,
            rival: None,
        }
    }
}

impl<T> Writers<T> {
    /// Reads a point. The caller then says by [`keep`](Self::keep) that it took it, or does nothing.
    pub(super) fn read(&self, at: &Arrival<'_>) -> Step {
        let Some(holder) = &self.holder else {
            return Self::read_first(at);
        };
        match (holder.start, at.start) {
            // The process began anew after what is known: what it has is all new.
            (known, Some(start)) if known != at.start && start >= holder.time => {
                Self::from_zero(start, at)
            }
            (Some(known), Some(start)) if known != start => self.read_rival(holder, at),
            _ => Step::Since(nanos_between(holder.time, at.time)),
        }
    }

    fn read_first(at: &Arrival<'_>) -> Step {
        match at.start {
            // What began before a point that was counted earlier may be counted already: the series
            // was ended and goes on.
            Some(start)
                if at.last.is_none_or(|last| start >= last)
                    && at.time.since(start) <= at.settings.first_window =>
            {
                Self::from_zero(start, at)
            }
            _ => Step::Base,
        }
    }

    fn read_rival(&self, holder: &Mark, at: &Arrival<'_>) -> Step {
        if at.time.since(holder.time) > WRITER_SILENCE {
            return Step::Base;
        }
        match self.rival.as_deref() {
            Some((rival, _)) if rival.start == at.start && rival.time < at.time => {
                Step::SinceRival(nanos_between(rival.time, at.time))
            }
            _ => Step::Overlap,
        }
    }

    /// All of the total came after `zero`. If that is the point's own time, when it came is not known:
    /// it contributes nothing.
    fn from_zero(zero: Timestamp, at: &Arrival<'_>) -> Step {
        match nanos_between(zero, at.time) {
            0 => Step::Base,
            elapsed => Step::Fresh(elapsed),
        }
    }

    /// What the rival reported.
    pub(super) fn rival(&self) -> Option<&T> {
        self.rival.as_ref().map(|rival| &rival.1)
    }

    /// What the rival reported, who is forgotten.
    pub(super) fn take_rival(&mut self) -> Option<T> {
        self.rival.take().map(|rival| rival.1)
    }

    /// The point counted; the next is compared with it.
    pub(super) fn keep(&mut self, at: &Arrival<'_>) {
        if self.rival.is_some() {
            self.rival = None;
        }
        self.holder = Some(Mark {
            start: at.start,
            time: at.time,
        });
    }

    /// The point overlapped; its writer is remembered.
    pub(super) fn keep_rival(&mut self, at: &Arrival<'_>, total: impl FnOnce() -> T) {
        let older = |rival: &(Mark, T)| rival.0.start == at.start && rival.0.time >= at.time;
        if !self.rival.as_deref().is_some_and(older) {
            let mark = Mark {
                start: at.start,
                time: at.time,
            };
            self.rival = Some(Box::new((mark, total())));
        }
    }

    /// Forgets everything.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Memory besides the struct itself, where a total owns `inside` bytes.
    pub(super) fn bytes(&self, inside: impl Fn(&T) -> usize) -> usize {
        let rival = self.rival();
        rival.map_or(0, |rival| size_of::<(Mark, T)>() + inside(rival))
    }
}

/// How many nanoseconds a delta point covers; `None` if some of them are covered already. A point that
/// does not say when it begins goes on from the point before, or covers one tick.
pub(super) fn delta_span(at: &Arrival<'_>) -> Option<u64> {
    match (at.start, at.last) {
        (Some(start), Some(last)) if start < last => None,
        (Some(start), _) if start < at.time => Some(nanos_between(start, at.time)),
        (_, Some(last)) => Some(nanos_between(last, at.time)),
        (_, None) => Some(u64::try_from(at.settings.tick.as_nanos()).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::Settings;

    fn seconds(s: i64) -> Timestamp {
        Timestamp::from_secs(s)
    }

    /// Feeds (start, time, total) and reads back (increase, seconds), `None` for a base, and `"drop"`.
    #[track_caller]
    fn check(
        name: &str,
        points: &[(Option<i64>, i64, f64)],
        expected: &[Result<Option<(f64, u64)>, ()>],
    ) {
        let settings = Settings::default();
        let mut writers = Writers::default();
        let (mut held, mut last) = (f64::NAN, None);
        let mut seen = Vec::new();
        for &(start, time, total) in points {
            let at = Arrival {
                start: start.map(seconds),
                time: seconds(time),
                last,
                settings: &settings,
            };
            let since = |earlier: f64| {
                if total >= earlier {
                    total - earlier
                } else {
                    total
                }
            };
            let grew = |by, elapsed| Ok(Some((by, elapsed / 1_000_000_000)));
            let step = writers.read(&at);
            seen.push(match step {
                Step::Since(elapsed) => grew(since(held), elapsed),
                Step::SinceRival(elapsed) => grew(since(*writers.rival().unwrap()), elapsed),
                Step::Fresh(elapsed) => grew(total, elapsed),
                Step::Base => Ok(None),
                Step::Overlap => Err(()),
            });
            if step == Step::Overlap {
                writers.keep_rival(&at, || total);
            } else {
                writers.keep(&at);
                (held, last) = (total, Some(at.time));
            }
        }
        assert_eq!(seen, expected, "{name}");
    }

    #[test]
    fn cumulative_points_become_growth() {
        let grew = |by, seconds| Ok(Some((by, seconds)));
        let base = Ok(None);
        let overlap = Err(());
        check(
            "a start at first sight is a true zero",
            &[(Some(100), 110, 5.0), (Some(100), 120, 7.0)],
            &[grew(5.0, 10), grew(2.0, 10)],
        );
        check(
            "a start of long ago says nothing about now",
            &[(Some(100), 10_000, 5e6), (Some(100), 10_010, 5e6 + 3.0)],
            &[base, grew(3.0, 10)],
        );
        check(
            "an unknown start resets only by decrease",
            &[
                (None, 10, 5.0),
                (None, 20, 9.0),
                (None, 30, 2.0),
                (None, 60, 2.0),
            ],
            &[base, grew(4.0, 10), grew(2.0, 10), grew(0.0, 30)],
        );
        check(
            "a newer start counts from zero over its own time",
            &[(Some(0), 10, 5.0), (Some(14), 20, 3.0), (Some(20), 30, 9.0)],
            &[grew(5.0, 10), grew(3.0, 6), grew(9.0, 10)],
        );
        check(
            "a smaller value with the same start counts from zero since the point before",
            &[(Some(0), 10, 5.0), (Some(0), 20, 3.0)],
            &[grew(5.0, 10), grew(3.0, 10)],
        );
        check(
            "a start at the point's own time contributes nothing, then is a base",
            &[
                (Some(10), 10, 5.0),
                (Some(10), 20, 7.0),
                (Some(30), 30, 100.0),
                (Some(30), 40, 101.0),
            ],
            &[base, grew(2.0, 10), base, grew(1.0, 10)],
        );
        check(
            "a gap is averaged over",
            &[(Some(0), 10, 5.0), (Some(0), 610, 65.0)],
            &[grew(5.0, 10), grew(60.0, 600)],
        );
        check(
            "a client that begins to say its start goes on",
            &[(None, 10, 5.0), (Some(3), 20, 6.0), (None, 30, 7.0)],
            &[base, grew(1.0, 10), grew(1.0, 10)],
        );
        check(
            "of two interleaved writers one counts",
            &[
                (Some(0), 10, 10.0),
                (Some(5), 11, 100.0),
                (Some(0), 20, 20.0),
                (Some(5), 21, 200.0),
                (Some(0), 30, 30.0),
            ],
            &[
                grew(10.0, 10),
                overlap,
                grew(10.0, 10),
                overlap,
                grew(10.0, 10),
            ],
        );
        check(
            "the writer that stays takes over, from its own first point",
            &[
                (Some(0), 10, 10.0),
                (Some(5), 11, 100.0),
                (Some(5), 21, 130.0),
                (Some(0), 22, 21.0),
                (Some(5), 31, 140.0),
            ],
            &[
                grew(10.0, 10),
                overlap,
                grew(30.0, 10),
                overlap,
                grew(10.0, 10),
            ],
        );
        check(
            "three writers, and the one that counted falls silent",
            &[
                (Some(0), 10, 1.0),
                (Some(5), 200, 1.0),
                (Some(6), 300, 1.0),
                (Some(5), 311, 4.0),
                (Some(5), 320, 6.0),
            ],
            &[grew(1.0, 10), overlap, overlap, base, grew(2.0, 9)],
        );
    }

    #[test]
    fn a_delta_covers_its_window_or_what_is_known_of_it() {
        let settings = Settings::default();
        let span = |start: Option<i64>, last: Option<i64>, time: i64| {
            delta_span(&Arrival {
                start: start.map(seconds),
                time: seconds(time),
                last: last.map(seconds),
                settings: &settings,
            })
            .map(|nanos| nanos / 1_000_000_000)
        };
        assert_eq!(span(Some(10), Some(10), 25), Some(15));
        assert_eq!(span(Some(20), Some(10), 25), Some(5), "a gap is left out");
        assert_eq!(span(Some(9), Some(10), 25), None, "overlap");
        assert_eq!(span(None, Some(10), 25), Some(15));
        assert_eq!(span(None, None, 25), Some(10), "one tick");
        assert_eq!(span(Some(25), Some(10), 25), Some(15));
        assert_eq!(span(Some(25), None, 25), Some(10));
    }
}
