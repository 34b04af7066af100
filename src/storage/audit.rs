//! The audit: the one table that is too long to be kept in memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::file::{definition, guarded};
use super::{Error, Table, event_key};

/// Entries that one transaction copies or lets go of.
const BATCH: usize = 10_000;

/// Whether an entry need not be kept any longer.
pub type IsOld = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// The audit as of one moment.
pub(super) struct Reading {
    path: PathBuf,
    transaction: ReadTransaction,
    /// What has happened and is not on the disk yet.
    unsaved: BTreeMap<String, Vec<u8>>,
}

impl Reading {
    pub(super) fn begin(
        path: &Path,
        database: &Database,
        unsaved: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, Error> {
        let transaction = guarded(|| database.begin_read());
        let transaction = transaction.map_err(|panic| Error::disk(path, panic))?;
        Ok(Self {
            path: path.into(),
            transaction: transaction.map_err(|error| Error::disk(path, error))?,
            unsaved,
        })
    }

    /// See [`super::Store::audit_back`].
    pub(super) fn back(
        &self,
        before: Option<u64>,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let end = before.map(event_key);
        let is_before = |key: &str| end.as_deref().is_none_or(|end| key < end);
        let unsaved = self.unsaved.iter().rev().filter(|(key, _)| is_before(key));
        for (key, value) in unsaved {
            if visit(number(key), value).is_break() {
                return Ok(());
            }
        }
        let read = guarded(|| self.back_on_disk(end.as_deref(), visit));
        match read {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::disk(&self.path, error)),
            Err(panic) => Err(Error::disk(&self.path, panic)),
        }
    }

    fn back_on_disk(
        &self,
        end: Option<&str>,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), redb::Error> {
        let table = match self.transaction.open_table(definition(Table::Audit)) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let range = match end {
            Some(end) => table.range(..end)?,
            None => table.range::<&str>(..)?,
        };
        for entry in range.rev() {
            let (key, value) = entry?;
            if visit(number(key.value()), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The number that a key stands for.
fn number(key: &str) -> u64 {
    key.parse().unwrap_or_default()
}

/// Copies the audit of `old` to `new`, which may hold some of it already.
pub(super) fn copy(old: &Database, new: &Database) -> Result<(), redb::Error> {
    let from = old.begin_read()?;
    let from = match from.open_table(definition(Table::Audit)) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut entries = from.iter()?.peekable();
    while entries.peek().is_some() {
        let transaction = new.begin_write()?;
        {
            let mut to = transaction.open_table(definition(Table::Audit))?;
            for entry in entries.by_ref().take(BATCH) {
                let (key, value) = entry?;
                to.insert(key.value(), value.value())?;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

/// See [`super::Store::prune_audit`].
pub(super) fn prune(
    path: &Path,
    database: &Database,
    keep: usize,
    mut is_old: IsOld,
) -> Result<usize, Error> {
    let pruned = guarded(|| prune_on_disk(database, keep, &mut is_old));
    match pruned {
        Ok(Ok(count)) => Ok(count),
        Ok(Err(error)) => Err(Error::disk(path, error)),
        Err(panic) => Err(Error::disk(path, panic)),
    }
}

fn prune_on_disk(
    database: &Database,
    keep: usize,
    is_old: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<usize, redb::Error> {
    // Mostly there is nothing to do, which needs no write.
    let reading = database.begin_read()?;
    match reading.open_table(definition(Table::Audit)) {
        Ok(table) => {
            let too_many = table.len()? > keep as u64;
            let first = table.first()?;
            if !too_many && !first.is_some_and(|(_, value)| is_old(value.value())) {
                return Ok(0);
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    drop(reading);
    let transaction = database.begin_write()?;
    let mut count = 0;
    {
        let mut table = transaction.open_table(definition(Table::Audit))?;
        while count < BATCH {
            let too_many = table.len()? > keep as u64;
            let leaves = match table.first()? {
                Some((_, value)) => too_many || is_old(value.value()),
                None => false,
            };
            if !leaves {
                break;
            }
            drop(table.pop_first()?);
            count += 1;
        }
    }
    transaction.commit()?;
    Ok(count)
}
