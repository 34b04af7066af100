//! The one thread that writes the store's file.

use prometheus::IntCounter;
use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::file::{self, Location};
use super::{Change, Contents, EVENTS_KEPT, Error, Table};

/// Changes that one transaction takes before it is committed, so that the first caller does not wait
/// for ever under load.
const BATCH_CHANGES: usize = 10_000;

/// What becomes of changes that could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnFailure {
    /// They did not happen.
    Forget,
    /// They happened, and are written later.
    Keep,
}

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// Write, and say how it went.
    Write {
        changes: Vec<Change>,
        on_failure: OnFailure,
        done: oneshot::Sender<Result<(), Error>>,
    },
    /// Close the file, then let go of `done`.
    Close { done: oneshot::Sender<()> },
}

struct Write {
    changes: Vec<Change>,
    on_failure: OnFailure,
    done: oneshot::Sender<Result<(), Error>>,
}

/// State of the writer.
pub(super) struct Writer {
    location: Location,
    database: Database,
    /// The state as it should be on the disk. It costs memory (the event log is most of it, some
    /// 10 MiB at worst), and in return a disk that failed is healed by writing a new file: after a
    /// failed write or sync nobody can say what of the old one is really there.
    contents: Contents,
    /// Whether the file is behind `contents`, or cannot be trusted.
    broken: bool,
    errors: IntCounter,
}

impl Writer {
    pub(super) fn new(
        location: Location,
        database: Database,
        contents: Contents,
        errors: IntCounter,
    ) -> Self {
        Self {
            location,
            database,
            contents,
            broken: false,
            errors,
        }
    }

    /// Serves requests until all handles are gone or one asks to close.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut writes = Vec::new();
            let mut closing = None;
            let mut waiting = 0;
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Write {
                        changes,
                        on_failure,
                        done,
                    } => {
                        waiting += changes.len();
                        writes.push(Write {
                            changes,
                            on_failure,
                            done,
                        });
                    }
                    Request::Close { done } => {
                        closing = Some(done);
                        break;
                    }
                }
                if waiting >= BATCH_CHANGES {
                    break;
                }
                next = queue.try_recv().ok();
            }
            if !writes.is_empty() {
                let result = self.write(&writes);
                for write in writes {
                    // A caller that has left does not want to know.
                    drop(write.done.send(result.clone()));
                }
            }
            if let Some(done) = closing {
                drop(self);
                // Only now: whoever waits may open the file again.
                drop(done);
                return;
            }
        }
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), Error> {
        let was_broken = self.broken;
        if !self.broken {
            let changes = writes.iter().flat_map(|write| &write.changes);
            match file::commit(&self.location.path, &self.database, changes.clone()) {
                Ok(()) => {
                    for change in changes {
                        apply(&mut self.contents, change.clone());
                    }
                    prune(&mut self.contents);
                    return Ok(());
                }
                Err(error) => {
                    self.errors.inc();
                    tracing::warn!(%error, "the store's file failed; writing a new one");
                    self.broken = true;
                }
            }
        }
        let result = self.write_anew(writes);
        match &result {
            Ok(()) => {
                tracing::info!(path = %self.location.path.display(), "the store is whole again")
            }
            Err(error) => {
                self.errors.inc();
                // Once per outage: a daemon without a disk decides on, every tick.
                if !was_broken {
                    tracing::error!(%error, "state is not durable until the disk works again");
                }
            }
        }
        result
    }

    /// Puts a new file with the whole state in the place of the one that failed.
    fn write_anew(&mut self, writes: &[Write]) -> Result<(), Error> {
        let mut undo = Vec::new();
        for change in writes.iter().flat_map(|write| &write.changes) {
            undo.push(apply(&mut self.contents, change.clone()));
        }
        match self.location.make(&self.contents) {
            Ok(database) => {
                file::discard(std::mem::replace(&mut self.database, database));
                self.broken = false;
                prune(&mut self.contents);
                Ok(())
            }
            Err(error) => {
                for change in undo.into_iter().rev() {
                    apply(&mut self.contents, change);
                }
                let kept = writes.iter().filter(|w| w.on_failure == OnFailure::Keep);
                for change in kept.flat_map(|write| &write.changes) {
                    apply(&mut self.contents, change.clone());
                }
                prune(&mut self.contents);
                Err(error)
            }
        }
    }
}

/// Carries out `change` and returns the one that takes it back.
fn apply(contents: &mut Contents, change: Change) -> Change {
    let entries = contents.entry(change.table).or_default();
    let before = match change.value {
        Some(value) => entries.insert(change.key.clone(), value),
        None => entries.remove(&change.key),
    };
    Change {
        table: change.table,
        key: change.key,
        value: before,
    }
}

/// Lets the oldest events leave, as the file does.
fn prune(contents: &mut Contents) {
    if let Some(events) = contents.get_mut(&Table::Events) {
        while events.len() > EVENTS_KEPT {
            events.pop_first();
        }
    }
}
