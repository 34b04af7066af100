//! What points mean: which series they belong to, and what is made of them.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    exponential_histogram_data_point::Buckets,
};
use prost::Message as _;
use serde_json::Value;

use super::grpc::{self, Call, Code};
use super::make::{
    CUMULATIVE, DELTA, Metrics, SECOND, attribute, exponential, gauge, gzip, histogram, number,
    sum, summary, text, zstd,
};
use super::{Body, Counted, Table};
use crate::harness::otlp::now_nanos;
use crate::harness::{Daemon, eventually};

async fn post(table: &Table, request: &ExportMetricsServiceRequest) -> Counted {
    let before = table.counted().await;
    let (status, _, answer) = table.post(&Body::protobuf(request.encode_to_vec())).await;
    assert_eq!((status, answer.as_slice()), (200, &b""[..]));
    table.counted().await.since(&before)
}

async fn series(table: &Table) -> u64 {
    table
        .daemon
        .metric("tidewatch_series")
        .await
        .expect("a number") as u64
}

fn value(value: any_value::Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// One of everything.
fn everything() -> ExportMetricsServiceRequest {
    use any_value::Value::{
        ArrayValue as Array, BoolValue, BytesValue, DoubleValue, IntValue, KvlistValue, StringValue,
    };
    let now = now_nanos();
    let list = vec![
        value(IntValue(1)),
        value(StringValue("é\n".into())),
        value(DoubleValue(1.0)),
    ];
    let map = KeyValueList {
        values: vec![text("b", "2"), text("a", "1")],
    };
    let attributes: Vec<KeyValue> = vec![
        attribute("int", IntValue(i64::MIN)),
        attribute("double", DoubleValue(0.1)),
        attribute("bool", BoolValue(false)),
        attribute("bytes", BytesValue(vec![0, 255, 7])),
        attribute("array", Array(ArrayValue { values: list })),
        attribute("map", KvlistValue(map)),
        text("text", "ünï\u{1f30a}\"\\"),
    ];
    let mut point = number(now, 0.1);
    point.start_time_unix_nano = now - SECOND;
    point.attributes = attributes.clone();
    let buckets = HistogramDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano: now - SECOND,
        time_unix_nano: now,
        count: 6,
        sum: Some(12.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![1.0, 2.5],
        min: Some(0.5),
        max: Some(5.0),
        ..HistogramDataPoint::default()
    };
    let powers = ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano: now - SECOND,
        time_unix_nano: now,
        count: 7,
        sum: Some(3.0),
        scale: -1,
        zero_count: 1,
        positive: Some(Buckets {
            offset: -3,
            bucket_counts: vec![1, 0, 2],
        }),
        negative: Some(Buckets {
            offset: 2,
            bucket_counts: vec![3],
        }),
        zero_threshold: 0.01,
        ..ExponentialHistogramDataPoint::default()
    };
    Metrics::of("all")
        .scope(InstrumentationScope {
            name: "library".into(),
            version: "1.2".into(),
            attributes: vec![text("scoped", "yes")],
            ..InstrumentationScope::default()
        })
        .metric(gauge("gauge", vec![point.clone()]))
        .metric(sum("delta", DELTA, true, vec![point.clone()]))
        .metric(sum("cumulative", CUMULATIVE, true, vec![point.clone()]))
        .metric(sum("up.down", CUMULATIVE, false, vec![point]))
        .metric(histogram("histogram", DELTA, vec![buckets]))
        .metric(exponential("exponential", CUMULATIVE, vec![powers]))
        .metric(summary("summary", &[(0.5, 1.0), (0.99, 2.0)]))
        .request()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_encodings_meet_in_one_series() {
    let mut table = Table::start().await;
    table.good_request("0").await;
    let request = everything();
    let wire = request.encode_to_vec();
    let json = serde_json::to_vec(&request).expect("JSON");
    let ways = [
        Body::json(json.clone()),
        Body::protobuf(wire.clone()),
        Body::json(gzip(&json)).encoded("gzip"),
        Body::protobuf(zstd(&wire)).encoded("zstd"),
    ];
    // Which of them comes first does not matter: each is the first for a daemon of its own.
    let mut shown = Vec::new();
    for first in &ways {
        let table = Table::start().await;
        let before = table.counted().await;
        let (status, _, _) = table.post(first).await;
        assert_eq!(status, 200);
        assert_eq!(table.counted().await.since(&before), Counted::applied(7));
        for again in &ways {
            let before = table.counted().await;
            let (status, _, _) = table.post(again).await;
            assert_eq!(status, 200);
            let after = table.counted().await.since(&before);
            assert_eq!(after, Counted::late("repeated", 7), "the same series");
        }
        assert_eq!(series(&table).await, 7);
        // gauge 1, rates 2, value 1, histogram 5, exponential 5 (all but what one point cannot say),
        // summary 2 quantiles (and a rate once there are two points).
        let signals = eventually("all signals", || async {
            let found = table.daemon.series("{service=\"all\"}").await;
            let metrics: std::collections::BTreeSet<_> = found
                .iter()
                .filter(|signal| !signal["last"].is_null())
                .filter_map(|signal| signal["metric"].as_str().map(str::to_owned))
                .collect();
            (metrics.len() == 7).then_some(found)
        })
        .await;
        let mut list: Vec<String> = signals
            .iter()
            .map(|s| {
                format!(
                    "{} {} {} {}",
                    s["id"], s["signal"], s["attributes"], s["last"]["value"]
                )
            })
            .collect();
        list.sort();
        shown.push(list);
    }
    for other in &shown[1..] {
        assert_eq!(&shown[0], other, "the same series and samples");
    }
    let called = table.grpc.call(Call::metrics(wire)).await;
    assert_eq!(called.code, Code::Ok);
    let mut client = grpc::metrics_client(&table.daemon.grpc).await;
    let before = table.counted().await;
    client.export(request).await.expect("taken");
    assert_eq!(
        table.counted().await.since(&before),
        Counted::late("repeated", 7)
    );
    table.finish("encodings").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity() {
    use any_value::Value::{BoolValue, DoubleValue, IntValue, StringValue};
    let mut table = Table::start().await;
    table.good_request("0").await;
    let start = series(&table).await;
    let now = now_nanos();
    let with = |attributes: Vec<KeyValue>| {
        let mut point = number(now, 1.0);
        point.attributes = attributes;
        Metrics::of("identity").metric(gauge("m", vec![point]))
    };
    let named = |edit: fn(&mut Metric)| {
        let mut metric = gauge("m", vec![number(now, 1.0)]);
        edit(&mut metric);
        Metrics::of("identity").metric(metric)
    };
    let scoped = |name: &str, version: &str, attributes| {
        named(|_| {}).scope(InstrumentationScope {
            name: name.into(),
            version: version.into(),
            attributes,
            ..InstrumentationScope::default()
        })
    };
    let of_sum = |temporality, monotonic| {
        Metrics::of("identity").metric(sum("m", temporality, monotonic, vec![number(now, 1.0)]))
    };
    let mut in_another_place = named(|_| {}).request();
    if let Some(resource) = &mut in_another_place.resource_metrics[0].resource {
        resource.attributes.push(text("host.name", "b"));
    }
    let different = [
        with(vec![]).request(),
        with(vec![attribute("k", IntValue(1))]).request(),
        with(vec![text("k", "1")]).request(),
        with(vec![attribute("k", DoubleValue(1.0))]).request(),
        with(vec![attribute("k", BoolValue(true))]).request(),
        with(vec![text("k", "true")]).request(),
        with(vec![text("a", "1"), text("b", "2")]).request(),
        with(vec![text("a", "1b"), text("", "2")]).request(),
        named(|metric| metric.name = "M".into()).request(),
        named(|metric| metric.unit = "s".into()).request(),
        scoped("other", "", vec![]).request(),
        scoped("test", "2", vec![]).request(),
        scoped("test", "", vec![text("a", "1")]).request(),
        of_sum(DELTA, true).request(),
        of_sum(DELTA, false).request(),
        of_sum(CUMULATIVE, true).request(),
        of_sum(CUMULATIVE, false).request(),
        Metrics::of("another").gauge("m", &[(now, 1.0)]).request(),
        in_another_place,
    ];
    for (i, request) in different.iter().enumerate() {
        assert_eq!(
            post(&table, request).await,
            Counted::applied(1),
            "{i}: {request:?}"
        );
        assert_eq!(
            series(&table).await,
            start + 1 + i as u64,
            "{i}: {request:?}"
        );
    }
    let alike = [
        with(vec![text("b", "2"), text("a", "1")]).request(),
        with(vec![text("a", "0"), text("b", "2"), text("a", "1")]).request(),
        with(vec![text("a", "1"), text("b", "2"), text("", "x")]).request(),
        with(vec![attribute("k", StringValue("1".into()))]).request(),
        named(|metric| metric.description = "said otherwise".into()).request(),
    ];
    for request in &alike {
        assert_eq!(
            post(&table, request).await,
            Counted::late("repeated", 1),
            "{request:?}"
        );
    }
    assert_eq!(series(&table).await, start + different.len() as u64);
    // A resource without a name, or with an empty one, has one all the same.
    let mut nameless = named(|_| {}).request();
    nameless.resource_metrics[0].resource = None;
    assert_eq!(post(&table, &nameless).await, Counted::applied(1));
    assert_eq!(
        post(&table, &Metrics::of("").gauge("m", &[(now, 1.0)]).request())
            .await
            .applied,
        1
    );
    eventually("unknown_service", || async {
        let found = table.daemon.series("{service=\"unknown_service\"}").await;
        (found.len() == 2).then_some(())
    })
    .await;
    table.finish("identity").await;
}

/// A point of a total: (seconds ago of its start, 0 for none; seconds ago of its time; value).
fn total(now: u64, (start, time, value): (u64, u64, f64)) -> NumberDataPoint {
    NumberDataPoint {
        start_time_unix_nano: if start > 0 { now - start * SECOND } else { 0 },
        ..number(now - time * SECOND, value)
    }
}

async fn samples(daemon: &Daemon, metric: &str, count: usize) -> Vec<f64> {
    let selector = format!("{{service=\"sums\",metric=\"{metric}\"}}");
    eventually(&format!("{count} samples of {metric}"), || async {
        let found = daemon.series(&selector).await;
        let id = found.first()?["id"].as_str()?.to_owned();
        let answer = daemon.get(&format!("/api/v1/series/{id}/samples")).await;
        let samples = answer["data"].as_array()?;
        let values: Vec<f64> = samples.iter().filter_map(|s| s["value"].as_f64()).collect();
        (values.len() >= count).then_some(values)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_changes_resets_and_gaps() {
    type Points = &'static [(u64, u64, f64)];
    let mut table = Table::start().await;
    let now = now_nanos();
    let cases: [(&str, i32, Points, Counted, &[f64]); 11] = [
        (
            "a start at first sight is a zero",
            CUMULATIVE,
            &[(60, 50, 20.0), (60, 40, 50.0)],
            Counted::applied(2),
            &[2.0, 3.0],
        ),
        (
            "a newer start is a reset",
            CUMULATIVE,
            &[(60, 50, 20.0), (45, 40, 10.0)],
            Counted::applied(2),
            &[2.0, 2.0],
        ),
        (
            "a smaller value is a reset",
            CUMULATIVE,
            &[(60, 50, 20.0), (60, 40, 10.0)],
            Counted::applied(2),
            &[2.0, 1.0],
        ),
        (
            "without a start the first says nothing",
            CUMULATIVE,
            &[(0, 50, 1e9), (0, 40, 1e9 + 10.0), (0, 30, 5.0)],
            Counted::applied(3),
            &[1.0, 0.5],
        ),
        (
            "a start at its own time says nothing",
            CUMULATIVE,
            &[(50, 50, 7.0), (50, 40, 17.0)],
            Counted::applied(2),
            &[1.0],
        ),
        (
            "a gap is averaged over",
            CUMULATIVE,
            &[(60, 50, 10.0), (60, 10, 50.0)],
            Counted::applied(2),
            &[1.0, 1.0],
        ),
        (
            "a change is over its own time",
            DELTA,
            &[(60, 50, 20.0), (50, 45, 20.0), (40, 30, 5.0)],
            Counted::applied(3),
            &[2.0, 4.0, 0.5],
        ),
        (
            "a change that overlaps is dropped",
            DELTA,
            &[(60, 50, 20.0), (55, 40, 9.0), (50, 30, 20.0)],
            Counted {
                applied: 2,
                ..Counted::late("overlap", 1)
            },
            &[2.0, 1.0],
        ),
        (
            "what comes again is dropped",
            DELTA,
            &[(60, 50, 20.0), (60, 50, 20.0)],
            Counted {
                applied: 1,
                ..Counted::late("repeated", 1)
            },
            &[2.0],
        ),
        (
            "what comes late is dropped",
            CUMULATIVE,
            &[(60, 40, 20.0), (60, 50, 10.0)],
            Counted {
                applied: 1,
                ..Counted::late("late", 1)
            },
            &[1.0],
        ),
        (
            "of two writers one counts",
            CUMULATIVE,
            &[
                (90, 80, 10.0),
                (85, 79, 500.0),
                (90, 70, 20.0),
                (85, 69, 600.0),
                (90, 60, 30.0),
            ],
            Counted {
                applied: 3,
                ..Counted::late("overlap", 2)
            },
            &[1.0, 1.0, 1.0],
        ),
    ];
    for (name, temporality, points, counts, rates) in cases {
        let points = points.iter().map(|point| total(now, *point)).collect();
        let request = Metrics::of("sums")
            .metric(sum(name, temporality, true, points))
            .request();
        assert_eq!(post(&table, &request).await, counts, "{name}");
        let seen = samples(&table.daemon, name, rates.len()).await;
        let close = seen.iter().zip(rates).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(
            close && seen.len() == rates.len(),
            "{name}: {seen:?}, expected {rates:?}"
        );
    }

    // NO_RECORDED_VALUE ends a series: not an error; what comes after is not compared with before.
    let ended = NumberDataPoint {
        flags: 1,
        value: None,
        ..total(now, (60, 40, f64::NAN))
    };
    let points = vec![
        total(now, (60, 50, 20.0)),
        ended.clone(),
        total(now, (60, 30, 90.0)),
        total(now, (60, 20, 100.0)),
    ];
    let request = Metrics::of("sums")
        .metric(sum("ended", CUMULATIVE, true, points))
        .request();
    assert_eq!(post(&table, &request).await, Counted::applied(4));
    assert_eq!(samples(&table.daemon, "ended", 2).await, [2.0, 1.0]);
    // Its values are ignored, whatever they are.
    let nonsense = HistogramDataPoint {
        flags: 1,
        time_unix_nano: now,
        bucket_counts: vec![1],
        explicit_bounds: vec![f64::NAN, 3.0],
        ..HistogramDataPoint::default()
    };
    let request = Metrics::of("sums")
        .metric(histogram("ended.histogram", CUMULATIVE, vec![nonsense]))
        .metric(gauge(
            "ended.gauge",
            vec![NumberDataPoint {
                flags: 1,
                ..number(now, f64::NAN)
            }],
        ))
        .request();
    assert_eq!(post(&table, &request).await, Counted::applied(2));

    // What goes up and down is a value; changes of it are accumulated.
    for (name, temporality, expected) in [
        ("level", CUMULATIVE, [5.0, -2.0, 3.0]),
        ("steps", DELTA, [5.0, 3.0, 6.0]),
    ] {
        let points = [(60, 50, 5.0), (60, 40, -2.0), (60, 30, 3.0)];
        let points = points.iter().map(|(start, time, value)| {
            let start = if temporality == DELTA {
                time + 10
            } else {
                *start
            };
            total(now, (start, *time, *value))
        });
        let request = Metrics::of("sums").metric(sum(name, temporality, false, points.collect()));
        assert_eq!(post(&table, &request.request()).await, Counted::applied(3));
        assert_eq!(samples(&table.daemon, name, 3).await, expected, "{name}");
    }
    table.good_request("sums").await;
    table.finish("sums").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_overflow_is_kept_and_not_judged() {
    let mut table = Table::start().await;
    let now = now_nanos();
    let request = |overflow: bool| {
        let points = (0..40).map(|i| {
            let level = if i < 39 {
                100.0 + f64::from(i % 3)
            } else {
                1e6
            };
            let mut point = number(now - (60 - i as u64) * SECOND, level);
            if overflow {
                let yes = any_value::Value::BoolValue(true);
                point
                    .attributes
                    .push(attribute("otel.metric.overflow", yes));
            }
            point
        });
        Metrics::of("overflow")
            .metric(gauge("m", points.collect()))
            .request()
    };
    for overflow in [true, false] {
        assert_eq!(post(&table, &request(overflow)).await, Counted::applied(40));
    }
    let found = eventually("both series, judged to the end", || async {
        let found = table.daemon.series("{service=\"overflow\"}").await;
        let last = |signal: &&Value| signal["last"]["value"].as_f64() == Some(1e6);
        (found.len() == 2 && found.iter().filter(last).count() == 2).then_some(found)
    })
    .await;
    for signal in found {
        let is_overflow = signal["attributes"].get("otel.metric.overflow").is_some();
        let judged = !signal["last"]["sigma"].is_null();
        assert_eq!(judged, !is_overflow, "{signal}");
    }
    table.good_request("overflow").await;
    table.finish("overflow").await;
}
