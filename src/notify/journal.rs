//! Writes what changes in the outbox, behind delivery: nobody waits for the disk, and a disk that fails
//! stops nothing.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use super::outbox::{Change, Outbox};
use crate::model::BoxFuture;

/// How long after a failure the disk is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Where the outbox is kept.
pub trait Journal: Send + Sync + 'static {
    /// Makes `changes` durable, all or none of them. What fails is kept in mind: a later call that
    /// succeeds, even an empty one, makes it durable, too.
    fn record(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), String>>;
}

/// Writes until `stop`, and then what is left.
pub(super) async fn write_behind(
    outbox: Arc<Outbox>,
    journal: Arc<dyn Journal>,
    durable: IntGauge,
    stop: CancellationToken,
) {
    let mut broken = false;
    durable.set(1);
    loop {
        let changes = outbox.unwritten();
        if changes.is_empty() && !broken {
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = outbox.changed() => {}
                () = stop.cancelled() => {}
            }
            continue;
        }
        match journal.record(changes).await {
            Ok(()) if broken => {
                tracing::info!("notifications are durable again");
                broken = false;
            }
            Ok(()) => {}
            Err(error) => {
                // Once per outage.
                if !broken {
                    tracing::error!(%error, "notifications are delivered but not durable until the disk works again: a crash may lose or repeat them");
                }
                broken = true;
            }
        }
        durable.set(i64::from(!broken));
        if broken {
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}
