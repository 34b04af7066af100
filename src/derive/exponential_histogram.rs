//! Exponential histograms: buckets `(base^i, base^(i+1)]` with base `2^(2^-scale)`.
//!
//! Two of them are brought to the lower scale by dropping bits of the index, which is exact, and to
//! the larger zero threshold. If that threshold cuts a bucket in two, it rises to the bucket's end.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distribution::{self, difference_of, extreme_of, sum_of};
use super::temporality::{Growth, Step, Writers, delta_span};
use super::{Applied, Arrival, Emitter};
use crate::model::{ExponentialHistogramPoint, Temporality};

/// Buckets kept a side; above that the scale is lowered. Clients send 160 as a rule. 4,096 buckets
/// span all doubles at a scale of 0, and 64 octaves within 1 % at a scale of 6.
const MAX_BUCKETS: usize = 4096;

type Side = BTreeMap<i32, u64>;

/// One series of an exponential histogram.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Exponential {
    /// `None` for deltas, which need no comparison.
    writers: Option<Writers<ExponentialHistogramPoint>>,
    /// What the holder reported last.
    base: Option<ExponentialHistogramPoint>,
    open: Option<Growth<ExponentialHistogramPoint>>,
}

impl Exponential {
    pub(super) fn new(temporality: Temporality) -> Self {
        Self {
            writers: (temporality == Temporality::Cumulative).then(Writers::default),
            base: None,
            open: None,
        }
    }

    pub(super) fn apply(&mut self, at: &Arrival<'_>, point: &ExponentialHistogramPoint) -> Applied {
        let Some(writers) = &mut self.writers else {
            let Some(elapsed) = delta_span(at) else {
                return Applied::Overlap;
            };
            self.add(point.clone(), elapsed);
            return Applied::Counted;
        };
        let since = |earlier: Option<&ExponentialHistogramPoint>| {
            let by = earlier.and_then(|earlier| point.since(earlier));
            by.unwrap_or_else(|| point.clone())
        };
        let grown = match writers.read(at) {
            Step::Since(elapsed) => Some((since(self.base.as_ref()), elapsed)),
            Step::SinceRival(elapsed) => Some((since(writers.rival()), elapsed)),
            Step::Fresh(elapsed) => Some((point.clone(), elapsed)),
            Step::Base => None,
            Step::Overlap => {
                writers.keep_rival(at, || point.clone());
                return Applied::Overlap;
            }
        };
        writers.keep(at);
        match &mut self.base {
            Some(base) => base.clone_from(point),
            base => *base = Some(point.clone()),
        }
        if let Some((by, elapsed)) = grown {
            self.add(by, elapsed);
        }
        Applied::Counted
    }

    fn add(&mut self, by: ExponentialHistogramPoint, elapsed: u64) {
        match &mut self.open {
            Some(open) => {
                open.elapsed = open.elapsed.saturating_add(elapsed);
                open.by.merge(by);
            }
            None => self.open = Some(Growth { by, elapsed }),
        }
    }

    pub(super) fn flush(&mut self, emitter: &mut Emitter<'_>) {
        if let Some(Growth { by, elapsed }) = self.open.take() {
            distribution::emit(emitter, elapsed, by.count, by.sum, |ranks| {
                ranks.map(|q| by.quantile(q))
            });
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(writers) = &mut self.writers {
            writers.end();
        }
        self.base = None;
    }

    /// Memory, itself included.
    pub(super) fn bytes(&self) -> usize {
        let inside = ExponentialHistogramPoint::bytes;
        let writers = self.writers.as_ref().map_or(0, |w| w.bytes(inside));
        let base = self.base.as_ref().map_or(0, inside);
        let open = self.open.as_ref().map_or(0, |open| open.by.bytes());
        size_of::<Self>() + writers + base + open
    }
}

impl ExponentialHistogramPoint {
    /// What came since `earlier`; `None` if this cannot have grown out of it, so that it was reset.
    fn since(&self, earlier: &Self) -> Option<Self> {
        let count = self.count.checked_sub(earlier.count)?;
        let (mut later, mut before) = (Cow::Borrowed(self), Cow::Borrowed(earlier));
        if self.scale != earlier.scale || self.zero_threshold != earlier.zero_threshold {
            align(later.to_mut(), before.to_mut());
        }
        Some(Self {
            count,
            sum: difference_of(self.sum, earlier.sum),
            // Extremes since the start bound what came since then, too.
            min: self.min,
            max: self.max,
            scale: later.scale,
            zero_count: later.zero_count.checked_sub(before.zero_count)?,
            zero_threshold: later.zero_threshold,
            positive: difference(&later.positive, &before.positive)?,
            negative: difference(&later.negative, &before.negative)?,
        })
    }

    /// Adds the observations of `newer`.
    fn merge(&mut self, mut newer: Self) {
        if newer.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = newer;
            return;
        }
        align(self, &mut newer);
        self.count = self.count.saturating_add(newer.count);
        self.sum = sum_of(self.sum, newer.sum);
        self.min = extreme_of(self.min, newer.min, f64::min);
        self.max = extreme_of(self.max, newer.max, f64::max);
        self.zero_count = self.zero_count.saturating_add(newer.zero_count);
        for (index, count) in newer.positive {
            add(&mut self.positive, index, count);
        }
        for (index, count) in newer.negative {
            add(&mut self.negative, index, count);
        }
        while self.positive.len().max(self.negative.len()) > MAX_BUCKETS {
            lower_scale(self, self.scale.saturating_sub(1));
        }
    }

    /// Geometric within the bucket that holds the rank, linear in the zero bucket, never outside the
    /// known extremes.
    fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.negative.values().chain(self.positive.values());
        let total = total.fold(self.zero_count as f64, |sum, count| sum + *count as f64);
        if total == 0.0 {
            return None;
        }
        let value = self.at_rank(q * total)?;
        let value = self.max.map_or(value, |max| value.min(max));
        Some(self.min.map_or(value, |min| value.max(min)))
    }

    /// About how much memory it takes besides the struct itself.
    fn bytes(&self) -> usize {
        // A B-tree's nodes are two thirds full as a rule, and hold links besides.
        (self.positive.len() + self.negative.len()) * 24
    }

    fn at_rank(&self, rank: f64) -> Option<f64> {
        let mut below = 0.0;
        let mut value = None;
        // Negative ones first, from the largest magnitude down.
        for (&index, &count) in self.negative.iter().rev() {
            let part = (rank - below) / count as f64;
            value = Some(-edge(
                self.scale,
                f64::from(index) + 1.0 - part.clamp(0.0, 1.0),
            ));
            if part <= 1.0 {
                return value;
            }
            below += count as f64;
        }
        if self.zero_count > 0 {
            let part = (rank - below) / self.zero_count as f64;
            let end = |side: &Side| {
                if side.is_empty() {
                    0.0
                } else {
                    self.zero_threshold
                }
            };
            let (lower, upper) = (-end(&self.negative), end(&self.positive));
            let inside = part.clamp(0.0, 1.0);
            value = Some(lower * (1.0 - inside) + upper * inside);
            if part <= 1.0 {
                return value;
            }
            below += self.zero_count as f64;
        }
        for (&index, &count) in &self.positive {
            let part = (rank - below) / count as f64;
            value = Some(edge(self.scale, f64::from(index) + part.clamp(0.0, 1.0)));
            if part <= 1.0 {
                return value;
            }
            below += count as f64;
        }
        // Rounding of the rank: the last value there is.
        value
    }
}

/// `base^index`, at most the largest double.
fn edge(scale: i32, index: f64) -> f64 {
    (index * f64::from(-scale).exp2()).exp2().min(f64::MAX)
}

/// Brings both to one scale and one zero threshold.
fn align(a: &mut ExponentialHistogramPoint, b: &mut ExponentialHistogramPoint) {
    let scale = a.scale.min(b.scale);
    lower_scale(a, scale);
    lower_scale(b, scale);
    if a.zero_threshold == b.zero_threshold {
        return;
    }
    let mut threshold = a.zero_threshold.max(b.zero_threshold);
    // A bucket that begins below the threshold is zero as a whole. Buckets of one scale do not
    // overlap, so the raised threshold cuts no other.
    for side in [&a.positive, &a.negative, &b.positive, &b.negative] {
        for &index in side.keys() {
            if edge(scale, f64::from(index)) >= threshold {
                break;
            }
            threshold = threshold.max(edge(scale, f64::from(index) + 1.0));
        }
    }
    for point in [a, b] {
        for side in [&mut point.positive, &mut point.negative] {
            while let Some(first) = side.first_entry()
                && edge(scale, f64::from(*first.key())) < threshold
            {
                point.zero_count = point.zero_count.saturating_add(first.remove());
            }
        }
        point.zero_threshold = threshold;
    }
}

/// Lowers the scale of `point` to `scale` if it is higher.
fn lower_scale(point: &mut ExponentialHistogramPoint, scale: i32) {
    // A shift by 31 leaves of every index only its sign.
    let bits = i64::from(point.scale) - i64::from(scale);
    if bits <= 0 {
        return;
    }
    let bits = bits.min(31) as u32;
    for side in [&mut point.positive, &mut point.negative] {
        let mut lower = Side::new();
        for (index, count) in std::mem::take(side) {
            add(&mut lower, index >> bits, count);
        }
        *side = lower;
    }
    point.scale = scale;
}

fn add(side: &mut Side, index: i32, count: u64) {
    let sum = side.entry(index).or_insert(0);
    *sum = sum.saturating_add(count);
}

/// What `later` has more than `earlier`; `None` if a bucket shrank.
fn difference(later: &Side, earlier: &Side) -> Option<Side> {
    let mut rest = later.clone();
    for (index, count) in earlier {
        if *count == 0 {
            continue;
        }
        let left = rest.get_mut(index)?;
        *left = left.checked_sub(*count)?;
        if *left == 0 {
            rest.remove(index);
        }
    }
    Some(rest)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An exponential histogram of `values`.
    pub(in crate::derive) fn exponential(
        scale: i32,
        zero_threshold: f64,
        values: &[f64],
    ) -> ExponentialHistogramPoint {
        let mut point = ExponentialHistogramPoint {
            count: values.len() as u64,
            sum: Some(values.iter().sum()),
            min: values.iter().copied().reduce(f64::min),
            max: values.iter().copied().reduce(f64::max),
            scale,
            zero_count: 0,
            zero_threshold,
            positive: Side::new(),
            negative: Side::new(),
        };
        for value in values {
            if value.abs() <= zero_threshold {
                point.zero_count += 1;
                continue;
            }
            let index = (value.abs().log2() * f64::from(scale).exp2()).ceil() as i32 - 1;
            let side = if *value > 0.0 {
                &mut point.positive
            } else {
                &mut point.negative
            };
            add(side, index, 1);
        }
        point
    }

    #[test]
    fn quantiles_are_geometric_within_the_bucket() {
        let mut point = exponential(0, 0.0, &[3.0; 10]);
        point.min = None;
        point.max = None;
        assert_eq!(point.quantile(0.5), Some(8f64.sqrt()), "in (2, 4]");
        point.max = Some(2.5);
        assert_eq!(point.quantile(0.99), Some(2.5));
        let mut mirrored = exponential(0, 0.0, &[-3.0; 10]);
        mirrored.min = None;
        mirrored.max = None;
        assert!((mirrored.quantile(0.5).unwrap() + 8f64.sqrt()).abs() < 1e-12);
        let mixed = exponential(5, 0.0, &[-9.0, -1.0, 0.0, 1.0, 9.0]);
        assert_eq!(mixed.quantile(0.5), Some(0.0));
        assert_eq!(mixed.quantile(0.0), Some(-9.0));
        assert_eq!(mixed.quantile(1.0), Some(9.0));
        assert_eq!(exponential(5, 0.0, &[]).quantile(0.5), None);
    }

    #[test]
    fn extreme_buckets_stay_finite() {
        for (scale, index) in [
            (-10, 0),
            (-10, -1),
            (0, 1023),
            (20, (1 << 30) - 1),
            (20, i32::MIN),
        ] {
            let mut point = exponential(scale, 0.0, &[]);
            point.count = u64::MAX;
            point.positive.insert(index, u64::MAX);
            point.negative.insert(index, u64::MAX);
            for q in [0.0, 0.3, 0.5, 0.95, 1.0] {
                assert!(
                    point.quantile(q).unwrap().is_finite(),
                    "{scale} {index} {q}"
                );
            }
            let twice = point.clone();
            point.merge(twice);
            assert_eq!(point.count, u64::MAX);
        }
    }

    #[test]
    fn merging_goes_to_the_lower_scale_and_the_larger_threshold() {
        let (first, second) = ([0.01, 1.0, 3.0, -5.0], [0.3, 0.7, 100.0, -0.4]);
        let mut sum = exponential(4, 0.0, &first);
        sum.merge(exponential(1, 0.5, &second));
        let all: Vec<f64> = first.iter().chain(&second).copied().collect();
        let expected = exponential(1, 0.5, &all);
        assert_eq!(sum.positive, expected.positive);
        assert_eq!(sum.negative, expected.negative);
        assert_eq!((sum.zero_count, sum.zero_threshold), (3, 0.5));
        // 0.6 cuts the bucket (0.5, 0.7071…]: its end becomes the threshold.
        let mut cut = exponential(1, 0.0, &[0.6, 0.65, 0.8]);
        cut.merge(exponential(1, 0.6, &[2.0]));
        assert_eq!(cut.zero_count, 2);
        assert!((cut.zero_threshold - 0.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_difference_survives_a_change_of_scale() {
        let earlier = exponential(6, 0.0, &[1.5, 2.5, 700.0]);
        let later = exponential(2, 0.0, &[1.5, 2.5, 700.0, 2.6, -3.0]);
        let between = later.since(&earlier).unwrap();
        let expected = exponential(2, 0.0, &[2.6, -3.0]);
        assert_eq!(between.positive, expected.positive);
        assert_eq!(between.negative, expected.negative);
        assert_eq!((between.count, between.zero_count), (2, 0));
        assert_eq!(earlier.since(&later), None);
        assert_eq!(
            exponential(2, 0.0, &[9.0; 5]).since(&earlier),
            None,
            "other buckets"
        );
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let mut sum = exponential(20, 0.0, &[]);
        for at in 0..10 {
            let mut point = exponential(20, 0.0, &[]);
            point.count = 1000;
            point.positive = (0..1000).map(|i| (at * 100_000 + i * 7, 1)).collect();
            sum.merge(point);
        }
        assert_eq!(sum.count, 10_000);
        assert_eq!(sum.positive.values().sum::<u64>(), 10_000);
        assert!(sum.positive.len() <= MAX_BUCKETS);
    }
}
