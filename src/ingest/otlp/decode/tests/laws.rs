use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource as PbResource;
use opentelemetry_proto::tonic::trace::v1 as pbt;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::model::PointData;

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

/// A request with one envelope: all of these, one after the other, once or twice.
fn merged(envelopes: impl Iterator<Item = Vec<u8>>, twice: bool) -> Vec<u8> {
    let mut inside: Vec<u8> = envelopes.flatten().collect();
    if twice {
        inside.extend_from_within(..);
    }
    let mut bytes = vec![0x0a];
    prost::encoding::encode_varint(inside.len() as u64, &mut bytes);
    bytes.extend(inside);
    bytes
}

/// All that a batch says, wherever it says it.
fn told(batch: &Batch) -> String {
    let mut told = format!("{:?} {:?}\n", batch.spans, batch.rejections);
    for point in &batch.points {
        let identity = batch.identity(point).expect("one of its own");
        assert_eq!(batch.sender(point), Some(&identity.resource));
        let MetricPoint {
            series,
            identity: _,
            start,
            time,
            data,
            exemplar,
        } = point;
        told += &format!("{series} {identity:?} {start:?} {time} {data:?} {exemplar:?}\n");
    }
    told
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
            prop_assert_eq!(point.series, point.identity.here().unwrap().id());
            if let PointData::Number(number) = point.data {
                prop_assert!(number.is_finite());
            }
        }
    }

    /// What was met before changes nothing, however little of it is remembered.
    #[test]
    fn a_decoder_that_knows_a_request_reads_it_alike(
        requests in vec(metrics_request(), 1..4), known in 1_usize..40
    ) {
        let decoder = Decoder::new(known);
        for request in requests.iter().chain(&requests) {
            let bytes = request.encode_to_vec();
            let fresh = decode_metrics(Format::Protobuf, &bytes, NOW).unwrap();
            let known = decoder.metrics(Format::Protobuf, &bytes, NOW).unwrap();
            prop_assert_eq!(told(&known), told(&fresh));
        }
    }

    /// However strangely a request is put into bytes, it means what the generated types read in it: written
    /// anew by them, it gives the same batch.
    #[test]
    fn damaged_metrics_mean_what_prost_reads(
        bytes in metrics_request().prop_flat_map(|request| damaged(request.encode_to_vec()))
    ) {
        if let Ok(request) = ExportMetricsServiceRequest::decode(&*bytes) {
            let ours = decode_metrics(Format::Protobuf, &bytes, NOW).unwrap();
            let anew = decode_metrics(Format::Protobuf, &request.encode_to_vec(), NOW).unwrap();
            prop_assert_eq!(told(&ours), told(&anew));
        }
    }

    /// One envelope that has everything several times, as protobuf allows it.
    #[test]
    fn repeated_messages_are_merged(
        metrics in metrics_request(), traces in traces_request(), twice in any::<bool>()
    ) {
        let envelopes = metrics.resource_metrics.iter().map(prost::Message::encode_to_vec);
        let bytes = merged(envelopes, twice);
        let request = ExportMetricsServiceRequest::decode(&*bytes).unwrap();
        let ours = decode_metrics(Format::Protobuf, &bytes, NOW).unwrap();
        let anew = decode_metrics(Format::Protobuf, &request.encode_to_vec(), NOW).unwrap();
        prop_assert_eq!(told(&ours), told(&anew));

        let envelopes = traces.resource_spans.iter().map(prost::Message::encode_to_vec);
        let bytes = merged(envelopes, twice);
        let request = ExportTraceServiceRequest::decode(&*bytes).unwrap();
        let ours = decode_traces(Format::Protobuf, &bytes, NOW).unwrap();
        let anew = decode_traces(Format::Protobuf, &request.encode_to_vec(), NOW).unwrap();
        prop_assert_eq!(told(&ours), told(&anew));
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
