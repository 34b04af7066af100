use std::time::Duration;

use super::*;
use crate::model::{Burn, Measure, OwnSettings, SeverityLabel, SloSpec};

/// Ticks of `TICK` seconds through a detector.
struct Play {
    detector: Box<dyn Detector>,
    rule: Rule,
    window: Window,
    tick: i64,
    now: i64,
    seed: u64,
}

fn objective(target: Option<f64>, objective: Option<f64>) -> SloSpec {
    SloSpec {
        target,
        objective,
        words: if target.is_some() {
            "300ms".into()
        } else {
            "".into()
        },
        ..SloSpec::default()
    }
}

impl Play {
    fn new(spec: SloSpec, kind: SignalKind, tick: i64) -> Self {
        let mut rule = rule("slo");
        rule.sigma.warning = 4.0;
        (rule.detector.lower, rule.detector.upper) = (None, None);
        rule.detector.own = OwnSettings::Slo(spec);
        Self {
            detector: build(&rule, kind).unwrap(),
            rule,
            window: Window::new(WindowSpec::Samples(100)),
            tick,
            now: 1_800_000_000,
            seed: 7,
        }
    }

    fn random(&mut self) -> f64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }

    fn tick(&mut self, value: f64, weight: u64) -> Judged {
        self.now += self.tick;
        let sample = Sample {
            time: Timestamp::from_secs(self.now),
            value,
        };
        match self.detector.observe(sample, weight, &self.window) {
            Verdict::Judged(judged) => judged,
            learning @ Verdict::Learning { .. } => panic!("{learning:?}"),
        }
    }

    fn label(&self, judged: &Judged) -> Option<SeverityLabel> {
        match judged.sigma {
            sigma if sigma >= self.rule.sigma.critical.unwrap() => Some(SeverityLabel::Critical),
            sigma if sigma >= self.rule.sigma.warning => Some(SeverityLabel::Warning),
            _ => None,
        }
    }

    /// `ticks` like this; after how many the first was an anomaly, and how severe the worst was.
    fn run(&mut self, ticks: i64, value: f64, weight: u64) -> Option<(i64, SeverityLabel)> {
        let mut first = None;
        let mut worst = None;
        for n in 1..=ticks {
            let judged = self.tick(value, weight);
            if let Some(label) = self.label(&judged) {
                first.get_or_insert(n);
                worst = worst.max(Some(label));
            }
        }
        first.zip(worst)
    }

    /// `ticks` of so many requests on average, of which each is bad with a probability; gives the signal
    /// what the tick would.
    fn random_ticks(
        &mut self,
        ticks: i64,
        mean: f64,
        bad: f64,
        slow: bool,
    ) -> Option<(i64, SeverityLabel)> {
        let mut first = None;
        let mut worst = None;
        for n in 1..=ticks {
            let (limit, mut product, mut count) = ((-mean).exp(), self.random(), 0u64);
            while product > limit {
                product *= self.random();
                count += 1;
            }
            let failed = (0..count).filter(|_| self.random() < bad).count() as f64;
            if count == 0 {
                self.now += self.tick;
                continue;
            }
            let value = if slow {
                // The 95th percentile is slow if more than a twentieth is.
                if failed > (0.05 * count as f64).floor() {
                    1.0
                } else {
                    0.1
                }
            } else {
                failed / count as f64
            };
            let judged = self.tick(value, count);
            if let Some(label) = self.label(&judged) {
                first.get_or_insert(n);
                worst = worst.max(Some(label));
            }
        }
        first.zip(worst)
    }
}

fn errors(tick: i64) -> Play {
    Play::new(objective(None, None), SignalKind::ErrorRatio, tick)
}

fn p95(tick: i64) -> Play {
    Play::new(objective(Some(0.3), None), SignalKind::P95, tick)
}

/// Of the budget of 0.1 %, 14.4 times as much over an hour are 51.84 seconds of failure.
#[test]
fn a_failure_of_everything_is_critical_after_a_minute_and_over_five_minutes_after_it_ended() {
    let mut play = errors(10);
    assert_eq!(play.run(400, 0.0, 1000), None);
    assert_eq!(play.run(30, 1.0, 1000), Some((6, SeverityLabel::Critical)));
    let judged = play.tick(1.0, 1000);
    // 31 of 360 ticks failed: 86 times the budget over the hour; over five minutes a thousand times.
    assert!((judged.observed.unwrap() - 31.0 / 360.0 / 0.001).abs() < 0.01 * 86.0);
    assert_eq!((judged.expected, judged.upper), (1.0, 14.4));
    assert_eq!(judged.evidence.measure, Measure::BurnRate);
    assert_eq!(
        judged.evidence.channel,
        "error budget of 0.1 % over 1h and 5m"
    );
    let mut calm_after = None;
    for n in 1..=6 * 360 {
        let judged = play.tick(0.0, 1000);
        if judged.sigma < 3.0 {
            calm_after.get_or_insert(n);
        } else {
            assert!(
                calm_after.is_none(),
                "what was told is not told again, in tick {n}"
            );
        }
    }
    let calm_after = calm_after.unwrap();
    assert!((20..=31).contains(&calm_after), "{calm_after}");
}

/// Seven times the budget is a warning when six hours have burnt six times: after 6/7 of them.
#[test]
fn slow_burns_are_warnings_once_their_long_window_has_seen_enough() {
    let mut play = errors(60);
    assert_eq!(play.run(12 * 60, 0.0, 10_000), None);
    let (after, label) = play.run(12 * 60, 0.007, 10_000).unwrap();
    assert_eq!(label, SeverityLabel::Warning);
    assert!((305..=315).contains(&after), "{after}");
    // Twice the budget: half of three days.
    let mut play = errors(600);
    assert_eq!(play.run(4 * 144, 0.0, 100_000), None);
    let (after, label) = play.run(3 * 144, 0.002, 100_000).unwrap();
    assert_eq!(label, SeverityLabel::Warning);
    assert!((213..=223).contains(&after), "{after}");
    // Half of the budget: never.
    let mut play = errors(600);
    assert_eq!(play.run(9 * 144, 0.000_5, 100_000), None);
}

#[test]
fn a_new_service_must_use_up_as_much_of_its_budget_as_an_old_one() {
    assert_eq!(
        errors(10).run(30, 1.0, 1000),
        Some((7, SeverityLabel::Critical))
    );
    assert_eq!(
        p95(10).run(60, 1.0, 1000),
        Some((53, SeverityLabel::Critical))
    );
    let mut play = p95(10);
    assert_eq!(play.run(360, 0.1, 1000), None);
    // 1 % of an hour, 14.4 times: 8.64 minutes.
    assert_eq!(play.run(60, 1.0, 1000), Some((52, SeverityLabel::Critical)));
    let judged = play.tick(1.0, 1000);
    assert_eq!(
        judged.evidence.channel,
        "error budget of 1 % (p95 at most 300ms) over 1h and 5m"
    );
}

#[test]
fn three_requests_a_minute_do_not_page_unless_they_fail() {
    // Twice as good as promised, for three days.
    assert_eq!(errors(10).random_ticks(3 * 8640, 0.5, 0.000_5, false), None);
    // A single failure among them, for a service that has just begun and for an old one.
    let mut play = errors(10);
    for _ in 0..3 {
        play.tick(0.0, 1);
    }
    let judged = play.tick(1.0, 1);
    assert!(judged.sigma < 4.0, "{judged:?}");
    // All of them fail: nine of 180 in an hour are beyond chance, five are fewest.
    let mut play = errors(10);
    assert_eq!(play.random_ticks(400, 0.5, 0.0, false), None);
    let (after, label) = play.random_ticks(400, 0.5, 1.0, false).unwrap();
    assert_eq!(label, SeverityLabel::Critical);
    assert!(after * 10 < 300, "{after}");
}

/// The 95th percentile of one request is that request: of a service that just keeps its target, a
/// twentieth of such ticks is beyond it.
#[test]
fn percentiles_of_a_few_requests_are_no_proof_and_of_slow_ones_soon_are() {
    for mean in [0.5, 2.0, 5.0, 10.0] {
        let mut play = p95(10);
        // Well within the target: one in a hundred is slow.
        assert_eq!(play.random_ticks(8640, mean, 0.01, true), None, "{mean}");
        let (after, label) = play.random_ticks(200, mean, 1.0, true).unwrap();
        assert_eq!(label, SeverityLabel::Critical, "{mean}");
        assert!(after * 10 < 900, "{mean}: {after}");
    }
}

#[test]
fn throughput_has_a_lower_target_and_values_have_either() {
    let mut play = Play::new(objective(Some(5.0), Some(0.99)), SignalKind::Rate, 10);
    assert_eq!(play.run(360, 8.0, 80), None);
    // Empty ticks of a service that is alive weigh as much as others.
    assert_eq!(play.run(60, 0.0, 1), Some((52, SeverityLabel::Critical)));
    let mut rule = play.rule.clone();
    rule.detector.own = OwnSettings::Slo(objective(None, None));
    assert!(build(&rule, SignalKind::Value).is_err(), "no target");
    rule.detector.lower = Some(0.9);
    rule.detector.upper = Some(1.0);
    play.detector = build(&rule, SignalKind::Value).unwrap();
    assert_eq!(play.run(360, 0.95, 1), None);
    assert_eq!(play.run(60, 0.5, 1), Some((52, SeverityLabel::Critical)));
}

#[test]
fn ticks_of_any_length_gaps_and_late_restarts_are_borne() {
    // One bad tick of an hour is not enough, two are.
    let mut play = errors(3600);
    assert_eq!(play.run(48, 0.0, 100_000), None);
    assert_eq!(
        play.run(3, 1.0, 100_000),
        Some((2, SeverityLabel::Critical))
    );
    // A night without data, then calm.
    let mut play = errors(10);
    play.run(300, 0.0, 1000);
    play.run(30, 1.0, 1000);
    play.now += 12 * 3600;
    assert_eq!(play.run(300, 0.0, 1000), None);
    // Stopped in the middle of a failure, and begun anew two minutes later.
    play.run(4, 1.0, 1000);
    let saved = play.detector.save();
    play.detector = build(&play.rule, SignalKind::ErrorRatio).unwrap();
    play.detector.restore(&saved).unwrap();
    play.now += 120;
    assert_eq!(play.run(4, 1.0, 1000), Some((1, SeverityLabel::Critical)));
    assert!(play.detector.bytes() < 2500, "{}", play.detector.bytes());
}

#[test]
fn own_windows_and_names() {
    let burn = |long, rate, severity| Burn {
        long: Duration::from_secs(long),
        short: Duration::from_secs(long / 12),
        rate,
        severity,
    };
    let spec = SloSpec {
        burns: [
            burn(7200, 2.0, SeverityLabel::Warning),
            burn(600, 20.0, SeverityLabel::Critical),
        ]
        .into(),
        ..objective(None, Some(0.99))
    };
    let mut play = Play::new(spec, SignalKind::ErrorRatio, 10);
    play.run(720, 0.0, 1000);
    // 20 % of ten minutes are twelve ticks; and proof that it is not less is one more.
    assert_eq!(play.run(30, 1.0, 1000), Some((13, SeverityLabel::Critical)));
    assert_eq!(
        play.tick(1.0, 1000).evidence.channel,
        "error budget of 1 % over 10m and 50s"
    );
}
