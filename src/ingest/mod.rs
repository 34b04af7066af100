//! RECEIVE + DECODE: outside bytes in, typed [`Batch`]es out to a [`Sink`].
//!
//! In: OTLP over gRPC and HTTP. Out: batches whose points are finite, consistent and bounded; what was
//! refused is counted with its reason. Always holds: a request is answered "accepted" only after the
//! sink has applied it; a retryable refusal means that nothing of it was applied; bytes in work stay
//! within one budget; no input makes it panic or grow without bound. It knows nothing of what a sink
//! does with a batch, nor of files and configuration.

mod admission;
mod intake;
mod log_limit;
mod otlp;
pub mod replay;
mod server;
mod settings;

pub use admission::{Admission, Cause};
pub use otlp::decode::{DecodeError, Decoder, Format, decode_metrics, decode_traces};
pub use server::{Error, Server};
pub use settings::{Auth, Settings, Tls};

use std::time::Duration;

use crate::model::{Batch, BoxFuture, Rejections};

/// Where batches go.
pub trait Sink: Send + Sync + 'static {
    /// Applies every point and span of `batch` to its series, and returns what it refused of them
    /// besides. Whoever calls it counts refusals; what was applied only the sink knows and counts, since
    /// late and repeated points are neither. It is never cancelled halfway.
    ///
    /// # Errors
    /// Nothing of the batch was applied.
    fn apply(&self, batch: Batch) -> BoxFuture<'_, Result<Rejections, Refused>>;
}

/// Why a sink applied nothing of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no room now; the client is asked to send the same again.
    #[error("{reason}; try again in {after:?}")]
    Retryable {
        /// When room can be expected.
        after: Duration,
        /// What there is no room in; shown to the client.
        reason: String,
    },
    /// A bug of ours; the text goes to the log, not to the client.
    #[error("internal error: {0}")]
    Internal(String),
}
