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

/// Mean and standard deviation of a brief window are those of the values that it holds; these are the given
/// ones but for a small share of each step.
#[track_caller]
fn check_brief(window: &Window, given: &[f64], before: Option<f64>, largest: f64) {
    let held: Vec<f64> = window.iter().map(|s| s.value).collect();
    assert_eq!(held.len(), given.len());
    let mut before = before.unwrap_or(0.0);
    for ((held, shown), given) in held.iter().zip(window.shown()).zip(given) {
        let most = (given - before).abs() / 2048.0;
        assert!((held - given).abs() <= most, "{held} is not {given}");
        let most = most + largest / 2048.0;
        assert!((shown.value - given).abs() <= most, "{}", shown.value);
        before = *given;
    }
    let ((mean, stddev), (naive_mean, naive_stddev)) = (window.mean_and_stddev(), naive(&held));
    let size = held.iter().fold(0.0f64, |max, v| max.max(v.abs()));
    assert!((mean - naive_mean).abs() <= 1e-13 * size + 1e-9 * naive_stddev + 1e-150);
    assert!((stddev - naive_stddev).abs() <= 1e-9 * naive_stddev + 2e-15 * size + 1e-150);
    assert_eq!(window.last().map(|last| last.value), given.last().copied());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_brief_window_holds_what_it_was_given_but_for_the_last_digits(
        values in prop::collection::vec(value(), 0..150),
        size in 1..90u32,
    ) {
        let mut window = Window::brief(WindowSpec::Samples(size));
        let (mut largest, mut last) = (0.0f64, None);
        for (i, v) in values.iter().enumerate() {
            window.push(sample(i as i64, *v));
            largest = largest.max((v - last.replace(*v).unwrap_or(*v)).abs());
            let from = (i + 1).saturating_sub(size as usize);
            let before = from.checked_sub(1).map(|before| values[before]);
            check_brief(&window, &values[from..=i], before, largest);
        }
        let again = window.clone().refit(Window::brief(WindowSpec::Samples(size)));
        prop_assert_eq!(again, window);
    }

    #[test]
    fn times_are_kept_whatever_they_are(
        gaps in prop::collection::vec(
            prop_oneof![
                6 => Just(10i64), 3 => (0..5i64).prop_map(|n| 10 * n), 1 => 0..100i64,
                1 => any::<i64>(), 1 => Just(i64::MAX),
            ],
            1..200,
        ),
        size in 1..40u32,
    ) {
        let mut window = Window::brief(WindowSpec::Samples(size));
        let (mut now, mut times) = (0i64, Vec::new());
        for gap in gaps {
            now = now.wrapping_add(gap);
            times.push(Timestamp::from_nanos(now));
            window.push(Sample { time: Timestamp::from_nanos(now), value: 1.0 });
            let from = times.len().saturating_sub(size as usize);
            let held: Vec<Timestamp> = window.iter().map(|sample| sample.time).collect();
            prop_assert_eq!(&held, &times[from..]);
            prop_assert_eq!(window.first(), held.first().copied());
            prop_assert_eq!(window.last().map(|last| last.time), held.last().copied());
        }
        // After so many even ones there is nothing of the others left.
        for _ in 0..=size {
            now = now.wrapping_add(10);
            window.push(Sample { time: Timestamp::from_nanos(now), value: 1.0 });
        }
        prop_assert!(window.bytes() <= 120, "{}", window.bytes());
        let again = window.clone().refit(Window::brief(WindowSpec::Samples(size)));
        prop_assert_eq!(again, window);
    }

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
        &window.clone().refit(Window::new(WindowSpec::Samples(3))),
        &[6.0, 7.0, 8.0],
    );
    assert_eq!(
        window.clone().refit(Window::new(WindowSpec::Samples(5))),
        window
    );
    assert_eq!(Window::new(WindowSpec::Samples(0)).limit(), 1);
    assert_eq!(
        Window::new(WindowSpec::Samples(u32::MAX)).limit(),
        WindowSpec::MAX_SAMPLES
    );
}

/// Of so many samples at even distances, one value after the other.
fn full(mut window: Window, value: impl Fn(i64) -> f64) -> Window {
    for i in 0..1000 {
        window.push(sample(10 * i, value(i)));
    }
    window
}

#[test]
fn a_full_window_takes_as_little_memory_as_its_values_allow() {
    let noisy = |i: i64| 100.0 + (i as f64 * 0.7).sin() * 2.0;
    let size = WindowSpec::Samples(100);
    let age = WindowSpec::Duration(Duration::from_secs(1000));
    for (most, window) in [
        (100, full(Window::brief(size), |_| 0.1)),
        (240, full(Window::brief(size), |i| (i * 37 % 101) as f64)),
        (
            260,
            full(Window::brief(size), |i| (i * 37 % 101) as f64 / 10.0),
        ),
        (
            360,
            full(Window::brief(size), |i| 1e6 + (i * 3_701 % 9_973) as f64),
        ),
        (460, full(Window::brief(size), noisy)),
        (1100, full(Window::new(size), noisy)),
        // How many samples there will be is not known, nor is room made for as many as there may be.
        (540, full(Window::brief(age), noisy)),
    ] {
        assert!(window.bytes() <= most, "{} of {most}", window.bytes());
        assert_eq!(window.len(), 100);
    }
    // However wild they are, and whenever they come.
    let wild = |i: i64| (1 + i % 7) as f64 * 10f64.powi((i * 37 % 600) as i32 - 300);
    let mut window = full(Window::new(size), wild);
    for i in 0..200 {
        window.push(sample(20_000 + i * i, wild(i)));
    }
    assert!(window.bytes() < 1500, "{}", window.bytes());
}

#[test]
fn what_is_small_beside_a_spike_is_not_shown_as_nothing() {
    let mut window = Window::brief(WindowSpec::Samples(100));
    let third = 1.0 / 3.0;
    for i in 0..100 {
        let value = if i == 20 || i == 40 {
            1e6 + 1.0 / 7.0
        } else {
            third
        };
        window.push(sample(i, value));
    }
    for (i, shown) in window.shown().enumerate() {
        if !matches!(i, 20 | 40) {
            assert!((shown.value - third).abs() < 1e-9, "{i}: {}", shown.value);
        }
    }
    let view = window.view();
    assert!((view.min - third).abs() < 1e-9 && (view.p50 - third).abs() < 1e-9);
}

#[test]
fn decimals_lose_no_digit_and_others_are_shown_as_they_were_meant() {
    let mut window = Window::brief(WindowSpec::Samples(100));
    let given: Vec<f64> = (0..100)
        .map(|i| match i % 4 {
            0 => 0.1,
            1 => -273.15,
            2 => f64::from(i),
            _ => 1e6 + 0.25,
        })
        .collect();
    for (i, value) in given.iter().enumerate() {
        window.push(sample(i as i64, *value));
    }
    check(&window, &given);
    // Among values of many digits there may be one of few.
    let given: Vec<f64> = (0..100)
        .map(|i| match i % 9 {
            4 => 100.1,
            _ => 100.0 + f64::from(i).sqrt(),
        })
        .collect();
    for (i, value) in given.iter().enumerate() {
        window.push(sample(i as i64, *value));
    }
    let shown: Vec<f64> = window.shown().map(|sample| sample.value).collect();
    for (shown, given) in shown.iter().zip(&given) {
        assert!((shown - given).abs() < 2e-5);
        assert!(*given != 100.1 || *shown == 100.1, "{shown}");
    }
    assert_eq!(window.last().map(|last| last.value), Some(given[99]));
    assert_eq!(shown[99], given[99]);
}

#[test]
fn what_is_no_window_begins_anew() {
    let empty = || Window::brief(WindowSpec::Samples(5));
    let mut window = empty();
    (0..9).for_each(|i| window.push(sample(i * i, i as f64 * 0.3)));
    let bytes = postcard::to_allocvec(&window).unwrap();
    for at in 0..bytes.len() {
        for change in [1, 0x40, 0x80] {
            let mut bytes = bytes.clone();
            bytes[at] ^= change;
            if let Ok(read) = postcard::from_bytes::<Window>(&bytes) {
                let mut read = read.refit(empty());
                assert!(read.iter().all(|sample| sample.value.is_finite()));
                (0..20).for_each(|i| read.push(sample(100 + i, 0.7 * i as f64)));
                assert_eq!(read.len(), 5, "{at}");
                assert_eq!(read.iter().count(), 5, "{at}");
            }
        }
    }
}
