mod absence;
mod accept;
mod forecast;
mod slo;

use proptest::prelude::*;

use super::{Detector, MAX_SIGMA, REGISTRY, build, names};
use crate::model::{
    DetectorSpec, Direction, For, Judged, Labels, Rule, Sample, Selector, SigmaThresholds,
    SignalKind, Timestamp, Verdict, WindowSpec,
};
use crate::window::Window;

fn rule(detector: &str) -> Rule {
    Rule {
        alert: "Test".into(),
        selector: Selector::default(),
        detector: DetectorSpec {
            name: detector.into(),
            lower: Some(-10.0),
            upper: Some(10.0),
            ..DetectorSpec::default()
        },
        sigma: SigmaThresholds {
            warning: 2.5,
            critical: Some(6.0),
        },
        direction: Direction::Both,
        hold: For::Samples { n: 1, of: 1 },
        resolve_sigma: 1.0,
        resolve_samples: 3,
        min_samples: 5,
        min_change: 0.0,
        min_change_ratio: 0.0,
        labels: Labels::default(),
        annotations: Labels::default(),
    }
}

/// What a detector says of the last of `values`, having seen the others.
fn last_verdict(rule: &Rule, values: &[f64]) -> Verdict {
    let mut detector = build(rule, SignalKind::Value).unwrap();
    let mut window = Window::new(WindowSpec::Samples(100));
    let mut verdict = Verdict::Learning { remaining: 0 };
    for (i, value) in values.iter().enumerate() {
        let sample = Sample {
            time: Timestamp::from_secs(i as i64),
            value: *value,
        };
        verdict = detector.observe(sample, 1, &window);
        window.push(sample);
    }
    verdict
}

#[track_caller]
fn judged(detector: &str, values: &[f64]) -> Judged {
    match last_verdict(&rule(detector), values) {
        Verdict::Judged(judged) => judged,
        learning @ Verdict::Learning { .. } => panic!("{learning:?}"),
    }
}

#[test]
fn a_textbook_zscore() {
    // Mean 5, sample standard deviation √(32/7).
    let judged = judged("zscore", &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, 11.0]);
    let stddev = (32.0f64 / 7.0).sqrt();
    assert_eq!(judged.expected, 5.0);
    assert!((judged.sigma - 6.0 / stddev).abs() < 1e-12);
    assert!((judged.upper - (5.0 + 2.5 * stddev)).abs() < 1e-12);
    assert!((judged.lower - (5.0 - 2.5 * stddev)).abs() < 1e-12);
    assert_eq!(judged.evidence.samples, 8);
}

#[test]
fn without_any_spread_a_thousandth_of_the_level_is_one_sigma() {
    for detector in ["zscore", "robust"] {
        let mut values = vec![200.0; 50];
        assert_eq!(judged(detector, &values).sigma, 0.0);
        values.push(200.2);
        // `robust` knows that its spread comes from few samples.
        let (least, most) = if detector == "zscore" {
            (1.0, MAX_SIGMA)
        } else {
            (0.9, 10.0)
        };
        let sigma = judged(detector, &values).sigma;
        assert!(
            (least - 1e-9..=1.0 + 1e-9).contains(&sigma),
            "{detector}: {sigma}"
        );
        let mut zeros = vec![0.0; 50];
        zeros.push(1.0);
        assert!(judged(detector, &zeros).sigma >= most);
        zeros.push(-1.0);
        assert!(judged(detector, &zeros).sigma < -2.5);
    }
}

#[test]
fn outliers_in_the_window_do_not_blind_the_robust_detector() {
    let mut values: Vec<f64> = (0..50).map(|i| f64::from(i % 5)).collect();
    values.extend([1e6; 10]);
    values.push(40.0);
    assert!(judged("robust", &values).sigma > 6.0);
    assert!(judged("zscore", &values).sigma.abs() < 1.0);
    // The ten are a run, and the baseline is what it was before them: 0 to 4.
    assert!((judged("robust", &values).evidence.spread - 1.4826).abs() < 1e-9);
    // Outliers here and there are outliers as everybody counts them. The median is 2, and 20 of the
    // 51 deviations from it are 1.
    let mut values: Vec<f64> = (0..50).map(|i| f64::from(i % 5)).collect();
    values[20] = 1e6;
    values.extend([2.0, 3.0]);
    let judged = judged("robust", &values);
    assert_eq!(judged.expected, 2.0);
    assert!((judged.evidence.spread - 1.4826).abs() < 1e-9);
}

#[test]
fn where_most_values_are_equal_the_root_mean_square_deviation_takes_over() {
    let mut values = vec![0.0; 40];
    values[7] = 4.0;
    values.push(1.0);
    let judged = judged("robust", &values);
    assert!((judged.evidence.spread - 1.25 * (16.0f64 / 40.0).sqrt()).abs() < 1e-9);
    assert!(judged.evidence.channel.contains("root mean square"));
}

/// How many of `values` deviate by the rule's threshold.
fn deviations(detector: &str, values: &[f64]) -> Vec<usize> {
    let rule = rule(detector);
    let mut detector = build(&rule, SignalKind::Value).unwrap();
    let mut window = Window::new(WindowSpec::Samples(100));
    let mut found = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let sample = Sample {
            time: Timestamp::from_secs(i as i64),
            value: *value,
        };
        if let Verdict::Judged(judged) = detector.observe(sample, 1, &window)
            && judged.sigma.abs() >= rule.sigma.warning
        {
            found.push(i);
        }
        window.push(sample);
    }
    found
}

/// A queue that is empty but for one in ten looks, and a value with a long tail, paged every hour.
#[test]
fn a_tail_that_is_always_there_is_no_surprise() {
    let rare: Vec<f64> = (0..1000)
        .map(|i| f64::from(u8::from(i * 7 % 10 == 3)))
        .collect();
    assert!(deviations("robust", &rare).iter().all(|i| *i < 50));
    let long: Vec<f64> = (0..1000)
        .map(|i| (f64::from(i * 37 % 100) / 100.0).powi(4))
        .collect();
    let most = deviations("robust", &long).len();
    assert!(most < 50, "{most}");
}

/// An incident that goes on must go on being seen, also where nothing ever happened before, and must
/// be taken for the normal state when it has lasted for half of the window.
#[test]
fn a_run_of_deviations_does_not_teach_before_it_is_half_of_the_window() {
    for before in [30, 50, 100, 300] {
        for noise in [0.0, 1.0] {
            let calm = (0..before).map(|i| noise * f64::from(i * 7 % 5));
            let values: Vec<f64> = calm.chain([60.0; 150]).collect();
            let found = deviations("robust", &values);
            let half = (before as usize).min(50);
            let expected: Vec<usize> = (before as usize..before as usize + half).collect();
            assert_eq!(&found[..half], expected, "{before} {noise}");
            let over = found.last().unwrap() - before as usize;
            assert!(over <= half + 5, "{before} {noise}: {over}");
        }
    }
}

/// A rate that falls from 30 spans a tick to 3 is a tenth, and was no anomaly: forty ticks say little of
/// a spread, but how counts scatter is known beforehand.
#[test]
fn a_tenth_of_the_usual_requests_is_an_anomaly_after_forty_ticks() {
    let mut found = 0;
    for seed in 0..20u64 {
        let mut state = seed << 32;
        let mut detector = build(&rule("robust"), SignalKind::Rate).unwrap();
        let mut window = Window::new(WindowSpec::Samples(100));
        for n in 0..=40 {
            // As good as Poisson's: each of 600 calls with probability 1/20 (SplitMix64).
            let mut calls = 0;
            for _ in 0..600u64 {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                calls += u64::from((mixed ^ (mixed >> 31)) < u64::MAX / 20);
            }
            let spans = if n == 40 { 3 } else { calls };
            let sample = Sample {
                time: Timestamp::from_secs(n * 10),
                value: spans as f64 / 10.0,
            };
            let verdict = detector.observe(sample, spans, &window);
            window.push(sample);
            if n < 30 {
                continue;
            }
            if let Verdict::Judged(judged) = verdict {
                let anomaly = judged.sigma.abs() >= 4.0;
                assert!(n == 40 || !anomaly, "{seed} {n}: {judged:?}");
                found += u32::from(anomaly);
                assert!(judged.lower >= 0.0 && judged.lower <= judged.upper);
            }
        }
    }
    // Where the ticks before happened to scatter more than counts do, it is not sure yet.
    assert!(found >= 17, "{found}");
}

#[test]
fn fixed_limits_judge_from_the_first_sample_and_learn_nothing() {
    for (value, sigma, expected) in [(10.0, 0.0, 10.0), (10.5, 6.0, 10.0), (-11.0, -6.0, -10.0)] {
        let judged = judged("threshold", &[value]);
        assert_eq!((judged.sigma, judged.expected), (sigma, expected));
    }
    let mut only_warning = rule("threshold");
    only_warning.sigma.critical = None;
    only_warning.detector.lower = None;
    let Verdict::Judged(judged) = last_verdict(&only_warning, &[11.0]) else {
        panic!("learning")
    };
    assert_eq!((judged.sigma, judged.lower), (2.5, f64::NEG_INFINITY));
    let mut none = rule("threshold");
    (none.detector.lower, none.detector.upper) = (None, None);
    assert!(build(&none, SignalKind::Value).is_err());
    none.detector.lower = Some(2.0);
    none.detector.upper = Some(1.0);
    assert!(build(&none, SignalKind::Value).is_err());
}

#[test]
fn learning_says_how_many_samples_are_missing() {
    for detector in ["zscore", "robust"] {
        let at = |n: usize| last_verdict(&rule(detector), &vec![1.0; n]);
        assert_eq!(at(1), Verdict::Learning { remaining: 5 });
        assert_eq!(at(5), Verdict::Learning { remaining: 1 });
        assert!(matches!(at(6), Verdict::Judged(_)));
        // A window shorter than the minimum is enough when it is full.
        let mut window = Window::new(WindowSpec::Samples(3));
        let sample = Sample {
            time: Timestamp::EPOCH,
            value: 1.0,
        };
        (0..3).for_each(|_| window.push(sample));
        let verdict = build(&rule(detector), SignalKind::Value)
            .unwrap()
            .observe(sample, 1, &window);
        assert!(matches!(verdict, Verdict::Judged(_)));
    }
}

#[test]
fn unknown_detectors_are_refused_with_the_known_ones() {
    let error = build(&rule("nope"), SignalKind::Value).err().unwrap();
    assert!(names().all(|name| error.contains(name)), "{error}");
    let mut all: Vec<_> = names().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), REGISTRY.len(), "names are different");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn zscore_is_what_a_user_computes(
        values in prop::collection::vec(-1e3..1e3f64, 7..150),
        level in prop_oneof![Just(0.0), Just(1e6), Just(-1e9)],
    ) {
        let values: Vec<f64> = values.iter().map(|v| v + level).collect();
        let judged = judged("zscore", &values);
        let (last, before) = values.split_last().unwrap();
        let before = &before[before.len().saturating_sub(100)..];
        let n = before.len() as f64;
        let mean = before.iter().map(|v| v - level).sum::<f64>() / n;
        let squares: f64 = before.iter().map(|v| (v - level - mean).powi(2)).sum();
        let sigma = (last - level - mean) / (squares / (n - 1.0)).sqrt();
        let tolerance = 1e-8 * (1.0 + sigma.abs());
        prop_assert!((judged.sigma - sigma).abs() < tolerance, "{} {sigma}", judged.sigma);
    }

    /// Whatever comes, every detector of the registry answers with numbers, in the right order; the
    /// same again when asked again; and the same after it was saved and restored in the middle.
    #[test]
    fn every_detector_is_total_deterministic_and_survives_a_restart(
        values in prop::collection::vec(
            prop_oneof![4 => -20.0..20.0f64, 1 => Just(f64::MAX), 1 => Just(f64::MIN), 1 => Just(0.0)],
            1..60,
        ),
        weights in prop::collection::vec(prop_oneof![3 => 0..9u64, 1 => any::<u64>()], 60),
        kind in prop_oneof![
            3 => Just(SignalKind::Value), 1 => Just(SignalKind::Rate), 1 => Just(SignalKind::Mean),
            1 => Just(SignalKind::ErrorRatio), 1 => Just(SignalKind::P99),
        ],
        cut in 0..60usize,
    ) {
        for name in names() {
            let rule = rule(name);
            let mut detectors: Vec<Box<dyn Detector>> =
                (0..2).map(|_| build(&rule, kind).unwrap()).collect();
            let mut window = Window::new(WindowSpec::Samples(20));
            for (i, value) in values.iter().enumerate() {
                let sample = Sample { time: Timestamp::from_secs(i as i64), value: *value };
                if i == cut {
                    let mut restored = build(&rule, kind).unwrap();
                    restored.restore(&detectors[1].save()).unwrap();
                    detectors[1] = restored;
                }
                let verdict = detectors[0].observe(sample, weights[i], &window);
                prop_assert_eq!(&verdict, &detectors[1].observe(sample, weights[i], &window));
                if let Verdict::Judged(judged) = verdict {
                    prop_assert!(judged.sigma.abs() <= MAX_SIGMA);
                    prop_assert!(judged.expected.is_finite());
                    prop_assert!(judged.evidence.spread.is_finite());
                    prop_assert!(judged.lower <= judged.upper);
                }
                window.push(sample);
                prop_assert!(detectors[0].bytes() < 64 * 1024);
            }
        }
    }

    #[test]
    fn garbage_is_refused_by_restore_without_harm(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
        for name in names() {
            let mut detector = build(&rule(name), SignalKind::Value).unwrap();
            // Whether it is refused is the detector's business; it must go on working.
            drop(detector.restore(&bytes));
            let window = Window::new(WindowSpec::Samples(20));
            let sample = Sample { time: Timestamp::EPOCH, value: 1.0 };
            detector.observe(sample, 1, &window);
        }
    }
}
