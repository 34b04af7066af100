use proptest::prelude::*;

use super::Adaptive;
use crate::detect::Detector;
use crate::model::{
    DetectorSpec, Direction, For, Judged, Labels, Rule, Sample, Selector, SigmaThresholds,
    SignalKind, Timestamp, Verdict, WindowSpec,
};
use crate::window::Window;

const WARNING: f64 = 4.0;

fn adaptive(kind: SignalKind) -> Adaptive {
    let rule = Rule {
        alert: "Test".into(),
        selector: Selector::default(),
        detector: DetectorSpec {
            name: "adaptive".into(),
            ..DetectorSpec::default()
        },
        sigma: SigmaThresholds {
            warning: WARNING,
            critical: Some(6.0),
        },
        direction: Direction::Both,
        hold: For::Samples { n: 1, of: 1 },
        resolve_sigma: 1.0,
        resolve_samples: 3,
        min_samples: 30,
        min_change: 0.0,
        min_change_ratio: 0.0,
        labels: Labels::default(),
        annotations: Labels::default(),
    };
    Adaptive::new(&rule, kind)
}

/// A detector on a signal with a sample every so many seconds.
struct Signal {
    detector: Adaptive,
    every: i64,
    now: i64,
    noise: u64,
}

impl Signal {
    fn every(seconds: i64) -> Self {
        Self {
            detector: adaptive(SignalKind::Value),
            every: seconds,
            // A Monday.
            now: 1_767_571_200,
            noise: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn give(&mut self, value: f64) -> Verdict {
        self.now += self.every;
        let sample = Sample {
            time: Timestamp::from_secs(self.now),
            value,
        };
        let empty = Window::new(WindowSpec::Samples(100));
        self.detector.observe(sample, 1, &empty)
    }

    fn judge(&mut self, value: f64) -> Judged {
        match self.give(value) {
            Verdict::Judged(judged) => judged,
            Verdict::Learning { remaining } => panic!("still learning, {remaining} to go"),
        }
    }

    /// Nearly normal: the sum of twelve uniform numbers, by xorshift.
    fn noise(&mut self) -> f64 {
        let uniform = |_| {
            self.noise ^= self.noise << 13;
            self.noise ^= self.noise >> 7;
            self.noise ^= self.noise << 17;
            (self.noise >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..12).map(uniform).sum::<f64>() - 6.0
    }

    /// So many samples around `level`, and how many of them are anomalies.
    fn calm(&mut self, samples: u32, level: f64) -> u32 {
        let anomalous = (0..samples).filter(|_| {
            let value = level + self.noise();
            matches!(self.give(value), Verdict::Judged(j) if j.sigma.abs() >= WARNING)
        });
        anomalous.count() as u32
    }
}

#[test]
fn the_warm_up_is_thirty_samples_and_counts_down() {
    let mut signal = Signal::every(10);
    for n in 0..30 {
        let value = 10.0 + signal.noise();
        let learning = Verdict::Learning { remaining: 30 - n };
        assert_eq!(signal.give(value), learning);
    }
    assert!(matches!(signal.give(10.0), Verdict::Judged(_)));
}

#[test]
fn a_rule_that_is_new_on_an_old_signal_has_nothing_to_wait_for() {
    let mut window = Window::new(WindowSpec::Samples(100));
    for n in 0..60 {
        window.push(Sample {
            time: Timestamp::from_secs(n * 10),
            value: 5.0 + 0.1 * (n % 7) as f64,
        });
    }
    let sample = Sample {
        time: Timestamp::from_secs(600),
        value: 50.0,
    };
    let verdict = adaptive(SignalKind::Value).observe(sample, 1, &window);
    assert!(matches!(verdict, Verdict::Judged(judged) if judged.sigma >= WARNING));
}

#[test]
fn one_outlier_is_found_and_teaches_nothing() {
    let mut signal = Signal::every(10);
    signal.calm(1000, 100.0);
    let before = signal.judge(100.0);
    let outlier = signal.judge(200.0);
    assert!(outlier.sigma >= WARNING, "{}", outlier.sigma);
    assert!(outlier.evidence.never_seen);
    assert_eq!(outlier.evidence.history.as_secs(), 1001 * 10);
    let after = signal.judge(100.5);
    assert!(after.sigma.abs() < 2.0, "{}", after.sigma);
    assert!((after.expected - before.expected).abs() < 0.1);
    assert!(signal.calm(500, 100.0) <= 1);
}

#[test]
fn a_lasting_shift_stays_an_anomaly_is_reported_once_and_becomes_normal_at_once() {
    let mut signal = Signal::every(10);
    signal.calm(2000, 100.0);
    let (mut reports, mut anomalous, mut later, mut releveled) = (0, 0, 0, None);
    for n in 1..=400 {
        let value = 108.0 + signal.noise();
        let judged = signal.judge(value);
        reports += u32::from(judged.evidence.report >= WARNING);
        anomalous += u32::from(releveled.is_none() && judged.sigma.abs() >= WARNING);
        if let Some(from) = judged.evidence.relevelled_from {
            assert!((from - 100.0).abs() < 1.0, "{from}");
            releveled = Some(n);
        }
        if releveled.is_some_and(|at| n > at) {
            later += u32::from(judged.sigma.abs() >= WARNING);
            assert!((judged.expected - 108.0).abs() < 1.0);
        }
    }
    // The first reports may grow while it becomes clear how bad it is.
    assert!((1..=4).contains(&reports), "{reports}");
    let lasted = releveled.expect("it has become normal");
    assert!((180..=190).contains(&lasted), "{lasted}");
    // Its own extremes are still to be seen.
    assert!(later <= 2, "{later}");
    assert!(anomalous > lasted - 30, "{anomalous} of {lasted}");

    // Back where it came from is nothing new.
    let back = signal.calm(300, 100.0);
    assert!(back <= 15, "{back}");
}

#[test]
fn a_small_shift_is_found_within_minutes() {
    let mut signal = Signal::every(10);
    signal.calm(2000, 100.0);
    let found = (1..=30).position(|_| {
        let value = 103.0 + signal.noise();
        signal.judge(value).sigma >= WARNING
    });
    assert!(found.is_some_and(|n| n < 15), "{found:?}");
}

#[test]
fn a_daily_course_is_learned_in_two_days_and_its_absence_is_an_anomaly() {
    let mut signal = Signal::every(300);
    let usual = |now: i64| {
        let hour = (now % 86_400) as f64 / 86_400.0;
        100.0 - 60.0 * (hour * std::f64::consts::TAU).cos()
    };
    let day = |signal: &mut Signal, traffic: f64| {
        let anomalous = (0..288).filter(|_| {
            let value = traffic * usual(signal.now + signal.every) + signal.noise();
            signal.judge_or_none(value) >= WARNING
        });
        anomalous.count()
    };
    day(&mut signal, 1.0);
    day(&mut signal, 1.0);
    assert_eq!(signal.detector.season(), Some("day"));
    let later: Vec<_> = (0..5).map(|_| day(&mut signal, 1.0)).collect();
    assert!(later.iter().sum::<usize>() <= 2, "{later:?}");
    // Half of the traffic at noon is what midnight has: no level and no spread would say so.
    let half = day(&mut signal, 0.6);
    assert!(half >= 20, "{half}");
}

impl Signal {
    fn judge_or_none(&mut self, value: f64) -> f64 {
        match self.give(value) {
            Verdict::Judged(judged) => judged.sigma.abs(),
            Verdict::Learning { .. } => 0.0,
        }
    }
}

#[test]
fn what_drifts_grows_or_hardly_moves_is_no_anomaly_for_ever() {
    let mut drift = Signal::every(10);
    let anomalous: u32 = (0..20_000)
        .map(|n| drift.calm(1, f64::from(n) * 0.002))
        .sum();
    assert!(anomalous <= 20, "{anomalous}");
    let mut constant = Signal::every(10);
    for n in 0..5000 {
        let jitter = 1e-9 * constant.noise();
        let sigma = constant.judge_or_none(5.0 + jitter);
        assert!(sigma < WARNING, "{n}: {sigma}");
    }
}

#[test]
fn three_where_thirty_are_usual_is_an_anomaly_on_a_rate() {
    let mut signal = Signal::every(10);
    signal.detector = adaptive(SignalKind::Rate);
    let observe = |signal: &mut Signal, count: f64| {
        signal.now += 10;
        let sample = Sample {
            time: Timestamp::from_secs(signal.now),
            value: count / 10.0,
        };
        let empty = Window::new(WindowSpec::Samples(100));
        signal.detector.observe(sample, count as u64, &empty)
    };
    for _ in 0..100 {
        let count = (30.0 + 5.5 * signal.noise()).round().max(0.0);
        observe(&mut signal, count);
    }
    let Verdict::Judged(judged) = observe(&mut signal, 3.0) else {
        panic!("100 samples are enough")
    };
    assert!(judged.sigma <= -WARNING, "{judged:?}");
    assert!((judged.expected - 3.0).abs() < 0.5, "{judged:?}");
    assert!(judged.lower > 0.3 && judged.lower < 3.0);
}

#[test]
fn it_stays_within_its_three_kibibytes() {
    let mut signal = Signal::every(1800);
    for n in 0..3000 {
        let weekend = if n / 48 % 7 >= 5 { 0.3 } else { 1.0 };
        let value = weekend * (100.0 + f64::from(n % 48)) + signal.noise();
        signal.give(value);
    }
    assert_eq!(signal.detector.season(), Some("week"));
    assert!(
        signal.detector.bytes() <= 3 * 1024,
        "{}",
        signal.detector.bytes()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_sample_is_outside_of_the_band_if_and_only_if_it_is_an_anomaly(
        values in prop::collection::vec(
            prop_oneof![8 => -3.0..3.0f64, 1 => -1e3..1e3f64, 1 => Just(0.0)], 100..600),
    ) {
        let mut signal = Signal::every(60);
        for value in values {
            let Verdict::Judged(judged) = signal.give(value) else { continue };
            let outside = value < judged.lower || value > judged.upper;
            let far = judged.sigma.abs() >= WARNING;
            // At the very edge rounding decides.
            let reach = 0.5 * (judged.upper - judged.lower);
            let edge = ((value - judged.expected).abs() - reach).abs() <= 1e-9 * reach.max(1e-9);
            prop_assert!(outside == far || edge, "{value} {judged:?}");
        }
    }

    #[test]
    fn what_was_saved_goes_on_as_if_nothing_had_been(
        seed in any::<u64>(), cut in 1usize..400,
    ) {
        let mut signal = Signal::every(600);
        signal.noise = seed | 1;
        let mut other = adaptive(SignalKind::Value);
        for n in 0..500 {
            let value = 50.0 + signal.noise() + if n % 97 > 90 { 30.0 } else { 0.0 };
            let time = Timestamp::from_secs(signal.now + signal.every);
            let empty = Window::new(WindowSpec::Samples(100));
            let expected = signal.give(value);
            let found = other.observe(Sample { time, value }, 1, &empty);
            prop_assert_eq!(found, expected);
            if n == cut {
                let saved = other.save();
                other = adaptive(SignalKind::Value);
                other.restore(&saved).expect("what was saved is read");
            }
        }
    }
}

#[test]
fn a_value_never_seen_is_no_less_surprising_while_it_lasts() {
    // Three days of a noisy daily course by the minute, then nothing at all.
    let mut signal = Signal::every(60);
    for minute in 0..3 * 1440 {
        let course = 100.0 + 40.0 * (f64::from(minute) * std::f64::consts::TAU / 1440.0).sin();
        let noise = signal.noise();
        signal.give(course + 8.0 * noise);
    }
    let beyond = (0..40).filter(|_| signal.judge(0.0).sigma.abs() >= WARNING);
    assert!(beyond.count() >= 38);
}

#[test]
fn a_nightly_job_is_no_news_after_two_nights() {
    let mut signal = Signal::every(60);
    let mut nights = Vec::new();
    for night in 0..6 {
        // It starts some minutes earlier or later, and takes forty minutes.
        let start = [122, 119, 121, 118, 123, 120][night];
        let mut beyond = 0;
        for minute in 0..1440 {
            let busy = (start..start + 40).contains(&minute);
            let value = if busy { 310.0 } else { 10.0 } + signal.noise();
            if let Verdict::Judged(judged) = signal.give(value) {
                beyond += usize::from(busy && judged.sigma >= WARNING);
            }
        }
        nights.push(beyond);
    }
    assert!(nights[0] >= 3, "{nights:?}");
    assert!(nights[2..].iter().all(|beyond| *beyond < 3), "{nights:?}");
}

#[test]
fn no_band_reaches_where_values_cannot_be() {
    let mut ratio = Signal {
        detector: adaptive(SignalKind::ErrorRatio),
        ..Signal::every(10)
    };
    let mut latency = Signal::every(10);
    for at in 0..500 {
        let noise = latency.noise();
        let (one, other) = (
            ratio.give(f64::from(at % 3) * 1e-3),
            latency.give(noise.exp()),
        );
        for verdict in [one, other] {
            if let Verdict::Judged(judged) = verdict {
                assert!(judged.lower >= 0.0, "{judged:?}");
            }
        }
    }
    assert!(ratio.judge(1.0).upper <= 1.0);
    assert!(latency.judge(-1.0).lower <= 1.0);
}
