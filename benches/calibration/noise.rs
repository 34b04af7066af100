//! Signals in which nothing ever happens, as services have them: what a detector finds in them is false.

use std::f64::consts::TAU;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidewatch::model::SignalKind;
use tidewatch::window::quantile_sorted;

/// Random numbers, the same for the same seed.
pub struct Noise(StdRng);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// From 0.0 to below 1.0.
    pub fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    /// Mean 0, standard deviation 1.
    pub fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * a.ln()).sqrt() * (TAU * b).cos()
    }

    /// A count of events that come independently of each other.
    pub fn poisson(&mut self, mean: f64) -> usize {
        if mean > 50.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as usize;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.uniform(), 0);
        while product > limit {
            product *= self.uniform();
            count += 1;
        }
        count
    }

    /// Student's t with three degrees of freedom: its variance exists, its fourth moment does not.
    pub fn student3(&mut self) -> f64 {
        let squares: f64 = (0..3).map(|_| self.normal().powi(2)).sum();
        self.normal() / (squares / 3.0).sqrt()
    }
}

/// A sample's value and the number of observations behind it; `None`: the tick has none.
pub type Next = Box<dyn FnMut(i64, &mut Noise) -> Option<(f64, u64)>>;

/// One kind of signal.
pub struct Scenario {
    pub name: &'static str,
    pub kind: SignalKind,
    /// Seconds between samples.
    pub tick: i64,
    /// Length of one signal in ticks.
    pub length: i64,
    /// So many ticks at a signal's beginning do not count: until its cycle has shown itself twice, or
    /// its rarer events some ten times. What is new to everybody is no false alarm.
    pub settle: i64,
    /// Makes a fresh signal; its numbers are asked for with seconds since an epoch, tick after tick.
    pub begin: fn() -> Next,
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// A week of 10 s ticks.
const LENGTH: i64 = 60_000;
/// The first day and a bit of it, in which much is new that is not later; counted by itself.
const FIRST: i64 = 10_000;

/// Every kind of signal, the plainest first.
pub fn scenarios() -> Vec<Scenario> {
    let plain = |name, begin| Scenario {
        name,
        kind: SignalKind::Value,
        tick: 10,
        length: LENGTH,
        settle: FIRST,
        begin,
    };
    vec![
        plain("normal", || value(|_, noise| 100.0 + 10.0 * noise.normal())),
        Scenario {
            length: FIRST,
            settle: 0,
            ..plain("normal, the first 28 hours", || {
                value(|_, noise| 100.0 + 10.0 * noise.normal())
            })
        },
        Scenario {
            length: FIRST,
            settle: 0,
            ..plain("Student's t, the first 28 h", || {
                value(|_, noise| 100.0 + 10.0 * noise.student3())
            })
        },
        plain("AR(1), 0.9", || {
            let mut state = 0.0;
            value(move |_, noise| {
                state = 0.9 * state + noise.normal();
                100.0 + state
            })
        }),
        plain("Student's t, 3 degrees", || {
            value(|_, noise| 100.0 + 10.0 * noise.student3())
        }),
        plain("lognormal, σ 1", || value(|_, noise| noise.normal().exp())),
        Scenario {
            length: 7 * DAY / 10,
            settle: 2 * DAY / 10,
            ..plain("daily cycle, 10 s", || {
                value(|at, noise| 100.0 + 50.0 * wave(at, DAY) + 10.0 * noise.normal())
            })
        },
        Scenario {
            tick: 300,
            length: LENGTH,
            settle: FIRST,
            ..plain("daily cycle, 5 min", || {
                value(|at, noise| 100.0 + 50.0 * wave(at, DAY) + 10.0 * noise.normal())
            })
        },
        Scenario {
            tick: 300,
            length: LENGTH,
            settle: FIRST,
            ..plain("weekly cycle, 5 min", || {
                value(|at, noise| {
                    let weekend = at.rem_euclid(WEEK) >= 5 * DAY;
                    let height = if weekend { 10.0 } else { 50.0 };
                    100.0 + height * (1.0 + wave(at, DAY)) + 5.0 * noise.normal()
                })
            })
        },
        plain("sparse, 3 a tick", || {
            value(|_, noise| noise.poisson(3.0) as f64)
        }),
        Scenario {
            settle: FIRST,
            ..plain("rare, 0.05 a tick", || {
                value(|_, noise| noise.poisson(0.05) as f64)
            })
        },
        plain("integer", || {
            value(|_, noise| (10.0 + 1.5 * noise.normal()).round())
        }),
        plain("constant but for 1e-9", || {
            value(|_, noise| 42.0 + 1e-9 * noise.normal())
        }),
        plain("two values", || {
            value(|_, noise| if noise.uniform() < 0.3 { 43.0 } else { 42.0 })
        }),
        plain("drift, 4 σ a day", || {
            let mut level = 100.0;
            value(move |_, noise| {
                level += 40.0 / 8640.0;
                level + 10.0 * noise.normal()
            })
        }),
        plain("slow walk, 2 σ a day", || {
            let mut level = 100.0;
            value(move |_, noise| {
                level += 0.2 * noise.normal();
                level + 10.0 * noise.normal()
            })
        }),
        Scenario {
            settle: FIRST,
            ..plain("bursts", || {
                let mut bursting = false;
                value(move |_, noise| {
                    let turn = if bursting { 0.2 } else { 0.005 };
                    bursting ^= noise.uniform() < turn;
                    noise.poisson(if bursting { 50.0 } else { 5.0 }) as f64
                })
            })
        },
        Scenario {
            settle: FIRST,
            ..plain("batch job each hour", || {
                value(|at, noise| {
                    let busy = at.rem_euclid(HOUR) < 60;
                    (if busy { 200.0 } else { 100.0 }) + 5.0 * noise.normal()
                })
            })
        },
        Scenario {
            kind: SignalKind::Rate,
            ..plain("rate of 3 requests a minute", || requests(0.5))
        },
        Scenario {
            kind: SignalKind::Rate,
            ..plain("rate of 3 requests a tick", || requests(3.0))
        },
        Scenario {
            kind: SignalKind::ErrorRatio,
            settle: FIRST,
            ..plain("2 % errors of 3 a minute", || failures(0.5, 0.02))
        },
        Scenario {
            kind: SignalKind::ErrorRatio,
            settle: FIRST,
            ..plain("2 % errors of 5 a tick", || failures(5.0, 0.02))
        },
        Scenario {
            kind: SignalKind::ErrorRatio,
            ..plain("2 % errors of 100 a tick", || failures(100.0, 0.02))
        },
        Scenario {
            kind: SignalKind::P99,
            ..plain("p99 of 3 spans a minute", || percentile(0.5, 0.99, 0.5))
        },
        Scenario {
            kind: SignalKind::P99,
            ..plain("p99 of 4 spans a tick", || percentile(4.0, 0.99, 0.5))
        },
        Scenario {
            kind: SignalKind::P95,
            ..plain("p95 of 30 spans, long tail", || percentile(30.0, 0.95, 1.0))
        },
    ]
}

fn value(mut next: impl FnMut(i64, &mut Noise) -> f64 + 'static) -> Next {
    Box::new(move |at, noise| Some((next(at, noise), 1)))
}

/// A wave between -1 and 1.
fn wave(at: i64, period: i64) -> f64 {
    (at.rem_euclid(period) as f64 / period as f64 * TAU).sin()
}

/// Requests a second, in ticks of 10 s of a service that is known to be there.
fn requests(a_tick: f64) -> Next {
    Box::new(move |_, noise| {
        let count = noise.poisson(a_tick);
        Some((count as f64 / 10.0, count as u64))
    })
}

/// Share of failed ones among some requests.
fn failures(a_tick: f64, share: f64) -> Next {
    Box::new(move |_, noise| {
        let count = noise.poisson(a_tick);
        let failed = (0..count).filter(|_| noise.uniform() < share).count();
        (count > 0).then(|| (failed as f64 / count as f64, count as u64))
    })
}

/// Quantile of some latencies of 50 ms, whose logarithms have this spread.
fn percentile(a_tick: f64, q: f64, spread: f64) -> Next {
    let mut latencies = Vec::new();
    Box::new(move |_, noise| {
        latencies.clear();
        let count = noise.poisson(a_tick);
        latencies.extend((0..count).map(|_| 0.05 * (spread * noise.normal()).exp()));
        latencies.sort_unstable_by(f64::total_cmp);
        Some((quantile_sorted(&latencies, q)?, count as u64))
    })
}
