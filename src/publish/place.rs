use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::Telemetry;

/// A place among the watchers; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    taken: IntGauge,
    dropped: IntCounter,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Takes one of the places of `room`; `None`: all are taken.
    pub fn take(room: &Arc<Semaphore>, telemetry: &Telemetry) -> Option<Self> {
        let permit = Arc::clone(room).try_acquire_owned().ok()?;
        telemetry.watchers.inc();
        Some(Self {
            taken: telemetry.watchers.clone(),
            dropped: telemetry.watchers_dropped.clone(),
            _permit: permit,
        })
    }

    /// Gives it back because its watcher does not read, and counts that.
    pub(super) fn lose(self) {
        self.dropped.inc();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.dec();
    }
}
