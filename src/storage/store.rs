//! The handle on the store, and how it is opened.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::audit::{IsOld, Part, Reading};
use super::file::{Location, Opener, Unusable, disk};
use super::writer::{OnFailure, Request, Writer};
use super::{Change, Contents, Error, MAX_VALUE_BYTES, Table, schema, set_aside};
use crate::model::Timestamp;
use crate::telemetry::Telemetry;

/// Name of the file in the data directory.
const FILE: &str = "tidewatch.redb";
/// Requests that wait for the writer; a further caller waits for room. The writer takes all of them
/// into one transaction, so a longer queue would not make anything faster.
const QUEUE: usize = 256;

/// A handle on the durable state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What an earlier run left, and what went wrong on the way to it.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    contents: Contents,
    /// Sentences for the operator: what was damaged and where it is now.
    pub warnings: Vec<String>,
}

impl Recovered {
    /// Takes all of `table` out, by key.
    pub fn take(&mut self, table: Table) -> BTreeMap<String, Vec<u8>> {
        self.contents.remove(&table).unwrap_or_default()
    }

    /// All of `table`, by key.
    pub fn table(&self, table: Table) -> impl Iterator<Item = (&str, &[u8])> {
        self.contents
            .get(&table)
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

impl Store {
    /// Opens the store in `directory`, making both where they are missing, and reads all of it. A
    /// damaged file is set aside as `tidewatch.redb.damaged-SECONDS` (of `now`) and a new one made.
    ///
    /// Blocks: some milliseconds, after a crash longer by the time it takes to read the file.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Newer`], or [`Error::Disk`] when the directory cannot be used.
    pub fn open(
        directory: &Path,
        now: Timestamp,
        telemetry: &Telemetry,
    ) -> Result<(Self, Recovered), Error> {
        Self::open_with(directory, now, telemetry, disk())
    }

    pub(super) fn open_with(
        directory: &Path,
        now: Timestamp,
        telemetry: &Telemetry,
        open: Opener,
    ) -> Result<(Self, Recovered), Error> {
        let path = directory.join(FILE);
        let location = Location { path, open };
        let opened = Self::open_file(directory, &location, now);
        if !matches!(&opened, Ok((_, recovered)) if recovered.warnings.is_empty()) {
            telemetry.storage_errors.with_label_values(&["open"]).inc();
        }
        let (database, recovered) = opened?;
        let errors = telemetry.storage_errors.with_label_values(&["commit"]);
        let writer = Writer::new(location, database, recovered.contents.clone(), errors);
        let (requests, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("tidewatch-store".into())
            .spawn(move || writer.run(queue))
            .map_err(|e| Error::disk(directory, e))?;
        let store = Self {
            requests,
            thread: Arc::new(Mutex::new(Some(thread))),
        };
        Ok((store, recovered))
    }

    fn open_file(
        directory: &Path,
        location: &Location,
        now: Timestamp,
    ) -> Result<(Database, Recovered), Error> {
        std::fs::create_dir_all(directory).map_err(|e| {
            let reason = format!("the folder for state cannot be made: {e}");
            Error::disk(directory, reason)
        })?;
        let mut recovered = Recovered::default();
        let path = &location.path;
        let shown = path.display();
        let database = match std::fs::metadata(path).map(|m| m.len()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::disk(path, e)),
            // redb would take it for a new one without a word.
            Ok(0) => {
                let warning = format!("{shown} was empty: earlier alerts and modes are forgotten");
                recovered.warnings.push(warning);
                None
            }
            Ok(_) => match location.open_existing() {
                Ok(opened) => {
                    if opened.repaired {
                        let warning = format!(
                            "{shown} was damaged and could be repaired: the last changes to alerts and modes may be missing"
                        );
                        recovered.warnings.push(warning);
                    }
                    recovered.contents = opened.contents;
                    Some(opened.database)
                }
                Err(Unusable::Refused(error)) => return Err(error),
                Err(Unusable::Damaged(reason)) => {
                    let aside = set_aside(path, now).map_err(|e| Error::disk(path, e))?;
                    recovered.warnings.push(format!(
                        "{shown} is damaged ({reason}): it was set aside as {}, and earlier alerts and modes are forgotten",
                        aside.display()
                    ));
                    None
                }
            },
        };
        let version = schema::current().into_bytes();
        let meta = recovered.contents.entry(Table::Meta).or_default();
        meta.insert(schema::KEY.into(), version);
        let database = match database {
            Some(database) => database,
            None => location.make(&recovered.contents)?,
        };
        Ok((database, recovered))
    }

    /// Writes `changes`, all or none of them, together with others that wait. They are on the disk
    /// when this returns `Ok`. Dropping the future does not take them back.
    ///
    /// # Errors
    /// The changes are not part of the state: for something that has not happened unless it is
    /// durable, such as a command. (A disk that failed half-way may still show them should the daemon
    /// die before its next successful write.)
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.write(changes, OnFailure::Forget).await
    }

    /// Writes `changes` like [`Store::commit`], for what has happened in any case, such as an alert:
    /// if the disk fails now they stay part of the state, and the next write that succeeds, even an
    /// empty one, makes them durable.
    ///
    /// # Errors
    /// They are not durable yet.
    pub async fn record(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.write(changes, OnFailure::Keep).await
    }

    async fn write(&self, changes: Vec<Change>, on_failure: OnFailure) -> Result<(), Error> {
        for change in &changes {
            let bytes = change.value.as_ref().map_or(0, Vec::len);
            if bytes > MAX_VALUE_BYTES {
                return Err(Error::TooLarge {
                    table: change.table,
                    key: change.key.clone(),
                    bytes,
                });
            }
        }
        let (done, answer) = oneshot::channel();
        let request = Request::Write {
            changes,
            on_failure,
            done,
        };
        self.requests
            .send(request)
            .await
            .map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Reads this part of the audit from the newest entry before the one numbered `before` (`None`: from the
    /// newest) backwards, handing number and value to `visit` until that breaks or there is nothing more; returns
    /// what `visit` made of `state`. Reading does not hold up writing.
    ///
    /// # Errors
    /// The disk's, or the store is closed.
    pub async fn audit_back<T: Send + 'static>(
        &self,
        part: Part,
        before: Option<u64>,
        mut state: T,
        mut visit: impl FnMut(&mut T, u64, &[u8]) -> ControlFlow<()> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        let request = Request::ReadAudit { done };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| Error::Closed)?;
        let reading: Reading = answer.await.unwrap_or(Err(Error::Closed))?;
        let read = move || {
            let mut visit = |number, value: &[u8]| visit(&mut state, number, value);
            reading.back(part, before, &mut visit).map(|()| state)
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or(Err(Error::Closed))
    }

    /// Lets go of the oldest entries of the audit: while there are more than `keep` (of acknowledgements and
    /// of everything else, each), and while `is_old` is true of the oldest; some thousands of them at most.
    /// Returns how many those were; 0 means that nothing is left to do.
    ///
    /// # Errors
    /// The disk's, or the store is closed.
    pub async fn prune_audit(&self, keep: usize, is_old: IsOld) -> Result<usize, Error> {
        let (done, answer) = oneshot::channel();
        let request = Request::PruneAudit { keep, is_old, done };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Waits for what was asked before, closes the file and ends the writer. Later writes answer
    /// [`Error::Closed`]. A store that is dropped instead closes by itself, a moment later.
    pub async fn close(&self) {
        let (done, answer) = oneshot::channel();
        if self.requests.send(Request::Close { done }).await.is_ok() {
            // An error means that the writer is gone, which is what was asked for.
            drop(answer.await);
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // It has closed the file and has nothing left to do, so this does not block; its panics
            // are caught where they happen.
            drop(thread.join());
        }
    }
}
