//! Saving what the detectors have learned: now and then, and at the end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::engine::Handle;
use crate::model::Timestamp;
use crate::storage::snapshot;
use crate::telemetry::Telemetry;

/// Chunks that wait to be written.
const WAITING: usize = 4;

/// Until the next saving it takes so many times the CPU time of the last one: 2 % of a core.
const PAUSE: u32 = 50;

/// What a saving that failed counts for at most.
const LONG: Duration = Duration::from_secs(6);

/// Writes snapshots of the engine's learning.
#[derive(Clone)]
pub(super) struct Learning {
    pub(super) engine: Handle,
    pub(super) directory: PathBuf,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
    /// Asks for a snapshot before its time: what a person has taught is not to be asked for again.
    pub(super) soon: Arc<Notify>,
    /// Held while one is written.
    pub(super) turn: Arc<Mutex<Turn>>,
}

/// What one saving leaves for the next.
#[derive(Default)]
pub(super) struct Turn {
    /// A part of the engine has failed, and that was said.
    refused: bool,
    /// CPU time of the newest saving of all, or more.
    spent: Duration,
    /// When all of learning was last saved, and what [`Handle::changes`] said before.
    whole: Option<(Timestamp, u64)>,
}

/// What a saving wrote, and what it took.
struct Saved {
    bytes: u64,
    spent: Duration,
}

impl Learning {
    /// Saves every `interval`, less often where that would cost more than its share of a core, and when it is
    /// asked to, until `stop`.
    pub(super) async fn run(self, interval: Duration, stop: CancellationToken) {
        loop {
            let pause = interval.max(self.turn.lock().await.spent.saturating_mul(PAUSE));
            let seconds = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
            self.telemetry.snapshot_interval.set(seconds);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => self.save().await,
                () = self.soon.notified() => self.save().await,
            }
        }
    }

    /// Saves once. A failure is logged and counted: the earlier snapshot is still there then.
    ///
    /// When a part of the engine has failed, nothing is saved any more: the earlier snapshot still has the
    /// series of that part, and the next start, which the daemon waits for, takes back all of them.
    pub(super) async fn save(&self) {
        // There is one file beside the old one: who comes second waits.
        let mut turn = self.turn.lock().await;
        if !self.engine.is_whole() {
            if !std::mem::replace(&mut turn.refused, true) {
                self.count_error();
                tracing::error!(
                    "a part of the engine has failed, so learning is not saved any more; \
                     a restart takes back what was saved before"
                );
            }
            return;
        }
        let start = clock::instant();
        let (now, changes) = (self.clock.now(), self.engine.changes());
        let same = turn.whole.filter(|(_, then)| *then == changes);
        // Somebody may have removed it.
        let same = same.filter(|_| snapshot::is_there(&self.directory));
        let written = match same {
            Some((created, _)) => self.write_silence(created).await,
            None => self.write(now).await,
        };
        match written {
            Ok(Ok(Saved { bytes, spent })) => {
                if same.is_none() {
                    (turn.spent, turn.whole) = (spent, Some((now, changes)));
                }
                self.telemetry
                    .snapshot_seconds
                    .observe(start.elapsed().as_secs_f64());
                self.telemetry
                    .snapshot_timestamp
                    .set(now.as_nanos() / 1_000_000_000);
                tracing::debug!(bytes, "learning is saved");
            }
            Ok(Err(error)) => {
                self.count_error();
                // What it took of a processor is not known; the time may be what the disk took.
                turn.spent = turn.spent.max(start.elapsed().min(LONG));
                tracing::error!(%error, "learning could not be saved");
            }
            Err(error) => {
                self.telemetry.panics.inc();
                tracing::error!(%error, "saving learning failed");
            }
        }
    }

    fn count_error(&self) {
        let errors = &self.telemetry.storage_errors;
        errors.with_label_values(&["snapshot"]).inc();
    }

    /// Nothing was learned since the snapshot that was `created` then: writes only that nothing came.
    async fn write_silence(&self, created: Timestamp) -> Result<io::Result<Saved>, JoinError> {
        let chunk = self.engine.save_silence().await;
        let directory = self.directory.clone();
        let write = move || {
            let bytes = snapshot::add(&directory, created, &chunk)?;
            Ok(Saved {
                bytes,
                spent: Duration::ZERO,
            })
        };
        tokio::task::spawn_blocking(write).await
    }

    /// Writes the snapshot while the engine makes it; a few chunks of it are in memory at a time.
    async fn write(&self, now: Timestamp) -> Result<io::Result<Saved>, JoinError> {
        let (sender, mut chunks) = mpsc::channel(WAITING);
        let (whole, is_whole) = oneshot::channel();
        let directory = self.directory.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let before = clock::thread_cpu();
            let (mut is_whole, mut spent) = (Some(is_whole), Duration::ZERO);
            let bytes = snapshot::write(&directory, now, || match chunks.blocking_recv() {
                Some(chunk) => Ok(Some(chunk)),
                // Half of it must not take the place of an earlier whole one.
                None => match is_whole.take().map(oneshot::Receiver::blocking_recv) {
                    Some(Ok(in_shards)) => {
                        spent = in_shards;
                        Ok(None)
                    }
                    _ => Err(io::Error::other("it was not made to its end")),
                },
            })?;
            spent += clock::thread_cpu().saturating_sub(before);
            Ok(Saved { bytes, spent })
        });
        if let Some(spent) = self.engine.save(sender).await {
            // If nobody hears it, the disk has failed, and `writing` says so.
            whole.send(spent).ok();
        }
        writing.await
    }
}
