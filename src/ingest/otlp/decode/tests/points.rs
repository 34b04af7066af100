use opentelemetry_proto::tonic::metrics::v1::metric;
use prost::Message;

use super::*;
use crate::model::{AttributeRef, MetricKind, PointData, Temporality};

#[test]
fn names_row_13() {
    let point = format!(r#""gauge":{{"dataPoints":[{{{TIME},"asInt":"1"}}]}}"#);
    rejects(&point, Reject::Name);
    rejects(&format!(r#""name":"",{point}"#), Reject::Name);
    let name = "n".repeat(1024);
    assert_eq!(
        &*accepts(&format!(r#""name":"{name}",{point}"#))
            .identity
            .here()
            .unwrap()
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

#[test]
fn attributes_row_23() {
    let set = attributes_of(
        r#"{"key":"","value":{"intValue":1}},{"key":"a","value":{"intValue":1}},
           {"key":"a","value":{"intValue":"2"}},{"key":"none"},{"key":"null","value":null},
           {"key":"empty","value":{"stringValue":""}}"#,
    );
    assert_eq!(set.len(), 4);
    assert_eq!(set.get("a"), Some(AttributeRef::Int(2)));
    assert_eq!(set.get("none"), Some(AttributeRef::Json("null")));
    assert_eq!(set.get("null"), Some(AttributeRef::Json("null")));
    assert_eq!(set.get("empty"), Some(AttributeRef::from("")));
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
    assert_eq!(set.get("s"), Some(AttributeRef::from("1")));
    assert_eq!(set.get("i"), Some(AttributeRef::Int(1)));
    assert_eq!(set.get("d"), Some(AttributeRef::Double(1.0)));
    assert_eq!(set.get("b"), Some(AttributeRef::Bool(true)));
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
    assert_eq!(
        accepts(&many(64)).identity.here().unwrap().attributes.len(),
        64
    );
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
    assert_eq!(sorted.identity.here(), shuffled.identity.here());
    assert_eq!(&*sorted.identity.here().unwrap().resource.service, "shop");
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
        assert_eq!(made.identity.here().unwrap().kind, kind);
        assert_eq!(made.series, made.identity.here().unwrap().id());
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
            &*batch.points[0].identity.here().unwrap().resource.service,
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
    let operation = batch.operation(good).unwrap();
    assert_eq!(
        (&*operation.name, operation.kind.name()),
        ("GET /", "server")
    );
    assert_eq!(&*operation.resource.service, "unknown_service");
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
    assert_eq!(&*span(r#""name":"""#).operations[0].name, "unknown");
    let long = span(&format!(r#""name":"{}""#, "n".repeat(1 << 20)));
    assert!(long.operations[0].name.len() <= 1024 + 3 + 16);
    assert_eq!(
        span(r#""parentSpanId":"0000000000000000""#).spans[0].parent_id,
        None
    );
    assert_eq!(
        span(r#""kind":77"#).operations[0].kind.name(),
        "unspecified"
    );
    assert!(!span(r#""status":{"code":1}"#).spans[0].error);
}
