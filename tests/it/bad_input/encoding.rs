//! Rows 1 to 8: bytes that are not what they say.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric;
use prost::Message as _;

use super::make::{self, Metrics, attribute, good, good_of_length, gzip, zstd};
use super::{Answer, Body, Counted, Growth, Table};
use crate::harness::otlp::now_nanos;

/// Both signals must be answered alike.
async fn malformed(table: &mut Table, row: &str, body: Body) {
    table
        .expect(row, body.clone(), Answer::Malformed, Counted::default())
        .await;
    table
        .expect(row, body.of_traces(), Answer::Malformed, Counted::default())
        .await;
}

async fn accepted(table: &mut Table, row: &str, body: Body, applied: u64) {
    table
        .expect(row, body, Answer::Accepted, Counted::applied(applied))
        .await;
}

/// A good request with an attribute of `depth` arrays in each other.
fn nested(depth: usize) -> Vec<u8> {
    let mut value = any_value::Value::IntValue(1);
    for _ in 0..depth {
        let values = vec![AnyValue { value: Some(value) }];
        value = any_value::Value::ArrayValue(ArrayValue { values });
    }
    let mut point = make::number(now_nanos(), 1.0);
    point.attributes.push(attribute("deep", value));
    Metrics::of("deep")
        .metric(make::gauge("deep", vec![point]))
        .encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_1_to_3_what_cannot_be_decoded() {
    let mut table = Table::start().await;
    let whole = good("cut", "cut");
    let broken: [(&str, Vec<u8>); 10] = [
        (
            "1 random bytes",
            (0..997_u32).map(|i| (i * i * 31 + 7) as u8 | 1).collect(),
        ),
        ("1 truncated", whole[..whole.len() - 1].to_vec()),
        ("1 cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("1 wrong wire type", vec![0x08, 0x01]),
        ("1 no such wire type", vec![0x0f]),
        (
            "1 length beyond the end",
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1],
        ),
        (
            "1 varint of 11 bytes",
            [&[0x10][..], &[0x80; 10], &[1]].concat(),
        ),
        ("1 field number 0", vec![0x00, 0x01]),
        ("1 unmatched group", vec![0x13]),
        ("1 group ends that never began", vec![0x14]),
    ];
    for (row, bytes) in broken {
        malformed(&mut table, row, Body::protobuf(bytes)).await;
    }

    let mut not_utf8 = good("shop", "m\u{e9}\u{e9}m");
    let at = not_utf8
        .windows(2)
        .position(|two| two == [0xc3, 0xa9])
        .expect("é");
    not_utf8[at] = 0xff;
    table
        .expect(
            "2 invalid UTF-8",
            Body::protobuf(not_utf8),
            Answer::Malformed,
            Counted::default(),
        )
        .await;
    for (row, name) in [
        ("2 lone high surrogate", &br#"\ud800"#[..]),
        ("2 lone low surrogate", br#"x\udc00x"#),
        ("2 high surrogate and something else", br#"\ud800\u0041"#),
        ("2 invalid UTF-8 in JSON", &[0xff, 0xfe]),
    ] {
        let json = [
            br#"{"resourceMetrics":[{"schemaUrl":""#,
            name,
            br#""}],"resourceSpans":[{"schemaUrl":""#,
            name,
            br#""}]}"#,
        ]
        .concat();
        malformed(&mut table, row, Body::json(json)).await;
    }

    accepted(
        &mut table,
        "3 nested 20 deep",
        Body::protobuf(nested(20)),
        1,
    )
    .await;
    table
        .expect(
            "3 nested 101 deep",
            Body::protobuf(nested(101)),
            Answer::Malformed,
            Counted::default(),
        )
        .await;
    table
        .expect(
            "3 nested 100,000 deep",
            Body::protobuf(deep_bytes(100_000)),
            Answer::Malformed,
            Counted::default(),
        )
        .await;
    let deep = |open: &str, close: &str, depth: usize| {
        let value = format!("{}{}", open.repeat(depth), close.repeat(depth));
        format!(r#"{{"unknown":{value},"resourceMetrics":[]}}"#)
    };
    // What nobody reads is ignored, however deep it is; that takes no stack.
    for (row, json) in [
        ("3 unknown 200 deep", deep("[", "]", 200)),
        (
            "3 unknown objects 200 deep",
            deep(r#"{"a":"#, "}", 200).replace(":}", ":1}"),
        ),
        ("3 unknown a million deep", deep("[", "]", 1_000_000)),
    ] {
        accepted(&mut table, row, Body::json(json), 0).await;
    }
    for (row, json) in [
        ("3 a million [", "[".repeat(1_000_000)),
        (
            "3 a million [ behind a key",
            format!(r#"{{"x":{}"#, "[".repeat(1_000_000)),
        ),
    ] {
        malformed(&mut table, row, Body::json(json)).await;
    }
    let known = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"a","value":{}{{"intValue":1}}{}}}]}}}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(200),
        "]}}".repeat(200),
    );
    table
        .expect(
            "3 JSON values 200 deep",
            Body::json(known),
            Answer::Malformed,
            Counted::default(),
        )
        .await;
    table.finish("3").await;
}

/// An attribute's value of arrays in each other, as bytes: a struct of that depth would overflow the
/// stack of the test.
fn deep_bytes(depth: usize) -> Vec<u8> {
    // Written from the inside out, in reverse: length and key go before what they hold.
    let mut reversed = Vec::new();
    let wrap = |key: u8, reversed: &mut Vec<u8>| {
        let mut length = reversed.len();
        let mut digits = Vec::new();
        loop {
            let digit = (length & 0x7f) as u8;
            length >>= 7;
            digits.push(if length > 0 { digit | 0x80 } else { digit });
            if length == 0 {
                break;
            }
        }
        reversed.extend(digits.iter().rev());
        reversed.push(key);
    };
    for _ in 0..depth {
        // ArrayValue.values, AnyValue.array_value.
        wrap(0x0a, &mut reversed);
        wrap(0x2a, &mut reversed);
    }
    // KeyValue.value, Resource.attributes, ResourceMetrics.resource, resource_metrics.
    for key in [0x12, 0x0a, 0x0a, 0x0a] {
        wrap(key, &mut reversed);
    }
    reversed.reverse();
    reversed
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_4_and_5_what_is_unknown_or_empty() {
    let mut table = Table::start().await;
    // A field 100 of each wire type, and a group.
    let unknown = [
        &[0xa0, 0x06, 0x01][..],
        &[0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xa2, 0x06, 0x02, 0xff, 0xff],
        &[0xa3, 0x06, 0x08, 0x01, 0xa4, 0x06],
        &[0xa5, 0x06, 1, 2, 3, 4],
    ]
    .concat();
    let body = [unknown.clone(), good("shop", "unknown.fields"), unknown].concat();
    accepted(&mut table, "4 unknown fields", Body::protobuf(body), 1).await;

    let json = |more: &str, sum: &str| {
        let now = now_nanos();
        Body::json(format!(
            r#"{{{more}"resourceMetrics":[{{{more}"resource":{{{more}"attributes":[{{{more}"key":"service.name",
            "value":{{{more}"stringValue":"shop"}}}}]}},"scopeMetrics":[{{{more}"scope":{{{more}"name":"x"}},
            "metrics":[{{{more}"name":"m","sum":{{{more}{sum},"isMonotonic":false,"dataPoints":[{{{more}
            "timeUnixNano":"{now}","asInt":"7"}}]}}}}]}}]}}]}}"#
        ))
    };
    let unknown =
        r#""unknown":{"a":[1,{"b":null}],"resourceMetrics":[{}]},"other":[[],{},"x",1e400,true],"#;
    let temporality = r#""aggregationTemporality":2"#;
    accepted(
        &mut table,
        "4 unknown keys at every depth",
        json(unknown, temporality),
        1,
    )
    .await;
    let name = r#""aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE""#;
    table
        .expect(
            "4 an enum by its name",
            json("", name),
            Answer::Malformed,
            Counted::default(),
        )
        .await;
    let snake = r#""aggregation_temporality":1,"aggregationTemporality":2,"data_points":[{}]"#;
    accepted(&mut table, "4 snake_case keys beside", json("", snake), 1).await;
    let snake = format!(
        r#"{{"resource_metrics":[{{"scope_metrics":[{{"metrics":[{{"name":"m","gauge":
        {{"data_points":[{{"time_unix_nano":"{}","as_double":1}}]}}}}]}}]}}]}}"#,
        now_nanos()
    );
    accepted(&mut table, "4 snake_case keys only", Body::json(snake), 0).await;

    accepted(&mut table, "5 empty protobuf", Body::protobuf([]), 0).await;
    accepted(
        &mut table,
        "5 empty protobuf of traces",
        Body::protobuf([]).of_traces(),
        0,
    )
    .await;
    for (row, json) in [
        ("5 empty object", "{}"),
        (
            "5 no resources",
            r#"{"resourceMetrics":[],"resourceSpans":[]}"#,
        ),
        (
            "5 envelopes with nothing in them",
            r#"{"resourceMetrics":[{},{"resource":{},"scopeMetrics":[{},
          {"metrics":[{},{"name":"m","gauge":{}}]}]}],"resourceSpans":[{"scopeSpans":[{}]}]}"#,
        ),
    ] {
        accepted(&mut table, row, Body::json(json), 0).await;
        accepted(&mut table, row, Body::json(json).of_traces(), 0).await;
    }
    for (row, json) in [
        ("5 empty JSON body", ""),
        ("5 null", "null"),
        ("5 an array", "[]"),
        ("5 two documents", "{}{}"),
        ("5 a document and more", "{} x"),
    ] {
        malformed(&mut table, row, Body::json(json)).await;
    }
    let mut empty = Metrics::of("shop").gauge("without points", &[]).request();
    empty.resource_metrics[0].scope_metrics[0].metrics[0].data =
        Some(metric::Data::Gauge(Default::default()));
    accepted(
        &mut table,
        "5 a metric without points",
        Body::protobuf(empty.encode_to_vec()),
        0,
    )
    .await;
    table.finish("5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_6_and_8_compression_and_content_types() {
    let mut table = Table::start_otlp("max_request_size: 64KiB", "").await;
    let small = || good("shop", "compressed");
    for encoding in ["gzip", "GZIP", "zstd"] {
        let bytes = if encoding == "zstd" {
            zstd(&small())
        } else {
            gzip(&small())
        };
        accepted(
            &mut table,
            encoding,
            Body::protobuf(bytes).encoded(encoding),
            1,
        )
        .await;
    }
    let whole = gzip(&small());
    let mut wrong_crc = whole.clone();
    let at = wrong_crc.len() - 8;
    wrong_crc[at] ^= 1;
    let mut wrong_length = whole.clone();
    *wrong_length.last_mut().expect("not empty") ^= 1;
    let broken: [(&str, Vec<u8>); 7] = [
        (
            "6 a header and garbage",
            [&whole[..10], &[0xff; 100]].concat(),
        ),
        ("6 no gzip at all", vec![7; 100]),
        ("6 truncated in the data", whole[..whole.len() / 2].to_vec()),
        ("6 truncated in the end", whole[..whole.len() - 1].to_vec()),
        ("6 wrong CRC", wrong_crc),
        ("6 wrong length", wrong_length),
        ("6 garbage behind", [&whole[..], b"garbage"].concat()),
    ];
    for (row, bytes) in broken {
        malformed(&mut table, row, Body::protobuf(bytes).encoded("gzip")).await;
    }
    let frame = zstd(&small());
    malformed(
        &mut table,
        "6 truncated zstd",
        Body::protobuf(&frame[..frame.len() - 3]).encoded("zstd"),
    )
    .await;
    malformed(
        &mut table,
        "6 no zstd at all",
        Body::protobuf([9; 64]).encoded("zstd"),
    )
    .await;

    accepted(
        &mut table,
        "6 gzip of nothing",
        Body::protobuf(gzip(b"")).encoded("gzip"),
        0,
    )
    .await;
    malformed(
        &mut table,
        "6 gzip of nothing in JSON",
        Body::json(gzip(b"")).encoded("gzip"),
    )
    .await;
    let both = [good("shop", "member.one"), good("shop", "member.two")];
    let members = [gzip(&both[0]), gzip(&both[1])].concat();
    accepted(
        &mut table,
        "6 two members",
        Body::protobuf(members).encoded("gzip"),
        2,
    )
    .await;
    let limit = 64 << 10;
    let half = |length| gzip(&good_of_length(length));
    let fits = [half(limit / 2), half(limit / 2)].concat();
    table
        .expect(
            "6 two members that together fit",
            Body::protobuf(fits).encoded("gzip"),
            Answer::Accepted,
            // Of two points of one series the second may bear the same time.
            Counted::applied(2),
        )
        .await;
    let beyond = [half(limit / 2), half(limit / 2 + 1)].concat();
    table
        .expect(
            "6 two members beyond the limit",
            Body::protobuf(beyond).encoded("gzip"),
            Answer::TooLarge,
            Counted::default(),
        )
        .await;

    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[{{"timeUnixNano":{},"asDouble":1}}]}}}}]}}]}}]}}"#,
        now_nanos()
    );
    malformed(
        &mut table,
        "8 JSON that says it is protobuf",
        Body::protobuf(json),
    )
    .await;
    malformed(
        &mut table,
        "8 protobuf that says it is JSON",
        Body::json(small()),
    )
    .await;
    let unsupported = [
        ("8 brotli", Body::protobuf(small()).encoded("br")),
        ("8 deflate", Body::protobuf(small()).encoded("deflate")),
        (
            "8 gzip in gzip, announced",
            Body::protobuf(gzip(&whole)).encoded("gzip, gzip"),
        ),
    ];
    for (row, body) in unsupported {
        let (_, headers, _) = table.post(&body).await;
        assert_eq!(headers["accept-encoding"], "gzip, zstd", "row {row}");
        table
            .expect(row, body, Answer::Unsupported, Counted::default())
            .await;
    }
    let call = super::Call::metrics(small()).encoded("br");
    let answer = table.grpc.call(call).await;
    assert_eq!(answer.headers["grpc-accept-encoding"], "identity,gzip,zstd");
    for (row, media_type) in [
        ("8 no content type", None),
        ("8 another content type", Some("text/xml")),
        (
            "8 a content type that begins alike",
            Some("application/jsonx"),
        ),
    ] {
        let mut body = Body::protobuf(small());
        body.media_type = media_type;
        let (status, headers, answer) = table.post(&body).await;
        assert_eq!(status, 415, "row {row}");
        assert_eq!(
            headers["content-type"], "text/plain; charset=utf-8",
            "row {row}"
        );
        assert!(!answer.is_empty(), "row {row}");
        table.good_request(row).await;
    }
    table.finish("8").await;
}

/// The limit that holds unless another is configured.
const DEFAULT_LIMIT: usize = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn row_7_bombs() {
    let mut table = Table::start().await;
    // So that allocations which come with the first requests are not counted.
    table.good_request("0").await;
    // 64 MiB and one byte of what a decoder would like: unknown fields.
    let bomb = good_of_length(DEFAULT_LIMIT + 1);
    let gzipped = gzip(&bomb);
    let zstandard = zstd(&bomb);
    drop(bomb);
    assert!(gzipped.len() * 100 < DEFAULT_LIMIT, "{}", gzipped.len());
    assert!(
        zstandard.len() * 1000 < DEFAULT_LIMIT,
        "{}",
        zstandard.len()
    );
    let growth = Growth::begin(&table.daemon);
    let before = table.counted().await;
    for (row, encoding, bytes) in [
        ("7 gzip bomb", "gzip", &gzipped),
        ("7 zstd bomb", "zstd", &zstandard),
    ] {
        let body = Body::protobuf(bytes.clone()).encoded(encoding);
        table
            .expect(row, body, Answer::TooLarge, Counted::default())
            .await;
    }
    // A vector that grows holds its old self and its new one for a moment.
    growth.stays_below(&table.daemon, 2 * DEFAULT_LIMIT as u64, "7 bombs");
    // A hundred members of nothing much are no bomb, but their sum is.
    let members = gzip(&vec![0; 1 << 20]).repeat(65);
    table
        .expect(
            "7 members of a bomb",
            Body::protobuf(members).encoded("gzip"),
            Answer::TooLarge,
            Counted::default(),
        )
        .await;
    let inner = gzip(&gzip(&good("shop", "twice")));
    malformed(
        &mut table,
        "7 gzip in gzip",
        Body::protobuf(inner).encoded("gzip"),
    )
    .await;
    // A window of 2 GiB is asked for in a few bytes.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    malformed(
        &mut table,
        "7 zstd that wants 2 GiB",
        Body::protobuf(window).encoded("zstd"),
    )
    .await;
    let after = table.counted().await;
    assert!(after.since(&before).rejected.is_empty());
    table.finish("7").await;
}
