//! Series that come and go for a long time: neither what is counted nor what the system sees may grow.

use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tidewatch::config::Config;
use tidewatch::engine::{Engine, Settings};
use tidewatch::model::{
    AttributeValue, Attributes, Batch, Instrument, MetricKind, MetricPoint, PointData, Resource,
    Scope, SeriesIdentity, Temporality, Timestamp, WindowSpec,
};
use tidewatch::telemetry::Telemetry;

const TICK: i64 = 10;
/// Ticks that a pod lives.
const LIFE: i64 = 20;
/// Pods that are there at a time, and series of each.
const PODS: i64 = 100;
const SERIES: i64 = 10;
const TICKS: i64 = 200;
/// Set where the test is the only one in its process.
const ALONE: &str = "TIDEWATCH_TEST_CHURN";

/// A series of a pod, made anew with every request.
fn series(pod: i64, number: i64) -> Arc<SeriesIdentity> {
    let text = |key: &str, value: String| (key.into(), AttributeValue::from(&*value));
    let service = format!("service-{}", pod.rem_euclid(7));
    Arc::new(SeriesIdentity {
        resource: Arc::new(Resource {
            service: service.as_str().into(),
            attributes: Attributes::from_pairs([
                text("service.name", service),
                text("service.instance.id", format!("pod-{pod}")),
            ]),
        }),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope::default()),
            metric: format!("metric.{number}").into(),
            unit: "1".into(),
            kind: match number % 2 {
                0 => MetricKind::Gauge,
                _ => MetricKind::Sum {
                    monotonic: true,
                    temporality: Temporality::Cumulative,
                },
            },
        }),
        attributes: Attributes::from_pairs([text(
            "route",
            "/x".repeat(1 + pod.unsigned_abs() as usize % 40),
        )]),
    })
}

/// A tick's points: of the pods that live, and of one that stays.
fn batch(tick: i64) -> Batch {
    // They do not all leave at once.
    let pods = (0..PODS).map(|place| (tick + place * LIFE / PODS) / LIFE * PODS + place);
    let all = pods
        .chain([-1])
        .flat_map(|pod| (0..SERIES).map(move |number| (pod, number)));
    let points = all.map(|(pod, number)| {
        let identity = series(pod, number);
        let wanders = (tick * 37 + pod * 11 + number).rem_euclid(101);
        MetricPoint {
            series: identity.id(),
            identity: identity.into(),
            start: None,
            time: at(tick),
            data: PointData::Number((tick * 1_000 + wanders) as f64),
            exemplar: None,
        }
    });
    Batch {
        points: points.collect(),
        ..Batch::default()
    }
}

fn at(tick: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + tick * TICK)
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux says");
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<usize>().ok());
    pages.expect("the second number") * 4096
}

async fn churn() {
    let settings = Settings {
        shards: NonZeroUsize::MIN.saturating_add(1),
        window: WindowSpec::Samples(10),
        idle_after: Duration::from_secs(60),
        ..Settings::default()
    };
    let telemetry = Telemetry::new();
    let rules = Config::default().model_rules();
    let started = Engine::start(settings, rules, telemetry.clone(), Vec::new());
    let engine = started.expect("it starts").0;
    let mut most = [[0; 2]; 2];
    for tick in 1..=TICKS {
        engine
            .apply(batch(tick), at(tick))
            .await
            .expect("there is room");
        engine.tick(at(tick)).await;
        // All that grows at first has grown after a quarter; the last is compared with the second.
        let quarter = match (tick - 1) * 4 / TICKS {
            1 => 0,
            3 => 1,
            _ => continue,
        };
        let now = [engine.bytes().await, resident()];
        for (most, now) in most[quarter].iter_mut().zip(now) {
            *most = now.max(*most);
        }
    }
    let living = telemetry.series.get();
    assert!(living < PODS * SERIES * 2, "{living}");
    let [[state, memory], [state_later, memory_later]] = most;
    assert!(state_later < state + state / 10, "{state} {state_later}");
    assert!(
        memory_later < memory + memory / 5,
        "{memory} {memory_later}"
    );
    for tick in TICKS + 1..TICKS + 30 {
        engine.tick(at(tick)).await;
    }
    assert_eq!(telemetry.series.get(), 0);
    let left = engine.bytes().await;
    assert!(left < state / 10, "{left} of {state}");
    engine.stop().await;
}

#[test]
fn series_that_come_and_go_leave_no_memory_behind() {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        return runtime.expect("a runtime").block_on(churn());
    }
    // Other tests take memory, too: it runs again, alone.
    let name = "churn::series_that_come_and_go_leave_no_memory_behind";
    let done = Command::new(std::env::current_exe().expect("this is one"))
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    let complained = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "{said}");
}
