//! The audit: what is too long to be kept in memory. Two tables, each with a bound of its own: what is decided,
//! and what services acknowledge, which anybody can make grow. They are read as one, by number.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableError,
};

use super::file::{definition, guarded};
use super::{Contents, Error, Table, event_key};

/// Entries that one transaction copies or lets go of.
const BATCH: usize = 10_000;

/// Whether an entry need not be kept any longer.
pub type IsOld = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// What of the audit is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    All,
    /// All but acknowledgements; those that an earlier version wrote are still among it.
    WithoutAcknowledgements,
}

impl Part {
    fn tables(self) -> &'static [Table] {
        match self {
            Self::All => &Table::AUDIT,
            Self::WithoutAcknowledgements => &[Table::Audit],
        }
    }
}

/// Drops what of the audit is in memory: it is on the disk.
pub(super) fn forget(contents: &mut Contents) {
    contents.retain(|table, _| !Table::AUDIT.contains(table));
}

/// The audit as of one moment.
pub(super) struct Reading {
    path: PathBuf,
    transaction: ReadTransaction,
    /// What has happened and is not on the disk yet.
    unsaved: Contents,
}

impl Reading {
    pub(super) fn begin(
        path: &Path,
        database: &Database,
        contents: &Contents,
    ) -> Result<Self, Error> {
        let unsaved = Table::AUDIT
            .into_iter()
            .filter_map(|table| Some((table, contents.get(&table)?.clone())));
        let transaction = guarded(|| database.begin_read());
        let transaction = transaction.map_err(|panic| Error::disk(path, panic))?;
        Ok(Self {
            path: path.into(),
            transaction: transaction.map_err(|error| Error::disk(path, error))?,
            unsaved: unsaved.collect(),
        })
    }

    /// See [`super::Store::audit_back`].
    pub(super) fn back(
        &self,
        part: Part,
        before: Option<u64>,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let end = before.map(event_key);
        let is_before = |key: &str| end.as_deref().is_none_or(|end| key < end);
        let tables = part.tables().iter();
        let unsaved: BTreeMap<&String, &Vec<u8>> = tables
            .filter_map(|table| self.unsaved.get(table))
            .flatten()
            .collect();
        let unsaved = unsaved.iter().rev().filter(|(key, _)| is_before(key));
        for (key, value) in unsaved {
            if visit(number(key), value).is_break() {
                return Ok(());
            }
        }
        let read = guarded(|| self.back_on_disk(part, end.as_deref(), visit));
        match read {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::disk(&self.path, error)),
            Err(panic) => Err(Error::disk(&self.path, panic)),
        }
    }

    fn back_on_disk(
        &self,
        part: Part,
        end: Option<&str>,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), redb::Error> {
        let mut ranges = Vec::new();
        for table in part.tables() {
            let table = match self.transaction.open_table(definition(*table)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let range = match end {
                Some(end) => table.range(..end)?,
                None => table.range::<&str>(..)?,
            };
            ranges.push(range.rev().peekable());
        }
        while let Some(range) = newest(&mut ranges) {
            let Some(entry) = range.next() else { break };
            let (key, value) = entry?;
            if visit(number(key.value()), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

type Entry = (
    redb::AccessGuard<'static, &'static str>,
    redb::AccessGuard<'static, &'static [u8]>,
);

/// That of the `ranges` whose next entry has the highest number; one that cannot be read goes first.
fn newest<I: Iterator<Item = Result<Entry, redb::StorageError>>>(
    ranges: &mut [Peekable<I>],
) -> Option<&mut Peekable<I>> {
    let next = |range: &mut Peekable<I>| match range.peek() {
        None => None,
        Some(Ok((key, _))) => Some(number(key.value())),
        Some(Err(_)) => Some(u64::MAX),
    };
    let ranges = ranges.iter_mut().filter_map(|range| {
        let next = next(range)?;
        Some((next, range))
    });
    ranges
        .max_by_key(|(number, _)| *number)
        .map(|(_, range)| range)
}

/// The number that a key stands for.
fn number(key: &str) -> u64 {
    key.parse().unwrap_or_default()
}

/// Copies the audit of `old` to `new`, which may hold some of it already.
pub(super) fn copy(old: &Database, new: &Database) -> Result<(), redb::Error> {
    let reading = old.begin_read()?;
    for table in Table::AUDIT {
        let from = match reading.open_table(definition(table)) {
            Ok(from) => from,
            Err(TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut entries = from.iter()?.peekable();
        while entries.peek().is_some() {
            let transaction = new.begin_write()?;
            {
                let mut to = transaction.open_table(definition(table))?;
                for entry in entries.by_ref().take(BATCH) {
                    let (key, value) = entry?;
                    to.insert(key.value(), value.value())?;
                }
            }
            transaction.commit()?;
        }
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
    let pruned = guarded(|| {
        let mut count = 0;
        for table in Table::AUDIT {
            count += prune_on_disk(database, table, keep, &mut is_old)?;
        }
        Ok::<_, redb::Error>(count)
    });
    match pruned {
        Ok(Ok(count)) => Ok(count),
        Ok(Err(error)) => Err(Error::disk(path, error)),
        Err(panic) => Err(Error::disk(path, panic)),
    }
}

fn prune_on_disk(
    database: &Database,
    table: Table,
    keep: usize,
    is_old: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<usize, redb::Error> {
    // Mostly there is nothing to do, which needs no write.
    let reading = database.begin_read()?;
    match reading.open_table(definition(table)) {
        Ok(table) => {
            let too_many = table.len()? > keep as u64;
            let first = table.first()?;
            if !too_many && !first.is_some_and(|(_, value)| is_old(value.value())) {
                return Ok(0);
            }
        }
        Err(TableError::TableDoesNotExist(_)) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    drop(reading);
    let transaction = database.begin_write()?;
    let mut count = 0;
    {
        let mut table = transaction.open_table(definition(table))?;
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
