#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tidewatch::ingest::{Format, decode_metrics, decode_traces};
use tidewatch_fuzz::{NOW, check};

fuzz_target!(|bytes: &[u8]| {
    let metrics = decode_metrics(Format::Protobuf, bytes, NOW);
    assert_eq!(metrics.is_ok(), ExportMetricsServiceRequest::decode(bytes).is_ok());
    let traces = decode_traces(Format::Protobuf, bytes, NOW);
    assert_eq!(traces.is_ok(), ExportTraceServiceRequest::decode(bytes).is_ok());
    metrics.iter().chain(&traces).for_each(check);
});
