//! Rows 26 to 28: more series and services than there is room for.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric, NumberDataPoint};
use prost::Message as _;

use super::make::{
    CUMULATIVE, DELTA, Metrics, gauge, histogram, number, span, sum, summary, text, traces,
};
use super::{Body, Counted, Growth, NO_RULES, Table};
use crate::harness::otlp::now_nanos;
use crate::harness::{Daemon, eventually};

async fn limited(limits: &str) -> Table {
    let config = format!("window: {{tick: 100ms, samples: 5}}\nlimits: {{{limits}}}\n{NO_RULES}");
    Table::of(Daemon::start(&config).await).await
}

/// Points that differ in one attribute.
fn points(numbers: std::ops::Range<u32>, value: f64) -> Vec<NumberDataPoint> {
    let now = now_nanos();
    let point = |i: u32| {
        let mut point = number(now, value);
        point.attributes.push(text("i", &i.to_string()));
        point
    };
    numbers.map(point).collect()
}

/// Sends a metric; 200 always, and what is counted is returned.
async fn send(table: &Table, service: &str, metric: Metric) -> Counted {
    let before = table.counted().await;
    let body = Metrics::of(service).metric(metric).encode();
    let (status, _, answer) = table.post(&Body::protobuf(body)).await;
    assert_eq!(status, 200, "26: never 429");
    let told = ExportMetricsServiceResponse::decode(&*answer).expect("a response");
    let told = told
        .partial_success
        .map_or(0, |partial| partial.rejected_data_points as u64);
    let after = table.counted().await.since(&before);
    assert_eq!(
        told,
        after.rejected.values().sum::<u64>(),
        "26: told exactly"
    );
    after
}

#[tokio::test(flavor = "multi_thread")]
async fn row_26_more_series_than_there_is_room_for() {
    let mut table = limited("series: 30, series_per_service: 8, services: 5").await;
    table.good_request("26").await;
    let crowd = async |metric| send(&table, "crowd", metric).await;
    assert_eq!(
        crowd(gauge("g", points(0..8, 1.0))).await,
        Counted::applied(8)
    );
    // The known go on, the new are refused; so is what cannot be added up.
    let refused = |count| Counted::rejected("series_limit", count);
    assert_eq!(
        crowd(gauge("g", points(0..13, 2.0))).await,
        refused(5).and_applied(8)
    );
    assert_eq!(
        crowd(sum("c", CUMULATIVE, true, points(0..3, 1.0))).await,
        refused(3)
    );
    assert_eq!(crowd(summary("q", &[(0.5, 1.0)])).await, refused(1));
    // Changes are added up in one series for each metric, and nothing is refused.
    let three = sum("orders", DELTA, true, points(0..3, 10.0));
    assert_eq!(crowd(three).await, Counted::applied(3));
    let now = now_nanos();
    let histograms = (0..3).map(|i| HistogramDataPoint {
        time_unix_nano: now,
        count: 4,
        sum: Some(2.0),
        bucket_counts: vec![4, 0],
        explicit_bounds: vec![1.0],
        attributes: vec![text("i", &format!("{i}"))],
        ..HistogramDataPoint::default()
    });
    let three = histogram("latency", DELTA, histograms.collect());
    assert_eq!(crowd(three).await, Counted::applied(3));
    let spans = (1..=3)
        .map(|id| span(26, id, None, &format!("operation {id}")))
        .collect();
    let body = Body::protobuf(traces("crowd", spans).encode_to_vec()).of_traces();
    let before = table.counted().await;
    let (status, _, answer) = table.post(&body).await;
    assert_eq!((status, answer.as_slice()), (200, &b""[..]));
    assert_eq!(table.counted().await.since(&before), Counted::applied(3));
    // 30 orders, 12 observations and 3 spans in a tick of 100 ms.
    for (metric, rate) in [
        ("orders", 300.0),
        ("latency", 120.0),
        ("span.duration", 30.0),
    ] {
        let selector = format!("{{service=\"crowd\",metric=\"{metric}\",signal=\"rate\"}}");
        let signal = eventually(&selector, || async {
            let found = table.daemon.series(&selector).await;
            assert!(found.len() <= 1, "26: {found:?}");
            found.into_iter().next()
        })
        .await;
        let overflow = &signal["attributes"]["otel.metric.overflow"];
        assert_eq!(overflow, "true", "26: {signal}");
        let max = signal["window"]["max"].as_f64().expect("a rate");
        assert!((max / rate - 1.0).abs() < 1e-9, "26: {metric} {signal}");
    }
    // A service that is not at its own limit meets that of all: 1 + 8 + 3 series are there.
    for service in ["b", "c"] {
        let after = send(&table, service, gauge("g", points(0..8, 1.0))).await;
        assert_eq!(after, Counted::applied(8));
    }
    let after = send(&table, "d", gauge("g", points(0..8, 1.0))).await;
    assert_eq!(after, refused(6).and_applied(2), "26: the limit of all");
    let after = send(&table, "e", gauge("g", points(0..1, 1.0))).await;
    assert_eq!(after, Counted::rejected("service_limit", 1), "27");
    assert_eq!(table.daemon.metric("tidewatch_series").await, Some(30.0));
    let services = table.daemon.get("/api/v1/services").await;
    let crowd = services["data"]
        .as_array()
        .and_then(|all| {
            all.iter()
                .find(|service| service["service"] == "crowd")
                .cloned()
        })
        .expect("the crowd");
    assert!(crowd["refused_series"].as_u64() > Some(0), "26: {crowd}");
    table.finish("26").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_new_names_of_services_without_end() {
    // A million where the daemon is built to be fast.
    let names: u32 = if cfg!(debug_assertions) {
        20_000
    } else {
        1_000_000
    };
    let at_once = 5_000;
    let mut table = limited("services: 50").await;
    table.good_request("27").await;
    let before = table.counted().await;
    let mut growth = None;
    for first in (0..names).step_by(at_once) {
        let mut request = ExportMetricsServiceRequest::default();
        for name in first..first + at_once as u32 {
            let one = Metrics::of(&format!("service {name}")).gauge("g", &[(now_nanos(), 1.0)]);
            request
                .resource_metrics
                .extend(one.request().resource_metrics);
        }
        let (status, _, answer) = table.post(&Body::protobuf(request.encode_to_vec())).await;
        assert_eq!(status, 200, "27");
        assert!(answer.len() < 1100, "27: one reason, one example");
        // The first request shows what so many points at once take.
        growth.get_or_insert_with(|| Growth::begin(&table.daemon));
        table.good_request("27").await;
    }
    let after = table.counted().await.since(&before);
    let good = u64::from(names) / at_once as u64;
    // One of 50 is the witness.
    let expected = Counted::rejected("service_limit", u64::from(names) - 49).and_applied(49 + good);
    assert_eq!(after, expected, "27");
    growth
        .expect("begun")
        .stays_below(&table.daemon, 32 << 20, "27");
    // Spans of new services likewise.
    let before = table.counted().await;
    let body = traces("one more", vec![span(27, 1, None, "op")]).encode_to_vec();
    let (status, _, _) = table.post(&Body::protobuf(body).of_traces()).await;
    assert_eq!(status, 200);
    let after = table.counted().await.since(&before);
    assert_eq!(after, Counted::rejected("service_limit", 1), "27: a span");
    assert_eq!(table.daemon.metric("tidewatch_services").await, Some(50.0));
    table.finish("27").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_28_values_that_never_return() {
    let config = format!("window: {{tick: 100ms, samples: 5, idle_after: 1s}}\n{NO_RULES}");
    let mut table = Table::of(Daemon::start(&config).await).await;
    table.good_request("28").await;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let rounds = 80;
    let mut growth = None;
    let mut most = 0.0;
    for round in 0..rounds {
        pace.tick().await;
        let after = send(
            &table,
            "churn",
            gauge("g", points(round * 50..(round + 1) * 50, 1.0)),
        )
        .await;
        assert_eq!(after, Counted::applied(50), "28: all is taken");
        // Half way through the first have left.
        if round == rounds / 2 {
            growth = Some(Growth::begin(&table.daemon));
        }
        most = table
            .daemon
            .metric("tidewatch_series")
            .await
            .unwrap_or(0.0)
            .max(most);
    }
    assert!(
        most < f64::from(rounds) * 50.0 * 0.9,
        "28: {most} series at once"
    );
    growth
        .expect("begun")
        .stays_below(&table.daemon, 24 << 20, "28");
    eventually("all have left", || async {
        let left = table.daemon.metric("tidewatch_series").await;
        (left == Some(0.0)).then_some(())
    })
    .await;
    assert_eq!(table.daemon.series("{service=\"churn\"}").await.len(), 0);
    table.finish("28").await;
}
