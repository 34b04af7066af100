//! Histograms with explicit buckets.

use super::distribution::{Buckets, difference_of, extreme_of, sum_of};
use super::temporality::Total;
use crate::model::HistogramPoint;

impl Total for HistogramPoint {
    fn since(&self, earlier: &Self) -> Option<Self> {
        let count = self.count.checked_sub(earlier.count)?;
        // Bounds that changed while the count went on: how many came is still known, into which
        // buckets is not. Counting all of them from zero would count the old ones again.
        let (bounds, counts) = if self.bounds == earlier.bounds {
            let counts: Option<Vec<u64>> = self
                .counts
                .iter()
                .zip(&earlier.counts)
                .map(|(later, earlier)| later.checked_sub(*earlier))
                .collect();
            (self.bounds.clone(), counts?)
        } else {
            (Vec::new(), Vec::new())
        };
        Some(Self {
            count,
            sum: difference_of(self.sum, earlier.sum),
            min: self.fresh_min(earlier),
            max: self.fresh_max(earlier),
            bounds,
            counts,
        })
    }
}

impl HistogramPoint {
    /// A lower bound of what came since `earlier`. The smallest since the start is one, but in the
    /// first bucket, which has no lower bound of its own, an old outlier would stretch the bucket; it
    /// is used there if it is new, or at least not below zero, where most buckets begin anyway.
    fn fresh_min(&self, earlier: &Self) -> Option<f64> {
        let (min, first) = (self.min?, *self.bounds.first()?);
        let fresh = earlier.min.is_some_and(|earlier| min < earlier);
        (fresh || min > first || min >= 0.0).then_some(min)
    }

    /// The largest of what came since `earlier`, which is known only if it is the largest ever. An older
    /// one would stretch its bucket for good.
    fn fresh_max(&self, earlier: &Self) -> Option<f64> {
        let max = self.max?;
        earlier
            .max
            .is_some_and(|earlier| max > earlier)
            .then_some(max)
    }

    /// How far bucket `index`, with `count` observations above `lower`, is filled if it is filled evenly
    /// and all others hold no more than they must: up to twice its mean. In a bucket much wider than the
    /// data the mean says more than the bounds.
    fn filled_to(&self, index: usize, lower: f64, count: f64) -> Option<f64> {
        let mut others = 0.0;
        for (other, &held) in self.counts.iter().enumerate() {
            if held > 0 && other != index {
                let begins = match other.checked_sub(1) {
                    Some(before) => self.bounds.get(before).copied()?,
                    // Below zero nothing is known of where it begins.
                    None => self
                        .min
                        .or_else(|| self.bounds.first().filter(|b| **b > 0.0).map(|_| 0.0))?,
                };
                others += held as f64 * begins;
            }
        }
        let end = 2.0 * (self.sum? - others) / count - lower;
        (end.is_finite() && end > lower).then_some(end)
    }
}

impl Buckets for HistogramPoint {
    fn count(&self) -> u64 {
        self.count
    }

    fn sum(&self) -> Option<f64> {
        self.sum
    }

    fn merge(&mut self, newer: Self) {
        if newer.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = newer;
            return;
        }
        self.count = self.count.saturating_add(newer.count);
        self.sum = sum_of(self.sum, newer.sum);
        self.min = extreme_of(self.min, newer.min, f64::min);
        self.max = extreme_of(self.max, newer.max, f64::max);
        if self.bounds == newer.bounds {
            for (sum, more) in self.counts.iter_mut().zip(&newer.counts) {
                *sum = sum.saturating_add(*more);
            }
        } else {
            // Other buckets than before: the percentiles are those of the newer part.
            self.bounds = newer.bounds;
            self.counts = newer.counts;
        }
    }

    /// Linear within the bucket that holds the rank, as Prometheus' `histogram_quantile`: the first
    /// bucket begins at the minimum, else at zero if its bound is positive; the last ends at the
    /// maximum, else at its own lower bound. Without a maximum no bucket reaches further than the mean
    /// allows it.
    fn quantile(&self, q: f64) -> Option<f64> {
        let (first, last) = (*self.bounds.first()?, *self.bounds.last()?);
        let total = self
            .counts
            .iter()
            .fold(0u64, |sum, c| sum.saturating_add(*c));
        if total == 0 {
            return None;
        }
        let rank = q * total as f64;
        let mut below = 0.0;
        let filled = |(_, count): &(usize, &u64)| **count > 0;
        let mut bucket = None;
        for (index, &count) in self.counts.iter().enumerate().filter(filled) {
            bucket = Some((index, below, count as f64));
            if below + count as f64 >= rank {
                break;
            }
            below += count as f64;
        }
        let (index, below, count) = bucket?;
        let lower = match index.checked_sub(1) {
            Some(before) => self.bounds.get(before).copied().unwrap_or(last),
            None => self.min.unwrap_or(if first > 0.0 { 0.0 } else { first }),
        };
        let upper = match self.bounds.get(index) {
            Some(bound) => *bound,
            None => self.max.unwrap_or(last),
        };
        // What is known of the whole also holds for each bucket.
        let lower = self.min.map_or(lower, |min| lower.max(min));
        let end = self.max.or_else(|| self.filled_to(index, lower, count));
        let upper = end.map_or(upper, |end| upper.min(end)).max(lower);
        let part = ((rank - below) / count).clamp(0.0, 1.0);
        Some(lower * (1.0 - part) + upper * part)
    }

    fn bytes(&self) -> usize {
        size_of::<f64>() * (self.bounds.capacity() + self.counts.capacity())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A histogram of `values` in the buckets of `bounds`.
    pub(in crate::derive) fn histogram(bounds: &[f64], values: &[f64]) -> HistogramPoint {
        let mut counts = vec![0; bounds.len() + 1];
        for value in values {
            counts[bounds.partition_point(|bound| bound < value)] += 1;
        }
        HistogramPoint {
            count: values.len() as u64,
            sum: Some(values.iter().sum()),
            min: values.iter().copied().reduce(f64::min),
            max: values.iter().copied().reduce(f64::max),
            bounds: bounds.to_vec(),
            counts,
        }
    }

    #[track_caller]
    fn check(
        name: &str,
        edit: impl Fn(&mut HistogramPoint),
        counts: &[u64],
        q: f64,
        expected: Option<f64>,
    ) {
        let mut point = HistogramPoint {
            count: counts.iter().sum(),
            sum: None,
            min: None,
            max: None,
            bounds: vec![1.0, 2.0, 4.0],
            counts: counts.to_vec(),
        };
        edit(&mut point);
        assert_eq!(point.quantile(q), expected, "{name}");
    }

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_rank() {
        let plain = |_: &mut HistogramPoint| {};
        check("linear", plain, &[0, 10, 0, 0], 0.5, Some(1.5));
        check("next bucket", plain, &[5, 0, 5, 0], 0.75, Some(3.0));
        check(
            "the edge belongs to the lower bucket",
            plain,
            &[5, 0, 5, 0],
            0.5,
            Some(1.0),
        );
        check("first from zero", plain, &[10, 0, 0, 0], 0.5, Some(0.5));
        check(
            "last without maximum",
            plain,
            &[0, 0, 0, 10],
            0.99,
            Some(4.0),
        );
        check(
            "last with maximum",
            |p| p.max = Some(8.0),
            &[0, 0, 0, 10],
            0.5,
            Some(6.0),
        );
        check(
            "first with minimum",
            |p| p.min = Some(0.5),
            &[10, 0, 0, 0],
            0.5,
            Some(0.75),
        );
        check(
            "maximum cuts a bucket",
            |p| p.max = Some(3.0),
            &[0, 0, 10, 0],
            1.0,
            Some(3.0),
        );
        check(
            "minimum cuts a bucket",
            |p| p.min = Some(3.0),
            &[0, 0, 10, 0],
            0.0,
            Some(3.0),
        );
        check(
            "negative first bucket without minimum",
            |p| p.bounds = vec![-3.0, -2.0, -1.0],
            &[10, 0, 0, 0],
            0.5,
            Some(-3.0),
        );
        check("nothing", plain, &[0, 0, 0, 0], 0.5, None);
        check(
            "no buckets",
            |p| {
                p.bounds.clear();
                p.counts = vec![7];
            },
            &[],
            0.5,
            None,
        );
        check(
            "the widest bucket",
            |p| p.bounds = vec![f64::MIN, f64::MAX, f64::INFINITY],
            &[0, 2, 0, 0],
            0.5,
            Some(0.0),
        );
        check(
            "counts that do not fit their sum",
            |p| p.counts = vec![u64::MAX, u64::MAX, 0, 0],
            &[0, 0, 0, 0],
            0.5,
            Some(0.5),
        );
    }

    /// An SDK's default bounds are in milliseconds; with seconds all of it falls into one bucket, and
    /// one slow request long ago must not raise every percentile after it.
    #[test]
    fn an_outlier_long_ago_does_not_stretch_a_wide_bucket() {
        let bounds = [0.0, 5.0, 10.0];
        let mut values = vec![0.06; 50];
        values.push(0.5);
        let earlier = histogram(&bounds, &values);
        values.extend([0.05, 0.06, 0.07, 0.06]);
        let between = histogram(&bounds, &values).since(&earlier).unwrap();
        let quantile = |q| between.quantile(q).unwrap();
        assert!((quantile(0.5) - 0.06).abs() < 1e-9, "{}", quantile(0.5));
        assert!(quantile(0.99) < 0.121, "{}", quantile(0.99));
        // Where buckets are as fine as the data, the bounds speak.
        let fine = histogram(&[0.05, 0.06, 0.07], &[0.055, 0.058, 0.065, 0.068]);
        let fine = HistogramPoint {
            min: None,
            max: None,
            ..fine
        };
        assert!((fine.quantile(0.5).unwrap() - 0.06).abs() < 1e-12);
        assert!((fine.quantile(1.0).unwrap() - 0.07).abs() < 1e-12);
    }

    #[test]
    fn a_difference_is_what_came_between() {
        let bounds = [1.0, 2.0, 4.0];
        let earlier = histogram(&bounds, &[0.5, 9.0]);
        let later = histogram(&bounds, &[0.5, 9.0, 1.5, 5.0]);
        let between = later.since(&earlier).unwrap();
        assert_eq!(between.counts, [0, 1, 0, 1]);
        assert_eq!((between.count, between.sum), (2, Some(6.5)));
        // 9 was there before: the last bucket must not be stretched to it.
        assert_eq!(between.quantile(0.99), Some(4.0));
        assert_eq!(earlier.since(&later), None, "fewer: a reset");
        let mut moved = later.clone();
        moved.counts = vec![0, 3, 0, 1];
        assert_eq!(moved.since(&earlier), None, "a bucket shrank: a reset");
        let other = histogram(&[3.0], &[0.5, 9.0, 1.0]);
        let between = other.since(&earlier).unwrap();
        assert_eq!(
            (between.count, between.quantile(0.5)),
            (1, None),
            "other buckets"
        );
    }

    #[test]
    fn merging_keeps_what_all_parts_know() {
        let bounds = [1.0, 2.0];
        let mut sum = histogram(&bounds, &[0.5, 1.5]);
        sum.merge(histogram(&bounds, &[]));
        sum.merge(histogram(&bounds, &[9.0]));
        assert_eq!(sum, histogram(&bounds, &[0.5, 1.5, 9.0]));
        let mut unknown = histogram(&bounds, &[1.0]);
        unknown.sum = None;
        sum.merge(unknown);
        assert_eq!((sum.count, sum.sum), (4, None));
        sum.merge(histogram(&[7.0], &[6.0]));
        assert_eq!((sum.count, &*sum.bounds), (5, &[7.0][..]));
    }
}
