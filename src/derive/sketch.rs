//! Percentiles of many observations in little memory.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Every octave is cut into so many buckets of equal width: 2 to the power of this. A bucket's value is
/// off by 1/257 at most, 0.39 %. Half of what is promised, so that interpolating between two neighbours
/// stays within the promise, whichever way a reader computes exact percentiles.
const OCTAVE_BITS: u32 = 7;
/// What is below the bits of a double that tell its bucket.
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - OCTAVE_BITS;
/// Magnitudes below count as zero. Durations are whole nanoseconds, in seconds 1e-9.
const SMALLEST: f64 = 1e-10;
/// Magnitudes above count as this. The 34 decades between the two take 14,500 buckets, 58 KiB, on each
/// side of zero at the very most; a usual latency distribution takes 2 KiB.
const LARGEST: f64 = 1e24;
/// Buckets are made by so many: half an octave.
const STEP: u32 = 64;
/// So many observations are kept as they are. Most series of a quiet service never need more in a
/// tick, and take a quarter of the smallest sketch.
const EXACT: usize = 32;

/// Observations of which percentiles are asked: exact up to 32 of them, then within 0.5 % relative
/// error. Merging is exact: the result depends only on what was observed, not on the order or on how it
/// was split.
///
/// The guarantee is that of DDSketch (Masson et al. 2019); the buckets are those of HDR histograms, whose
/// index is a part of the number itself instead of a logarithm.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Sketch {
    /// All observations, as long as `many` is not there.
    few: Vec<f64>,
    many: Option<Box<Many>>,
}

/// Observations in buckets.
#[derive(Clone, Serialize, Deserialize)]
struct Many {
    count: u64,
    min: f64,
    max: f64,
    zero: u64,
    positive: Side,
    /// By magnitude.
    negative: Side,
}

/// Counts by bucket, those that are next to each other.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Side {
    first: u32,
    counts: Vec<u32>,
}

impl Sketch {
    /// Without observations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one observation; what is not finite is ignored. Some 3 ns.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        match &mut self.many {
            Some(many) => many.add(value),
            None if self.few.len() < EXACT => self.few.push(value),
            None => self.many().add(value),
        }
    }

    /// Adds all observations of `other`.
    pub fn merge(&mut self, other: &Self) {
        match &other.many {
            Some(many) => self.many().merge(many),
            None => other.few.iter().for_each(|value| self.add(*value)),
        }
    }

    /// How many observations there are.
    pub fn count(&self) -> u64 {
        match &self.many {
            Some(many) => many.count,
            None => self.few.len() as u64,
        }
    }

    /// The `q`-quantile (0.0 to 1.0), linear between the two observations next to rank `q·(n-1)`, as
    /// NumPy, R and Prometheus compute it. `None` without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 || q.is_nan() {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * (count - 1) as f64;
        let (lower, upper) = match &self.many {
            Some(many) => (many.at(rank.floor()), many.at(rank.ceil())),
            None => {
                let mut sorted = self.few.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                let at = |rank: f64| sorted.get(rank as usize).copied();
                (at(rank.floor())?, at(rank.ceil())?)
            }
        };
        let part = rank.fract();
        Some(lower * (1.0 - part) + upper * part)
    }

    /// About how much memory it takes besides the struct itself.
    pub fn bytes(&self) -> usize {
        let many = self.many.as_ref().map_or(0, |many| {
            let counts = many.positive.counts.capacity() + many.negative.counts.capacity();
            size_of::<Many>() + size_of::<u32>() * counts
        });
        size_of::<f64>() * self.few.capacity() + many
    }

    fn many(&mut self) -> &mut Many {
        let few = &mut self.few;
        self.many.get_or_insert_with(|| {
            let mut many = Box::new(Many::new());
            for value in std::mem::take(few) {
                many.add(value);
            }
            many
        })
    }
}

impl Many {
    fn new() -> Self {
        Self {
            count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            zero: 0,
            positive: Side::default(),
            negative: Side::default(),
        }
    }

    fn add(&mut self, value: f64) {
        let value = value.clamp(-LARGEST, LARGEST);
        self.count = self.count.saturating_add(1);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if value >= SMALLEST {
            self.positive.add(bucket(value));
        } else if value <= -SMALLEST {
            self.negative.add(bucket(-value));
        } else {
            self.zero = self.zero.saturating_add(1);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.zero = self.zero.saturating_add(other.zero);
        self.positive.merge(&other.positive);
        self.negative.merge(&other.negative);
    }

    /// The observation of a rank, counted from 0; the first and the last are known exactly.
    fn at(&self, rank: f64) -> f64 {
        if rank <= 0.0 {
            return self.min;
        }
        if rank >= (self.count.saturating_sub(1)) as f64 {
            return self.max;
        }
        let mut rest = rank as u64;
        let negative = self.negative.total();
        let value = if rest < negative {
            // From the largest magnitude down.
            self.negative.at(negative - 1 - rest).map(|value| -value)
        } else {
            rest -= negative;
            match rest.checked_sub(self.zero) {
                None => Some(0.0),
                Some(rest) => self.positive.at(rest),
            }
        };
        // A sum that reached its bound leaves ranks without a bucket.
        value.unwrap_or(self.max).clamp(self.min, self.max)
    }
}

/// The bucket of a positive number: its exponent and the first bits of its mantissa.
fn bucket(value: f64) -> u32 {
    // The sign bit is 0, so 11 and 7 bits are left.
    (value.to_bits() >> SHIFT) as u32
}

/// The value that is relatively as far from the lower end of a bucket as from the upper.
fn value(bucket: u32) -> f64 {
    let edge = |bucket: u32| f64::from_bits(u64::from(bucket) << SHIFT);
    let (lower, upper) = (edge(bucket), edge(bucket + 1));
    2.0 * lower * upper / (lower + upper)
}

impl Side {
    fn add(&mut self, bucket: u32) {
        if let Some(count) = self.slot(bucket) {
            *count = count.saturating_add(1);
            return;
        }
        self.cover(bucket, bucket);
        if let Some(count) = self.slot(bucket) {
            *count = 1;
        }
    }

    fn slot(&mut self, bucket: u32) -> Option<&mut u32> {
        let at = bucket.wrapping_sub(self.first);
        self.counts.get_mut(at as usize)
    }

    fn merge(&mut self, other: &Self) {
        let Some(last) = (other.counts.len() as u32).checked_sub(1) else {
            return;
        };
        self.cover(other.first, other.first.saturating_add(last));
        let from = other.first.wrapping_sub(self.first) as usize;
        let own = self.counts.iter_mut().skip(from);
        for (count, more) in own.zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }

    /// Makes room for the buckets from `first` to `last`.
    fn cover(&mut self, first: u32, last: u32) {
        // Saved ones are not trusted: none lies outside of these.
        let (lowest, highest) = (bucket(SMALLEST), bucket(LARGEST));
        let before = self.first..self.first.saturating_add(self.counts.len() as u32);
        let (mut first, mut last) = (first.max(lowest), last.min(highest));
        if !before.is_empty() {
            first = first.min(before.start.max(lowest));
            last = last.max((before.end - 1).min(highest));
        }
        let first = first / STEP * STEP;
        let last = last / STEP * STEP + STEP;
        if before.start == first && before.end == last || last <= first {
            return;
        }
        let mut counts = vec![0; (last - first) as usize];
        let known = before.start.saturating_sub(first) as usize;
        let own = counts.iter_mut().skip(known);
        for (count, known) in own.zip(&self.counts) {
            *count = *known;
        }
        (self.first, self.counts) = (first, counts);
    }

    fn total(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The value of the observation with `rank` others below it.
    fn at(&self, rank: u64) -> Option<f64> {
        let mut below = 0;
        for (count, bucket) in self.counts.iter().zip(self.first..) {
            below += u64::from(*count);
            if below > rank {
                return Some(value(bucket));
            }
        }
        None
    }
}

impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sketch")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_values_are_answered() {
        let mut sketch = Sketch::new();
        assert_eq!(sketch.quantile(0.5), None);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            sketch.add(value);
        }
        assert_eq!(sketch.count(), 0);
        for value in [0.0, -0.0, 5e-324, 1e308, -1e308, f64::MAX, f64::MIN] {
            for _ in 0..9 {
                sketch.add(value);
            }
        }
        assert_eq!(sketch.count(), 63);
        for q in [-1.0, 0.0, 0.1, 0.5, 0.9, 1.0, 2.0, f64::INFINITY] {
            assert!(sketch.quantile(q).unwrap().is_finite());
        }
        assert_eq!(sketch.quantile(f64::NAN), None);
        assert_eq!(sketch.quantile(0.5), Some(0.0));
    }

    #[test]
    fn a_nanosecond_is_not_zero_and_memory_is_bounded() {
        let mut sketch = Sketch::new();
        for exponent in -90..100 {
            sketch.add(10f64.powf(f64::from(exponent) / 10.0));
        }
        assert!((sketch.quantile(0.0).unwrap() - 1e-9).abs() < 1e-11);
        for exponent in -320..=308 {
            sketch.add(10f64.powi(exponent));
            sketch.add(-(10f64.powi(exponent)));
        }
        assert!(sketch.bytes() <= 2 * 64 * 1024 + 1024, "{}", sketch.bytes());
    }

    #[test]
    fn a_bucket_is_as_narrow_as_promised() {
        let mut at = SMALLEST;
        while at < LARGEST {
            let middle = value(bucket(at));
            assert!((middle / at - 1.0).abs() < 0.004, "{at} {middle}");
            at *= 1.000_37;
        }
    }

    #[test]
    fn a_saved_sketch_that_makes_no_sense_stays_small() {
        let odd = Side {
            first: u32::MAX - 3,
            counts: vec![7; 9],
        };
        let mut many = Many::new();
        many.positive = odd.clone();
        many.negative.first = 3;
        many.negative.counts = vec![1; 5];
        let mut sketch = Sketch {
            few: Vec::new(),
            many: Some(Box::new(many)),
        };
        sketch.add(1.0);
        sketch.add(-1.0);
        let mut other = Sketch::new();
        (0..99).for_each(|i| other.add(f64::from(i)));
        other.merge(&sketch);
        assert!(sketch.bytes() + other.bytes() < 4 * 64 * 1024);
        assert!(sketch.quantile(0.5).is_some() && other.quantile(0.5).is_some());
    }
}
