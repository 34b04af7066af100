use std::time::Duration;

use super::*;
use crate::model::{AbsenceSpec, Measure, OwnSettings};

/// Feeds samples `every` so many seconds, then silence in ticks of ten; after how many seconds of it the
/// warning and the critical threshold were reached.
fn silence_after(after: Option<u64>, every: &[i64], samples: usize) -> (Option<i64>, Option<i64>) {
    let mut rule = rule("absence");
    rule.sigma.warning = 4.0;
    rule.min_samples = 30;
    rule.detector.own = OwnSettings::Absence(AbsenceSpec {
        after: after.map(Duration::from_secs),
    });
    let mut detector = build(&rule, SignalKind::Value).unwrap();
    let window = Window::new(WindowSpec::Samples(2));
    let mut now = 0;
    for n in 0..samples {
        now += every[n % every.len()];
        let sample = Sample {
            time: Timestamp::from_secs(now),
            value: 1.0,
        };
        if let Verdict::Judged(judged) = detector.observe(sample, 1, &window) {
            assert_eq!(judged.sigma, 0.0);
        }
        // What lies between is silence, and ordinary.
        for _ in 1..every[(n + 1) % every.len()] / 10 {
            let judged = detector.silent(sample.time, Duration::from_secs(10), &window);
            assert!(judged.is_none_or(|judged| judged.sigma < 4.0), "{n}");
        }
    }
    // A restart in the middle of it is forgiven.
    let saved = detector.save();
    let mut detector = build(&rule, SignalKind::Value).unwrap();
    detector.restore(&saved).unwrap();
    let (mut warned, mut critical) = (None, None);
    for tick in 1..1000 {
        let boundary = Timestamp::from_secs(now + tick * 10);
        let judged = detector.silent(boundary, Duration::from_secs(10), &window);
        let Some(judged) = judged else { continue };
        assert_eq!(judged.evidence.measure, Measure::Silence);
        if judged.sigma >= 4.0 {
            warned.get_or_insert(judged.observed.unwrap() as i64);
        }
        if judged.sigma >= 6.0 {
            critical.get_or_insert(judged.observed.unwrap() as i64);
        }
    }
    let back = Sample {
        time: Timestamp::from_secs(now + 10_000),
        value: 1.0,
    };
    if let Verdict::Judged(judged) = detector.observe(back, 1, &window) {
        assert_eq!((judged.sigma, judged.observed), (0.0, Some(0.0)));
    }
    assert!(detector.bytes() < 500);
    (warned, critical)
}

#[test]
fn silence_is_five_times_the_usual_interval_and_at_least_a_minute() {
    assert_eq!(silence_after(None, &[10], 60), (Some(60), Some(180)));
    // It was silent for its last interval but one tick already.
    assert_eq!(silence_after(None, &[60], 60), (Some(300), Some(900)));
    // A third of the exports is lost, or comes late.
    assert_eq!(
        silence_after(None, &[20, 20, 40], 120),
        (Some(300), Some(900))
    );
}

#[test]
fn a_fixed_time_needs_no_learning_and_what_was_there_for_a_moment_may_go() {
    assert_eq!(silence_after(Some(120), &[10], 2), (Some(120), Some(360)));
    assert_eq!(silence_after(None, &[10], 20), (None, None));
    assert_eq!(silence_after(None, &[60], 20), (None, None));
}
