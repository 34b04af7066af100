//! RECEIVE + DECODE: outside bytes in, typed [`crate::model::Batch`]es out to a sink.

mod otlp;

pub use otlp::decode::{DecodeError, Format, decode_metrics, decode_traces};
