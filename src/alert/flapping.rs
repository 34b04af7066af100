//! Alerts that come and go: how often each fired lately, and when that is too often to tell each time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::model::{Fingerprint, Timestamp};

/// Times kept of one alert; more often than that it is counted no further.
const MOST_TIMES: usize = 64;

/// When an alert flaps, and how it is held then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flapping {
    /// An alert that fires so often (default 3; 0: no alert ever flaps) …
    pub fires: u32,
    /// … within this time (default 1 h) flaps.
    pub within: Duration,
    /// It resolves only after it was calm for so long (default 15 min), so that its comings and goings
    /// are one notification.
    pub hold: Duration,
}

impl Default for Flapping {
    fn default() -> Self {
        Self {
            fires: 3,
            within: Duration::from_hours(1),
            hold: Duration::from_mins(15),
        }
    }
}

/// When alerts fired, the newest last.
#[derive(Debug, Default)]
pub(super) struct Fires {
    times: BTreeMap<Fingerprint, VecDeque<Timestamp>>,
    /// By the newest time.
    order: BTreeSet<(Timestamp, Fingerprint)>,
}

impl Fires {
    /// Notes that an alert fires at `now`.
    pub(super) fn note(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        let times = self.times.entry(fingerprint).or_default();
        if let Some(before) = times.back() {
            self.order.remove(&(*before, fingerprint));
        }
        times.push_back(now);
        if times.len() > MOST_TIMES {
            times.pop_front();
        }
        self.order.insert((now, fingerprint));
    }

    /// How often it fired within the time before `now`, and how long ago the first of these was.
    pub(super) fn count(
        &self,
        now: Timestamp,
        fingerprint: Fingerprint,
        within: Duration,
    ) -> (u32, Duration) {
        let since = now.minus(within);
        let times = self.times.get(&fingerprint);
        let lately = times.into_iter().flatten().filter(|at| **at > since);
        let first = lately.clone().min();
        let count = u32::try_from(lately.count()).unwrap_or(u32::MAX);
        (
            count,
            first.map_or(Duration::ZERO, |first| now.since(*first)),
        )
    }

    /// Its times, for the store.
    pub(super) fn times(&self, fingerprint: Fingerprint) -> Option<&VecDeque<Timestamp>> {
        self.times.get(&fingerprint)
    }

    /// All of it, for the store.
    pub(super) fn all(&self) -> impl Iterator<Item = (Fingerprint, &VecDeque<Timestamp>)> {
        self.times
            .iter()
            .map(|(fingerprint, times)| (*fingerprint, times))
    }

    /// Takes back what was stored.
    pub(super) fn restore(&mut self, fingerprint: Fingerprint, times: Vec<Timestamp>) {
        for at in times {
            self.note(at, fingerprint);
        }
    }

    /// Forgets the alert that fired longest ago, if that was at or before `until` or there are more than
    /// `most`.
    pub(super) fn forget(&mut self, until: Timestamp, most: usize) -> Option<Fingerprint> {
        let (at, fingerprint) = *self.order.first()?;
        if at > until && self.times.len() <= most {
            return None;
        }
        self.order.pop_first();
        self.times.remove(&fingerprint);
        Some(fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_lately_counts_and_all_of_it_is_bounded() {
        let mut fires = Fires::default();
        let (one, other) = (Fingerprint(1), Fingerprint(2));
        let hour = Duration::from_hours(1);
        for minute in 0..200 {
            fires.note(Timestamp::from_secs(60 * minute), one);
        }
        fires.note(Timestamp::from_secs(60), other);
        let now = Timestamp::from_secs(199 * 60);
        assert_eq!(fires.count(now, one, hour), (60, Duration::from_mins(59)));
        assert_eq!(fires.count(now, other, hour), (0, Duration::ZERO));
        assert_eq!(fires.times(one).map(VecDeque::len), Some(MOST_TIMES));
        assert_eq!(fires.forget(now.minus(hour), 9), Some(other));
        assert_eq!(fires.forget(now.minus(hour), 9), None);
        assert_eq!(fires.forget(now.minus(hour), 0), Some(one));
        assert_eq!(fires.all().count() + fires.order.len(), 0);
    }
}
