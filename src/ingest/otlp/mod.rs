//! OTLP: bytes in, [`crate::model::Batch`]es out, answers back. It knows the protocol's transports,
//! encodings and answers, and nothing of what becomes of a batch.

pub(crate) mod http;
pub(crate) mod grpc;
pub(crate) mod auth;
mod cors;
pub(crate) mod body;
pub(crate) mod decode;
mod json;
mod schema;
mod wire;
mod points;
pub(crate) mod answer;
