//! OTLP/HTTP: `POST /v1/traces` and `POST /v1/metrics`, protobuf and JSON.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tokio::time::Instant;
use tonic::Code;

use crate::ingest::intake::{Intake, Received, Signal};
use crate::ingest::otlp::answer::{self, Refusal, Reply, RpcStatus};
use crate::ingest::otlp::body::{self, Encoding, Stalled};
use crate::ingest::otlp::cors;
use crate::ingest::otlp::decode::Format;

/// Why a request gets no 200.
enum Fault {
    /// For a cause that gRPC knows as well.
    Refused(Refusal),
    /// For a cause of HTTP's own: status, message, one header that belongs to it.
    Http(
        StatusCode,
        &'static str,
        Option<(http::HeaderName, HeaderValue)>,
    ),
    /// There is nobody to answer, or nothing that would make the client do the right thing: after a
    /// body that took too long only a broken connection is tried again.
    Close,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Stalled> for Fault {
    fn from(_: Stalled) -> Self {
        Self::Close
    }
}

/// Answers one request.
///
/// # Errors
/// The connection is to be closed without an answer.
pub(crate) async fn handle<B>(
    intake: Arc<Intake>,
    request: Request<B>,
) -> Result<Response<Reply>, io::Error>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let (head, mut body) = request.into_parts();
    let format = format(&head.headers);
    let mut response = match answer(&intake, &head, format, &mut body).await {
        Ok(response) => response,
        Err(Fault::Close) => {
            count(&intake, "closed");
            return Err(io::ErrorKind::TimedOut.into());
        }
        Err(Fault::Refused(refusal)) => refused(&intake, &refusal, format),
        Err(Fault::Http(status, message, header)) => {
            let mut response = error(status, &RpcStatus::new(code(status), message), format);
            if let Some((name, value)) = header {
                response.headers_mut().insert(name, value);
            }
            response
        }
    };
    cors::allow(&intake.settings, &head.headers, response.headers_mut());
    count(&intake, response.status().as_str());
    if head.version < Version::HTTP_2 && !body.is_end_stream() {
        let deadline = Instant::now() + intake.settings.header_timeout;
        let limit = intake.settings.max_request_bytes.saturating_mul(2);
        intake.tasks.spawn(body::discard(body, limit, deadline));
    }
    Ok(response)
}

async fn answer<B>(
    intake: &Arc<Intake>,
    head: &Parts,
    format: Option<Format>,
    body: &mut B,
) -> Result<Response<Reply>, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let signal = match head.uri.path() {
        "/v1/traces" => Signal::Traces,
        "/v1/metrics" => Signal::Metrics,
        _ => return Err(Fault::Http(StatusCode::NOT_FOUND, "no such path", None)),
    };
    if head.method == Method::OPTIONS && cors::is_on(&intake.settings) {
        let mut response = Response::new(Reply::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        cors::preflight(&intake.settings, response.headers_mut());
        return Ok(response);
    }
    if head.method != Method::POST {
        let allow = (ALLOW, HeaderValue::from_static("POST"));
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Fault::Http(status, "only POST is allowed", Some(allow)));
    }
    if !intake.gate.admits(&head.headers) {
        let challenge = HeaderValue::from_static(intake.gate.challenge());
        return Err(Fault::Http(
            StatusCode::UNAUTHORIZED,
            "credentials are missing or wrong",
            Some((WWW_AUTHENTICATE, challenge)),
        ));
    }
    intake.refusing()?;
    let Some(format) = format else {
        return Err(Fault::Http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type must be application/x-protobuf or application/json",
            None,
        ));
    };
    let Some(encoding) = encoding(&head.headers) else {
        return Err(Fault::Http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content encoding must be gzip, zstd or none",
            Some((ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"))),
        ));
    };
    let limit = intake.settings.max_request_bytes;
    let announced = announced(&head.headers);
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Refusal::TooLarge { limit }.into());
    }

    let deadline = Instant::now() + intake.settings.body_timeout;
    let mut permit = intake.admission.enter();
    // What a client announces it has not sent yet: room is made for little of it at first.
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(64 << 10) as usize);
    while let Some(data) = body::next(body, deadline).await? {
        body::append(&mut bytes, &data, limit, &mut permit)?;
    }
    let received = Received {
        signal,
        format,
        encoding,
        body: bytes,
        permit,
    };
    let rejections = intake.take(received).await?;
    let mut response = Response::new(Reply::new(answer::accepted(signal, format, &rejections)));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(media_type(Some(format))),
    );
    Ok(response)
}

/// The encoding that `Content-Type` names, whatever its case and parameters.
fn format(headers: &HeaderMap) -> Option<Format> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Format::Protobuf)
    } else if media_type.eq_ignore_ascii_case("application/json") {
        Some(Format::Json)
    } else {
        None
    }
}

fn media_type(format: Option<Format>) -> &'static str {
    match format {
        Some(Format::Protobuf) => "application/x-protobuf",
        Some(Format::Json) => "application/json",
        None => "text/plain; charset=utf-8",
    }
}

/// The compression; `None` for one that is not understood, or several in a row.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Some(Encoding::Identity),
        (Some(value), None) => Encoding::from_name(value.to_str().ok()?),
        (Some(_), Some(_)) => None,
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn refused(intake: &Intake, refusal: &Refusal, format: Option<Format>) -> Response<Reply> {
    intake.log_refusal(refusal);
    let status = match refusal {
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut rpc = RpcStatus::new(refusal.code(), &refusal.message());
    let wait = match refusal {
        Refusal::Unavailable { after, .. } => Some(answer::jittered(*after)),
        Refusal::Malformed(_) | Refusal::TooLarge { .. } | Refusal::Internal(_) => None,
    };
    if let Some(seconds) = wait {
        rpc = rpc.retry_in(seconds);
    }
    let mut response = error(status, &rpc, format);
    if let Some(seconds) = wait {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn error(status: StatusCode, rpc: &RpcStatus, format: Option<Format>) -> Response<Reply> {
    let mut response = Response::new(Reply::new(rpc.encode(format)));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type(format));
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// The code of `google.rpc` for a status of HTTP's own.
fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        _ => Code::InvalidArgument,
    }
}

fn count(intake: &Intake, code: &str) {
    intake
        .telemetry
        .requests
        .with_label_values(&["http", code])
        .inc();
}
