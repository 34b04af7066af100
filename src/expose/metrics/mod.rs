//! `/metrics`: what Prometheus scrapes, as text 0.0.4 or OpenMetrics 1.0.0.
//!
//! In come the daemon's own registry, the watched signals, the alerts and the modes; out goes one text.
//! Always holds: one name is one family, no two samples have the same labels, and no text of a client
//! can end a line or a label value.

mod labels;
mod negotiation;
mod own;
mod published;
mod text;

use std::io;

use axum::Router;
use axum::extract;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, header};

use super::answer::ApiError;
use super::aside::{self, aside};
use super::state::State;
use negotiation::Format;
use text::Writer;

pub(super) fn routes() -> Router<State> {
    Router::new().route("/metrics", get(scrape))
}

async fn scrape(extract::State(state): extract::State<State>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    let compress = negotiation::accepts_gzip(&headers);
    let rendering = {
        let state = state.clone();
        move || render(&state, format, compress)
    };
    // Tens of megabytes take a while to write.
    let Some(Ok(body)) = aside(&state.telemetry, &state.scrapes, rendering).await else {
        return ApiError::unavailable("the metrics could not be written").into_response();
    };
    let mut response = Response::new(aside::body(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, format.content_type());
    headers.insert(
        header::VARY,
        HeaderValue::from_static("Accept, Accept-Encoding"),
    );
    if compress {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The whole text. Blocks on the engine, page by page.
fn render(state: &State, format: Format, compress: bool) -> io::Result<Vec<u8>> {
    let runtime = tokio::runtime::Handle::current();
    let limit = state.settings.exposed_signals;
    let page = |cursor, limit| runtime.block_on(state.query.watched(cursor, limit));
    let signals = published::Signals::gather(limit, page);
    let mut writer = Writer::new(format, compress);
    own::write(&mut writer, &state.telemetry.registry.gather());
    signals.write(&mut writer, limit);
    published::write_alerts(&mut writer, &state.board.alerts());
    published::write_silences(&mut writer, &state.board.silences(), state.clock.now());
    published::write_modes(&mut writer, &state.board.modes());
    writer.finish()
}

#[cfg(test)]
mod tests;
