//! Histograms with explicit buckets.
//!
//! A series' bounds hardly ever change, and the counts of the open tick and of the newest report lie
//! beside each other: a point is added where it lies, without allocating.

use serde::{Deserialize, Serialize};

use super::temporality::{Step, Writers, delta_span};
use super::{Applied, Arrival, Emitter, distribution};
use crate::model::{HistogramPoint, HistogramView, Temporality};

/// One series of a histogram.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Histogram {
    /// `None` for deltas, which need no comparison.
    writers: Option<Writers<HistogramPoint>>,
    /// What the holder reported last.
    base: Head,
    /// What came in the open tick.
    open: Head,
    /// Over how many nanoseconds; 0 where nothing came.
    elapsed: u64,
    /// Upper bounds, of the newest report.
    bounds: Box<[f64]>,
    /// What came in the open tick by buckets, all 0 where that is not known; behind it, unless it is a
    /// series of deltas, what the holder reported last.
    counts: Box<[u64]>,
}

/// A histogram without its buckets.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Head {
    count: u64,
    /// This and the others are NaN where they are not known.
    sum: f64,
    min: f64,
    max: f64,
}

impl Head {
    const EMPTY: Self = Self {
        count: 0,
        sum: f64::NAN,
        min: f64::NAN,
        max: f64::NAN,
    };

    fn of(point: &HistogramView<'_>) -> Self {
        Self {
            count: point.count,
            sum: point.sum.unwrap_or(f64::NAN),
            min: point.min.unwrap_or(f64::NAN),
            max: point.max.unwrap_or(f64::NAN),
        }
    }

    /// What came since `earlier`, into buckets of which the first ends at `first`. `None` if fewer were
    /// counted than before.
    fn since(&self, earlier: &Self, first: f64) -> Option<Self> {
        Some(Self {
            count: self.count.checked_sub(earlier.count)?,
            sum: finite(self.sum - earlier.sum),
            min: self.fresh_min(earlier, first),
            max: self.fresh_max(earlier),
        })
    }

    /// A lower bound of what came since `earlier`. The smallest since the start is one, but in the
    /// first bucket, which has no lower bound of its own, an old outlier would stretch the bucket; it
    /// is used there if it is new, or at least not below zero, where most buckets begin anyway.
    fn fresh_min(&self, earlier: &Self, first: f64) -> f64 {
        if self.min < earlier.min || self.min > first || self.min >= 0.0 {
            self.min
        } else {
            f64::NAN
        }
    }

    /// The largest of what came since `earlier`, which is known only if it is the largest ever. An older
    /// one would stretch its bucket for good.
    fn fresh_max(&self, earlier: &Self) -> f64 {
        if self.max > earlier.max {
            self.max
        } else {
            f64::NAN
        }
    }

    /// Adds what came later.
    fn merge(&mut self, newer: &Self) {
        if newer.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *newer;
            return;
        }
        // What one of both does not know is not known of the whole.
        let both = |a: f64, b: f64, pick: fn(f64, f64) -> f64| {
            if a.is_nan() || b.is_nan() {
                f64::NAN
            } else {
                pick(a, b)
            }
        };
        self.count = self.count.saturating_add(newer.count);
        self.sum = finite(self.sum + newer.sum);
        self.min = both(self.min, newer.min, f64::min);
        self.max = both(self.max, newer.max, f64::max);
    }
}

/// NaN for what no double holds.
fn finite(number: f64) -> f64 {
    if number.is_finite() { number } else { f64::NAN }
}

fn known(number: f64) -> Option<f64> {
    (!number.is_nan()).then_some(number)
}

/// Whether every count of `later` is at least that of `earlier`.
fn grew(later: &[u64], earlier: &[u64]) -> bool {
    let pairs = later.iter().zip(earlier);
    // Without a way out of the loop it takes several a step.
    pairs.fold(true, |all, (later, earlier)| all & (later >= earlier))
}

impl Histogram {
    pub(super) fn new(temporality: Temporality) -> Self {
        Self {
            writers: (temporality == Temporality::Cumulative).then(Writers::default),
            base: Head::EMPTY,
            open: Head::EMPTY,
            elapsed: 0,
            bounds: Box::default(),
            counts: Box::default(),
        }
    }

    pub(super) fn apply(&mut self, at: &Arrival<'_>, mut point: HistogramView<'_>) -> Applied {
        if point.bounds.is_empty() || point.counts.len() != point.bounds.len() + 1 {
            // One bucket says no more than the count does.
            (point.bounds, point.counts) = (&[], &[]);
        }
        let Some(writers) = &mut self.writers else {
            let Some(elapsed) = delta_span(at) else {
                return Applied::Overlap;
            };
            self.add(None, &point, elapsed);
            return Applied::Counted;
        };
        let step = writers.read(at);
        match step {
            Step::Since(elapsed) => self.add_since_base(&point, elapsed),
            Step::SinceRival(elapsed) => {
                let rival = writers.take_rival();
                self.add(rival.as_ref(), &point, elapsed);
            }
            Step::Fresh(elapsed) => self.add(None, &point, elapsed),
            Step::Base => {}
            Step::Overlap => {
                writers.keep_rival(at, || point.to_owned());
                return Applied::Overlap;
            }
        }
        if let Some(writers) = &mut self.writers {
            writers.keep(at);
        }
        self.base = Head::of(&point);
        if !matches!(step, Step::Since(_)) {
            self.lay_out(point.bounds);
            self.keep_counts(point.counts);
        }
        Applied::Counted
    }

    /// Adds what the holder counted since its last report, and keeps its counts.
    fn add_since_base(&mut self, point: &HistogramView<'_>, elapsed: u64) {
        if !self.is_laid_out(point.bounds) {
            // Bounds that changed while the count went on: how many came is still known, into which
            // buckets is not. Counting all of them from zero would count the old ones again.
            let first = point.bounds.first().map_or(f64::NAN, |first| *first);
            match Head::of(point).since(&self.base, first) {
                Some(by) => self.grow(&by, elapsed),
                None => self.add(None, point, elapsed),
            }
            self.lay_out(point.bounds);
            self.keep_counts(point.counts);
            return;
        }
        let first = self.bounds.first().map_or(f64::NAN, |first| *first);
        let by = Head::of(point).since(&self.base, first);
        let (open, base) = split(&mut self.counts, point.counts.len());
        match by {
            Some(by) if grew(point.counts, base) => {
                for ((open, base), later) in open.iter_mut().zip(base).zip(point.counts) {
                    *open = open.saturating_add(later.saturating_sub(*base));
                    *base = *later;
                }
                self.grow(&by, elapsed);
            }
            _ => {
                self.add(None, point, elapsed);
                self.keep_counts(point.counts);
            }
        }
    }

    /// Adds what `point` counts more than `earlier`: everything, if that is not there or cannot have
    /// become this.
    fn add(&mut self, earlier: Option<&HistogramPoint>, point: &HistogramView<'_>, elapsed: u64) {
        let whole = Head::of(point);
        let first = point.bounds.first().map_or(f64::NAN, |first| *first);
        let grown = earlier.and_then(|earlier| {
            let by = whole.since(&Head::of(&earlier.view()), first)?;
            let counts = (earlier.bounds == point.bounds).then_some(&*earlier.counts);
            let has_grown = counts.is_none_or(|counts| grew(point.counts, counts));
            has_grown.then_some((by, counts))
        });
        let by = grown.map_or(whole, |(by, _)| by);
        if by.count > 0 {
            self.lay_out(point.bounds);
            let (open, _) = split(&mut self.counts, point.counts.len());
            let counts = open.iter_mut().zip(point.counts);
            match grown {
                None => {
                    counts.for_each(|(open, later)| *open = open.saturating_add(*later));
                }
                Some((_, Some(before))) => {
                    for ((open, later), before) in counts.zip(before) {
                        *open = open.saturating_add(later.saturating_sub(*before));
                    }
                }
                Some((_, None)) => open.fill(0),
            }
        }
        self.grow(&by, elapsed);
    }

    fn grow(&mut self, by: &Head, elapsed: u64) {
        self.elapsed = self.elapsed.saturating_add(elapsed).max(1);
        self.open.merge(by);
    }

    /// Whether `bounds` are those that the counts are of. Compared as bits, which is faster.
    fn is_laid_out(&self, bounds: &[f64]) -> bool {
        let pairs = self.bounds.iter().zip(bounds);
        self.bounds.len() == bounds.len()
            && pairs.fold(0, |all, (a, b)| all | (a.to_bits() ^ b.to_bits())) == 0
    }

    /// Has the counts be those of `bounds`. If they were of others, into which buckets the observations
    /// of the open tick came is forgotten: its percentiles are those of the newer part.
    fn lay_out(&mut self, bounds: &[f64]) {
        if self.is_laid_out(bounds) {
            return;
        }
        self.bounds = bounds.into();
        let buckets = self.buckets();
        let sets = if self.writers.is_some() { 2 } else { 1 };
        self.counts = vec![0; buckets * sets].into();
    }

    fn keep_counts(&mut self, counts: &[u64]) {
        let (_, base) = split(&mut self.counts, counts.len());
        for (base, count) in base.iter_mut().zip(counts) {
            *base = *count;
        }
    }

    fn buckets(&self) -> usize {
        match self.bounds.len() {
            0 => 0,
            bounds => bounds + 1,
        }
    }

    pub(super) fn flush(&mut self, emitter: &mut Emitter<'_>) {
        if self.elapsed == 0 {
            return;
        }
        let buckets = self.buckets();
        let (open, _) = split(&mut self.counts, buckets);
        let seen = HistogramView {
            count: self.open.count,
            sum: known(self.open.sum),
            min: known(self.open.min),
            max: known(self.open.max),
            bounds: &self.bounds,
            counts: open,
        };
        distribution::emit(emitter, self.elapsed, seen.count, seen.sum, |ranks| {
            quantiles(&seen, ranks).map_or([None; 3], |found| found.map(Some))
        });
        open.fill(0);
        self.open = Head::EMPTY;
        self.elapsed = 0;
    }

    pub(super) fn end(&mut self) {
        if let Some(writers) = &mut self.writers {
            writers.end();
        }
    }

    /// Memory, itself included.
    pub(super) fn bytes(&self) -> usize {
        let numbers = |bounds: usize, counts: usize| size_of::<u64>() * (bounds + counts);
        let rival = |point: &HistogramPoint| numbers(point.bounds.len(), point.counts.len());
        size_of::<Self>()
            + numbers(self.bounds.len(), self.counts.len())
            + self.writers.as_ref().map_or(0, |w| w.bytes(rival))
    }
}

/// The counts of the open tick and those of the newest report. They are as many as they should be, but
/// a saved state is not trusted.
fn split(counts: &mut [u64], buckets: usize) -> (&mut [u64], &mut [u64]) {
    let at = buckets.min(counts.len());
    counts.split_at_mut(at)
}

/// The quantiles of these ranks, which rise: a share of all observations each. Linear within the bucket
/// that holds the rank, as Prometheus' `histogram_quantile`: the first bucket begins at the minimum, else
/// at zero if its bound is positive; the last ends at the maximum, else at its own lower bound. Without a
/// maximum no bucket reaches further than the mean allows it.
fn quantiles<const N: usize>(point: &HistogramView<'_>, ranks: [f64; N]) -> Option<[f64; N]> {
    let counts = point.counts.iter();
    let total = counts.fold(0u64, |sum, count| sum.saturating_add(*count));
    if total == 0 || point.bounds.is_empty() {
        return None;
    }
    let buckets = Filled::of(point)?;
    let mut found = [0.0; N];
    let mut wanted = ranks.map(|q| q * total as f64).into_iter().zip(&mut found);
    let mut next = wanted.next();
    let (mut below, mut last) = (0.0, None);
    for (index, &count) in point.counts.iter().enumerate() {
        if count == 0 {
            continue;
        }
        let count = count as f64;
        let bucket = last.insert(Bucket {
            index,
            below,
            count,
        });
        below += count;
        while let Some((rank, value)) = next.take_if(|(rank, _)| below >= *rank) {
            *value = buckets.value(point, bucket, rank);
            next = wanted.next();
        }
    }
    // Rounding may leave a rank that is larger than all together.
    for (rank, value) in next.into_iter().chain(wanted) {
        *value = buckets.value(point, last.as_ref()?, rank);
    }
    Some(found)
}

/// A bucket with observations, with how many lie below it.
struct Bucket {
    index: usize,
    below: f64,
    count: f64,
}

/// What is known of the buckets together.
struct Filled {
    first: f64,
    last: f64,
    /// The least that the sum of all observations can be: each at the beginning of its bucket.
    least: f64,
    /// Where the first bucket begins. Below zero that may not be known: it counts as 0 in `least`, and
    /// the sum tells nothing of the others if it holds any.
    begin: Option<f64>,
}

impl Filled {
    fn of(point: &HistogramView<'_>) -> Option<Self> {
        let (first, last) = (*point.bounds.first()?, *point.bounds.last()?);
        let begin = point.min.or((first > 0.0).then_some(0.0));
        let begins = std::iter::once(begin.unwrap_or(0.0)).chain(point.bounds.iter().copied());
        let held = begins.zip(point.counts);
        Some(Self {
            first,
            last,
            least: held.map(|(begin, count)| begin * *count as f64).sum(),
            begin,
        })
    }

    fn value(&self, point: &HistogramView<'_>, bucket: &Bucket, rank: f64) -> f64 {
        let Bucket {
            index,
            below,
            count,
        } = *bucket;
        let lower = match index.checked_sub(1) {
            Some(before) => point.bounds.get(before).copied().unwrap_or(self.last),
            None => self.begin.unwrap_or(self.first),
        };
        let upper = match point.bounds.get(index) {
            Some(bound) => *bound,
            None => point.max.unwrap_or(self.last),
        };
        // What is known of the whole also holds for each bucket.
        let begin = lower;
        let lower = point.min.map_or(lower, |min| lower.max(min));
        let end = point
            .max
            .or_else(|| self.filled_to(point, bucket, begin, lower));
        let upper = end.map_or(upper, |end| upper.min(end)).max(lower);
        let part = ((rank - below) / count).clamp(0.0, 1.0);
        lower * (1.0 - part) + upper * part
    }

    /// How far a bucket that begins at `begin`, with nothing below `lower`, is filled if it is filled
    /// evenly and all others hold no more than they must: up to twice its mean. In a bucket much wider
    /// than the data the mean says more than the bounds.
    fn filled_to(
        &self,
        point: &HistogramView<'_>,
        bucket: &Bucket,
        begin: f64,
        lower: f64,
    ) -> Option<f64> {
        let own = match (bucket.index, self.begin) {
            (0, None) => 0.0,
            (_, None) if point.counts.first().is_some_and(|count| *count > 0) => return None,
            _ => begin * bucket.count,
        };
        let others = self.least - own;
        let end = 2.0 * (point.sum? - others) / bucket.count - lower;
        (end.is_finite() && end > lower).then_some(end)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::derive::Settings;
    use crate::model::Timestamp;

    fn quantile(point: &HistogramView<'_>, q: f64) -> Option<f64> {
        quantiles(point, [q]).map(|[value]| value)
    }

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
        assert_eq!(quantile(&point.view(), q), expected, "{name}");
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

    /// Feeds cumulative reports, one every ten seconds, or deltas; and reads what came in the open tick.
    fn opened(temporality: Temporality, points: &[HistogramPoint]) -> HistogramPoint {
        let settings = Settings::default();
        let mut series = Histogram::new(temporality);
        for (point, time) in points.iter().zip(1..) {
            let mut at = Arrival {
                start: None,
                time: Timestamp::from_secs(10 * time),
                last: None,
                settings: &settings,
            };
            if temporality == Temporality::Delta {
                at.start = Some(Timestamp::from_secs(10 * (time - 1)));
            }
            assert_eq!(series.apply(&at, point.view()), Applied::Counted);
        }
        let buckets = series.buckets();
        HistogramPoint {
            count: series.open.count,
            sum: known(series.open.sum),
            min: known(series.open.min),
            max: known(series.open.max),
            bounds: series.bounds.to_vec(),
            counts: series.counts[..buckets].to_vec(),
        }
    }

    /// What came between two cumulative reports, the first of which is only what the second is compared
    /// with.
    fn between(earlier: &HistogramPoint, later: &HistogramPoint) -> HistogramPoint {
        opened(Temporality::Cumulative, &[earlier.clone(), later.clone()])
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
        let between = between(&earlier, &histogram(&bounds, &values));
        assert_eq!(between.count, 4);
        let of = |point: &HistogramPoint, q| quantile(&point.view(), q).unwrap();
        assert!(
            (of(&between, 0.5) - 0.06).abs() < 1e-9,
            "{}",
            of(&between, 0.5)
        );
        assert!(of(&between, 0.99) < 0.121, "{}", of(&between, 0.99));
        // Where buckets are as fine as the data, the bounds speak.
        let fine = histogram(&[0.05, 0.06, 0.07], &[0.055, 0.058, 0.065, 0.068]);
        let fine = HistogramPoint {
            min: None,
            max: None,
            ..fine
        };
        assert!((of(&fine, 0.5) - 0.06).abs() < 1e-12);
        assert!((of(&fine, 1.0) - 0.07).abs() < 1e-12);
    }

    #[test]
    fn a_difference_is_what_came_between() {
        let bounds = [1.0, 2.0, 4.0];
        let earlier = histogram(&bounds, &[0.5, 9.0]);
        let later = histogram(&bounds, &[0.5, 9.0, 1.5, 5.0]);
        let since = between(&earlier, &later);
        assert_eq!(since.counts, [0, 1, 0, 1]);
        assert_eq!((since.count, since.sum), (2, Some(6.5)));
        // 9 was there before: the last bucket must not be stretched to it.
        assert_eq!(quantile(&since.view(), 0.99), Some(4.0));
        assert_eq!(between(&later, &earlier), earlier, "fewer: a reset");
        let mut moved = later.clone();
        moved.counts = vec![0, 3, 0, 1];
        assert_eq!(between(&earlier, &moved), moved, "a bucket shrank: a reset");
        let other = histogram(&[3.0], &[0.5, 9.0, 1.0]);
        let since = between(&earlier, &other);
        assert_eq!(
            (since.count, quantile(&since.view(), 0.5)),
            (1, None),
            "other buckets"
        );
        // From there on it is known again, and what was counted before is not counted anew.
        let mut after = histogram(&[3.0], &[0.5, 9.0, 1.0, 2.0]);
        after.sum = None;
        let since = opened(Temporality::Cumulative, &[earlier, other, after]);
        assert_eq!((since.count, &*since.counts), (2, &[1, 0][..]));
    }

    #[test]
    fn merging_keeps_what_all_parts_know() {
        let bounds = [1.0, 2.0];
        let mut parts = vec![
            histogram(&bounds, &[0.5, 1.5]),
            histogram(&bounds, &[]),
            histogram(&[5.0], &[]),
            histogram(&bounds, &[9.0]),
        ];
        let sum = opened(Temporality::Delta, &parts);
        assert_eq!(sum, histogram(&bounds, &[0.5, 1.5, 9.0]));
        let mut unknown = histogram(&bounds, &[1.0]);
        unknown.sum = None;
        parts.push(unknown);
        let sum = opened(Temporality::Delta, &parts);
        assert_eq!((sum.count, sum.sum), (4, None));
        parts.push(histogram(&[7.0], &[6.0]));
        let sum = opened(Temporality::Delta, &parts);
        assert_eq!((sum.count, &*sum.bounds), (5, &[7.0][..]));
        assert_eq!(sum.counts, [1, 0]);
    }
}
