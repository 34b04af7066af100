use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use serde::Serialize;

use crate::expose::answer::ApiError;

/// An error as Alertmanager gives it: a JSON string where it refuses what it understood, and a code with
/// a message where the request does not fit the description of the API.
#[derive(Debug)]
pub(super) enum Error {
    /// What it means cannot be done.
    Refused(StatusCode, String),
    /// There is no such thing; without a body.
    Absent,
    /// It does not fit.
    Misfit(Misfit),
}

/// What does not fit, with the code that go-openapi has for it.
#[derive(Debug, Serialize)]
pub(super) struct Misfit {
    code: u16,
    message: String,
}

/// A value of a wrong form.
const INVALID_TYPE: u16 = 601;
/// A value that must be there.
const REQUIRED: u16 = 602;
/// A list that is too short.
const TOO_FEW_ITEMS: u16 = 612;

impl Error {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::Refused(StatusCode::BAD_REQUEST, message.into())
    }

    /// A bug of ours, which was logged and counted.
    pub(super) fn failed() -> Self {
        Self::Refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer could not be made".into(),
        )
    }

    /// The body cannot be read as JSON of that shape.
    pub(super) fn unreadable(what: &str, reason: impl std::fmt::Display) -> Self {
        let message = format!("parsing {what} body from \"\" failed, because {reason}");
        Self::coded(400, message)
    }

    pub(super) fn required(what: &str) -> Self {
        Self::coded(REQUIRED, format!("{what} in body is required"))
    }

    pub(super) fn too_few(what: &str) -> Self {
        let message = format!("{what} in body should have at least 1 items");
        Self::coded(TOO_FEW_ITEMS, message)
    }

    /// `what` stands in the body or the path.
    pub(super) fn not_a(what: &str, place: &str, form: &str, value: &str) -> Self {
        let message = format!("{what} in {place} must be of type {form}: {value:?}");
        Self::coded(INVALID_TYPE, message)
    }

    pub(super) fn coded(code: u16, message: String) -> Self {
        Self::Misfit(Misfit { code, message })
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Refused(error.status, error.message)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(status, message) => (status, Json(message)).into_response(),
            Self::Absent => StatusCode::NOT_FOUND.into_response(),
            Self::Misfit(misfit) => {
                // Codes from 600 on are those of values, which HTTP has one word for.
                let status = StatusCode::from_u16(misfit.code)
                    .ok()
                    .filter(|status| status.is_client_error())
                    .unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
                (status, Json(misfit)).into_response()
            }
        }
    }
}

/// Answers what is under none of the paths.
pub(super) async fn unknown_path(uri: Uri) -> Error {
    Error::coded(404, format!("path /api/v2{} was not found", uri.path()))
}
