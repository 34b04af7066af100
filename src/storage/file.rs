//! One redb file: opened with distrust, read whole, or made anew.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageError, TableDefinition,
};

use super::{
    AUDIT_KEPT, Change, Contents, EVENTS_KEPT, Error, Table, audit, schema, sync_directory,
};
use crate::model::Timestamp;

/// redb's page cache. The state is small and read once; the default of 1 GiB is for others.
const CACHE_BYTES: usize = 8 << 20;

/// How redb gets at the file; tests put failing disks here.
pub(super) type Opener = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send>;

/// The real disk.
pub(super) fn disk() -> Opener {
    Box::new(|path| Builder::new().set_cache_size(CACHE_BYTES).create(path))
}

/// Where the store is.
pub(super) struct Location {
    pub(super) path: PathBuf,
    pub(super) open: Opener,
}

/// An open file and what was in it.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) contents: Contents,
    /// Whether redb found damage and went back to an earlier commit.
    pub(super) repaired: bool,
}

/// Why an existing file cannot be used.
pub(super) enum Unusable {
    /// What is in it makes no sense.
    Damaged(String),
    /// It is not ours to touch, or the disk fails.
    Refused(Error),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Location {
    /// Opens an existing file, checks every page of it and reads all of it.
    pub(super) fn open_existing(&self) -> Result<Opened, Unusable> {
        // What the file system refuses (no permission, a directory) is not damage.
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(|e| Error::disk(&self.path, e))?;
        // redb answers most damage with an error, but was not made for hostile files: a panic is an
        // answer too. The database lives and dies inside, so nothing half-made is seen afterwards.
        guarded(|| self.open_and_read()).unwrap_or_else(|panic| Err(Unusable::Damaged(panic)))
    }

    fn open_and_read(&self) -> Result<Opened, Unusable> {
        let mut database = match (self.open)(&self.path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                let path = self.path.display().to_string();
                return Err(Error::Locked { path }.into());
            }
            Err(error) => return Err(Unusable::Damaged(error.to_string())),
        };
        let damaged = |error: &dyn std::fmt::Display| Unusable::Damaged(error.to_string());
        // A file that was closed cleanly is opened without a look at its checksums, so bytes that
        // changed since would be read as they are.
        let sound = database.check_integrity().map_err(|e| damaged(&e))?;
        let contents = read(&database).map_err(|e| damaged(&e))?;
        match contents
            .get(&Table::Meta)
            .and_then(|meta| meta.get(schema::KEY))
            .map(|stored| schema::judge(stored))
        {
            Some(schema::Compatibility::Readable) => Ok(Opened {
                database,
                contents,
                repaired: !sound,
            }),
            Some(schema::Compatibility::Newer { major }) => Err(Unusable::Refused(Error::Newer {
                path: self.path.display().to_string(),
                found: major,
                known: schema::MAJOR,
            })),
            Some(schema::Compatibility::Garbage) | None => Err(Unusable::Damaged(
                "it does not say which version wrote it".into(),
            )),
        }
    }

    /// Makes a new file that holds `contents` and the audit of the file that is there, and puts it in
    /// the place of that. Either the old file or the whole new one is found after a crash. A file whose
    /// audit cannot be read is set aside.
    pub(super) fn make(&self, contents: &Contents) -> Result<Database, Error> {
        let error = |reason: &dyn std::fmt::Display| Error::disk(&self.path, reason);
        let new = self.path.with_extension("redb.new");
        match std::fs::remove_file(&new) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(error(&e)),
        }
        let made = guarded(|| {
            let database = (self.open)(&new).map_err(|e| error(&e))?;
            let changes = contents.iter().flat_map(|(&table, entries)| {
                entries
                    .iter()
                    .map(move |(key, value)| (table, key.as_str(), Some(value.as_slice())))
            });
            transact(&database, changes).map_err(|e| error(&e))?;
            Ok(database)
        });
        let database = made
            .unwrap_or_else(|panic| Err(error(&panic)))
            .inspect_err(|_| {
                // A full disk needs the room; what cannot be removed now is removed next time.
                drop(std::fs::remove_file(&new));
            })?;
        self.carry_audit(&database).inspect_err(|_| {
            drop(std::fs::remove_file(&new));
        })?;
        std::fs::rename(&new, &self.path).map_err(|e| error(&e))?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        sync_directory(directory).map_err(|e| error(&e))?;
        Ok(database)
    }
}

impl Location {
    /// Copies the audit of the file that is there into `new`.
    fn carry_audit(&self, new: &Database) -> Result<(), Error> {
        if std::fs::metadata(&self.path).map_or(0, |file| file.len()) == 0 {
            return Ok(());
        }
        let copied = guarded(|| {
            let old = (self.open)(&self.path)?;
            audit::copy(&old, new)
        });
        let reason = match copied {
            Ok(Ok(())) => return Ok(()),
            // Somebody reads it at this moment; the next write tries again.
            Ok(Err(redb::Error::DatabaseAlreadyOpen)) => {
                return Err(Error::disk(&self.path, "its audit is being read"));
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        let now = modified(&self.path);
        let aside = super::set_aside(&self.path, now).map_err(|e| Error::disk(&self.path, e))?;
        tracing::warn!(
            aside = %aside.display(),
            "the audit of the file that failed cannot be read ({reason}); the file was set aside"
        );
        Ok(())
    }
}

/// When the file was written last; no time at all where that is not known.
fn modified(path: &Path) -> Timestamp {
    let modified = std::fs::metadata(path).and_then(|file| file.modified());
    let since = modified
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let seconds = since.map_or(0, |since| since.as_secs());
    Timestamp::from_secs(i64::try_from(seconds).unwrap_or_default())
}

/// Writes `changes` in one durable transaction.
pub(super) fn commit<'c>(
    path: &Path,
    database: &Database,
    changes: impl Iterator<Item = &'c Change>,
) -> Result<(), Error> {
    let changes = changes.map(|c| (c.table, c.key.as_str(), c.value.as_deref()));
    guarded(|| transact(database, changes))
        .unwrap_or_else(|panic| Err(StorageError::Corrupted(panic).into()))
        .map_err(|e| Error::disk(path, e))
}

/// Drops a database that failed, whatever it says to that.
pub(super) fn discard(database: Database) {
    drop(guarded(|| drop(database)));
}

/// Runs `work`; a panic in it becomes its message.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    thread_local! {
        static GUARDED: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    // The operator gets one sentence about the file, and no backtrace that looks like a crash.
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                previous(panic);
            }
        }));
    });
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    outcome.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        format!("redb panicked: {}", text.unwrap_or("no message"))
    })
}

pub(super) fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

fn read(database: &Database) -> Result<Contents, redb::Error> {
    let transaction = database.begin_read()?;
    let mut contents = Contents::new();
    for table in Table::ALL
        .into_iter()
        .filter(|table| !Table::AUDIT.contains(table))
    {
        let opened = match transaction.open_table(definition(table)) {
            Ok(opened) => opened,
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let entries = contents.entry(table).or_default();
        for entry in opened.iter()? {
            let (key, value) = entry?;
            entries.insert(key.value().to_owned(), value.value().to_vec());
        }
    }
    Ok(contents)
}

fn transact<'c>(
    database: &Database,
    changes: impl Iterator<Item = (Table, &'c str, Option<&'c [u8]>)>,
) -> Result<(), redb::Error> {
    // Immediate durability (synced before `commit` returns) is redb's default.
    let transaction = database.begin_write()?;
    {
        let mut open = std::collections::BTreeMap::new();
        for (table, key, value) in changes {
            let opened = match open.entry(table) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(transaction.open_table(definition(table))?)
                }
            };
            match value {
                Some(value) => drop(opened.insert(key, value)?),
                None => drop(opened.remove(key)?),
            }
        }
        let audit = Table::AUDIT.map(|table| (table, AUDIT_KEPT));
        for (table, kept) in audit.into_iter().chain([(Table::Events, EVENTS_KEPT)]) {
            if let Some(opened) = open.get_mut(&table) {
                while opened.len()? > kept as u64 {
                    opened.pop_first()?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
