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

use std::io::Write as _;

use axum::Router;
use axum::body::Body;
use axum::extract;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};

use super::answer::ApiError;
use super::state::State;
use crate::model::SignalView;
use negotiation::Format;
use text::Writer;

/// Answers smaller than this are not worth compressing.
const COMPRESS_FROM: usize = 1024;

pub(super) fn routes() -> Router<State> {
    Router::new().route("/metrics", get(scrape))
}

async fn scrape(extract::State(state): extract::State<State>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    let compress = negotiation::accepts_gzip(&headers);
    // The semaphore is never closed; without a permit the answer would only be less bounded.
    let _permit = state.scrapes.acquire().await.ok();
    let signals = state.query.watched(state.settings.exposed_signals).await;
    let rendering = {
        let state = state.clone();
        // Tens of megabytes take a while to write: not on the threads that answer health checks.
        tokio::task::spawn_blocking(move || {
            let text = render(&state, format, signals);
            if compress && text.len() >= COMPRESS_FROM {
                gzip(text.as_bytes())
            } else {
                (text.into_bytes(), false)
            }
        })
    };
    let Ok((body, compressed)) = rendering.await else {
        state.telemetry.panics.inc();
        return ApiError::unavailable("the metrics could not be written").into_response();
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, format.content_type());
    headers.insert(
        header::VARY,
        HeaderValue::from_static("Accept, Accept-Encoding"),
    );
    if compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The whole text.
fn render(state: &State, format: Format, signals: Vec<SignalView>) -> String {
    let mut writer = Writer::new(format);
    own::write(&mut writer, &state.telemetry.registry.gather());
    published::write_signals(&mut writer, signals, state.settings.exposed_signals);
    published::write_alerts(&mut writer, &state.board.alerts());
    published::write_silences(&mut writer, &state.board.silences(), state.clock.now());
    published::write_modes(&mut writer, &state.board.modes());
    writer.finish()
}

/// `text` compressed, or as it is should that fail.
fn gzip(text: &[u8]) -> (Vec<u8>, bool) {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.map_or_else(|_| (text.to_vec(), false), |body| (body, true))
}

#[cfg(test)]
mod tests;
