//! A sample of each signal is judged against the window before it, and then goes into the window.

use std::hint::black_box;

use tidewatch::config::builtin_rules;
use tidewatch::derive::Sketch;
use tidewatch::detect::{self, Detector};
use tidewatch::model::{DetectorSpec, Rule, Sample, SignalKind, WindowSpec};
use tidewatch::window::Window;

use super::{Size, Stage, at};

/// Samples that a window holds, if nothing else is said.
const LENGTH: u32 = 100;
/// An hour of samples, one each 15 seconds.
const HOUR: u32 = 240;

/// Signals, each with a window that is full and perhaps a detector.
struct Signals {
    signals: Vec<(Window, Option<Box<dyn Detector>>)>,
    samples: Vec<Sample>,
    weight: u64,
    tick: u64,
    value: fn(u64, usize) -> f64,
}

/// Any rule, with another detector.
fn rule(detector: &str, length: u32) -> Rule {
    let mut rule = builtin_rules()
        .first()
        .and_then(|rule| {
            let tick = tidewatch::config::Config::default().window.tick;
            let window = WindowSpec::Samples(length);
            rule.to_models(window, tick).into_iter().next()
        })
        .expect("there are built-in rules");
    rule.detector = DetectorSpec {
        name: detector.into(),
        upper: (detector == "threshold").then_some(1e9),
        ..DetectorSpec::default()
    };
    rule
}

fn signals(
    size: Size,
    length: u32,
    detector: Option<&str>,
    kind: SignalKind,
    value: fn(u64, usize) -> f64,
) -> Box<dyn Stage> {
    let build =
        |name| detect::build(&rule(name, length), kind).expect("a detector of the registry");
    let mut signals = Signals {
        signals: (0..size.series())
            .map(|_| {
                (
                    Window::new(WindowSpec::Samples(length)),
                    detector.map(build),
                )
            })
            .collect(),
        samples: Vec::new(),
        weight: if kind == SignalKind::Value { 1 } else { 100 },
        tick: 0,
        value,
    };
    let ticks = if size == Size::Small { 2 } else { 2 * length };
    for _ in 0..ticks {
        signals.prepare();
        signals.run();
    }
    Box::new(signals)
}

impl Stage for Signals {
    fn prepare(&mut self) {
        self.tick += 1;
        let (tick, value) = (self.tick, self.value);
        self.samples = (0..self.signals.len())
            .map(|signal| Sample {
                time: at(tick),
                value: value(tick, signal),
            })
            .collect();
    }

    fn run(&mut self) {
        for ((window, detector), sample) in self.signals.iter_mut().zip(&self.samples) {
            if let Some(detector) = detector {
                black_box(detector.observe(*sample, self.weight, window));
            }
            window.push(*sample);
            black_box(window.mean_and_stddev());
        }
    }

    fn items(&self) -> u64 {
        self.signals.len() as u64
    }
}

/// A double that wanders around a level of its own.
fn gauge(tick: u64, signal: usize) -> f64 {
    signal as f64 + 20.0 + super::requests::bell(tick, signal)
}

/// Seconds, with a long tail.
fn latency(tick: u64, signal: usize) -> f64 {
    0.05 * (0.3 * super::requests::bell(tick, signal)).exp()
}

/// Whole events in a tick of ten seconds.
fn rate(tick: u64, signal: usize) -> f64 {
    (200.0 + 14.0 * super::requests::bell(tick, signal)).round() / 10.0
}

pub(crate) fn window(size: Size) -> Box<dyn Stage> {
    signals(size, LENGTH, None, SignalKind::Value, gauge)
}

pub(crate) fn zscore(size: Size) -> Box<dyn Stage> {
    signals(size, LENGTH, Some("zscore"), SignalKind::Value, gauge)
}

/// Windows as long as those of the recording rules that `benches/zscore.sh` compares with.
pub(crate) fn zscore_hour(size: Size) -> Box<dyn Stage> {
    signals(size, HOUR, Some("zscore"), SignalKind::Value, gauge)
}

pub(crate) fn robust(size: Size) -> Box<dyn Stage> {
    signals(size, LENGTH, Some("robust"), SignalKind::Value, gauge)
}

pub(crate) fn threshold(size: Size) -> Box<dyn Stage> {
    signals(size, LENGTH, Some("threshold"), SignalKind::Value, gauge)
}

pub(crate) fn adaptive_value(size: Size) -> Box<dyn Stage> {
    signals(size, LENGTH, Some("adaptive"), SignalKind::Value, gauge)
}

pub(crate) fn adaptive_p99(size: Size) -> Box<dyn Stage> {
    signals(size, LENGTH, Some("adaptive"), SignalKind::P99, latency)
}

pub(crate) fn adaptive_rate(size: Size) -> Box<dyn Stage> {
    signals(size, LENGTH, Some("adaptive"), SignalKind::Rate, rate)
}

/// Durations that one sketch of a busy series is given.
struct Observations {
    sketch: Sketch,
    values: Vec<f64>,
    turn: u64,
}

pub(crate) fn sketch(size: Size) -> Box<dyn Stage> {
    let mut observations = Observations {
        sketch: Sketch::new(),
        values: vec![0.0; size.series()],
        turn: 0,
    };
    observations.prepare();
    Box::new(observations)
}

impl Stage for Observations {
    fn prepare(&mut self) {
        self.turn += 1;
        for (place, value) in self.values.iter_mut().enumerate() {
            *value = latency(self.turn, place);
        }
    }

    fn run(&mut self) {
        for value in &self.values {
            self.sketch.add(*value);
        }
    }

    fn items(&self) -> u64 {
        self.values.len() as u64
    }
}
