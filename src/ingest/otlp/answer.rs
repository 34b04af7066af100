//! The protocol's answers: what a client is told, in its own encoding, and whether it comes back.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use rand::Rng;
use tonic::Code;

use crate::ingest::intake::Signal;
use crate::ingest::otlp::decode::Format;
use crate::model::Rejections;

/// Why a whole request is refused, for a cause that both transports know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It cannot be decoded; the client drops it.
    Malformed(String),
    /// More bytes than allowed, on the wire or inflated; the client drops it.
    TooLarge { limit: usize },
    /// No room now; the client sends the same again.
    Unavailable { after: Duration, reason: String },
    /// A bug of ours; the client drops it.
    Internal(String),
}

impl Refusal {
    /// Its code in `google.rpc.Status`, over gRPC the answer itself.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::InvalidArgument,
            Self::TooLarge { .. } => Code::ResourceExhausted,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// What the client is told; of our own bugs nothing but that there is one.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Malformed(what) => what.clone(),
            Self::TooLarge { limit } => {
                format!("the request is larger than the limit of {limit} bytes")
            }
            Self::Unavailable { reason, .. } => reason.clone(),
            Self::Internal(_) => "internal error; see the log of tidewatch".to_owned(),
        }
    }

    /// The reason in the log, by which lines are limited.
    pub(crate) fn log_reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal(_) => "internal",
        }
    }

    /// The text for the log.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Internal(what) => what.clone(),
            other => other.message(),
        }
    }
}

/// Shortest and longest wait that a client is asked for, in seconds. Some clients read whole seconds
/// only, so that half a second would become none.
const WAIT: (u64, u64) = (1, 30);

/// `after` in whole seconds and up to half as much more, so that clients which were refused together
/// do not come back together.
pub(crate) fn jittered(after: Duration) -> u64 {
    let seconds = after.as_secs_f64() * rand::rng().random_range(1.0..1.5);
    (seconds.ceil() as u64).clamp(WAIT.0, WAIT.1)
}

/// Longest `error_message`, in bytes.
const MAX_MESSAGE: usize = 1024;
/// Most reasons that it lists.
const MAX_REASONS: usize = 5;

/// Reasons with counts and one example each.
fn describe(rejections: &Rejections) -> String {
    let mut text = String::new();
    for (reason, count, example) in rejections.iter().take(MAX_REASONS) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&format!("{}: {count}, such as {example}", reason.name()));
    }
    let more = rejections.iter().count().saturating_sub(MAX_REASONS);
    if more > 0 {
        text.push_str(&format!("; and {more} other reasons"));
    }
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
    text
}

/// The answer to a request that was taken, with what was refused of it.
pub(crate) fn accepted(signal: Signal, format: Format, rejections: &Rejections) -> Vec<u8> {
    let count = i64::try_from(rejections.total()).unwrap_or(i64::MAX);
    let refused = (!rejections.is_empty()).then(|| describe(rejections));
    match (format, signal) {
        (Format::Protobuf, Signal::Metrics) => ExportMetricsServiceResponse {
            partial_success: refused.map(|error_message| ExportMetricsPartialSuccess {
                rejected_data_points: count,
                error_message,
            }),
        }
        .encode_to_vec(),
        (Format::Protobuf, Signal::Traces) => ExportTraceServiceResponse {
            partial_success: refused.map(|error_message| ExportTracePartialSuccess {
                rejected_spans: count,
                error_message,
            }),
        }
        .encode_to_vec(),
        (Format::Json, signal) => {
            let key = match signal {
                Signal::Metrics => "rejectedDataPoints",
                Signal::Traces => "rejectedSpans",
            };
            match refused {
                None => b"{}".to_vec(),
                // A count is an int64, which OTLP's JSON writes as a string.
                Some(message) => serde_json::json!({
                    "partialSuccess": {key: count.to_string(), "errorMessage": message}
                })
                .to_string()
                .into_bytes(),
            }
        }
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<RpcDetail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcDetail {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`, its delay in whole seconds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(crate) retry_delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetryDelay {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
}

impl RpcStatus {
    pub(crate) fn new(code: Code, message: &str) -> Self {
        Self {
            code: code as i32,
            message: message.to_owned(),
            details: Vec::new(),
        }
    }

    /// Asks the client to come back in `seconds`.
    pub(crate) fn retry_in(mut self, seconds: u64) -> Self {
        let info = RetryInfo {
            retry_delay: Some(RetryDelay {
                seconds: seconds as i64,
            }),
        };
        self.details.push(RpcDetail {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        });
        self
    }

    /// In the encoding of the request; as text if that is not known.
    pub(crate) fn encode(&self, format: Option<Format>) -> Vec<u8> {
        match format {
            Some(Format::Protobuf) => self.encode_to_vec(),
            Some(Format::Json) => serde_json::json!({"code": self.code, "message": self.message})
                .to_string()
                .into_bytes(),
            None => self.message.clone().into_bytes(),
        }
    }
}

/// The body of an answer: at most one piece of data, and trailers over gRPC.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Reply {
    pub(crate) fn new(data: Vec<u8>) -> Self {
        Self {
            data: (!data.is_empty()).then(|| data.into()),
            trailers: None,
        }
    }

    pub(crate) fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reject;

    #[test]
    fn full_success_says_nothing() {
        let none = Rejections::default();
        for signal in [Signal::Metrics, Signal::Traces] {
            assert_eq!(accepted(signal, Format::Protobuf, &none), b"");
            assert_eq!(accepted(signal, Format::Json, &none), b"{}");
        }
    }

    #[test]
    fn partial_success_counts_and_explains() {
        let mut some = Rejections::default();
        some.add_many(Reject::Future, 3, || "metric `a\"b`".to_owned());
        let json = accepted(Signal::Metrics, Format::Json, &some);
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"partialSuccess":{"errorMessage":"future: 3, such as metric `a\"b`","rejectedDataPoints":"3"}}"#
        );
        let json = accepted(Signal::Traces, Format::Json, &some);
        assert!(
            String::from_utf8(json)
                .unwrap()
                .contains(r#""rejectedSpans":"3""#)
        );
        let wire = accepted(Signal::Traces, Format::Protobuf, &some);
        let partial = ExportTraceServiceResponse::decode(&*wire)
            .unwrap()
            .partial_success
            .unwrap();
        assert_eq!(
            (partial.rejected_spans, &partial.error_message[..6]),
            (3, "future")
        );
    }

    #[test]
    fn messages_stay_short() {
        let mut all = Rejections::default();
        for reason in Reject::ALL {
            all.add(reason, || "ä".repeat(500));
        }
        let text = describe(&all);
        assert!(text.len() <= MAX_MESSAGE);
        let mut six = Rejections::default();
        for reason in Reject::ALL.into_iter().take(6) {
            six.add(reason, || "x".to_owned());
        }
        assert!(describe(&six).ends_with("; and 1 other reasons"));
    }

    #[test]
    fn waits_are_whole_seconds_within_bounds() {
        for (after, range) in [
            (0, 1..=1),
            (500, 1..=1),
            (2000, 2..=3),
            (3_600_000, 30..=30),
        ] {
            for _ in 0..50 {
                let seconds = jittered(Duration::from_millis(after));
                assert!(range.contains(&seconds), "{after} ms gave {seconds} s");
            }
        }
    }
}
