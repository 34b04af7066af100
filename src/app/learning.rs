//! Saving what the detectors have learned: now and then, and at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::engine::Handle;
use crate::storage::snapshot;
use crate::telemetry::Telemetry;

/// Writes snapshots of the engine's learning.
#[derive(Clone)]
pub(super) struct Learning {
    pub(super) engine: Handle,
    pub(super) directory: PathBuf,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
    /// Asks for a snapshot before its time: what a person has taught is not to be asked for again.
    pub(super) soon: Arc<Notify>,
}

impl Learning {
    /// Saves every `interval`, and when it is asked to, until `stop`.
    pub(super) async fn run(self, interval: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => self.save().await,
                () = self.soon.notified() => self.save().await,
            }
        }
    }

    /// Saves once. A failure is logged and counted: the earlier snapshot is still there then.
    pub(super) async fn save(&self) {
        let start = clock::instant();
        let now = self.clock.now();
        let chunks = self.engine.snapshot().await;
        let directory = self.directory.clone();
        let written =
            tokio::task::spawn_blocking(move || snapshot::write(&directory, now, chunks)).await;
        match written {
            Ok(Ok(bytes)) => {
                self.telemetry
                    .snapshot_seconds
                    .observe(start.elapsed().as_secs_f64());
                self.telemetry
                    .snapshot_timestamp
                    .set(now.as_nanos() / 1_000_000_000);
                tracing::debug!(bytes, "learning is saved");
            }
            Ok(Err(error)) => {
                self.telemetry
                    .storage_errors
                    .with_label_values(&["snapshot"])
                    .inc();
                tracing::error!(%error, "learning could not be saved");
            }
            Err(error) => {
                self.telemetry.panics.inc();
                tracing::error!(%error, "saving learning failed");
            }
        }
    }
}
