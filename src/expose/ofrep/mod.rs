//! `/ofrep/v1/evaluate/flags…`: modes and features as flags, by version 0.3 of the OpenFeature Remote
//! Evaluation Protocol, so that any OpenFeature SDK reads them.
//!
//! In comes an evaluation context that names a service; out go flags from the [`Board`]. Nothing is
//! decided here. What is not known or no longer holds (a service never heard of, a feature that is not in
//! force, a lease that has run out) is answered without a value, which makes the SDK take the default of
//! the service's own code. Before the daemon knows its services again after a start, the answer is an
//! error instead, so that nobody takes a restart for the all-clear.
//!
//! [`Board`]: crate::publish::Board

mod context;
mod flags;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{self, Path};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::state::State;
use context::Subject;
use flags::{Flag, Flags};

type Body = Result<Bytes, BytesRejection>;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/ofrep/v1/evaluate/flags", post(all))
        // SDKs put the key there as it is, with its slashes.
        .route("/ofrep/v1/evaluate/flags/{*key}", post(one))
}

/// Why there is no answer, as the protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ErrorCode {
    /// The body is no JSON.
    ParseError,
    /// The context names no service.
    TargetingKeyMissing,
    /// There is no context, or it is not as it should be.
    InvalidContext,
    /// Nobody knows such a flag.
    FlagNotFound,
    /// Anything else.
    General,
}

/// An answer that is not the one hoped for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    code: ErrorCode,
    details: String,
}

impl Failure {
    fn new(code: ErrorCode, details: impl Into<String>) -> Self {
        let details = details.into();
        Self { code, details }
    }

    /// The answer; `key` where one flag was asked for.
    fn into_response(self, key: Option<&str>) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            key: Option<&'a str>,
            error_code: ErrorCode,
            error_details: &'a str,
        }
        let status = match self.code {
            ErrorCode::FlagNotFound => StatusCode::NOT_FOUND,
            ErrorCode::General => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::ParseError | ErrorCode::TargetingKeyMissing | ErrorCode::InvalidContext => {
                StatusCode::BAD_REQUEST
            }
        };
        let shape = Shape {
            key,
            error_code: self.code,
            error_details: &self.details,
        };
        (status, Json(shape)).into_response()
    }
}

/// What the service named in the body has for flags.
fn look(state: &State, body: Body) -> Result<Flags, Failure> {
    let body = body.map_err(|rejection| {
        // Larger bodies are turned away before; this one broke off.
        Failure::new(ErrorCode::ParseError, rejection.body_text())
    })?;
    let Subject(service) = context::read(&body)?;
    let flags = Flags::new(state.board.modes(), service, state.clock.now());
    match state.board.not_ready() {
        // It may only not be known yet: nobody is to conclude anything from that.
        Some(reason) if !flags.is_known() => Err(Failure::new(
            ErrorCode::General,
            format!("not ready: {reason}"),
        )),
        Some(_) | None => Ok(flags),
    }
}

async fn one(
    extract::State(state): extract::State<State>,
    key: Result<Path<String>, PathRejection>,
    body: Body,
) -> Response {
    let key = match key {
        Ok(Path(key)) => key,
        Err(rejection) => {
            let failure = Failure::new(ErrorCode::ParseError, rejection.body_text());
            return failure.into_response(Some(""));
        }
    };
    let found = look(&state, body).and_then(|flags| {
        flags.one(&key).ok_or_else(|| {
            let details = format!(
                "there is no flag `{key}`: it is none of Tidewatch's own, and no level or policy has \
                 such a feature"
            );
            Failure::new(ErrorCode::FlagNotFound, details)
        })
    });
    match found {
        Ok(flag) => uncached(Json(flag).into_response()),
        Err(failure) => failure.into_response(Some(&key)),
    }
}

/// An answer to many flags.
#[derive(Serialize)]
struct Bulk {
    flags: Vec<Flag>,
    metadata: flags::Metadata,
}

async fn all(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let flags = match look(&state, body) {
        Ok(flags) => flags,
        Err(failure) => return failure.into_response(None),
    };
    let bulk = Bulk {
        flags: flags.all(),
        metadata: flags.metadata(),
    };
    let written = match serde_json::to_vec(&bulk) {
        Ok(written) => written,
        Err(error) => {
            return Failure::new(ErrorCode::General, error.to_string()).into_response(None);
        }
    };
    let tag = tag(&written);
    let mut response = if is_known(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let json = HeaderValue::from_static("application/json");
        ([(http::header::CONTENT_TYPE, json)], written).into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    uncached(response)
}

/// A weak tag over the whole answer, which holds nothing that changes without a decision.
fn tag(written: &[u8]) -> String {
    let digest = Sha256::digest(written);
    let hex: String = digest[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("W/\"{hex}\"")
}

/// Whether the client says that it has what `tag` stands for.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let bare = |tag: &str| {
        tag.trim()
            .trim_start_matches("W/")
            .trim_matches('"')
            .to_owned()
    };
    let ours = bare(tag);
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || bare(known) == ours)
}

/// A cache may keep it, but has to ask each time.
fn uncached(mut response: Response) -> Response {
    let no_cache = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(CACHE_CONTROL, no_cache);
    response
}

#[cfg(test)]
mod tests;
