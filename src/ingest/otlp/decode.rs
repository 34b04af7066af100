//! From the bytes of a request to a [`Batch`]: pure, for the servers, for replays and for fuzzing.

use std::borrow::Cow;

use crate::ingest::otlp::json::{self, JsonError};
use crate::ingest::otlp::points::{self, Known};
use crate::ingest::otlp::schema::{METRICS_REQUEST, Message, TRACES_REQUEST};
use crate::ingest::otlp::wire::WireError;
use crate::model::{Batch, Timestamp};

/// The encodings of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Binary protobuf.
    Protobuf,
    /// OTLP's JSON.
    Json,
}

/// Why a request could not be decoded. Nothing of it is used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is not a request of OTLP. The text names fields, never values.
    #[error("{0}")]
    Malformed(String),
    /// It would need far more memory than its bytes.
    #[error("the request is too large once it is decoded")]
    TooLarge,
}

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        Self::Malformed(format!("invalid protobuf: {error}"))
    }
}

impl From<JsonError> for DecodeError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Malformed(what) => Self::Malformed(format!("invalid JSON: {what}")),
            JsonError::TooLarge => Self::TooLarge,
        }
    }
}

/// Decodes requests, and knows resources and series again that it has met. Shared by all connections.
pub struct Decoder {
    known: Known,
}

impl Decoder {
    /// Knows up to `series` series again; some 50 bytes for each beside its identity.
    pub fn new(series: usize) -> Self {
        Self {
            known: Known::new(series),
        }
    }

    /// Decodes an `ExportMetricsServiceRequest`. `now` is what points are held against that claim to be
    /// from the future. One pass over the bytes; memory follows the points that are accepted. The batch
    /// keeps the bytes if it may have to be asked for the identities of its points.
    ///
    /// # Errors
    /// The request cannot be decoded. Points that can be, but contradict themselves, are counted in the
    /// batch's rejections instead.
    pub fn metrics<'a>(
        &self,
        format: Format,
        bytes: impl Into<Cow<'a, [u8]>>,
        now: Timestamp,
    ) -> Result<Batch, DecodeError> {
        let wire = wire_form(format, bytes.into(), &METRICS_REQUEST)?;
        Ok(points::metrics(wire, now, &self.known)?)
    }

    /// Decodes an `ExportTraceServiceRequest`; see [`Decoder::metrics`].
    ///
    /// # Errors
    /// The request cannot be decoded.
    pub fn traces<'a>(
        &self,
        format: Format,
        bytes: impl Into<Cow<'a, [u8]>>,
        now: Timestamp,
    ) -> Result<Batch, DecodeError> {
        let wire = wire_form(format, bytes.into(), &TRACES_REQUEST)?;
        Ok(points::spans(&wire, now, &self.known)?)
    }
}

/// Decodes one `ExportMetricsServiceRequest` by itself; see [`Decoder::metrics`].
///
/// # Errors
/// The request cannot be decoded.
pub fn decode_metrics(format: Format, bytes: &[u8], now: Timestamp) -> Result<Batch, DecodeError> {
    Decoder::new(1).metrics(format, bytes, now)
}

/// Decodes one `ExportTraceServiceRequest` by itself; see [`Decoder::metrics`].
///
/// # Errors
/// The request cannot be decoded.
pub fn decode_traces(format: Format, bytes: &[u8], now: Timestamp) -> Result<Batch, DecodeError> {
    Decoder::new(1).traces(format, bytes, now)
}

/// The wire form of a request. What comes as JSON is put into it, so that both encodings are accepted and
/// refused alike.
fn wire_form(
    format: Format,
    bytes: Cow<'_, [u8]>,
    message: &'static Message,
) -> Result<Vec<u8>, DecodeError> {
    match format {
        Format::Protobuf => Ok(bytes.into_owned()),
        Format::Json => Ok(json::to_wire(&bytes, message)?),
    }
}

#[cfg(test)]
mod tests;
