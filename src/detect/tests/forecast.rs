use std::time::Duration;

use super::*;
use crate::model::{ForecastSpec, Measure, OwnSettings};

const TICK: i64 = 10;

struct Play {
    detector: Box<dyn Detector>,
    window: Window,
    now: i64,
    seed: u64,
    last: Option<Judged>,
}

impl Play {
    fn new(lower: Option<f64>, upper: Option<f64>, unit: &str) -> Self {
        let mut rule = rule("forecast");
        rule.sigma.warning = 4.0;
        (rule.detector.lower, rule.detector.upper) = (lower, upper);
        rule.detector.own = OwnSettings::Forecast(ForecastSpec {
            horizon: Duration::from_secs(3600),
            unit: unit.into(),
        });
        Self {
            detector: build(&rule, SignalKind::Value).unwrap(),
            window: Window::new(WindowSpec::Samples(100)),
            now: 1_800_000_000,
            seed: 7,
            last: None,
        }
    }

    fn share() -> Self {
        Self::new(None, None, "1")
    }

    fn random(&mut self) -> f64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random()).sum::<f64>() - 6.0
    }

    /// Feeds `minutes` of what `value` makes of the minute and a normal number; the minute of the first
    /// anomaly, and how many samples were one.
    fn run(
        &mut self,
        minutes: i64,
        mut value: impl FnMut(f64, f64) -> f64,
    ) -> (Option<f64>, usize) {
        let (mut first, mut count) = (None, 0);
        for n in 0..minutes * 60 / TICK {
            self.now += TICK;
            let minute = (n * TICK) as f64 / 60.0;
            let noise = self.normal();
            let sample = Sample {
                time: Timestamp::from_secs(self.now),
                value: value(minute, noise),
            };
            if let Verdict::Judged(judged) = self.detector.observe(sample, 1, &self.window) {
                if judged.sigma <= -4.0 {
                    first.get_or_insert(minute);
                    count += 1;
                }
                self.last = Some(judged);
            }
            self.window.push(sample);
        }
        (first, count)
    }
}

#[test]
fn a_leak_is_foreseen_long_before_the_limit() {
    // From 40 % on, one point of a hundred a minute, in ordinary noise: an hour to the limit.
    for noise in [0.0, 0.002, 0.01] {
        let mut play = Play::share();
        assert_eq!(play.run(120, |_, n| 0.4 + noise * n), (None, 0));
        let (first, _) = play.run(55, |m, n| 0.4 + 0.01 * m + noise * n);
        let first = first.unwrap();
        assert!(first < 30.0, "noise {noise}: {first}");
        let judged = play.last.take().unwrap();
        let left = judged.observed.unwrap();
        assert!((200.0..500.0).contains(&left), "{left}");
        assert!(
            judged.sigma <= -6.0,
            "within a quarter of the horizon it is critical"
        );
        assert_eq!(judged.evidence.measure, Measure::TimeLeft);
        assert_eq!((judged.lower, judged.upper), (3600.0, f64::INFINITY));
    }
}

#[test]
fn words_say_how_fast_and_when() {
    let mut play = Play::share();
    play.run(40, |m, _| 0.4 + 0.01 * m);
    let judged = play.last.take().unwrap();
    assert_eq!(
        judged.evidence.channel,
        "rising by 1 % a minute over the last 32m, at the limit in 20m"
    );
    let mut play = Play::new(Some(0.0), None, "{token}");
    play.run(70, |m, n| 9000.0 - 80.0 * m + 60.0 * n);
    let channel = play.last.take().unwrap().evidence.channel.into_owned();
    assert!(
        channel.starts_with("falling by 8") || channel.starts_with("falling by 7"),
        "{channel}"
    );
    assert!(
        channel.contains(" token a minute over the last "),
        "{channel}"
    );
}

#[test]
fn a_budget_that_runs_out_is_foreseen_too() {
    let mut play = Play::new(Some(0.0), None, "");
    assert_eq!(play.run(120, |_, n| 10_000.0 + 20.0 * n).1, 0);
    let (first, _) = play.run(90, |m, n| 10_000.0 - 100.0 * m + 20.0 * n);
    // There are 100 minutes to go.
    assert!((35.0..60.0).contains(&first.unwrap()), "{first:?}");
}

#[test]
fn a_fast_leak_is_foreseen_ten_minutes_ahead() {
    let mut play = Play::share();
    play.run(120, |_, n| 0.3 + 0.005 * n);
    let (first, _) = play.run(28, |m, n| 0.3 + 0.025 * m + 0.005 * n);
    assert!(first.unwrap() < 18.0, "{first:?}");
}

#[test]
fn growth_that_speeds_up_is_foreseen() {
    let mut play = Play::share();
    play.run(120, |_, n| 0.2 + 0.003 * n);
    // Doubles every twenty minutes: 46 minutes to the limit.
    let (first, _) = play.run(46, |m, n| 0.2 * (m / 20.0).exp2() + 0.003 * n);
    assert!(first.unwrap() < 36.0, "{first:?}");
}

/// What must not page: minutes of it, and how many anomalies there may be.
#[test]
fn noise_walks_teeth_and_what_levels_off_are_no_leaks() {
    let day = 24 * 60;
    for noise in [0.001, 0.02, 0.1] {
        let (first, count) = Play::share().run(2 * day, |_, n| 0.5 + noise * n);
        assert_eq!((first, count), (None, 0), "noise {noise}");
    }
    // A heap between collections: every 1, 5, 10 and 45 minutes.
    for period in [1.0, 5.0, 10.0, 17.0, 45.0, 90.0] {
        let (_, count) =
            Play::share().run(day, |m, n| 0.3 + 0.5 * (m % period) / period + 0.01 * n);
        // Before the first collection nobody can know of it.
        let most = if period > 8.0 {
            (period * 6.0) as usize
        } else {
            0
        };
        assert!(count <= most, "teeth of {period} minutes: {count}");
    }
    let mut level = 0.5;
    let (_, count) = Play::share().run(3 * day, |_, n| {
        level += 0.002 * n;
        level += 0.02 * (0.5 - level).powi(3);
        level = level.clamp(0.05, 0.95);
        level
    });
    assert!(count <= 3 * 6, "a walk: {count}");
    // Caches fill up to three quarters, in half an hour, and stay there.
    let (_, count) = Play::share().run(6 * 60, |m, n| 0.75 - 0.6 * (-m / 10.0).exp() + 0.003 * n);
    assert_eq!(count, 0, "what levels off");
    // A step, a busy processor, and the day's course.
    let (_, count) = Play::share().run(6 * 60, |m, n| if m < 120.0 { 0.2 } else { 0.7 } + 0.01 * n);
    assert_eq!(count, 0, "a step");
    let (_, count) = Play::share().run(
        day,
        |m, n| if m % 60.0 < 20.0 { 1.0 } else { 0.3 + 0.02 * n },
    );
    assert_eq!(count, 0, "busy at times");
    let (_, count) = Play::share().run(2 * day, |m, n| {
        0.45 - 0.3 * (m / day as f64 * std::f64::consts::TAU).cos() + 0.02 * n
    });
    assert_eq!(count, 0, "the day's course");
}

#[test]
fn a_limit_that_was_set_is_reached_without_a_trend_and_a_ratio_is_busy() {
    let mut play = Play::new(None, Some(100.0), "By");
    assert_eq!(play.run(30, |_, _| 50.0).1, 0);
    let (first, _) = play.run(10, |_, _| 100.0);
    assert!((0.5..3.0).contains(&first.unwrap()), "{first:?}");
    assert_eq!(play.last.unwrap().observed, Some(0.0));
    let mut play = Play::share();
    assert_eq!(play.run(60, |m, _| if m < 30.0 { 0.5 } else { 1.0 }).1, 0);
    // But what was foreseen and has come is not over.
    let mut play = Play::share();
    let (first, _) = play.run(90, |m, _| (0.4 + 0.01 * m).min(1.0));
    assert!(first.is_some());
    assert!(play.last.unwrap().sigma <= -6.0);
    assert!(play.detector.bytes() < 2500, "{}", play.detector.bytes());
}

#[test]
fn only_ratios_have_a_limit_of_their_own() {
    let mut rule = rule("forecast");
    (rule.detector.lower, rule.detector.upper) = (None, None);
    assert!(build(&rule, SignalKind::Value).is_err());
    rule.detector.own = OwnSettings::Forecast(ForecastSpec::default());
    for (unit, fits) in [("1", true), ("%", true), ("By", false), ("", false)] {
        assert_eq!(
            crate::detect::build_in(&rule, SignalKind::Value, unit).is_ok(),
            fits,
            "{unit}"
        );
    }
}
