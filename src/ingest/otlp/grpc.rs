//! OTLP/gRPC: `TraceService/Export` and `MetricsService/Export`.
//!
//! A unary call is five bytes of prefix and a message, so this reads it itself, with the same limits,
//! budget and inflating as HTTP. tonic's own reader would answer OUT_OF_RANGE to a message over the
//! limit, which OTLP's clients send again for ever; set aside memory for a length that is only
//! claimed; take the first of two messages and the first of several gzip members as if they were all.
//! Statuses are tonic's.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::ingest::intake::{Intake, Received, Signal};
use crate::ingest::otlp::answer::{self, Refusal, Reply, RpcStatus};
use crate::ingest::otlp::body::{self, Encoding, Stalled};
use crate::ingest::otlp::decode::Format;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Compressions that a client may use, for the answer to another one.
const ACCEPTED: &str = "identity,gzip,zstd";
/// Flag and length before a message.
const PREFIX: usize = 5;
/// The most bytes of a message for which room is made before they are here: more than most messages have.
const AT_FIRST: usize = 128 << 10;

/// Answers one call.
pub(crate) async fn handle<B>(intake: Arc<Intake>, request: Request<B>) -> Response<Reply>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let (head, body) = request.into_parts();
    if head.method != Method::POST || !is_grpc(&head.headers) {
        return not_grpc(head.method == Method::POST);
    }
    let answer = answer(&intake, head.uri.path(), &head.headers, body).await;
    let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
    let labels = ["grpc", code_name(code)];
    intake.telemetry.requests.with_label_values(&labels).inc();
    match answer {
        Ok(message) => success(&message),
        Err(status) => status.into_http(),
    }
}

/// `application/grpc`, also with `+proto` and parameters, but not `application/grpc-web`.
fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = value.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// What gRPC says to those who speak something else.
fn not_grpc(post: bool) -> Response<Reply> {
    let mut response = Response::new(Reply::default());
    if post {
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    } else {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn success(message: &[u8]) -> Response<Reply> {
    let mut framed = Vec::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    // A response is at most a kilobyte and a half.
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Reply::new(framed).with_trailers(trailers));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

async fn answer<B>(
    intake: &Arc<Intake>,
    path: &str,
    headers: &HeaderMap,
    mut body: B,
) -> Result<Vec<u8>, Status>
where
    B: Body<Data = Bytes> + Unpin,
{
    let signal = match path {
        TRACES => Signal::Traces,
        METRICS => Signal::Metrics,
        _ => {
            return Err(Status::unimplemented(
                "only traces and metrics are taken here",
            ));
        }
    };
    if !intake.gate.admits(headers) {
        return Err(Status::unauthenticated("credentials are missing or wrong"));
    }
    let refuse = |refusal: Refusal| {
        intake.log_refusal(&refusal);
        status(&refusal)
    };
    intake.refusing().map_err(refuse)?;
    let encoding = match headers.get("grpc-encoding") {
        None => None,
        Some(name) => Some(
            name.to_str()
                .ok()
                .and_then(Encoding::from_name)
                .ok_or_else(unknown_encoding)?,
        ),
    };
    let now = Instant::now();
    let patience = timeout(headers)?.and_then(|timeout| now.checked_add(timeout));
    let body_deadline = now + intake.settings.body_timeout;
    let deadline = patience.map_or(body_deadline, |patience| patience.min(body_deadline));

    let mut call = Call {
        intake,
        encoding,
        permit: intake.admission.enter(),
        prefix: Vec::with_capacity(PREFIX),
        bytes: Vec::new(),
    };
    call.read(&mut body, deadline)
        .await
        .map_err(|error| match error {
            CallError::Refused(refusal) => refuse(refusal),
            CallError::Protocol(what) => Status::internal(what),
            CallError::Second => Status::invalid_argument("more than one message in a unary call"),
            CallError::Stalled(Stalled::Deadline) => {
                Status::deadline_exceeded("the message did not arrive in time")
            }
            CallError::Stalled(Stalled::Gone) => Status::cancelled("the client is gone"),
        })?;
    let compressed = call.prefix.first() == Some(&1);
    let received = Received {
        signal,
        format: Format::Protobuf,
        encoding: if compressed {
            encoding.unwrap_or(Encoding::Identity)
        } else {
            Encoding::Identity
        },
        body: call.bytes,
        permit: call.permit,
    };
    let work = intake.take(received);
    let taken = match patience {
        None => work.await,
        // What has begun is finished even so; the client sends again and finds its points known.
        Some(patience) => timeout_at(patience, work)
            .await
            .map_err(|_| Status::deadline_exceeded("not applied within grpc-timeout"))?,
    };
    let rejections = taken.map_err(refuse)?;
    Ok(answer::accepted(signal, Format::Protobuf, &rejections))
}

enum CallError {
    Refused(Refusal),
    Stalled(Stalled),
    /// The framing is broken.
    Protocol(&'static str),
    /// A second message begins.
    Second,
}

/// A unary call while it is read.
struct Call<'i> {
    intake: &'i Intake,
    encoding: Option<Encoding>,
    permit: crate::ingest::admission::Permit,
    /// Flag and length, as far as they are here.
    prefix: Vec<u8>,
    /// The message.
    bytes: Vec<u8>,
}

impl Call<'_> {
    /// Reads one message to the end of the stream.
    async fn read<B>(&mut self, body: &mut B, deadline: Instant) -> Result<(), CallError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let limit = self.intake.settings.max_request_bytes;
        let mut length = None;
        while let Some(data) = body::next(body, deadline)
            .await
            .map_err(CallError::Stalled)?
        {
            let missing = PREFIX.saturating_sub(self.prefix.len());
            let (prefix, data) = data.split_at(missing.min(data.len()));
            self.prefix.extend_from_slice(prefix);
            if length.is_none()
                && let Some(announced) = self.announced(limit)?
            {
                length = Some(announced);
                // What a client announces it has not sent yet: room is made for little of it at first.
                self.bytes.reserve_exact(announced.min(AT_FIRST));
            }
            body::append(&mut self.bytes, data, usize::MAX, &mut self.permit)
                .map_err(CallError::Refused)?;
            // One frame beyond the message is the most that is ever held.
            if length.is_some_and(|length| self.bytes.len() > length) {
                return Err(CallError::Second);
            }
        }
        match length {
            _ if self.prefix.is_empty() => Err(CallError::Protocol("there is no message")),
            Some(length) if self.bytes.len() == length => Ok(()),
            _ => Err(CallError::Protocol("the message is cut short")),
        }
    }

    /// Length of the message, once the prefix is here.
    fn announced(&self, limit: usize) -> Result<Option<usize>, CallError> {
        let Some((prefix, _)) = self.prefix.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *prefix;
        match flag {
            0 => {}
            1 if self.encoding.is_some() => {}
            1 => {
                return Err(CallError::Protocol(
                    "a compressed message without grpc-encoding",
                ));
            }
            _ => return Err(CallError::Protocol("the compressed flag must be 0 or 1")),
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > limit {
            return Err(CallError::Refused(Refusal::TooLarge { limit }));
        }
        Ok(Some(length))
    }
}

/// A refusal as gRPC has it. Only the passing ones carry RetryInfo: to a client, RESOURCE_EXHAUSTED
/// without it is final.
fn status(refusal: &Refusal) -> Status {
    let message = refusal.message();
    match refusal {
        Refusal::Unavailable { after, .. } => {
            let details =
                RpcStatus::new(refusal.code(), &message).retry_in(answer::jittered(*after));
            Status::with_details(refusal.code(), message, details.encode_to_vec().into())
        }
        Refusal::Malformed(_) | Refusal::TooLarge { .. } | Refusal::Internal(_) => {
            Status::new(refusal.code(), message)
        }
    }
}

fn unknown_encoding() -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-accept-encoding", MetadataValue::from_static(ACCEPTED));
    let message = "the message encoding must be gzip, zstd or none";
    Status::with_metadata(Code::Unimplemented, message, metadata)
}

/// `grpc-timeout`: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    });
    parsed
        .map(Some)
        .ok_or_else(|| Status::invalid_argument("grpc-timeout cannot be read"))
}

/// The name that the protocol gives to `code`.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
