//! The one thread that writes the store's file.

use prometheus::IntCounter;
use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::audit::{self, IsOld, Reading};
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
pub(super) enum Request {
    /// Write, and say how it went.
    Write {
        changes: Vec<Change>,
        on_failure: OnFailure,
        done: oneshot::Sender<Result<(), Error>>,
    },
    /// The audit as it is now, to be read elsewhere.
    ReadAudit {
        done: oneshot::Sender<Result<Reading, Error>>,
    },
    /// Let go of the oldest entries of the audit, and say how many those were.
    PruneAudit {
        keep: usize,
        is_old: IsOld,
        done: oneshot::Sender<Result<usize, Error>>,
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
    /// `None`: it failed, and nothing of it can be trusted.
    database: Option<Database>,
    /// The state as it should be on the disk. It costs memory (the event log is most of it, some
    /// 10 MiB at worst), and in return a disk that failed is healed by writing a new file: after a
    /// failed write or sync nobody can say what of the old one is really there.
    contents: Contents,
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
            database: Some(database),
            contents,
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
                    Request::ReadAudit { done } => drop(done.send(self.read_audit())),
                    Request::PruneAudit { keep, is_old, done } => {
                        drop(done.send(self.prune_audit(keep, is_old)));
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
        let was_broken = self.database.is_none();
        if let Some(database) = &self.database {
            let changes = writes.iter().flat_map(|write| &write.changes);
            match file::commit(&self.location.path, database, changes.clone()) {
                Ok(()) => {
                    for change in changes {
                        apply(&mut self.contents, change.clone());
                    }
                    audit::forget(&mut self.contents);
                    prune(&mut self.contents);
                    return Ok(());
                }
                Err(error) => {
                    self.errors.inc();
                    tracing::warn!(%error, "the store's file failed; writing a new one");
                    if let Some(failed) = self.database.take() {
                        file::discard(failed);
                    }
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

    fn read_audit(&self) -> Result<Reading, Error> {
        let path = &self.location.path;
        let database = self.database.as_ref();
        let database = database.ok_or_else(|| Error::disk(path, "it failed"))?;
        Reading::begin(path, database, &self.contents)
    }

    fn prune_audit(&self, keep: usize, is_old: IsOld) -> Result<usize, Error> {
        match &self.database {
            Some(database) => audit::prune(&self.location.path, database, keep, is_old),
            None => Ok(0),
        }
    }

    /// Puts a new file with the whole state in the place of the one that failed.
    fn write_anew(&mut self, writes: &[Write]) -> Result<(), Error> {
        let mut undo = Vec::new();
        for change in writes.iter().flat_map(|write| &write.changes) {
            undo.push(apply(&mut self.contents, change.clone()));
        }
        match self.location.make(&self.contents) {
            Ok(database) => {
                self.database = Some(database);
                audit::forget(&mut self.contents);
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

/// Lets the oldest events leave, as the file does. Of the audit there is only what waits for a disk that
/// fails; more of it than of events need not.
fn prune(contents: &mut Contents) {
    for table in Table::AUDIT.into_iter().chain([Table::Events]) {
        if let Some(events) = contents.get_mut(&table) {
            while events.len() > EVENTS_KEPT {
                events.pop_first();
            }
        }
    }
}
