use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use prost::Message;

use super::*;
use crate::model::{AttributeRef, PointData};

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
    assert_eq!((set.len(), set.get("b")), (1, Some(AttributeRef::Int(1))));
    let batch = metric_of(&format!(
        r#""gauge":{{"dataPoints":[{{{TIME},"asInt":1}}]}},"name":"old","sum":{{"aggregationTemporality":1,
            "dataPoints":[{{{TIME},"asInt":3}},{{{TIME},"asInt":4}}]}},"name":"new","unit":"s""#
    ));
    let seen: Vec<_> = batch
        .points
        .iter()
        .map(|point| {
            (
                &*point.identity.here().unwrap().metric,
                &*point.identity.here().unwrap().unit,
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
        include_bytes!("../../testdata/metrics.json"),
        now,
    )
    .unwrap();
    assert!(batch.rejections.is_empty(), "{:?}", batch.rejections);
    let names: Vec<_> = batch
        .points
        .iter()
        .map(|p| &*p.identity.here().unwrap().metric)
        .collect();
    assert_eq!(
        names,
        [
            "my.counter",
            "my.gauge",
            "my.histogram",
            "my.exponential.histogram"
        ]
    );
    let batch = decode_traces(
        Format::Json,
        include_bytes!("../../testdata/trace.json"),
        now,
    )
    .unwrap();
    assert!(batch.rejections.is_empty(), "{:?}", batch.rejections);
    assert_eq!(&*batch.operations[0].resource.service, "my.service");
    // The others are of a signal that has no door here; as a metrics request they say nothing.
    for other in [
        &include_bytes!("../../testdata/logs.json")[..],
        include_bytes!("../../testdata/events.json"),
    ] {
        assert!(
            decode_metrics(Format::Json, other, now)
                .unwrap()
                .points
                .is_empty()
        );
    }
}

/// Found by fuzzing: a gauge with an unknown field 2, which sums have, was refused.
#[test]
fn fields_of_one_kind_of_data_are_unknown_to_another() {
    let mut point = vec![0x19];
    point.extend(1_700_000_000_000_000_000_u64.to_le_bytes());
    point.extend([0x31, 1, 0, 0, 0, 0, 0, 0, 0]);
    let wrapped =
        |number: u8, inner: &[u8]| [&[number << 3 | 2, inner.len() as u8], inner].concat();
    let mut data = wrapped(1, &point);
    data.extend(wrapped(2, b"x"));
    data.extend(wrapped(3, b"x"));
    let metric = [wrapped(1, b"m"), wrapped(5, &data)].concat();
    let request = wrapped(1, &wrapped(2, &wrapped(2, &metric)));
    let batch = decode_metrics(Format::Protobuf, &request, NOW).unwrap();
    assert_eq!(batch.points.len(), 1);
}

/// What the fuzzers start from, and what once made them fail.
#[test]
fn the_seeds_of_the_fuzzers_give_an_answer() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds");
    let mut read = 0;
    for target in ["otlp_protobuf", "otlp_json"] {
        for file in std::fs::read_dir(format!("{seeds}/{target}")).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            for format in [Format::Protobuf, Format::Json] {
                drop(decode_metrics(format, &bytes, NOW));
                drop(decode_traces(format, &bytes, NOW));
            }
            read += 1;
        }
    }
    for file in std::fs::read_dir(format!("{seeds}/selector")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        if let Ok(selector) = crate::model::Selector::parse(&String::from_utf8_lossy(&bytes)) {
            let shown = selector.to_string();
            assert_eq!(
                crate::model::Selector::parse(&shown).unwrap().to_string(),
                shown
            );
        }
        read += 1;
    }
    assert!(read >= 6, "the seeds are gone");
}
