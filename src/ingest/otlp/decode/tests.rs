//! Cases are written in JSON because that reads best; the laws say that protobuf means the same.

mod encodings;
mod laws;
mod points;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1 as pb;

use super::*;
use crate::model::{MetricPoint, Reject};

/// 2023-11-14T22:13:20Z.
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

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

fn with_attributes(attributes: &str) -> String {
    gauge(&format!(r#"{TIME},"asInt":1,"attributes":[{attributes}]"#))
}

fn attributes_of(attributes: &str) -> crate::model::Attributes {
    accepts(&with_attributes(attributes))
        .identity
        .here()
        .unwrap()
        .attributes
        .clone()
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
