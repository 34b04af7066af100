//! Rows 13 to 25: points that contradict themselves.

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    exponential_histogram_data_point::Buckets, number_data_point,
};
use prost::Message as _;
use serde_json::{Value, json};

use super::make::{
    CUMULATIVE, DELTA, Metrics, SECOND, attribute, exponential, gauge, histogram, number, sum,
    summary, text,
};
use super::{Body, Counted, Growth, JSON, PROTOBUF, Table, grpc, partial_json};
use crate::harness::hook::Hook;
use crate::harness::otlp::now_nanos;
use crate::harness::{Daemon, eventually};

/// One metric that is bad, and what must be counted of it.
struct Case {
    row: &'static str,
    metric: Metric,
    counts: Counted,
}

fn case(row: &'static str, metric: Metric, counts: Counted) -> Case {
    Case {
        row,
        metric,
        counts,
    }
}

/// Of one point, refused for this reason.
fn refused(row: &'static str, metric: Metric, reason: &str) -> Case {
    case(row, metric, Counted::rejected(reason, 1))
}

fn taken(row: &'static str, metric: Metric) -> Case {
    case(row, metric, Counted::applied(1))
}

fn of_number(value: f64) -> Vec<NumberDataPoint> {
    vec![number(now_nanos(), value)]
}

fn at(time: u64) -> Metric {
    gauge("time", vec![number(time, 1.0)])
}

fn buckets(bounds: &[f64], counts: &[u64], count: u64) -> Metric {
    let point = HistogramDataPoint {
        time_unix_nano: now_nanos(),
        count,
        sum: Some(1.0),
        bucket_counts: counts.to_vec(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    };
    histogram("h", DELTA, vec![point])
}

fn powers(scale: i32, offset: i32, counts: Vec<u64>) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        time_unix_nano: now_nanos(),
        count: counts.iter().sum(),
        scale,
        positive: Some(Buckets {
            offset,
            bucket_counts: counts,
        }),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn exp(point: ExponentialHistogramDataPoint) -> Metric {
    exponential("e", DELTA, vec![point])
}

fn with(attributes: Vec<KeyValue>) -> Metric {
    let mut point = number(now_nanos(), 1.0);
    point.attributes = attributes;
    gauge("attributes", vec![point])
}

fn names_and_values() -> Vec<Case> {
    let now = now_nanos();
    let no_data = Metric {
        name: "nothing".to_owned(),
        ..Metric::default()
    };
    let no_value = NumberDataPoint {
        time_unix_nano: now,
        ..NumberDataPoint::default()
    };
    let started = |start, time| NumberDataPoint {
        start_time_unix_nano: start,
        ..number(time, 1.0)
    };
    vec![
        refused("13 no name", gauge("", of_number(1.0)), "name"),
        refused(
            "13 a name of 1,025 bytes",
            gauge(&"n".repeat(1025), of_number(1.0)),
            "name",
        ),
        taken(
            "13 a name of 1,024 bytes",
            gauge(&"n".repeat(1024), of_number(1.0)),
        ),
        case("13 no data", no_data, Counted::default()),
        refused(
            "14 temporality 0",
            sum("s", 0, true, of_number(1.0)),
            "temporality",
        ),
        refused(
            "14 temporality 7",
            sum("s", 7, false, of_number(1.0)),
            "temporality",
        ),
        refused(
            "14 a histogram's",
            histogram(
                "h",
                0,
                vec![HistogramDataPoint {
                    time_unix_nano: now,
                    ..Default::default()
                }],
            ),
            "temporality",
        ),
        refused(
            "14 an exponential histogram's",
            exponential("e", 7, vec![powers(0, 0, vec![1])]),
            "temporality",
        ),
        refused("15 NaN", gauge("g", of_number(f64::NAN)), "non_finite"),
        refused(
            "15 infinity",
            gauge("g", of_number(f64::INFINITY)),
            "non_finite",
        ),
        refused(
            "15 minus infinity in a sum",
            sum("s", CUMULATIVE, false, of_number(f64::NEG_INFINITY)),
            "non_finite",
        ),
        refused(
            "15 NaN in a counter",
            sum("s", DELTA, true, of_number(f64::NAN)),
            "non_finite",
        ),
        refused(
            "15 no value",
            gauge("g", vec![no_value.clone()]),
            "no_value",
        ),
        refused(
            "15 no value in a sum",
            sum("s", DELTA, true, vec![no_value]),
            "no_value",
        ),
        refused("16 no time", at(0), "no_time"),
        refused(
            "16 ahead by more than 10 min",
            at(now + 630 * SECOND),
            "future",
        ),
        taken("16 ahead by less than 10 min", at(now + 500 * SECOND)),
        refused("16 the end of time", at(u64::MAX), "future"),
        case("16 1970", at(SECOND), Counted::late("late", 1)),
        refused(
            "16 start after time",
            sum("s", CUMULATIVE, true, vec![started(now + 1, now)]),
            "start_after_time",
        ),
        refused(
            "18 a delta below zero",
            sum("s", DELTA, true, of_number(-1.0)),
            "negative",
        ),
        refused(
            "18 a total below zero",
            sum("s", CUMULATIVE, true, of_number(-0.5)),
            "negative",
        ),
        taken(
            "18 down is no error where it may be",
            sum("s", DELTA, false, of_number(-1.0)),
        ),
        taken(
            "19 minus zero in a counter",
            sum("zero", DELTA, true, of_number(-0.0)),
        ),
    ]
}

fn distributions() -> Vec<Case> {
    let many = || {
        (
            vec![1.0; 4097],
            (0..4096).map(f64::from).collect::<Vec<_>>(),
        )
    };
    let point = |edit: fn(&mut ExponentialHistogramDataPoint)| {
        let mut point = powers(0, 0, vec![1, 2]);
        edit(&mut point);
        exp(point)
    };
    vec![
        refused(
            "20 bounds that fall",
            buckets(&[2.0, 1.0], &[1, 1, 1], 3),
            "histogram",
        ),
        refused(
            "20 equal bounds",
            buckets(&[1.0, 1.0], &[1, 1, 1], 3),
            "histogram",
        ),
        refused(
            "20 NaN among the bounds",
            buckets(&[1.0, f64::NAN], &[1, 1, 1], 3),
            "histogram",
        ),
        refused(
            "20 infinity among the bounds",
            buckets(&[1.0, f64::INFINITY], &[1, 1, 1], 3),
            "histogram",
        ),
        refused(
            "20 too few counts",
            buckets(&[1.0, 2.0], &[1, 1], 2),
            "histogram",
        ),
        refused(
            "20 too many counts",
            buckets(&[1.0], &[1, 1, 1], 3),
            "histogram",
        ),
        refused(
            "20 counts without bounds beside a bound",
            buckets(&[1.0], &[], 1),
            "histogram",
        ),
        refused("20 another total", buckets(&[1.0], &[1, 1], 3), "histogram"),
        refused(
            "20 a total that overflows",
            buckets(&[1.0], &[u64::MAX, 2], 1),
            "histogram",
        ),
        refused(
            "20 4,097 buckets",
            buckets(&many().1, &[0; 4097], 0),
            "histogram",
        ),
        taken(
            "20 4,096 buckets",
            buckets(&many().1[..4095], &[1; 4096], 4096),
        ),
        taken("20 no buckets at all", buckets(&[], &[], 7)),
        refused(
            "21 scale 2^31-1",
            exp(powers(i32::MAX, 0, vec![1])),
            "histogram",
        ),
        refused(
            "21 scale -2^31",
            exp(powers(i32::MIN, 0, vec![1])),
            "histogram",
        ),
        refused(
            "21 offset and length overflow",
            exp(powers(0, i32::MAX, vec![1, 1])),
            "histogram",
        ),
        refused(
            "21 an index beyond a double",
            exp(powers(0, 1024, vec![1])),
            "histogram",
        ),
        refused(
            "21 an index below a double",
            exp(powers(0, -1080, vec![1])),
            "histogram",
        ),
        refused(
            "21 offset -2^31",
            exp(powers(0, i32::MIN, vec![1])),
            "histogram",
        ),
        refused(
            "21 a threshold below zero",
            point(|p| p.zero_threshold = -1.0),
            "histogram",
        ),
        refused(
            "21 a threshold of NaN",
            point(|p| p.zero_threshold = f64::NAN),
            "histogram",
        ),
        refused("21 another total", point(|p| p.count = 17), "histogram"),
        refused(
            "21 a zero count that overflows",
            point(|p| p.zero_count = u64::MAX),
            "histogram",
        ),
        taken("21 the largest double", exp(powers(0, 1023, vec![1]))),
        refused(
            "22 a quantile above 1",
            summary("q", &[(0.5, 1.0), (1.5, 2.0)]),
            "summary",
        ),
        refused(
            "22 a quantile below 0",
            summary("q", &[(-0.1, 1.0)]),
            "summary",
        ),
        refused(
            "22 NaN as a quantile",
            summary("q", &[(f64::NAN, 1.0)]),
            "summary",
        ),
        refused(
            "22 a value below zero",
            summary("q", &[(0.5, -1.0)]),
            "summary",
        ),
        refused(
            "22 values that fall",
            summary("q", &[(0.5, 2.0), (0.9, 1.0)]),
            "summary",
        ),
        refused(
            "22 quantiles that fall",
            summary("q", &[(0.9, 1.0), (0.5, 2.0)]),
            "summary",
        ),
        refused(
            "22 infinity",
            summary("q", &[(0.9, f64::INFINITY)]),
            "summary",
        ),
        taken(
            "22 a good one",
            summary("q.good", &[(0.5, 1.0), (0.9, 2.0)]),
        ),
    ]
}

fn attributes() -> Vec<Case> {
    let many = |count: usize| (0..count).map(|i| text(&format!("k{i}"), "v")).collect();
    let unset = KeyValue {
        key: "empty".to_owned(),
        value: None,
        ..KeyValue::default()
    };
    vec![
        taken("23 an empty key", with(vec![text("", "x")])),
        taken(
            "23 the same key twice",
            with(vec![text("twice", "a"), text("twice", "b")]),
        ),
        taken("23 a value that is not set", with(vec![unset])),
        taken("24 64 attributes", with(many(64))),
        refused("24 65 attributes", with(many(65)), "attributes"),
        refused("24 10,000 attributes", with(many(10_000)), "attributes"),
        taken(
            "24 a value of 1 MiB",
            with(vec![text("long", &"v".repeat(1 << 20))]),
        ),
        taken(
            "24 a key of 64 KiB",
            with(vec![text(&"k".repeat(64 << 10), "v")]),
        ),
    ]
}

/// Sends one request with `metric` and a good point beside it, and checks what is answered and counted.
async fn check(
    table: &mut Table,
    row: &str,
    by: &str,
    request: &ExportMetricsServiceRequest,
    counts: &Counted,
) {
    let before = table.counted().await;
    let expected: Vec<_> = counts.rejected.iter().collect();
    let (count, message) = match by {
        "gRPC" => {
            let mut client = grpc::metrics_client(&table.daemon.grpc).await;
            let answer = client.export(request.clone()).await;
            let answer = answer.unwrap_or_else(|status| panic!("row {row}: {status}"));
            partial(answer.into_inner())
        }
        "JSON" => {
            let body = serde_json::to_vec(request).expect("JSON");
            let (status, headers, answer) = table.post(&Body::json(body)).await;
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            assert_eq!(status, 200, "row {row}: {answer}");
            assert_eq!(headers["content-type"], JSON);
            partial_json(&answer).unwrap_or_default()
        }
        _ => {
            let (status, headers, answer) =
                table.post(&Body::protobuf(request.encode_to_vec())).await;
            assert_eq!(status, 200, "row {row}");
            assert_eq!(headers["content-type"], PROTOBUF);
            partial(ExportMetricsServiceResponse::decode(&*answer).expect("a response"))
        }
    };
    let refused: u64 = counts.rejected.values().sum();
    assert_eq!(count, refused, "row {row} by {by}: {message}");
    for (reason, count) in expected {
        let said = format!("{reason}: {count}");
        assert!(message.contains(&said), "row {row} by {by}: {message}");
    }
    assert!(message.len() <= 1024, "row {row} by {by}: {message}");
    let after = table.counted().await.since(&before);
    assert_eq!(after, counts.clone().and_applied(1), "row {row} by {by}");
    table.good_request(row).await;
}

fn partial(answer: ExportMetricsServiceResponse) -> (u64, String) {
    answer
        .partial_success
        .map_or_else(Default::default, |partial| {
            let count = u64::try_from(partial.rejected_data_points).expect("not negative");
            assert!(count > 0 || !partial.error_message.is_empty());
            (count, partial.error_message)
        })
}

async fn check_all(table: &mut Table, cases: Vec<Case>) {
    let mut as_json = 0;
    let all = cases.len();
    for Case {
        row,
        metric,
        counts,
    } in cases
    {
        for by in ["protobuf", "gRPC", "JSON"] {
            // Each time other series, so that no point is a repetition.
            let request = Metrics::of(by)
                .metric(metric.clone())
                .gauge("beside", &[(now_nanos(), 1.0)])
                .request();
            // JSON as the library writes it has no NaN.
            let text = serde_json::to_string(&request).expect("JSON");
            let same = serde_json::from_str::<ExportMetricsServiceRequest>(&text);
            if by == "JSON" && same.ok().as_ref() != Some(&request) {
                continue;
            }
            as_json += usize::from(by == "JSON");
            check(table, row, by, &request, &counts).await;
        }
    }
    assert!(
        as_json * 10 >= all * 7,
        "{as_json} of {all} could be sent as JSON"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_13_to_18_names_values_and_times() {
    let mut table = Table::start().await;
    check_all(&mut table, names_and_values()).await;
    // NaN and infinity as OTLP's JSON has them.
    for value in ["NaN", "Infinity", "-Infinity"] {
        let before = table.counted().await;
        let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "g", "gauge":
            {"dataPoints": [{"timeUnixNano": now_nanos(), "asDouble": value}]}}]}]}]});
        let (status, _, answer) = table.post(&Body::json(body.to_string())).await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!((status, partial_json(&answer).map(|p| p.0)), (200, Some(1)));
        let after = table.counted().await.since(&before);
        assert_eq!(after, Counted::rejected("non_finite", 1));
    }
    // Each reason has its line in the log, and the end of the table looks for a second one.
    for reason in [
        "name",
        "temporality",
        "non_finite",
        "no_value",
        "no_time",
        "future",
    ] {
        let line = format!("\"reason\":\"{reason}\"");
        assert!(
            table.daemon.log_line(&line).is_some(),
            "no line about {reason}"
        );
    }
    table.finish("16").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_20_to_24_distributions_and_attributes() {
    let mut table = Table::start().await;
    check_all(&mut table, distributions()).await;
    check_all(&mut table, attributes()).await;
    let pick = |rest: &str| format!("{{service=\"protobuf\",metric=\"attributes\",{rest}}}");
    let seen = async |rest: &str| {
        let selector = pick(rest);
        let daemon = &table.daemon;
        eventually(&selector, || async {
            let found = daemon.series(&selector).await;
            (!found.is_empty()).then_some(found)
        })
        .await
    };
    assert_eq!(
        seen("twice=\"b\"").await.len(),
        1,
        "23: of a repeated key the last wins"
    );
    assert_eq!(seen("k63=\"v\"").await.len(), 1);
    let all = seen("k1=\"\"").await;
    let attributes: Vec<&Value> = all.iter().map(|signal| &signal["attributes"]).collect();
    assert!(
        attributes.contains(&&json!({})),
        "23: an empty key is ignored: {attributes:?}"
    );
    let kept = attributes.iter().any(|set| set.get("empty").is_some());
    assert!(kept, "23: an empty value is kept: {attributes:?}");
    for set in attributes {
        for (key, value) in set.as_object().expect("attributes") {
            let value = value.as_str().map_or(0, str::len);
            assert!(
                key.len() <= 1100 && value <= 1100,
                "24: cut to 1,024 bytes and a hash"
            );
        }
    }

    // What differs after the cut stays distinct; so do keys.
    let long = |last: &str| "v".repeat(1 << 20) + last;
    let mut request = Metrics::of("long");
    for point in [
        text("long", &long("a")),
        text("long", &long("b")),
        text(&long("a"), "x"),
        text(&long("b"), "x"),
    ] {
        request = request.metric(with(vec![point]));
    }
    request = request.gauge("beside", &[(now_nanos(), 1.0)]);
    let growth = Growth::begin(&table.daemon);
    check(
        &mut table,
        "24",
        "protobuf",
        &request.request(),
        &Counted::applied(4),
    )
    .await;
    growth.stays_below(&table.daemon, 32 << 20, "24 long attributes");
    let daemon = &table.daemon;
    eventually("four series", || async {
        let found = daemon
            .series("{service=\"long\",metric=\"attributes\"}")
            .await;
        (found.len() == 4).then_some(())
    })
    .await;
    table.finish("24").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_21_memory_follows_the_buckets_that_are_filled() {
    let mut table = Table::start().await;
    table.good_request("0").await;
    // Nothing but empty buckets; just below the limit of a request where the daemon is built to be fast.
    let zeros: usize = if cfg!(debug_assertions) {
        10 << 20
    } else {
        60 << 20
    };
    let mut point = powers(20, 0, Vec::new());
    point.positive = Some(Buckets {
        offset: 0,
        bucket_counts: vec![0; zeros],
    });
    let request = Metrics::of("zeros")
        .metric(exp(point))
        .gauge("beside", &[(now_nanos(), 1.0)]);
    let packed = super::make::zstd(&request.encode());
    let growth = Growth::begin(&table.daemon);
    let before = table.counted().await;
    let (status, _, answer) = table.post(&Body::protobuf(packed).encoded("zstd")).await;
    assert_eq!(status, 200);
    let answer = ExportMetricsServiceResponse::decode(&*answer).expect("a response");
    assert_eq!(partial(answer).0, 1);
    let after = table.counted().await.since(&before);
    assert_eq!(after, Counted::rejected("histogram", 1).and_applied(1));
    // The bytes themselves, twice for a moment while their vector grows.
    let allowed = 2 * zeros as u64 + (16 << 20);
    growth.stays_below(&table.daemon, allowed, "21 empty buckets");
    // Few filled buckets far apart cost little, too.
    let mut far = vec![0; 60_000];
    far[0] = 1;
    far[59_999] = 1;
    let mut request = Metrics::of("far");
    for i in 0..20 {
        let mut point = powers(8, 0, far.clone());
        point.attributes.push(text("i", &i.to_string()));
        request = request.metric(exp(point));
    }
    request = request.gauge("beside", &[(now_nanos(), 1.0)]);
    let growth = Growth::begin(&table.daemon);
    check(
        &mut table,
        "21",
        "protobuf",
        &request.request(),
        &Counted::applied(20),
    )
    .await;
    growth.stays_below(&table.daemon, 16 << 20, "21 filled buckets far apart");
    table.finish("21").await;
}

/// All values of a signal, oldest first.
async fn values(daemon: &Daemon, selector: &str, count: usize) -> Vec<f64> {
    eventually(&format!("{count} samples of {selector}"), || async {
        let found = daemon.series(selector).await;
        let id = found.first()?["id"].as_str()?.to_owned();
        assert_eq!(found.len(), 1, "{selector}");
        let answer = daemon.get(&format!("/api/v1/series/{id}/samples")).await;
        let samples = answer["data"].as_array()?;
        let values: Vec<f64> = samples
            .iter()
            .map(|sample| sample["value"].as_f64().expect("finite"))
            .collect();
        (values.len() >= count).then_some(values)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_a_clock_that_steps_back() {
    let mut table = Table::start().await;
    let now = now_nanos();
    let total = |time: u64, value: f64| {
        let point = NumberDataPoint {
            start_time_unix_nano: now - 7200 * SECOND,
            ..number(time, value)
        };
        Metrics::of("clock")
            .metric(sum("requests", CUMULATIVE, true, vec![point]))
            .gauge("beside", &[(now_nanos(), 1.0)])
            .request()
    };
    // A request a second; then the clock goes back by an hour and runs on.
    for i in 0..10 {
        let request = total(now - (60 - i) * SECOND, 100.0 + i as f64);
        check(&mut table, "17", "protobuf", &request, &Counted::applied(1)).await;
    }
    for i in 10..20 {
        let request = total(now - (3660 - i) * SECOND, 100.0 + i as f64);
        check(
            &mut table,
            "17",
            "protobuf",
            &request,
            &Counted::late("late", 1),
        )
        .await;
    }
    for i in 20..30 {
        let request = total(now - (60 - i) * SECOND, 100.0 + i as f64);
        check(&mut table, "17", "protobuf", &request, &Counted::applied(1)).await;
    }
    // 9 rates of one a second, the gap averaged over, 9 more.
    let rates = values(&table.daemon, "{service=\"clock\",metric=\"requests\"}", 19).await;
    assert_eq!(rates.len(), 19);
    for rate in rates {
        assert!((rate - 1.0).abs() < 1e-6, "17: {rate}");
    }
    let alerts = table.daemon.get("/api/v2/alerts").await;
    assert_eq!(alerts, json!([]), "17: no alert");
    table.finish("17").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_extreme_numbers_keep_statistics_finite() {
    let mut table = Table::start().await;
    let now = now_nanos();
    let extremes = [
        1e308,
        -1e308,
        1e308,
        f64::MAX,
        f64::MIN,
        -0.0,
        5e-324,
        f64::MIN_POSITIVE,
        1.0,
    ];
    let mut doubles = Vec::new();
    for (i, value) in extremes.iter().enumerate() {
        doubles.push(number(now - (100 - i as u64) * SECOND, *value));
    }
    let integers = [i64::MIN, i64::MAX, 0, -1]
        .iter()
        .enumerate()
        .map(|(i, value)| NumberDataPoint {
            time_unix_nano: now - (100 - i as u64) * SECOND,
            value: Some(number_data_point::Value::AsInt(*value)),
            ..NumberDataPoint::default()
        });
    let request = Metrics::of("extreme")
        .metric(gauge("doubles", doubles.clone()))
        .metric(gauge("integers", integers.collect()))
        .metric(sum("updown", CUMULATIVE, false, doubles))
        .gauge("beside", &[(now, 1.0)])
        .request();
    check(
        &mut table,
        "19",
        "protobuf",
        &request,
        &Counted::applied(22),
    )
    .await;
    // Of two deltas whose sum no double holds, the second is refused.
    let mut twice = [number(now, 1e308), number(now + 1, 1e308)];
    twice[0].start_time_unix_nano = now - 10 * SECOND;
    twice[1].start_time_unix_nano = now;
    for metric in [
        sum("counter", DELTA, true, twice.to_vec()),
        sum("delta", DELTA, false, twice.to_vec()),
    ] {
        let request = Metrics::of("extreme")
            .metric(metric)
            .gauge("beside", &[(now_nanos(), 1.0)]);
        let counts = Counted::rejected("non_finite", 1).and_applied(1);
        check(&mut table, "19", "protobuf", &request.request(), &counts).await;
    }
    for (metric, count) in [("doubles", 9), ("integers", 4), ("updown", 9)] {
        let selector = format!("{{service=\"extreme\",metric=\"{metric}\"}}");
        // The last waits for its tick to end.
        let values = values(&table.daemon, &selector, count).await;
        assert_eq!(values.len(), count, "{metric}");
        let signal = table.daemon.series(&selector).await.remove(0);
        for statistic in ["mean", "stddev", "min", "max", "p50", "p90", "p95", "p99"] {
            let value = signal["window"][statistic].as_f64();
            assert!(
                value.is_some_and(f64::is_finite),
                "19: {metric} {statistic} in {signal}"
            );
        }
    }
    table.finish("19").await;
}

/// Texts that break what shows them carelessly.
const HOSTILE: [&str; 8] = [
    "a\0b\u{1}\u{1b}[31mred\u{7f}",
    "line\nbreak\r\nand\ttab",
    "right\u{202e}to left\u{2066}",
    "<script>alert(1)</script>",
    r#"quote " backslash \ end\"#,
    "{{ 7*7 }}{% raw %}${env:HOME}",
    "../../../../etc/passwd",
    "'; DROP TABLE series; --",
];

#[tokio::test(flavor = "multi_thread")]
async fn row_25_hostile_texts_are_only_shown() {
    let hook = Hook::start().await;
    let config = format!(
        r#"{}
rules:
  - alert: Hostile
    match: '{{unit="hostile"}}'
    detector: threshold
    upper: 10
    for: 1 of 1
    labels: {{copied: "{{{{ service }}}}"}}
    annotations: {{summary: "{{{{ service }}}} and {{{{ metric }}}}"}}
route: {{receiver: hook, group_by: [service], group_wait: 100ms}}
receivers: [{{name: hook, webhook_configs: [{{url: "{}"}}]}}]
"#,
        super::CONFIG,
        hook.url
    );
    let mut table = Table::of(Daemon::start(&config).await).await;
    for hostile in HOSTILE {
        let mut point = number(now_nanos(), 100.0);
        point.attributes = vec![text(hostile, hostile), text("value", hostile)];
        let mut metric = gauge(hostile, vec![point]);
        metric.unit = "hostile".to_owned();
        metric.description = hostile.to_owned();
        let request = Metrics::of(hostile)
            .metric(metric)
            .gauge("beside", &[(now_nanos(), 1.0)]);
        check(
            &mut table,
            "25",
            "protobuf",
            &request.request(),
            &Counted::applied(1),
        )
        .await;
        // In what is refused, names are shown, too.
        let bad = Metrics::of(hostile)
            .metric(gauge(hostile, of_number(f64::NAN)))
            .gauge("beside", &[(now_nanos(), 1.0)]);
        check(
            &mut table,
            "25",
            "protobuf",
            &bad.request(),
            &Counted::rejected("non_finite", 1),
        )
        .await;
        let span = super::make::span(25, 25, None, hostile);
        let spans = super::make::traces(hostile, vec![span]).encode_to_vec();
        let (status, _, _) = table.post(&Body::protobuf(spans).of_traces()).await;
        assert_eq!(status, 200);
    }
    let daemon = &table.daemon;
    // JSON of the API: whole, character for character.
    let alerts = eventually("an alert for each", || async {
        let alerts = daemon.get("/api/v2/alerts").await;
        let alerts = alerts.as_array()?.clone();
        (alerts.len() >= HOSTILE.len()).then_some(alerts)
    })
    .await;
    for hostile in HOSTILE {
        let alert = alerts
            .iter()
            .find(|alert| alert["labels"]["service"] == hostile)
            .unwrap_or_else(|| panic!("no alert of {hostile:?}"));
        assert_eq!(
            alert["labels"]["copied"], hostile,
            "a value is never a template"
        );
        let summary = format!("{hostile} and {hostile}");
        assert_eq!(alert["annotations"]["summary"], summary.as_str());
        eventually("its webhook", || async {
            hook.deliveries()
                .into_iter()
                .find(|delivery| delivery.body["groupLabels"]["service"] == hostile)
        })
        .await;
    }
    let services = daemon.get("/api/v1/services").await;
    let names: Vec<_> = services["data"].as_array().into_iter().flatten().collect();
    for hostile in HOSTILE {
        assert!(
            names.iter().any(|service| service["service"] == hostile),
            "{hostile:?}"
        );
    }
    // The exposition: promtool reads it, and every text is in it, escaped.
    let exposition = daemon.text("/metrics").await;
    for hostile in HOSTILE {
        let escaped = hostile
            .replace('\\', r"\\")
            .replace('"', r#"\""#)
            .replace('\n', r"\n");
        // No scraper needs the other control characters, and some stumble over them.
        let other = |c: char| c.is_control() && c != '\t';
        let escaped = escaped.replace(other, "\u{fffd}");
        let label = format!("service=\"{escaped}\"");
        assert!(exposition.contains(&label), "{label}\n{exposition}");
    }
    assert_exposition(&exposition);
    // No page has them in it, and the terminal is not told to do anything.
    let page = daemon.text("/").await;
    assert!(!page.contains("alert(1)"));
    for command in [&["series"][..], &["alerts"], &["mode", "list"], &["report"]] {
        let output = daemon.cli(command);
        let shown = String::from_utf8(output.stdout).expect("UTF-8");
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{2066}';
        assert!(!shown.contains(bad), "25: {command:?} shows {shown:?}");
    }
    // Names of files come from nowhere outside.
    let folder = daemon.data().parent().expect("a folder").to_owned();
    assert_files(&folder);
    table.finish("25").await;
}

/// Every line is a comment or a sample, as the format's grammar says.
#[track_caller]
fn assert_exposition(text: &str) {
    let label = r#"[a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\[\\"n])*""#;
    let sample =
        format!(r"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{{({label}(,{label})*)?\}})? [-+0-9.eNaInf]+$");
    let sample = regex::Regex::new(&sample).expect("a pattern");
    for line in text
        .split('\n')
        .filter(|line| !line.is_empty() && !line.starts_with("# "))
    {
        assert!(sample.is_match(line), "25: not in the format: {line:?}");
    }
}

#[track_caller]
fn assert_files(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(
            name.chars().all(plain) && !name.contains("passwd"),
            "25: a file {name}"
        );
        if entry.file_type().expect("a type").is_dir() {
            assert_files(&entry.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_refusal_is_bounded() {
    let table = Table::start().await;
    let now = now_nanos();
    let long = "n".repeat(1000);
    let request = Metrics::of("shop")
        .metric(gauge("", of_number(1.0)))
        .metric(sum(&long, 0, true, of_number(1.0)))
        .metric(gauge(&long, of_number(f64::NAN)))
        .metric(at(0))
        .metric(at(now + 700 * SECOND))
        .metric(sum(&long, DELTA, true, of_number(-1.0)))
        .metric(buckets(&[1.0], &[1], 1))
        .metric(summary(&long, &[(2.0, 1.0)]))
        .metric(with(
            (0..65)
                .map(|i| attribute(&format!("{i}"), any_value::Value::BoolValue(true)))
                .collect(),
        ))
        .encode();
    let (status, _, answer) = table.post(&Body::protobuf(request)).await;
    assert_eq!(status, 200);
    let answer = ExportMetricsServiceResponse::decode(&*answer).expect("a response");
    let (count, message) = partial(answer);
    assert_eq!(count, 9);
    assert!(message.len() <= 1024, "{message}");
    assert!(message.ends_with("; and 4 other reasons"), "{message}");
    table.finish("a refusal for nine reasons").await;
}
