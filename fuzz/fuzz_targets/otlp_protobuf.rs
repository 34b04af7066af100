#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tidewatch::ingest::{Decoder, Format, decode_metrics, decode_traces};
use tidewatch_fuzz::{NOW, check, told};

fuzz_target!(|bytes: &[u8]| {
    let metrics = decode_metrics(Format::Protobuf, bytes, NOW);
    match (&metrics, ExportMetricsServiceRequest::decode(bytes)) {
        // Written anew by the generated types it must say the same.
        (Ok(ours), Ok(request)) => {
            let anew = decode_metrics(Format::Protobuf, &request.encode_to_vec(), NOW);
            assert_eq!(told(ours), told(&anew.expect("they read it")));
        }
        (ours, theirs) => assert_eq!(ours.is_ok(), theirs.is_ok()),
    }
    let traces = decode_traces(Format::Protobuf, bytes, NOW);
    match (&traces, ExportTraceServiceRequest::decode(bytes)) {
        (Ok(ours), Ok(request)) => {
            let anew = decode_traces(Format::Protobuf, &request.encode_to_vec(), NOW);
            assert_eq!(told(ours), told(&anew.expect("they read it")));
        }
        (ours, theirs) => assert_eq!(ours.is_ok(), theirs.is_ok()),
    }
    metrics.iter().chain(&traces).for_each(check);
    // What is known by its bytes is not read again, and must say the same.
    let decoder = Decoder::new(100);
    for _ in 0..2 {
        let known = decoder.metrics(Format::Protobuf, bytes, NOW);
        assert_eq!(known.as_ref().map(told).ok(), metrics.as_ref().map(told).ok());
    }
});
