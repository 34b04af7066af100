//! The engine from outside: batches and ticks in, reports and views out.

mod laws;
mod limits;
mod memory;
mod moved;
mod reporting;
mod restore;
mod signal_memory;
mod silence;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Engine, Handle, Settings, TickReport};
use crate::model::{
    AttributeValue, Attributes, Batch, DetectorSpec, Direction, For, Instrument, Labels,
    MetricKind, MetricPoint, Operation, PointData, Query, Rejections, Resource, Rule, Scope,
    Selector, SeriesIdentity, SigmaThresholds, SignalView, SpanKind, SpanRecord, Temporality,
    Timestamp,
};
use crate::telemetry::Telemetry;

const TICK: i64 = 10;
const DELTA: MetricKind = MetricKind::Sum {
    monotonic: true,
    temporality: Temporality::Delta,
};

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + seconds)
}

fn settings(shards: usize) -> Settings {
    Settings {
        shards: NonZeroUsize::new(shards).unwrap(),
        ..Settings::default()
    }
}

/// A rule that judges after five samples and fires at once.
pub(super) fn rule(alert: &str, selector: &str) -> Rule {
    Rule {
        alert: alert.into(),
        selector: select(selector),
        detector: DetectorSpec {
            name: "zscore".into(),
            ..DetectorSpec::default()
        },
        sigma: SigmaThresholds {
            warning: 3.0,
            critical: Some(6.0),
        },
        direction: Direction::Both,
        hold: For::Samples { n: 1, of: 1 },
        resolve_sigma: 1.0,
        resolve_samples: 3,
        min_samples: 5,
        min_change: 0.0,
        min_change_ratio: 0.0,
        labels: Labels::default(),
        annotations: Labels::default(),
    }
}

fn start(settings: Settings, rules: &[Rule]) -> (Handle, Telemetry) {
    let telemetry = Telemetry::new();
    let (handle, warnings) =
        Engine::start(settings, rules.into(), telemetry.clone(), Vec::new()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    (handle, telemetry)
}

fn resource(service: &str, more: &[(&str, &str)]) -> Arc<Resource> {
    let pairs = [("service.name", service)]
        .into_iter()
        .chain(more.iter().copied());
    Arc::new(Resource {
        service: service.into(),
        attributes: Attributes::from_pairs(
            pairs.map(|(key, value)| (key.into(), AttributeValue::from(value))),
        ),
    })
}

/// A series of metric `m` of `service`, told from others by `instance`.
pub(super) fn identity(service: &str, instance: u32, kind: MetricKind) -> Arc<SeriesIdentity> {
    Arc::new(SeriesIdentity {
        resource: resource(service, &[("host.name", "h")]),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope::default()),
            metric: "m".into(),
            unit: "s".into(),
            kind,
        }),
        attributes: Attributes::from_pairs([(
            "instance".into(),
            AttributeValue::Int(i64::from(instance)),
        )]),
    })
}

fn point(identity: &Arc<SeriesIdentity>, time: Timestamp, data: PointData) -> MetricPoint {
    MetricPoint {
        series: identity.id(),
        identity: Arc::clone(identity).into(),
        start: None,
        time,
        data,
        exemplar: None,
    }
}

fn gauge(service: &str, instance: u32, seconds: i64, value: f64) -> MetricPoint {
    let identity = identity(service, instance, MetricKind::Gauge);
    point(&identity, at(seconds), PointData::Number(value))
}

/// `value` over the ten seconds that end at `seconds`.
fn delta(service: &str, instance: u32, seconds: i64, value: f64) -> MetricPoint {
    let identity = identity(service, instance, DELTA);
    MetricPoint {
        start: Some(at(seconds - TICK)),
        ..point(&identity, at(seconds), PointData::Number(value))
    }
}

pub(super) fn span(
    service: &str,
    trace: u128,
    id: u64,
    parent: Option<u64>,
    seconds: i64,
) -> (Operation, SpanRecord) {
    let end = at(seconds);
    let operation = Operation {
        resource: resource(service, &[("host.name", "h")]),
        name: "GET /".into(),
        kind: SpanKind::Server,
    };
    let span = SpanRecord {
        trace_id: trace,
        span_id: id,
        parent_id: parent,
        start: end.minus(Duration::from_millis(100 + id % 7)),
        end,
        operation: 0,
        error: id.is_multiple_of(5),
    };
    (operation, span)
}

fn points(points: impl IntoIterator<Item = MetricPoint>) -> Batch {
    Batch {
        points: points.into_iter().collect(),
        ..Batch::default()
    }
}

fn spans(spans: impl IntoIterator<Item = (Operation, SpanRecord)>) -> Batch {
    let mut batch = Batch::default();
    for (operation, span) in spans {
        batch.add_span(operation, span);
    }
    batch
}

/// Applies one batch at `seconds`; nothing may be busy.
async fn apply(handle: &Handle, seconds: i64, batch: Batch) -> Rejections {
    handle.apply(batch, at(seconds)).await.unwrap()
}

/// Feeds one value a tick to one gauge from `from` on, and gathers the reports.
async fn feed(handle: &Handle, from: i64, values: &[f64]) -> Vec<TickReport> {
    let mut reports = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let now = from + i as i64 * TICK;
        apply(handle, now, points([gauge("shop", 0, now, *value)])).await;
        reports.push(handle.tick(at(now)).await);
    }
    reports
}

async fn all_signals(handle: &Handle) -> Vec<SignalView> {
    handle
        .signals(Selector::default(), None, 10_000)
        .await
        .items
}

fn select(selector: &str) -> Selector {
    Selector::parse(selector).unwrap()
}
