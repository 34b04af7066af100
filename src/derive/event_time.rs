//! Which tick a point belongs to, and which points come too late.
//!
//! Tick `k` covers `(k·tick, (k+1)·tick]`, so a report sent exactly at a boundary closes the tick that
//! it reports on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Applied;
use crate::model::Timestamp;

/// End of the tick that holds `time`: the next whole multiple of `tick` since the epoch, or `time`
/// itself if it is one. Saturates at the end of time.
pub fn tick_end(time: Timestamp, tick: Duration) -> Timestamp {
    let length = i64::try_from(tick.as_nanos()).unwrap_or(i64::MAX).max(1);
    match time.as_nanos().rem_euclid(length) {
        0 => time,
        over => Timestamp::from_nanos(time.as_nanos().saturating_add(length - over)),
    }
}

/// Nanoseconds from `earlier` to `later`, 0 if it is not earlier.
pub(super) fn nanos_between(earlier: Timestamp, later: Timestamp) -> u64 {
    if later <= earlier {
        return 0;
    }
    later.as_nanos().abs_diff(earlier.as_nanos())
}

/// The ticks of one series.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Ticks {
    /// Time of the newest point that counted.
    pub(super) last: Option<Timestamp>,
    /// End of the tick that points are gathered for.
    pub(super) open: Option<Timestamp>,
    /// End of the newest tick whose samples were emitted. Ticks without data are never closed, so
    /// that recorded data much older than now keeps its own ticks.
    pub(super) closed: Option<Timestamp>,
}

impl Ticks {
    /// `Some` if a point of `time` is to be dropped, with what it is.
    pub(super) fn admit(
        &self,
        time: Timestamp,
        now: Timestamp,
        max_age: Duration,
    ) -> Option<Applied> {
        match self.last {
            Some(last) if time == last => Some(Applied::Repeated),
            Some(last) if time < last => Some(Applied::Late),
            _ if time < now.minus(max_age) => Some(Applied::Late),
            _ => None,
        }
    }

    /// End of the tick in which something at `time` counts: its own, or the first that is not closed.
    pub(super) fn slot(&self, time: Timestamp, tick: Duration) -> Timestamp {
        first_open(self.closed, time, tick)
    }
}

/// End of the tick of `time`, or of the first one after `closed` if that is later. It is computed from
/// the closed tick's end rather than by adding a tick, so it stays on a boundary when the length of a
/// tick was changed in the configuration.
pub(super) fn first_open(closed: Option<Timestamp>, time: Timestamp, tick: Duration) -> Timestamp {
    let own = tick_end(time, tick);
    match closed {
        Some(closed) if own <= closed => tick_end(closed.plus(Duration::from_nanos(1)), tick),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_secs(10);

    #[track_caller]
    fn check(closed: Option<i64>, time_nanos: i64, tick: Duration, expected_nanos: i64) {
        let closed = closed.map(Timestamp::from_nanos);
        let slot = first_open(closed, Timestamp::from_nanos(time_nanos), tick);
        assert_eq!(slot.as_nanos(), expected_nanos);
    }

    #[test]
    fn a_tick_holds_its_end_but_not_its_beginning() {
        const S: i64 = 1_000_000_000;
        check(None, 10 * S, TICK, 10 * S);
        check(None, 10 * S + 1, TICK, 20 * S);
        check(None, 0, TICK, 0);
        check(None, -1, TICK, 0);
        check(None, -10 * S, TICK, -10 * S);
        check(None, -10 * S - 1, TICK, -10 * S);
        // Closed ticks take no more.
        check(Some(20 * S), 15 * S, TICK, 30 * S);
        check(Some(20 * S), 20 * S, TICK, 30 * S);
        check(Some(20 * S), 21 * S, TICK, 30 * S);
        check(Some(20 * S), 35 * S, TICK, 40 * S);
        // A tick of another length was closed before.
        check(Some(20 * S), 15 * S, Duration::from_secs(15), 30 * S);
    }

    #[test]
    fn no_time_and_no_tick_overflows() {
        for time in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
            for tick in [Duration::ZERO, Duration::from_nanos(1), TICK, Duration::MAX] {
                let time = Timestamp::from_nanos(time);
                assert!(tick_end(time, tick) >= time);
                assert!(first_open(Some(time), time, tick) >= time);
            }
        }
        let (first, last) = (
            Timestamp::from_nanos(i64::MIN),
            Timestamp::from_nanos(i64::MAX),
        );
        assert_eq!(nanos_between(first, last), u64::MAX);
        assert_eq!(nanos_between(last, first), 0);
    }
}
