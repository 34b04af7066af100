//! One signal, and an order: stages stop in the order in which data flows, and each drains before the
//! next one stops.

use tokio_util::sync::CancellationToken;

/// The stops of the daemon, in the order in which [`Shutdown`]'s owner pulls them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Pulled by a signal or by whoever runs the daemon: begin to stop.
    pub requested: CancellationToken,
    /// No new requests; those in work are finished.
    pub ingest: CancellationToken,
    /// No more ticks; the last one is closed, decided and made durable.
    pub decide: CancellationToken,
    /// Notifications that are due are tried once more, within bounds.
    pub notify: CancellationToken,
    /// The last to go, so that readiness can be asked until the end.
    pub expose: CancellationToken,
}

impl Shutdown {
    /// Waits for SIGINT or SIGTERM (SIGHUP is only told of), then requests the stop.
    ///
    /// # Errors
    /// The signals cannot be listened for.
    pub async fn on_signal(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                // A terminal that closes, or a habit from daemons that read their configuration again.
                _ = hangup.recv() => tracing::warn!(
                    "SIGHUP changes nothing: the configuration is read at the start; restart to apply another one"
                ),
                () = self.requested.cancelled() => break,
            }
        }
        self.requested.cancel();
        Ok(())
    }
}
