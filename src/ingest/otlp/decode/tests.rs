use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::metrics::v1::{self as pb, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource as PbResource;
use opentelemetry_proto::tonic::trace::v1 as pbt;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::model::{AttributeValue, MetricKind, MetricPoint, PointData, Reject, Temporality};

/// 2023-11-14T22:13:20Z.
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

// ---- tables, written in JSON because that reads best ----

fn metrics_json(body: &str) -> Result<Batch, DecodeError> {
    decode_metrics(Format::Json, body.as_bytes(), NOW)
}

/// A request with one metric, given by the inside of its object.
fn metric_of(metric: &str) -> Batch {
    let body = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[
            {{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},
            "scopeMetrics":[{{"scope":{{"name":"lib"}},"metrics":[{{{metric}}}]}}]}}]}}"#
    );
    metrics_json(&body).unwrap()
}

#[track_caller]
fn accepts(metric: &str) -> MetricPoint {
    let mut batch = metric_of(metric);
    assert!(batch.rejections.is_empty(), "{:?}", batch.rejections);
    assert_eq!(batch.points.len(), 1);
    batch.points.remove(0)
}

#[track_caller]
fn rejects(metric: &str, reason: Reject) {
    let batch = metric_of(metric);
    let found: Vec<_> = batch.rejections.iter().map(|(r, n, _)| (r, n)).collect();
    assert_eq!(found, [(reason, 1)]);
    assert!(batch.points.is_empty());
}

fn gauge(point: &str) -> String {
    format!(r#""name":"m","gauge":{{"dataPoints":[{{{point}}}]}}"#)
}

fn counter(point: &str) -> String {
    format!(
        r#""name":"m","sum":{{"aggregationTemporality":2,"isMonotonic":true,
            "dataPoints":[{{"timeUnixNano":"1700000000000000000",{point}}}]}}"#
    )
}

fn histogram(point: &str) -> String {
    format!(
        r#""name":"m","histogram":{{"aggregationTemporality":1,
            "dataPoints":[{{"timeUnixNano":"1700000000000000000",{point}}}]}}"#
    )
}

fn exponential(point: &str) -> String {
    format!(
        r#""name":"m","exponentialHistogram":{{"aggregationTemporality":1,
            "dataPoints":[{{"timeUnixNano":"1700000000000000000",{point}}}]}}"#
    )
}

fn summary(quantiles: &[(&str, &str)]) -> String {
    let quantiles: Vec<_> = quantiles
        .iter()
        .map(|(q, v)| format!(r#"{{"quantile":{q},"value":{v}}}"#))
        .collect();
    format!(
        r#""name":"m","summary":{{"dataPoints":[{{"timeUnixNano":"1700000000000000000","count":"3",
            "sum":6,"quantileValues":[{}]}}]}}"#,
        quantiles.join(",")
    )
}

const TIME: &str = r#""timeUnixNano":"1700000000000000000""#;

#[test]
fn names_row_13() {
    let point = format!(r#""gauge":{{"dataPoints":[{{{TIME},"asInt":"1"}}]}}"#);
    rejects(&point, Reject::Name);
    rejects(&format!(r#""name":"",{point}"#), Reject::Name);
    let name = "n".repeat(1024);
    assert_eq!(
        &*accepts(&format!(r#""name":"{name}",{point}"#))
            .identity
            .metric,
        name
    );
    rejects(&format!(r#""name":"{name}n",{point}"#), Reject::Name);
    // No data at all: nothing to refuse and nothing to use.
    let batch = metric_of(r#""name":"m""#);
    assert!(batch.points.is_empty() && batch.rejections.is_empty());
}

#[test]
fn a_metric_that_is_refused_counts_all_its_points() {
    let batch = metric_of(r#""gauge":{"dataPoints":[{},{},{"asInt":1}]}"#);
    assert_eq!(batch.rejections.total(), 3);
}

#[test]
fn temporality_row_14() {
    for (temporality, accepted) in [
        ("0", false),
        ("1", true),
        ("2", true),
        ("7", false),
        ("-1", false),
    ] {
        for data in [
            format!(
                r#""sum":{{"aggregationTemporality":{temporality},"dataPoints":[{{{TIME},"asInt":1}}]}}"#
            ),
            format!(
                r#""histogram":{{"aggregationTemporality":{temporality},"dataPoints":[{{{TIME}}}]}}"#
            ),
            format!(
                r#""exponentialHistogram":{{"aggregationTemporality":{temporality},"dataPoints":[{{{TIME}}}]}}"#
            ),
        ] {
            let metric = format!(r#""name":"m",{data}"#);
            if accepted {
                accepts(&metric);
            } else {
                rejects(&metric, Reject::Temporality);
            }
        }
    }
}

#[test]
fn values_row_15() {
    for value in [r#""NaN""#, r#""Infinity""#, r#""-Infinity""#] {
        rejects(
            &gauge(&format!(r#"{TIME},"asDouble":{value}"#)),
            Reject::NonFinite,
        );
        rejects(
            &counter(&format!(r#""asDouble":{value}"#)),
            Reject::NonFinite,
        );
    }
    rejects(&gauge(TIME), Reject::NoValue);
    // With the flag the point ends the series and its value is ignored, whatever it is.
    for value in ["", r#","asDouble":"NaN""#, r#","asInt":"-3""#] {
        let end = accepts(&gauge(&format!(r#"{TIME},"flags":1{value}"#)));
        assert!(matches!(end.data, PointData::End));
    }
    let other_flag = accepts(&gauge(&format!(r#"{TIME},"flags":2,"asInt":4"#)));
    assert!(matches!(other_flag.data, PointData::Number(4.0)));
}

#[test]
fn times_row_16() {
    let at = |time: &str| gauge(&format!(r#""timeUnixNano":{time},"asInt":1"#));
    rejects(&gauge(r#""asInt":1"#), Reject::NoTime);
    rejects(&at("0"), Reject::NoTime);
    accepts(&at("1700000600000000000"));
    rejects(&at("1700000600000000001"), Reject::Future);
    rejects(&at(r#""18446744073709551615""#), Reject::Future);
    // 1970 is late, which the series decides; the point itself is sound.
    assert_eq!(accepts(&at("1")).time, Timestamp::from_nanos(1));
    let from = |start: &str| gauge(&format!(r#"{TIME},"startTimeUnixNano":{start},"asInt":1"#));
    rejects(&from("1700000000000000001"), Reject::StartAfterTime);
    rejects(&from(r#""18446744073709551615""#), Reject::StartAfterTime);
    let same = accepts(&from("1700000000000000000"));
    assert_eq!(same.start, Some(same.time));
    assert_eq!(accepts(&from("0")).start, None);
}

#[test]
fn monotonic_sums_do_not_go_below_zero_row_18() {
    rejects(&counter(r#""asDouble":-0.5"#), Reject::Negative);
    rejects(&counter(r#""asInt":"-1""#), Reject::Negative);
    let delta = r#""name":"m","sum":{"aggregationTemporality":1,"isMonotonic":true,
        "dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"-1"}]}"#;
    rejects(delta, Reject::Negative);
    accepts(&delta.replace("true", "false"));
    accepts(&gauge(&format!(r#"{TIME},"asInt":"-1""#)));
}

#[test]
fn extremes_row_19() {
    for (value, expected) in [
        (r#""asInt":"-9223372036854775808""#, i64::MIN as f64),
        (r#""asInt":"9223372036854775807""#, i64::MAX as f64),
        (r#""asDouble":1e308"#, 1e308),
        (r#""asDouble":-0.0"#, -0.0),
        (r#""asDouble":5e-324"#, 5e-324),
    ] {
        let PointData::Number(number) = accepts(&gauge(&format!("{TIME},{value}"))).data else {
            panic!("not a number");
        };
        assert_eq!(number.to_bits(), expected.to_bits(), "{value}");
    }
    accepts(&counter(r#""asDouble":-0.0"#));
}

#[test]
fn histograms_row_20() {
    accepts(&histogram(
        r#""count":"6","bucketCounts":["1","2","3"],"explicitBounds":[1,2.5]"#,
    ));
    accepts(&histogram(r#""count":"6","bucketCounts":["6"]"#));
    // Only count and sum.
    let bare = accepts(&histogram(
        r#""count":"6","sum":"NaN","min":"Infinity","max":"-Infinity""#,
    ));
    let PointData::Histogram(bare) = bare.data else {
        panic!("not a histogram");
    };
    assert_eq!(
        (bare.count, bare.sum, bare.min, bare.max),
        (6, None, None, None)
    );
    for broken in [
        r#""count":6,"bucketCounts":[1,2,3],"explicitBounds":[2,1]"#,
        r#""count":6,"bucketCounts":[1,2,3],"explicitBounds":[1,1]"#,
        r#""count":6,"bucketCounts":[1,2,3],"explicitBounds":[1,"NaN"]"#,
        r#""count":6,"bucketCounts":[1,2,3],"explicitBounds":[1,"Infinity"]"#,
        r#""count":6,"bucketCounts":[1,2,3],"explicitBounds":[1]"#,
        r#""count":6,"bucketCounts":[1,2,3]"#,
        r#""count":6,"explicitBounds":[1]"#,
        r#""count":7,"bucketCounts":[1,2,3],"explicitBounds":[1,2]"#,
        r#""count":1,"bucketCounts":["18446744073709551615",2],"explicitBounds":[1]"#,
        r#""count":0,"min":2,"max":1"#,
    ] {
        rejects(&histogram(broken), Reject::Histogram);
    }
    let wide = |buckets: usize| {
        let counts = vec!["0"; buckets].join(",");
        let bounds: Vec<_> = (1..buckets).map(|b| b.to_string()).collect();
        histogram(&format!(
            r#""bucketCounts":[{counts}],"explicitBounds":[{}]"#,
            bounds.join(",")
        ))
    };
    accepts(&wide(4096));
    rejects(&wide(4097), Reject::Histogram);
}

#[test]
fn exponential_histograms_row_21() {
    let good = accepts(&exponential(
        r#""count":"7","zeroCount":"1","scale":2,"zeroThreshold":0.5,
           "positive":{"offset":-3,"bucketCounts":["1","0","2"]},
           "negative":{"offset":5,"bucketCounts":["3"]}"#,
    ));
    let PointData::Exponential(good) = good.data else {
        panic!("not an exponential histogram");
    };
    assert_eq!(
        good.positive.into_iter().collect::<Vec<_>>(),
        [(-3, 1), (-1, 2)]
    );
    assert_eq!(good.negative.into_iter().collect::<Vec<_>>(), [(5, 3)]);
    for broken in [
        r#""scale":2147483647"#,
        r#""scale":-2147483648"#,
        r#""scale":21"#,
        r#""scale":-11"#,
        r#""count":2,"scale":20,"positive":{"offset":2147483647,"bucketCounts":[1,1]}"#,
        // 2^1024 and 2^-1075: beyond a double.
        r#""count":1,"scale":0,"positive":{"offset":1024,"bucketCounts":[1]}"#,
        r#""count":1,"scale":0,"positive":{"offset":-1076,"bucketCounts":[1]}"#,
        r#""count":2,"positive":{"bucketCounts":[1]}"#,
        r#""count":0,"positive":{"bucketCounts":["18446744073709551615",1]}"#,
        r#""zeroThreshold":-1"#,
        r#""zeroThreshold":"NaN""#,
        r#""zeroThreshold":"Infinity""#,
    ] {
        rejects(&exponential(broken), Reject::Histogram);
    }
    accepts(&exponential(
        r#""count":1,"scale":0,"positive":{"offset":1023,"bucketCounts":[1]}"#,
    ));
    accepts(&exponential(
        r#""count":1,"scale":0,"positive":{"offset":-1075,"bucketCounts":[1]}"#,
    ));
    accepts(&exponential(
        r#""count":1,"scale":-10,"positive":{"offset":-1,"bucketCounts":[1]}"#,
    ));
}

#[test]
fn many_zero_buckets_cost_no_memory_row_21() {
    let buckets = pb::exponential_histogram_data_point::Buckets {
        offset: 0,
        bucket_counts: vec![0; 1 << 20],
    };
    let point = pb::ExponentialHistogramDataPoint {
        time_unix_nano: 1_700_000_000_000_000_000,
        scale: 20,
        positive: Some(buckets),
        ..Default::default()
    };
    let data = metric::Data::ExponentialHistogram(pb::ExponentialHistogram {
        data_points: vec![point],
        aggregation_temporality: 1,
    });
    let request = one_metric(pb::Metric {
        name: "m".into(),
        data: Some(data),
        ..Default::default()
    });
    let batch = decode_metrics(Format::Protobuf, &request.encode_to_vec(), NOW).unwrap();
    let (reason, count, _) = batch.rejections.iter().next().unwrap();
    assert_eq!((reason, count), (Reject::Histogram, 1));
}

#[test]
fn summaries_row_22() {
    let good = accepts(&summary(&[("0", "1"), ("0.5", "1"), ("1", "3")]));
    let PointData::Summary(good) = good.data else {
        panic!("not a summary");
    };
    assert_eq!(good.quantiles, [(0.0, 1.0), (0.5, 1.0), (1.0, 3.0)]);
    for broken in [
        &[("-0.1", "1")][..],
        &[("1.1", "1")],
        &[(r#""NaN""#, "1")],
        &[("0.5", "-1")],
        &[("0.5", r#""Infinity""#)],
        &[("0.9", "1"), ("0.5", "2")],
        &[("0.5", "1"), ("0.5", "2")],
        &[("0.5", "2"), ("0.9", "1")],
    ] {
        rejects(&summary(broken), Reject::Summary);
    }
    let idle = accepts(&summary(&[("0.5", r#""NaN""#), ("0.9", r#""NaN""#)]));
    assert!(matches!(idle.data, PointData::Summary(s) if s.quantiles.is_empty() && s.count == 3));
}

fn with_attributes(attributes: &str) -> String {
    gauge(&format!(r#"{TIME},"asInt":1,"attributes":[{attributes}]"#))
}

fn attributes_of(attributes: &str) -> crate::model::Attributes {
    accepts(&with_attributes(attributes))
        .identity
        .attributes
        .clone()
}

#[test]
fn attributes_row_23() {
    let set = attributes_of(
        r#"{"key":"","value":{"intValue":1}},{"key":"a","value":{"intValue":1}},
           {"key":"a","value":{"intValue":"2"}},{"key":"none"},{"key":"null","value":null},
           {"key":"empty","value":{"stringValue":""}}"#,
    );
    assert_eq!(set.len(), 4);
    assert_eq!(set.get("a"), Some(&AttributeValue::Int(2)));
    assert_eq!(set.get("none"), Some(&AttributeValue::Json("null".into())));
    assert_eq!(set.get("null"), Some(&AttributeValue::Json("null".into())));
    assert_eq!(set.get("empty"), Some(&AttributeValue::from("")));
}

#[test]
fn attribute_values_keep_their_types() {
    let set = attributes_of(
        r#"{"key":"s","value":{"stringValue":"1"}},{"key":"i","value":{"intValue":1}},
           {"key":"d","value":{"doubleValue":1}},{"key":"b","value":{"boolValue":true}},
           {"key":"bytes","value":{"bytesValue":"-_8="}},
           {"key":"array","value":{"arrayValue":{"values":[{"stringValue":"q\"\n\u0001"},
             {"doubleValue":1},{"intValue":"1"},{"boolValue":false},{},{"doubleValue":"NaN"}]}}},
           {"key":"map","value":{"kvlistValue":{"values":[{"key":"z","value":{"intValue":1}},
             {"key":"a","value":{"intValue":2}},{"key":"z","value":{"intValue":3}}]}}}"#,
    );
    assert_eq!(set.get("s"), Some(&AttributeValue::from("1")));
    assert_eq!(set.get("i"), Some(&AttributeValue::Int(1)));
    assert_eq!(set.get("d"), Some(&AttributeValue::Double(1.0)));
    assert_eq!(set.get("b"), Some(&AttributeValue::Bool(true)));
    let json = |key: &str| set.get(key).unwrap().as_text().into_owned();
    assert_eq!(json("bytes"), r#""+/8=""#);
    assert_eq!(json("array"), r#"["q\"\n\u0001",1.0,1,false,null,"NaN"]"#);
    assert_eq!(json("map"), r#"{"a":2,"z":3}"#);
}

#[test]
fn long_attributes_are_cut_but_stay_distinct_row_24() {
    let long = "ä".repeat(600_000);
    let a = attributes_of(&format!(
        r#"{{"key":"k","value":{{"stringValue":"{long}a"}}}}"#
    ));
    let b = attributes_of(&format!(
        r#"{{"key":"k","value":{{"stringValue":"{long}b"}}}}"#
    ));
    assert_ne!(a, b);
    let text = a.get("k").unwrap().as_text().into_owned();
    assert!(text.len() <= 1024 + 3 + 16, "{}", text.len());
    assert!(text.starts_with('ä') && text.contains('…'));

    let key = attributes_of(&format!(
        r#"{{"key":"{}","value":{{}}}}"#,
        "k".repeat(65_536)
    ));
    assert!(key.iter().all(|(key, _)| key.len() <= 1024 + 3 + 16));

    let many = |count: usize| {
        let all: Vec<_> = (0..count)
            .map(|i| format!(r#"{{"key":"k{i}","value":{{"intValue":{i}}}}}"#))
            .collect();
        with_attributes(&all.join(","))
    };
    assert_eq!(accepts(&many(64)).identity.attributes.len(), 64);
    rejects(&many(65), Reject::Attributes);
    rejects(&many(10_000), Reject::Attributes);
}

#[test]
fn identity_is_all_that_the_data_model_says() {
    let point = |attributes: &str| format!(r#"{{{TIME},"asInt":1,"attributes":[{attributes}]}}"#);
    let (x, y) = (
        r#"{"key":"x","value":{"intValue":1}}"#,
        r#"{"key":"y","value":{"intValue":1}}"#,
    );
    let sorted = accepts(&format!(
        r#""name":"m","unit":"s","description":"one","gauge":{{"dataPoints":[{}]}}"#,
        point(&format!("{x},{y}"))
    ));
    let shuffled = accepts(&format!(
        r#""gauge":{{"dataPoints":[{}]}},"description":"two","unit":"s","name":"m""#,
        point(&format!("{y},{x}"))
    ));
    assert_eq!(sorted.series, shuffled.series);
    assert_eq!(sorted.identity, shuffled.identity);
    assert_eq!(&*sorted.identity.resource.service, "shop");
    let text = accepts(&format!(
        r#""name":"m","unit":"s","gauge":{{"dataPoints":[{}]}}"#,
        point(&format!(
            r#"{y},{{"key":"x","value":{{"stringValue":"1"}}}}"#
        ))
    ));
    assert_ne!(sorted.series, text.series);
    let kinds = [
        (r#""gauge":{"#, MetricKind::Gauge),
        (r#""summary":{"#, MetricKind::Summary),
        (
            r#""sum":{"aggregationTemporality":1,"#,
            MetricKind::Sum {
                monotonic: false,
                temporality: Temporality::Delta,
            },
        ),
        (
            r#""sum":{"isMonotonic":true,"aggregationTemporality":2,"#,
            MetricKind::Sum {
                monotonic: true,
                temporality: Temporality::Cumulative,
            },
        ),
        (
            r#""histogram":{"aggregationTemporality":1,"#,
            MetricKind::Histogram(Temporality::Delta),
        ),
        (
            r#""exponentialHistogram":{"aggregationTemporality":2,"#,
            MetricKind::ExponentialHistogram(Temporality::Cumulative),
        ),
    ];
    let mut ids = std::collections::HashSet::new();
    for (head, kind) in kinds {
        let made = accepts(&format!(
            r#""name":"m",{head}"dataPoints":[{}]}}"#,
            point(x)
        ));
        assert_eq!(made.identity.kind, kind);
        assert_eq!(made.series, made.identity.id());
        assert!(ids.insert(made.series));
    }
}

#[test]
fn services_without_a_name_are_unknown() {
    for resource in [
        "{}",
        "null",
        r#"{"attributes":[{"key":"service.name","value":{"stringValue":""}}]}"#,
    ] {
        let body = format!(
            r#"{{"resourceMetrics":[{{"resource":{resource},"scopeMetrics":[{{"metrics":[{{{}}}]}}]}}]}}"#,
            gauge(&format!(r#"{TIME},"asInt":1"#))
        );
        let batch = metrics_json(&body).unwrap();
        assert_eq!(
            &*batch.points[0].identity.resource.service,
            "unknown_service"
        );
    }
}

#[test]
fn the_largest_exemplar_with_a_trace_is_kept() {
    let point = accepts(&gauge(&format!(
        r#"{TIME},"asInt":1,"exemplars":[
            {{"asDouble":9}},
            {{"asDouble":2,"traceId":"000000000000000000000000000000aB","spanId":"00000000000000CD"}},
            {{"asInt":"3","traceId":"000000000000000000000000000000EF"}},
            {{"asDouble":"NaN","traceId":"000000000000000000000000000000EE"}},
            {{"asInt":8,"traceId":"00000000000000000000000000000000"}},
            {{"asInt":8,"traceId":"ab"}}]"#
    )));
    let exemplar = point.exemplar.unwrap();
    assert_eq!(
        (exemplar.trace_id, exemplar.span_id, exemplar.value),
        (0xef, 0, 3.0)
    );
}

// ---- spans ----

fn span(fields: &str) -> Batch {
    let body = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{
            "startTimeUnixNano":"1699999999000000000","endTimeUnixNano":"1700000000000000000",
            "traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0000000000000a0B",{fields}}}]}}]}}]}}"#
    );
    decode_traces(Format::Json, body.as_bytes(), NOW).unwrap()
}

#[test]
fn spans_row_29() {
    let batch = span(r#""name":"GET /","kind":2,"parentSpanId":"","status":{"code":2}"#);
    let good = &batch.spans[0];
    assert_eq!(good.trace_id, 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    assert_eq!(
        (good.span_id, good.parent_id, good.error),
        (0xa0b, None, true)
    );
    assert_eq!((&*good.name, good.kind.name()), ("GET /", "server"));
    assert_eq!(&*good.resource.service, "unknown_service");
    assert_eq!(good.end.since(good.start).as_secs(), 1);

    for bad in [
        r#""traceId":"0102""#,
        r#""traceId":"00000000000000000000000000000000""#,
        r#""traceId":"""#,
        r#""spanId":"0102""#,
        r#""spanId":"0000000000000000""#,
        r#""parentSpanId":"0102""#,
    ] {
        let batch = span(bad);
        let found: Vec<_> = batch.rejections.iter().map(|(r, n, _)| (r, n)).collect();
        assert_eq!(
            (batch.spans.len(), &found[..]),
            (0, &[(Reject::BadId, 1)][..]),
            "{bad}"
        );
    }
    for (times, reason) in [
        (
            r#""endTimeUnixNano":"1699999998999999999""#,
            Reject::NegativeDuration,
        ),
        (r#""endTimeUnixNano":0"#, Reject::NoTime),
        (r#""startTimeUnixNano":0"#, Reject::NoTime),
        (
            r#""endTimeUnixNano":"18446744073709551615""#,
            Reject::Future,
        ),
        (
            r#""startTimeUnixNano":"18446744073709551615""#,
            Reject::NegativeDuration,
        ),
    ] {
        let batch = span(times);
        assert_eq!(
            batch.rejections.iter().next().map(|(r, n, _)| (r, n)),
            Some((reason, 1)),
            "{times}"
        );
    }
    assert_eq!(
        span(r#""startTimeUnixNano":"1500000000000000000""#)
            .spans
            .len(),
        1
    );
    assert_eq!(&*span(r#""name":"""#).spans[0].name, "unknown");
    let long = span(&format!(r#""name":"{}""#, "n".repeat(1 << 20)));
    assert!(long.spans[0].name.len() <= 1024 + 3 + 16);
    assert_eq!(
        span(r#""parentSpanId":"0000000000000000""#).spans[0].parent_id,
        None
    );
    assert_eq!(span(r#""kind":77"#).spans[0].kind.name(), "unspecified");
    assert!(!span(r#""status":{"code":1}"#).spans[0].error);
}

// ---- JSON, section 3 ----

#[track_caller]
fn malformed(body: &[u8]) {
    let answer = decode_metrics(Format::Json, body, NOW);
    assert!(
        matches!(answer, Err(DecodeError::Malformed(_))),
        "{answer:?}"
    );
}

#[track_caller]
fn empty(body: &str) {
    let batch = metrics_json(body).unwrap();
    assert!(batch.points.is_empty() && batch.rejections.is_empty());
}

#[test]
fn json_documents_row_5() {
    empty("{}");
    empty(r#" {"resourceMetrics":[]} "#);
    empty(r#"{"resourceMetrics":null}"#);
    empty(r#"{"resourceMetrics":[null,{}]}"#);
    empty(r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[]}}]}]}]}"#);
    for body in [
        "",
        " ",
        "null",
        "[]",
        "{}{}",
        "{} x",
        "{",
        r#""x""#,
        "1",
        "\u{feff}{}",
        "{\"a\":1,}",
    ] {
        malformed(body.as_bytes());
    }
    let none = decode_metrics(Format::Protobuf, b"", NOW).unwrap();
    assert!(none.points.is_empty());
}

#[test]
fn json_text_row_2() {
    malformed(b"{\"x\":\"\xff\"}");
    malformed(br#"{"resourceMetrics":[{"schemaUrl":"\ud800"}]}"#);
    malformed(br#"{"resourceMetrics":[{"schemaUrl":"\udc00\ud800"}]}"#);
    empty(r#"{"resourceMetrics":[{"schemaUrl":"\ud83d\ude00"}]}"#);
}

#[test]
fn json_keys_row_4() {
    empty(
        r#"{"unknown":{"deep":[1,{"er":null}]},"resource_metrics":[{"scope":1}],"resourceMetrics":[]}"#,
    );
    // Snake case is an unknown key, so this point has no time.
    rejects(
        &gauge(r#""time_unix_nano":"1700000000000000000","asInt":1"#),
        Reject::NoTime,
    );
    let by_name = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","sum":{{
            "aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[{{{TIME},"asInt":1}}]}}}}]}}]}}]}}"#
    );
    malformed(by_name.as_bytes());
    // Escaped keys are the same keys.
    accepts(&gauge(&format!(r#"{TIME},"as\u0049nt":1"#)));
}

#[test]
fn of_repeated_keys_the_last_wins() {
    let number = |point: &str| match accepts(&gauge(&format!("{TIME},{point}"))).data {
        PointData::Number(number) => number,
        other => panic!("{other:?}"),
    };
    assert_eq!(number(r#""asInt":1,"asInt":2"#), 2.0);
    assert_eq!(number(r#""asDouble":1.5,"asInt":2"#), 2.0);
    assert_eq!(number(r#""asInt":2,"asDouble":1.5"#), 1.5);
    rejects(
        &gauge(&format!(r#"{TIME},"asInt":2,"asInt":null"#)),
        Reject::NoValue,
    );
    let set = attributes_of(
        r#"{"key":"a","value":{"intValue":1}}],"flags":0,"attributes":[{"key":"b","value":{"intValue":1}}"#,
    );
    assert_eq!(
        (set.len(), set.get("b")),
        (1, Some(&AttributeValue::Int(1)))
    );
    let batch = metric_of(&format!(
        r#""gauge":{{"dataPoints":[{{{TIME},"asInt":1}}]}},"name":"old","sum":{{"aggregationTemporality":1,
            "dataPoints":[{{{TIME},"asInt":3}},{{{TIME},"asInt":4}}]}},"name":"new","unit":"s""#
    ));
    let seen: Vec<_> = batch
        .points
        .iter()
        .map(|point| {
            (
                &*point.identity.metric,
                &*point.identity.unit,
                format!("{:?}", point.data),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("new", "s", "Number(3.0)".to_owned()),
            ("new", "s", "Number(4.0)".to_owned())
        ]
    );
}

#[test]
fn json_numbers() {
    for (value, expected) in [
        (r#""asInt":"3""#, 3.0),
        (r#""asInt":3"#, 3.0),
        (r#""asInt":3.0"#, 3.0),
        (r#""asInt":3e2"#, 300.0),
        (r#""asDouble":3"#, 3.0),
        (r#""asDouble":"3.5""#, 3.5),
        (r#""asDouble":"-3e2""#, -300.0),
        (r#""asDouble":0.1"#, 0.1),
        (r#""asDouble":7.205759403792793e16"#, 7.205759403792793e16),
    ] {
        let point = accepts(&gauge(&format!("{TIME},{value}")));
        assert!(
            matches!(point.data, PointData::Number(n) if n == expected),
            "{value}"
        );
    }
    for value in [
        r#""asInt":"3.5""#,
        r#""asInt":3.5"#,
        r#""asInt":"""#,
        r#""asInt":" 3""#,
        r#""asInt":"+3""#,
        r#""asInt":"9223372036854775808""#,
        r#""asInt":1e30"#,
        r#""asInt":true"#,
        r#""asInt":[1]"#,
        r#""asInt":{}"#,
        r#""asDouble":"inf""#,
        r#""asDouble":"nan""#,
        r#""asDouble":"""#,
        r#""asDouble":1e999"#,
        r#""asDouble":false"#,
        r#""timeUnixNano":-1"#,
        r#""timeUnixNano":"18446744073709551616""#,
        r#""flags":4294967296"#,
        r#""attributes":{}"#,
        r#""attributes":"x""#,
        r#""attributes":[1]"#,
        r#""attributes":[{"key":1}]"#,
        r#""attributes":[{"key":"k","value":{"boolValue":"true"}}]"#,
        r#""attributes":[{"key":"k","value":{"bytesValue":"%"}}]"#,
        r#""exemplars":[{"traceId":"xy"}]"#,
        r#""exemplars":[{"traceId":"abc"}]"#,
        r#""exemplars":[{"traceId":"äää"}]"#,
    ] {
        let metric = gauge(value);
        malformed(
            format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{{metric}}}]}}]}}]}}"#)
                .as_bytes(),
        );
    }
    malformed(br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":[null]}]}}]}]}]}"#);
}

#[test]
fn errors_name_the_field_and_not_the_value() {
    let body = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":{"secret":1}}]}]}]}"#;
    let error = decode_metrics(Format::Json, body, NOW)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("resourceMetrics.scopeMetrics.metrics.name"),
        "{error}"
    );
    assert!(error.contains("line 1 column"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let broken = decode_metrics(Format::Json, b"{\"a\":\n secret}", NOW)
        .unwrap_err()
        .to_string();
    assert!(
        broken.contains("line 2") && !broken.contains("secret"),
        "{broken}"
    );
}

#[test]
fn json_that_grows_when_written_as_doubles_is_bounded() {
    let bounds = vec!["0"; 4 << 20].join(",");
    let body = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{{}}}]}}]}}]}}"#,
        histogram(&format!(r#""explicitBounds":[{bounds}]"#))
    );
    assert_eq!(metrics_json(&body).unwrap_err(), DecodeError::TooLarge);
}

// ---- depth, row 3 ----

fn nested(depth: usize) -> ExportMetricsServiceRequest {
    let mut value = AnyValue { value: None };
    for _ in 0..depth {
        value = AnyValue {
            value: Some(any_value::Value::ArrayValue(ArrayValue {
                values: vec![value],
            })),
        };
    }
    let point = pb::NumberDataPoint {
        time_unix_nano: 1_700_000_000_000_000_000,
        value: Some(number_data_point::Value::AsInt(1)),
        attributes: vec![KeyValue {
            key: "k".into(),
            value: Some(value),
            key_strindex: 0,
        }],
        ..Default::default()
    };
    one_metric(pb::Metric {
        name: "m".into(),
        data: Some(metric::Data::Gauge(pb::Gauge {
            data_points: vec![point],
        })),
        ..Default::default()
    })
}

fn one_metric(metric: pb::Metric) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![pb::ResourceMetrics {
            scope_metrics: vec![pb::ScopeMetrics {
                metrics: vec![metric],
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

#[test]
fn depth_row_3() {
    let deep = |depth| decode_metrics(Format::Protobuf, &nested(depth).encode_to_vec(), NOW);
    assert_eq!(deep(30).unwrap().points.len(), 1);
    assert!(matches!(deep(101), Err(DecodeError::Malformed(_))));
    let json = |depth: usize| {
        let value = format!(
            "{}{}",
            r#"{"arrayValue":{"values":["#.repeat(depth),
            "]}}".repeat(depth)
        );
        let metric = with_attributes(&format!(r#"{{"key":"k","value":{value}}}"#));
        metrics_json(&format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{{metric}}}]}}]}}]}}"#
        ))
    };
    assert_eq!(json(30).unwrap().points.len(), 1);
    assert!(matches!(json(200), Err(DecodeError::Malformed(_))));
    malformed("[".repeat(1_000_000).as_bytes());
    malformed(format!(r#"{{"unknown":{}"#, "[".repeat(1_000_000)).as_bytes());
    malformed(format!(r#"{{"resourceMetrics":{}"#, "[".repeat(1_000_000)).as_bytes());
}

#[test]
fn millions_of_empty_messages_make_nothing() {
    // 4 MiB that say: two million metrics, all empty. As structs they would be 400 MB.
    let metrics = [0x12, 0x00].repeat(2 << 20);
    let mut scope = vec![0x12];
    prost::encoding::encode_varint(metrics.len() as u64, &mut scope);
    scope.extend(metrics);
    let mut request = vec![0x0a];
    prost::encoding::encode_varint(scope.len() as u64, &mut request);
    request.extend(scope);
    let batch = decode_metrics(Format::Protobuf, &request, NOW).unwrap();
    assert!(batch.points.is_empty() && batch.rejections.is_empty());
}

// ---- the protocol's own examples ----

#[test]
fn the_examples_of_the_protocol_parse() {
    let now = Timestamp::from_secs(1_800_000_000);
    let batch = decode_metrics(
        Format::Json,
        include_bytes!("../testdata/metrics.json"),
        now,
    )
    .unwrap();
    assert!(batch.rejections.is_empty(), "{:?}", batch.rejections);
    let names: Vec<_> = batch.points.iter().map(|p| &*p.identity.metric).collect();
    assert_eq!(
        names,
        [
            "my.counter",
            "my.gauge",
            "my.histogram",
            "my.exponential.histogram"
        ]
    );
    let batch = decode_traces(Format::Json, include_bytes!("../testdata/trace.json"), now).unwrap();
    assert!(batch.rejections.is_empty(), "{:?}", batch.rejections);
    assert_eq!(&*batch.spans[0].resource.service, "my.service");
    // The others are of a signal that has no door here; as a metrics request they say nothing.
    for other in [
        &include_bytes!("../testdata/logs.json")[..],
        include_bytes!("../testdata/events.json"),
    ] {
        assert!(
            decode_metrics(Format::Json, other, now)
                .unwrap()
                .points
                .is_empty()
        );
    }
}

// ---- laws ----

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        "[a-c\\PC]{0,3}".prop_map(any_value::Value::StringValue),
        any::<bool>().prop_map(any_value::Value::BoolValue),
        any::<i64>().prop_map(any_value::Value::IntValue),
        finite().prop_map(any_value::Value::DoubleValue),
        vec(any::<u8>(), 0..4).prop_map(any_value::Value::BytesValue),
    ]
    .prop_map(|value| AnyValue { value: Some(value) });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3)
                .prop_map(|values| any_value::Value::ArrayValue(ArrayValue { values })),
            vec(("[a-c]{0,2}", inner), 0..3).prop_map(|pairs| {
                let values = pairs
                    .into_iter()
                    .map(|(key, value)| KeyValue {
                        key,
                        value: Some(value),
                        key_strindex: 0,
                    })
                    .collect();
                any_value::Value::KvlistValue(KeyValueList { values })
            }),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

/// Without the negative zero: prost does not write it where zero is the default.
fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_map(|number| {
        if number.is_finite() {
            number + 0.0
        } else {
            0.5
        }
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(
        ("[a-c]{0,2}|service.name", any_value()).prop_map(|(key, value)| KeyValue {
            key,
            value: Some(value),
            key_strindex: 0,
        }),
        0..4,
    )
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 1_699_999_990_000_000_000..1_700_000_010_000_000_000_u64,
        1 => Just(0),
        1 => any::<u64>(),
    ]
}

fn number_points() -> impl Strategy<Value = Vec<pb::NumberDataPoint>> {
    let value = option::of(prop_oneof![
        finite().prop_map(number_data_point::Value::AsDouble),
        any::<i64>().prop_map(number_data_point::Value::AsInt),
    ]);
    let point = (attributes(), time(), time(), value, 0..3_u32, exemplars()).prop_map(
        |(attributes, start, time, value, flags, exemplars)| pb::NumberDataPoint {
            attributes,
            start_time_unix_nano: start.min(time),
            time_unix_nano: time,
            value,
            flags,
            exemplars,
        },
    );
    vec(point, 0..3)
}

fn exemplars() -> impl Strategy<Value = Vec<pb::Exemplar>> {
    vec(
        (vec(any::<u8>(), 16), vec(any::<u8>(), 8), finite()).prop_map(
            |(trace_id, span_id, value)| pb::Exemplar {
                trace_id,
                span_id,
                value: Some(pb::exemplar::Value::AsDouble(value)),
                ..Default::default()
            },
        ),
        0..2,
    )
}

fn histogram_point() -> impl Strategy<Value = pb::HistogramDataPoint> {
    (
        attributes(),
        time(),
        vec(0..100_u64, 1..6),
        option::of(finite()),
        option::of(finite()),
        any::<bool>(),
        exemplars(),
    )
        .prop_map(|(attributes, time, counts, sum, min, honest, exemplars)| {
            pb::HistogramDataPoint {
                attributes,
                time_unix_nano: time,
                count: counts.iter().sum::<u64>() + u64::from(!honest),
                explicit_bounds: (1..counts.len()).map(|i| i as f64 / 3.0).collect(),
                bucket_counts: counts,
                sum,
                min,
                exemplars,
                ..Default::default()
            }
        })
}

fn exponential_point() -> impl Strategy<Value = pb::ExponentialHistogramDataPoint> {
    let buckets = || {
        (-50..50_i32, vec(0..5_u64, 0..6)).prop_map(|(offset, bucket_counts)| {
            pb::exponential_histogram_data_point::Buckets {
                offset,
                bucket_counts,
            }
        })
    };
    (
        time(),
        -12..22_i32,
        0..9_u64,
        buckets(),
        option::of(buckets()),
        0.0..1.0_f64,
    )
        .prop_map(
            |(time, scale, zero_count, positive, negative, zero_threshold)| {
                let side = |b: &pb::exponential_histogram_data_point::Buckets| {
                    b.bucket_counts.iter().sum::<u64>()
                };
                pb::ExponentialHistogramDataPoint {
                    time_unix_nano: time,
                    count: zero_count + side(&positive) + negative.as_ref().map_or(0, side),
                    scale,
                    zero_count,
                    zero_threshold,
                    positive: Some(positive),
                    negative,
                    ..Default::default()
                }
            },
        )
}

fn summary_point() -> impl Strategy<Value = pb::SummaryDataPoint> {
    (
        time(),
        any::<u64>(),
        finite(),
        vec((0.0..1.1_f64, -1.0..9.0_f64), 0..4),
    )
        .prop_map(|(time, count, sum, mut quantiles)| {
            quantiles.sort_by(|a, b| a.0.total_cmp(&b.0));
            pb::SummaryDataPoint {
                time_unix_nano: time,
                count,
                sum,
                quantile_values: quantiles
                    .into_iter()
                    .map(
                        |(quantile, value)| pb::summary_data_point::ValueAtQuantile {
                            quantile,
                            value,
                        },
                    )
                    .collect(),
                ..Default::default()
            }
        })
}

fn data() -> impl Strategy<Value = metric::Data> {
    prop_oneof![
        number_points().prop_map(|data_points| metric::Data::Gauge(pb::Gauge { data_points })),
        (number_points(), 0..4_i32, any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| metric::Data::Sum(pb::Sum {
                data_points,
                aggregation_temporality,
                is_monotonic,
            })
        ),
        (vec(histogram_point(), 0..3), 0..4_i32).prop_map(
            |(data_points, aggregation_temporality)| {
                metric::Data::Histogram(pb::Histogram {
                    data_points,
                    aggregation_temporality,
                })
            }
        ),
        (vec(exponential_point(), 0..3), 1..3_i32).prop_map(
            |(data_points, aggregation_temporality)| {
                metric::Data::ExponentialHistogram(pb::ExponentialHistogram {
                    data_points,
                    aggregation_temporality,
                })
            }
        ),
        vec(summary_point(), 0..3)
            .prop_map(|data_points| metric::Data::Summary(pb::Summary { data_points })),
    ]
}

fn metrics_request() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let metric =
        ("[a-z.]{0,3}", "s|By|", option::of(data())).prop_map(|(name, unit, data)| pb::Metric {
            name,
            unit,
            description: "said\n\"so\"".into(),
            data,
            ..Default::default()
        });
    let scope = ("[a-b]{0,1}", attributes()).prop_map(|(name, attributes)| InstrumentationScope {
        name,
        version: "1".into(),
        attributes,
        ..Default::default()
    });
    let scopes =
        (option::of(scope), vec(metric, 0..3)).prop_map(|(scope, metrics)| pb::ScopeMetrics {
            scope,
            metrics,
            schema_url: String::new(),
        });
    let envelope = (attributes(), vec(scopes, 0..2)).prop_map(|(attributes, scope_metrics)| {
        pb::ResourceMetrics {
            resource: Some(PbResource {
                attributes,
                ..Default::default()
            }),
            scope_metrics,
            schema_url: "http://x".into(),
        }
    });
    vec(envelope, 0..3)
        .prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
}

fn traces_request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let ids = (
        vec(any::<u8>(), 15..17),
        vec(any::<u8>(), 8),
        prop_oneof![Just(Vec::new()), vec(any::<u8>(), 8)],
    );
    let span = (
        ids,
        "[a-b]{0,2}",
        0..7_i32,
        time(),
        time(),
        0..4_i32,
        attributes(),
    )
        .prop_map(
            |((trace_id, span_id, parent_span_id), name, kind, start, end, code, attributes)| {
                pbt::Span {
                    trace_id,
                    span_id,
                    parent_span_id,
                    name,
                    kind,
                    start_time_unix_nano: start,
                    end_time_unix_nano: end,
                    attributes: attributes.clone(),
                    events: vec![pbt::span::Event {
                        name: "e".into(),
                        attributes,
                        ..Default::default()
                    }],
                    status: Some(pbt::Status {
                        code,
                        ..Default::default()
                    }),
                    ..Default::default()
                }
            },
        );
    let envelope =
        (attributes(), vec(span, 0..4)).prop_map(|(attributes, spans)| pbt::ResourceSpans {
            resource: Some(PbResource {
                attributes,
                ..Default::default()
            }),
            scope_spans: vec![pbt::ScopeSpans {
                spans,
                ..Default::default()
            }],
            ..Default::default()
        });
    vec(envelope, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// A broken copy: some bytes overwritten, cut off, or repeated.
fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = bytes.len();
    (vec((0..length.max(1), any::<u8>()), 0..4), 0..=length).prop_map(move |(flips, end)| {
        let mut copy = bytes.clone();
        for (at, byte) in flips {
            if let Some(place) = copy.get_mut(at) {
                *place = byte;
            }
        }
        copy.truncate(end);
        copy
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The JSON is written by opentelemetry-proto, so that its names are not ours to get wrong.
    #[test]
    fn protobuf_and_json_of_metrics_give_the_same_batch(request in metrics_request()) {
        let json = serde_json::to_vec(&request).unwrap();
        let from_json = decode_metrics(Format::Json, &json, NOW).unwrap();
        let from_wire = decode_metrics(Format::Protobuf, &request.encode_to_vec(), NOW).unwrap();
        prop_assert_eq!(format!("{from_json:?}"), format!("{from_wire:?}"));
    }

    #[test]
    fn protobuf_and_json_of_traces_give_the_same_batch(request in traces_request()) {
        let json = serde_json::to_vec(&request).unwrap();
        let from_json = decode_traces(Format::Json, &json, NOW).unwrap();
        let from_wire = decode_traces(Format::Protobuf, &request.encode_to_vec(), NOW).unwrap();
        prop_assert_eq!(format!("{from_json:?}"), format!("{from_wire:?}"));
    }

    #[test]
    fn what_is_accepted_is_sound(request in metrics_request()) {
        let sent: usize = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics)
            .flat_map(|s| &s.metrics).filter_map(|m| m.data.as_ref()).map(|data| match data {
                metric::Data::Gauge(d) => d.data_points.len(),
                metric::Data::Sum(d) => d.data_points.len(),
                metric::Data::Histogram(d) => d.data_points.len(),
                metric::Data::ExponentialHistogram(d) => d.data_points.len(),
                metric::Data::Summary(d) => d.data_points.len(),
            }).sum();
        let batch = decode_metrics(Format::Protobuf, &request.encode_to_vec(), NOW).unwrap();
        prop_assert_eq!(batch.points.len() as u64 + batch.rejections.total(), sent as u64);
        for point in &batch.points {
            prop_assert_eq!(point.series, point.identity.id());
            if let PointData::Number(number) = point.data {
                prop_assert!(number.is_finite());
            }
        }
    }

    /// Strictness is prost's: whatever it refuses is refused here, and nothing else.
    #[test]
    fn damaged_metrics_are_refused_as_prost_refuses_them(
        bytes in metrics_request().prop_flat_map(|request| damaged(request.encode_to_vec()))
    ) {
        let ours = decode_metrics(Format::Protobuf, &bytes, NOW);
        prop_assert_eq!(ours.is_ok(), ExportMetricsServiceRequest::decode(&*bytes).is_ok());
    }

    #[test]
    fn damaged_traces_are_refused_as_prost_refuses_them(
        bytes in traces_request().prop_flat_map(|request| damaged(request.encode_to_vec()))
    ) {
        let ours = decode_traces(Format::Protobuf, &bytes, NOW);
        prop_assert_eq!(ours.is_ok(), ExportTraceServiceRequest::decode(&*bytes).is_ok());
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in vec(any::<u8>(), 0..200)) {
        for format in [Format::Protobuf, Format::Json] {
            drop(decode_metrics(format, &bytes, NOW));
            drop(decode_traces(format, &bytes, NOW));
        }
    }
}
