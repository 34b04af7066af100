//! The recent past of one signal: the last N samples, or those of the last D.
//!
//! In come samples in order of time; out go their mean and standard deviation, and exact quantiles when
//! somebody looks. What always holds: every number equals what a fresh computation over the samples held
//! would give (within rounding, which differences below 1e-150 count as), and is finite. It knows nothing of
//! ticks, clocks, rules or detectors.
//!
//! An *exact* window holds every digit, and its mean and standard deviation take constant time: for
//! detectors that judge by them. A *brief* one is for the rest, of which there are millions: values with
//! many digits are rounded (see `values`), by less than a 2,000th of their distance from the sample
//! before and mostly by a millionth of it, and statistics are computed when somebody looks.

mod moments;
mod quantile;
mod times;
mod values;

use std::mem::size_of;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::model::{Sample, Timestamp, WindowSpec, WindowView};
use moments::Moments;
use quantile::quantile_of;
pub use quantile::{median, quantile_sorted};
use times::Times;
use values::Values;

/// A sliding window over the samples of one signal: some 80 bytes and at most 20 a sample; of samples at even
/// distances none where values are equal, 1, 2 or 4 where they are decimals of few digits, else 8 in an exact
/// window and 3 in a brief one, and less than one beside. One of a number of samples has room for all of them from
/// the sixteenth on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Most samples it holds, at least 1.
    limit: u16,
    len: u16,
    times: Times,
    values: Values,
    /// The newest value, with all its digits.
    newest: f64,
    rare: Option<Box<Rare>>,
}

/// From so many samples on a window is likely to become full, and gets the room for that at once: growing little
/// by little, millions of windows would leave holes behind that nobody fits in.
const LASTING: u16 = 16;

/// What few windows have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Rare {
    /// Age in nanoseconds at which samples leave; `None`: only their number counts.
    age_nanos: Option<NonZeroU64>,
    /// Of an exact window.
    moments: Option<Moments>,
}

impl Window {
    /// An empty window that is exact. A size of zero counts as one sample.
    pub fn new(spec: WindowSpec) -> Self {
        Self::of(spec, Some(Moments::default()))
    }

    /// An empty window that is brief.
    pub fn brief(spec: WindowSpec) -> Self {
        Self::of(spec, None)
    }

    fn of(spec: WindowSpec, moments: Option<Moments>) -> Self {
        let (limit, age_nanos) = match spec {
            WindowSpec::Samples(limit) => (limit.clamp(1, WindowSpec::MAX_SAMPLES), None),
            WindowSpec::Duration(age) => {
                let nanos = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
                let nanos = NonZeroU64::new(nanos).unwrap_or(NonZeroU64::MIN);
                (WindowSpec::MAX_SAMPLES, Some(nanos))
            }
        };
        let rare = Rare { age_nanos, moments };
        let needed = age_nanos.is_some() || rare.moments.is_some();
        Self {
            limit: u16::try_from(limit).unwrap_or(u16::MAX),
            len: 0,
            times: Times::default(),
            values: Values::default(),
            newest: 0.0,
            rare: needed.then(|| Box::new(rare)),
        }
    }

    fn moments(&self) -> Option<&Moments> {
        self.rare.as_deref()?.moments.as_ref()
    }

    fn moments_mut(&mut self) -> Option<&mut Moments> {
        self.rare.as_deref_mut()?.moments.as_mut()
    }

    fn age_nanos(&self) -> Option<NonZeroU64> {
        self.rare.as_deref()?.age_nanos
    }

    /// Whether it holds every digit.
    pub fn is_exact(&self) -> bool {
        self.moments().is_some()
    }

    /// This window if it is as the empty one `like`, else one like that which holds the newest of its
    /// samples.
    #[must_use]
    pub fn refit(self, like: Self) -> Self {
        // What was read from a disk need not be what was written.
        let sound = self.times.is_sound(self.len)
            && self.values.is_sound(self.len())
            && self.len <= self.limit
            && self.newest.is_finite();
        let spec = |window: &Self| (window.limit, window.age_nanos(), window.is_exact());
        if sound && spec(&like) == spec(&self) {
            return self;
        }
        let mut fresh = like;
        if sound {
            for sample in self.iter() {
                fresh.push(sample);
            }
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
        if self.len >= self.limit {
            self.pop();
        }
        self.times.push(sample.time.as_nanos(), self.len);
        let missing = match self.age_nanos() {
            // One that is full gives up as much as it takes.
            None => (self.limit - self.len).saturating_sub(1),
            // How many there will be is not known.
            Some(_) => self.len / 8,
        };
        if self.len >= LASTING && missing > 0 {
            self.values.make_room(usize::from(missing));
        }
        self.len += 1;
        let exact = self.is_exact();
        self.values.push(sample.value, self.newest, exact);
        self.newest = sample.value;
        if let Some(moments) = self.moments_mut() {
            moments.add(sample.value);
        }
        self.freshen();
    }

    /// Lets the samples go that are too old at `now`, so that a sample after a gap is not compared
    /// with a past that the window no longer covers. Only windows of a duration know such samples.
    pub fn expire(&mut self, now: Timestamp) {
        let Some(age) = self.age_nanos() else { return };
        let before = self.len();
        while self
            .first()
            .is_some_and(|oldest| now.since(oldest).as_nanos() >= u128::from(age.get()))
        {
            self.pop();
        }
        if self.len() != before {
            self.freshen();
        }
    }

    fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
        self.times.pop(self.len);
        if let (Some(oldest), Some(moments)) = (self.values.pop(), self.moments_mut()) {
            moments.remove(oldest);
        }
    }

    fn freshen(&mut self) {
        let limit = self.limit();
        if self
            .moments()
            .is_some_and(|moments| moments.is_stale(limit))
        {
            let fresh = Moments::of(self.values.iter().map(|(value, _)| value));
            if let Some(moments) = self.moments_mut() {
                *moments = fresh;
            }
        }
    }

    /// Reads of its memory what the next sample will need, see [`Detector::glance`](crate::detect::Detector::glance):
    /// its own, or what that points to (`beyond`).
    pub fn glance(&self, beyond: bool) -> u64 {
        if beyond {
            return self.values.glance().wrapping_add(self.times.glance());
        }
        self.newest
            .to_bits()
            .wrapping_add(self.times.first() as u64)
    }

    /// How many samples it holds.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most samples it may hold.
    pub fn limit(&self) -> u32 {
        u32::from(self.limit)
    }

    /// The samples as they are held, oldest first. O(n).
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Sample> + ExactSizeIterator + Clone {
        let values = self.values.iter().map(|(value, _)| value);
        self.beside_times(values)
    }

    /// The samples as they are to be shown: one that was rounded as the decimal with the fewest digits that
    /// it can have been. O(n).
    pub fn shown(&self) -> impl DoubleEndedIterator<Item = Sample> + ExactSizeIterator + Clone {
        let mut samples = self.beside_times(self.shown_values());
        if let Some(last) = samples.as_mut_slice().last_mut() {
            last.value = self.newest;
        }
        samples
    }

    fn beside_times(&self, values: impl Iterator<Item = f64>) -> std::vec::IntoIter<Sample> {
        let mut samples = Vec::with_capacity(self.len());
        let pairs = self.times.iter(self.len).zip(values);
        samples.extend(pairs.map(|(nanos, value)| Sample {
            time: Timestamp::from_nanos(nanos),
            value,
        }));
        samples.into_iter()
    }

    fn shown_values(&self) -> impl Iterator<Item = f64> {
        let values = self.values.told();
        values.map(|(value, lost)| values::shortest(value, lost))
    }

    /// The time of the oldest sample.
    pub fn first(&self) -> Option<Timestamp> {
        (self.len > 0).then(|| Timestamp::from_nanos(self.times.first()))
    }

    /// The newest sample, with all digits.
    pub fn last(&self) -> Option<Sample> {
        (self.len > 0).then(|| Sample {
            time: Timestamp::from_nanos(self.times.last(self.len)),
            value: self.newest,
        })
    }

    /// Arithmetic mean and sample standard deviation (n - 1). Both are 0 without samples, the second
    /// also with one, and exactly 0 where all samples are equal. O(1) where it is exact, O(n) where it is
    /// brief or holds a value beyond ±1e150, whose square no double holds.
    pub fn mean_and_stddev(&self) -> (f64, f64) {
        self.known_mean_and_stddev().unwrap_or_else(|| {
            let values: Vec<_> = self.values.iter().collect();
            mean_and_stddev(&values)
        })
    }

    /// The same where it takes no look at the values.
    fn known_mean_and_stddev(&self) -> Option<(f64, f64)> {
        self.moments()?.mean_and_stddev()
    }

    /// Every statistic. O(n log n).
    pub fn view(&self) -> WindowView {
        let mut values: Vec<_> = self.values.told().collect();
        let (mean, stddev) = self
            .known_mean_and_stddev()
            .unwrap_or_else(|| mean_and_stddev(&values));
        values.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        // Only those that are shown: to find the shortest decimal takes longer than all the rest.
        let shown = |(value, lost): &(f64, f64)| values::shortest(*value, *lost);
        let place = |at: usize| values.get(at).map(shown);
        let at = |q| quantile_of(values.len(), q, place).unwrap_or(0.0);
        WindowView {
            size: self.limit(),
            count: u32::from(self.len),
            mean,
            stddev,
            min: values.first().map_or(0.0, shown),
            max: values.last().map_or(0.0, shown),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
        }
    }

    /// Gives back what room it has to spare, since no more samples are awaited.
    pub fn shrink(&mut self) {
        self.times.shrink();
        self.values.shrink();
    }

    /// Memory it occupies.
    pub fn bytes(&self) -> usize {
        let rare = self.rare.as_ref().map_or(0, |_| size_of::<Rare>());
        size_of::<Self>() + self.times.heap() + self.values.heap() + rare
    }
}

/// Of values beside what they may have lost.
fn mean_and_stddev(values: &[(f64, f64)]) -> (f64, f64) {
    let values = values.iter().map(|(value, _)| *value);
    Moments::of(values.clone())
        .mean_and_stddev()
        .unwrap_or_else(|| moments::scaled_mean_and_stddev(values))
}

#[cfg(test)]
mod tests;
