//! How fast samples are judged and batches applied: `cargo bench --bench engine`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use tidewatch::detect;
use tidewatch::engine::{Engine, Settings};
use tidewatch::model::{
    AttributeValue, Attributes, Batch, DetectorSpec, Direction, For, Labels, MetricKind,
    MetricPoint, PointData, Resource, Rule, Sample, Scope, Selector, SeriesIdentity,
    SigmaThresholds, SignalKind, Timestamp, WindowSpec,
};
use tidewatch::telemetry::Telemetry;
use tidewatch::window::Window;

fn main() {
    divan::main();
}

fn rule(detector: &str) -> Rule {
    Rule {
        alert: "Bench".into(),
        selector: Selector::default(),
        detector: DetectorSpec {
            name: detector.into(),
            upper: Some(1e9),
            ..DetectorSpec::default()
        },
        sigma: SigmaThresholds {
            warning: 4.0,
            critical: Some(6.0),
        },
        direction: Direction::Both,
        hold: For::Samples { n: 3, of: 5 },
        resolve_sigma: 1.0,
        resolve_samples: 3,
        min_samples: 30,
        min_change: 0.0,
        min_change_ratio: 0.0,
        labels: Labels::default(),
        annotations: Labels::default(),
    }
}

/// Something that looks like noise around 1e9.
fn value(n: i64) -> f64 {
    1e9 + ((n.wrapping_mul(0x9e37_79b9) >> 7) % 1000) as f64
}

fn sample(n: i64) -> Sample {
    Sample {
        time: Timestamp::from_secs(n),
        value: value(n),
    }
}

/// One sample judged by a detector, then taken in by the window.
#[divan::bench(args = ["zscore", "robust", "threshold"])]
fn judge_and_push(bencher: Bencher<'_, '_>, detector: &str) {
    let mut detector =
        detect::build(&rule(detector), SignalKind::Value).expect("a detector of the registry");
    let mut window = Window::new(WindowSpec::Samples(100));
    let mut n = 0;
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        n += 1;
        let verdict = detector.observe(sample(n), 1, &window);
        window.push(sample(n));
        verdict
    });
}

/// A request of 200 points of known series, each the first of a new tick: what was open is judged.
#[divan::bench(args = [1, 2])]
fn apply_200_points(bencher: Bencher<'_, '_>, shards: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    let settings = Settings {
        shards: NonZeroUsize::new(shards).expect("at least one shard"),
        ..Settings::default()
    };
    let rules = [rule("zscore")];
    let _guard = runtime.enter();
    let (handle, _) =
        Engine::start(settings, rules.into(), Telemetry::new(), Vec::new()).expect("threads");
    let series: Vec<_> = (0..200).map(identity).collect();
    let mut now = 1_800_000_000;
    bencher
        .counter(ItemsCount::new(series.len()))
        .with_inputs(|| {
            now += 10;
            let point = |identity: &Arc<SeriesIdentity>| MetricPoint {
                series: identity.id(),
                identity: Arc::clone(identity).into(),
                start: None,
                time: Timestamp::from_secs(now),
                data: PointData::Number(value(now)),
                exemplar: None,
            };
            let batch = Batch {
                points: series.iter().map(point).collect(),
                ..Batch::default()
            };
            (batch, Timestamp::from_secs(now))
        })
        .bench_local_values(|(batch, now)| runtime.block_on(handle.apply(batch, now)));
    runtime.block_on(handle.stop());
}

fn identity(n: i64) -> Arc<SeriesIdentity> {
    Arc::new(SeriesIdentity {
        resource: Arc::new(Resource {
            service: "bench".into(),
            attributes: Attributes::from_pairs([(
                "service.name".into(),
                AttributeValue::from("bench"),
            )]),
        }),
        scope: Arc::new(Scope::default()),
        metric: "bench.value".into(),
        unit: "1".into(),
        kind: MetricKind::Gauge,
        attributes: Attributes::from_pairs([("n".into(), AttributeValue::Int(n))]),
    })
}
