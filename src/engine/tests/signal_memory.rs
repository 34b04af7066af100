//! What a signal costs, in bytes: realistic ones with a full window, under rules like the built-in ones.

use crate::derive::Emitted;
use crate::engine::plan::Plan;
use crate::engine::signal::{Owner, Signal};
use crate::model::{MetricKind, Sample, SignalKind};
use crate::telemetry::Telemetry;

use super::{at, identity, rule, settings};

/// A small multiplicative generator.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// A count of about so many events.
    fn count(&mut self, mean: f64) -> f64 {
        (mean + mean.sqrt() * self.normal()).round().max(0.0)
    }
}

/// Value and number of observations at a time, in seconds.
type Course = fn(&mut Noise, i64) -> (f64, u64);

const DAY: f64 = 86_400.0;

fn traffic(time: i64) -> f64 {
    50.0 * (1.0 - 0.6 * (time as f64 / DAY * std::f64::consts::TAU).cos())
}

const SIGNALS: [(&str, SignalKind, Course); 8] = [
    ("constant", SignalKind::Value, |_, _| (42.0, 1)),
    ("integer gauge", SignalKind::Value, |n, _| {
        (n.count(20.0), 1)
    }),
    ("noisy gauge", SignalKind::Value, |n, _| {
        (100.0 + 10.0 * n.normal(), 1)
    }),
    ("utilization", SignalKind::Value, |n, t| {
        (traffic(t) / 150.0 + 0.03 * n.normal(), 1)
    }),
    ("rate of bytes", SignalKind::Rate, |n, _| {
        (
            1e5 * (1.0 + 0.2 * n.normal()).abs() * (1.0 + 1e-4 * n.uniform()),
            1,
        )
    }),
    ("rate of spans", SignalKind::Rate, |n, t| {
        let spans = n.count(traffic(t));
        (spans / 10.0, spans as u64)
    }),
    ("error ratio", SignalKind::ErrorRatio, |n, t| {
        let spans = n.count(traffic(t)).max(1.0);
        (n.count(0.01 * spans).min(spans) / spans, spans as u64)
    }),
    ("p95", SignalKind::P95, |n, t| {
        let spans = n.count(traffic(t)).max(1.0);
        (0.002 * traffic(t) * (0.2 * n.normal()).exp(), spans as u64)
    }),
];

/// Bytes of each signal after so many samples: all of it, its window, the bands and the detectors.
fn measure(samples: i64) -> Vec<[usize; 4]> {
    let rules: Vec<_> = ["Above", "Below"]
        .map(|alert| {
            let mut rule = rule(alert, "{}");
            rule.detector.name = "adaptive".into();
            rule.sigma.warning = 4.0;
            rule.min_samples = 30;
            rule
        })
        .into();
    // Two rules for the rates, one for the others.
    let of = |rules: &[_]| Plan::new(settings(1), rules.into(), Telemetry::new()).unwrap();
    let (one, two) = (of(&rules[..1]), of(&rules));
    let identity = identity("shop", 0, MetricKind::Gauge);
    let measure = |(name, kind, course): &(&str, SignalKind, Course)| {
        let plan = if *kind == SignalKind::Rate {
            &two
        } else {
            &one
        };
        let owner = Owner {
            id: identity.id(),
            identity: &identity,
            judged: true,
        };
        let mut signal = Signal::new(*kind, owner, plan);
        let (mut noise, mut out) = (Noise(7), Vec::new());
        for n in 1..=samples {
            let (value, weight) = course(&mut noise, 10 * n);
            let emitted = Emitted {
                kind: *kind,
                sample: Sample {
                    time: at(10 * n),
                    value,
                },
                exemplar: None,
                weight,
            };
            signal.observe(&emitted, owner, plan, &mut out);
        }
        let detectors = signal.watches.iter().map(|watch| watch.bytes()).sum();
        let bytes = [
            signal.bytes(),
            signal.window.bytes(),
            signal.bands.heap(),
            detectors,
        ];
        println!("{name:14} {bytes:?}");
        bytes
    };
    println!("after {samples}: all, window, bands, detectors");
    SIGNALS.iter().map(measure).collect()
}

fn mean(bytes: &[[usize; 4]]) -> usize {
    bytes.iter().map(|[all, ..]| all).sum::<usize>() / bytes.len()
}

#[test]
fn a_signal_with_a_full_window_costs_little_more_than_a_kibibyte() {
    let full = measure(100);
    println!("{} bytes on average", mean(&full));
    assert!(mean(&full) <= 1200, "{}", mean(&full));
    // With a profile of the day, and all that a day has taught.
    let day = measure(8640);
    println!("{} bytes on average", mean(&day));
    assert!(mean(&day) <= 1700, "{}", mean(&day));
    assert!(day[0][0] < 900, "a constant one: {}", day[0][0]);
}
