//! Counts what a detector finds where nothing is: anomalies by sigma, and alerts as the daemon's own
//! alert machine makes them of these.

use std::collections::BTreeMap;
use std::sync::Arc;

use statrs::distribution::{ContinuousCDF, Gamma, Normal};
use tidewatch::model::{
    Attributes, DetectorSpec, Direction, For, Instrument, Judged, Labels, MetricKind, Observation,
    Resource, Rule, RuleId, Sample, Scope, Selector, SeriesIdentity, SeverityLabel,
    SigmaThresholds, SignalId, SignalKind, SignalMeta, Timestamp, Verdict, WindowSpec,
};
use tidewatch::window::Window;
use tidewatch::{alert, detect};

use super::noise::{Noise, Scenario};

/// The thresholds measured.
pub const SIGMAS: [f64; 3] = [3.0, 4.0, 5.0];
/// The settings of `for` measured.
pub const HOLDS: [(u32, u32); 2] = [(1, 1), (3, 5)];
/// The engine's default.
const WINDOW: WindowSpec = WindowSpec::Samples(100);
/// Where time begins: a Monday at midnight, so that weeks are weeks.
const BEGIN: i64 = 1_800_230_400;
/// The alert machine sees so many samples after the last one that was not calm, as the engine
/// arranges it: more than any `of` or number of calm samples that resolve.
const HOT: u32 = 10;

/// What was counted of one detector on one kind of signal.
#[derive(Debug, Clone, Default)]
pub struct Count {
    /// Samples judged.
    pub samples: u64,
    /// Days of signals.
    pub days: f64,
    /// How many samples were beyond each of [`SIGMAS`].
    pub beyond: [u64; SIGMAS.len()],
    /// Which deviations spoke beyond the second of [`SIGMAS`], in the detector's words.
    pub channels: BTreeMap<String, u64>,
    /// How many alerts fired, by [`HOLDS`] and [`SIGMAS`].
    pub alerts: [[u64; SIGMAS.len()]; HOLDS.len()],
}

impl Count {
    /// Takes in what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.days += other.days;
        for (sum, count) in self.beyond.iter_mut().zip(other.beyond) {
            *sum += count;
        }
        for (channel, count) in &other.channels {
            *self.channels.entry(channel.clone()).or_default() += count;
        }
        let alerts = self.alerts.iter_mut().flatten();
        for (sum, count) in alerts.zip(other.alerts.iter().flatten()) {
            *sum += count;
        }
    }

    /// How often [`SIGMAS`]`[at]` was exceeded, as a multiple of [`stated`]; with the ends of the 95 %
    /// interval that a Poisson count has. Anomalies that come in bunches make it wider than that.
    pub fn ratio(&self, at: usize) -> (f64, f64, f64) {
        let expected = self.samples as f64 * stated(SIGMAS[at]);
        let (low, high) = poisson_interval(self.beyond[at]);
        (
            self.beyond[at] as f64 / expected,
            low / expected,
            high / expected,
        )
    }

    /// Alerts of a thousand such signals in a day.
    pub fn alerts_per_thousand_and_day(&self, hold: usize, at: usize) -> f64 {
        self.alerts[hold][at] as f64 / self.days * 1000.0
    }
}

/// The share of samples that a threshold promises to be beyond it, both sides together.
pub fn stated(sigma: f64) -> f64 {
    2.0 * Normal::standard().sf(sigma)
}

/// Exact 95 % interval for the mean of a Poisson count (Garwood, 1936).
fn poisson_interval(count: u64) -> (f64, f64) {
    let gamma = |shape: f64, share: f64| {
        Gamma::new(shape, 1.0).map_or(0.0, |gamma| gamma.inverse_cdf(share))
    };
    let count = count as f64;
    let low = if count > 0.0 {
        gamma(count, 0.025)
    } else {
        0.0
    };
    (low, gamma(count + 1.0, 0.975))
}

/// Runs `detector` over at least so many samples of fresh signals of this kind.
pub fn measure(detector: &str, scenario: &Scenario, samples: u64, seed: u64) -> Count {
    let rules: Arc<[Rule]> = HOLDS
        .iter()
        .flat_map(|(n, of)| SIGMAS.map(|sigma| (*n, *of, sigma)))
        .map(|(n, of, sigma)| Rule {
            alert: format!("{sigma} sigma, {n} of {of}"),
            hold: For::Samples { n, of },
            ..rule(detector, sigma)
        })
        .collect();
    let mut run = Run {
        detector,
        scenario,
        signal: signal(scenario.kind),
        noise: Noise::new(seed),
        alerts: alert::Machine::new(
            Arc::clone(&rules),
            alert::Settings {
                // Held alerts would be counted once.
                flapping: alert::Flapping {
                    fires: 0,
                    ..alert::Flapping::default()
                },
                ..alert::Settings::default()
            },
        ),
        rules,
        count: Count::default(),
    };
    let mut begin = BEGIN;
    while run.count.samples < samples {
        run.signal(begin);
        // The next one begins elsewhere in the day and the week.
        begin += scenario.tick * (scenario.length + 1237);
    }
    run.count
}

/// The rule in force: the built-in ones' threshold is 4.
fn rule(detector: &str, warning: f64) -> Rule {
    Rule {
        alert: "Calibration".into(),
        selector: Selector::default(),
        detector: DetectorSpec::named(detector),
        sigma: SigmaThresholds {
            warning,
            critical: None,
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
    }
}

fn signal(kind: SignalKind) -> SignalMeta {
    let identity = SeriesIdentity {
        resource: Arc::new(Resource {
            service: "calm".into(),
            attributes: Attributes::default(),
        }),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope::default()),
            metric: "noise".into(),
            unit: "1".into(),
            kind: MetricKind::Gauge,
        }),
        attributes: Attributes::default(),
    };
    SignalMeta {
        id: SignalId {
            series: identity.id(),
            kind,
        },
        identity: Arc::new(identity),
    }
}

struct Run<'a> {
    detector: &'a str,
    scenario: &'a Scenario,
    signal: SignalMeta,
    noise: Noise,
    rules: Arc<[Rule]>,
    alerts: alert::Machine,
    count: Count,
}

impl Run<'_> {
    /// One signal from its first sample to its last.
    fn signal(&mut self, begin: i64) {
        let mut detector = detect::build(&rule(self.detector, 4.0), self.scenario.kind)
            .expect("a detector of the registry that needs no settings");
        let mut window = Window::new(WINDOW);
        let mut next = (self.scenario.begin)();
        let mut hot = 0;
        for tick in 0..self.scenario.length {
            let seconds = begin + tick * self.scenario.tick;
            let counts = tick >= self.scenario.settle;
            if counts {
                self.count.days += self.scenario.tick as f64 / 86_400.0;
            }
            let Some((value, weight)) = next(seconds, &mut self.noise) else {
                continue;
            };
            let sample = Sample {
                time: Timestamp::from_secs(seconds),
                value,
            };
            let verdict = detector.observe(sample, weight, &window);
            window.push(sample);
            let Verdict::Judged(judged) = verdict else {
                continue;
            };
            if counts {
                self.count.samples += 1;
                for (beyond, sigma) in self.count.beyond.iter_mut().zip(SIGMAS) {
                    *beyond += u64::from(judged.sigma.abs() >= sigma);
                }
                if judged.sigma.abs() >= SIGMAS[1] {
                    let channel = judged.evidence.channel.clone().into_owned();
                    *self.count.channels.entry(channel).or_default() += 1;
                }
            }
            // Two sigma is the least that is calm to the rule with the lowest threshold.
            let calm = judged.sigma.abs() < SIGMAS[0] - 1.0;
            if judged.sigma.abs() >= SIGMAS[0] || (hot > 0 && !calm) {
                hot = HOT;
            }
            if hot > 0 || judged.evidence.relevelled_from.is_some() {
                hot = hot.saturating_sub(1);
                self.alert(sample, &judged, counts);
            }
        }
        let end = Timestamp::from_secs(begin + self.scenario.length * self.scenario.tick);
        self.alerts.step(end, &[], &[self.signal.id]);
    }

    /// Shows a sample to every rule, and counts the alerts that fire.
    fn alert(&mut self, sample: Sample, judged: &Judged, counts: bool) {
        let observations: Vec<Observation> = (0..)
            .zip(self.rules.iter())
            .map(|(index, rule)| Observation {
                rule: RuleId(index),
                signal: self.signal.clone(),
                sample,
                judged: judged.clone(),
                anomaly: (judged.sigma.abs() >= rule.sigma.warning)
                    .then_some(SeverityLabel::Warning),
                exemplar: None,
            })
            .collect();
        let mut transitions = self.alerts.step(sample.time, &observations, &[]);
        self.alerts.annotate(&mut transitions, |_, _| {});
        drop(self.alerts.changes());
        if !counts {
            return;
        }
        for transition in transitions {
            let name = transition.alert.labels.get("alertname");
            let fired = tidewatch::model::AlertState::Firing;
            if transition.alert.state == fired
                && transition.from != Some(fired)
                && let Some(at) = self
                    .rules
                    .iter()
                    .position(|r| Some(r.alert.as_str()) == name)
            {
                self.count.alerts[at / SIGMAS.len()][at % SIGMAS.len()] += 1;
            }
        }
    }
}
