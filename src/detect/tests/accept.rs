//! What a person calls normal is normal from then on, and something else is found as before.

use crate::detect::{Detector, build};
use crate::model::{Rule, Sample, SignalKind, Timestamp, Verdict, WindowSpec};
use crate::window::Window;

const LEARNING: [&str; 3] = ["adaptive", "zscore", "robust"];

fn rule(detector: &str) -> Rule {
    let mut rule = super::rule(detector);
    rule.sigma.warning = 4.0;
    rule.min_samples = 30;
    rule
}

struct Signal {
    detector: Box<dyn Detector>,
    window: Window,
    now: i64,
    noise: u64,
}

impl Signal {
    fn new(detector: &str, kind: SignalKind, seed: u64) -> Self {
        Self {
            detector: build(&rule(detector), kind).expect(detector),
            window: Window::new(WindowSpec::Samples(100)),
            now: 1_767_571_200,
            noise: seed,
        }
    }

    /// Between -1 and 1, more often near 0.
    fn noise(&mut self) -> f64 {
        let mut one = || {
            self.noise ^= self.noise << 13;
            self.noise ^= self.noise >> 7;
            self.noise ^= self.noise << 17;
            (self.noise >> 11) as f64 / (1_u64 << 53) as f64
        };
        (one() + one() + one() + one()) / 2.0 - 1.0
    }

    /// Gives `count` samples around `level`; how many of them deviated.
    fn give(&mut self, level: f64, spread: f64, count: usize) -> usize {
        let mut deviated = 0;
        for _ in 0..count {
            self.now += 10;
            let sample = Sample {
                time: Timestamp::from_secs(self.now),
                value: level + spread * self.noise(),
            };
            let verdict = self.detector.observe(sample, 1_000, &self.window);
            self.window.push(sample);
            deviated += usize::from(match verdict {
                Verdict::Learning { .. } => false,
                Verdict::Judged(judged) => judged.sigma.abs() >= 4.0,
            });
        }
        deviated
    }
}

#[test]
fn what_was_called_normal_deviates_no_more_and_other_levels_do() {
    for detector in LEARNING {
        for kind in [SignalKind::Value, SignalKind::Rate] {
            for (level, spread) in [(150.0, 15.0), (300.0, 30.0), (1_000.0, 90.0), (50.0, 10.0)] {
                for seed in 1..=5 {
                    let case = format!("{detector} {kind:?} {level} {seed}");
                    let mut signal = Signal::new(detector, kind, seed);
                    signal.give(100.0, 10.0, 400);
                    let since = Timestamp::from_secs(signal.now + 10);
                    assert!(signal.give(level, spread, 5) >= 3, "{case} is found");
                    assert!(signal.detector.accept(since, &signal.window), "{case}");
                    // It survives a restart.
                    let saved = signal.detector.save();
                    let mut again = build(&rule(detector), kind).expect(detector);
                    again.restore(&saved).expect("what was saved");
                    signal.detector = again;
                    let deviated = signal.give(level, spread, 300);
                    assert!(deviated <= 1, "{case}: {deviated} of 300 deviate");
                    let other = signal.give(level * 3.0, spread, 3);
                    assert!(other >= 1, "{case}: {other} of 3 are found");
                }
            }
        }
    }
}

#[test]
fn calling_nothing_normal_changes_little() {
    for detector in LEARNING {
        let mut signal = Signal::new(detector, SignalKind::Value, 7);
        let mut twin = Signal::new(detector, SignalKind::Value, 7);
        // Before anything was learned, and while nothing goes on.
        let now = Timestamp::from_secs(signal.now);
        signal.detector.accept(now, &signal.window);
        signal.give(100.0, 10.0, 400);
        twin.give(100.0, 10.0, 400);
        let since = Timestamp::from_secs(signal.now - 600);
        assert!(signal.detector.accept(since, &signal.window));
        let expected = twin.give(100.0, 10.0, 200);
        assert!(signal.give(100.0, 10.0, 200) <= expected + 1, "{detector}");
        assert!(signal.give(300.0, 10.0, 3) >= 2, "{detector}");
    }
}

#[test]
fn a_fixed_bound_cannot_be_taught() {
    let mut signal = Signal::new("threshold", SignalKind::Value, 7);
    signal.give(100.0, 10.0, 50);
    let now = Timestamp::from_secs(signal.now);
    assert!(!signal.detector.accept(now, &signal.window));
}

#[test]
fn silence_that_is_normal_is_told_no_more() {
    let mut signal = Signal::new("absence", SignalKind::Value, 7);
    signal.give(1.0, 0.0, 100);
    let silent = |signal: &mut Signal, seconds: i64| {
        let mut told = 0;
        for _ in 0..seconds / 10 {
            signal.now += 10;
            let boundary = Timestamp::from_secs(signal.now);
            let listened = std::time::Duration::from_secs(10);
            let judged = signal.detector.silent(boundary, listened, &signal.window);
            told += usize::from(judged.is_some_and(|judged| judged.sigma >= 4.0));
        }
        told
    };
    assert!(silent(&mut signal, 600) > 10);
    let now = Timestamp::from_secs(signal.now);
    assert!(signal.detector.accept(now, &signal.window));
    assert_eq!(silent(&mut signal, 86_400), 0);
    // Once it has been heard for a while again, its silence is news again.
    signal.give(1.0, 0.0, 100);
    assert!(silent(&mut signal, 600) > 10);
}
