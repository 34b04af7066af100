//! Answers that take a while are made on threads of their own, which give the processor away after every few
//! tenths of a millisecond. A scheduler lets whoever wakes up wait for several milliseconds behind a thread
//! that only computes, and who wakes up may have telemetry to take in.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::{Frame, SizeHint};
use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};

use super::state::State;
use crate::telemetry::Telemetry;

/// Bytes of text that are written in one turn.
const TURN_BYTES: usize = 32 * 1024;

/// What `work` makes, on a thread for work that takes a while: the others take telemetry in and answer
/// health checks. Waits for one of `places`, so that little of it is done at the same time. `None` if it
/// panicked, which is counted.
pub(super) async fn aside<T: Send + 'static>(
    telemetry: &Telemetry,
    places: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    // The semaphore is never closed; without a place the answer would only be less bounded.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let work = move || {
        let done = work();
        // Also where nobody waits for it any more.
        drop(place);
        done
    };
    let done = tokio::task::spawn_blocking(work).await;
    if done.is_err() {
        telemetry.panics.inc();
    }
    done.ok()
}

/// The same where `work` waits for others: what it makes of their answers is work, too. It ends where it
/// waits once nobody wants the answer any more.
pub(super) async fn aside_waiting<T, F>(
    state: &State,
    work: impl FnOnce() -> F + Send + 'static,
) -> Option<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Handle::current();
    let (wanted, unwanted) = oneshot::channel::<()>();
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                done = work() => Some(done),
                _ = unwanted => None,
            }
        })
    };
    let done = aside(&state.telemetry, &state.answers, work).await;
    drop(wanted);
    done.flatten()
}

/// `items`, with a pause for others after each `turn` of them: some tenths of a millisecond's work.
pub(crate) fn in_turns<I: IntoIterator>(items: I, turn: usize) -> impl Iterator<Item = I::Item> {
    let mut taken = 0usize;
    items.into_iter().inspect(move |_| {
        taken += 1;
        if taken.is_multiple_of(turn) {
            thread::yield_now();
        }
    })
}

/// Text that is written in turns.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    turn: usize,
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        self.turn += bytes.len();
        if self.turn >= TURN_BYTES {
            self.turn = 0;
            thread::yield_now();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// 200 with `value` in JSON.
pub(super) fn json(value: &impl Serialize) -> Response {
    let mut text = Text::default();
    if let Err(error) = serde_json::to_writer(&mut text, value) {
        // What is answered is plain data of our own.
        return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
    }
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], body(text.bytes)).into_response()
}

/// A body that is handed to the system part by part: to take over megabytes is a turn of milliseconds.
pub(super) fn body(bytes: Vec<u8>) -> Body {
    Body::new(Parts(bytes.into()))
}

struct Parts(Bytes);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.0.len().min(TURN_BYTES);
        let part = self.0.split_to(part);
        Poll::Ready((!part.is_empty()).then(|| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_long_body_goes_out_in_parts_and_tells_its_length() {
        let text: Vec<u8> = (0..TURN_BYTES * 2 + 5).map(|n| n as u8).collect();
        let mut body = body(text.clone());
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let mut parts = Vec::new();
        while let Some(frame) = body.frame().now_or_never().flatten() {
            parts.push(frame.unwrap().into_data().unwrap());
        }
        let lengths: Vec<_> = parts.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [TURN_BYTES, TURN_BYTES, 5]);
        assert_eq!(parts.concat(), text);
        assert!(super::body(Vec::new()).is_end_stream());
    }
}
