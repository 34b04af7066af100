#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewatch::ingest::{Format, decode_metrics, decode_traces};
use tidewatch_fuzz::{NOW, check};

fuzz_target!(|bytes: &[u8]| {
    let metrics = decode_metrics(Format::Json, bytes, NOW);
    let traces = decode_traces(Format::Json, bytes, NOW);
    metrics.iter().chain(&traces).for_each(check);
});
