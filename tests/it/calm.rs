//! What the built-in rules make of ordinary traffic: thousands of ticks of it through the engine and
//! the alerts' state machine, in virtual time. Calm traffic must not page; an incident must.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use tidewatch::alert;
use tidewatch::config::Config;
use tidewatch::engine::{Engine, Handle, Settings};
use tidewatch::model::{
    AlertState, AttributeValue, Attributes, Batch, Instrument, MetricKind, MetricPoint, Operation,
    PointData, Resource, Scope, SeriesIdentity, SpanKind, SpanRecord, Timestamp,
};
use tidewatch::telemetry::Telemetry;

use super::calibration::noise::Noise;

const TICK: i64 = 10;
const BEGIN: i64 = 1_800_000_000;

fn send(batch: &mut Batch, spans: impl Iterator<Item = (Operation, SpanRecord)>) {
    for (operation, span) in spans {
        batch.add_span(operation, span);
    }
}

/// One operation of a service.
#[derive(Clone, Copy)]
struct Traffic {
    per_second: f64,
    /// Spread of the latencies' logarithm: 0.5 is steady, 1.0 has long tails.
    spread: f64,
    errors: f64,
    /// What each latency is multiplied by.
    slower: f64,
    /// Share of requests that take ten times as long.
    hiccups: f64,
}

/// A service with one operation.
struct Service {
    name: String,
    traffic: Traffic,
    /// How its client sends spans: at once, or in batches every so many seconds, give or take some
    /// milliseconds, the next of them at this second after the beginning.
    exports: Option<(f64, f64)>,
    unsent: Vec<(Operation, SpanRecord)>,
}

impl Service {
    fn new(name: String, traffic: Traffic) -> Self {
        Self {
            name,
            traffic,
            exports: None,
            unsent: Vec::new(),
        }
    }
}

/// The daemon from the engine to the alerts, in virtual time.
struct Watched {
    runtime: tokio::runtime::Runtime,
    engine: Handle,
    alerts: alert::Machine,
    noise: Noise,
    /// Seconds since the beginning.
    now: i64,
    spans: u64,
    services: Vec<Service>,
    firing: BTreeSet<(String, String)>,
    /// How often an alert fired, by service, rule and signal.
    fired: BTreeMap<(String, String, String), u32>,
}

impl Watched {
    fn new(seed: u64, services: Vec<Service>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .expect("a runtime");
        let rules = Config::default().model_rules();
        let settings = Settings {
            shards: NonZeroUsize::MIN,
            ..Settings::default()
        };
        let engine = runtime.block_on(async {
            Engine::start(settings, Arc::clone(&rules), Telemetry::new(), Vec::new())
        });
        Self {
            runtime,
            engine: engine.expect("threads").0,
            alerts: alert::Machine::new(rules, alert::Settings::default()),
            noise: Noise::new(seed),
            now: 0,
            spans: 0,
            services,
            firing: BTreeSet::new(),
            fired: BTreeMap::new(),
        }
    }

    /// One tick, with these values of gauges.
    fn tick(&mut self, gauges: &[(String, f64)]) {
        let mut batch = Batch::default();
        let end_of_tick = (self.now + TICK) as f64;
        for service in &mut self.services {
            let traffic = service.traffic;
            let resource = resource(&service.name);
            for _ in 0..self.noise.poisson(traffic.per_second * TICK as f64) {
                self.spans += 1;
                let mut seconds = 0.05 * traffic.slower;
                seconds *= (traffic.spread * self.noise.normal()).exp();
                if self.noise.uniform() < traffic.hiccups {
                    seconds *= 10.0;
                }
                let end = end_of_tick - self.noise.uniform() * TICK as f64;
                let span = SpanRecord {
                    trace_id: u128::from(self.spans),
                    span_id: self.spans,
                    parent_id: None,
                    start: at(end - seconds),
                    end: at(end),
                    operation: 0,
                    error: self.noise.uniform() < traffic.errors,
                };
                let operation = Operation {
                    resource: Arc::clone(&resource),
                    name: "GET /".into(),
                    kind: SpanKind::Server,
                };
                service.unsent.push((operation, span));
            }
            match &mut service.exports {
                None => send(&mut batch, service.unsent.drain(..)),
                Some((every, next)) => {
                    while *next <= end_of_tick {
                        let until = at(*next);
                        let unsent = &mut service.unsent;
                        send(
                            &mut batch,
                            unsent.extract_if(.., |(_, span)| span.end <= until),
                        );
                        *next += *every + 0.01 * self.noise.normal();
                    }
                }
            }
        }
        self.now += TICK;
        let now = at(self.now as f64);
        for (service, value) in gauges {
            let identity = gauge(service);
            batch.points.push(MetricPoint {
                series: identity.id(),
                identity: identity.into(),
                start: None,
                time: now,
                data: PointData::Number(*value),
                exemplar: None,
            });
        }
        let applied = self.runtime.block_on(self.engine.apply(batch, now));
        assert!(applied.expect("room").is_empty());
        let report = self.runtime.block_on(self.engine.tick(now));
        for transition in self.alerts.step(now, &report.observations, &report.ended) {
            let label = |name| transition.alert.labels.get(name).unwrap_or("").to_owned();
            let (service, alert) = (label("service"), label("alertname"));
            match transition.alert.state {
                AlertState::Firing if transition.from != Some(AlertState::Firing) => {
                    self.firing.insert((service.clone(), alert.clone()));
                    let key = (service, alert, label("signal"));
                    *self.fired.entry(key).or_default() += 1;
                }
                AlertState::Resolved => {
                    self.firing.remove(&(service, alert));
                }
                AlertState::Pending | AlertState::Firing => {}
            }
        }
    }

    /// Alerts by signals and 1000 ticks; says which, a line for all services whose names differ only
    /// behind `#`.
    fn rate(&self, signals: usize) -> f64 {
        let mut groups: BTreeMap<String, u32> = BTreeMap::new();
        for ((service, alert, signal), count) in &self.fired {
            let group = service.split(" #").next().unwrap_or(service);
            *groups
                .entry(format!("{group:40} {alert} {signal}"))
                .or_default() += count;
        }
        let ticks = (self.now / TICK) as f64;
        for (group, count) in &groups {
            eprintln!("{group:75} {count:5}");
        }
        let rate = f64::from(groups.values().sum::<u32>()) / signals as f64 / ticks * 1000.0;
        eprintln!("{signals} signals, {ticks} ticks: {rate:.4} alerts a signal and 1000 ticks");
        rate
    }
}

/// So many seconds after the beginning.
fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos(BEGIN * 1_000_000_000 + (seconds * 1e9) as i64)
}

fn resource(service: &str) -> Arc<Resource> {
    let name = AttributeValue::from(service);
    Arc::new(Resource {
        service: service.into(),
        attributes: Attributes::from_pairs([("service.name".into(), name)]),
    })
}

fn gauge(service: &str) -> Arc<SeriesIdentity> {
    Arc::new(SeriesIdentity {
        resource: resource(service),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope::default()),
            metric: "some.level".into(),
            unit: "1".into(),
            kind: MetricKind::Gauge,
        }),
        attributes: Attributes::default(),
    })
}

/// How long: `CALM_TICKS` for a measurement, else what every run can afford.
fn ticks(few: i64) -> i64 {
    std::env::var("CALM_TICKS").map_or(few, |ticks| ticks.parse().expect("a number of ticks"))
}

/// The next value of a gauge; `state` is its own.
fn level(kind: &str, n: i64, state: &mut f64, noise: &mut Noise) -> f64 {
    match kind {
        "constant" => 42.0,
        "rarely 1" => noise.poisson(0.05) as f64,
        "sometimes 1" => noise.poisson(0.3) as f64,
        "short queue" => noise.poisson(3.0) as f64,
        "normal" => 100.0 + 10.0 * noise.normal(),
        "around zero" => noise.normal(),
        "lognormal" => noise.normal().exp(),
        "mostly idle" => noise.uniform().powi(4),
        "walk" => {
            *state = (*state + noise.normal()).clamp(-50.0, 100.0);
            100.0 + *state
        }
        "sawtooth" => {
            *state = (*state + 3.0 + noise.uniform()) % 200.0;
            100.0 + *state
        }
        "day" => 100.0 + 50.0 * (n as f64 / 8640.0 * std::f64::consts::TAU).sin() + noise.normal(),
        "total" => {
            *state += noise.poisson(5.0) as f64;
            *state
        }
        _ => unreachable!("{kind}"),
    }
}

const LEVELS: [&str; 12] = [
    "constant",
    "rarely 1",
    "sometimes 1",
    "short queue",
    "normal",
    "around zero",
    "lognormal",
    "mostly idle",
    "walk",
    "sawtooth",
    "day",
    "total",
];

/// A page every hour from a queue that is mostly empty, or from one failure among ten requests, is how
/// an alert comes to be ignored.
#[test]
fn calm_traffic_does_not_page() {
    let copies = 3;
    let mut services = Vec::new();
    for per_second in [0.03, 0.1, 0.3, 1.0, 3.0] {
        for (spread, errors) in [(0.5, 0.0), (1.0, 0.0), (0.5, 0.01), (0.5, 0.05), (0.5, 0.3)] {
            for copy in 0..copies {
                let name = format!("{per_second}/s spread {spread} errors {errors} #{copy}");
                let traffic = Traffic {
                    per_second,
                    spread,
                    errors,
                    slower: 1.0,
                    hiccups: 0.0,
                };
                services.push(Service::new(name, traffic));
            }
        }
    }
    let signals = services.len() * 4 + LEVELS.len() * copies;
    let mut watched = Watched::new(1, services);
    let mut states = vec![0.0; LEVELS.len() * copies];
    for n in 0..ticks(400) {
        let mut gauges = Vec::new();
        for (index, state) in states.iter_mut().enumerate() {
            let kind = LEVELS[index / copies];
            let value = level(kind, n, state, &mut watched.noise);
            gauges.push((format!("gauge {kind} #{}", index % copies), value));
        }
        watched.tick(&gauges);
    }
    assert!(watched.rate(signals) < 0.05);
}

/// Clients send spans in batches every five seconds and a bit, so that now one, now three of them fall
/// between two boundaries. The service's rate is the same all the time.
#[test]
fn the_rhythm_of_exports_is_no_deviation_of_the_rate() {
    let services = (0..10).map(|n| Service {
        // They come to the boundary one after the other.
        exports: Some((5.003, 4.9 + 0.01 * f64::from(n))),
        ..Service::new(
            format!("shop #{n}"),
            Traffic {
                per_second: 5.0,
                spread: 0.5,
                errors: 0.0,
                slower: 1.0,
                hiccups: 0.0,
            },
        )
    });
    let mut watched = Watched::new(2, services.collect());
    for _ in 0..ticks(300) {
        watched.tick(&[]);
    }
    assert!(watched.rate(40) < 0.1);
}

/// What calm traffic must not do, an incident must: within five ticks, until it is over.
#[test]
fn incidents_page_within_five_ticks_and_for_as_long_as_they_last() {
    let calm = Traffic {
        per_second: 10.0,
        spread: 0.5,
        errors: 0.0,
        slower: 1.0,
        hiccups: 0.0,
    };
    let incidents = [
        (
            "LatencyDeviation",
            Traffic {
                slower: 4.0,
                ..calm
            },
        ),
        (
            "ErrorRatioDeviation",
            Traffic {
                errors: 0.3,
                ..calm
            },
        ),
        (
            "ThroughputDrop",
            Traffic {
                per_second: 1.0,
                ..calm
            },
        ),
        (
            "RateDeviation",
            Traffic {
                per_second: 40.0,
                ..calm
            },
        ),
    ];
    for before in [40, 150] {
        let services = (0..incidents.len()).map(|n| Service::new(format!("shop {n}"), calm));
        let mut watched = Watched::new(3, services.collect());
        for _ in 0..before {
            watched.tick(&[]);
        }
        assert!(watched.firing.is_empty(), "{:?}", watched.firing);
        for (service, (_, traffic)) in watched.services.iter_mut().zip(incidents) {
            service.traffic = traffic;
        }
        for tick in 0..30 {
            watched.tick(&[]);
            if tick >= 4 {
                for (n, (alert, _)) in incidents.iter().enumerate() {
                    let key = (format!("shop {n}"), (*alert).to_owned());
                    assert!(
                        watched.firing.contains(&key),
                        "{key:?} after {before} ticks, in tick {tick} of the incident"
                    );
                }
            }
        }
        watched
            .services
            .iter_mut()
            .for_each(|service| service.traffic = calm);
        (0..15).for_each(|_| watched.tick(&[]));
        assert!(watched.firing.is_empty(), "{:?}", watched.firing);
    }
}

/// A service with three requests a minute, of which one in fifty is ten times as slow as the others and
/// one in a hundred fails.
fn quiet(name: String) -> Service {
    Service::new(
        name,
        Traffic {
            per_second: 0.05,
            spread: 0.5,
            errors: 0.01,
            slower: 1.0,
            hiccups: 0.02,
        },
    )
}

/// One failed request of three is a third, and the p99 of one request is that request: nobody wants to be
/// woken by either.
#[test]
fn three_requests_a_minute_do_not_page() {
    let services = (0..30).map(|n| quiet(format!("quiet #{n}"))).collect();
    let mut watched = Watched::new(4, services);
    for _ in 0..ticks(2000) {
        watched.tick(&[]);
    }
    watched.rate(30 * 4);
    assert!(watched.fired.is_empty(), "{:?}", watched.fired);
}

/// But where all of them fail, or all are slow, that is an outage, however few they are.
#[test]
fn an_outage_of_three_requests_a_minute_pages() {
    for before in [200, 2000] {
        let services = (0..6).map(|n| quiet(format!("quiet {n}")));
        let mut watched = Watched::new(5, services.collect());
        for _ in 0..before {
            watched.tick(&[]);
        }
        assert!(watched.fired.is_empty(), "{:?}", watched.fired);
        for (n, service) in watched.services.iter_mut().enumerate() {
            match n % 2 {
                0 => service.traffic.errors = 1.0,
                _ => service.traffic.slower = 10.0,
            }
        }
        for _ in 0..60 {
            watched.tick(&[]);
        }
        let found: BTreeSet<_> = watched.fired.keys().map(|(s, a, _)| (s, a)).collect();
        for n in 0..6 {
            let alert = ["ErrorRatioDeviation", "LatencyDeviation"][n % 2].to_owned();
            let key = (format!("quiet {n}"), alert);
            assert!(
                found.contains(&(&key.0, &key.1)),
                "{key:?} after {before} ticks"
            );
        }
    }
}
