use std::sync::Arc;

use axum::extract;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, header};

use crate::expose::answer::{ApiError, success};
use crate::expose::aside::aside_waiting;
use crate::expose::params::Params;
use crate::expose::state::State;

/// The performance report, in JSON or (`format=markdown`, `Accept: text/markdown`) in Markdown.
pub(super) async fn report(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let accepts_markdown = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| range.trim().starts_with("text/markdown"));
    let markdown = match params.get("format") {
        None => accepts_markdown,
        Some("json") => false,
        Some("markdown") => true,
        Some(_) => {
            return Err(ApiError::bad_data(
                "invalid parameter `format`: expected `json` or `markdown`",
            ));
        }
    };
    let reporter = Arc::clone(&state.report);
    let answer = async move || match markdown {
        false => success(reporter.json().await),
        true => {
            let kind = [(header::CONTENT_TYPE, "text/markdown; charset=utf-8")];
            (kind, reporter.markdown().await).into_response()
        }
    };
    let answer = aside_waiting(&state, answer).await;
    answer.ok_or_else(|| ApiError::unavailable("the report could not be made"))
}
