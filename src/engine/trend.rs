//! Where the signals of a window are going, and how far from the band they have been in it.

use super::query::{Make, Sight};
use super::series::Series;
use super::shard::Shard;
use super::signal::Signal;
use crate::model::{Examined, Rule, Sample, SampleView, SignalId, SignalKind, Timestamp, Trend};
use crate::window::median;

/// Samples are taken together to so many medians, of which some 280 slopes are a few microseconds' work.
const BUCKETS: usize = 24;
/// Of so many of them the median is what it was at the beginning, and at the end.
const END: usize = 3;
/// Fewer samples show no trend.
const FEWEST: usize = 24;
/// Least significance, in standard deviations of Kendall's S. Thousands of signals are looked at: by
/// chance alone one of 15,000 that know no trend has one.
const SIGNIFICANT: f64 = 4.0;
/// Least change over the window, of the level; of a share of errors in itself.
const LEAST_CHANGE: f64 = 0.1;
const LEAST_SHARE: f64 = 0.02;

/// A signal with its trend, as its shard tells it.
pub(super) struct Looked {
    sight: Sight,
    worst: Option<SampleView>,
    trend: Option<Trend>,
}

impl Looked {
    /// As everybody sees it.
    pub(super) fn examined(self, id: SignalId, rules: &[Rule]) -> Examined {
        Examined {
            view: self.sight.view(id, rules),
            worst: self.worst,
            trend: self.trend,
        }
    }
}

pub(super) const LOOKED: Make<Looked> = Make {
    // A trend takes some ten times as long as a view.
    work: 64,
    make: looked,
};

fn looked(shard: &Shard, id: SignalId, series: &Series, signal: &Signal) -> Looked {
    let first = Timestamp::from_nanos(i64::MIN);
    let last = Timestamp::from_nanos(i64::MAX);
    let samples = signal.samples(first, last);
    Looked {
        sight: shard.sight(id, series, signal),
        worst: worst(samples),
        trend: trend(signal.kind, signal.window.iter()),
    }
}

/// The sample that deviates most.
fn worst(samples: Vec<SampleView>) -> Option<SampleView> {
    let judged = samples.into_iter().filter(|sample| sample.sigma.is_some());
    judged.max_by(|a, b| {
        let size = |sample: &SampleView| sample.sigma.unwrap_or(0.0).abs();
        let distance = |sample: &SampleView| (sample.value - sample.expected.unwrap_or(0.0)).abs();
        // Sigma has a greatest value: of equals the one farther out, of these the newest.
        size(a)
            .total_cmp(&size(b))
            .then(distance(a).total_cmp(&distance(b)))
            .then(a.time.cmp(&b.time))
    })
}

/// The slope of Theil and Sen (the median of the slopes between all pairs) where Kendall's test (Mann
/// 1945) says that there is one; both of medians of neighbouring samples, which single outliers do not
/// move. `None` where nothing is worth telling.
fn trend(kind: SignalKind, samples: impl ExactSizeIterator<Item = Sample>) -> Option<Trend> {
    let samples: Vec<Sample> = samples.collect();
    if samples.len() < FEWEST {
        return None;
    }
    let (first, last) = (samples.first()?.time, samples.last()?.time);
    let at = |sample: &Sample| sample.time.seconds_since(first);
    let points: Vec<(f64, f64)> = (0..BUCKETS)
        .filter_map(|number| {
            let share = |number: usize| number * samples.len() / BUCKETS;
            let bucket = samples.get(share(number)..share(number + 1))?;
            let mut values: Vec<f64> = bucket.iter().map(|sample| sample.value).collect();
            let mut times: Vec<f64> = bucket.iter().map(at).collect();
            Some((median(&mut times)?, median(&mut values)?))
        })
        .collect();
    let (mut slopes, mut balance) = (Vec::new(), 0i32);
    for (number, (time, value)) in points.iter().enumerate() {
        for (earlier, before) in points.iter().take(number) {
            if time > earlier {
                slopes.push((value - before) / (time - earlier));
            }
            balance += i32::from(value > before) - i32::from(value < before);
        }
    }
    let n = points.len() as f64;
    let variance = n * (n - 1.0) * (2.0 * n + 5.0) / 18.0;
    let significance = f64::from(balance) / variance.sqrt();
    let slope = median(&mut slopes)?;
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let ends = |range: std::ops::Range<usize>| {
        let mut part: Vec<f64> = values.get(range)?.to_vec();
        median(&mut part)
    };
    // Not the ends of the line: through a step it runs where no sample was.
    let (from, to) = (
        ends(0..END)?,
        ends(values.len().checked_sub(END)?..values.len())?,
    );
    let level = median(&mut values)?;
    let length = last.seconds_since(first);
    let change = (to - from).abs();
    let enough = match kind {
        SignalKind::ErrorRatio => change >= LEAST_SHARE,
        _ => change >= LEAST_CHANGE * level.abs() && change > 0.0,
    };
    let told = enough
        && significance.abs() >= SIGNIFICANT
        && significance * slope > 0.0
        && (to - from) * slope > 0.0;
    told.then_some(Trend {
        seconds: length,
        from,
        to,
        significance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: impl Fn(i64) -> f64) -> Option<Trend> {
        let samples: Vec<_> = (0..100)
            .map(|step| Sample {
                time: Timestamp::from_secs(1_000 + 10 * step),
                value: value(step),
            })
            .collect();
        trend(SignalKind::Value, samples.into_iter())
    }

    /// Within ±1, without a pattern.
    fn noise(step: i64) -> f64 {
        ((step * 37) % 19) as f64 / 9.5 - 1.0
    }

    #[test]
    fn of_equally_unusual_samples_the_one_farther_out_is_the_worst() {
        let sample = |second, value, sigma| SampleView {
            time: Timestamp::from_secs(second),
            value,
            expected: Some(0.01),
            lower: None,
            upper: None,
            sigma,
        };
        let samples = vec![
            sample(10, 0.42, Some(6.0)),
            sample(20, 0.08, Some(6.0)),
            sample(30, 0.9, Some(5.9)),
            sample(40, 0.99, None),
        ];
        assert_eq!(worst(samples).map(|worst| worst.value), Some(0.42));
        assert_eq!(worst(Vec::new()), None);
    }

    #[test]
    fn a_slow_growth_is_told_and_noise_is_not() {
        let growth = of(|step| 100.0 + step as f64 + noise(step)).expect("it grows");
        assert!(
            (growth.from - 105.5).abs() < 2.0 && (growth.to - 193.5).abs() < 2.0,
            "{growth:?}"
        );
        // Nothing was ever below 9 nor above 149.
        let jumps = |step: i64| if step < 50 { 10.0 } else { 138.0 };
        let step = of(|step| jumps(step) + 0.1 * step as f64 + noise(step)).expect("it rose");
        assert!(
            (step.from - 10.6).abs() < 1.0 && (step.to - 147.4).abs() < 1.0,
            "{step:?}"
        );
        assert_eq!(growth.seconds, 990.0);
        let fall = of(|step| 100.0 - 0.3 * step as f64 + 5.0 * noise(step)).expect("it falls");
        assert!(
            fall.to < fall.from && fall.significance < -SIGNIFICANT,
            "{fall:?}"
        );
        assert_eq!(of(|step| 100.0 + 20.0 * noise(step)), None);
        assert_eq!(of(|_| 5.0), None);
        // Significant, and nobody's business.
        assert_eq!(of(|step| 1_000.0 + 0.1 * step as f64), None);
        // One wild sample is no trend, a wave neither.
        assert_eq!(
            of(|step| if step == 99 { 1e9 } else { 5.0 + noise(step) }),
            None
        );
        assert_eq!(of(|step| 10.0 + (step as f64 / 8.0).sin()), None);
    }
}
