use std::time::Duration;

use proptest::prelude::*;

use super::{Window, median, quantile_sorted};
use crate::model::{Sample, Timestamp, WindowSpec};

fn sample(second: i64, value: f64) -> Sample {
    Sample {
        time: Timestamp::from_secs(second),
        value,
    }
}

/// A sum whose rounding error does not grow with the number of terms (Neumaier).
fn exact_sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0f64, 0.0f64);
    for value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() {
            (sum - next) + value
        } else {
            (value - next) + sum
        };
        sum = next;
    }
    sum + lost
}

/// Mean and standard deviation the plain way, on values scaled to at most 1.
fn naive(values: &[f64]) -> (f64, f64) {
    let scale = values.iter().fold(0.0f64, |max, v| max.max(v.abs()));
    if values.is_empty() || scale == 0.0 {
        return (0.0, 0.0);
    }
    let n = values.len() as f64;
    let scaled = || values.iter().map(|v| v / scale);
    let mean = exact_sum(scaled()) / n;
    let squares = exact_sum(scaled().map(|v| (v - mean) * (v - mean)));
    let correction = exact_sum(scaled().map(|v| v - mean));
    let variance = (squares - correction * correction / n).max(0.0) / (n - 1.0).max(1.0);
    (mean * scale, (variance.sqrt() * scale).clamp(0.0, f64::MAX))
}

#[track_caller]
fn check(window: &Window, expected: &[f64]) {
    let held: Vec<f64> = window.iter().map(|s| s.value).collect();
    assert_eq!(held, expected, "the samples held");
    let (mean, stddev) = window.mean_and_stddev();
    let (naive_mean, naive_stddev) = naive(expected);
    let size = expected.iter().fold(0.0f64, |max, v| max.max(v.abs()));
    // Differences below 1e-150 count as none: their squares are no doubles.
    let close = |got: f64, want: f64, tolerance: f64| (got - want).abs() <= tolerance;
    assert!(
        close(
            mean,
            naive_mean,
            1e-13 * size + 1e-9 * naive_stddev + 1e-150
        ),
        "mean {mean}, naive {naive_mean} of {expected:?}"
    );
    // Below 1e-15 of the values' size a spread is rounding.
    assert!(
        close(
            stddev,
            naive_stddev,
            1e-9 * naive_stddev + 2e-15 * size + 1e-150
        ),
        "stddev {stddev}, naive {naive_stddev} of {expected:?}"
    );
    let view = window.view();
    let mut sorted = expected.to_vec();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(view.count as usize, expected.len());
    assert_eq!(view.min, sorted.first().copied().unwrap_or(0.0));
    assert_eq!(view.max, sorted.last().copied().unwrap_or(0.0));
    for (got, q) in [
        (view.p50, 0.5),
        (view.p90, 0.9),
        (view.p95, 0.95),
        (view.p99, 0.99),
    ] {
        assert!(got >= view.min && got <= view.max && got.is_finite());
        // The definition, spelt out once more: position q (n - 1), linear in between.
        if !sorted.is_empty() {
            let position = q * (sorted.len() - 1) as f64;
            let (low, high) = (position.floor() as usize, position.ceil() as usize);
            let share = position - low as f64;
            let want = sorted[low] * (1.0 - share) + sorted[high] * share;
            assert!(close(got, want, 1e-15 * size), "q {q}: {got}, {want}");
        }
    }
}

/// Values from every neighbourhood that has bitten somebody: ordinary ones, tiny noise on a large level,
/// repeats, giants, subnormals.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e3..1e3f64,
        4 => (0..5i32).prop_map(|n| 1e9 + f64::from(n) * 1e-3),
        2 => (0..3i32).prop_map(f64::from),
        1 => (-300..300i32).prop_map(|e| 10f64.powi(e)),
        1 => (-300..308i32).prop_map(|e| -10f64.powi(e)),
        1 => Just(f64::MAX),
        1 => Just(f64::MIN),
        1 => Just(f64::MIN_POSITIVE / 8.0),
        1 => Just(-0.0),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_window_of_n_samples_equals_the_naive_computation(
        values in prop::collection::vec(value(), 0..120),
        size in 1..40u32,
    ) {
        let mut window = Window::new(WindowSpec::Samples(size));
        for (i, v) in values.iter().enumerate() {
            window.push(sample(i as i64, *v));
            let from = (i + 1).saturating_sub(size as usize);
            check(&window, &values[from..=i]);
        }
    }

    #[test]
    fn a_window_of_a_duration_equals_the_naive_computation(
        steps in prop::collection::vec((1..8i64, value()), 0..120),
        seconds in 1..60u64,
    ) {
        let mut window = Window::new(WindowSpec::Duration(Duration::from_secs(seconds)));
        let mut now = 0;
        let mut all = Vec::new();
        for (step, v) in steps {
            now += step;
            all.push((now, v));
            window.push(sample(now, v));
            let held: Vec<f64> = all.iter()
                .filter(|(time, _)| time + seconds as i64 > now)
                .map(|(_, v)| *v)
                .collect();
            check(&window, &held);
        }
    }

    #[test]
    fn a_window_survives_being_saved(values in prop::collection::vec(value(), 0..60)) {
        let mut window = Window::new(WindowSpec::Samples(25));
        for (i, v) in values.iter().enumerate() {
            window.push(sample(i as i64, *v));
        }
        let bytes = postcard::to_allocvec(&window).unwrap();
        let mut restored: Window = postcard::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&restored, &window);
        // Bit for bit also afterwards.
        for i in 0..40 {
            let next = sample(1000 + i, (i * i) as f64);
            restored.push(next);
            window.push(next);
            prop_assert_eq!(&restored, &window);
        }
    }

    #[test]
    fn the_median_is_the_quantile_in_the_middle(values in prop::collection::vec(value(), 1..50)) {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let mut shuffled = values;
        prop_assert_eq!(median(&mut shuffled), quantile_sorted(&sorted, 0.5));
    }
}

/// A small multiplicative generator: noise without a dependency.
fn noise(state: &mut u64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

#[test]
fn small_noise_on_a_billion_keeps_its_digits_over_a_million_samples() {
    let mut window = Window::new(WindowSpec::Samples(100));
    let mut seed = 7;
    for i in 0..1_000_000 {
        // A spike of 1e15 now and then, which would wipe out the noise in plain sums.
        let value = if i % 99_991 == 50_000 {
            1e15
        } else {
            1e9 + 0.01 * noise(&mut seed)
        };
        window.push(sample(i, value));
        if i % 49_999 == 0 {
            let held: Vec<f64> = window.iter().map(|s| s.value).collect();
            check(&window, &held);
        }
    }
    let (mean, stddev) = window.mean_and_stddev();
    assert!((mean - 1e9).abs() < 0.01 && (0.002..0.004).contains(&stddev));
}

#[test]
fn equal_values_have_no_spread_whatever_came_before() {
    let mut window = Window::new(WindowSpec::Samples(10));
    for i in 0..50 {
        window.push(sample(i, 1.0 / f64::from(i as i32 + 3)));
    }
    for i in 50..60 {
        window.push(sample(i, 0.1));
    }
    assert_eq!(window.mean_and_stddev(), (0.1, 0.0));
}

#[test]
fn what_is_too_old_leaves_before_the_next_sample_is_compared() {
    let mut window = Window::new(WindowSpec::Duration(Duration::from_secs(60)));
    window.push(sample(0, 1.0));
    window.push(sample(30, 2.0));
    window.expire(Timestamp::from_secs(60));
    check(&window, &[2.0]);
    window.push(sample(600, f64::NAN));
    check(&window, &[2.0]);
    window.push(sample(600, 3.0));
    check(&window, &[3.0]);
}

#[test]
fn another_size_keeps_the_newest_samples() {
    let mut window = Window::new(WindowSpec::Samples(5));
    for i in 0..9 {
        window.push(sample(i, i as f64));
    }
    check(
        &window.clone().refit(WindowSpec::Samples(3)),
        &[6.0, 7.0, 8.0],
    );
    assert_eq!(window.clone().refit(WindowSpec::Samples(5)), window);
    assert_eq!(Window::new(WindowSpec::Samples(0)).limit(), 1);
    assert_eq!(
        Window::new(WindowSpec::Samples(u32::MAX)).limit(),
        WindowSpec::MAX_SAMPLES
    );
}

#[test]
fn a_full_window_takes_no_more_memory_than_its_samples() {
    let mut window = Window::new(WindowSpec::Samples(100));
    for i in 0..1000 {
        window.push(sample(i, 1.0));
    }
    assert!(window.bytes() < 100 * 16 + 160, "{}", window.bytes());
}
