//! The recent past of one signal: the last N samples, or those of the last D.
//!
//! In come samples in order of time; out go their mean and standard deviation in constant time, and
//! exact quantiles when somebody looks. What always holds: every number equals what a fresh
//! computation over the samples held would give (within rounding, which differences below 1e-150 count
//! as), and is finite. It knows nothing of ticks, clocks, rules or detectors.

mod moments;
mod quantile;

use std::collections::VecDeque;
use std::mem::size_of;

use serde::{Deserialize, Serialize};

use crate::model::{Sample, Timestamp, WindowSpec, WindowView};
use moments::Moments;
pub use quantile::{median, quantile_sorted};

/// A sliding window over the samples of one signal. 16 bytes a sample and some 130 beside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Most samples it holds, at least 1.
    limit: u32,
    /// Age in nanoseconds at which samples leave; `None`: only their number counts.
    age_nanos: Option<u64>,
    samples: VecDeque<Sample>,
    moments: Moments,
}

impl Window {
    /// An empty window. A size of zero counts as one sample.
    pub fn new(spec: WindowSpec) -> Self {
        let (limit, age_nanos) = match spec {
            WindowSpec::Samples(limit) => (limit.clamp(1, WindowSpec::MAX_SAMPLES), None),
            WindowSpec::Duration(age) => (
                WindowSpec::MAX_SAMPLES,
                Some(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX).max(1)),
            ),
        };
        Self {
            limit,
            age_nanos,
            samples: VecDeque::new(),
            moments: Moments::default(),
        }
    }

    /// This window if it is one of `spec`, else one of `spec` that holds the newest of its samples.
    #[must_use]
    pub fn refit(self, spec: WindowSpec) -> Self {
        let mut fresh = Self::new(spec);
        // What was read from a disk need not be what was written.
        let sound = self.values().all(f64::is_finite) && self.samples.len() <= self.limit as usize;
        if sound && (fresh.limit, fresh.age_nanos) == (self.limit, self.age_nanos) {
            return self;
        }
        for sample in self.samples {
            fresh.push(sample);
        }
        fresh
    }

    /// Takes in the newest sample; the oldest leave as far as the window is full. Values that are not
    /// finite are ignored. O(1) amortised.
    pub fn push(&mut self, sample: Sample) {
        if !sample.value.is_finite() {
            return;
        }
        self.expire(sample.time);
        if self.samples.len() >= self.limit as usize {
            self.pop();
        }
        if self.samples.len() == self.samples.capacity() {
            // Doubling, but never beyond what the window may hold: most windows are 100 samples long
            // and there are millions of them.
            let room = self.limit as usize - self.samples.len();
            self.samples
                .reserve_exact(self.samples.len().max(4).min(room));
        }
        self.samples.push_back(sample);
        self.moments.add(sample.value);
        if self.moments.is_stale(self.limit) {
            self.moments = Moments::of(self.values());
        }
    }

    /// Lets the samples go that are too old at `now`, so that a sample after a gap is not compared
    /// with a past that the window no longer covers. Only windows of a duration know such samples.
    pub fn expire(&mut self, now: Timestamp) {
        let Some(age) = self.age_nanos else { return };
        let before = self.samples.len();
        while self
            .samples
            .front()
            .is_some_and(|oldest| now.since(oldest.time).as_nanos() >= u128::from(age))
        {
            self.pop();
        }
        if self.samples.len() != before && self.moments.is_stale(self.limit) {
            self.moments = Moments::of(self.values());
        }
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.samples.pop_front() {
            self.moments.remove(oldest.value);
        }
    }

    /// How many samples it holds.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Most samples it may hold.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The samples, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Sample> + ExactSizeIterator + Clone {
        self.samples.iter().copied()
    }

    /// The newest sample.
    pub fn last(&self) -> Option<Sample> {
        self.samples.back().copied()
    }

    fn values(&self) -> impl Iterator<Item = f64> + Clone {
        self.samples.iter().map(|sample| sample.value)
    }

    /// Arithmetic mean and sample standard deviation (n - 1). Both are 0 without samples, the second
    /// also with one, and exactly 0 where all samples are equal. O(1), but O(n) while the window holds
    /// a value beyond ±1e150, whose square no double holds.
    pub fn mean_and_stddev(&self) -> (f64, f64) {
        self.moments
            .mean_and_stddev()
            .unwrap_or_else(|| moments::scaled_mean_and_stddev(self.values()))
    }

    /// Every statistic, exact. O(n log n).
    pub fn view(&self) -> WindowView {
        let mut sorted: Vec<f64> = self.values().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (mean, stddev) = self.mean_and_stddev();
        let at = |q| quantile_sorted(&sorted, q).unwrap_or(0.0);
        WindowView {
            size: self.limit,
            count: u32::try_from(self.samples.len()).unwrap_or(u32::MAX),
            mean,
            stddev,
            min: sorted.first().copied().unwrap_or(0.0),
            max: sorted.last().copied().unwrap_or(0.0),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
        }
    }

    /// Memory it occupies.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.samples.capacity() * size_of::<Sample>()
    }
}

#[cfg(test)]
mod tests;
