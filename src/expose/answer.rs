//! The shapes of every answer of `/api/v1`: data or a typed error, as Prometheus gives them.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use super::aside::json;
use crate::publish::CommandError;

#[derive(Serialize)]
struct Success<T> {
    status: &'static str,
    data: T,
}

#[derive(Serialize)]
struct SuccessPage<T> {
    status: &'static str,
    data: T,
    /// Written also when there is no further page, so that a reader need not guess.
    next: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    status: &'static str,
    error_type: &'a str,
    error: &'a str,
}

/// 200 with `{"status":"success","data":…}`.
pub(crate) fn success<T: Serialize>(data: T) -> Response {
    let status = "success";
    json(&Success { status, data })
}

/// 200 with `{"status":"success","data":[…],"next":…}`: one page of a list and the cursor of the next.
pub(crate) fn success_page<T: Serialize>(data: T, next: Option<String>) -> Response {
    let status = "success";
    json(&SuccessPage { status, data, next })
}

/// An answer that is not the one hoped for: `{"status":"error","errorType":…,"error":…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// A word for programs: `bad_data`, `not_found`, `unavailable`, `forbidden`.
    pub(crate) error_type: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
}

impl ApiError {
    fn new(status: StatusCode, error_type: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            error_type,
            message: message.into(),
        }
    }

    /// 400: the request is wrong as it is.
    pub(crate) fn bad_data(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_data", message)
    }

    /// 404: there is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 503: not now; the same request may succeed later.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// 403: not from here.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Failure {
            status: "error",
            error_type: self.error_type,
            error: &self.message,
        };
        (self.status, Json(body)).into_response()
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotFound(message) => Self::not_found(message),
            CommandError::Invalid(message) => Self::bad_data(message),
            CommandError::Unavailable(message) => Self::unavailable(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[track_caller]
    fn check(response: Response, status: u16, body: &str) {
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/json");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let bytes = runtime
            .block_on(response.into_body().collect())
            .unwrap()
            .to_bytes();
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), body);
    }

    #[test]
    fn answers_have_the_shapes_of_the_contract() {
        check(success(1), 200, r#"{"status":"success","data":1}"#);
        let last: Response = success_page(["a"], None);
        check(
            last,
            200,
            r#"{"status":"success","data":["a"],"next":null}"#,
        );
        let page = success_page(["a"], Some("b".into()));
        check(page, 200, r#"{"status":"success","data":["a"],"next":"b"}"#);
        for (error, status, kind) in [
            (ApiError::bad_data("x"), 400, "bad_data"),
            (ApiError::not_found("x"), 404, "not_found"),
            (ApiError::unavailable("x"), 503, "unavailable"),
            (ApiError::forbidden("x"), 403, "forbidden"),
        ] {
            let body = format!(r#"{{"status":"error","errorType":"{kind}","error":"x"}}"#);
            check(error.into_response(), status, &body);
        }
    }
}
