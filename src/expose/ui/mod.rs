//! The page: one file of HTML, one of script, one of style, all inside the binary. No request opens a
//! file, and the page loads nothing from elsewhere.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header;

use super::state::State;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/", get(|| asset("text/html", include_str!("index.html"))))
        .route(
            "/ui/page.js",
            get(|| asset("text/javascript", include_str!("page.js"))),
        )
        .route(
            "/ui/chart.js",
            get(|| asset("text/javascript", include_str!("chart.js"))),
        )
        .route(
            "/ui/format.js",
            get(|| asset("text/javascript", include_str!("format.js"))),
        )
        .route(
            "/ui/style.css",
            get(|| asset("text/css", include_str!("style.css"))),
        )
        .route(
            "/ui/icon.svg",
            get(|| asset("image/svg+xml", include_str!("icon.svg"))),
        )
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    let kind = format!("{kind}; charset=utf-8");
    // Asked for anew each time: a daemon of another version may answer at the same address.
    (
        [
            (header::CONTENT_TYPE, kind.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        text,
    )
        .into_response()
}
