//! OTLP: bytes in, [`crate::model::Batch`]es out, answers back. It knows the protocol's transports,
//! encodings and answers, and nothing of what becomes of a batch.

mod schema;
mod wire;
mod json;
mod points;
pub(crate) mod decode;
