//! The engine alone with very many series: `cargo bench --bench scale -- [--series N] [--ticks N]
//! [--shards N]`.
//!
//! Fills every series with a window of samples in event time, then closes a tick of all of them, reads
//! lists, saves what was learned to a file and starts anew from it. Beside each of these a probe applies
//! one point after the other of series that are known, and tells how long the slowest took: nothing that
//! is done to all series may hold up a point. Numbers of one run on one machine; resident memory includes
//! what the bench itself holds, which is printed first.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs
)]

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidewatch::config::Config;
use tidewatch::engine::{Engine, Handle, Settings};
use tidewatch::model::{
    AttributeValue, Attributes, Batch, Instrument, MetricKind, MetricPoint, PointData, Query as _,
    Resource, Rule, Scope, Selector, SeriesId, SeriesIdentity, Temporality, Timestamp,
};
use tidewatch::storage::snapshot;
use tidewatch::telemetry::Telemetry;
use tokio::runtime::Runtime;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Points in one request.
const REQUEST: usize = 1_000;
/// Services among which the series are spread, and instances of each.
const SERVICES: usize = 100;
const INSTANCES: usize = 10;
const TICK: i64 = 10;
const START: i64 = 1_800_000_000;

struct Options {
    series: usize,
    ticks: i64,
    shards: usize,
}

fn main() {
    // Where benchmarks are run as tests, few show that it works.
    let (series, ticks) = match std::env::args().any(|argument| argument == "--bench") {
        true => (1_000_000, 101),
        false => (500, 3),
    };
    let mut options = Options {
        series,
        ticks,
        shards: 1,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|value| value.parse().ok());
            value.unwrap_or_else(|| panic!("{name} wants a number"))
        };
        match name.as_str() {
            "--series" => options.series = number(),
            "--ticks" => options.ticks = number() as i64,
            "--shards" => options.shards = number(),
            // What cargo adds.
            "--bench" => {}
            _ => panic!("unknown argument {name}; there are --series, --ticks and --shards"),
        }
    }
    run(&options);
}

fn run(options: &Options) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let world = World::new(options.series);
    let own = resident();
    say("the bench itself", mebibytes(own));
    let (engine, _) = start(&runtime, options, directory.path());

    let (begun, cpu_before) = (Instant::now(), cpu());
    let (mut closing, mut observations) = (Duration::ZERO, 0);
    for tick in 0..options.ticks {
        world.send(&runtime, &engine, tick);
        let begun = Instant::now();
        let report = runtime.block_on(engine.tick(at(tick)));
        closing = begun.elapsed();
        observations = report.observations.len();
    }
    let points = options.series as f64 * options.ticks as f64;
    let each = |time: Duration| format!("{:.0} ns", time.as_nanos() as f64 / points);
    say("a point, made, applied and judged", each(begun.elapsed()));
    say("  CPU", each(cpu().saturating_sub(cpu_before)));
    say("  closing the last tick", milliseconds(closing));
    say("  observations in it", observations);
    sizes(&runtime, &engine, options, own);

    let probe = Probe::new(&world, options.ticks);
    world.send(&runtime, &engine, options.ticks);
    let now = at(options.ticks);
    probe.beside(&runtime, &engine, "nothing", || {
        std::thread::sleep(Duration::from_secs(1));
    });
    for what in ["a tick of all series", "a tick without samples"] {
        probe.beside(&runtime, &engine, what, || {
            let report = runtime.block_on(engine.tick(now));
            say("  observations", report.observations.len());
        });
    }
    probe.beside(&runtime, &engine, "100,000 watched signals", || {
        let (mut signals, mut cursor) = (0, None);
        while signals < 100_000 {
            let page = runtime.block_on(engine.watched(cursor, 1_000));
            signals += page.items.len();
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        say("  signals", signals);
    });
    probe.beside(&runtime, &engine, "a list that finds nothing", || {
        let nothing = Selector::parse(r#"{service="nobody"}"#).expect("a selector");
        let page = runtime.block_on(engine.signals(nothing, None, 1_000));
        assert!(page.items.is_empty());
    });
    probe.beside(&runtime, &engine, "counting bytes", || {
        runtime.block_on(engine.bytes());
    });
    let before = resident();
    forget_peak();
    probe.beside(&runtime, &engine, "saving", || {
        let bytes = save(&runtime, &engine, directory.path());
        say("  on the disk", mebibytes(bytes));
        let each = bytes as f64 / options.series as f64;
        say("  on the disk, a series", format!("{each:.0} bytes"));
    });
    say(
        "  memory beyond before",
        mebibytes(peak().saturating_sub(before)),
    );

    runtime.block_on(engine.stop());
    drop(engine);
    let before = resident();
    say("resident when the engine is gone", mebibytes(before));
    forget_peak();
    let (begun, cpu_before) = (Instant::now(), cpu());
    let (engine, warnings) = start(&runtime, options, directory.path());
    say("restore", milliseconds(begun.elapsed()));
    say("  CPU", milliseconds(cpu().saturating_sub(cpu_before)));
    assert_eq!(warnings, Vec::<String>::new());
    say("  at its peak", mebibytes(peak()));
    sizes(&runtime, &engine, options, own);
    let probe = Probe::new(&world, options.ticks + 1);
    probe.beside(&runtime, &engine, "the first tick after that", || {
        runtime.block_on(engine.tick(at(options.ticks + 1)));
    });
    runtime.block_on(engine.stop());
}

fn start(runtime: &Runtime, options: &Options, directory: &Path) -> (Handle, Vec<String>) {
    let settings = Settings {
        shards: NonZeroUsize::new(options.shards).expect("at least one shard"),
        max_series: options.series as u64 + 1,
        max_series_per_service: options.series as u64 + 1,
        ..Settings::default()
    };
    let rules: Arc<[Rule]> = Config::default().model_rules();
    let _guard = runtime.enter();
    let saved = snapshot::Reader::open(directory, at(0));
    Engine::start(settings, rules, Telemetry::new(), saved).expect("threads")
}

fn save(runtime: &Runtime, engine: &Handle, directory: &Path) -> u64 {
    let (sender, mut chunks) = tokio::sync::mpsc::channel(4);
    let engine = engine.clone();
    let saving = runtime.spawn(async move { engine.save(sender).await });
    let bytes = snapshot::write(directory, at(0), || Ok(chunks.blocking_recv()));
    assert!(runtime.block_on(saving).expect("no panic").is_some());
    bytes.expect("a disk")
}

fn sizes(runtime: &Runtime, engine: &Handle, options: &Options, own: u64) {
    let series = options.series as f64;
    let bytes = runtime.block_on(engine.bytes()) as f64 / series;
    say("  state, a series", format!("{bytes:.0} bytes"));
    let all = resident().saturating_sub(own);
    let each = all as f64 / series;
    say("  resident", mebibytes(all));
    say("  resident, a series", format!("{each:.0} bytes"));
}

/// All series there are, and what they report.
struct World {
    series: Vec<(SeriesId, Arc<SeriesIdentity>)>,
}

impl World {
    fn new(count: usize) -> Self {
        let resources: Vec<_> = (0..SERVICES * INSTANCES).map(resource).collect();
        let scope = Arc::new(Scope {
            name: "io.opentelemetry.http".into(),
            version: "2.1.0".into(),
            attributes: Attributes::default(),
        });
        let metrics: Vec<(Arc<str>, Arc<str>)> = (0..40)
            .map(|number| (format!("app.work.number{number}").into(), "1".into()))
            .collect();
        let series = |number: usize| {
            let (metric, unit) = metrics[number / 1_000 % metrics.len()].clone();
            let identity = Arc::new(SeriesIdentity {
                resource: Arc::clone(&resources[number % resources.len()]),
                instrument: Arc::new(Instrument {
                    scope: Arc::clone(&scope),
                    metric,
                    unit,
                    kind: kind(number),
                }),
                attributes: attributes(number),
            });
            (identity.id(), identity)
        };
        Self {
            series: (0..count).map(series).collect(),
        }
    }

    fn send(&self, runtime: &Runtime, engine: &Handle, tick: i64) {
        let mut first = 0;
        for part in self.series.chunks(REQUEST) {
            let points = (first..).zip(part);
            let batch = Batch {
                points: points
                    .map(|(number, (id, identity))| point(number, *id, identity, tick, 0))
                    .collect(),
                ..Batch::default()
            };
            first += part.len();
            let rejected = runtime.block_on(engine.apply(batch, at(tick)));
            let rejected = rejected.expect("room");
            assert!(rejected.is_empty(), "{rejected:?}");
        }
    }
}

fn resource(number: usize) -> Arc<Resource> {
    let service = format!("service-{:03}", number % SERVICES);
    let text = |text: String| AttributeValue::Str(text.into());
    Arc::new(Resource {
        attributes: Attributes::from_pairs([
            ("service.name".into(), text(service.clone())),
            ("service.namespace".into(), text("shop".into())),
            ("service.version".into(), text("1.14.2".into())),
            (
                "service.instance.id".into(),
                text(format!("627cc493-f310-47de-96bd-{number:012}")),
            ),
            ("host.name".into(), text(format!("node-{number:04}"))),
            (
                "k8s.pod.name".into(),
                text(format!("{service}-{number:08x}")),
            ),
            ("telemetry.sdk.language".into(), text("java".into())),
        ]),
        service: service.into(),
    })
}

fn attributes(number: usize) -> Attributes {
    let text = |text: &str| AttributeValue::from(text);
    Attributes::from_pairs([
        ("http.request.method".into(), text("GET")),
        (
            "http.route".into(),
            text(&format!("/api/v1/orders/{}/items", number / 10_000)),
        ),
        ("http.response.status_code".into(), AttributeValue::Int(200)),
        ("network.protocol.version".into(), text("1.1")),
        ("url.scheme".into(), text("https")),
        ("server.address".into(), text("shop.example.com")),
        ("shard".into(), AttributeValue::Int(number as i64)),
    ])
}

/// A quarter each: constant gauges, integer gauges, noisy ones, counters.
fn kind(number: usize) -> MetricKind {
    match number % 4 {
        3 => MetricKind::Sum {
            monotonic: true,
            temporality: Temporality::Cumulative,
        },
        _ => MetricKind::Gauge,
    }
}

fn point(
    number: usize,
    series: SeriesId,
    identity: &Arc<SeriesIdentity>,
    tick: i64,
    later_nanos: i64,
) -> MetricPoint {
    let noise = noise(number as u64, tick as u64);
    let value = match number % 4 {
        0 => 512.0,
        1 => (20.0 + 10.0 * noise).round(),
        2 => 0.25 + 0.1 * noise,
        // Some hundred events a tick, more or less.
        _ => (tick * 200 + 80) as f64 + (20.0 * noise).round(),
    };
    // Spread over the tick, so that none falls on its end.
    let within = (number as i64 % 9_000) * 1_000_000 + later_nanos;
    MetricPoint {
        series,
        identity: Arc::clone(identity).into(),
        start: (number % 4 == 3).then(|| at(-1)),
        time: Timestamp::from_nanos(at(tick).as_nanos() - TICK * 1_000_000_000 + 1 + within),
        data: PointData::Number(value),
        exemplar: None,
    }
}

/// About normal, within ±3.
fn noise(series: u64, tick: u64) -> f64 {
    let mut state =
        series.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ tick.wrapping_mul(0xd1b5_4a32_d192_ed03);
    let mut sum = 0.0;
    for _ in 0..4 {
        state ^= state >> 30;
        state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 27;
        sum += (state >> 11) as f64 / (1_u64 << 53) as f64;
    }
    (sum - 2.0) * 3.0_f64.sqrt()
}

/// The end of a tick.
fn at(tick: i64) -> Timestamp {
    Timestamp::from_secs(START + tick * TICK)
}

/// Applies single points and takes the time.
struct Probe {
    series: Vec<(usize, SeriesId, Arc<SeriesIdentity>)>,
    tick: i64,
}

impl Probe {
    /// Its points are of the tick after `tick`.
    fn new(world: &World, tick: i64) -> Self {
        let every = (world.series.len() / 997).max(1);
        let series = world.series.iter().enumerate().step_by(every);
        Self {
            series: series
                .map(|(number, (id, identity))| (number, *id, Arc::clone(identity)))
                .collect(),
            tick: tick + 1,
        }
    }

    /// Does `work`, and prints how long that and the points beside it took.
    fn beside(&self, runtime: &Runtime, engine: &Handle, what: &str, work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let probing = scope.spawn(|| {
                let mut times = Vec::new();
                for (later, (number, id, identity)) in (1..).zip(self.series.iter().cycle()) {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let batch = Batch {
                        points: vec![point(*number, *id, identity, self.tick, later)],
                        ..Batch::default()
                    };
                    let begun = Instant::now();
                    runtime
                        .block_on(engine.apply(batch, at(self.tick)))
                        .expect("room");
                    times.push(begun.elapsed());
                    std::thread::sleep(Duration::from_micros(300));
                }
                times.sort_unstable();
                times
            });
            let (begun, cpu) = (Instant::now(), cpu());
            work();
            let (took, cpu) = (begun.elapsed(), self::cpu().saturating_sub(cpu));
            done.store(true, Ordering::Relaxed);
            let times = probing.join().expect("the probe");
            say(
                what,
                format!(
                    "{} (CPU {}); {} points beside it: p50 {}, p99 {}, slowest {}",
                    milliseconds(took),
                    milliseconds(cpu),
                    times.len(),
                    milliseconds(share_at(&times, 0.5)),
                    milliseconds(share_at(&times, 0.99)),
                    milliseconds(share_at(&times, 1.0)),
                ),
            );
        });
    }
}

fn share_at(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    let at = at.min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

fn say(what: &str, value: impl std::fmt::Display) {
    println!("{what:<42} {value}");
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// CPU time that this process has used, in steps of 10 ms.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // The name stands in parentheses and may hold anything.
    let (_, fields) = text.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    status("VmRSS:")
}

/// The most of it since [`forget_peak`].
fn peak() -> u64 {
    status("VmHWM:")
}

/// Where the system does not let it, the peak is that of the whole run.
fn forget_peak() {
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let kibibytes: u64 = number.unwrap_or(0);
    kibibytes * 1024
}
