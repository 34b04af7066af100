//! Requests in protobuf, good and bad.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, metric, number_data_point, summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use crate::harness::otlp::now_nanos;

pub const DELTA: i32 = AggregationTemporality::Delta as i32;
pub const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;
pub const SECOND: u64 = 1_000_000_000;

/// An attribute.
pub fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// An attribute that is a text.
pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

pub fn resource(service: &str) -> Resource {
    Resource {
        attributes: vec![text("service.name", service)],
        ..Resource::default()
    }
}

/// A metrics request of one service.
#[derive(Debug, Clone)]
pub struct Metrics {
    resource: Resource,
    scope: InstrumentationScope,
    metrics: Vec<Metric>,
}

impl Metrics {
    pub fn of(service: &str) -> Self {
        Self {
            resource: resource(service),
            scope: InstrumentationScope {
                name: "test".to_owned(),
                ..InstrumentationScope::default()
            },
            metrics: Vec::new(),
        }
    }

    pub fn scope(mut self, scope: InstrumentationScope) -> Self {
        self.scope = scope;
        self
    }

    pub fn metric(mut self, metric: Metric) -> Self {
        self.metrics.push(metric);
        self
    }

    /// A gauge with points (nanoseconds, value).
    pub fn gauge(self, name: &str, points: &[(u64, f64)]) -> Self {
        let points = points.iter().map(|(time, value)| number(*time, *value));
        self.metric(gauge(name, points.collect()))
    }

    pub fn request(self) -> ExportMetricsServiceRequest {
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(self.scope),
                    metrics: self.metrics,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        }
    }

    pub fn encode(self) -> Vec<u8> {
        self.request().encode_to_vec()
    }
}

/// One gauge of `service`, now.
pub fn good(service: &str, metric: &str) -> Vec<u8> {
    Metrics::of(service)
        .gauge(metric, &[(now_nanos(), 1.0)])
        .encode()
}

/// A good request of exactly `length` bytes; what is too much is in a field that nobody reads.
pub fn good_of_length(length: usize) -> Vec<u8> {
    let mut bytes = good("long", "long");
    // An unknown field 100 of bytes: two bytes of key, four or five of length.
    let rest = length - bytes.len() - 2;
    let digits = (1..=5)
        .find(|digits| rest - digits < 1 << (7 * digits))
        .expect("short");
    bytes.extend([0xa2, 0x06]);
    let mut left = rest - digits;
    for digit in 1..=digits {
        let more = if digit < digits { 0x80 } else { 0 };
        bytes.push((left & 0x7f) as u8 | more);
        left >>= 7;
    }
    bytes.resize(length, 0);
    bytes
}

pub fn number(time: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: time,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn metric(name: &str, data: metric::Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: "1".to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

pub fn gauge(name: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(name, metric::Data::Gauge(Gauge { data_points }))
}

pub fn sum(
    name: &str,
    aggregation_temporality: i32,
    is_monotonic: bool,
    data_points: Vec<NumberDataPoint>,
) -> Metric {
    let sum = Sum {
        data_points,
        aggregation_temporality,
        is_monotonic,
    };
    metric(name, metric::Data::Sum(sum))
}

pub fn histogram(name: &str, temporality: i32, points: Vec<HistogramDataPoint>) -> Metric {
    let histogram = Histogram {
        data_points: points,
        aggregation_temporality: temporality,
    };
    metric(name, metric::Data::Histogram(histogram))
}

pub fn exponential(
    name: &str,
    temporality: i32,
    points: Vec<ExponentialHistogramDataPoint>,
) -> Metric {
    let histogram = ExponentialHistogram {
        data_points: points,
        aggregation_temporality: temporality,
    };
    metric(name, metric::Data::ExponentialHistogram(histogram))
}

pub fn summary(name: &str, quantiles: &[(f64, f64)]) -> Metric {
    let point = SummaryDataPoint {
        time_unix_nano: now_nanos(),
        count: 10,
        sum: 10.0,
        quantile_values: quantiles
            .iter()
            .map(|&(quantile, value)| ValueAtQuantile { quantile, value })
            .collect(),
        ..SummaryDataPoint::default()
    };
    let data_points = vec![point];
    metric(name, metric::Data::Summary(Summary { data_points }))
}

/// A span of a second that has just ended.
pub fn span(trace: u128, id: u64, parent: Option<u64>, name: &str) -> Span {
    let end = now_nanos();
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: parent.map_or(Vec::new(), |id| id.to_be_bytes().to_vec()),
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: end - SECOND,
        end_time_unix_nano: end,
        ..Span::default()
    }
}

pub fn traces(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(service)),
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).expect("memory")
}
